"""The keywords of Ultralytics' `predict`: which do something here, which are accepted, and which are refused."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from samlet.errors import InputError

IDLE = frozenset(
    (
        "agnostic_nms", "augment", "batch", "classes", "half", "imgsz", "mode", "rect", "retina_masks",
        "stream_buffer", "task", "vid_stride",
    )
)  # fmt: skip
"""Accepted without effect: one class, one picture at a time, on the processor, at the picture's size."""


@dataclass(frozen=True)
class Settings:
    """What the keywords of one call ask for.

    Attributes:
        conf: Lowest confidence of an object, or None for the default.
        iou: Largest overlap of two objects' boxes, or None for the default.
        max_det: Most objects of a picture, or None for the default.
        verbose: Whether to log a line for each picture.
        show: Whether to open a window with each result.
        save: Whether to save each drawing.
        save_txt: Whether to save each result in YOLO's format.
        save_conf: Whether those lines end in the confidence.
        save_crop: Whether to save each object's part of the picture.
        folder: Where to save, without a number.
        exist_ok: Whether to save into a folder that exists.
        device: What was asked for.
        show_labels: Whether boxes in drawings have captions.
        show_conf: Whether captions tell the confidence.
        show_boxes: Whether drawings have boxes.
        line_width: Width of a box's line in pixels; None follows the picture's size.
    """

    conf: float | None = None
    iou: float | None = None
    max_det: int | None = None
    verbose: bool = True
    show: bool = False
    save: bool = False
    save_txt: bool = False
    save_conf: bool = False
    save_crop: bool = False
    folder: Path = Path("runs/segment/predict")
    exist_ok: bool = False
    device: Any = None
    show_labels: bool = True
    show_conf: bool = True
    show_boxes: bool = True
    line_width: float | None = None

    @property
    def saves(self) -> bool:
        """Whether anything is to be saved."""
        return self.save or self.save_txt or self.save_crop

    @property
    def drawing(self) -> dict[str, Any]:
        """The keywords of `Results.plot` that follow from these."""
        return {
            "labels": self.show_labels,
            "conf": self.show_conf,
            "boxes": self.show_boxes,
            "line_width": self.line_width,
        }


def split(options: Mapping[str, Any], *, others: Collection[str] = ()) -> Settings:
    """Read the keywords of a call.

    Args:
        options: Keywords by name.
        others: Names that the caller reads itself; for messages.

    Returns:
        Those that do something.

    Raises:
        InputError: A keyword is unknown, or a value makes no sense.

    Example:
        >>> split({"conf": 0.4, "half": False}).conf
        0.4
    """
    known = {name for name in Settings.__dataclass_fields__ if name != "folder"} | {"project", "name"}
    for name in options:
        if name not in known | IDLE:
            close = get_close_matches(name, known | IDLE | set(others), n=1)
            advice = f"did you mean {close[0]}?" if close else "leave it out"
            raise InputError(f"expected a keyword of Ultralytics' predict, got {name!r:.80}; {advice}")
    used = {name: value for name, value in options.items() if name in Settings.__dataclass_fields__}
    for name in ("conf", "iou"):
        value = used.get(name)
        if value is not None and not (isinstance(value, float | int) and 0 <= value <= 1):
            raise InputError(f"expected {name} from 0 to 1, got {value!r:.80}; 0.4 is a usual value")
    project = Path(options.get("project") or Settings.folder.parent)
    return Settings(**used, folder=project / str(options.get("name") or Settings.folder.name))
