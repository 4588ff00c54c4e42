"""A ragged mask, whose run lengths would take more room than its pixels: a bit each."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet.everything.enlarge import Window


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """The part of a picture-sized mask beyond which it is empty.

    Attributes:
        packed: uint8, eight pixels each, row by row.
        hw: Size of the part.
        top: Its first row in the picture.
        left: Its first column.
    """

    packed: NDArray[np.uint8]
    hw: tuple[int, int]
    top: int
    left: int

    @classmethod
    def of(cls, window: Window) -> Self:
        """Pack a window; its counts for the stability score are not kept."""
        rows, columns = window.inside.shape
        return cls(np.packbits(window.inside), (rows, columns), window.top, window.left)

    def window(self) -> Window:
        """Unpack.

        Example:
            >>> Bits.of(Window(np.eye(2, dtype=bool), 4, 5)).window().inside.tolist()
            [[True, False], [False, True]]
        """
        rows, columns = self.hw
        flat = np.unpackbits(self.packed, count=rows * columns).view(np.bool_)
        return Window(flat.reshape(rows, columns), self.top, self.left)


def smaller(window: Window, runs: NDArray[np.integer[Any]]) -> Bits | NDArray[np.integer[Any]]:
    """Keep what takes less room: the run lengths of a mask, or its pixels.

    Args:
        window: The mask.
        runs: Its run lengths.
    """
    return runs if 8 * runs.nbytes <= window.inside.size else Bits.of(window)
