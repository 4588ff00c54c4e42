"""What regions look like: how large they are, where they lie, and their colours beside those around them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.image import Image
from samlet.masks import Masks
from samlet.runs import Runs
from samlet.uses.plain import runs_of

_SAMPLES = 64  # a side: so many points of a region's surroundings are looked at, however large it is
_MARGIN = 0.25  # of a box's side: how far its surroundings reach
_LINEAR = np.array(
    [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255], np.float32
)
# IEC 61966-2-1 (sRGB to XYZ), divided by the white point D65.
_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32
) / np.array([[0.9505], [1.0], [1.089]], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """N regions of one picture.

    Attributes:
        share: (N,) part of the picture, 0 to 1.
        center: (N, 2) centre of mass x, y, -1 to 1 from border to border; 0 is the middle.
        frame: (N,) part of the picture's border that the region covers, 0 to 1.
        color: (N, 3) mean colour in CIE L*a*b*.
        contrast: (N,) distance of that colour from the mean around the region; 2 is just visible, 100 black on white.
    """

    share: NDArray[np.float64]
    center: NDArray[np.float64]
    frame: NDArray[np.float64]
    color: NDArray[np.float64]
    contrast: NDArray[np.float64]


def looks(masks: Masks, image: Image | None = None) -> Looks:
    """Look at regions; colours come from a sample of at most 64 x 64 points in and around each.

    Args:
        masks: One mask a prompt.
        image: The picture; not needed for masks that came with it.

    Raises:
        InputError: There is no picture, it has another size, or the prompts still have several candidates.
    """
    picture = picture_of(masks, image)
    runs = runs_of(masks)
    hw = picture.hw
    colors = np.array([_colors(one, picture) for one in runs], np.float64).reshape(-1, 6)
    centers = np.array([one.centroid for one in runs], np.float64).reshape(-1, 2)
    return Looks(
        share=np.array([one.area for one in runs], np.float64) / (hw[0] * hw[1]),
        center=np.nan_to_num(2 * centers / (hw[1], hw[0]) - 1),
        frame=np.array([_frame(one) for one in runs], np.float64),
        color=colors[:, :3],
        contrast=np.sqrt(((colors[:, :3] - colors[:, 3:]) ** 2).sum(axis=1)),
    )


def picture_of(masks: Masks, image: Image | None) -> Image:
    """Give the picture of masks, or refuse.

    Raises:
        InputError: There is none, or it has another size.
    """
    picture = masks.image if image is None else image
    if picture is None:
        raise InputError("expected the picture of the masks, got none with them; pass image=...")
    if picture.hw != tuple(masks.frame.image_hw):
        raise InputError(
            f"expected the picture of the masks, {masks.frame.image_hw[0]} x {masks.frame.image_hw[1]}, got one of "
            f"{picture.height} x {picture.width}; pass the picture they were made for"
        )
    return picture


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert colours from sRGB to CIE L*a*b* (D65), in which equal distances look about equal.

    Args:
        rgb: (..., 3) uint8.

    Returns:
        (..., 3): L* 0 to 100, a* and b* about -100 to 100.

    Example:
        >>> to_lab(np.array([[255, 255, 255], [255, 0, 0]], np.uint8)).round().astype(int).tolist()
        [[100, 0, 0], [53, 80, 67]]
    """
    xyz = _LINEAR[rgb] @ _TO_XYZ.T
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (841 / 108) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=-1).astype(np.float32)


def _colors(runs: Runs, picture: Image) -> list[float]:
    """Mean colour of a region and of its surroundings; where there is nothing of one, it is the other's."""
    if not len(runs):
        return [0.0] * 6
    (height, width), (x0, y0, x1, y1) = runs.image_hw, runs.box
    x, y = _sampled(x0, x1, width), _sampled(y0, y1, height)
    inside = runs.at((x[:, None] * height + y[None]).ravel())  # column by column, as runs are
    colors = to_lab(picture.pixels[y[None], x[:, None]].reshape(-1, 3))
    if inside.all() or not inside.any():  # nothing around it, or too fine for the sample
        mean = colors.mean(axis=0).tolist()
        return [*mean, *mean]
    return [*colors[inside].mean(axis=0).tolist(), *colors[~inside].mean(axis=0).tolist()]


def _sampled(start: int, stop: int, length: int) -> NDArray[np.int64]:
    """Choose rows or columns of a region's box and its surroundings."""
    margin = max(4, round(_MARGIN * (stop - start)))
    low, high = max(0, start - margin), min(length, stop + margin)
    count = min(_SAMPLES, high - low)
    return low + ((np.arange(count) + 0.5) * ((high - low) / count)).astype(np.int64)


def _frame(runs: Runs) -> float:
    height, width = runs.image_hw
    sides = (
        (0, 0, 1, height),
        (width - 1, 0, width, height),
        (0, 0, width, 1),
        (0, height - 1, width, height),
    )
    return sum(runs.cut(side).area for side in sides) / (2 * (height + width))
