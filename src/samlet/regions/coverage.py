"""What each of N regions covers, answered from run lengths without painting a mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.errors import InputError
from samlet.masks import Masks, StoredMasks
from samlet.rle import Rle, mask_to_rle, rle_to_bbox, rle_to_mask

NOTHING = -1
"""Index that stands for "no region fits"."""

_BOXES_AT_A_TIME = 256


class Regions:
    """N masks of one picture as run lengths, ready to be asked about points, boxes and each other.

    Attributes:
        image_hw: Size of the picture.
        rles: One plain run-length code for each region.
        boxes_xyxy: (N, 4) int64 bounding boxes with exclusive ends; zeros for an empty region.
        areas: (N,) int64 numbers of pixels.

    Example:
        >>> regions = Regions.of(np.array([[[1, 1, 0], [1, 1, 0]]], bool))
        >>> regions.contains([[0.5, 0.5], [2.5, 0.5], [-1, 0]]).tolist()
        [[True, False, False]]
        >>> regions.inside_boxes([[1, 0, 3, 2]]).tolist()
        [[2]]
    """

    def __init__(self, rles: Sequence[Rle], image_hw: tuple[int, int]) -> None:
        """Measure the regions; `Regions.of` makes one from whatever holds masks.

        Args:
            rles: Plain run-length codes of the picture's size.
            image_hw: Size of the picture.

        Raises:
            InputError: A code is compressed or of another size.
        """
        self.image_hw = (int(image_hw[0]), int(image_hw[1]))
        self.rles = tuple(rles)
        if any(tuple(rle["size"]) != self.image_hw or isinstance(rle["counts"], str) for rle in self.rles):
            raise InputError(
                f"expected plain run-length codes of {self.image_hw[0]} x {self.image_hw[1]} pixels, got another "
                "size or compressed ones; pass masks of one picture"
            )
        self._knots = [_knots(rle) for rle in self.rles]
        self.areas = np.array([filled[-1] for _, filled in self._knots], np.int64)
        xywh = np.array([rle_to_bbox(rle) for rle in self.rles], np.int64).reshape(-1, 4)
        self.boxes_xyxy = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)

    @classmethod
    def of(cls, masks: "Masks | NDArray[Any] | Regions") -> "Regions":
        """Take regions from masks.

        Args:
            masks: `Masks` of any model, or an array (N, H, W) whose non-zero values are inside.

        Raises:
            InputError: The array has other axes, or the masks have several candidates a prompt.
        """
        if isinstance(masks, Regions):
            return masks
        if isinstance(masks, StoredMasks):
            return cls(masks.rles, masks.frame.image_hw)
        if isinstance(masks, Masks):
            return cls(masks.to_rle(compressed=False), masks.frame.image_hw)
        array = np.asarray(masks)
        if array.ndim != 3 or 0 in array.shape[1:]:
            raise InputError(f"expected masks of shape (N, H, W), got {array.shape}; add or drop an axis")
        return cls([mask_to_rle(mask) for mask in array], (array.shape[1], array.shape[2]))

    def __len__(self) -> int:
        """Count the regions, N."""
        return len(self.rles)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Paint one region, (H, W); an empty one for `NOTHING`."""
        if index == NOTHING:
            return np.zeros(self.image_hw, np.bool_)
        return rle_to_mask(self.rles[index])

    def contains(self, points_xy: ArrayLike) -> NDArray[np.bool_]:
        """Tell which regions hold which points.

        Args:
            points_xy: (K, 2) picture pixels; a point belongs to the pixel it lies in, one on the right or lower
                border of the picture to the last pixel. A point outside the picture lies in no region.

        Returns:
            (N, K).
        """
        points = np.asarray(points_xy, np.float64).reshape(-1, 2)
        height, width = self.image_hw
        # Comparisons with NaN are False: such a point lies nowhere.
        within = np.asarray(((points >= 0) & (points <= (width, height))).all(axis=1))
        x, y = np.floor(np.where(within[:, None], points, 0)).astype(np.int64).T
        place = np.minimum(x, width - 1) * height + np.minimum(y, height - 1)
        inside = np.zeros((len(self), len(points)), np.bool_)
        for number, (edges, filled) in enumerate(self._knots):
            inside[number] = np.interp(place + 1, edges, filled) > np.interp(place, edges, filled)
        return np.logical_and(inside, within)

    def inside_boxes(self, boxes_xyxy: ArrayLike) -> NDArray[np.int64]:
        """Count the pixels of each region in each box.

        Args:
            boxes_xyxy: (M, 4) whole picture pixels with exclusive ends, inside the picture.

        Returns:
            (N, M).
        """
        boxes = np.asarray(boxes_xyxy, np.int64).reshape(-1, 4)
        counts = np.zeros((len(self), len(boxes)), np.int64)
        for row, own, knots in zip(counts, self.boxes_xyxy, self._knots, strict=True):
            low, high = np.maximum(boxes[:, :2], own[:2]), np.minimum(boxes[:, 2:], own[2:])
            for start in range(0, len(boxes), _BOXES_AT_A_TIME):  # a bound on the memory
                part = slice(start, start + _BOXES_AT_A_TIME)
                row[part] = _pixels_in(knots, low[part], high[part], self.image_hw[0])
        return counts

    def shared_with(self, index: int) -> NDArray[np.int64]:
        """Count the pixels that each region shares with one of them, (N,)."""
        edges, filled = self._knots[index]
        begins = filled[1:] > filled[:-1]
        starts, stops = edges[:-1][begins], edges[1:][begins]
        shared = [np.interp(stops, *knots).sum() - np.interp(starts, *knots).sum() for knots in self._knots]
        return np.array(shared, np.int64)


def _knots(rle: Rle) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the runs of a mask end, and how many pixels are inside up to there.

    Between two knots that number grows by one a pixel or not at all, so that linear interpolation gives it
    exactly for every pixel in the mask's order, column by column.
    """
    runs = np.asarray(rle["counts"], np.int64)
    inside = np.arange(len(runs)) % 2 == 1
    inside, runs = inside[runs > 0], runs[runs > 0]  # interpolation wants steps that move
    edges = np.concatenate(([0], np.cumsum(runs)))
    return edges, np.concatenate(([0], np.cumsum(np.where(inside, runs, 0))))


def _pixels_in(
    knots: tuple[NDArray[np.int64], NDArray[np.int64]],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    height: int,
) -> NDArray[np.int64]:
    """Count pixels of one mask in boxes given by their corners (x, y), (M, 2) each, all within the picture."""
    widths = np.where((high > low).all(axis=1), high[:, 0] - low[:, 0], 0)
    owner = np.repeat(np.arange(len(widths)), widths)
    column = low[owner, 0] + np.arange(len(owner)) - np.repeat(np.cumsum(widths) - widths, widths)
    upto = [np.interp(column * height + y[owner], *knots) for y in (low[:, 1], high[:, 1])]
    return np.bincount(owner, upto[1] - upto[0], len(widths)).astype(np.int64)
