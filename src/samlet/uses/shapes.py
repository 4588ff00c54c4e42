"""Masks chosen by their size, taken apart into what hangs together, and rid of their holes."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from samlet.components import label
from samlet.errors import InputError
from samlet.masks import Masks, StoredMasks
from samlet.runs import Runs, runs_of_labels, union
from samlet.uses.plain import runs_of, stored

Kind = TypeVar("Kind", bound=Masks)


def by_size(
    masks: Kind,
    *,
    min_area: float | None = None,
    max_area: float | None = None,
    min_share: float | None = None,
    max_share: float | None = None,
) -> Kind:
    """Keep the masks whose size lies within every bound given; bounds are included.

    Args:
        masks: One mask a prompt.
        min_area: Fewest pixels.
        max_area: Most pixels.
        min_share: Least part of the picture, 0 to 1.
        max_share: Largest part of the picture, 0 to 1.

    Returns:
        The masks kept, in their order and of the kind they were.

    Raises:
        InputError: A bound is negative or not a number, a share is above 1, or the prompts still have several
            candidates.

    Example:
        >>> both = [{"size": [1, 4], "counts": [0, 3, 1]}, {"size": [1, 4], "counts": [1, 1, 2]}]
        >>> by_size(StoredMasks.of(both, [0.9, 0.5], (1, 4)), max_share=0.5).scores.tolist()
        [0.5]
    """
    shares, bounds = (min_share, max_share), (min_area, max_area, min_share, max_share)
    if not all(bound is None or bound >= 0 for bound in bounds) or any((bound or 0) > 1 for bound in shares):
        raise InputError(
            f"expected areas of 0 or more pixels and shares from 0 to 1, got {bounds}; correct the bounds"
        )
    height, width = masks.frame.image_hw
    areas = np.array([runs.area for runs in runs_of(masks)], np.int64)
    keep = np.ones(len(masks), np.bool_)
    for low, high, unit in ((min_area, max_area, 1), (min_share, max_share, height * width)):
        keep &= (areas >= (low or 0) * unit) & (areas <= (np.inf if high is None else high * unit))
    return masks[keep]


def disjoint_parts(masks: Masks, *, min_area: int = 1) -> StoredMasks:
    """Make a mask of its own of each connected part of the masks; pixels that touch at a corner are connected.

    Args:
        masks: One mask a prompt.
        min_area: Smaller parts are dropped, in pixels.

    Returns:
        The parts, of each mask the largest first, with score and facts of their masks and the fact "mask" (N,)
        int64, the row of the mask that each belonged to.

    Raises:
        InputError: The prompts still have several candidates.

    Example:
        >>> masks = StoredMasks.of([{"size": [1, 6], "counts": [0, 1, 1, 3, 1]}], [0.5], (1, 6))
        >>> parts = disjoint_parts(masks)
        >>> parts.areas.tolist(), parts.facts["mask"].tolist()
        ([3, 1], [0, 0])
    """
    found: list[Runs] = []
    rows: list[int] = []
    for row, runs in enumerate(runs_of(masks)):
        parts = [part for part in _parts(runs) if part.area >= min_area]
        found += sorted(parts, key=lambda part: -part.area)
        rows += [row] * len(parts)
    source = stored(masks)[np.array(rows, np.int64)]
    facts = {**source.facts, "mask": np.array(rows, np.int64)}
    return _with_runs(source, found, facts)


def filled(masks: Masks, *, max_area: float | None = None) -> StoredMasks:
    """Fill the holes of masks: background that the mask encloses on all sides.

    Background that reaches the border of the picture is no hole; background that gets out through a corner between
    two pixels is none either.

    Args:
        masks: One mask a prompt.
        max_area: Larger holes stay, in pixels; None fills all.

    Returns:
        The masks in their order.

    Raises:
        InputError: The prompts still have several candidates.

    Example:
        >>> ring = {"size": [3, 3], "counts": [0, 4, 1, 4]}
        >>> filled(StoredMasks.of([ring], [0.5], (3, 3))).areas.tolist()
        [9]
    """
    most = np.inf if max_area is None else max_area
    return _with_runs(stored(masks), [_filled(runs, most) for runs in runs_of(masks)], None)


def _with_runs(
    source: StoredMasks, runs: list[Runs], facts: dict[str, NDArray[np.int64]] | None
) -> StoredMasks:
    return StoredMasks.of(
        [one.rle() for one in runs],
        source.scores,
        source.frame.image_hw,
        image=source.image,
        facts=source.facts if facts is None else facts,
    )


def _in_box(runs: Runs, work: Callable[[NDArray[np.bool_]], list[Runs]]) -> list[Runs]:
    """Work on the painted box of a mask, and put what comes back into its place."""
    if not len(runs):
        return []
    box = runs.box
    return [part.moved(box[0], box[1], runs.image_hw) for part in work(runs.cut(box).mask())]


def _parts(runs: Runs) -> list[Runs]:
    def split(inside: NDArray[np.bool_]) -> list[Runs]:
        numbers, areas = label(inside)
        return runs_of_labels(numbers, len(areas))

    return _in_box(runs, split)


def _filled(runs: Runs, most: float) -> Runs:
    def holes(inside: NDArray[np.bool_]) -> list[Runs]:
        numbers, areas = label(np.pad(~inside, 1, constant_values=True))
        outside = numbers[0, 0]  # the rim around the box
        small = np.concatenate(([False], areas <= most))
        small[outside] = False
        return [Runs.of_mask(small[numbers[1:-1, 1:-1]])]

    return union([runs, *_in_box(runs, holes)])
