"""Masks in the formats of other tools: PNG, COCO, labelme, YOLO, run-length codes and polygons.

Pure functions over bool arrays; the only one that touches the disk is `atomic_write`. Functions over several
masks take any iterable, so that a hundred full-size masks never need to exist at the same time.
"""

import io
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.atomic import atomic_write
from samlet.errors import ImageError, InputError, LimitError
from samlet.limits import DEFAULT_LIMITS, Limits
from samlet.polygons import Polygon, join_polygons, mask_to_polygons, polygon_to_mask
from samlet.rle import (
    Rle,
    checked_mask,
    mask_to_compressed_rle,
    mask_to_rle,
    rle_area,
    rle_to_bbox,
    rle_to_mask,
    rle_to_string,
    string_to_rle,
)

__all__ = [
    "Polygon",
    "Rle",
    "atomic_write",
    "join_polygons",
    "label_map",
    "mask_to_compressed_rle",
    "mask_to_png_bytes",
    "mask_to_polygons",
    "mask_to_rle",
    "png_to_mask",
    "polygon_to_mask",
    "rle_area",
    "rle_to_bbox",
    "rle_to_mask",
    "rle_to_string",
    "string_to_rle",
    "to_coco",
    "to_labelme",
    "to_yolo",
]

LABELME_VERSION = "5.4.1"

_Label = TypeVar("_Label", str, int)


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
        inside = _sized_mask(mask, (height, width))
        areas[index] = np.count_nonzero(inside)
        covered = labels[inside]
        labels[inside] = np.where(areas[covered] > areas[index], np.uint16(index), covered)
    return labels


def to_coco(  # noqa: PLR0913  the parts of a COCO data set, each with its own keyword
    masks: Iterable[NDArray[np.bool_]],
    image_hw: Sequence[int],
    *,
    image_id: int = 1,
    file_name: str = "",
    scores: Sequence[float] | NDArray[np.float32] | None = None,
    labels: Sequence[str] | None = None,
    segmentation: Literal["rle", "polygons"] = "rle",
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """Describe the masks of one picture as a COCO data set, ready for `json.dumps` and pycocotools.

    Args:
        masks: (H, W) each.
        image_hw: (height, width) of the picture.
        image_id: Number of the picture in the data set.
        file_name: Name of the picture in the data set.
        scores: One for each mask, in [0, 1]; left out of the records if None.
        labels: Category name of each mask; all "object" if None.
        segmentation: "rle" (exact) or "polygons" (one list for each part, holes joined by a bridge).
        tolerance: Simplification of polygons in pixels, 0 is exact.

    Returns:
        `images`, `annotations` (bbox as x, y, width, height in pixels) and `categories`; ids count from 1.

    Raises:
        InputError: A mask has another size, or scores or labels do not match the masks in number.

    Example:
        >>> to_coco([np.ones((2, 3), bool)], (2, 3), file_name="a.png")["annotations"][0]["bbox"]
        [0, 0, 3, 2]
    """
    if segmentation not in ("rle", "polygons"):
        raise InputError(
            f"expected segmentation 'rle' or 'polygons', got {segmentation!r}; choose one of the two"
        )
    height, width = (int(side) for side in image_hw)
    names: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    for index, (mask, label) in enumerate(_labelled(masks, labels, "object")):
        inside = _sized_mask(mask, (height, width))
        rle = mask_to_compressed_rle(inside)
        record: dict[str, Any] = {
            "id": index + 1,
            "image_id": image_id,
            "category_id": names.setdefault(label, len(names) + 1),
            "segmentation": rle,
            "bbox": list(rle_to_bbox(rle)),
            "area": int(np.count_nonzero(inside)),
            "iscrowd": 0,
        }
        if segmentation == "polygons":
            parts = mask_to_polygons(inside, tolerance=tolerance)
            record["segmentation"] = [_numbers(join_polygons([part]).ravel()) for part in parts]
        if scores is not None:
            record["score"] = _score(scores, index)
        annotations.append(record)
    _check_count("scores", scores, len(annotations))
    return {
        "images": [{"id": image_id, "file_name": file_name, "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in (names or {"object": 1}).items()],
    }


def to_labelme(
    masks: Iterable[NDArray[np.bool_]],
    image_hw: Sequence[int],
    *,
    file_name: str = "",
    labels: Sequence[str] | None = None,
    tolerance: float = 1.0,
) -> dict[str, Any]:
    """Describe the masks of one picture as labelme's JSON.

    A part becomes one polygon, with its holes joined by a bridge of no width; the parts of one mask share
    their `group_id`, which is how labelme says that they are one object.

    Args:
        masks: (H, W) each.
        image_hw: (height, width) of the picture.
        file_name: Path of the picture, relative to the JSON file.
        labels: Name of each mask; all "object" if None.
        tolerance: Simplification in pixels, so that a person can edit the points; 0 is exact.

    Returns:
        The content of the JSON file, without the picture itself.

    Raises:
        InputError: A mask has another size, or labels do not match the masks in number.

    Example:
        >>> to_labelme([np.ones((2, 3), bool)], (2, 3))["shapes"][0]["shape_type"]
        'polygon'
    """
    height, width = (int(side) for side in image_hw)
    shapes: list[dict[str, Any]] = []
    for index, (mask, label) in enumerate(_labelled(masks, labels, "object")):
        parts = mask_to_polygons(_sized_mask(mask, (height, width)), tolerance=tolerance)
        for part in parts:
            ring = join_polygons([part])
            shapes.append(
                {
                    "label": label,
                    "points": [_numbers(point) for point in ring],
                    "group_id": index + 1 if len(parts) > 1 else None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
            )
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": file_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def to_yolo(
    masks: Iterable[NDArray[np.bool_]],
    image_hw: Sequence[int],
    *,
    classes: Sequence[int] | None = None,
    tolerance: float = 1.0,
) -> str:
    r"""Describe the masks of one picture in YOLO's segmentation format, one line for each object.

    YOLO reads a line as one instance, so the parts of a mask and its holes are joined into one ring by
    bridges of no width. An empty mask gives no line.

    Args:
        masks: (H, W) each.
        image_hw: (height, width) of the picture.
        classes: Class number of each mask; all 0 if None.
        tolerance: Simplification in pixels, 0 is exact.

    Returns:
        Lines "class x y x y ...", coordinates divided by width and height, each in [0, 1].

    Raises:
        InputError: A mask has another size, or classes do not match the masks in number.

    Example:
        >>> to_yolo([np.array([[1, 0], [1, 0]], bool)], (2, 2))
        '0 0 0 0.5 0 0.5 1 0 1\n'
    """
    height, width = (int(side) for side in image_hw)
    lines: list[str] = []
    for mask, number in _labelled(masks, classes, 0):
        ring = join_polygons(mask_to_polygons(_sized_mask(mask, (height, width)), tolerance=tolerance))
        if len(ring):
            flat = (ring / (width, height)).ravel()
            lines.append(
                " ".join([str(int(number)), *(f"{value:.6f}".rstrip("0").rstrip(".") for value in flat)])
            )
    return "".join(line + "\n" for line in lines)


def _sized_mask(mask: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    inside = checked_mask(mask)
    if inside.shape != image_hw:
        raise InputError(
            f"expected masks of the picture's size {image_hw[0]} x {image_hw[1]}, got one of "
            f"{inside.shape[0]} x {inside.shape[1]}; pass the size the masks were made for"
        )
    return inside


def _labelled(
    masks: Iterable[NDArray[Any]], labels: Sequence[_Label] | None, default: _Label
) -> Iterable[tuple[NDArray[Any], _Label]]:
    count = 0
    for mask in masks:
        if labels is not None and count >= len(labels):
            raise InputError(
                f"expected one label for each mask, got only {len(labels)}; pass as many labels as masks"
            )
        yield mask, default if labels is None else labels[count]
        count += 1
    _check_count("labels", labels, count)


def _check_count(name: str, values: Sequence[Any] | NDArray[Any] | None, count: int) -> None:
    if values is not None and len(values) != count:
        raise InputError(
            f"expected one of {name} for each of {count} masks, got {len(values)}; pass as many as masks"
        )


def _score(scores: Sequence[float] | NDArray[np.float32], index: int) -> float:
    if index >= len(scores):
        raise InputError(
            f"expected one score for each mask, got only {len(scores)}; pass as many scores as masks"
        )
    return round(float(scores[index]), 6)


def _numbers(values: NDArray[np.float64]) -> list[float]:
    # Corners lie on whole numbers; integers keep the JSON a third smaller.
    return [int(value) if value == int(value) else round(float(value), 3) for value in values.tolist()]
