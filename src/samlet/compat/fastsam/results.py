"""What the model found in one picture, with the attributes that FastSAM's users read."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.compat.ultralytics.parts import Boxes, Masks
from samlet.errors import ImageError
from samlet.image import Image
from samlet.masks import StoredMasks


@dataclass(frozen=True, eq=False)
class Results:
    """All instances of one picture, best first; there may be none.

    Attributes:
        found: The instances as samlet's own masks.
        image: The picture.
    """

    found: StoredMasks
    image: Image

    def __repr__(self) -> str:
        """Say what it holds in one line."""
        return f"<Results: {len(self)} instances of {self.image.source}>"

    def __len__(self) -> int:
        """Count the instances, N."""
        return len(self.found)

    @cached_property
    def masks(self) -> Masks:
        """The masks: `.data` is (N, H, W) bool at the size of the picture, (0, H, W) if nothing was found."""
        return Masks(self.found, self.orig_shape)

    @cached_property
    def boxes(self) -> Boxes:
        """The boxes: `.data` is (N, 6), corners in picture pixels, score and class 0."""
        scores = self.found.scores[:, None]
        return Boxes(
            np.concatenate((self.found.facts["box_xyxy"], scores, 0 * scores), axis=1), self.orig_shape
        )

    @property
    def orig_shape(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.image.hw

    @property
    def orig_img(self) -> NDArray[np.uint8]:
        """The picture (H, W, 3) in BGR order, as OpenCV has it."""
        return self.image.pixels[:, :, ::-1]

    @property
    def path(self) -> str:
        """Where the picture came from."""
        return self.image.source

    def cpu(self) -> "Results":
        """Give itself: everything is in the computer's own memory."""
        return self


def picture_of(source: Any) -> Image:
    """Load a picture as FastSAM's users hand it over: arrays are in OpenCV's order, blue first.

    Args:
        source: A path, a Pillow image, encoded bytes, an array (H, W) or (H, W, 3) BGR, or a samlet `Image`.

    Raises:
        ImageError: There is no picture, or a broken one.
        LimitError: The picture is too large.
    """
    if isinstance(source, np.ndarray):
        if source.ndim == 3 and source.shape[2] != 3:
            raise ImageError(
                f"expected an array (H, W) or (H, W, 3) in BGR order, got shape {source.shape}; convert it"
            )
        return Image.load(source if source.ndim != 3 else source[:, :, ::-1])
    return Image.load(source)
