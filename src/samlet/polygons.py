"""Masks as polygons and back, traced along the edges between pixels.

Coordinates are image pixels (x, y) with the origin at the top-left *corner* of the first pixel, so a mask of
one pixel at row 2, column 3 is the square (3, 2) (4, 2) (4, 3) (3, 3), and filling the untouched polygons
gives the mask back exactly. Pixels that touch only at a corner belong to different polygons (4-connected
foreground).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.rle import checked_mask

_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """One connected part of a mask.

    Attributes:
        exterior: (K, 2) outline, clockwise as seen on the screen, first point not repeated.
        holes: (M, 2) each, counter-clockwise, so that both the even-odd and the non-zero rule leave them
            empty.
    """

    exterior: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()


def mask_to_polygons(mask: NDArray[np.bool_], *, tolerance: float = 0.0) -> list[Polygon]:
    """Trace a mask into polygons with holes.

    Args:
        mask: (H, W); any dtype, non-zero is inside.
        tolerance: Largest distance in pixels by which the outline may be simplified (Douglas-Peucker); 0 is
            exact. A part too small for the tolerance keeps its bounding box, a hole too small for it is
            filled.

    Returns:
        One polygon for each connected part, in reading order of their topmost points; none for an empty mask.

    Raises:
        InputError: The mask is not two-dimensional, or the tolerance is negative or not finite.

    Example:
        >>> mask_to_polygons(np.array([[0, 1, 1]], bool))[0].exterior.tolist()
        [[1.0, 0.0], [3.0, 0.0], [3.0, 1.0], [1.0, 1.0]]
    """
    inside = checked_mask(mask)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise InputError(
            f"expected a tolerance of 0 or more pixels, got {tolerance}; use 0 for exact outlines"
        )
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return []
    # Work in the bounding box, with a rim of background so that every edge has two sides.
    top, left = int(rows[0]), int(columns[0])
    padded = np.pad(inside[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    corners, is_hole, parent = _trace(padded)
    shift = np.array([left, top])
    xy = [(ring + shift).astype(np.float64) for ring in corners]
    rings = simplify_rings(xy, tolerance) if tolerance else xy
    exteriors: dict[int, tuple[NDArray[np.float64], list[NDArray[np.float64]]]] = {}
    for index, (ring, traced) in enumerate(zip(rings, xy, strict=True)):
        if not is_hole[index]:
            exteriors[index] = (ring if len(ring) >= 3 else _bounding_ring(traced), [])
        elif len(ring) >= 3:
            exteriors[parent[index]][1].append(ring[::-1].copy())
    return [Polygon(exterior, tuple(holes)) for exterior, holes in exteriors.values()]


def polygon_to_mask(
    polygons: Iterable[Polygon | NDArray[np.float64]] | Polygon, image_hw: Sequence[int]
) -> NDArray[np.bool_]:
    """Fill polygons: a pixel is inside when its centre is (even-odd rule in a polygon, union over polygons).

    Args:
        polygons: Polygons, or bare (K, 2) rings; points may lie outside the picture.
        image_hw: (height, width) of the mask.

    Returns:
        (H, W) bool.

    Raises:
        InputError: A ring is not a finite (K, 2) array or the size is not positive.

    Example:
        >>> polygon_to_mask([np.array([[1, 0], [3, 0], [3, 1], [1, 1]])], (1, 3)).tolist()
        [[False, True, True]]
    """
    height, width = (int(side) for side in image_hw)
    if height < 1 or width < 1:
        raise InputError(
            f"expected a mask of at least 1 x 1 pixel, got {height} x {width}; pass (height, width)"
        )
    mask = np.zeros((height, width), bool)
    for polygon in [polygons] if isinstance(polygons, Polygon) else polygons:
        rings = [polygon.exterior, *polygon.holes] if isinstance(polygon, Polygon) else [polygon]
        _fill(mask, [_checked_ring(ring) for ring in rings])
    return mask


def join_polygons(polygons: Sequence[Polygon]) -> NDArray[np.float64]:
    """Join parts and holes into the one ring that YOLO, labelme and COCO's polygon lists can hold.

    Each further ring is reached over a bridge of no width, walked there and back, from the nearest point of
    what is joined so far. Filled by the even-odd or the non-zero rule the ring gives the same mask as the
    polygons.

    Args:
        polygons: The parts of one object.

    Returns:
        (K, 2) ring; (0, 2) for no polygons.

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> join_polygons([Polygon(square), Polygon(square + 5)]).shape
        (10, 2)
    """
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.holes)]
    if not rings:
        return np.empty((0, 2), np.float64)
    # Bridges only ever start at points of the rings, so the tour can be put together after all are known.
    points = np.concatenate(rings)
    first = np.cumsum([0, *(len(ring) for ring in rings)])
    bridges: dict[int, list[int]] = {}
    for index in range(1, len(rings)):
        offsets = points[: first[index]] - rings[index][0]
        nearest = int(np.argmin(np.einsum("ij,ij->i", offsets, offsets)))
        bridges.setdefault(nearest, []).append(index)
    tour: list[int] = []
    pending = list(
        range(int(first[1]) - 1, -1, -1)
    )  # a stack of points still to visit; ~p = visit without bridges
    while pending:
        point = pending.pop()
        if point < 0:
            tour.append(~point)
            continue
        tour.append(point)
        for ring in bridges.get(point, ()):
            start, stop = int(first[ring]), int(first[ring + 1])
            pending += [~point, ~start, *range(stop - 1, start - 1, -1)]
    return points[tour]


def simplify_rings(rings: Sequence[NDArray[np.float64]], tolerance: float) -> list[NDArray[np.float64]]:
    """Simplify closed rings by Douglas-Peucker, all rings and all open stretches of one depth in one go.

    Args:
        rings: (K, 2) each, first point not repeated.
        tolerance: Largest distance in pixels between a dropped point and the line that replaces it.

    Returns:
        The rings with points left out; a ring thinner than the tolerance shrinks to two points.

    Example:
        >>> simplify_rings([np.array([[0.0, 0], [4, 0], [8, 0], [8, 8], [0, 8]])], 0.5)[0].tolist()
        [[0.0, 0.0], [8.0, 0.0], [8.0, 8.0], [0.0, 8.0]]
    """
    closed = [np.concatenate((ring, ring[:1])) for ring in rings]
    points = np.concatenate(closed).astype(np.float64)
    stops = np.cumsum([len(ring) for ring in closed]) - 1
    starts = np.concatenate(([0], stops[:-1] + 1))
    keep = np.zeros(len(points), bool)
    keep[starts] = True
    a, b = starts, stops
    limit = float(tolerance) ** 2
    depth = 0
    while len(a):
        cut, distance = _farthest(points, a, b)
        # A closed ring is always cut at the point farthest from its start.
        split = (distance > limit) | (depth == 0)
        # Spirals and combs would peel off one point at a time, n times n steps: past this depth halve
        # instead, which keeps a few more points than needed and still holds the tolerance.
        middle = np.where(depth < _MAX_DEPTH, cut, (a + b) // 2)[split]
        a, b = a[split], b[split]
        keep[middle] = True
        a, b = np.concatenate((a, middle)), np.concatenate((middle, b))
        open_stretch = b - a > 1
        a, b = a[open_stretch], b[open_stretch]
        depth += 1
    return [points[start:stop][keep[start:stop]] for start, stop in zip(starts, stops, strict=True)]


def _farthest(
    points: NDArray[np.float64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each stretch a..b, the inner point farthest from the segment a-b, and its squared distance."""
    counts = b - a - 1
    offsets = np.concatenate(([0], np.cumsum(counts)[:-1]))
    stretch = np.repeat(np.arange(len(a)), counts)
    index = np.arange(int(counts.sum())) - np.repeat(offsets - a - 1, counts)
    base, along = points[a], points[b] - points[a]
    length = np.maximum(np.einsum("ij,ij->i", along, along), 1e-12)
    away = points[index] - base[stretch]
    share = np.clip(np.einsum("ij,ij->i", away, along[stretch]) / length[stretch], 0.0, 1.0)
    away -= share[:, None] * along[stretch]
    squared = np.einsum("ij,ij->i", away, away)
    distance = np.maximum.reduceat(squared, offsets)
    hits = np.flatnonzero(squared == distance[stretch])
    _, first = np.unique(stretch[hits], return_index=True)
    return index[hits[first]], distance


def _trace(padded: NDArray[np.bool_]) -> tuple[list[NDArray[np.int64]], list[bool], list[int]]:
    """Rings of corner points in the frame of the unpadded mask, whether each is a hole, and whose hole it is.

    Every corner of an outline ends one horizontal and one vertical stretch. Corners of a grid row, from left
    to right, are therefore the ends of its horizontal stretches two by two, and likewise down each grid
    column, so all stretches come from two sorts and only the corners are walked. Where two pixels touch at a
    corner, that grid point is two corners, and their order in the column decides that each pixel keeps to its
    own outline.
    """
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    odd = nw ^ ne ^ sw ^ se
    diagonal = (nw == se) & (ne == sw) & (nw != ne)
    height, width = odd.shape
    grid = np.flatnonzero(odd | diagonal)
    twice = diagonal.ravel()[grid]
    grid = np.repeat(grid, 1 + twice)
    second = np.zeros(len(grid), np.int64)
    second[1:] = grid[1:] == grid[:-1]
    y, x = grid // width, grid % width
    across = np.arange(len(grid)) ^ 1  # the other end of the horizontal stretch
    # With foreground at north-west and south-east the left stretch turns up; otherwise the right one does.
    turned = (second ^ (ne.ravel()[grid] & diagonal.ravel()[grid])).astype(np.int64)
    order = np.argsort((x * height + y) * 2 + turned)
    down = np.empty_like(order)
    down[order] = order.reshape(-1, 2)[:, ::-1].ravel()  # the other end of the vertical stretch
    rings = _walk(across.tolist(), down.tolist())
    corner_xy = np.stack((x, y), 1)
    starts = np.array([ring[0] for ring in rings])
    is_hole = ~se.ravel()[grid[starts]]
    parent = _parents(rings, is_hole, across, x, y, width)
    return [corner_xy[ring] for ring in rings], is_hole.tolist(), parent


def _walk(across: list[int], down: list[int]) -> list[list[int]]:
    rings: list[list[int]] = []
    seen = bytearray(len(across))
    for start in range(len(across)):
        if seen[start]:
            continue
        ring: list[int] = []
        corner = start
        while not seen[corner]:
            other = across[corner]
            seen[corner] = seen[other] = 1
            ring += (corner, other)
            corner = down[other]
        rings.append(ring)
    return rings


def _parents(
    rings: list[list[int]],
    is_hole: NDArray[np.bool_],
    across: NDArray[np.int64],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    width: int,
) -> list[int]:
    """Index of the exterior each ring belongs to (its own for exteriors).

    The pixel above the topmost corner of a hole is foreground; the first outline to the left of it belongs to
    the same part, and is its exterior or a hole that begins higher up and has been settled before.
    """
    parent = list(range(len(rings)))
    holes = np.flatnonzero(is_hole)
    if not len(holes):
        return parent
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    tour = np.concatenate([np.asarray(ring) for ring in rings])
    # In a tour the vertical stretches run from each second corner to the next first one.
    upper, lower = tour[1::2], np.concatenate([np.roll(np.asarray(ring)[::2], -1) for ring in rings])
    y0, y1 = np.minimum(y[upper], y[lower]), np.maximum(y[upper], y[lower])
    lengths = y1 - y0
    steps = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    keys = (np.repeat(y0, lengths) + steps) * width + np.repeat(x[upper], lengths)
    owner = np.repeat(ring_of[1::2], lengths)
    order = np.argsort(keys)
    first = np.array([rings[hole][0] for hole in holes])
    # The pixel row above grid row y is y - 1; the nearest wall at or left of the corner's column.
    hit = np.searchsorted(keys[order], (y[first] - 1) * width + x[first], side="right") - 1
    for hole, wall in zip(holes.tolist(), owner[order[hit]].tolist(), strict=True):
        parent[hole] = parent[wall]
    return parent


def _bounding_ring(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    (x0, y0), (x1, y1) = ring.min(0), ring.max(0)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def _checked_ring(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(ring, np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not bool(np.isfinite(array).all()):
        raise InputError(
            f"expected a ring of finite points (K, 2), got shape {array.shape}; pass x, y for each point"
        )
    return array


def _fill(mask: NDArray[np.bool_], rings: Sequence[NDArray[np.float64]]) -> None:
    """Add one polygon to a mask: toggle where its outline crosses a row's centre line, then count along."""
    rings = [ring for ring in rings if len(ring) >= 3]
    if not rings:
        return
    a = np.concatenate(rings)
    b = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    height, width = mask.shape
    top = int(np.clip(np.floor(a[:, 1].min()), 0, height))
    bottom = int(np.clip(np.ceil(a[:, 1].max()), 0, height))
    low, high = np.minimum(a[:, 1], b[:, 1]), np.maximum(a[:, 1], b[:, 1])
    # Row r is crossed when low <= r + 0.5 < high; half open, so that shared end points count once.
    row0 = np.clip(np.ceil(low - 0.5), top, bottom).astype(np.int64)
    row1 = np.clip(np.ceil(high - 0.5), top, bottom).astype(np.int64)
    counts = np.maximum(row1 - row0, 0)
    edge = np.repeat(np.arange(len(a)), counts)
    row = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts - row0, counts)
    slope = (b[edge, 0] - a[edge, 0]) / (b[edge, 1] - a[edge, 1])
    crossing = a[edge, 0] + (row + 0.5 - a[edge, 1]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    if not len(column):
        return
    left, span = int(column.min()), int(column.max() - column.min() + 1)
    toggles = np.bincount((row - top) * span + column - left, minlength=(bottom - top) * span)
    parity = np.bitwise_xor.accumulate((toggles & 1).astype(np.uint8).reshape(-1, span), axis=1)
    right = min(left + span, width)
    mask[top:bottom, left:right] |= parity[:, : right - left].astype(bool)
