"""Answers that need no network; each report carries them, so that nobody takes 0.68 for a feat."""

import numpy as np
from numpy.typing import NDArray

from samlet.evaluate.clicks import opencv
from samlet.image import Image

GRABCUT_ROUNDS = 5


def tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Give the smallest box around a mask that is not empty: x0, y0, x1, y1 with x1 and y1 exclusive.

    Args:
        mask: Bool (H, W) with at least one pixel set.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def filled_box(box_xyxy: tuple[int, int, int, int], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Answer with the whole box, bool (H, W)."""
    x0, y0, x1, y1 = box_xyxy
    mask = np.zeros(hw, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def ellipse(box_xyxy: tuple[int, int, int, int], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Answer with the ellipse inscribed in the box: the pixels whose centres it holds, bool (H, W)."""
    x0, y0, x1, y1 = box_xyxy
    across = (np.arange(x0, x1) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    down = (np.arange(y0, y1) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
    mask = np.zeros(hw, np.bool_)
    mask[y0:y1, x0:x1] = across[None, :] ** 2 + down[:, None] ** 2 <= 1
    return mask


def grabcut(image: Image, box_xyxy: tuple[int, int, int, int]) -> tuple[NDArray[np.bool_], bool]:
    """Answer with OpenCV's GrabCut, five rounds from the box.

    Returns:
        The mask, bool (H, W), and whether GrabCut found something. If it refused the box or left it empty,
        as it does for small boxes and for those that fill the picture, the mask is the filled box.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = opencv()
    x0, y0, x1, y1 = box_xyxy
    bgr = np.ascontiguousarray(image.pixels[..., ::-1])
    marks = np.zeros(image.hw, np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its colour models start from random clusters
    try:
        cv2.grabCut(bgr, marks, (x0, y0, x1 - x0, y1 - y0), *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_RECT)
    except cv2.error:
        return filled_box(box_xyxy, image.hw), False
    mask: NDArray[np.bool_] = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    if not mask.any():
        return filled_box(box_xyxy, image.hw), False
    return mask, True
