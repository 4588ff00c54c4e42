"""The figures of salient-object detection: mean absolute error, largest F-measure, and S-measure.

A map says for each pixel how much it belongs to the object that a picture is of, 0..1; a mask is a map of two values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BETA_SQUARED = 0.3
"""Weight of precision in F, as the field has it."""

LEVELS = 256
"""A map is cut at 0/255, 1/255, ..., 255/255."""

_ALPHA = 0.5  # how much of the S-measure is about the object, the rest about regions
_TINY = np.finfo(np.float64).eps

Map = NDArray[np.floating]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SaliencyScores:
    """The figures of one picture.

    Attributes:
        mae: Mean absolute error, 0..1, less is better.
        f: (256,) F-measure of the map cut at each level.
        s: S-measure, 0..1.
    """

    mae: float
    f: Floats
    s: float


@dataclass(frozen=True, slots=True)
class SaliencySummary:
    """The figures of a set: means over pictures; F at the one level where its mean is largest."""

    mae: float
    max_f: float
    mean_f: float
    s: float


def score(saliency: Map, truth: NDArray[np.bool_]) -> SaliencyScores:
    """Compare a map with the object.

    Args:
        saliency: 0..1, (H, W).
        truth: The object, bool (H, W).

    Example:
        >>> truth = np.array([[True, False]])
        >>> found = score(np.array([[1.0, 0.0]]), truth)
        >>> found.mae, float(found.f.max()), float(found.s)
        (0.0, 1.0, 1.0)
    """
    values = np.asarray(saliency, np.float64)
    return SaliencyScores(
        float(np.abs(values - truth).mean()), f_curve(values, truth), s_measure(values, truth)
    )


def summarise_saliency(scores: Sequence[SaliencyScores]) -> SaliencySummary:
    """Average over pictures."""
    curve = np.mean([one.f for one in scores], axis=0)  # (256,)
    return SaliencySummary(
        mae=float(np.mean([one.mae for one in scores])),
        max_f=float(curve.max()),
        mean_f=float(curve.mean()),
        s=float(np.mean([one.s for one in scores])),
    )


def f_curve(saliency: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Give F at each level: (1 + b) P R / (b P + R) with b = 0.3; 0 where nothing right is left.

    Args:
        saliency: 0..1, (H, W).
        truth: Bool (H, W).

    Returns:
        (256,), the lowest level first; at level 0 the whole picture is the answer.
    """
    levels = np.clip(np.rint(saliency * (LEVELS - 1)), 0, LEVELS - 1).astype(np.int64)
    right = _reaching(levels[truth])
    claimed = _reaching(levels.ravel())
    precision = right / np.maximum(claimed, 1)
    recall = right / max(int(np.count_nonzero(truth)), 1)
    below = BETA_SQUARED * precision + recall
    return np.asarray((1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1))


def _reaching(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(levels, minlength=LEVELS)[::-1].cumsum()[::-1]


def s_measure(saliency: Floats, truth: NDArray[np.bool_]) -> float:
    """Give the structure measure; Fan et al., "Structure-measure" (2017).

    Half of it says how bright and even the map is on the object and how dark and even beside it, half how alike map
    and truth are in the four rectangles that meet in the object's middle.

    Args:
        saliency: 0..1, (H, W).
        truth: Bool (H, W); with nothing in it the measure is how dark the map is, with everything how bright.

    Returns:
        0..1.
    """
    share = float(truth.mean())
    if share in (0.0, 1.0):
        mean = float(saliency.mean())
        return mean if share else 1 - mean
    whole = share * _evenness(saliency[truth]) + (1 - share) * _evenness(1 - saliency[~truth])
    return max(0.0, _ALPHA * whole + (1 - _ALPHA) * _regions(saliency, truth))


def _evenness(values: Floats) -> float:
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + spread + _TINY)


def _regions(saliency: Floats, truth: NDArray[np.bool_]) -> float:
    rows, columns = np.nonzero(truth)
    y, x = (int(np.rint(places.mean())) + 1 for places in (rows, columns))
    total = 0.0
    for down in (slice(0, y), slice(y, None)):
        for across in (slice(0, x), slice(x, None)):
            part = truth[down, across]
            if part.size:
                total += part.size / truth.size * _likeness(saliency[down, across], part.astype(np.float64))
    return total


def _likeness(first: Floats, second: Floats) -> float:
    """Structural similarity of two rectangles as a whole."""
    x, y = float(first.mean()), float(second.mean())
    count = first.size - 1 + _TINY
    spreads = float(((first - x) ** 2).sum() / count + ((second - y) ** 2).sum() / count)
    common = float(((first - x) * (second - y)).sum() / count)
    above, below = 4 * x * y * common, (x * x + y * y) * spreads
    if above != 0:
        return above / (below + _TINY)
    return 1.0 if below == 0 else 0.0
