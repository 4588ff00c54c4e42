"""How tiles cover a picture, and which of them are neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError

RIGHT, BOTTOM = 2, 3  # numbers of a tile's sides, as in its box; the opposite side is two less


class Seam(NamedTuple):
    """Two tiles that share a strip of the picture, the left or upper one first.

    `side` is where the first tile ends, `RIGHT` or `BOTTOM`; the second begins on the opposite side.
    """

    first: int
    second: int
    side: int
    strip: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Tiles in reading order.

    Attributes:
        boxes: (T, 4) int64 x0, y0, x1, y1 in picture pixels, ends exclusive; all of one size.
        rows: Number of rows of tiles.
        columns: Number of columns of tiles.
        image_hw: Size of the picture.
    """

    boxes: NDArray[np.int64]
    rows: int
    columns: int
    image_hw: tuple[int, int]

    @classmethod
    def of(cls, image_hw: tuple[int, int], side: int, overlap: int) -> "Layout":
        """Lay the tiles out; see `tiles`."""
        height, width = (int(length) for length in image_hw)
        if min(height, width) < 1 or not 1 <= overlap <= side // 2:
            raise InputError(
                "expected a picture with pixels and an overlap from 1 to half the tile's side, got "
                f"{height} x {width} pixels, overlap {overlap} and side {side}; 128 of 1024 is the default"
            )
        x, y = _starts(width, side, overlap), _starts(height, side, overlap)
        left, top = np.tile(x, len(y)), np.repeat(y, len(x))
        ends = (np.minimum(left + side, width), np.minimum(top + side, height))
        return cls(np.stack((left, top, *ends), axis=1), len(y), len(x), (height, width))

    def seams(self) -> Iterator[Seam]:
        """Go through the pairs of tiles beside and below each other."""
        for number in range(len(self.boxes)):
            row, column = divmod(number, self.columns)
            if column + 1 < self.columns:
                yield self._seam(number, number + 1, RIGHT)
            if row + 1 < self.rows:
                yield self._seam(number, number + self.columns, BOTTOM)

    def inner_sides(self, tile: int) -> NDArray[np.bool_]:
        """Tell on which sides (left, top, right, bottom) a tile ends inside the picture, (4,)."""
        height, width = self.image_hw
        return np.asarray(self.boxes[tile] != (0, 0, width, height))

    def _seam(self, first: int, second: int, side: int) -> Seam:
        a, b = self.boxes[first], self.boxes[second]
        strip = np.concatenate((np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])))
        return Seam(first, second, side, strip)


def tiles(image_hw: tuple[int, int], side: int = 1024, overlap: int = 128) -> NDArray[np.int64]:
    """Cover a picture with square tiles of one size that overlap.

    As few tiles as the overlap allows, spread evenly: neighbours share at least `overlap` pixels, usually more. A
    side of the picture that is shorter than a tile has one tile of its length.

    Args:
        image_hw: Size of the picture.
        side: Side of a tile in pixels.
        overlap: Least number of pixels that neighbours share, 1 to half the side. Whatever is smaller is whole
            in some tile.

    Returns:
        (T, 4) int64 x0, y0, x1, y1 in picture pixels with exclusive ends, in reading order.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> tiles((4, 10), side=4, overlap=1).tolist()
        [[0, 0, 4, 4], [3, 0, 7, 4], [6, 0, 10, 4]]
    """
    return Layout.of(image_hw, side, overlap).boxes


def _starts(length: int, side: int, overlap: int) -> NDArray[np.int64]:
    if length <= side:
        return np.zeros(1, np.int64)
    count = -(-(length - overlap) // (side - overlap))
    # Rounding down keeps every step at side - overlap or less: the exact steps are, and their ends are whole.
    return (np.arange(count) * (length - side)) // (count - 1)
