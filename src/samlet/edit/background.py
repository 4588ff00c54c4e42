"""An object by itself: cut out, before another background, or before its own one out of focus."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.edit.matte import clean_colours, matte
from samlet.edit.pictures import Colour, Picture, pixels_and_mask, pixels_of
from samlet.errors import InputError
from samlet.window_sums import window_sums

_BOXES = 3  # window sums on top of each other are a Gaussian to the eye


def cut_out(
    picture: Picture,
    mask: NDArray[np.bool_],
    *,
    soft: bool = True,
    crop: bool = True,
    radius: int | None = None,
) -> NDArray[np.uint8]:
    """Cut an object out, with an edge that follows hair and fur.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        mask: Bool (H, W).
        soft: Whether edge pixels may belong to the object in part; they then get its colours, not the background's.
        crop: Whether to cut the picture to what is left of it.
        radius: As for `matte`.

    Returns:
        RGBA uint8, (H, W, 4) or cropped; where alpha is 0 the colours are black, so that no background is left in it.

    Raises:
        InputError: The mask is empty or of another size.

    Example:
        >>> cut_out(np.full((4, 6, 3), 9, np.uint8), np.arange(24).reshape(4, 6) == 8, soft=False).tolist()
        [[[9, 9, 9, 255]]]
    """
    pixels, inside = pixels_and_mask(picture, mask)
    alpha = matte(pixels, inside, radius=radius) if soft else inside.astype(np.float32)
    opacity = np.rint(255 * alpha).astype(np.uint8)
    if not opacity.any():
        raise InputError("expected a mask with an object to cut out, got an empty one; try another prompt")
    colours = clean_colours(pixels, alpha) if soft else pixels.copy()
    colours[opacity == 0] = 0
    found = np.dstack((colours, opacity))
    if not crop:
        return found
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    return np.ascontiguousarray(found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def replace_background(
    picture: Picture,
    mask: NDArray[np.bool_],
    background: Picture | Colour,
    *,
    soft: bool = True,
    radius: int | None = None,
) -> NDArray[np.uint8]:
    """Put an object before another background.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        mask: Bool (H, W).
        background: A colour, or a picture of any size, which is scaled to fill and cut in the middle.
        soft: As for `cut_out`.
        radius: As for `matte`.

    Returns:
        RGB (H, W, 3) uint8.

    Raises:
        InputError: The sizes differ, or the background is neither.

    Example:
        >>> photo, mask = np.zeros((1, 2, 3), np.uint8), np.array([[True, False]])
        >>> replace_background(photo, mask, (9, 8, 7), soft=False).tolist()
        [[[0, 0, 0], [9, 8, 7]]]
    """
    pixels, inside = pixels_and_mask(picture, mask)
    behind = _filled(background, inside.shape)
    alpha = matte(pixels, inside, radius=radius) if soft else inside.astype(np.float32)
    colours = clean_colours(pixels, alpha) if soft else pixels
    return over(colours, behind, alpha)


def blur_background(
    picture: Picture,
    mask: NDArray[np.bool_],
    *,
    sigma: float | None = None,
    soft: bool = True,
    radius: int | None = None,
) -> NDArray[np.uint8]:
    """Put everything but an object out of focus; the object's colours do not run into the blur.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        mask: Bool (H, W).
        sigma: Width of the blur in pixels, above 0 and at most the picture's longer side; None takes 1.5 % of the
            diagonal.
        soft: As for `cut_out`.
        radius: As for `matte`.

    Returns:
        RGB (H, W, 3) uint8.

    Raises:
        InputError: The sizes differ, or sigma is out of range.
    """
    pixels, inside = pixels_and_mask(picture, mask)
    width = 0.015 * math.hypot(*inside.shape) if sigma is None else sigma
    if not 0 < width <= max(inside.shape):
        raise InputError(
            f"expected a blur of more than 0 pixels and at most the picture's size, got {width}; "
            "leave it out to have the usual one"
        )
    alpha = matte(pixels, inside, radius=radius) if soft else inside.astype(np.float32)
    # Three windows of 2 r + 1 have the variance of a Gaussian of that sigma; at the object's edge only what is
    # background is averaged, which is known some way under the object.
    reach = max(1, round((math.sqrt(4 * width * width + 1) - 1) / 2))
    share = (1 - alpha).astype(np.float64)
    sums = pixels * share[..., None]
    for _ in range(_BOXES):
        sums, share = window_sums(sums, reach), window_sums(share, reach)
        sums, share = sums / (2 * reach + 1) ** 2, share / (2 * reach + 1) ** 2
    known = share > 1e-6
    behind = pixels.copy()
    behind[known] = np.rint(sums[known] / share[known][:, None]).clip(0, 255).astype(np.uint8)
    return over(pixels, behind, alpha)


def over(
    front: NDArray[np.uint8], behind: NDArray[np.uint8], alpha: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Lay one picture over another.

    Args:
        front: RGB (H, W, 3) uint8.
        behind: RGB (H, W, 3) uint8.
        alpha: (H, W), 1 where only the front is seen.

    Returns:
        RGB (H, W, 3) uint8.
    """
    share = alpha[..., None].astype(np.float32)
    return np.asarray(np.rint(front * share + behind * (1 - share)), np.uint8)


def _filled(background: Picture | Colour, hw: tuple[int, ...]) -> NDArray[np.uint8]:
    if isinstance(background, tuple):
        whole = all(isinstance(part, int) and 0 <= part <= 255 for part in background)
        if len(background) != 3 or not whole:
            raise InputError(
                f"expected a colour as (red, green, blue) from 0 to 255, got {background!r:.60}; correct it"
            )
        return np.broadcast_to(np.array(background, np.uint8), (*hw, 3))
    photo = PillowImage.fromarray(pixels_of(background), "RGB")
    height, width = hw
    scale = max(width / photo.width, height / photo.height)
    size = (max(width, round(photo.width * scale)), max(height, round(photo.height * scale)))
    large = photo.resize(size, PillowImage.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.asarray(large.crop((left, top, left + width, top + height)))
