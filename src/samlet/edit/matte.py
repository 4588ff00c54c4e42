"""From a mask, which says yes or no, to a matte: how much of each pixel belongs to the object."""

import math

import numpy as np
from numpy.typing import NDArray

from samlet.edit.combining import grown
from samlet.edit.pictures import Picture, pixels_and_mask
from samlet.errors import InputError
from samlet.window_sums import window_means, window_sums

EPSILON = 1e-4
"""How much a colour has to vary, squared and with 1 for white, before the matte follows it."""

_RADIUS_SHARE = 0.006
_SOLID = 0.95


def matte(
    picture: Picture, mask: NDArray[np.bool_], *, radius: int | None = None, epsilon: float = EPSILON
) -> NDArray[np.float32]:
    """Soften the edge of a mask so that it follows the colours of the picture: hair, fur, what is out of focus.

    The guided filter of He, Sun and Tang (2010) with the colours as guide. Only pixels near the mask's edge change.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        mask: Bool (H, W).
        radius: How far from the edge pixels may change, in pixels, 0 or more; None takes 0.6 % of the diagonal.
        epsilon: Larger values blur, smaller ones cling to every contrast; above 0.

    Returns:
        (H, W) float32, 0 to 1: the share of each pixel that belongs to the object.

    Raises:
        InputError: The sizes differ, or a number is out of range.

    Example:
        >>> photo = np.zeros((20, 20, 3), np.uint8); photo[:, 10:] = 255
        >>> ragged = np.zeros((20, 20), bool); ragged[:, 10:] = True; ragged[5, 8:10] = True
        >>> soft = matte(photo, ragged, radius=3)
        >>> bool(soft[5, 9] < 0.3), bool(soft[5, 12] > 0.9), float(soft[5, 0])
        (True, True, 0.0)
    """
    pixels, inside = pixels_and_mask(picture, mask)
    height, width = inside.shape
    reach = max(2, round(_RADIUS_SHARE * math.hypot(height, width))) if radius is None else radius
    if not 0 <= reach <= max(height, width) or not epsilon > 0:
        raise InputError(
            f"expected a radius from 0 to the picture's size and an epsilon above 0, got {reach} and {epsilon}; "
            "leave them out to have the usual ones"
        )
    soft = inside.astype(np.float32)
    near = grown(inside, reach) & ~grown(inside, -reach)
    if reach == 0 or not near.any():
        return soft
    window = _window(near, 2 * reach)
    found = _guided(pixels[window].astype(np.float64) / 255, soft[window], reach, epsilon)
    np.copyto(soft[window], np.clip(found, 0, 1).astype(np.float32), where=near[window])
    return soft


def clean_colours(
    picture: Picture, alpha: NDArray[np.float32], *, radius: int | None = None
) -> NDArray[np.uint8]:
    """Give the pixels at the edge the object's own colours: what is mixed with the old background leaves a halo.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        alpha: What `matte` gave.
        radius: How far away the object's colours are looked for, in pixels; None takes three times the matte's.

    Returns:
        RGB (H, W, 3) uint8. Pixels that belong to the object wholly, or not at all, keep their colours, and so do those
        around which no pixel is wholly the object's.
    """
    pixels, _ = pixels_and_mask(picture, alpha > 0)
    reach = radius if radius is not None else max(6, round(3 * _RADIUS_SHARE * math.hypot(*alpha.shape)))
    mixed = (alpha > 0) & (alpha < _SOLID)
    cleaned = pixels.copy()
    if not mixed.any():
        return cleaned
    window = _window(mixed, 2 * reach)
    solid = alpha[window] >= _SOLID
    counts = window_sums(solid, reach)
    sums = window_sums(pixels[window] * solid[..., None].astype(np.float64), reach)
    chosen = mixed[window] & (counts > 0)
    own = sums[chosen] / counts[chosen][:, None]
    # What is nearly the object's keeps its texture.
    share = alpha[window][chosen][:, None]
    seen = cleaned[window][chosen]
    cleaned[window][chosen] = np.rint(share * seen + (1 - share) * own).astype(np.uint8)
    return cleaned


def _guided(
    guide: NDArray[np.float64], target: NDArray[np.float32], reach: int, epsilon: float
) -> NDArray[np.float64]:
    """Fit the target by colours, linearly in every window, and average the fits that a pixel takes part in."""
    mean = window_means(guide, reach)  # (h, w, 3)
    level = window_means(target, reach)
    cov = window_means(guide * target[..., None], reach) - mean * level[..., None]
    red, green, blue = (guide[..., channel] for channel in range(3))
    pairs = np.stack((red * red, red * green, red * blue, green * green, green * blue, blue * blue), axis=-1)
    centre = mean[..., (0, 0, 0, 1, 1, 2)] * mean[..., (0, 1, 2, 1, 2, 2)]
    rr, rg, rb, gg, gb, bb = np.moveaxis(window_means(pairs, reach) - centre, -1, 0)
    rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
    # The inverse of a symmetric 3 x 3 matrix by its cofactors.
    a, b, c = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    d, e, f = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    scale = 1 / (rr * a + rg * b + rb * c)
    x, y, z = cov[..., 0], cov[..., 1], cov[..., 2]
    slope = np.stack((a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z), axis=-1)
    slope *= scale[..., None]
    offset = level - (slope * mean).sum(axis=-1)
    return np.asarray((window_means(slope, reach) * guide).sum(axis=-1) + window_means(offset, reach))


def _window(near: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Give the box around some pixels, with a margin."""
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )
