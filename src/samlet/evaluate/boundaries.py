"""Boundaries as BSDS compares them: drawn from segmentations, thinned, and matched one to one within a distance.

The benchmark matches the boundary pixels of a thresholded edge map with those of a person, each pixel with at most one
pixel of the other side, as many as possible. Its program solves an assignment problem for each of 99 thresholds (CSA,
least total distance among the matchings with most pairs). Here the pixels enter in falling order of strength, and each
is matched if an augmenting path lets it in without any of the earlier ones giving up its place (they may change
partners). That is the greedy algorithm on a transversal matroid: after every pixel the matching has as many pairs as
any matching of the pixels so far, so one pass answers every threshold at once. What differs from the program: which of
several equally large matchings is taken, and therefore, where several people drew the same line, how many pixels are
matched with at least one of them. benchmarks/boundary_matching.py measures the difference.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samlet.evaluate.clicks import opencv

TOLERANCE = 0.0075
"""How far apart matched pixels may lie, of the picture's diagonal."""


def segment_boundaries(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Draw the boundaries between the segments of a picture, one pixel thin.

    Args:
        ids: The segment of each pixel, (H, W).

    Returns:
        (H, W) bool: the pixels whose right, lower or lower right neighbour is of another segment, thinned.

    Example:
        >>> segment_boundaries(np.array([[1, 1, 2], [1, 1, 2]])).astype(int).tolist()
        [[0, 1, 0], [0, 1, 0]]
    """
    return thinned(outlines(ids))


def outlines(ids: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark where segments meet: the pixels whose right, lower or lower right neighbour is of another one.

    Args:
        ids: The segment of each pixel, or a mask, (H, W).

    Returns:
        (H, W) bool; the border of the picture is no boundary.
    """
    edge = np.zeros(ids.shape, np.bool_)
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:-1, :-1] |= ids[:-1, :-1] != ids[1:, 1:]
    return edge


def davis_f(answer: NDArray[np.bool_], truth: NDArray[np.bool_], *, tolerance: float = 0.008) -> float:
    """Give the boundary measure F of DAVIS: pixels of either outline count that lie near the other.

    Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (2016). Unlike
    BSDS's, it does not match pixels one to one; unlike `samlet.evaluate.contours.boundary_f`, it draws outlines as BSDS
    does and lets the distance grow with the picture.

    Args:
        answer: Bool (H, W).
        truth: Bool (H, W).
        tolerance: What is near, of the picture's diagonal, rounded up to whole pixels.

    Returns:
        0..1; 1 if neither has an outline, 0 if only one has.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    ours, theirs = outlines(answer), outlines(truth)
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    cv2 = opencv()
    reach = int(np.ceil(tolerance * np.hypot(*truth.shape)))
    steps = np.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= reach**2).astype(np.uint8)
    near_theirs, near_ours = (cv2.dilate(one.astype(np.uint8), disk) > 0 for one in (theirs, ours))
    precision = np.count_nonzero(ours & near_theirs) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & near_ours) / np.count_nonzero(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def thinned(mask: NDArray[np.bool_], *, keep: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Thin what is drawn to lines of one pixel that hang together as before.

    Guo and Hall, "Parallel Thinning with Two-Subiteration Algorithms" (1989), until nothing changes; MATLAB's
    bwmorph(mask, 'thin', Inf), which the benchmark uses, follows the same conditions.

    Args:
        mask: Bool (H, W).
        keep: Pixels that stay whatever is around them, bool (H, W).

    Returns:
        Bool (H, W).
    """
    height, width = mask.shape
    line = width + 2
    flat = np.pad(mask, 1).ravel()
    # The eight neighbours, counter-clockwise from the right one; each is a bit of the table's index.
    around = np.array((1, 1 - line, -line, -1 - line, -1, line - 1, line, line + 1))
    places = np.flatnonzero(flat if keep is None else flat & ~np.pad(keep, 1).ravel())
    left = len(places) + 1
    while len(places) < left:
        left = len(places)
        for table in _DELETABLE:
            codes = flat[places[:, None] + around] @ _BITS
            flat[places[table[codes]]] = False
            places = places[flat[places]]
    return flat.reshape(height + 2, line)[1:-1, 1:-1].copy()


def thinned_levels(levels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Thin an edge map at each of its levels, the highest first; what is kept at one level stays at all below.

    The benchmark thins the map at each threshold by itself. Here lines that are strong enough for a high threshold
    are not thinned again by what joins them at a lower one, so that the levels lie within each other.

    Args:
        levels: (H, W), 0 where there is no edge, else the highest threshold (1, 2, ...) that the pixel reaches.

    Returns:
        (H, W), the highest threshold at which the pixel is part of the thinned map; 0 for none.
    """
    found = np.zeros(levels.shape, np.int64)
    for level in np.unique(levels[levels > 0])[::-1].tolist():
        kept = thinned(levels >= level, keep=found > 0)
        found[kept & (found == 0)] = level
    return found


def _deletable() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell for each of the 256 neighbourhoods whether its middle goes, in each of the two sub-iterations."""
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1  # (256, 8) x[:, 0] is Guo and Hall's x1
    ahead = np.roll(x, -1, axis=1)
    turns = [(1 - x[:, i]) & (ahead[:, i] | ahead[:, (i + 1) % 8]) for i in (0, 2, 4, 6)]
    crossings = np.sum(turns, axis=0)
    pairs = [np.sum([x[:, i] | ahead[:, i] for i in range(start, 8, 2)], axis=0) for start in (0, 1)]
    fewest = np.minimum(pairs[0], pairs[1])
    alike = (crossings == 1) & (fewest >= 2) & (fewest <= 3)
    first = ((x[:, 1] | x[:, 2] | (1 - x[:, 7])) & x[:, 0]) == 0
    second = ((x[:, 5] | x[:, 6] | (1 - x[:, 3])) & x[:, 4]) == 0
    return alike & first, alike & second


_BITS = 1 << np.arange(8)
_DELETABLE = _deletable()


def matched(strength: NDArray[np.floating], truth: NDArray[np.bool_], *, radius: float) -> NDArray[np.bool_]:
    """Match the pixels of an edge map with a person's, one to one, the strong ones first.

    For every threshold t the pixels with strength of at least t that are matched are as many as any one-to-one
    matching of the map at that threshold has.

    Args:
        strength: How sure the edge is, (H, W), 0 where there is none; a bool map has one strength.
        truth: The person's boundary, bool (H, W).
        radius: Largest distance of two matched pixels, in pixels.

    Returns:
        (H, W) bool, the matched pixels of the edge map.

    Example:
        Two pixels of an edge want the same pixel of the boundary; the stronger gets it.

        >>> matched(np.array([[0.5, 0.0, 0.9]]), np.array([[False, True, False]]), radius=1.0).tolist()
        [[False, False, True]]
    """
    places, partners = _candidates(strength, truth, radius)
    found = np.zeros(strength.shape, np.bool_)
    if len(places):
        accepted = _match(partners, int(np.count_nonzero(truth)))
        found.ravel()[places[accepted]] = True
    return found


def _candidates(
    strength: NDArray[np.floating], truth: NDArray[np.bool_], radius: float
) -> tuple[NDArray[np.int64], list[list[int]]]:
    """List edge pixels that have partners within reach, strongest first, and the partners of each, nearest first."""
    reach = int(radius)
    height, width = strength.shape
    line = width + 2 * reach
    number = np.full((height + 2 * reach, line), -1, np.int32)
    window = number[reach : reach + height, reach : reach + width]
    window[truth] = np.arange(np.count_nonzero(truth))
    steps = np.arange(-reach, reach + 1)
    far = np.hypot(steps[:, None], steps)
    offsets = (steps[:, None] * line + steps)[far <= radius]
    offsets = offsets[np.argsort(far[far <= radius], kind="stable")]
    places = np.flatnonzero(strength)
    places = places[np.argsort(-strength.ravel()[places].astype(np.float64), kind="stable")]
    y, x = np.divmod(places, width)
    near = number.ravel()[((y + reach) * line + x + reach)[:, None] + offsets]
    known = near >= 0
    some = known.any(axis=1)
    ends = np.cumsum(known[some].sum(axis=1))
    flat = near[some][known[some]].tolist()
    starts = [0, *ends[:-1].tolist()]
    return places[some], [
        flat[start:end] for start, end in zip(starts, ends.tolist(), strict=bool(len(ends)))
    ]


def _match(partners: Sequence[Sequence[int]], count: int) -> list[bool]:
    """Let each row in, in order, if an augmenting path makes room for it; tell for each whether it got in.

    Partners that a failed search has seen can never be had again: all of them are taken by rows whose other partners
    were seen too, and rows only join. So they are struck out, and failed searches cost one look at each pair in all.
    """
    owner = [-1] * count
    seen = [-1] * count
    closed = [False] * count
    accepted = [False] * len(partners)
    for row, wanted in enumerate(partners):
        came: dict[
            int, tuple[int, int]
        ] = {}  # partner: the row that reached it, and the partner that row holds
        queue: deque[tuple[int, int]] = deque([(row, -1)])
        free = -1
        while queue and free < 0:
            asking, held = queue.popleft()
            for partner in wanted if asking == row else partners[asking]:
                if closed[partner] or seen[partner] == row:
                    continue
                seen[partner] = row
                came[partner] = (asking, held)
                if owner[partner] < 0:
                    free = partner
                    break
                queue.append((owner[partner], partner))
        if free < 0:
            for partner in came:
                closed[partner] = True
            continue
        accepted[row] = True
        while free >= 0:
            asking, held = came[free]
            owner[free] = asking
            free = held
    return accepted
