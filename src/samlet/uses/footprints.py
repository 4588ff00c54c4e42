"""Building-like regions as polygons with few corners, such as roofs in aerial pictures."""

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.geometry import mask_iou
from samlet.masks import Masks
from samlet.polygons import Polygon, mask_to_polygons, polygon_to_mask
from samlet.runs import Runs
from samlet.uses.plain import runs_of

Points = NDArray[np.float64]

_ALIKE = 0.75
"""Least overlap (IoU) with the region that a squared outline must keep; otherwise the simplified one stays."""


def footprints(
    masks: Masks,
    *,
    tolerance: float = 2.0,
    square: bool = True,
    min_area: float = 64,
    max_share: float = 0.25,
    rectangular: float = 0.6,
) -> list[tuple[int, Polygon]]:
    """Choose the regions that may be buildings, and draw them with few corners. A heuristic.

    A region may be a building if it is neither tiny nor a large part of the picture, and fills much of its smallest
    rectangle: an L-shaped house fills about three quarters, a crossing of roads far less. So does a round tree, and
    a straight road fills all of its rectangle: colours and lengths do not count here, look at the result.

    Args:
        masks: One mask a prompt.
        tolerance: By how many pixels an outline may be simplified.
        square: Whether to make all sides parallel or perpendicular to the outline's main direction (`squared`).
        min_area: Fewest pixels.
        max_share: Largest part of the picture, 0 to 1.
        rectangular: Least part of the smallest rectangle around the region that it fills, 0 to 1.

    Returns:
        For each region its row and the outline of its largest part, in picture pixels, without holes.

    Raises:
        InputError: A number is out of range, or the prompts still have several candidates.

    Example:
        >>> from samlet.masks import StoredMasks
        >>> house = np.zeros((40, 90), bool)
        >>> house[10:30, 12:50] = True
        >>> from samlet.rle import mask_to_rle
        >>> row, outline = footprints(StoredMasks.of([mask_to_rle(house)], [1.0], (40, 90)))[0]
        >>> row, sorted(outline.exterior.tolist())
        (0, [[12.0, 10.0], [12.0, 30.0], [50.0, 10.0], [50.0, 30.0]])
    """
    if not (tolerance >= 0 and min_area >= 0 and 0 <= max_share <= 1 and 0 <= rectangular <= 1):
        raise InputError(
            "expected tolerance and min_area of 0 or more, max_share and rectangular from 0 to 1, got "
            f"{tolerance}, {min_area}, {max_share} and {rectangular}; correct the numbers"
        )
    height, width = masks.frame.image_hw
    found: list[tuple[int, Polygon]] = []
    for row, runs in enumerate(runs_of(masks)):
        if not len(runs) or not min_area <= runs.area <= max_share * height * width:
            continue
        box = runs.box
        inside = runs.cut(box).mask()
        ring = max(
            mask_to_polygons(inside, tolerance=tolerance), key=lambda one: _area(one.exterior)
        ).exterior
        if runs.area < rectangular * _smallest_rectangle(_exact_corners(inside)):
            continue
        if square:
            better = squared(ring, tolerance=tolerance)
            if (
                mask_iou(polygon_to_mask([better], inside.shape), polygon_to_mask([ring], inside.shape))
                >= _ALIKE
            ):
                ring = better
        found.append((row, Polygon(ring + np.array(box[:2]))))
    return found


def squared(ring: Points, *, tolerance: float = 2.0) -> Points:
    """Fit a rectilinear outline: sides along the ring's main direction or across it.

    The main direction is the mean of the sides' directions modulo a right angle, weighted by their lengths. Sides
    that turn out parallel become one, at their mean place; jogs shorter than the tolerance go.

    Args:
        ring: (K, 2) outline.
        tolerance: Shortest side that stays, in the ring's unit.

    Returns:
        (M, 2), M even and at least 4; the ring itself if it has no rectilinear form.

    Raises:
        InputError: The ring has fewer than three points or is not (K, 2).

    Example:
        >>> ring = np.array([[0, 0], [10, 0.4], [10.2, 6], [0.1, 5.8]])
        >>> squared(ring).shape
        (4, 2)
    """
    points = np.asarray(ring, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise InputError(
            f"expected a ring of three or more points (K, 2), got {points.shape}; trace a mask first"
        )
    sides = np.roll(points, -1, axis=0) - points
    lengths = np.hypot(*sides.T)
    # Four times the angle is the same for the four directions of a rectangle: a circular mean.
    angle = float(np.angle((lengths * np.exp(4j * np.arctan2(sides[:, 1], sides[:, 0]))).sum())) / 4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    walls = _walls(points @ turn, tolerance)
    if len(walls) < 4:
        return points
    corners = [
        (place, after) if across else (after, place)
        for (across, place, _), (_, after, _) in zip(walls, walls[1:] + walls[:1], strict=True)
    ]
    return np.asarray(np.array(corners) @ turn.T)


Wall = tuple[bool, float, float]
"""Does it run along y, its place on the other axis, and its length."""


def _walls(points: Points, tolerance: float) -> list[Wall]:
    """Sides of an upright rectilinear outline, running along x and y in turn."""
    ends = np.roll(points, -1, axis=0)
    sides = np.abs(ends - points)
    along_y = sides[:, 1] > sides[:, 0]
    middle = (points + ends) / 2
    walls: list[Wall] = [
        (bool(up), float(mid[0] if up else mid[1]), float(side[1] if up else side[0]))
        for up, mid, side in zip(along_y, middle, sides, strict=True)
    ]
    walls = _merged(walls)
    while len(walls) > 4:
        # The length of a side is the distance between the places of its two neighbours.
        spans = [abs(walls[i - 1][1] - walls[(i + 1) % len(walls)][1]) for i in range(len(walls))]
        shortest = int(np.argmin(spans))
        if spans[shortest] >= max(tolerance, 1e-9):
            break
        walls = _merged(walls[:shortest] + walls[shortest + 1 :])
    return walls


def _merged(walls: list[Wall]) -> list[Wall]:
    """Make one of neighbours that run the same way, around the ring."""
    turns = [i for i in range(len(walls)) if walls[i][0] != walls[i - 1][0]]
    if not turns:
        return []
    ring = walls[turns[0] :] + walls[: turns[0]]
    merged: list[Wall] = []
    for wall in ring:
        if merged and merged[-1][0] == wall[0]:
            _, place, length = merged[-1]
            total = max(length + wall[2], 1e-12)
            merged[-1] = (wall[0], (place * length + wall[1] * wall[2]) / total, length + wall[2])
        else:
            merged.append(wall)
    return merged


def _area(ring: Points) -> float:
    """Shoelace."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _exact_corners(inside: NDArray[np.bool_]) -> Points:
    """The first and last pixel corners of each row: enough for a convex hull."""
    runs = Runs.of_mask(inside.T)  # of the transpose: column by column is row by row
    row, left, right = runs.pieces()
    x, y = np.concatenate((left, right, left, right)), np.concatenate((row, row, row + 1, row + 1))
    return np.stack((x, y), axis=1).astype(np.float64)


def _smallest_rectangle(points: Points) -> float:
    """Area of the smallest rectangle around points: one of its sides lies along a side of the convex hull."""
    hull = _hull(points)
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.arctan2(sides[:, 1], sides[:, 0]) % (np.pi / 2))
    along = np.stack((np.cos(angles), np.sin(angles)))
    u, v = hull @ along, hull @ np.stack((-along[1], along[0]))
    return float((np.ptp(u, axis=0) * np.ptp(v, axis=0)).min())


def _hull(points: Points) -> Points:
    """Convex hull, Andrew's monotone chain."""
    ordered = np.unique(points, axis=0).tolist()

    def half(line: list[list[float]]) -> list[list[float]]:
        chain: list[list[float]] = []
        for x, y in line:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append([x, y])
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]), np.float64)
