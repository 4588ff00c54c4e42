"""Several masks made into one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.rle import checked_mask
from samlet.window_sums import window_sums

WAYS = ("union", "minus", "and")


def union(*masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give the pixels that any of the masks has.

    Args:
        *masks: One or more, bool (H, W).

    Returns:
        Bool (H, W), a new array.

    Raises:
        InputError: There is no mask, or their sizes differ.

    Example:
        >>> union(np.array([[True, False, False]]), np.array([[False, False, True]])).tolist()
        [[True, False, True]]
    """
    return np.asarray(np.logical_or.reduce(_alike(masks)), np.bool_)


def intersection(*masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give the pixels that all of the masks have.

    Args:
        *masks: One or more, bool (H, W).

    Returns:
        Bool (H, W), a new array.

    Raises:
        InputError: There is no mask, or their sizes differ.

    Example:
        >>> intersection(np.array([[True, True]]), np.array([[False, True]])).tolist()
        [[False, True]]
    """
    return np.asarray(np.logical_and.reduce(_alike(masks)), np.bool_)


def minus(first: NDArray[np.bool_], *others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give the pixels of the first mask that none of the others has.

    Args:
        first: Bool (H, W).
        *others: Any number of the same size.

    Returns:
        Bool (H, W), a new array.

    Raises:
        InputError: Their sizes differ.

    Example:
        >>> minus(np.array([[True, True]]), np.array([[False, True]])).tolist()
        [[True, False]]
    """
    masks = _alike((first, *others))
    return masks[0] & ~union(*masks[1:]) if others else masks[0].copy()


def combine(masks: Sequence[NDArray[np.bool_]], way: str = "union") -> NDArray[np.bool_]:
    """Make one mask of several.

    Args:
        masks: One or more, bool (H, W).
        way: "union", "minus" (the first without the others) or "and".

    Returns:
        Bool (H, W), a new array.

    Raises:
        InputError: There is no mask, their sizes differ, or there is no such way.
    """
    if way not in WAYS:
        raise InputError(
            f"expected a way to combine masks ({', '.join(WAYS)}), got {way!r:.40}; choose one of them"
        )
    if way == "minus":
        return minus(*_alike(masks))
    return union(*masks) if way == "union" else intersection(*masks)


def grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Let a mask grow to all sides, corners included, or shrink if the number is negative.

    Args:
        mask: Bool (H, W).
        pixels: How far. The picture's edge does not make a mask shrink.

    Returns:
        Bool (H, W), a new array.

    Example:
        >>> grown(np.array([[False, True, False, False]]), 1).tolist()
        [[True, True, True, False]]
    """
    inside = checked_mask(mask)
    if pixels >= 0:
        return np.asarray(window_sums(inside, pixels) > 0)
    return np.asarray(window_sums(~inside, -pixels) == 0)


def _alike(masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    checked = [checked_mask(mask) for mask in masks]
    sizes = {mask.shape for mask in checked}
    if len(sizes) != 1:
        found = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)) or "none"
        raise InputError(f"expected masks of one size, got {found}; give masks of the same picture")
    return checked
