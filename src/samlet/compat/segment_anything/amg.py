"""The small functions that people import from `segment_anything.utils.amg`.

Arrays in give arrays out; torch tensors in give tensors on the same device out, and torch is never imported here.
Boxes are x0, y0, x1, y1 with *inclusive* ends, as everywhere in that module.
"""

from collections.abc import Generator, ItemsView, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.compat.segment_anything.arrays import is_tensor, loaded_torch, to_numpy, to_tensor
from samlet.components import without_small_parts
from samlet.errors import InputError
from samlet.everything.grid import crop_boxes, near_crop_edge, point_grid
from samlet.rle import Rle, mask_to_rle, rle_area, rle_to_string
from samlet.rle import rle_to_mask as _decoded

__all__ = [
    "MaskData",
    "area_from_rle",
    "batch_iterator",
    "batched_mask_to_box",
    "box_xyxy_to_xywh",
    "build_all_layer_point_grids",
    "build_point_grid",
    "calculate_stability_score",
    "coco_encode_rle",
    "generate_crop_boxes",
    "is_box_near_crop_edge",
    "mask_to_rle_pytorch",
    "remove_small_regions",
    "rle_to_mask",
    "uncrop_boxes_xyxy",
    "uncrop_masks",
    "uncrop_points",
]

Values = Any
"""An array, or a torch tensor."""


def _like(array: NDArray[Any], model: Values) -> Values:
    """Give an array in the form, and on the device, of what came in."""
    return to_tensor(np.array(array), model) if is_tensor(model) else array


class MaskData:
    """Lists, arrays or tensors of one length by name, filtered and joined together."""

    def __init__(self, **stats: Values) -> None:
        """Take the columns.

        Raises:
            InputError: One is no list, array or tensor.
        """
        self._stats: dict[str, Values] = {}
        for name, values in stats.items():
            self[name] = values

    def __setitem__(self, key: str, item: Values) -> None:
        if not (isinstance(item, list | np.ndarray) or is_tensor(item)):
            raise InputError(
                f"expected {key} as a list, array or tensor, got {type(item).__name__}; convert it"
            )
        self._stats[key] = item

    def __delitem__(self, key: str) -> None:
        del self._stats[key]

    def __getitem__(self, key: str) -> Values:
        return self._stats[key]

    def items(self) -> ItemsView[str, Values]:
        """Go through names and columns."""
        return self._stats.items()

    def filter(self, keep: Values) -> None:
        """Keep some rows, in place.

        Args:
            keep: One bool for each row, or the numbers of the rows in their new order.
        """
        chosen = to_numpy(keep)
        rows = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        for name, values in self._stats.items():
            if isinstance(values, list):
                self._stats[name] = [values[row] for row in rows]
            elif is_tensor(values):
                self._stats[name] = values[_like(rows, values)]
            else:
                self._stats[name] = values[rows]

    def cat(self, new_stats: "MaskData") -> None:
        """Append the rows of another one, in place; columns that are new are copied."""
        for name, values in new_stats.items():
            if name not in self._stats:
                self._stats[name] = deepcopy(values)
            elif isinstance(values, list):
                self._stats[name] = self._stats[name] + deepcopy(values)
            elif is_tensor(values):
                self._stats[name] = loaded_torch().cat([self._stats[name], values], dim=0)
            else:
                self._stats[name] = np.concatenate([self._stats[name], values], axis=0)

    def to_numpy(self) -> None:
        """Turn tensors into arrays, in place."""
        self._stats = {
            name: to_numpy(values) if is_tensor(values) else values for name, values in self._stats.items()
        }


def is_box_near_crop_edge(
    boxes: Values, crop_box: Sequence[int], orig_box: Sequence[int], atol: float = 20.0
) -> Values:
    """Tell which boxes end at an edge of the crop that is no edge of the picture.

    Args:
        boxes: (N, 4) in the crop's pixels.
        crop_box: The crop, x0, y0, x1, y1.
        orig_box: The picture, 0, 0, width, height.
        atol: How near is near, in pixels.

    Returns:
        (N,) bool.
    """
    x0, y0, x1, y1 = (int(side) for side in crop_box)
    moved = to_numpy(boxes).astype(np.float64) + np.array((x0, y0, x0, y0), np.float64)
    near = near_crop_edge(moved, (x0, y0, x1, y1), (int(orig_box[3]), int(orig_box[2])), within=atol)
    return _like(near, boxes)


def box_xyxy_to_xywh(box_xyxy: Values) -> Values:
    """Turn one box (4,), or an array (4, ...), into x, y, width, height; a new object of the same kind."""
    box = deepcopy(box_xyxy)
    box[2] = box[2] - box[0]
    box[3] = box[3] - box[1]
    return box


def batch_iterator(batch_size: int, *args: Values) -> Generator[list[Values], None, None]:
    """Go through things of equal length, `batch_size` rows of each at a time.

    Raises:
        InputError: There is nothing, or the lengths differ.
    """
    if not args or len({len(values) for values in args}) != 1:
        raise InputError(
            f"expected things of one length, got {[len(values) for values in args]}; cut them alike"
        )
    for start in range(0, len(args[0]), batch_size):
        yield [values[start : start + batch_size] for values in args]


def mask_to_rle_pytorch(tensor: Values) -> list[Rle]:
    """Code masks (B, H, W) as plain run lengths."""
    return [mask_to_rle(mask) for mask in to_numpy(tensor)]


def rle_to_mask(rle: Rle) -> NDArray[np.bool_]:
    """Decode plain (or compressed) run lengths: (H, W) bool.

    Raises:
        InputError: The code is malformed.
    """
    return _decoded(rle)


def area_from_rle(rle: Rle) -> int:
    """Count the pixels inside."""
    return rle_area(rle)


def coco_encode_rle(uncompressed_rle: Rle) -> Rle:
    """Compress plain run lengths into COCO's string (a text, ready for JSON)."""
    height, width = uncompressed_rle["size"]
    return Rle(size=[height, width], counts=rle_to_string(uncompressed_rle))


def calculate_stability_score(masks: Values, mask_threshold: float, threshold_offset: float) -> Values:
    """Rate how little masks change when the threshold moves.

    Args:
        masks: (..., H, W) logits; rows may be longer than 32,767, where the original counts wrongly.
        mask_threshold: Where a mask begins.
        threshold_offset: How far the threshold is moved.

    Returns:
        (...) float32; not a number where there is nothing even at the lower threshold, as in the original.
    """
    logits = to_numpy(masks)
    inner = np.count_nonzero(logits > mask_threshold + threshold_offset, axis=(-2, -1))
    outer = np.count_nonzero(logits > mask_threshold - threshold_offset, axis=(-2, -1))
    stable = np.full(np.shape(outer), np.nan, np.float32)
    np.divide(np.float32(inner), np.float32(outer), out=stable, where=np.asarray(outer > 0))
    return _like(stable, masks)


def build_point_grid(n_per_side: int) -> NDArray[np.float64]:
    """Spread points evenly: (n * n, 2) in [0, 1], x fastest.

    Raises:
        InputError: The number is below 1.
    """
    return point_grid(n_per_side)


def build_all_layer_point_grids(
    n_per_side: int, n_layers: int, scale_per_layer: int
) -> list[NDArray[np.float64]]:
    """Make the grids of all crop layers; each has at least one point."""
    sides = (int(n_per_side / scale_per_layer**layer) for layer in range(n_layers + 1))
    return [point_grid(max(1, side)) for side in sides]


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Give the crops of a picture of (height, width), x0, y0, x1, y1 with exclusive ends, and their layers."""
    boxes, layers = crop_boxes((im_size[0], im_size[1]), n_layers, overlap_ratio)
    return [list(box) for box in boxes], layers


def uncrop_boxes_xyxy(boxes: Values, crop_box: Sequence[int]) -> Values:
    """Move boxes (..., 4) from a crop to the picture."""
    x0, y0 = crop_box[:2]
    return boxes + _like(np.array((x0, y0, x0, y0)), boxes)


def uncrop_points(points: Values, crop_box: Sequence[int]) -> Values:
    """Move points (..., 2) from a crop to the picture."""
    return points + _like(np.array(crop_box[:2]), points)


def uncrop_masks(masks: Values, crop_box: Sequence[int], orig_h: int, orig_w: int) -> Values:
    """Put masks (..., h, w) of a crop into the picture; those of the whole picture come back as they are."""
    x0, y0, x1, y1 = crop_box
    if (x0, y0, x1, y1) == (0, 0, orig_w, orig_h):
        return masks
    array = to_numpy(masks)
    whole = np.zeros((*array.shape[:-2], orig_h, orig_w), array.dtype)
    whole[..., y0:y1, x0:x1] = array
    return _like(whole, masks)


def remove_small_regions(
    mask: NDArray[np.bool_], area_thresh: float, mode: str
) -> tuple[NDArray[np.bool_], bool]:
    """Fill small holes ("holes") or wipe out small islands ("islands") of one mask, without OpenCV.

    Args:
        mask: (H, W) bool.
        area_thresh: Regions with fewer pixels are small.
        mode: "holes" or "islands".

    Returns:
        The mask, the same one if nothing was small, and whether anything was.

    Raises:
        InputError: The mode is another one.
    """
    if mode not in ("holes", "islands"):
        raise InputError(f"expected mode 'holes' or 'islands', got {mode!r}; choose one of the two")
    rle, changed = without_small_parts(
        mask_to_rle(mask), area_thresh, what="holes" if mode == "holes" else "islands"
    )
    return (_decoded(rle), True) if changed else (mask, False)


def batched_mask_to_box(masks: Values) -> Values:
    """Find the boxes of masks.

    Args:
        masks: (..., H, W), non-zero is inside.

    Returns:
        (..., 4) int64 with inclusive ends; zeros for an empty mask.
    """
    inside = to_numpy(masks) != 0
    sides: list[ArrayLike] = []
    for axis in (-2, -1):  # over the rows for x, over the columns for y
        touched: NDArray[np.bool_] = np.logical_or.reduce(inside, axis=axis)
        length = touched.shape[-1]
        if not touched.size:
            return _like(np.zeros((*inside.shape[:-2], 4), np.int64), masks)
        sides += [touched.argmax(axis=-1), length - 1 - touched[..., ::-1].argmax(axis=-1)]
    boxes = np.stack((sides[0], sides[2], sides[1], sides[3]), axis=-1)
    boxes[~inside.any(axis=(-2, -1))] = 0
    return _like(boxes.astype(np.int64), masks)
