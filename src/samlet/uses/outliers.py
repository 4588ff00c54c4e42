"""Regions unlike the others: candidates for a person to look at, by rule of thumb."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.image import Image
from samlet.masks import Masks
from samlet.uses.looks import looks

_TO_SIGMA = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
# Least spread in which deviations are measured, so that the noise of equal things is no anomaly: a tenth in area, a
# just visible difference in colour.
_LEAST = {"size": 0.1, "color": 2.0, "contrast": 2.0}


class Anomalies(NamedTuple):
    """Regions that differ from the others, most different first.

    Attributes:
        rows: (K,) int64, which masks.
        scores: (K,) float64, by how many standard deviations.
        reasons: In what each differs most: "size", "color" or "contrast" (how it stands out from what is around it).
        all_scores: (N,) float64, of every mask in their order.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    reasons: tuple[str, ...]
    all_scores: NDArray[np.float64]


def anomalies(masks: Masks, image: Image | None = None, *, least: float = 3.5) -> Anomalies:
    """Find regions that are unlike most others in size or colour. A heuristic.

    Made for many things of one kind, such as parts on a belt or cells under a microscope: drop backgrounds and parts
    of things first (`by_size`, `without_overlaps`). Deviations are measured from the median in robust standard
    deviations (median absolute deviation), so that a few odd ones do not hide each other; size on a logarithmic
    scale. Fewer than three masks have no "others": all their scores are 0.

    Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993), advise the bound of 3.5.

    Args:
        masks: One mask a prompt.
        image: The picture; not needed for masks that came with it.
        least: Least deviation that counts, in standard deviations, 0 or more.

    Returns:
        The odd ones.

    Raises:
        InputError: `least` is negative, there is no picture or one of another size, or the prompts still have
            several candidates.

    Example:
        >>> from samlet.masks import StoredMasks
        >>> bars = [{"size": [1, 40], "counts": [start, length, 40 - start - length]}
        ...         for start, length in ((0, 3), (5, 3), (10, 3), (15, 20))]
        >>> photo = Image.load(np.full((1, 40, 3), 90, np.uint8))
        >>> found = anomalies(StoredMasks.of(bars, [1.0] * 4, (1, 40)), photo)
        >>> found.rows.tolist(), found.reasons
        ([3], ('size',))
    """
    if not least >= 0:
        raise InputError(f"expected a least deviation of 0 or more, got {least}; 3.5 is the default")
    seen = looks(masks, image)
    size = np.log(np.maximum(seen.share * np.prod(masks.frame.image_hw), 1.0))
    middle = np.median(seen.color, axis=0) if len(masks) else np.zeros(3)
    features = {
        "size": size,
        "color": np.sqrt(((seen.color - middle) ** 2).sum(axis=1)),
        "contrast": seen.contrast,
    }
    deviations = np.array([_deviations(values, _LEAST[name]) for name, values in features.items()])
    # Being nearer to the common colour than the others is nothing odd.
    deviations[1] = (
        np.where(features["color"] > np.median(features["color"]), deviations[1], 0) if len(masks) else 0
    )
    scores = deviations.max(axis=0, initial=0.0)
    order = np.argsort(-scores, kind="stable")
    rows = order[scores[order] >= least]
    names = list(features)
    reasons = tuple(names[number] for number in deviations[:, rows].argmax(axis=0).tolist())
    return Anomalies(rows, scores[rows], reasons, scores)


def _deviations(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    if len(values) < 3:
        return np.zeros(len(values))
    away = np.abs(values - np.median(values))
    return np.asarray(away / max(_TO_SIGMA * float(np.median(away)), least), np.float64)
