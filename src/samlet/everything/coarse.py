"""Coarse clicks first, fine ones only where nothing sure was found (TinySAM's idea, Shu et al. 2023, section 3.4)."""

import numpy as np
from numpy.typing import NDArray

from samlet.everything.candidates import Candidates
from samlet.everything.finder import Crop
from samlet.everything.pack import Packed


def split(points: NDArray[np.float64], step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split a grid of clicks into those that are asked first and the rest.

    Args:
        points: (N, 2), x fastest; a square grid is thinned along both sides, anything else along its order.
        step: Every `step`-th of a line comes first; 1 asks all at once.

    Returns:
        The first (M, 2) and the rest (N - M, 2).

    Example:
        >>> first, rest = split(np.arange(32.0).reshape(16, 2), 2)
        >>> len(first), len(rest)
        (4, 12)
    """
    side = round(len(points) ** 0.5)
    number = np.arange(len(points))
    if side * side == len(points):
        start = (step - 1) // 2  # so that the coarse grid lies in the middle, not in a corner
        first = (number // side % step == start) & (number % side % step == start)
    else:
        first = number % (step * step) == 0
    if not first.any():
        first[:] = True
    return points[first], points[~first]


def covered(points: NDArray[np.float64], sure: Candidates, crop: Crop) -> NDArray[np.bool_]:
    """Tell which clicks fall into a mask that is sure already.

    Args:
        points: (N, 2) in the crop's pixels.
        sure: Masks of this crop, packed.
        crop: Where it lies, and how in the network's input.

    Returns:
        (N,) bool.
    """
    grid = np.array(crop.grid_hw[::-1], np.float64)
    canvas = np.array(crop.frame.canvas_hw[::-1], np.float64)
    cells = np.floor(crop.frame.to_model_points(points) * (grid / canvas)).astype(np.int64)
    column, row = np.clip(cells, 0, np.array(crop.grid_hw[::-1]) - 1).T
    inside = np.zeros(len(points), np.bool_)
    for shape in sure.shapes:
        if isinstance(shape, Packed) and shape.codes.size:
            (top, left), (height, width) = shape.corner, shape.codes.shape
            here = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
            inside[here] |= shape.codes[row[here] - top, column[here] - left] > 0
    return inside
