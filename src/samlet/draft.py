"""A photograph decoded at a half, a quarter or an eighth of its size, for networks that look at less than that anyway.

JPEG stores blocks of 8 x 8 pixels by frequency, and its decoder can leave the high ones out. The pixels that a network
gets then differ a little from those of the whole picture made smaller, and nothing is left to draw on.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.image import Image, image_size, load_reduced
from samlet.limits import DEFAULT_LIMITS, Limits

_SPARE = 1.5
"""How much longer than the network's side the decoded one must stay: at 1.4 some pixels were off by 57 of 255, at 1.9
none by more than 7."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A picture of which only a smaller copy was decoded.

    Attributes:
        hw: Height and width of the whole picture, upright, in pixels: prompts and masks are in these.
        small: The copy.

    Example:
        >>> Draft((40, 60), Image.load(np.zeros((20, 30), np.uint8))).resized((4, 6)).shape
        (4, 6, 3)
    """

    hw: tuple[int, int]
    small: Image

    @classmethod
    def load(
        cls, source: object, *, side: int, limits: Limits = DEFAULT_LIMITS, name: str | None = None
    ) -> "Draft":
        """Decode no more of a JPEG than a network of that side needs; other formats are decoded whole.

        Args:
            source: A path, or encoded bytes.
            side: Longest side of pictures in the network, in pixels.
            limits: Bounds on what is accepted; they hold for the whole picture.
            name: Name for messages; None takes the path or "bytes".

        Raises:
            InputError: The source is decoded already.
            ImageError: There is no picture there, or one that cannot be read.
            LimitError: The file, a side or the number of pixels is over a bound.
        """
        if not isinstance(source, str | Path | bytes):
            raise InputError(
                f"expected a path or encoded bytes to decode as a draft, got {type(source).__name__}; "
                "leave decode out for pictures that are decoded already"
            )
        hw = image_size(source, limits=limits, name=name)
        return cls(hw, load_reduced(source, least=int(_SPARE * side), limits=limits, name=name))

    def resized(self, hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Give the picture at another size, at most that of the copy, as `Image.resized` would.

        Args:
            hw: Size of the result, in pixels.

        Returns:
            (h, w, 3), RGB, read-only.
        """
        return self.small.resized(hw)
