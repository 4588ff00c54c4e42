"""What happens at the seams: masks that two tiles cut apart become one again, and leftovers go.

Two tiles see the strip they share both. A mask that the border of one tile cut has a partner in the other that looks
the same within the strip; partners are joined, along as many seams as it takes.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from samlet.runs import distinct, union
from samlet.tiling.layout import Layout, Seam
from samlet.tiling.pieces import WHOLE, Pieces, chained

SAME = 0.5
"""Least overlap (IoU) of two masks within a strip that makes them partners."""

RIM = 2
"""A mask that comes so near to its tile's border, in pixels, counts as cut: networks end theirs a little early."""


def joined(pieces: Pieces, layout: Layout) -> Pieces:
    """Join the masks of all tiles across the seams.

    What is joined has the mean score and facts of its parts, weighted by their areas. A mask that still ends at a
    seam goes if it lies in another tile completely: that one saw it whole, and either has it or did not take it
    for a thing.

    Args:
        pieces: What the tiles found.
        layout: The tiles.

    Returns:
        Masks whose `cut` holds only for sides without partner.
    """
    links: list[tuple[int, int]] = []
    open_sides = pieces.cut.copy()
    for seam in layout.seams():
        for a, b in _partners(pieces, seam):
            links.append((a, b))
            open_sides[a, seam.side] = open_sides[b, seam.side - 2] = False
    groups = _groups(links, len(pieces))
    alone = np.array([number for number, group in enumerate(groups) if len(group) == 1], np.int64)
    single = pieces.take(np.array([groups[number][0] for number in alone.tolist()], np.int64))
    together = [_one_of(pieces, group, open_sides) for group in groups if len(group) > 1]
    everyone = chained([single, *together])
    return everyone.take(~(everyone.is_cut & _seen_whole(everyone, layout)))


def suppressed(pieces: Pieces, iou: float) -> Pieces:
    """Drop each mask that overlaps a better one too much: complete ones before cut ones, then by score.

    Masks that tiles found come before those of the look at the whole picture, whose outlines are coarser.

    Args:
        pieces: The masks.
        iou: Largest overlap of masks that stays.

    Returns:
        The survivors, in their order.
    """
    rank = np.lexsort((-pieces.scores, pieces.tile == WHOLE, pieces.is_cut))
    return pieces.take(np.sort(distinct(pieces.runs, rank.tolist(), iou)))


def without_glimpses(pieces: Pieces) -> Pieces:
    """Drop masks that end at a seam and are what a more complete mask looks like from there.

    Args:
        pieces: The masks.

    Returns:
        The others, in their order.
    """
    alive = np.ones(len(pieces), np.bool_)
    rank = np.lexsort((-pieces.areas, pieces.is_cut))  # complete ones first, then the larger
    place = np.empty(len(pieces), np.int64)
    place[rank] = np.arange(len(pieces))
    for row in np.flatnonzero(pieces.is_cut).tolist():
        enough = _shared_boxes(pieces.boxes, pieces.boxes[row]) >= SAME * pieces.areas[row]
        view, own = pieces.view[row], pieces.runs[row].cut(pieces.view[row])
        others = np.flatnonzero(enough & (place < place[row])).tolist()
        alive[row] = all(pieces.runs[other].cut(view).iou(own) < SAME for other in others)
    return pieces.take(alive)


def _partners(pieces: Pieces, seam: Seam) -> Iterator[tuple[int, int]]:
    """Find the pairs that the seam cuts and that are each other's best within the strip."""
    first = np.flatnonzero((pieces.tile == seam.first) & pieces.cut[:, seam.side])
    second = np.flatnonzero((pieces.tile == seam.second) & pieces.cut[:, seam.side - 2])
    if not len(first) or not len(second):
        return
    within = {row: pieces.runs[row].cut(seam.strip) for row in np.concatenate((first, second)).tolist()}
    boxes = np.array([within[row].box for row in second.tolist()], np.int64)
    overlaps = np.zeros((len(first), len(second)))
    for row, number in enumerate(first.tolist()):
        part = within[number]
        for column in np.flatnonzero(_shared_boxes(boxes, np.array(part.box)) > 0).tolist():
            overlaps[row, column] = part.iou(within[int(second[column])])
    best = overlaps.argmax(axis=1)
    for row, column in enumerate(best.tolist()):
        if overlaps[row, column] >= SAME and overlaps[:, column].argmax() == row:
            yield int(first[row]), int(second[column])


def _groups(links: list[tuple[int, int]], count: int) -> list[list[int]]:
    """Collect what is linked, directly or not; groups and members in rising order."""
    root = list(range(count))

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = number = root[root[number]]
        return number

    for a, b in links:
        low, high = sorted((find(a), find(b)))
        root[high] = low
    groups: dict[int, list[int]] = {}
    for number in range(count):
        groups.setdefault(find(number), []).append(number)
    return list(groups.values())


def _one_of(pieces: Pieces, group: list[int], open_sides: NDArray[np.bool_]) -> Pieces:
    """Make one mask of partners."""
    rows = np.array(group, np.int64)
    weights = pieces.areas[rows] / pieces.areas[rows].sum()
    views = pieces.view[rows]
    one = Pieces.of(
        [union([pieces.runs[row] for row in group])],
        np.array([weights @ pieces.scores[rows]]),
        tile=int(pieces.tile[rows[0]]),
        view=np.concatenate((views[:, :2].min(axis=0), views[:, 2:].max(axis=0))),
        cut=np.any(open_sides[rows], axis=0, keepdims=True),
        facts={name: np.array([weights @ values[rows]]) for name, values in pieces.facts.items()},
    )
    one.count[0] = len(group)
    return one


def _seen_whole(pieces: Pieces, layout: Layout) -> NDArray[np.bool_]:
    """Tell which masks lie in some tile without reaching a side of it that is inside the picture."""
    seen = np.zeros(len(pieces), np.bool_)
    for number, box in enumerate(layout.boxes):
        rim = layout.inner_sides(number).astype(np.int64) * np.array((1, 1, -1, -1)) * (RIM + 1)
        x0, y0, x1, y1 = (box + rim).T
        left, top, right, bottom = pieces.boxes.T
        seen |= (left >= x0) & (top >= y0) & (right <= x1) & (bottom <= y1)
    return seen


def _shared_boxes(boxes: NDArray[np.int64], box: NDArray[np.int64]) -> NDArray[np.int64]:
    """Areas that boxes (N, 4) share with one box (4,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    return np.asarray(np.maximum(sides, 0).prod(axis=1))
