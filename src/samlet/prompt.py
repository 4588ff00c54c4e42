"""What the user points at: points, labels, boxes and a mask hint, checked and made of one shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.errors import LimitError, PromptError
from samlet.limits import DEFAULT_LIMITS, Limits

FOREGROUND, BACKGROUND, PADDING = 1, 0, -1

_NO_NUMBERS = (TypeError, ValueError, OverflowError)
"""What numpy raises where it cannot make numbers; the last for a whole number that no float can hold."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """One or more prompts in picture pixels, checked and never changed; make it with `Prompt.make`.

    Attributes:
        points: (N, K, 2) as (x, y) in picture pixels, or None.
        labels: (N, K), 1 foreground, 0 background, -1 padding (its point is not looked at), or None.
        boxes: (N, 4) as (x0, y0, x1, y1) in picture pixels, or None.
        hint: (N, h, w) low-resolution logits of an earlier answer, or None.

    Example:
        >>> len(Prompt.make(image_hw=(100, 200), boxes=[[0, 0, 50, 50], [50, 50, 100, 100]]))
        2
    """

    points: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    boxes: NDArray[np.float64] | None = None
    hint: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check that the parts pair up, and make them read-only."""
        if (self.points is None) != (self.labels is None) or (self.points is None and self.boxes is None):
            raise PromptError("expected points with their labels, or boxes, got neither; use Prompt.make")
        parts = [part for part in (self.points, self.labels, self.boxes, self.hint) if part is not None]
        if len({len(part) for part in parts}) != 1:
            raise PromptError(
                f"expected parts for one number of prompts, got {[len(part) for part in parts]};"
                " use Prompt.make"
            )
        for part in parts:
            part.flags.writeable = False

    def __len__(self) -> int:
        """Count the prompts."""
        if self.boxes is not None:
            return len(self.boxes)
        return 0 if self.points is None else len(self.points)

    @classmethod
    def make(
        cls,
        *,
        image_hw: tuple[int, int],
        points: ArrayLike | Sequence[Any] | None = None,
        labels: ArrayLike | Sequence[Any] | None = None,
        boxes: ArrayLike | None = None,
        hint: ArrayLike | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> "Prompt":
        """Check what the user gave and bring it into one shape.

        Args:
            image_hw: Size of the picture that the prompt is for.
            points: (2,) one point, (K, 2) one prompt of K points, (N, K, 2) N prompts, or a list of N prompts
                of different length; picture pixels, inside [0, width] x [0, height].
            labels: One number for all points, (K,) for one prompt, (N, K), or a list like that of the points;
                1 foreground, 0 background, -1 padding; None makes each point foreground.
            boxes: (4,) or (N, 4) as x0, y0, x1, y1 in picture pixels; what sticks out of the picture is cut
                off. Together with points they pair up by N.
            hint: (h, w), (N, h, w) or (N, 1, h, w) low-resolution logits of an earlier answer.
            limits: Bounds on the number of prompts and points.

        Returns:
            The prompt.

        Raises:
            PromptError: A part has the wrong shape or value, or there is nothing to go by.
            LimitError: There are more prompts, or points in a prompt, than the limits allow.

        Example:
            >>> Prompt.make(image_hw=(100, 200), points=[[20, 30], [25, 30]], labels=[1, 0]).points.shape
            (1, 2, 2)
            >>> Prompt.make(image_hw=(100, 200), points=[[[20, 30]], [[1, 2], [3, 4]]]).labels.tolist()
            [[1, -1], [1, 1]]
        """
        point_array, label_array = _points_and_labels(points, labels, limits)
        box_array = _boxes(boxes, limits)
        if point_array is None and box_array is None:
            if hint is not None:
                raise PromptError(
                    "expected points or boxes along with a hint, got a hint alone; add a point or a box"
                )
            raise PromptError("expected points or boxes, got an empty prompt; add a point or a box")
        if point_array is not None and label_array is not None:
            if box_array is not None and len(box_array) != len(point_array):
                raise PromptError(
                    f"expected as many boxes as prompts of points, got {len(box_array)} boxes and"
                    f" {len(point_array)} prompts of points; pass points of shape (N, K, 2) with (N, 4) boxes"
                )
            point_array = _placed(point_array, label_array, image_hw, alone=box_array is None)
        if box_array is not None:
            box_array = _clipped(box_array, image_hw)
        count = len(point_array if point_array is not None else box_array)  # type: ignore[arg-type]
        return cls(point_array, label_array, box_array, _hint(hint, count, limits))

    @classmethod
    def concat(cls, prompts: Sequence["Prompt"], *, limits: Limits = DEFAULT_LIMITS) -> "Prompt":
        """Join prompts for one picture into one, in their order.

        Args:
            prompts: At least one; either all or none have boxes, and likewise hints (of one size). Points are
                padded to the longest.
            limits: Bounds on the number of prompts.

        Returns:
            The prompt of them all.

        Raises:
            PromptError: The list is empty, or only some of them have boxes or hints.
            LimitError: There are more prompts than the limits allow.

        Example:
            >>> one = Prompt.make(image_hw=(9, 9), points=[1, 2])
            >>> len(Prompt.concat([one, one]))
            2
        """
        if not prompts:
            raise PromptError("expected at least one prompt to join, got none; pass a list of prompts")
        _check_count(sum(len(prompt) for prompt in prompts), limits)
        boxes = _all_or_none([prompt.boxes for prompt in prompts], "boxes")
        hints = _all_or_none([prompt.hint for prompt in prompts], "hints")
        if hints is not None and len({hint.shape[1:] for hint in hints}) != 1:
            raise PromptError(
                f"expected hints of one size, got {sorted({hint.shape[1:] for hint in hints})};"
                " join them apart"
            )
        longest = max(0 if prompt.points is None else prompt.points.shape[1] for prompt in prompts)
        points, labels = None, None
        if longest:
            padded = [_padded(prompt, longest) for prompt in prompts]
            points = np.concatenate([each[0] for each in padded])
            labels = np.concatenate([each[1] for each in padded])
        return cls(
            points,
            labels,
            None if boxes is None else np.concatenate(boxes),
            None if hints is None else np.concatenate(hints),
        )


def _points_and_labels(
    points: Any, labels: Any, limits: Limits
) -> tuple[NDArray[np.float64] | None, NDArray[np.int64] | None]:
    if points is None or _is_empty(points):
        if labels is not None and not _is_empty(labels):
            raise PromptError(
                "expected points along with labels, got labels alone; add the points they belong to"
            )
        return None, None
    rows = _point_rows(points)
    _check_count(len(rows), limits)
    longest = max(len(row) for row in rows)
    if longest > limits.max_points:
        raise LimitError(
            f"expected at most {limits.max_points:,} points in a prompt, got {longest:,};"
            " keep the telling ones"
        )
    point_array = np.zeros((len(rows), longest, 2))
    label_array = np.full((len(rows), longest), PADDING, dtype=np.int64)
    for i, (row, row_labels) in enumerate(zip(rows, _label_rows(labels, rows), strict=True)):
        point_array[i, : len(row)] = row
        label_array[i, : len(row)] = row_labels
    return (point_array, label_array) if longest else (None, None)


def _point_rows(points: Any) -> list[NDArray[np.float64]]:
    """Split points into one (K, 2) array a prompt."""
    try:
        array = np.asarray(points, dtype=np.float64)
    except _NO_NUMBERS as error:
        if not isinstance(points, list | tuple):
            raise _bad_points(points) from error
        return [_point_row(prompt) for prompt in points]
    if array.ndim == 3 and array.shape[2] == 2:
        return list(array)
    if array.ndim == 2 and array.shape[1] == 2:
        return [array]
    if array.shape == (2,):
        return [array[None]]
    raise _bad_points(points)


def _point_row(prompt: Any) -> NDArray[np.float64]:
    try:
        row = np.asarray(prompt, dtype=np.float64)
    except _NO_NUMBERS as error:
        raise _bad_points(prompt) from error
    if row.size == 0:
        return np.zeros((0, 2))
    if row.ndim != 2 or row.shape[1] != 2:
        raise _bad_points(prompt)
    return row


def _bad_points(points: Any) -> PromptError:
    return PromptError(
        f"expected points as numbers of shape (2,), (K, 2) or (N, K, 2), got {_shape_of(points)};"
        " give x, y pairs"
    )


def _label_rows(labels: Any, rows: list[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
    """Split labels into one (K,) array a prompt, as the points are."""
    if labels is None:
        return [np.full(len(row), FOREGROUND, dtype=np.int64) for row in rows]
    try:
        array = np.asarray(labels, dtype=np.float64)
    except _NO_NUMBERS:
        array = None
    if array is not None and array.ndim == 0:
        return [_checked_labels(np.full(len(row), array)) for row in rows]
    parts = [labels] if array is not None and array.ndim == 1 and len(rows) == 1 else labels
    if not isinstance(parts, list | tuple | np.ndarray) or len(parts) != len(rows):
        raise _bad_labels(labels, rows)
    found = []
    for part, row in zip(parts, rows, strict=True):
        try:
            values = np.asarray(part, dtype=np.float64)
        except _NO_NUMBERS as error:
            raise _bad_labels(labels, rows) from error
        if values.shape != (len(row),):
            raise _bad_labels(labels, rows)
        found.append(_checked_labels(values))
    return found


def _checked_labels(values: NDArray[np.float64]) -> NDArray[np.int64]:
    wrong = ~np.isin(values, (FOREGROUND, BACKGROUND, PADDING))
    if wrong.any():
        raise PromptError(
            "expected labels 1 (foreground), 0 (background) or -1 (padding),"
            f" got {values[wrong][0]:g}; use one of the three"
        )
    return values.astype(np.int64)


def _bad_labels(labels: Any, rows: list[NDArray[np.float64]]) -> PromptError:
    wanted = f"({len(rows[0])},)" if len(rows) == 1 else f"({len(rows)}, K)"
    return PromptError(
        f"expected one label a point, of shape {wanted}, got {_shape_of(labels)};"
        " give as many labels as points"
    )


def _placed(
    points: NDArray[np.float64], labels: NDArray[np.int64], image_hw: tuple[int, int], *, alone: bool
) -> NDArray[np.float64]:
    """Check that the points lie in the picture; padding is set to zero, whatever stood there."""
    real = labels != PADDING
    points = np.where(real[:, :, None], points, 0.0)
    if not np.isfinite(points).all():
        raise PromptError(
            f"expected finite points, got {_pair(points, ~np.isfinite(points))}; give pixel positions"
        )
    outside = (points < 0) | (points > (image_hw[1], image_hw[0]))
    if outside.any():
        raise PromptError(
            f"expected points inside the picture of {image_hw[1]} x {image_hw[0]} pixels (width x height),"
            f" got {_pair(points, outside)}; give x, y in its pixels"
        )
    if alone and not real.any(axis=1).all():
        empty = int(np.flatnonzero(~real.any(axis=1))[0])
        raise PromptError(
            f"expected a point or a box in each prompt, got none in prompt {empty}; add one or drop it"
        )
    return points


def _boxes(boxes: Any, limits: Limits) -> NDArray[np.float64] | None:
    if boxes is None or _is_empty(boxes):
        return None
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except _NO_NUMBERS:
        array = np.zeros(())
    if array.shape == (4,):
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 4:
        raise PromptError(
            f"expected boxes as numbers of shape (4,) or (N, 4), got {_shape_of(boxes)}; give x0, y0, x1, y1"
        )
    _check_count(len(array), limits)
    return array


def _clipped(boxes: NDArray[np.float64], image_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Check each box and cut off what lies outside the picture."""
    if not np.isfinite(boxes).all():
        raise PromptError(
            f"expected finite boxes, got {_row(boxes, ~np.isfinite(boxes).all(axis=1))}; give pixel positions"
        )
    sides = boxes[:, 2:] - boxes[:, :2]
    if (sides < 0).any():
        raise PromptError(
            f"expected boxes as x0, y0, x1, y1 with x0 < x1 and y0 < y1, got the reversed"
            f" {_row(boxes, (sides < 0).any(axis=1))}; swap its corners"
        )
    if (sides == 0).any():
        raise PromptError(
            f"expected boxes with an area, got {_row(boxes, (sides == 0).any(axis=1))} of zero area;"
            " make it wider or use a point"
        )
    height, width = image_hw
    clipped = np.clip(boxes, 0.0, np.array([width, height, width, height], dtype=np.float64))
    outside = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    if outside.any():
        raise PromptError(
            f"expected boxes that overlap the picture of {width} x {height} pixels (width x height),"
            f" got {_row(boxes, outside)}; give x0, y0, x1, y1 in its pixels"
        )
    return clipped


def _hint(hint: Any, count: int, limits: Limits) -> NDArray[np.float32] | None:
    if hint is None:
        return None
    try:
        array = np.asarray(hint, dtype=np.float32)
    except _NO_NUMBERS:
        array = np.zeros((), dtype=np.float32)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.size == 0:
        raise PromptError(
            f"expected a hint of logits of shape (h, w), (N, h, w) or (N, 1, h, w), got {_shape_of(hint)};"
            " pass the hint of an earlier answer"
        )
    if len(array) != count:
        raise PromptError(
            f"expected one hint a prompt, got {len(array)} for {count} prompts; pass (N, h, w) logits"
        )
    if max(array.shape[1:]) > limits.max_hint_side:
        raise LimitError(
            f"expected hints of at most {limits.max_hint_side:,} cells a side, got"
            f" {array.shape[1]} x {array.shape[2]}; pass the low-resolution logits of an earlier answer"
        )
    if not np.isfinite(array).all():
        raise PromptError(
            "expected a hint of finite logits, got NaN or infinity; pass the hint of an earlier answer"
        )
    return array.copy()  # the caller may go on writing into theirs


def _padded(prompt: Prompt, longest: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    points = np.zeros((len(prompt), longest, 2))
    labels = np.full((len(prompt), longest), PADDING, dtype=np.int64)
    if prompt.points is not None and prompt.labels is not None:
        points[:, : prompt.points.shape[1]] = prompt.points
        labels[:, : prompt.labels.shape[1]] = prompt.labels
    return points, labels


def _all_or_none(parts: list[Any], noun: str) -> list[NDArray[Any]] | None:
    given = sum(part is not None for part in parts)
    if given not in (0, len(parts)):
        raise PromptError(
            f"expected {noun} in all prompts or in none, got them in {given} of {len(parts)};"
            " join the two kinds apart"
        )
    return parts if given else None


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_prompts:
        raise LimitError(
            f"expected at most {limits.max_prompts:,} prompts, got {count:,}; split them over several calls"
        )


def _is_empty(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.size == 0
    try:
        return int(np.asarray(values, dtype=object).size) == 0
    except ValueError:  # lists of arrays of different length: ragged, so not empty
        return False


def _shape_of(values: Any) -> str:
    try:
        array = np.asarray(values)
    except _NO_NUMBERS:
        return (
            f"a list of {len(values)} parts of different shape" if hasattr(values, "__len__") else "no array"
        )
    return f"shape {array.shape}" if array.dtype.kind in "biuf" else f"values of type {type(values).__name__}"


def _pair(points: NDArray[np.float64], wrong: NDArray[np.bool_]) -> str:
    x, y = points[wrong.any(axis=2)][0]
    return f"({x:g}, {y:g})"


def _row(boxes: NDArray[np.float64], wrong: Any) -> str:
    return "(" + ", ".join(f"{value:g}" for value in boxes[wrong][0]) + ")"
