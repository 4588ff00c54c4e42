"""The way through a large picture: tile by tile, then once over the whole, then put together."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.geometry import resize_bilinear
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.rle import Rle
from samlet.runs import Runs, union
from samlet.tiling.layout import Layout
from samlet.tiling.pieces import WHOLE, Pieces, chained
from samlet.tiling.seams import RIM, joined, suppressed, without_glimpses
from samlet.uses.plain import stored

Find = Callable[[Image], Masks]
"""Finds everything in one picture of moderate size."""

_STRIP_PIXELS = 2**20  # enlarged at a time


def everything_tiled(  # noqa: PLR0913  settings, each with its own keyword
    find: Find,
    image: Image,
    *,
    side: int = 1024,
    overlap: int = 128,
    whole: bool = True,
    iou: float = 0.7,
    progress: Callable[[int, int], None] | None = None,
) -> StoredMasks:
    """Find everything in a picture that is too large for one look.

    The picture is looked at tile by tile, and once as a whole, scaled down, for what is larger than a tile. Masks
    that a tile's border cut are joined with their partners in the neighbouring tile, doubles are dropped, and no
    mask is ever painted at the picture's size.

    Args:
        find: Gives the masks of one picture; it is called for every tile.
        image: The picture.
        side: Side of a tile in pixels.
        overlap: Least number of pixels that tiles share, 1 to half the side; what is smaller is never cut.
        whole: Whether to look at the whole picture too, scaled to `side`. Only its masks longer than `overlap`
            count, smaller things are seen better in the tiles.
        iou: Masks that overlap a better one by more are dropped, 0 to 1.
        progress: Told the looks done and the looks in all.

    Returns:
        The masks, best score first, with the facts "cut" (N,) bool, whether a mask still ends at a seam because
        the neighbouring tile has no partner for it; "pieces" (N,) int64, of how many tiles' masks it is made, 0 if
        it is from the look at the whole picture; and what `find` gave as one number a mask, such as
        "stability_score", averaged by area where masks were joined.

    Raises:
        InputError: A number is out of range, or `find` gave masks of another size than its picture.

    Example:
        >>> def bright(picture):
        ...     return StoredMasks.of([Runs.of_mask(picture.pixels[..., 0] > 0).rle()], [0.9], picture.hw)
        >>> bar = np.zeros((8, 20, 3), np.uint8)
        >>> bar[2:5, 3:18] = 255
        >>> found = everything_tiled(bright, Image.load(bar), side=8, overlap=4, whole=False)
        >>> found.boxes_xyxy.tolist(), found.facts["pieces"].tolist()
        ([[3, 2, 18, 5]], [4])
    """
    layout = Layout.of(image.hw, side, overlap)
    if not 0 <= iou <= 1:
        raise InputError(f"expected an iou from 0 to 1, got {iou}; 0.7 is the default")
    whole = whole and len(layout.boxes) > 1
    looks = len(layout.boxes) + whole
    found: list[Pieces] = []
    for tile in range(len(layout.boxes)):
        found.append(_look(find, image, layout, tile))
        if progress is not None:
            progress(tile + 1, looks)
    pieces = joined(chained(found), layout)
    if whole:
        pieces = chained([pieces, _look_over_all(find, image, side, overlap)])
        if progress is not None:
            progress(looks, looks)
    pieces = without_glimpses(suppressed(pieces, iou))
    pieces = pieces.take(np.argsort(-pieces.scores, kind="stable"))
    return StoredMasks.of(
        [runs.rle() for runs in pieces.runs],
        pieces.scores,
        image.hw,
        image=image,
        facts={
            **pieces.facts,
            "cut": pieces.is_cut,
            "pieces": np.where(pieces.tile == WHOLE, 0, pieces.count),
        },
    )


def _look(find: Find, image: Image, layout: Layout, tile: int) -> Pieces:
    """Find what is in one tile, and put it into its place in the picture."""
    x0, y0, x1, y1 = (int(edge) for edge in layout.boxes[tile])
    found = _checked(find(Image(image.pixels[y0:y1, x0:x1], image.source)), (y1 - y0, x1 - x0))
    runs = [Runs.of(rle).moved(x0, y0, image.hw) for rle in found.rles]
    pieces = Pieces.of(runs, found.scores, tile=tile, view=layout.boxes[tile], facts=_numbers(found))
    near = np.abs(pieces.boxes - layout.boxes[tile]) <= RIM
    pieces.cut[:] = near & layout.inner_sides(tile)
    return pieces.take(pieces.areas > 0)


def _look_over_all(find: Find, image: Image, side: int, longer_than: int) -> Pieces:
    """Find what is in the whole picture at the size of a tile, and enlarge what is longer than the overlap."""
    scale = side / max(image.hw)
    small_hw = (max(1, round(image.height * scale)), max(1, round(image.width * scale)))
    found = _checked(find(Image(image.resized(small_hw), image.source)), small_hw)
    boxes = np.array([Runs.of(rle).box for rle in found.rles], np.int64).reshape(-1, 4)
    long = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) > longer_than * scale
    chosen = found[long]
    runs = [_enlarged(rle, image.hw) for rle in chosen.rles]
    everywhere = np.array((0, 0, image.width, image.height))
    pieces = Pieces.of(runs, chosen.scores, tile=WHOLE, view=everywhere, facts=_numbers(chosen))
    return pieces.take(pieces.areas > 0)


def _enlarged(rle: Rle, image_hw: tuple[int, int]) -> Runs:
    """Enlarge a mask smoothly, some columns of its box at a time."""
    small = Runs.of(rle)
    (h, w), (height, width) = small.image_hw, image_hw
    x0, y0, x1, y1 = small.box
    if x1 <= x0:
        return Runs(small.start, small.stop, image_hw)
    # Blurred, so that the steps of the small mask do not become steps of many pixels.
    soft = np.zeros((h, w), np.float32)
    part, box = small.soft(2)
    soft[box[1] : box[3], box[0] : box[2]] = part
    # Bilinear taps reach half a cell beyond the box, and the softening moved the outline by less than one.
    top, bottom = max(0, (y0 - 1) * height // h), min(height, -(-(y1 + 1) * height // h))
    left, right = max(0, (x0 - 1) * width // w), min(width, -(-(x1 + 1) * width // w))
    parts: list[Runs] = []
    for start, stop in _strips(left, right, _STRIP_PIXELS // (bottom - top)):
        window = (slice(top, bottom), slice(start, stop))
        inside = resize_bilinear(soft[None], image_hw, window=window)[0] > 0.5
        parts.append(Runs.of_mask(inside).moved(start, top, image_hw))
    return union(parts)


def _strips(left: int, right: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, width)
    for start in range(left, right, step):
        yield start, min(start + step, right)


def _checked(found: Masks, image_hw: tuple[int, int]) -> StoredMasks:
    if not isinstance(found, Masks) or tuple(found.frame.image_hw) != image_hw:
        raise InputError(
            f"expected find to give masks of its picture, {image_hw[0]} x {image_hw[1]} pixels, got {found!r:.80}; "
            "pass a function such as model.everything"
        )
    return stored(found)


def _numbers(found: StoredMasks) -> dict[str, NDArray[np.float64]]:
    """Take the facts that are one number a mask and no place in the picture."""
    return {
        name: np.asarray(values, np.float64)
        for name, values in found.facts.items()
        if np.ndim(values) == 1 and np.asarray(values).dtype.kind == "f"
    }
