"""Prompts that a picture of the grid gives: where the mask in space certainly is, and how far it reaches."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def box_of(seen: NDArray[np.bool_], stride: int, image_hw: Sequence[int]) -> list[float]:
    """Frame what is seen.

    Args:
        seen: (h, w), with something in it.
        stride: Picture pixels of a cell.
        image_hw: Size of the picture.

    Returns:
        x0, y0, x1, y1 in picture pixels.

    Example:
        >>> box_of(np.array([[0, 0, 0], [0, 1, 1]], bool), 4, (8, 11))
        [4.0, 4.0, 11.0, 8.0]
    """
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    height, width = image_hw
    x1, y1 = min((columns[-1] + 1) * stride, width), min((rows[-1] + 1) * stride, height)
    return [float(columns[0] * stride), float(rows[0] * stride), float(x1), float(y1)]


def clicks_of(
    certainty: NDArray[np.float32], depth: NDArray[np.float32], *, count: int, stride: int
) -> list[list[float]]:
    """Choose clicks one after the other, SA3D's way: the most certain cell, then one that is certain and far from it.

    Around a click a square is closed that covers about as much as a disc of the whole area would. Elsewhere certainty
    loses by nearness in the picture and in depth to the last click.

    Args:
        certainty: (h, w), 0 where nothing is seen.
        depth: (h, w) distances; inf where nothing is seen.
        count: Most clicks.
        stride: Picture pixels of a cell.

    Returns:
        At most `count` clicks (x, y) in picture pixels; fewer if nothing is left.

    Example:
        >>> certainty = np.zeros((4, 6), np.float32); certainty[1, 4] = 2; certainty[3, 0] = 1
        >>> clicks_of(certainty, np.where(certainty > 0, 5, np.inf), count=3, stride=10)
        [[45.0, 15.0], [5.0, 35.0]]
    """
    left = certainty.astype(np.float64).copy()
    height, width = left.shape
    near = np.where(np.isfinite(depth), depth, np.max(depth, where=np.isfinite(depth), initial=1.0))
    near = near / max(float(near.max()), 1e-9)
    y, x = np.mgrid[:height, :width]
    half = max(int(math.sqrt((certainty > 0).sum() / math.pi)) // 2, 2)
    clicks: list[list[float]] = []
    for _ in range(count):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        best = float(left[row, column])
        if best <= 0:
            break
        clicks.append([(float(column) + 0.5) * stride, (float(row) + 0.5) * stride])
        closeness = 1 - np.sqrt(
            ((x - column) / width) ** 2 + ((y - row) / height) ** 2 + (near - near[row, column]) ** 2
        ) / math.sqrt(3)
        left -= np.where(left > 0, closeness * best, 0) * 0.5
        left[certainty <= 0] = 0
        left[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] = 0
    return clicks
