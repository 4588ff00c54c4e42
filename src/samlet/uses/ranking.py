"""Object proposals: ranked boxes, as detectors and their evaluation want them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.geometry import nms
from samlet.masks import Masks
from samlet.uses.plain import runs_of


class Proposals(NamedTuple):
    """Boxes that may hold an object, best first.

    Attributes:
        boxes_xyxy: (K, 4) float64 in picture pixels, ends exclusive.
        scores: (K,) float32.
        rows: (K,) int64, the mask that each box is from.
    """

    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]


def proposals(masks: Masks, *, top: int | None = None, iou: float = 0.9) -> Proposals:
    """Rank the boxes of masks by score, without doubles.

    Args:
        masks: One mask a prompt; empty ones propose nothing.
        top: Most boxes; None gives all.
        iou: A box that overlaps a better one by more is a double, 0 to 1; 1 keeps all.

    Returns:
        The boxes, best score first.

    Raises:
        InputError: `top` is below 0, `iou` is out of range, or the prompts still have several candidates.

    Example:
        >>> from samlet.masks import StoredMasks
        >>> both = [{"size": [1, 3], "counts": [0, 3]}, {"size": [1, 3], "counts": [1, 1, 1]}]
        >>> proposals(StoredMasks.of(both, [0.5, 0.75], (1, 3))).boxes_xyxy.tolist()
        [[1.0, 0.0, 2.0, 1.0], [0.0, 0.0, 3.0, 1.0]]
    """
    if (top is not None and top < 0) or not 0 <= iou <= 1:
        raise InputError(
            f"expected a number of proposals of 0 or more and an iou from 0 to 1, got {top} and {iou}; correct them"
        )
    runs = runs_of(masks)
    full = np.flatnonzero([len(one) > 0 for one in runs])
    boxes = np.array([runs[row].box for row in full.tolist()], np.float64).reshape(-1, 4)
    best = nms(boxes, masks.scores[full], iou)[:top]
    return Proposals(boxes[best], masks.scores[full[best]], full[best])
