"""Masks as PNG pictures: one mask as black and white, many as a map of labels."""

import io
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.codecs.checks import sized_mask
from samlet.errors import ImageError, InputError, LimitError
from samlet.limits import DEFAULT_LIMITS, Limits
from samlet.rle import checked_mask


def mask_to_png_bytes(mask: NDArray[np.bool_]) -> bytes:
    """Code a mask as an 8-bit grayscale PNG, 255 inside and 0 outside.

    Args:
        mask: (H, W); any dtype, non-zero is inside.

    Returns:
        The bytes of the file.

    Raises:
        InputError: The mask is not two-dimensional or has no pixels.

    Example:
        >>> mask_to_png_bytes(np.eye(3, dtype=bool))[1:4]
        b'PNG'
    """
    pixels = checked_mask(mask).astype(np.uint8) * np.uint8(255)
    buffer = io.BytesIO()
    # 8-bit opens everywhere as 0/255; one bit would save little after deflate and some readers give 0/1.
    PillowImage.fromarray(pixels, "L").save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def png_to_mask(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.bool_]:
    """Read a mask from a PNG; anything that is not black (and not transparent) is inside.

    Args:
        data: The bytes of the file: outside input, its size is checked before it is decoded.
        limits: `max_pixels` bounds the picture.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: The bytes are no PNG, or a broken one.
        LimitError: The picture has more than `limits.max_pixels` pixels.

    Example:
        >>> bool((png_to_mask(mask_to_png_bytes(np.eye(3) > 0)) == np.eye(3)).all())
        True
    """
    try:
        with warnings.catch_warnings(), PillowImage.open(io.BytesIO(data), formats=("PNG",)) as picture:
            warnings.simplefilter(
                "ignore"
            )  # Pillow's own bomb warning: our bound is checked on the next line
            if picture.width * picture.height > limits.max_pixels:
                raise LimitError(
                    f"expected a mask of at most {limits.max_pixels} pixels, got {picture.width} x "
                    f"{picture.height}; "
                    "send a smaller mask or raise Limits.max_pixels"
                )
            if picture.mode in {"1", "L", "I", "I;16"}:
                return np.asarray(np.asarray(picture) != 0)
            rgba = np.asarray(picture.convert("RGBA"))
            return np.asarray(rgba[..., :3].any(axis=2) & (rgba[..., 3] > 0))
    except PillowImage.DecompressionBombError:
        raise LimitError(
            f"expected a mask of at most {limits.max_pixels} pixels, got a far larger one; send a smaller "
            "mask"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(
            "expected a mask as PNG bytes, got something that does not decode; save it again as PNG"
        ) from error


def label_map(masks: Iterable[NDArray[np.bool_]], image_hw: Sequence[int]) -> NDArray[np.uint16]:
    """Lay masks over each other in one picture of labels without overlap; the smaller mask lies on top.

    Args:
        masks: (H, W) each.
        image_hw: (height, width) of the masks.

    Returns:
        (H, W) uint16: 0 is background, i + 1 the i-th mask.

    Raises:
        InputError: A mask has another size.
        LimitError: There are more than 65,535 masks.

    Example:
        >>> label_map([np.array([[1, 1, 1]], bool), np.array([[0, 1, 0]], bool)], (1, 3)).tolist()
        [[1, 2, 1]]
    """
    height, width = (int(side) for side in image_hw)
    labels = np.zeros((height, width), np.uint16)
    most = np.iinfo(np.uint16).max
    areas = np.full(most + 1, np.iinfo(np.int64).max)
    for index, mask in enumerate(masks, start=1):
        if index > most:
            raise LimitError(
                "expected at most 65535 masks in one label map, got more; filter the masks first"
            )
        inside = sized_mask(mask, (height, width))
        areas[index] = np.count_nonzero(inside)
        covered = labels[inside]
        labels[inside] = np.where(areas[covered] > areas[index], np.uint16(index), covered)
    return labels


def labels_to_png_bytes(labels: NDArray[np.uint16]) -> bytes:
    """Code a map of labels as a PNG: 8 bits if they suffice, otherwise 16 bits, which keep all 65,535 labels.

    Args:
        labels: (H, W) whole numbers from 0 to 65,535.

    Returns:
        The bytes of the file. Viewers show few labels as nearly black; programs read the numbers.

    Raises:
        InputError: It is not such an array.

    Example:
        >>> labels_to_png_bytes(np.array([[0, 300]], np.uint16))[24]  # bits for each pixel
        16
    """
    array = np.asarray(labels)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iu":
        raise InputError(
            f"expected labels (H, W) of whole numbers, got {array.dtype} of shape {array.shape}; "
            "make them with label_map"
        )
    if int(array.min()) < 0 or (most := int(array.max())) > np.iinfo(np.uint16).max:
        raise InputError("expected labels from 0 to 65535, got others; number the masks from 1")
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(array.astype(np.uint8 if most < 256 else np.uint16))
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
