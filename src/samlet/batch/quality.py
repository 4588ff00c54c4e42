"""How far a mask that a box was turned into can be trusted, from what is known without the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from samlet.masks import Masks


def rated(
    masks: Masks, asked_xyxy: Sequence[Sequence[float]], found_xywh: Sequence[Sequence[int]]
) -> list[dict[str, float]]:
    """Rate masks by themselves and by the boxes that they were made of.

    Args:
        masks: N masks, one candidate each.
        asked_xyxy: (N, 4) the boxes that were asked for, in picture pixels.
        found_xywh: (N, 4) x, y, width and height of the boxes around the masks, known from their run lengths.

    Returns:
        For each mask "stability" (SAM's stability score), "agreement" (overlap, as IoU, of the box around the mask with
        the box asked for) and "doubt", 1 minus the product of score, stability and agreement.

    Example:
        >>> from samlet.geometry import Frame
        >>> masks = Masks(np.full((1, 4, 4), 9.0), np.array([0.5]), Frame.fit((4, 4), 4))
        >>> rated(masks, [[0, 0, 4, 2]], [[0, 0, 4, 4]])
        [{'stability': 1.0, 'agreement': 0.5, 'doubt': 0.75}]
    """
    height, width = masks.frame.image_hw
    asked = np.clip(np.asarray(asked_xyxy, np.float64).reshape(-1, 4), 0, [width, height, width, height])
    found = np.asarray(found_xywh, np.float64).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    shared = np.clip(
        np.minimum(asked[:, 2:], found[:, 2:]) - np.maximum(asked[:, :2], found[:, :2]), 0, None
    ).prod(1)
    either = _area(asked) + _area(found) - shared
    agreement = np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)
    stability = masks.stability()
    doubt = 1 - np.clip(masks.scores, 0, 1) * stability * agreement
    return [
        {"stability": _short(a), "agreement": _short(b), "doubt": _short(c)}
        for a, b, c in zip(stability, agreement, doubt, strict=True)
    ]


def _area(boxes: Any) -> Any:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)


def _short(value: float) -> float:
    return round(float(value), 6)
