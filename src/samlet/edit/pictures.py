"""What every edit is given: a picture and a mask of its size."""

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.image import Image
from samlet.rle import checked_mask

Picture = Image | NDArray[np.uint8]
"""RGB (H, W, 3) uint8, or an `Image`."""

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


def pixels_of(picture: Picture) -> NDArray[np.uint8]:
    """Give the pixels of a picture, which nobody may change.

    Raises:
        InputError: It is no RGB picture.
    """
    pixels = picture.pixels if isinstance(picture, Image) else picture
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != 3
    ):
        found = (
            f"{pixels.dtype} of shape {pixels.shape}"
            if isinstance(pixels, np.ndarray)
            else type(pixels).__name__
        )
        raise InputError(
            f"expected a picture as RGB uint8 (H, W, 3) or an Image, got {found}; Image.load makes one of a file"
        )
    return pixels


def pixels_and_mask(picture: Picture, mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Give both, checked.

    Raises:
        InputError: One of them is none, or their sizes differ.
    """
    pixels, inside = pixels_of(picture), checked_mask(mask)
    if inside.shape != pixels.shape[:2]:
        raise InputError(
            f"expected a mask of the picture's size {pixels.shape[1]} x {pixels.shape[0]}, got one of "
            f"{inside.shape[1]} x {inside.shape[0]}; give the mask of this picture"
        )
    return pixels, inside
