"""Choosing among regions by words: a scorer looks at crops of them."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.errors import InputError
from samlet.image import Image
from samlet.regions.coverage import NOTHING, Regions

MIN_TEXT_AREA = 100
"""Regions of this many pixels or fewer are too small to be recognised and take no part in `by_text`."""

WIDER_SHARE = 0.9
"""With `wider`, a larger region takes the place of the best one if it holds more than this share of it."""

Crop = Literal["masked", "box", "whole"]

_CROPS_AT_A_TIME = 16


class Scorer(Protocol):
    """Says how well a phrase fits pictures, such as CLIP behind an adapter."""

    def __call__(self, crops: list[NDArray[np.uint8]], text: str) -> ArrayLike:
        """Score crops, each on its own.

        Args:
            crops: Pictures (h, w, 3) RGB of any size.
            text: The phrase.

        Returns:
            One number for each crop, higher is better; they are compared between calls, so they must not be
            normalised over the crops of one call.
        """


class TextPick(NamedTuple):
    """Which region fits a phrase.

    Attributes:
        chosen: Number of the region, `NOTHING` if none took part.
        scores: (N,) the scorer's numbers, -inf for regions that took no part.
    """

    chosen: int
    scores: NDArray[np.float64]


def by_text(
    regions: Regions,
    image: Image,
    text: str,
    scorer: Scorer,
    *,
    crop: Crop = "masked",
    wider: bool = False,
) -> TextPick:
    """Choose the region that a phrase describes best.

    Args:
        regions: What there is to choose from; those of `MIN_TEXT_AREA` pixels or fewer take no part.
        image: The picture of the regions.
        text: The phrase.
        scorer: Says how well the phrase fits a crop.
        crop: What the scorer sees of a region, see `crops`.
        wider: Whether to take, instead of the best region, the largest one that holds more than `WIDER_SHARE` of
            it: the dog instead of its head.

    Returns:
        The region and all scores.

    Raises:
        InputError: The picture has another size, `crop` is none of the three, or the scorer gave another number
            of scores or one that is not a number.
    """
    kept = np.flatnonzero(regions.areas > MIN_TEXT_AREA)
    scores = np.full(len(regions), -np.inf)
    views = crops(regions, image, kept, crop=crop)
    for start in range(0, len(kept), _CROPS_AT_A_TIME):
        part = kept[start : start + _CROPS_AT_A_TIME]
        seen = [next(views) for _ in part]
        given = np.asarray(scorer(seen, text), np.float64)
        if given.shape != (len(seen),) or np.isnan(given).any():
            raise InputError(
                f"expected {len(seen)} scores from the scorer, got {given.shape} or NaN; give one number a crop"
            )
        scores[part] = given
    if not len(kept):
        return TextPick(NOTHING, scores)
    # The index is looked up in the list of those kept: it never has to be mended for those left out.
    best = int(kept[np.argmax(scores[kept])])
    if wider:
        holds = kept[regions.shared_with(best)[kept] > WIDER_SHARE * regions.areas[best]]
        best = int(holds[np.argmax(regions.areas[holds])])
    return TextPick(best, scores)


def crops(
    regions: Regions, image: Image, chosen: ArrayLike, *, crop: Crop = "masked"
) -> Iterator[NDArray[np.uint8]]:
    """Cut out what a scorer is to look at.

    Args:
        regions: The regions.
        image: The picture of the regions.
        chosen: Numbers of regions, none of them empty.
        crop: "masked": the region alone on white, cut to its box and made square by white borders, so that a
            square cut from the middle loses nothing. "box": the same with all pixels of the box. "whole": the
            whole picture with everything outside the box white, which is FastSAM's way.

    Returns:
        Pictures (h, w, 3), one after the other.

    Raises:
        InputError: The picture has another size, or `crop` is none of the three.
    """
    if image.hw != regions.image_hw:
        raise InputError(
            f"expected the picture of the regions, {regions.image_hw[0]} x {regions.image_hw[1]}, got one of "
            f"{image.height} x {image.width}; pass the picture they were found in"
        )
    if crop not in ("masked", "box", "whole"):
        raise InputError(f"expected crop 'masked', 'box' or 'whole', got {crop!r:.80}; choose one of them")
    return (_crop(regions, image, int(index), crop) for index in np.asarray(chosen, np.int64).ravel())


def _crop(regions: Regions, image: Image, index: int, crop: Crop) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = regions.boxes_xyxy[index]
    window = (slice(y0, y1), slice(x0, x1))
    if crop == "whole":
        seen = np.full_like(image.pixels, 255)
        seen[window] = image.pixels[window]
        return seen
    side = max(x1 - x0, y1 - y0)
    seen = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - (y1 - y0)) // 2, (side - (x1 - x0)) // 2
    inside = regions.mask(index)[window] if crop == "masked" else np.ones((y1 - y0, x1 - x0), np.bool_)
    seen[top : top + y1 - y0, left : left + x1 - x0][inside] = image.pixels[window][inside]
    return seen
