"""Masks in the formats that other tools train and annotate with: COCO, labelme and YOLO."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samlet.codecs.checks import check_count, labelled, numbers, score_of, sized_mask
from samlet.errors import InputError
from samlet.polygons import join_polygons, mask_to_polygons
from samlet.rle import mask_to_compressed_rle, rle_to_bbox

LABELME_VERSION = "5.4.1"


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
    for index, (mask, label) in enumerate(labelled(masks, labels, "object")):
        inside = sized_mask(mask, (height, width))
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
            record["segmentation"] = [numbers(join_polygons([part]).ravel()) for part in parts]
        if scores is not None:
            record["score"] = score_of(scores, index)
        annotations.append(record)
    check_count("scores", scores, len(annotations))
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
    for index, (mask, label) in enumerate(labelled(masks, labels, "object")):
        parts = mask_to_polygons(sized_mask(mask, (height, width)), tolerance=tolerance)
        for part in parts:
            ring = join_polygons([part])
            shapes.append(
                {
                    "label": label,
                    "points": [numbers(point) for point in ring],
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
    for mask, number in labelled(masks, classes, 0):
        ring = join_polygons(mask_to_polygons(sized_mask(mask, (height, width)), tolerance=tolerance))
        if len(ring):
            flat = (ring / (width, height)).ravel()
            lines.append(
                " ".join([str(int(number)), *(f"{value:.6f}".rstrip("0").rstrip(".") for value in flat)])
            )
    return "".join(line + "\n" for line in lines)
