"""How well the edge of a mask lies where it should: boundary IoU, and the F measure of edges within a few pixels.

IoU hardly sees edges: a large mask whose outline is ragged by three pixels still has 0.98. Both measures here look at
nothing but the pixels near the outlines.
"""

import math

import numpy as np
from numpy.typing import NDArray

from samlet.evaluate.metrics import iou
from samlet.window_sums import window_sums

BAND_SHARE = 0.02
"""Width of the band of boundary IoU, as a share of the picture's diagonal: that of the paper."""

WITHIN = 2
"""How far apart two edges may lie and still count as the same, in pixels."""


def boundary_iou(
    answer: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    ignore: NDArray[np.bool_] | None = None,
    share: float = BAND_SHARE,
) -> float:
    """Give the IoU of the inner bands of two masks (Cheng et al. 2021, Boundary IoU).

    A mask's band is what an erosion by a square takes away from it; the picture's edge counts as outside, as in the
    paper's code.

    Args:
        answer: Bool (H, W).
        truth: Bool (H, W).
        ignore: Pixels left out of both, bool (H, W).
        share: Width of the band as a share of the diagonal; it is at least one pixel wide.

    Returns:
        0..1; 1 if both masks are empty.

    Example:
        >>> square = np.zeros((100, 100), bool); square[20:80, 20:80] = True
        >>> shifted = np.roll(square, 2, axis=1)
        >>> round(iou(square, shifted), 3), round(boundary_iou(square, shifted), 3)
        (0.935, 0.5)
    """
    height, width = answer.shape
    reach = max(1, round(share * math.hypot(height, width)))
    return iou(_band(answer, reach), _band(truth, reach), ignore=ignore)


def boundary_f(
    answer: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    ignore: NDArray[np.bool_] | None = None,
    within: int = WITHIN,
) -> float:
    """Give the F measure of two masks' edges.

    Precision is the share of the answer's edge pixels that lie within so many pixels of one of the truth's, recall the
    share of the truth's within as many of the answer's. An edge pixel is inside the mask and has a neighbour above,
    below, left or right that is not; the picture's edge is no edge of a mask.

    Args:
        answer: Bool (H, W).
        truth: Bool (H, W).
        ignore: Edge pixels here are left out, bool (H, W).
        within: Distance in pixels, Euclidean, 0 or more.

    Returns:
        0..1; 1 if neither mask has an edge, 0 if one alone has none.

    Example:
        >>> square = np.zeros((40, 40), bool); square[10:30, 10:30] = True
        >>> boundary_f(square, np.roll(square, 2, axis=1)), boundary_f(square, np.roll(square, 9, axis=1)) < 0.7
        (1.0, True)
    """
    edges = [_edge(mask) for mask in (answer, truth)]
    if ignore is not None:
        edges = [edge & ~ignore for edge in edges]
    counts = [int(np.count_nonzero(edge)) for edge in edges]
    if not all(counts):
        return 1.0 if not any(counts) else 0.0
    precision = int(np.count_nonzero(edges[0] & _near(edges[1], within))) / counts[0]
    recall = int(np.count_nonzero(edges[1] & _near(edges[0], within))) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _band(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Give the pixels of a mask that are at most `reach` steps, diagonal ones included, from its outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    band = np.zeros_like(mask)
    if not len(rows):
        return band
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside = mask[window]
    # A pixel survives the erosion where its square is full.
    full = window_sums(inside, reach) == (2 * reach + 1) ** 2
    band[window] = inside & ~full
    return band


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1, mode="edge")
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~surrounded)


def _near(edge: NDArray[np.bool_], within: int) -> NDArray[np.bool_]:
    """Give the pixels no farther than `within` from an edge."""
    height, width = edge.shape
    padded = np.pad(edge, within)
    near = np.zeros_like(edge)
    for dy in range(-within, within + 1):
        for dx in range(-within, within + 1):
            if dx * dx + dy * dy <= within * within:
                near |= padded[within + dy : within + dy + height, within + dx : within + dx + width]
    return near
