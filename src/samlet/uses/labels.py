"""Masks that do not overlap: one label for each pixel."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError, LimitError
from samlet.masks import Masks, StoredMasks
from samlet.runs import paint_labels, runs_of_labels
from samlet.uses.plain import runs_of, stored

OnTop = Literal["small", "score"]

_MOST = np.iinfo(np.uint16).max


def label_map(masks: Masks, *, on_top: OnTop = "small") -> NDArray[np.uint16]:
    """Give each pixel the number of one mask.

    Args:
        masks: One mask a prompt, at most 65,535.
        on_top: Which mask wins where several lie: the "small" one, so that parts show on the things they belong
            to, or the one with the best "score". Of equals the first.

    Returns:
        (H, W) uint16: 0 where no mask is, i + 1 for the i-th mask; `codecs.labels_to_png_bytes` writes it.

    Raises:
        InputError: There is no such rule, or the prompts still have several candidates.
        LimitError: There are too many masks.

    Example:
        >>> both = [{"size": [1, 3], "counts": [0, 3]}, {"size": [1, 3], "counts": [1, 1, 1]}]
        >>> masks = StoredMasks.of(both, [0.9, 0.5], (1, 3))
        >>> label_map(masks).tolist(), label_map(masks, on_top="score").tolist()
        ([[1, 2, 1]], [[1, 1, 1]])
    """
    if on_top not in ("small", "score"):
        raise InputError(f"expected on_top 'small' or 'score', got {on_top!r:.80}; choose one of the two")
    if len(masks) > _MOST:
        raise LimitError(
            f"expected at most {_MOST} masks in a map of labels, got {len(masks)}; filter them first"
        )
    runs = runs_of(masks)
    worth = -np.array([one.area for one in runs], np.float64) if on_top == "small" else masks.scores
    order = np.argsort(-worth, kind="stable")[::-1].tolist()
    labels: NDArray[np.uint16] = paint_labels(((row + 1, runs[row]) for row in order), masks.frame.image_hw)
    return labels


def without_overlaps(masks: Masks, *, on_top: OnTop = "small") -> StoredMasks:
    """Cut masks where others lie on top, so that no pixel belongs to two.

    Args:
        masks: One mask a prompt, at most 65,535.
        on_top: See `label_map`.

    Returns:
        The masks in their order, without those of which nothing is left.

    Raises:
        InputError: There is no such rule, or the prompts still have several candidates.
        LimitError: There are too many masks.

    Example:
        >>> both = [{"size": [1, 3], "counts": [0, 3]}, {"size": [1, 3], "counts": [1, 1, 1]}]
        >>> without_overlaps(StoredMasks.of(both, [0.9, 0.5], (1, 3))).areas.tolist()
        [2, 1]
    """
    parts = runs_of_labels(label_map(masks, on_top=on_top), len(masks))
    left = [row for row, runs in enumerate(parts) if len(runs)]
    before = stored(masks)[left]
    return StoredMasks.of(
        [parts[row].rle() for row in left],
        before.scores,
        before.frame.image_hw,
        image=before.image,
        facts=before.facts,
    )
