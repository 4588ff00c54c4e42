"""Logits in a quarter of their space: int8, so fine where a mask has its outline that the outline stays.

A bilinear mask has its outline inside those squares of four neighbouring logits that do not all lie on one side of
the threshold. Logits that belong to no such square only need to stay on their side: all are clipped to the largest
distance from the threshold that occurs in one, and beyond the box of the mask and one cell around it nothing is stored.
Of what remains the square root is kept, because rounding must be finest near the threshold. A logit never changes
sides.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STEPS = 127


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """One map of logits, packed.

    Attributes:
        codes: (a, b) int8, the part of the map that holds the mask; above 0 where the logit is above the threshold.
        corner: Row and column of the map where that part begins.
        grid_hw: Size (h, w) of the map.
        reach: Distance from the threshold that the code 127 stands for, in logits.
        threshold: Where the mask begins, in logits.
    """

    codes: NDArray[np.int8]
    corner: tuple[int, int]
    grid_hw: tuple[int, int]
    reach: float
    threshold: float

    def logits(self) -> NDArray[np.float32]:
        """Unpack: (h, w), clipped and rounded as the module describes."""
        root = self.codes.astype(np.float32) * np.float32(self.reach**0.5 / _STEPS)
        whole = np.full(self.grid_hw, self.threshold - self.reach, np.float32)
        (top, left), (height, width) = self.corner, self.codes.shape
        whole[top : top + height, left : left + width] = root * np.abs(root) + np.float32(self.threshold)
        return whole


def pack(logits: NDArray[np.float32], threshold: float) -> list[Packed]:
    """Pack maps of logits.

    Args:
        logits: (N, h, w).
        threshold: Logits above it are inside.

    Returns:
        One for each map.

    Example:
        >>> one = pack(np.array([[[-9.0, -9.0, -1.0, 4.0]]], np.float32), 0.0)[0]
        >>> one.codes.tolist(), one.logits().tolist()[0][::3]
        ([[-64, 127]], [-4.0, 4.0])
    """
    return [_packed(one, threshold) for one in logits]


def _packed(logits: NDArray[np.float32], threshold: float) -> Packed:
    inside = logits > np.float32(threshold)
    rows, columns = _stretch(inside, axis=1), _stretch(inside, axis=0)
    inside = inside[rows, columns]
    distance = np.abs(logits[rows, columns] - np.float32(threshold))
    # With no outline at all the side is all there is to know.
    reach = float(distance[_at_outline(inside)].max(initial=0.0)) or 1.0
    root = np.sqrt(np.minimum(distance / np.float32(reach), 1.0)) * _STEPS
    codes = np.rint(root).astype(np.int8)
    codes = np.where(inside, np.maximum(codes, 1), -codes).astype(np.int8)
    return Packed(codes, (rows.start, columns.start), (len(logits), logits.shape[1]), reach, threshold)


def _stretch(inside: NDArray[np.bool_], *, axis: int) -> slice:
    """Find what lies between the first and the last line with a cell inside, and one line more on both sides."""
    cells = np.flatnonzero(inside.any(axis=axis))
    return slice(max(0, int(cells[0]) - 1), int(cells[-1]) + 2) if len(cells) else slice(0, 0)


def _at_outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the cells of all squares of four that are partly inside; edges repeat, so lines of one cell count too."""
    if not inside.size:
        return inside
    padded = np.pad(inside, ((0, 1), (0, 1)), mode="edge")
    corners = padded[:-1, :-1], padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]
    mixed = (corners[0] | corners[1] | corners[2] | corners[3]) & ~(
        corners[0] & corners[1] & corners[2] & corners[3]
    )
    spread = mixed.copy()
    spread[1:] |= mixed[:-1]
    spread[:, 1:] |= mixed[:, :-1]
    spread[1:, 1:] |= mixed[:-1, :-1]
    return spread
