"""The nestings in which Ultralytics' users write points, labels, boxes and masks, brought into samlet's one.

The rule for points: how deep they are nested says how many objects they mean. `[x, y]` is one object,
`[[x, y], [x, y]]` two objects with a point each, and `[[[x, y], [x, y]]]` one object with two points.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.embedding import Embedding
from samlet.errors import PromptError
from samlet.geometry import Frame
from samlet.prompt import BACKGROUND, Prompt
from samlet.upscale import measure, region_of

_CERTAIN = 8.0
"""Logit of a pixel inside a drawn mask; networks give about that where they are sure."""


@dataclass(frozen=True)
class Asked:
    """What a call asked for, before the picture is known.

    Attributes:
        points: For each of N objects its points (K, 2), or None.
        labels: For each object its labels (K,), or None.
        boxes: (N, 4), or None.
        masks: (N, h, w) of any size, or None.
    """

    points: list[NDArray[np.float64]] | None = None
    labels: list[NDArray[np.float64]] | None = None
    boxes: NDArray[np.float64] | None = None
    masks: NDArray[Any] | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing was pointed at, so that all objects are meant."""
        return self.points is None and self.boxes is None and self.masks is None

    @property
    def nothing(self) -> bool:
        """Whether prompts were given, but none: a detector before this one found nothing."""
        given = [part for part in (self.points, self.boxes, self.masks) if part is not None]
        return bool(given) and not any(len(part) for part in given)


def read(points: Any = None, labels: Any = None, bboxes: Any = None, masks: Any = None) -> Asked:
    """Read prompts in any of the nestings.

    Args:
        points: [x, y], [[x, y], ...] for one object each, or [[[x, y], ...], ...] for objects with several
            points, of different number if need be; picture pixels.
        labels: 1 foreground, 0 background, nested like the points or flat; None makes all points foreground.
        bboxes: [x0, y0, x1, y1] or a list of them, picture pixels.
        masks: (h, w) or (N, h, w): low-resolution logits, or masks at the size of the picture.

    Returns:
        The prompts, one a object.

    Raises:
        PromptError: A part has another shape.

    Example:
        >>> [len(each) for each in read([[1, 2], [3, 4]], [1, 1]).points]
        [1, 1]
        >>> [len(each) for each in read([[[1, 2], [3, 4]]], [[1, 0]]).points]
        [2]
    """
    boxes = None if bboxes is None else _boxes(bboxes)
    hints = None if masks is None else _masks(masks)
    if points is None:
        if labels is not None:
            raise PromptError("expected points along with labels, got labels alone; add the points")
        return Asked(boxes=boxes, masks=hints)
    rows = _objects(points)
    if _depth(labels) == 2 and len(labels) == 1 and len(rows) > 1 and all(len(row) == 1 for row in rows):
        rows = [np.concatenate(rows)]  # labels nested once more than the points: it is one object after all
    marks = _labels(labels, rows)
    if not rows and boxes is not None:
        return Asked(boxes=boxes, masks=hints)
    asked = Asked(rows, marks, boxes if boxes is None or len(boxes) else None, hints)
    if asked.boxes is None and any((row == BACKGROUND).all() for row in marks):
        raise PromptError(
            "expected a foreground point for each object, got an object with background points only; put "
            "points on one object by nesting them: points=[[[x, y], [x, y]]], labels=[[1, 0]]"
        )
    return asked


def prompt_for(asked: Asked, embedding: Embedding) -> Prompt:
    """Make a prompt for one picture.

    Args:
        asked: What was asked for; masks alone are asked for by their bounding boxes as well, because a
            network gives little for a mask alone.
        embedding: The picture, embedded.

    Returns:
        The prompt, checked.

    Raises:
        PromptError: The parts do not pair up, or lie outside the picture.
        LimitError: There are too many.
    """
    image_hw = embedding.frame.image_hw
    hint, boxes = None, asked.boxes
    if asked.masks is not None:
        grid_hw = tuple(4 * side for side in embedding.arrays["image_embeddings"].shape[2:])
        hint = _hints(asked.masks, embedding.frame, (grid_hw[0], grid_hw[1]))
        if boxes is None and asked.points is None:
            boxes = _boxes_of(hint, embedding.frame)
    if asked.points is not None and boxes is not None and len(asked.points) != len(boxes):
        raise PromptError(
            f"expected points for each of {len(boxes)} boxes, got points for {len(asked.points)} objects; "
            "nest the points of one object: points=[[[x, y], [x, y]]], labels=[[1, 0]]"
        )
    return Prompt.make(image_hw=image_hw, points=asked.points, labels=asked.labels, boxes=boxes, hint=hint)


def _objects(points: Any) -> list[NDArray[np.float64]]:
    """Split points into one (K, 2) array an object."""
    array = _numbers(points)
    if array is not None and array.size == 0:
        return []
    if array is not None:
        if array.ndim == 1:
            array = array[None]
        if array.ndim == 2:
            array = array[:, None]
        if array.ndim != 3 or array.shape[2] != 2:
            raise _bad_points(f"shape {np.shape(points)}")
        return list(array)
    rows = []
    for each in points if isinstance(points, list | tuple) else ():
        row = _numbers(each)
        if row is None or row.ndim not in (1, 2) or not (row.shape[-1] == 2 or row.size == 0):
            raise _bad_points("a list of something else")
        rows.append(row.reshape(-1, 2))
    if not rows:
        raise _bad_points(f"{type(points).__name__}")
    return rows


def _labels(labels: Any, rows: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Split labels into one (K,) array an object, as the points are."""
    counts = [len(row) for row in rows]
    if labels is None:
        return [np.ones(count) for count in counts]
    parts = labels if _numbers(labels) is None and isinstance(labels, list | tuple) else [labels]
    arrays = [_numbers(part) for part in parts]
    if any(array is None for array in arrays):
        raise PromptError(f"expected labels as 1 and 0, got {labels!r:.60}; nest them as the points are")
    flat = np.concatenate([np.ravel(array) for array in arrays if array is not None])
    if flat.size == 1:
        return [np.full(count, flat[0]) for count in counts]
    if flat.size != sum(counts):
        raise PromptError(
            f"expected one label a point, {sum(counts)} in all, got {flat.size}; nest labels as the points "
            "are: points=[[[x, y], [x, y]]], labels=[[1, 0]]"
        )
    return np.split(flat, np.cumsum(counts)[:-1]) if counts else []


def _boxes(bboxes: Any) -> NDArray[np.float64]:
    array = _numbers(bboxes)
    if array is not None and array.size == 0:
        return np.zeros((0, 4))
    if array is None or array.ndim not in (1, 2) or array.shape[-1] != 4:
        shape = "lists of different length" if array is None else f"shape {array.shape}"
        raise PromptError(
            f"expected bboxes as [x0, y0, x1, y1] or a list of them, got {shape}; give four numbers a box"
        )
    return array.reshape(-1, 4)


def _masks(masks: Any) -> NDArray[Any]:
    array = np.asarray(masks)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise PromptError(
            f"expected masks of shape (h, w) or (N, h, w), got {array.dtype} of shape {array.shape}; pass "
            "low-resolution logits or masks of the picture's size"
        )
    return array


def _hints(masks: NDArray[Any], frame: Frame, grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Bring masks onto the grid of the network's own logits."""
    if masks.shape[1:] == grid_hw and masks.dtype.kind == "f":
        return masks.astype(np.float32)
    if masks.shape[1:] != frame.image_hw:
        raise PromptError(
            f"expected masks of the picture's size {frame.image_hw[0]} x {frame.image_hw[1]}, or logits of "
            f"{grid_hw[0]} x {grid_hw[1]}, got {masks.shape[1]} x {masks.shape[2]}; pass one of the two"
        )
    rows, columns = (max(1, round(side)) for side in region_of(frame, grid_hw))
    hints = np.full((len(masks), *grid_hw), -_CERTAIN, np.float32)
    for hint, mask in zip(hints, masks, strict=True):
        picture = PillowImage.fromarray((mask > 0).astype(np.uint8) * np.uint8(255), "L")
        # The share of a cell that lies inside decides how sure the cell is.
        share = np.asarray(picture.resize((columns, rows), PillowImage.Resampling.BOX), np.float32) / 255
        hint[:rows, :columns] = (2 * share - 1) * _CERTAIN
    return hints


def _boxes_of(hints: NDArray[np.float32], frame: Frame) -> NDArray[np.float64]:
    """Find the bounding boxes of hints, in picture pixels."""
    boxes, areas = measure((hint > 0 for hint in hints), len(hints))
    if not areas.all():
        raise PromptError("expected masks with something inside, got an empty one; add a point or a box")
    cell_yx = np.array(frame.canvas_hw) / hints.shape[1:]
    return frame.to_image_boxes(boxes * np.tile(cell_yx[::-1], 2))


def _numbers(values: Any) -> NDArray[np.float64] | None:
    """Make an array; None for lists of different length."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None


def _depth(values: Any) -> int:
    """Count how deep lists are nested."""
    if hasattr(values, "ndim"):
        return int(values.ndim)
    return 1 + _depth(values[0]) if isinstance(values, list | tuple) and len(values) else 0


def _bad_points(found: str) -> PromptError:
    return PromptError(
        "expected points as [x, y], [[x, y], ...] (one object each) or [[[x, y], ...], ...] (several points "
        f"an object), got {found}; give x, y pairs"
    )
