"""Sums over square windows around every pixel, at a cost that does not grow with the window."""

import numpy as np
from numpy.typing import NDArray


def window_sums(
    array: NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_], reach: int
) -> NDArray[np.float64]:
    """Sum the window of (2 reach + 1) x (2 reach + 1) pixels around each pixel; beyond the edges are zeros.

    Args:
        array: (H, W) or (H, W, C) numbers.
        reach: Pixels to each side, 0 or more.

    Returns:
        As the array, float64; exact for whole numbers.

    Example:
        >>> window_sums(np.ones((3, 4)), 1).tolist()
        [[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]
    """
    return _along(_along(array.astype(np.float64), reach, 0), reach, 1)


def window_means(array: NDArray[np.floating], reach: int) -> NDArray[np.float64]:
    """Average the same windows over the pixels that they have in the picture.

    Example:
        >>> window_means(np.array([[0.0, 3.0, 6.0]]), 1).tolist()
        [[1.5, 3.0, 4.5]]
    """
    counts = window_sums(np.ones(array.shape[:2]), reach)
    return np.asarray(window_sums(array, reach) / (counts if array.ndim == 2 else counts[..., None]))


def _along(array: NDArray[np.float64], reach: int, axis: int) -> NDArray[np.float64]:
    length = array.shape[axis]
    zeros = np.zeros_like(np.take(array, [0], axis=axis))
    sums = np.concatenate([zeros, np.cumsum(array, axis=axis)], axis=axis)
    places = np.arange(length)
    last, first = np.minimum(places + reach + 1, length), np.maximum(places - reach, 0)
    return np.asarray(np.take(sums, last, axis=axis) - np.take(sums, first, axis=axis))
