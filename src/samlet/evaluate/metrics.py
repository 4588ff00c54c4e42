"""The figures of the reports: overlap, clicks to quality, and how sure a mean is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError

BOOTSTRAP_ROUNDS = 2000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a column of figures comes down to.

    Attributes:
        mean: Mean over objects.
        median: Median over objects.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Its upper end.
        objects: Number of objects.
    """

    mean: float
    median: float
    low: float
    high: float
    objects: int


def iou(
    answer: NDArray[np.bool_], truth: NDArray[np.bool_], *, ignore: NDArray[np.bool_] | None = None
) -> float:
    """Give intersection over union of two masks.

    Args:
        answer: Bool (H, W).
        truth: Bool (H, W).
        ignore: Pixels left out of both, bool (H, W).

    Returns:
        0..1; 1 if both masks are empty.

    Example:
        >>> iou(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    both, either = answer & truth, answer | truth
    if ignore is not None:
        both, either = both & ~ignore, either & ~ignore
    union = int(np.count_nonzero(either))
    return int(np.count_nonzero(both)) / union if union else 1.0


def check_part(every: int, limit: int | None) -> None:
    """Refuse a part of a set that is no part.

    Raises:
        InputError: ``every`` or ``limit`` is below 1.
    """
    if every < 1 or (limit is not None and limit < 1):
        raise InputError(
            f"expected every and limit of 1 or more, got {every} and {limit}; "
            "leave them out to take everything"
        )


def clicks_to_reach(ious: Sequence[float], threshold: float, *, cap: int) -> tuple[int, bool]:
    """Count the clicks until an object is good enough (NoC).

    Args:
        ious: IoU after 1, 2, ... clicks.
        threshold: The IoU to reach, 0..1.
        cap: What an object counts that never gets there.

    Returns:
        The number of clicks, and whether the threshold was reached.

    Example:
        >>> clicks_to_reach([0.5, 0.82, 0.79], 0.8, cap=20)
        (2, True)
    """
    for count, value in enumerate(ious[:cap], start=1):
        if value >= threshold:
            return count, True
    return cap, False


def summarise(values: Sequence[float], pictures: Sequence[str]) -> Summary | None:
    """Summarise one figure over the objects of a set.

    The interval is a percentile bootstrap of the mean that draws whole pictures, because objects of one
    picture succeed and fail together. It is seeded: the same values give the same interval.

    Args:
        values: One figure for each object.
        pictures: The name of the picture each object is in.

    Returns:
        The summary, or None without objects.
    """
    if not values:
        return None
    array = np.asarray(values, np.float64)
    _, owner = np.unique(np.asarray(pictures), return_inverse=True)
    counts = np.bincount(owner)  # (P,) objects of each picture
    sums = np.bincount(owner, weights=array)  # (P,)
    random = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.empty(BOOTSTRAP_ROUNDS)
    for index in range(
        BOOTSTRAP_ROUNDS
    ):  # one draw at a time: all at once would be rounds x pictures numbers
        drawn = random.integers(0, len(counts), len(counts))
        means[index] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(means, (2.5, 97.5))
    return Summary(
        mean=float(array.mean()),
        median=float(np.median(array)),
        low=float(low),
        high=float(high),
        objects=len(array),
    )
