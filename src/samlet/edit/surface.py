"""An object in another colour, and a picture without it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.edit.background import over
from samlet.edit.combining import grown
from samlet.edit.matte import matte
from samlet.edit.pictures import Colour, Picture, pixels_and_mask
from samlet.errors import InputError, MissingExtraError

_LUMA = np.array([0.299, 0.587, 0.114])
METHODS = ("telea", "navier-stokes")


def recolour(
    picture: Picture,
    mask: NDArray[np.bool_],
    colour: Colour,
    *,
    strength: float = 1.0,
    soft: bool = True,
    radius: int | None = None,
) -> NDArray[np.uint8]:
    """Give an object another colour and keep its light and shade, its folds and its gloss.

    Every pixel gets the colour's hue and saturation at its own brightness (the blending that painting programs call
    "colour"). A grey colour takes the colour away; with the mask turned round, from everything else.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        mask: Bool (H, W).
        colour: Red, green, blue, 0 to 255.
        strength: 0 changes nothing, 1 all of it.
        soft: As for `cut_out`.
        radius: As for `matte`.

    Returns:
        RGB (H, W, 3) uint8.

    Raises:
        InputError: The sizes differ, or the colour or the strength is out of range.

    Example:
        >>> photo = np.array([[[10, 200, 10], [10, 200, 10]]], np.uint8)
        >>> recolour(photo, np.array([[True, False]]), (128, 128, 128), soft=False).tolist()
        [[[122, 122, 122], [10, 200, 10]]]
    """
    pixels, inside = pixels_and_mask(picture, mask)
    if not 0 <= strength <= 1 or len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
        raise InputError(
            f"expected a colour from 0 to 255 and a strength from 0 to 1, got {colour!r:.60} and {strength}; "
            "correct them"
        )
    wanted = np.array(colour, np.float64)
    brightness = pixels @ _LUMA  # (H, W)
    shifted = wanted + (brightness - wanted @ _LUMA)[..., None]
    painted = np.rint(_into_range(shifted, brightness)).astype(np.uint8)
    alpha = matte(pixels, inside, radius=radius) if soft else inside.astype(np.float32)
    return over(painted, pixels, alpha * np.float32(strength))


def erase(
    picture: Picture, mask: NDArray[np.bool_], *, grow: int = 3, reach: float = 5.0, method: str = "telea"
) -> NDArray[np.uint8]:
    """Take an object out and fill the hole from its surroundings, with OpenCV's inpainting.

    It carries colours and lines on into the hole. Small and thin things vanish; what is large leaves a smear, because
    nothing is made up that the surroundings do not show.

    Args:
        picture: RGB (H, W, 3) uint8, or an `Image`.
        mask: Bool (H, W).
        grow: How far beyond the mask is filled too, in pixels, 0 or more: the rim holds some of the object's colours.
        reach: How far around a pixel of the hole colours are taken from, in pixels, above 0.
        method: "telea" or "navier-stokes".

    Returns:
        RGB (H, W, 3) uint8; outside the grown mask nothing changes.

    Raises:
        InputError: The sizes differ, a number is out of range, or nothing would be left to fill from.
        MissingExtraError: OpenCV is not installed.
    """
    pixels, inside = pixels_and_mask(picture, mask)
    if grow < 0 or not 0 < reach <= max(inside.shape) or method not in METHODS:
        raise InputError(
            f"expected grow of 0 or more, reach above 0 and a method ({', '.join(METHODS)}), got {grow}, {reach} and "
            f"{method!r:.40}; leave them out to have the usual ones"
        )
    hole = grown(inside, grow)
    if hole.all():
        raise InputError(
            "expected a mask with something around it, got one that fills the picture; shrink it"
        )
    if not hole.any():
        return pixels.copy()
    cv2 = _opencv()
    flag = cv2.INPAINT_TELEA if method == "telea" else cv2.INPAINT_NS
    filled = cv2.inpaint(np.ascontiguousarray(pixels[..., ::-1]), hole.astype(np.uint8), reach, flag)
    return np.ascontiguousarray(filled[..., ::-1])


def _into_range(colours: NDArray[np.float64], brightness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pull colours towards their grey until every channel is from 0 to 255; the brightness stays."""
    grey = brightness[..., None]
    away = colours - grey
    low, high = colours.min(axis=-1, keepdims=True), colours.max(axis=-1, keepdims=True)
    scale = np.ones_like(grey)
    np.divide(grey, grey - low, out=scale, where=low < 0)
    above = np.ones_like(grey)
    np.divide(255 - grey, high - grey, out=above, where=high > 255)
    return np.clip(grey + away * np.minimum(scale, above), 0, 255)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError(
            "expected OpenCV for filling a hole, but it is not installed; install it with pip install 'samlet[cv]'"
        ) from None
    return cv2
