"""Average precision of COCO with the boxes of a detector as prompts: what SAM's followers report for instance masks.

The detector's classes and scores stay as they are; the model only turns each box into a mask. The library
faster-coco-eval scores; its figures for masks stand beside those of the detector's own boxes.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.evaluate.datasets import Broken
from samlet.evaluate.metrics import check_part
from samlet.evaluate.proposals import coco
from samlet.evaluate.protocols import Segmenter
from samlet.image import Image
from samlet.rle import mask_to_compressed_rle

AT_MOST = 100
"""Detections of a picture that count, best first, as in COCO."""

FIGURES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
"""Averages over IoU 0.50, 0.55, ..., 0.95 and classes; at 0.50; at 0.75; by the object's area."""

AP_WORDS = (
    "COCO's average precision over classes and the IoU thresholds 0.50, 0.55, ..., 0.95, at most 100 detections a "
    "picture. Each box of the detector is one prompt, single mask (token 0); its class and score stay. Crowds and the "
    "ranges of areas are COCO's own. The row of boxes is the detector itself, the most that its boxes allow."
)

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Detection:
    """One box of a detector: xyxy in picture pixels, as given otherwise."""

    image_id: int
    category_id: int
    box_xyxy: tuple[float, float, float, float]
    score: float


@dataclass(slots=True)
class DetectionResult:
    """What was measured.

    Attributes:
        name: Of the annotations' file.
        figures: For "mask" and "box" the six `FIGURES`, 0..1; None where there is no such object.
        pictures: Pictures with detections that were prompted.
        detections: Boxes that were prompted.
        objects: Annotations that are no crowds.
        broken: Pictures that could not be used; their objects count as missed.
        seconds: Time for embedding and answering.
    """

    name: str
    figures: dict[str, dict[str, float | None]] = field(default_factory=dict)
    pictures: int = 0
    detections: int = 0
    objects: int = 0
    broken: list[Broken] = field(default_factory=list)
    seconds: float = 0.0


def read_detections(path: Path) -> dict[int, list[Detection]]:
    """Read a detector's file in COCO's result form: [{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...].

    Args:
        path: The JSON file.

    Returns:
        By picture, the best `AT_MOST` of each, best first.

    Raises:
        InputError: The file cannot be read or is something else.
    """
    entries = _json(path, "the boxes of a detector")
    if not isinstance(entries, list):
        raise InputError(
            f"expected a list of detections in {path}, got {type(entries).__name__}; give COCO's result form"
        )
    found: dict[int, list[Detection]] = {}
    for place, entry in enumerate(entries):
        try:
            x, y, width, height = (float(number) for number in entry["bbox"])
            one = Detection(
                int(entry["image_id"]),
                int(entry["category_id"]),
                (x, y, x + width, y + height),
                float(entry["score"]),
            )
        except (KeyError, TypeError, ValueError):
            raise InputError(
                'expected detections like {"image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "score": 0.9} in '
                f"{path}, but number {place} is {str(entry)[:80]}; correct the file"
            ) from None
        if np.isfinite((*one.box_xyxy, one.score)).all() and width > 0 and height > 0:
            found.setdefault(one.image_id, []).append(one)
    return {
        image_id: sorted(boxes, key=lambda one: -one.score)[:AT_MOST] for image_id, boxes in found.items()
    }


def read_annotations(path: Path, *, every: int = 1, limit: int | None = None) -> dict[str, Any]:
    """Read COCO's or LVIS's annotations of instances.

    Args:
        path: The JSON file.
        every: Only each K-th picture, from the first.
        limit: Of those only the first so many.

    Raises:
        InputError: The file cannot be read or has no pictures, classes and annotations, or `every` or `limit` is
            below 1.
    """
    check_part(every, limit)
    fields = _json(path, "annotations")
    if not isinstance(fields, dict) or not all(
        isinstance(fields.get(name), list) for name in ("images", "annotations", "categories")
    ):
        raise InputError(
            f"expected images, annotations and categories in {path}, as COCO's instances have; name that file"
        )
    pictures = fields["images"][::every][:limit]
    ids = {picture["id"] for picture in pictures}
    kept = [annotation for annotation in fields["annotations"] if annotation["image_id"] in ids]
    for annotation in kept:
        annotation.setdefault("iscrowd", 0)  # LVIS has no crowds
    return {"info": {}, **fields, "images": pictures, "annotations": kept}


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise InputError(
            f"expected {what} as a JSON file, but {path} cannot be read ({reason}); check the path"
        ) from None


def evaluate_detections(
    model: Segmenter,
    pictures: Path,
    annotations: Mapping[str, Any],
    boxes: Mapping[int, Sequence[Detection]],
    *,
    name: str = "annotations",
    on_picture: Callable[[DetectionResult], None] | None = None,
) -> DetectionResult:
    """Prompt a model with a detector's boxes and score the masks.

    Args:
        model: The model.
        pictures: The folder of the pictures that the annotations name.
        annotations: From `read_annotations`.
        boxes: From `read_detections`.
        name: Of the set, for the report.
        on_picture: Called after each picture, for progress.

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """
    library = coco()
    result = DetectionResult(name)
    result.objects = sum(not entry["iscrowd"] for entry in annotations["annotations"])
    answers: list[dict[str, Any]] = []
    start = time.perf_counter()
    for entry in annotations["images"]:
        wanted = boxes.get(entry["id"], [])
        if wanted:
            try:
                answers += _answered(model, _picture(pictures, entry), wanted)
                result.pictures += 1
                result.detections += len(wanted)
            except InputError as error:
                result.broken.append(Broken(str(entry.get("file_name", entry["id"])), str(error)))
        result.seconds = time.perf_counter() - start
        if on_picture is not None:
            on_picture(result)
    result.figures = _scored(library, dict(annotations), answers)
    return result


def _picture(folder: Path, entry: dict[str, Any]) -> Image:
    """Read a picture that the annotations name; LVIS names it by the address it came from."""
    name = str(entry.get("file_name") or str(entry.get("coco_url", "")).rsplit("/", 1)[-1])
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not name:
        raise InputError(
            f"expected a picture inside {folder}, but the annotations name {name!r:.80}; correct it"
        )
    return Image.load(path)


def _answered(model: Segmenter, image: Image, wanted: Sequence[Detection]) -> list[dict[str, Any]]:
    """Turn the boxes of a picture into entries of COCO's result form, with masks."""
    height, width = image.hw
    boxes = np.array([one.box_xyxy for one in wanted], np.float64)
    inside = _inside(boxes, width, height)
    view = model.embed(image)
    entries = []
    for begin in range(0, len(wanted), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        answer = model.segment(view, boxes=inside[part])
        for row, one in enumerate(wanted[part]):
            x0, y0, x1, y1 = one.box_xyxy
            entries.append(
                {
                    "image_id": one.image_id,
                    "category_id": one.category_id,
                    "segmentation": mask_to_compressed_rle(answer[row].masks[0]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": one.score,
                }
            )
    return entries


def _inside(boxes: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Move what lies outside the picture to its border; a box that is all outside keeps a pixel."""
    low = np.clip(boxes[:, :2], 0, (width - 1, height - 1))
    return np.concatenate((low, np.clip(boxes[:, 2:], low + 1, (width, height))), axis=1)


def _scored(
    library: Any, known: dict[str, Any], answers: list[dict[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Let the library compare masks and boxes."""
    if not answers or not known["annotations"]:
        nothing: dict[str, float | None] = dict.fromkeys(FIGURES, 0.0 if known["annotations"] else None)
        return {"mask": nothing, "box": dict(nothing)}
    figures: dict[str, dict[str, float | None]] = {}
    truth = library.COCO(known)
    for kind, name in (("segm", "mask"), ("bbox", "box")):
        # Areas of boxes are those of boxes, of masks those of masks: each in a copy of its own.
        kept = [
            {key: value for key, value in entry.items() if kind == "segm" or key != "segmentation"}
            for entry in answers
        ]
        judge = library.COCOeval_faster(truth, truth.loadRes(kept), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        values = np.asarray(judge.stats[:6], np.float64)
        figures[name] = {
            title: (None if value < 0 else float(value)) for title, value in zip(FIGURES, values, strict=True)
        }
    return figures
