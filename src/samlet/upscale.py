"""From the network's coarse logits to masks of the picture's size, and what is measured on both."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.errors import InputError
from samlet.geometry import Frame, resize_bilinear

Upscale = Literal["fast", "exact"]


def region_of(frame: Frame, grid_hw: tuple[int, int]) -> tuple[float, float]:
    """Find the part of a grid of logits where the picture lies; the rest is padding.

    Args:
        frame: How the picture lies in the network's input.
        grid_hw: Size of the grid that stands for the network's whole input, in cells.

    Returns:
        Height and width from the top-left corner, in cells, possibly fractional.

    Example:
        >>> region_of(Frame.fit((720, 1280), 1024), (256, 256))
        (144.0, 256.0)
    """
    scaled, canvas = frame.scaled_hw, frame.canvas_hw
    return (grid_hw[0] * scaled[0] / canvas[0], grid_hw[1] * scaled[1] / canvas[1])


def enlarge(logits: NDArray[np.float32], frame: Frame, upscale: Upscale) -> NDArray[np.float32]:
    """Bring one map of logits to the size of the picture.

    Args:
        logits: (h, w).
        frame: How the picture lies in the network's input.
        upscale: "fast" for one bilinear step, "exact" for SAM's two (to the input's size, cut, to the
            picture's).

    Returns:
        (H, W).

    Example:
        >>> enlarge(np.ones((4, 4), np.float32), Frame.fit((6, 8), 4), "fast").shape
        (6, 8)
    """
    height, width = logits.shape
    if upscale == "fast":
        large = resize_bilinear(logits[None], frame.image_hw, region_hw=region_of(frame, (height, width)))
    else:
        canvas = resize_bilinear(logits[None], frame.canvas_hw)
        large = resize_bilinear(canvas[:, : frame.scaled_hw[0], : frame.scaled_hw[1]], frame.image_hw)
    return large.reshape(frame.image_hw)


def measure(masks: Iterable[NDArray[np.bool_]], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the boxes and areas of masks in one pass.

    Args:
        masks: (H, W) each, one at a time.
        count: How many there are.

    Returns:
        Boxes (count, 4) as x0, y0, x1, y1 with exclusive ends, zeros for an empty mask; areas (count,) in
        pixels.

    Example:
        >>> boxes, areas = measure([np.array([[0, 1, 1]], bool)], 1)
        >>> boxes.tolist(), areas.tolist()
        ([[1, 0, 3, 1]], [2])
    """
    boxes = np.zeros((count, 4), np.int64)
    areas = np.zeros(count, np.int64)
    for index, mask in enumerate(masks):
        areas[index] = np.count_nonzero(mask)
        if areas[index]:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            boxes[index] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return boxes, areas


def stability_of(
    logits: NDArray[np.float32], frame: Frame, threshold: float, offset: float
) -> NDArray[np.float32]:
    """Rate how little masks change when the threshold moves, SAM's stability score.

    Args:
        logits: (..., h, w).
        frame: How the picture lies in the network's input; only cells of the picture count.
        threshold: Where a mask begins, in logits.
        offset: How far the threshold is moved up and down, in logits, above 0.

    Returns:
        (...): area at the higher threshold over area at the lower one, in [0, 1]; 0 where both are empty.

    Raises:
        InputError: The offset is not above 0.

    Example:
        >>> stability_of(np.full((1, 4, 4), 3.0), Frame.fit((4, 4), 4), 0.0, 1.0).tolist()
        [1.0]
    """
    if not offset > 0:
        raise InputError(f"expected an offset above 0, got {offset}; SAM uses 1.0")
    rows, columns = (max(1, int(side + 0.5)) for side in region_of(frame, logits.shape[-2:]))
    valid = logits[..., :rows, :columns]
    inner = np.count_nonzero(valid > threshold + offset, axis=(-2, -1))
    outer = np.count_nonzero(valid > threshold - offset, axis=(-2, -1))
    return np.asarray(inner / np.maximum(outer, 1), np.float32)


def paired(logits: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Check that logits and scores belong together.

    Args:
        logits: (N, h, w) or (N, C, h, w).
        scores: (N,) or (N, C).

    Returns:
        Both as float32.

    Raises:
        InputError: The shapes are others or do not fit each other.

    Example:
        >>> [array.shape for array in paired(np.zeros((2, 4, 4)), np.zeros(2))]
        [(2, 4, 4), (2,)]
    """
    maps, rated = np.asarray(logits, np.float32), np.asarray(scores, np.float32)
    if maps.ndim not in (3, 4) or 0 in maps.shape[1:]:
        raise InputError(
            f"expected logits of shape (N, h, w) or (N, C, h, w), got {maps.shape}; reshape them"
        )
    if rated.shape != maps.shape[:-2]:
        raise InputError(
            f"expected scores of shape {maps.shape[:-2]} beside logits of shape {maps.shape}, "
            f"got {rated.shape}; pass one score for each mask"
        )
    return maps, rated
