"""What the teacher and the student are shown of a picture: the same pixels, now and in a year.

View 0 is the whole picture, view 1 its mirror image; from view 2 on they are crops in light colour changes. A view
is decided by (seed, key, number) alone, so that a stored embedding always meets the pixels it was made of.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from samlet.image import Image

SMALLEST = 32  # pixels; a crop's shorter side


def view_of(image: Image, key: str, number: int, *, seed: int) -> Image:
    """Cut, mirror and colour a picture.

    Args:
        image: The whole picture.
        key: Its key in the source.
        number: Which view.
        seed: Of the store.

    Returns:
        The view; its own picture, whose frame starts anew.
    """
    if number == 0:
        return image
    pixels: NDArray[np.uint8] = image.pixels
    if number >= 2:
        digest = hashlib.sha256(f"{seed}/{number}/{key}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        share = rng.uniform(0.5, 0.95)
        height, width = (max(min(SMALLEST, side), round(side * share)) for side in image.hw)
        y, x = int(rng.integers(image.height - height + 1)), int(rng.integers(image.width - width + 1))
        gain, shift = rng.uniform(0.8, 1.25), rng.uniform(-15, 15)
        table = np.clip((np.arange(256, dtype=np.float32) - 127) * gain + 127 + shift, 0, 255)
        pixels = table.astype(np.uint8)[pixels[y : y + height, x : x + width]]
    mirrored = number % 2 == 1
    return Image(np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels), source=image.source)
