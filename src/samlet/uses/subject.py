"""The one thing that a picture is of, by rule of thumb: neither a network nor training stands behind it."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from samlet.image import Image
from samlet.masks import Masks
from samlet.uses.looks import looks

Kind = TypeVar("Kind", bound=Masks)

_ENOUGH = 0.1  # share of the picture from which on a thing is large enough
_VISIBLE = 15.0  # contrast at which the colour's say is a half
_SPREAD = 0.6  # how far from the middle a thing may lie, of half the picture
_FRAMED = 0.15  # share of the picture's border at which a region is half background


def salience(masks: Masks, image: Image | None = None) -> NDArray[np.float64]:
    """Rate how much each region looks like the thing that the picture is of. A heuristic.

    The product of four numbers and the mask's score: is it large enough (a tenth of the picture suffices, more than
    half is too much), does it lie in the middle, do its colours differ from those around it, and does it keep off the
    border of the picture, as backgrounds do not.

    Args:
        masks: One mask a prompt.
        image: The picture; not needed for masks that came with it.

    Returns:
        (N,) 0 to 1 for scores up to 1; only their order means something.

    Raises:
        InputError: There is no picture, it has another size, or the prompts still have several candidates.

    Example:
        >>> from samlet.masks import StoredMasks
        >>> pixels = np.zeros((20, 20, 3), np.uint8)
        >>> pixels[5:15, 5:15] = 200
        >>> square = pixels[..., 0] > 0
        >>> from samlet.rle import mask_to_rle
        >>> masks = StoredMasks.of([mask_to_rle(~square), mask_to_rle(square)], [0.9, 0.9], (20, 20))
        >>> salience(masks, Image.load(pixels)).round(2).tolist()
        [0.01, 0.76]
    """
    seen = looks(masks, image)
    size = np.sqrt(np.minimum(seen.share / _ENOUGH, 1.0)) * np.clip(2.0 - 2.0 * seen.share, 0.0, 1.0)
    middle = np.exp(-(seen.center**2).sum(axis=1) / (2 * _SPREAD**2))
    contrast = seen.contrast / (seen.contrast + _VISIBLE)
    free = 1 / (1 + (seen.frame / _FRAMED) ** 2)
    return np.asarray(size * middle * contrast * free * np.clip(masks.scores, 0, None), np.float64)


def salient(masks: Kind, image: Image | None = None) -> Kind:
    """Choose the thing that the picture is of, by `salience`. A heuristic.

    Args:
        masks: One mask a prompt.
        image: The picture; not needed for masks that came with it.

    Returns:
        One mask, or none if there are none.

    Raises:
        InputError: There is no picture, it has another size, or the prompts still have several candidates.
    """
    rated = salience(masks, image)
    return masks[[int(rated.argmax())]] if len(rated) else masks
