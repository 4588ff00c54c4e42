"""Where a patient person would click: in the middle of the object, then in the middle of the worst error."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.errors import MissingExtraError


def opencv() -> Any:
    """Import OpenCV, which only the evaluation needs.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise MissingExtraError(
            "expected OpenCV for the evaluation's clicks and baselines, but it is not installed; "
            "install it with pip install 'samlet[eval]'"
        ) from None
    return cv2


@dataclass(frozen=True, slots=True)
class Click:
    """A click in the middle of a pixel.

    Attributes:
        x: Column of the pixel, from 0.
        y: Row of the pixel, from 0.
        label: 1 for foreground, 0 for background.
        distance: How far the nearest pixel outside the region is, in pixels; 1 beside the region's edge.
    """

    x: int
    y: int
    label: int
    distance: float


def most_interior(
    region: NDArray[np.bool_], *, label: int = 1, taken: NDArray[np.bool_] | None = None
) -> Click | None:
    """Find the pixel of a region that is farthest from everything outside it.

    Distances are Euclidean and exact. The picture's edge counts as outside. Of several equally interior
    pixels the first in reading order is taken.

    Args:
        region: The pixels that belong to it, bool (H, W).
        label: The label of the click to make.
        taken: Pixels that may not be chosen, bool (H, W); they still belong to the region.

    Returns:
        The click, or None if there is no pixel to choose.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    window = (slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1))
    # Outside the region's box all is outside, so one ring of zeros stands for the rest of the picture and
    # its edge.
    padded = np.pad(region[window].astype(np.uint8), 1)
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    if taken is not None:
        distances = np.where(taken[window], 0.0, distances)
    row, column = divmod(int(distances.argmax()), distances.shape[1])
    distance = float(distances[row, column])
    return Click(x=left + column, y=top + row, label=label, distance=distance) if distance > 0 else None


def correction(
    answer: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    ignore: NDArray[np.bool_],
    taken: NDArray[np.bool_] | None = None,
) -> Click | None:
    """Choose the next click: the most interior pixel of what is missing or of what is too much.

    Of the two error regions the one with the deeper interior is clicked, what is missing (label 1) if they
    tie.

    Args:
        answer: The mask so far, bool (H, W).
        truth: The object without ignored pixels, bool (H, W).
        ignore: Pixels that are neither right nor wrong, bool (H, W).
        taken: Pixels clicked before, which are not clicked again, bool (H, W).

    Returns:
        The click, or None if nothing is wrong or every wrong pixel has been clicked.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    missing = most_interior(truth & ~answer, label=1, taken=taken)
    excess = most_interior(answer & ~truth & ~ignore, label=0, taken=taken)
    if missing is None or (excess is not None and excess.distance > missing.distance):
        return excess
    return missing
