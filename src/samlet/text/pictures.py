"""How CLIP is shown a picture: the shorter side to its size by bicubic resizing, the middle square, normalised."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

_LONGEST = 16  # sides of a picture in the ratio of more than 16 to 1 are cut before they are enlarged


def prepare(pictures: Sequence[NDArray[np.uint8]], side: int = 224) -> NDArray[np.float32]:
    """Prepare pictures as OpenAI's CLIP does (Radford et al. 2021, arXiv 2103.00020).

    Args:
        pictures: N pictures (h, w, 3) RGB of any sizes.
        side: Side of the network's square, in pixels.

    Returns:
        (N, 3, side, side), normalised.

    Example:
        >>> prepare([np.full((10, 30, 3), 255, np.uint8)], 8).shape
        (1, 3, 8, 8)
    """
    squares = np.zeros((len(pictures), side, side, 3), np.float32)
    for square, picture in zip(squares, pictures, strict=True):
        square[:] = _square(picture, side)
    squares /= 255
    squares -= np.array(MEAN, np.float32)
    squares /= np.array(STD, np.float32)
    return np.ascontiguousarray(squares.transpose(0, 3, 1, 2))


def _square(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    picture = _shortened(picture)
    height, width = picture.shape[:2]
    short = min(height, width)
    # The longer side is cut off to whole pixels, and the middle is rounded to even, as in the original.
    sized = (max(side, side * width // short), max(side, side * height // short))
    resized = PILImage.fromarray(np.ascontiguousarray(picture))
    if sized != (width, height):
        resized = resized.resize(sized, PILImage.Resampling.BICUBIC)
    left, top = round((sized[0] - side) / 2), round((sized[1] - side) / 2)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _shortened(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut a very long picture to its middle: enlarging all of it would take memory for nothing."""
    most = _LONGEST * min(picture.shape[:2])
    for axis in (0, 1):
        size = picture.shape[axis]
        if size > most:
            start = (size - most) // 2
            picture = picture.take(range(start, start + most), axis=axis)
    return picture
