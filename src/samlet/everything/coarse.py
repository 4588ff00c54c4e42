"""Coarse clicks first, finer ones only where those round them do not agree.

TinySAM (Shu et al. 2023, section 3.4) leaves out clicks that fall into a mask which is sure already. A model whose
large masks are as sure as its small ones then never looks at what lies inside them. Here a click is left out if the
clicks round it were answered alike: what all of them saw would only be seen once more.
"""

import numpy as np
from numpy.typing import NDArray

from samlet.everything.candidates import Candidates, Shape
from samlet.everything.finder import Crop
from samlet.everything.pack import Packed

COARSE = 4
"""How coarse the first round of hierarchical everything mode is if nobody says otherwise."""

ALIKE = (0.15, 0.5, 0.6, 0.7)
"""Agreement of the clicks round a click from which on it is left out: in the last round, the one before, and so on. The
nearer they are, the less is to be found between them. Chosen on held-out pictures (docs/explanation/everything.md)."""

_AROUND = 4  # clicks that have to agree
_SIDE = 64  # masks are compared on at most so many cells a side


def rounds(points: NDArray[np.float64], step: int) -> list[tuple[NDArray[np.float64], float]]:
    """Split a grid of clicks into rounds, each twice as dense as all before it.

    Args:
        points: (N, 2), x fastest. Of a square grid every `step`-th click of each line comes first, then those in the
            middle of the squares between them, then those in the middle of the squares that are left, and so on;
            anything else is thinned along its order.
        step: How coarse the first round is; 1 asks all at once.

    Returns:
        The rounds, none of them empty, which together are the grid, each with its bound for `doubtful`.

    Example:
        >>> [(len(one), alike) for one, alike in rounds(np.arange(128.0).reshape(64, 2), 4)]
        [(4, 0.7), (4, 0.7), (8, 0.6), (16, 0.5), (32, 0.15)]
    """
    number = np.arange(len(points))
    side = round(len(points) ** 0.5)
    column, row = (number % side, number // side) if side * side == len(points) else (number, number)
    start = (step - 1) // 2  # so that the coarse grid lies in the middle, not in a corner
    lattices = [(step, start)]
    while step > 1:
        half = step // 2
        lattices += [(step, start + half), (half, start)]
        step = half
    left = np.ones(len(points), np.bool_)
    taken: list[NDArray[np.float64]] = []
    for spacing, first in lattices:
        chosen = left & (column % spacing == first % spacing) & (row % spacing == first % spacing)
        left &= ~chosen
        taken.append(points[chosen])
    taken = [some for some in taken if len(some)]
    bounds = [ALIKE[min(number, len(ALIKE) - 1)] for number in range(len(taken))]
    return list(zip(taken, reversed(bounds), strict=True))


def doubtful(
    points: NDArray[np.float64], asked: NDArray[np.float64], found: Candidates, crop: Crop, *, alike: float
) -> NDArray[np.bool_]:
    """Tell which clicks are worth asking: those where the nearest clicks asked so far were answered differently.

    Two clicks agree as far as the masks of each, in the mean, find their like among the other's: 1 if all of them do,
    0 if none does or one of the clicks has no mask. A click is doubtful if any two of the four nearest agree by less
    than `alike`.

    Args:
        points: (N, 2) in the crop's pixels.
        asked: (M, 2) likewise, the clicks asked so far.
        found: Their masks, packed, whatever their scores.
        crop: Where it lies.
        alike: From 0, nothing is doubtful, to above 1, everything is.

    Returns:
        (N,) bool; all of them if fewer than four clicks have been asked.
    """
    if len(asked) < _AROUND:
        return np.ones(len(points), np.bool_)
    distance = np.square(points[:, None] - asked[None]).sum(axis=2)  # (N, M)
    near = np.argsort(distance, axis=1, kind="stable")[:, :_AROUND]
    first, second = np.triu_indices(_AROUND, 1)
    pairs = np.stack((near[:, first], near[:, second]), axis=-1).reshape(-1, 2)
    several, place = np.unique(pairs, axis=0, return_inverse=True)
    shared = _agreement(several, _rows(asked + np.array(crop.box[:2]), found.points), _overlaps(found.shapes))
    return np.asarray(shared[place.ravel()].reshape(len(points), -1).min(axis=1) < alike)


def _rows(asked: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the masks of each click: (M, most masks of a click) row numbers, -1 where there are fewer."""
    _, number = np.unique(np.concatenate((asked, points)), axis=0, return_inverse=True)
    clicks, masks = number.ravel()[: len(asked)], number.ravel()[len(asked) :]
    order = np.argsort(masks, kind="stable")
    first, last = (np.searchsorted(masks[order], clicks, side=side) for side in ("left", "right"))
    rows = np.full((len(asked), int((last - first).max(initial=0))), -1, np.int64)
    for click, (start, end) in enumerate(zip(first, last, strict=True)):
        rows[click, : end - start] = order[start:end]
    return rows


def _overlaps(shapes: tuple[Shape, ...]) -> NDArray[np.float32]:
    """Compare all masks on a coarse grid: (K, K) IoU."""
    maps = np.array([_thinned(shape).ravel() for shape in shapes if isinstance(shape, Packed)], np.float32)
    if not maps.size:
        return np.zeros((len(shapes), len(shapes)), np.float32)
    both, areas = maps @ maps.T, maps.sum(axis=1)
    return np.asarray(both / np.maximum(areas[:, None] + areas - both, 1), np.float32)


def _thinned(shape: Packed) -> NDArray[np.bool_]:
    """Take every so-manieth cell of a mask."""
    inside = np.zeros(shape.grid_hw, np.bool_)
    (top, left), (height, width) = shape.corner, shape.codes.shape
    inside[top : top + height, left : left + width] = shape.codes > 0
    cell = max(1, -(-max(shape.grid_hw) // _SIDE))
    return inside[cell // 2 :: cell, cell // 2 :: cell]


def _agreement(
    pairs: NDArray[np.int64], rows: NDArray[np.int64], overlaps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Tell how far pairs of clicks (P, 2) agree: (P,) from 0 to 1."""
    if not rows.shape[1]:
        return np.zeros(len(pairs), np.float32)
    one, other = rows[pairs[:, 0]], rows[pairs[:, 1]]  # (P, masks of a click)
    there = (one >= 0)[:, :, None] & (other >= 0)[:, None, :]
    alike = np.where(there, overlaps[one[:, :, None], other[:, None, :]], 0)
    means = [
        alike.max(axis=axis).sum(axis=1) / np.maximum((masks >= 0).sum(axis=1), 1)
        for axis, masks in ((2, one), (1, other))
    ]
    return np.asarray(np.minimum(*means), np.float32)
