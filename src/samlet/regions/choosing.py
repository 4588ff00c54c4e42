"""Choosing among regions by points and by boxes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.errors import PromptError
from samlet.regions.coverage import NOTHING, Regions

_Clicks = tuple[NDArray[np.float64], NDArray[np.int64]]  # one object's points (K, 2) and labels (K,)

_FOREGROUND, _BACKGROUND = 1, 0


class Pick(NamedTuple):
    """What makes up the answer for one object, in painting order: later regions lie on top.

    Attributes:
        chosen: (S,) numbers of regions.
        adds: (S,) True where the region is painted in, False where it is cut out.
    """

    chosen: NDArray[np.int64]
    adds: NDArray[np.bool_]


def by_points(regions: Regions, points: Sequence[ArrayLike], labels: Sequence[ArrayLike]) -> list[Pick]:
    """Choose regions by clicks, for each of several objects.

    Larger regions are painted first. A region takes part if it holds a click of that object, and the last click
    that it holds decides whether it is painted in (foreground) or cut out (background). So a small region cuts a
    hole into a large one if its background click comes before the foreground click that keeps the large one.

    Args:
        regions: What there is to choose from.
        points: N objects, each (K, 2) clicks in picture pixels; an array (N, K, 2) or a list of different lengths.
        labels: N objects, each (K,) labels: 1 foreground, 0 background; others, such as -1, are passed over.

    Returns:
        One pick for each object, in order; an empty one where no region holds a foreground click.

    Raises:
        PromptError: Points and labels do not match in number.

    Example:
        >>> regions = Regions.of(np.array([[[1, 1]], [[0, 1]]], bool))
        >>> (pick,) = by_points(regions, [[[1.5, 0.5], [0.5, 0.5]]], [[0, 1]])
        >>> paint(regions, pick).tolist()
        [[True, False]]
    """
    if len(points) != len(labels):
        raise PromptError(
            f"expected labels for each of {len(points)} objects, got {len(labels)}; pass them in step"
        )
    order = np.argsort(-regions.areas, kind="stable")
    objects = [_clicks(*own) for own in zip(points, labels, strict=True)]
    hits = _hits(regions, objects)[order]
    picks = []
    for (_, kinds), inside in zip(objects, _parted(hits, objects), strict=True):
        if not inside.any():
            picks.append(_pick([], []))
            continue
        last = kinds.size - 1 - inside[:, ::-1].argmax(axis=1)
        hit = inside.any(axis=1)
        picks.append(_pick(order[hit], kinds[last[hit]] == _FOREGROUND))
    return picks


def by_boxes(regions: Regions, boxes: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose for each box the region whose mask overlaps it best.

    The overlap is that of the region's pixels with the whole box: pixels in the box over pixels of box and region
    together. Boxes are rounded to whole pixels and cut at the border of the picture first.

    Args:
        regions: What there is to choose from.
        boxes: (M, 4) as x0, y0, x1, y1 in picture pixels; left unchanged.

    Returns:
        (M,) number of the best region for each box, in order, the same one as often as it is best, and `NOTHING`
        where no region touches the box; and (M,) that overlap in [0, 1].

    Raises:
        PromptError: A box is not four finite numbers, or no pixel of it lies in the picture.

    Example:
        >>> regions = Regions.of(np.array([[[1, 1, 0, 0]], [[0, 0, 1, 0]]], bool))
        >>> by_boxes(regions, [[2, 0, 4, 1], [-3, 0, 2, 1]])[0].tolist()
        [1, 0]
    """
    whole = _whole_boxes(boxes, regions.image_hw)
    return _best_row(_overlaps(regions, whole))


def by_boxes_and_points(
    regions: Regions, boxes: ArrayLike, points: Sequence[ArrayLike], labels: Sequence[ArrayLike]
) -> NDArray[np.int64]:
    """Choose for each box, with clicks of its own, the region that agrees with most of the clicks.

    Among the regions that touch the box, one counts up for each foreground click that it holds and down for each
    background click; of equal ones the box decides, as in `by_boxes`.

    Args:
        regions: What there is to choose from.
        boxes: (M, 4), as in `by_boxes`.
        points: M objects, as in `by_points`.
        labels: M objects, as in `by_points`.

    Returns:
        (M,) numbers of regions, `NOTHING` where none touches the box.

    Raises:
        PromptError: A box has no pixel in the picture, or the parts do not match in number.
    """
    overlaps = _overlaps(regions, _whole_boxes(boxes, regions.image_hw))
    if not len(points) == len(labels) == overlaps.shape[1]:
        raise PromptError(
            f"expected points and labels for each of {overlaps.shape[1]} boxes, got {len(points)} and "
            f"{len(labels)}; pass them in step"
        )
    ranks = np.zeros_like(overlaps)
    objects = [_clicks(*own) for own in zip(points, labels, strict=True)]
    hits = _parted(_hits(regions, objects), objects)
    for column, ((_, kinds), inside) in enumerate(zip(objects, hits, strict=True)):
        votes = (inside * np.where(kinds == _FOREGROUND, 1, -1)).sum(axis=1)
        # An overlap is at most 1, so it only ever settles a draw; all ranks of touching regions are above 0.
        ranks[:, column] = 2 * (votes + kinds.size + 1) + overlaps[:, column]
    return _best_row(np.where(overlaps > 0, ranks, 0))[0]


def paint(regions: Regions, pick: Pick) -> NDArray[np.bool_]:
    """Paint the answer that a pick describes.

    Returns:
        (H, W).
    """
    mask = np.zeros(regions.image_hw, np.bool_)
    for index, adds in zip(pick.chosen, pick.adds, strict=True):
        mask[regions.mask(int(index))] = adds
    return mask


def _hits(regions: Regions, objects: Sequence[_Clicks]) -> NDArray[np.bool_]:
    """Ask all objects' clicks at once: (N, sum of K)."""
    return regions.contains(np.concatenate([np.zeros((0, 2)), *(clicks for clicks, _ in objects)]))


def _parted(hits: NDArray[np.bool_], objects: Sequence[_Clicks]) -> list[NDArray[np.bool_]]:
    """Give each object its own columns, (N, K)."""
    ends = np.cumsum([len(kinds) for _, kinds in objects])
    return np.split(hits, ends[:-1], axis=1) if objects else []


def _clicks(points: ArrayLike, labels: ArrayLike) -> _Clicks:
    """One object's foreground and background clicks; padding is left out."""
    clicks = np.asarray(points, np.float64)
    kinds = np.asarray(labels)
    clicks = clicks.reshape(0, 2) if not clicks.size else clicks
    if clicks.ndim != 2 or clicks.shape[1] != 2 or kinds.shape != clicks.shape[:1]:
        raise PromptError(
            f"expected points (K, 2) with (K,) labels for each object, got {clicks.shape} with {kinds.shape}; "
            "give one label a point"
        )
    real = np.isin(kinds, (_FOREGROUND, _BACKGROUND))
    return clicks[real], kinds[real].astype(np.int64)


def _whole_boxes(boxes: ArrayLike, image_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Round boxes to whole pixels and cut them at the border, in a copy."""
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if not array.size else array
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise PromptError(
            f"expected finite boxes of shape (M, 4) as x0, y0, x1, y1, got shape {array.shape}; correct them"
        )
    height, width = image_hw
    whole = np.clip(np.rint(array), 0, (width, height, width, height)).astype(np.int64)
    thin = (whole[:, 2:] <= whole[:, :2]).any(axis=1)
    if thin.any():
        shown = ", ".join(f"{value:g}" for value in array[thin][0])
        raise PromptError(
            f"expected boxes of at least one pixel in the picture of {width} x {height} (width x height), got "
            f"({shown}); give x0, y0, x1, y1 in its pixels"
        )
    return whole


def _overlaps(regions: Regions, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each region's pixels with each box, (N, M)."""
    inside = regions.inside_boxes(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    union = sides[:, 0] * sides[:, 1] + regions.areas[:, None] - inside  # at least the box, so above 0
    return np.asarray(inside / union, np.float64)


def _best_row(ranks: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the highest rank of each column and the row it is in; `NOTHING` for a column without any above 0."""
    if not len(ranks):
        return np.full(ranks.shape[1], NOTHING, np.int64), np.zeros(ranks.shape[1])
    highest = ranks.max(axis=0)
    return np.where(highest > 0, ranks.argmax(axis=0), NOTHING), highest


def _pick(chosen: ArrayLike, adds: ArrayLike) -> Pick:
    return Pick(np.asarray(chosen, np.int64), np.asarray(adds, np.bool_))
