"""How picture pixels map to model pixels, and the overlap of boxes and masks.

This is the only place where coordinates change. A point is (x, y), a box is (x0, y0, x1, y1), a size is
(height, width); the centre of the top-left pixel is (0.5, 0.5), so a picture spans [0, width] x [0, height].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.errors import InputError

_NMS_BLOCK = 256  # boxes compared at a time: 256 x 3,000 overlaps stay in the cache
_RESIZE_BLOCK_BYTES = 2**18  # output rows made at a time: a quarter MiB stays in the second-level cache


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a picture lies inside the network's input.

    Attributes:
        image_hw: Size of the original picture, in pixels.
        scaled_hw: Size of the picture inside the network's input, in pixels.
        canvas_hw: Size of the network's input, padding included, in pixels.
        offset_yx: Where the scaled picture begins in the network's input, in pixels; SAM pads to the right and
            at the bottom only, so that it begins at (0, 0).

    Example:
        >>> Frame.fit((720, 1280), 1024).canvas_hw
        (1024, 1024)
    """

    image_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    canvas_hw: tuple[int, int]
    offset_yx: tuple[int, int] = (0, 0)

    @classmethod
    def fit(cls, image_hw: tuple[int, int], target: int, *, multiple: int | None = None) -> Self:
        """Scale the longest side to `target` as SAM does: `int(side * scale + 0.5)`, and at least one pixel.

        Args:
            image_hw: Size of the picture, each side at least 1.
            target: Length of the longest side in the network's input, at least 1.
            multiple: None for SAM's square canvas; else each side of the canvas is the scaled side rounded up
                to a multiple of this.

        Returns:
            The frame of that picture.

        Raises:
            InputError: A side, the target or the multiple is below 1.

        Example:
            >>> Frame.fit((720, 1280), 512, multiple=32).canvas_hw
            (288, 512)
            >>> Frame.fit((1, 5000), 1024).scaled_hw
            (1, 1024)
        """
        height, width = _checked_sizes(image_hw, target, multiple)
        scale = target / max(height, width)
        # SAM's rounding gives 0 for a side 2,048 times shorter than the other one: never less than one pixel.
        scaled_hw = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
        if multiple is None:
            canvas_hw = (target, target)
        else:
            canvas_hw = (-(-scaled_hw[0] // multiple) * multiple, -(-scaled_hw[1] // multiple) * multiple)
        return cls((height, width), scaled_hw, canvas_hw)

    @classmethod
    def letterbox(cls, image_hw: tuple[int, int], target: int, *, multiple: int | None = None) -> Self:
        """Scale the longest side to `target` and put the picture in the middle, as the YOLO family does.

        Sides are rounded half to even; of an odd number of padding pixels the larger half comes after the picture.

        Args:
            image_hw: Size of the picture, each side at least 1.
            target: Length of the longest side in the network's input, at least 1.
            multiple: None for a square canvas; else only as much padding as makes the sides differ from `target`
                by a multiple of this.

        Returns:
            The frame of that picture.

        Raises:
            InputError: A side, the target or the multiple is below 1.

        Example:
            >>> frame = Frame.letterbox((427, 640), 1024, multiple=32)
            >>> frame.scaled_hw, frame.canvas_hw, frame.offset_yx
            ((683, 1024), (704, 1024), (10, 0))
        """
        height, width = _checked_sizes(image_hw, target, multiple)
        scale = min(target / height, target / width)
        scaled_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
        spare = [target - side if multiple is None else (target - side) % multiple for side in scaled_hw]
        canvas_hw = (scaled_hw[0] + spare[0], scaled_hw[1] + spare[1])
        return cls((height, width), scaled_hw, canvas_hw, (spare[0] // 2, spare[1] // 2))

    def to_model_points(self, points_xy: ArrayLike) -> NDArray[np.float32]:
        """Map points from picture pixels to model pixels.

        Args:
            points_xy: (..., 2), picture pixels.

        Returns:
            (..., 2), model pixels.

        Raises:
            InputError: The last axis is not 2 long.

        Example:
            >>> Frame.fit((720, 1280), 1024).to_model_points([640, 360]).tolist()
            [512.0, 288.0]
        """
        points = _last_axis(points_xy, 2, "points") * self._scale_xy() + self._offset_xy()
        return points.astype(np.float32)

    def to_image_points(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Map points from model pixels to picture pixels, the inverse of `to_model_points`.

        Args:
            points_xy: (..., 2), model pixels.

        Returns:
            (..., 2), picture pixels.

        Raises:
            InputError: The last axis is not 2 long.

        Example:
            >>> Frame.fit((720, 1280), 1024).to_image_points([512, 288]).tolist()
            [640.0, 360.0]
        """
        return (_last_axis(points_xy, 2, "points") - self._offset_xy()) / self._scale_xy()

    def to_model_boxes(self, boxes_xyxy: ArrayLike) -> NDArray[np.float32]:
        """Map boxes from picture pixels to model pixels.

        Args:
            boxes_xyxy: (..., 4), picture pixels.

        Returns:
            (..., 4), model pixels.

        Raises:
            InputError: The last axis is not 4 long.

        Example:
            >>> Frame.fit((720, 1280), 1024).to_model_boxes([0, 0, 1280, 720]).tolist()
            [0.0, 0.0, 1024.0, 576.0]
        """
        boxes = _last_axis(boxes_xyxy, 4, "boxes") * np.tile(self._scale_xy(), 2)
        return (boxes + np.tile(self._offset_xy(), 2)).astype(np.float32)

    def to_image_boxes(self, boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Map boxes from model pixels to picture pixels, the inverse of `to_model_boxes`.

        Args:
            boxes_xyxy: (..., 4), model pixels.

        Returns:
            (..., 4), picture pixels.

        Raises:
            InputError: The last axis is not 4 long.

        Example:
            >>> Frame.fit((720, 1280), 1024).to_image_boxes([0, 0, 1024, 576]).tolist()
            [0.0, 0.0, 1280.0, 720.0]
        """
        boxes = _last_axis(boxes_xyxy, 4, "boxes") - np.tile(self._offset_xy(), 2)
        return boxes / np.tile(self._scale_xy(), 2)

    def to_dict(self) -> dict[str, list[int]]:
        """Give the frame as lists of integers, ready for JSON.

        Returns:
            The three sizes by name, and the offset unless it is (0, 0).

        Example:
            >>> Frame.fit((2, 4), 8).to_dict()
            {'image_hw': [2, 4], 'scaled_hw': [4, 8], 'canvas_hw': [8, 8]}
        """
        return {
            "image_hw": list(self.image_hw),
            "scaled_hw": list(self.scaled_hw),
            "canvas_hw": list(self.canvas_hw),
            **({"offset_yx": list(self.offset_yx)} if any(self.offset_yx) else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Args:
            data: The three sizes by name, each two positive integers, and possibly the offset.

        Returns:
            The frame.

        Raises:
            InputError: A size is missing, is not two positive integers, or the picture exceeds the canvas.

        Example:
            >>> Frame.from_dict({"image_hw": [2, 4], "scaled_hw": [4, 8], "canvas_hw": [8, 8]}).canvas_hw
            (8, 8)
        """
        image_hw, scaled_hw, canvas_hw = (_size_of(data, k) for k in ("image_hw", "scaled_hw", "canvas_hw"))
        offset_yx = _size_of(data, "offset_yx", at_least=0) if "offset_yx" in data else (0, 0)
        frame = cls(image_hw, scaled_hw, canvas_hw, offset_yx)
        if not frame.fits():
            raise InputError(
                f"expected a frame whose scaled_hw fits into its canvas_hw, got {scaled_hw} in {canvas_hw}"
                f" from {offset_yx} on; make the frame again with Frame.fit"
            )
        return frame

    def fits(self) -> bool:
        """Tell whether the scaled picture lies inside the network's input.

        Example:
            >>> Frame((2, 2), (4, 4), (4, 4), (1, 0)).fits()
            False
        """
        sides = zip(self.offset_yx, self.scaled_hw, self.canvas_hw, strict=True)
        return all(start >= 0 and start + side <= canvas for start, side, canvas in sides)

    def _scale_xy(self) -> NDArray[np.float64]:
        # Each axis has its own factor, because each side was rounded on its own.
        return np.array(
            [self.scaled_hw[1] / self.image_hw[1], self.scaled_hw[0] / self.image_hw[0]], dtype=np.float64
        )

    def _offset_xy(self) -> NDArray[np.float64]:
        return np.array(self.offset_yx[::-1], dtype=np.float64)


def box_iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> NDArray[np.float64]:
    """Measure how much boxes overlap: intersection over union.

    Args:
        boxes_a: (N, 4) xyxy, any one unit.
        boxes_b: (M, 4) xyxy, the same unit.

    Returns:
        (N, M) in [0, 1]; 0 where both boxes have no area.

    Raises:
        InputError: An array is not (N, 4).

    Example:
        >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
        [[0.333, 0.0]]
    """
    a, b = _boxes_2d(boxes_a), _boxes_2d(boxes_b)
    return _pair_iou(a, b, _areas(a), _areas(b))


def mask_iou(mask_a: NDArray[np.bool_], mask_b: NDArray[np.bool_]) -> float:
    """Measure how much two masks overlap: intersection over union.

    Args:
        mask_a: (H, W).
        mask_b: (H, W), the same size.

    Returns:
        A number in [0, 1]; two empty masks are equal, hence 1.

    Raises:
        InputError: The sizes differ.

    Example:
        >>> mask_iou(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    a, b = np.asarray(mask_a, dtype=bool), np.asarray(mask_b, dtype=bool)
    if a.shape != b.shape:
        raise InputError(f"expected two masks of one size, got {a.shape} and {b.shape}; resize one of them")
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def nms(boxes_xyxy: ArrayLike, scores: ArrayLike, iou_threshold: float) -> NDArray[np.int64]:
    """Drop each box that overlaps a better one: greedy non-maximum suppression.

    Args:
        boxes_xyxy: (N, 4), any unit.
        scores: (N,), higher is better; among equal scores the lower index is better.
        iou_threshold: A box is dropped when its overlap with a kept one is above this.

    Returns:
        (K,) indices of the kept boxes, best first.

    Raises:
        InputError: The boxes are not (N, 4) or the scores are not (N,).

    Example:
        >>> nms([[0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 10, 10]], [0.5, 0.9, 0.1], 0.5).tolist()
        [1, 2]
    """
    boxes = _boxes_2d(boxes_xyxy)
    points = np.asarray(scores, dtype=np.float64)
    if points.shape != (len(boxes),):
        raise InputError(
            f"expected one score for each of {len(boxes)} boxes, got scores of shape {points.shape};"
            " pass (N,) scores"
        )
    order = np.argsort(-points, kind="stable")
    boxes = boxes[order]
    areas = _areas(boxes)
    alive = np.ones(len(boxes), dtype=bool)
    for start in range(0, len(boxes), _NMS_BLOCK):
        block = start + np.flatnonzero(alive[start : start + _NMS_BLOCK])
        # Candidates of this block are settled among themselves; the survivors then clear the rest at once.
        inside = _pair_iou(boxes[block], boxes[block], areas[block], areas[block]) > iou_threshold
        kept_here = _settle(inside)
        alive[block[~kept_here]] = False
        kept = block[kept_here]
        rest = start + _NMS_BLOCK + np.flatnonzero(alive[start + _NMS_BLOCK :])
        if len(kept) and len(rest):
            overlap = _pair_iou(boxes[kept], boxes[rest], areas[kept], areas[rest])
            alive[rest[(overlap > iou_threshold).any(axis=0)]] = False
    return order[alive].astype(np.int64)


def resize_bilinear(
    logits: NDArray[np.float32],
    out_hw: tuple[int, int],
    *,
    region_hw: tuple[float, float] | None = None,
    region_yx: tuple[float, float] = (0.0, 0.0),
    window: tuple[slice, slice] | None = None,
) -> NDArray[np.float32]:
    """Resize maps with two taps a side, pixel centres at one half, edges repeated, and no antialiasing.

    This is what `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` computes. At the
    border of a region that is smaller than the input, cells beyond it still count, as if cropped afterwards.

    Args:
        logits: (N, h, w).
        out_hw: Size (H, W) of the result.
        region_hw: The part of the input, in cells (may be fractional), that maps onto the result; None for all
            of it.
        region_yx: Where that part begins, in cells (may be fractional).
        window: Rows and columns of the result that are wanted; None for all of it.

    Returns:
        (N, H, W), a new array; the window of it if there is one.

    Raises:
        InputError: The input is not (N, h, w), a size is below 1, or the region is not inside the input.

    Example:
        >>> resize_bilinear(np.array([[[0, 4]]], dtype=np.float32), (1, 4)).tolist()
        [[[0.0, 1.0, 3.0, 4.0]]]
        >>> resize_bilinear(np.array([[[0, 4]]], dtype=np.float32), (1, 2), region_hw=(1, 1)).tolist()
        [[[0.0, 1.0]]]
    """
    maps = np.asarray(logits, dtype=np.float32)
    if maps.ndim != 3 or min(maps.shape[1:]) < 1:
        raise InputError(f"expected maps of shape (N, h, w), got {maps.shape}; add or drop an axis")
    height, width = int(out_hw[0]), int(out_hw[1])
    region = region_hw if region_hw is not None else maps.shape[1:]
    parts = list(zip(region_yx, region, maps.shape[1:], strict=True))
    if min(height, width) < 1 or not all(0 <= y and 0 < h and y + h <= cells for y, h, cells in parts):
        raise InputError(
            "expected an output size of at least 1 x 1 and a region inside the input of"
            f" {maps.shape[1]} x {maps.shape[2]}, got output {height} x {width} and region"
            f" {region[0]} x {region[1]}; correct the sizes"
        )
    rows, row_part = _taps(height, *parts[0])
    columns, column_part = _taps(width, *parts[1])
    if window is not None:
        rows, row_part = rows[window[0]], row_part[window[0]]
        columns, column_part = columns[window[1]], column_part[window[1]]
        height, width = len(rows), len(columns)
    if not height or not width:
        return np.empty((len(maps), height, width), dtype=np.float32)
    out = np.empty((len(maps), height, width), dtype=np.float32)
    step = max(1, _RESIZE_BLOCK_BYTES // (4 * width))
    scratch = np.empty((min(step, height), width), dtype=np.float32)
    first, last = int(rows.min()), int(rows.max()) + 2
    for one, target in zip(maps, out, strict=True):
        # Columns first, on the few input rows: the second pass then only copies and mixes whole rows.
        wide = _mix_columns(one[first:last], columns, column_part)  # (rows used, W)
        slope = np.diff(wide, axis=0, append=wide[-1:])
        for start in range(0, height, step):
            block = slice(start, min(start + step, height))
            part = scratch[: block.stop - block.start]
            np.take(slope, rows[block] - first, axis=0, out=part, mode="clip")
            part *= row_part[block, None]
            np.take(wide, rows[block] - first, axis=0, out=target[block], mode="clip")
            target[block] += part
    return out


def _mix_columns(
    rows: NDArray[np.float32], columns: NDArray[np.int64], part: NDArray[np.float32]
) -> NDArray[np.float32]:
    slope = np.diff(rows, axis=1, append=rows[:, -1:])
    mixed: NDArray[np.float32] = np.take(slope, columns, axis=1)
    mixed *= part
    mixed += np.take(rows, columns, axis=1)
    return mixed


def _taps(
    size: int, start: float, region: float, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each output pixel of one axis: the lower cell, and how far (0 to 1) towards the next one."""
    where = (np.arange(size, dtype=np.float64) + 0.5) * (region / size) + (start - 0.5)
    where = np.clip(where, 0.0, cells - 1)
    lower = where.astype(np.int64)
    return lower, (where - lower).astype(np.float32)


def _settle(clash: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Greedy choice inside one block, whose rows (N, N) are ordered best first."""
    alive = np.ones(len(clash), dtype=bool)
    for i in range(len(clash)):
        if alive[i]:
            alive[i + 1 :] &= ~clash[i, i + 1 :]
    return alive


def _pair_iou(
    a: NDArray[np.float64], b: NDArray[np.float64], areas_a: NDArray[np.float64], areas_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    overlap = np.minimum(a[:, None, 2], b[None, :, 2])
    overlap -= np.maximum(a[:, None, 0], b[None, :, 0])
    np.maximum(overlap, 0.0, out=overlap)
    tall = np.minimum(a[:, None, 3], b[None, :, 3])
    tall -= np.maximum(a[:, None, 1], b[None, :, 1])
    np.maximum(tall, 0.0, out=tall)
    overlap *= tall
    union = np.subtract(areas_a[:, None] + areas_b[None, :], overlap, out=tall)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return sides[:, 0] * sides[:, 1]


def _boxes_2d(boxes: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"expected boxes of shape (N, 4) as x0, y0, x1, y1, got {array.shape}; reshape them")
    return array


def _last_axis(values: ArrayLike, length: int, noun: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 1 or array.shape[-1] != length:
        raise InputError(f"expected {noun} of shape (..., {length}), got {array.shape}; reshape them")
    return array


def _checked_sizes(image_hw: tuple[int, int], target: int, multiple: int | None) -> tuple[int, int]:
    height, width = (int(side) for side in image_hw)
    if min(height, width, target) < 1 or (multiple is not None and multiple < 1):
        raise InputError(
            f"expected picture sides, target and multiple of at least 1, got a picture of"
            f" {height} x {width}, target {target} and multiple {multiple}; pass positive sizes"
        )
    return height, width


def _size_of(data: Mapping[str, Any], key: str, *, at_least: int = 1) -> tuple[int, int]:
    value = data.get(key)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(
            f"expected {key} as two integers, got {value!r}; make the frame again with Frame.fit"
        )
    height, width = value
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= at_least for side in value):
        raise InputError(f"expected {key} as two positive integers, got {value!r}; make the frame again")
    return int(height), int(width)
