"""Where everything mode clicks, and when it believes the answer: SAM's settings, grids of points and crops."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.errors import InputError

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole picture pixels; the end is exclusive."""

_MAX_LAYERS = 6  # 4,096 crops in the last layer, each of which is encoded


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Settings of SAM's automatic mask generation, with SAM's names and defaults.

    Attributes:
        points_per_side: Clicks along each side of the picture; None if `point_grids` gives them.
        points_per_batch: Most clicks decoded at a time; it changes time and memory, not the answer.
        pred_iou_thresh: The network's own estimate of a mask must be above this; 0 or less lets all pass.
        stability_score_thresh: The stability score must reach this; 0 or less lets all pass.
        stability_score_offset: How far the threshold is moved up and down for the stability score, in logits.
        box_nms_thresh: Of masks whose boxes overlap by more than this (IoU) the best stays.
        crop_n_layers: Layer k looks at 4**k crops of the picture again.
        crop_nms_thresh: Like `box_nms_thresh`, between crops; the smaller crop wins.
        crop_overlap_ratio: Overlap of the first layer's crops, as a share of the picture's shorter side.
        crop_n_points_downscale_factor: Clicks along a side are divided by this once for each layer.
        point_grids: One (N, 2) array for each layer, x and y in [0, 1]; None if `points_per_side` gives them.
        min_mask_region_area: Smaller holes and islands are removed, in pixels; 0 leaves masks as they are.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> len(Grid(points_per_side=4).layers()[0])
        16
    """

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[NDArray[np.float64]] | None = field(default=None, repr=False)
    min_mask_region_area: float = 0

    def __post_init__(self) -> None:
        """Check every setting."""
        if (self.points_per_side is None) == (self.point_grids is None):
            given = "neither" if self.points_per_side is None else "both"
            raise InputError(
                f"expected points_per_side or point_grids, got {given}; set the other one to None"
            )
        for name, low, high in _WHOLE:
            _check_whole(name, getattr(self, name), low, high)
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not (_is_number(value) and least <= value <= most):
                raise InputError(f"expected {name} {_between(least, most)}, got {value!r}; correct it")
        if self.point_grids is not None:
            grids = tuple(_checked_points(points) for points in self.point_grids)
            if len(grids) <= self.crop_n_layers:
                raise InputError(
                    f"expected one of point_grids for each of {self.crop_n_layers + 1} layers, got {len(grids)}; "
                    "the first is for the whole picture"
                )
            object.__setattr__(self, "point_grids", grids)

    @classmethod
    def parse(cls, size: str | None, card: Card) -> Self:
        """Make a grid of a size, with the thresholds that suit a model.

        SAM's thresholds are made for SAM's scores; a model whose scores are lower names its own in its card's
        settings "pred_iou_thresh" and "stability_score_thresh".

        Args:
            size: Clicks along the sides as "32x32" or "32"; None for SAM's 32.
            card: The model.

        Raises:
            InputError: The size is none.

        Example:
            >>> from samlet.registry import resolve
            >>> Grid.parse("16x16", resolve("mobile_sam")).pred_iou_thresh
            0.88
        """
        match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", size or "32")
        if match is None or match[2] not in (None, match[1]):
            raise InputError(
                f"expected the size of a grid, such as 32x32, got {size!r:.40}; both sides are equal"
            )
        grid = cls(points_per_side=int(match[1]))
        score, stability = (card.settings.get(name) for name in ("pred_iou_thresh", "stability_score_thresh"))
        return replace(
            grid,
            pred_iou_thresh=float(score) if _is_number(score) else grid.pred_iou_thresh,
            stability_score_thresh=float(stability) if _is_number(stability) else grid.stability_score_thresh,
        )

    def layers(self) -> list[NDArray[np.float64]]:
        """Give the clicks of each layer, first the whole picture's.

        Returns:
            (N, 2) for each layer: x and y as shares of the crop, x fastest.
        """
        if self.point_grids is not None:
            return list(self.point_grids)
        factor = self.crop_n_points_downscale_factor
        sides = [int((self.points_per_side or 1) / factor**layer) for layer in range(self.crop_n_layers + 1)]
        # A layer so deep that nothing would be left of a side still gets its one click in the middle.
        return [point_grid(max(1, side)) for side in sides]

    def crops(self, image_hw: tuple[int, int]) -> list[tuple[Box, int]]:
        """Give the crops of a picture, each with the number of its layer, first the whole picture."""
        boxes, layers = crop_boxes(image_hw, self.crop_n_layers, self.crop_overlap_ratio)
        return list(zip(boxes, layers, strict=True))


_WHOLE = (  # name, least, most
    ("points_per_side", 1, 1024),
    ("points_per_batch", 1, None),
    ("crop_n_layers", 0, _MAX_LAYERS),
    ("crop_n_points_downscale_factor", 1, None),
)
_RANGES = (
    ("pred_iou_thresh", -math.inf, math.inf),
    ("stability_score_thresh", -math.inf, math.inf),
    ("stability_score_offset", 0.0, math.inf),
    ("box_nms_thresh", 0.0, 1.0),
    ("crop_nms_thresh", 0.0, 1.0),
    ("crop_overlap_ratio", 0.0, 0.99),
    ("min_mask_region_area", 0.0, math.inf),
)


def point_grid(side: int) -> NDArray[np.float64]:
    """Spread points evenly over a square.

    Args:
        side: Points along each side, at least 1.

    Returns:
        (side * side, 2) x and y in [0, 1], half a step away from the border, x fastest.

    Raises:
        InputError: The number is below 1.

    Example:
        >>> point_grid(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    _check_whole("points along a side", side, 1, None)
    margin = 1 / (2 * side)
    ticks = np.linspace(margin, 1 - margin, side)
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return np.stack((x.ravel(), y.ravel()), axis=1)


def crop_boxes(image_hw: tuple[int, int], layers: int, overlap_ratio: float) -> tuple[list[Box], list[int]]:
    """Cover a picture with ever smaller crops that overlap.

    Args:
        image_hw: Size of the picture.
        layers: Layers beyond the picture itself; layer k has 2**k crops along each side.
        overlap_ratio: Overlap in the first layer as a share of the shorter side; halved from layer to layer.

    Returns:
        The crops, first the whole picture and then column by column in each layer, and the layer of each. Crops
        that would have no pixels are left out.

    Example:
        >>> crop_boxes((10, 20), 1, 0.2)[0]
        [(0, 0, 20, 10), (0, 0, 11, 6), (0, 4, 11, 10), (9, 0, 20, 6), (9, 4, 20, 10)]
    """
    height, width = image_hw
    boxes: list[Box] = [(0, 0, width, height)]
    depths = [0]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / per_side))
        crop_h, crop_w = (math.ceil((overlap * (per_side - 1) + side) / per_side) for side in image_hw)
        for column, row in product(range(per_side), range(per_side)):
            x0, y0 = (crop_w - overlap) * column, (crop_h - overlap) * row
            box = (x0, y0, min(x0 + crop_w, width), min(y0 + crop_h, height))
            if box[2] > x0 and box[3] > y0:
                boxes.append(box)
                depths.append(layer)
    return boxes, depths


def near_crop_edge(
    boxes_xyxy: NDArray[np.float64], crop: Box, image_hw: tuple[int, int], *, within: float = 20.0
) -> NDArray[np.bool_]:
    """Tell which boxes end at an edge of the crop that is no edge of the picture: what they hold was cut off.

    Args:
        boxes_xyxy: (N, 4) in picture pixels.
        crop: The crop.
        image_hw: Size of the picture.
        within: How near an edge is near, in pixels.

    Returns:
        (N,) bool.

    Example:
        >>> near_crop_edge(np.array([[30.0, 30, 99, 60]]), (0, 0, 100, 100), (100, 200)).tolist()
        [True]
    """
    whole = np.array((0, 0, image_hw[1], image_hw[0]), np.float64)
    at_crop = np.abs(boxes_xyxy - np.array(crop, np.float64)) <= within
    at_picture = np.abs(boxes_xyxy - whole) <= within
    return np.asarray((at_crop & ~at_picture).any(axis=1))


def _check_whole(name: str, value: object, least: int, most: int | None) -> None:
    if value is None and name == "points_per_side":
        return
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"expected {name} as a whole number, got {value!r}; correct it")
    if value < least or (most is not None and value > most):
        limit = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"expected {name} {limit}, got {value}; correct it")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float | np.integer | np.floating) and not (
        isinstance(value, bool) or math.isnan(value)
    )


def _between(least: float, most: float) -> str:
    if math.isfinite(least) and math.isfinite(most):
        return f"from {least:g} to {most:g}"
    return f"of {least:g} or more" if math.isfinite(least) else "as a number"


def _checked_points(points: object) -> NDArray[np.float64]:
    array = np.asarray(points, np.float64)
    if (
        array.ndim != 2
        or array.shape[1:] != (2,)
        or not len(array)
        or not bool(((array >= 0) & (array <= 1)).all())
    ):
        raise InputError(
            f"expected point_grids of shape (N, 2) with x and y from 0 to 1, got shape {array.shape}; divide pixels "
            "by the size of the picture"
        )
    return array
