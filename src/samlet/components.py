"""Connected parts of masks, found on run-length codes: a mask is never painted to be cleaned of specks.

Parts are 8-connected: pixels that touch at a corner belong together. Runs of neighbouring lines that touch are
joined by a union-find in numpy, whose work grows with the outline of a mask and not with its area.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.rle import Rle, checked_mask, mask_runs

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """Straight pieces of a mask, column by column and from top to bottom, none longer than its column.

    Attributes:
        start: (R,) index of the first pixel in the mask read column by column.
        stop: (R,) index after the last pixel.
        height: Length of a column.
    """

    start: Ints
    stop: Ints
    height: int

    @classmethod
    def of(cls, counts: Ints, height: int, *, inside: bool) -> Self:
        """Take the foreground or the background of a code apart, and cut runs where a column ends."""
        ends = np.cumsum(counts)
        begins = ends - counts
        chosen = slice(1, None, 2) if inside else slice(0, None, 2)
        begins, ends = begins[chosen], ends[chosen]
        begins, ends = begins[ends > begins], ends[ends > begins]
        columns = (ends - 1) // height - begins // height + 1  # columns that a run lies in
        owner = np.repeat(np.arange(len(begins)), columns)
        which = np.arange(int(columns.sum())) - np.repeat(np.cumsum(columns) - columns, columns)
        top = (begins[owner] // height + which) * height
        return cls(np.maximum(begins[owner], top), np.minimum(ends[owner], top + height), height)

    @property
    def column(self) -> Ints:
        return self.start // self.height


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], Ints]:
    """Number the 8-connected parts of a mask.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        (H, W) numbers, 0 outside and 1 to P inside, counted in reading order of blocks of 2 x 2 pixels; and the
        (P,) areas in pixels.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> label(np.array([[1, 0, 1], [0, 0, 1]], bool))[1].tolist()
        [1, 2]
    """
    inside = checked_mask(mask)
    height, width = inside.shape
    runs = _Runs.of(mask_runs(inside), height, inside=True)
    part, areas = _parts(runs)
    flat = np.zeros(height * width, np.int32)
    lengths = runs.stop - runs.start
    steps = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    flat[np.repeat(runs.start, lengths) + steps] = np.repeat(part + 1, lengths)
    return np.ascontiguousarray(flat.reshape(width, height).T), areas


def without_small_parts(
    rle: Rle | Mapping[str, Any], min_area: float, *, what: Literal["holes", "islands"]
) -> tuple[Rle, bool]:
    """Fill the small holes of a mask, or wipe out its small islands.

    Background that reaches the border of the picture counts as a hole too, as in SAM. If all islands are small
    the largest stays (of equal ones the first).

    Args:
        rle: Plain run lengths.
        min_area: Parts with fewer pixels are small.
        what: "holes" or "islands".

    Returns:
        The code, the same one if nothing was small, and whether anything was.

    Raises:
        InputError: `what` is something else.

    Example:
        >>> without_small_parts({"size": [1, 5], "counts": [0, 2, 1, 2]}, 2, what="holes")[0]["counts"]
        [0, 5]
    """
    if what not in ("holes", "islands"):
        raise InputError(f"expected 'holes' or 'islands', got {what!r}; choose one of the two")
    height, width = rle["size"]
    counts = np.asarray(rle["counts"], np.int64)
    changed = _cleaned(counts, height, min_area, holes=what == "holes")
    if changed is None:
        return Rle(size=[height, width], counts=rle["counts"]), False
    return Rle(size=[height, width], counts=changed.tolist()), True


def _cleaned(counts: Ints, height: int, min_area: float, *, holes: bool) -> Ints | None:
    runs = _Runs.of(counts, height, inside=not holes)
    part, areas = _parts(runs)
    small = areas < min_area
    if not small.any():
        return None
    if not holes and small.all():
        small[int(np.argmax(areas))] = False
    kept = ~small[part]
    total = int(counts.sum())
    bounds = _joined(runs.start[kept], runs.stop[kept])
    # Between the bounds lie the kept runs in turn with the rest; which of the two comes first is settled here.
    edges = np.concatenate(([0], bounds, [total]))
    lengths = np.diff(edges)
    if holes:  # what is kept is background, and a code begins with background
        lengths = lengths[1:] if lengths[0] == 0 else np.concatenate(([0], lengths))
    return lengths[:-1] if lengths[-1] == 0 and len(lengths) > 1 else lengths


def _joined(start: Ints, stop: Ints) -> Ints:
    """Give starts and stops in turn, where a run that begins at the end of the one before continues it."""
    open_start = np.concatenate(([True], start[1:] != stop[:-1])) if len(start) else np.zeros(0, bool)
    open_stop = np.concatenate((open_start[1:], [True])) if len(start) else open_start
    return np.stack((start[open_start], stop[open_stop]), axis=1).ravel()


def _parts(runs: _Runs) -> tuple[Ints, Ints]:
    """Number of the part of each run, and the area of each part."""
    if not len(runs.start):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    root = _roots(*_touching(runs), len(runs.start))
    _, part = np.unique(root, return_inverse=True)
    lengths = runs.stop - runs.start
    count = int(part.max()) + 1
    areas = np.bincount(part, lengths, count).astype(np.int64)
    # Of equally large islands the first is kept, and the reference counts them by blocks of 2 x 2 pixels.
    block = (runs.start % runs.height // 2) * (int(runs.column[-1]) // 2 + 1) + runs.column // 2
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, part, block)
    order = np.argsort(first, kind="stable")
    number = np.empty(count, np.int64)
    number[order] = np.arange(count)
    return number[part], areas[order]


def _touching(runs: _Runs) -> tuple[Ints, Ints]:
    """Pairs of runs in neighbouring columns that share an edge or a corner."""
    # On a line on which each column has two spare places at its end, a run of one column touches the runs of the
    # column before it in a stretch that two searches find: those that end at or after its start (corners count)
    # and start at or before its end.
    row = runs.column * (runs.height + 2)
    start, stop = row + runs.start % runs.height, row + runs.start % runs.height + runs.stop - runs.start
    back = runs.height + 2
    low = np.searchsorted(stop, start - back, side="left")
    high = np.searchsorted(start, stop - back, side="right")
    counts = np.maximum(high - low, 0)
    right = np.repeat(np.arange(len(start)), counts)
    left = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + low[right]
    return left, right


def _roots(a: Ints, b: Ints, count: int) -> Ints:
    """Give each of `count` things the lowest number among those it is linked to, directly or not."""
    root = np.arange(count)
    while len(a):
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:  # let every chain point at its end
            further = root[root]
            if np.array_equal(further, root):
                break
            root = further
        a, b = root[a], root[b]
        apart = a != b
        a, b = a[apart], b[apart]
    return root
