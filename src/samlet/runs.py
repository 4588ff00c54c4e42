"""Masks as stretches of pixels, to be moved, cut, joined and compared without being painted.

The work of every function here grows with the outline of a mask and not with its area, so that a thousand masks of a
picture of fifty megapixels are as cheap as those of a small one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.rle import Rle, checked_mask, mask_runs, rle_to_mask, string_to_rle

Ints = NDArray[np.int64]
Box = Sequence[int] | NDArray[np.int64]
"""x0, y0, x1, y1 in whole pixels with exclusive ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """One mask as stretches of a picture that is read column by column, each column from top to bottom.

    Attributes:
        start: (R,) number of the first pixel of each stretch, rising.
        stop: (R,) number after its last pixel; below the start of the next one, never equal to it.
        image_hw: Size of the picture.

    Example:
        >>> runs = Runs.of({"size": [2, 3], "counts": [1, 3, 2]})
        >>> runs.start.tolist(), runs.stop.tolist(), runs.box
        ([1], [4], (0, 0, 2, 2))
    """

    start: Ints
    stop: Ints
    image_hw: tuple[int, int]

    @classmethod
    def of(cls, rle: Rle | Mapping[str, Any]) -> Self:
        """Take a run-length code apart.

        Args:
            rle: Either form; the plain one is trusted to fit its size.

        Raises:
            InputError: A compressed code is malformed.
        """
        plain = string_to_rle(rle["counts"], rle["size"]) if isinstance(rle["counts"], str) else rle
        height, width = plain["size"]
        counts = np.asarray(plain["counts"], np.int64)
        ends = np.cumsum(counts)[1::2]
        lengths = counts[1::2]
        return cls(*_joined((ends - lengths)[lengths > 0], ends[lengths > 0]), (int(height), int(width)))

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> Self:
        """Take a painted mask (H, W) apart.

        Raises:
            InputError: It is not two-dimensional or has no pixels.
        """
        height, width = checked_mask(mask).shape
        return cls.of({"size": [height, width], "counts": mask_runs(mask)})

    def __len__(self) -> int:
        """Count the stretches."""
        return len(self.start)

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int((self.stop - self.start).sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box x0, y0, x1, y1 with exclusive ends; zeros if the mask is empty."""
        if not len(self):
            return (0, 0, 0, 0)
        height = self.image_hw[0]
        first, last = self.start // height, (self.stop - 1) // height
        if bool((first != last).any()):  # the end of one column and the beginning of the next
            top, bottom = 0, height
        else:
            top, bottom = int((self.start % height).min()), int(((self.stop - 1) % height).max()) + 1
        return (int(first[0]), top, int(last[-1]) + 1, bottom)

    @property
    def centroid(self) -> tuple[float, float]:
        """Mean x and y of the pixels' centres; NaN if the mask is empty."""
        column, top, bottom = self.pieces()
        lengths = bottom - top
        if not len(lengths):
            return (float("nan"), float("nan"))
        area = float(lengths.sum())
        return (
            float((column * lengths).sum() / area + 0.5),
            float(((top + bottom) * lengths).sum() / area / 2),
        )

    def rle(self) -> Rle:
        """Write the plain run-length code."""
        height, width = self.image_hw
        bounds = np.stack((self.start, self.stop), axis=1).ravel()
        counts = np.diff(np.concatenate(([0], bounds, [height * width])))
        return Rle(size=[height, width], counts=(counts[:-1] if counts[-1] == 0 else counts).tolist())

    def mask(self) -> NDArray[np.bool_]:
        """Paint the mask, (H, W); cut it to a box first if the picture is large."""
        return rle_to_mask(self.rle())

    def pieces(self) -> tuple[Ints, Ints, Ints]:
        """Cut the stretches where columns end: (P,) column, first row, and row after the last, of each piece."""
        height = self.image_hw[0]
        first = self.start // height
        columns = (self.stop - 1) // height - first + 1
        owner = np.repeat(np.arange(len(self)), columns)
        column = first[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(columns) - columns, columns)
        begin = column * height
        top = np.maximum(self.start[owner], begin) - begin
        return column, top, np.minimum(self.stop[owner], begin + height) - begin

    def cut(self, box: Box) -> Self:
        """Take what lies in a box, as a mask of the box's own size.

        Args:
            box: At least one pixel, inside the picture.

        Example:
            >>> Runs.of_mask(np.eye(3) > 0).cut((1, 1, 3, 3)).mask().astype(int).tolist()
            [[1, 0], [0, 1]]
        """
        x0, y0, x1, y1 = (int(side) for side in box)
        column, top, bottom = self.pieces()
        top, bottom = np.maximum(top, y0) - y0, np.minimum(bottom, y1) - y0
        kept = (column >= x0) & (column < x1) & (bottom > top)
        return self._of_pieces(column[kept] - x0, top[kept], bottom[kept], (y1 - y0, x1 - x0))

    def moved(self, x: int, y: int, image_hw: tuple[int, int]) -> Self:
        """Put the mask into a larger picture.

        Args:
            x: Column of the picture where the mask's own first column comes to lie.
            y: Row likewise.
            image_hw: Size of the picture; the mask's own must fit into it there.

        Example:
            >>> Runs.of_mask(np.ones((1, 1), bool)).moved(1, 0, (1, 3)).mask().astype(int).tolist()
            [[0, 1, 0]]
        """
        column, top, bottom = self.pieces()
        return self._of_pieces(column + x, top + y, bottom + y, image_hw)

    def shared(self, other: "Runs") -> int:
        """Count the pixels in both of two masks of one picture.

        Example:
            >>> Runs.of_mask(np.eye(2) > 0).shared(Runs.of_mask(np.ones((2, 2), bool)))
            2
        """
        few, many = (self, other) if len(self) <= len(other) else (other, self)
        if not len(few):
            return 0
        return int((many._below(few.stop) - many._below(few.start)).sum())

    def at(self, pixels: Ints) -> NDArray[np.bool_]:
        """Tell which pixels are inside, by their numbers: column times height plus row.

        Example:
            >>> Runs.of_mask(np.eye(2) > 0).at(np.array([0, 1, 3])).tolist()
            [True, False, True]
        """
        stops = np.concatenate(([0], self.stop))
        return np.asarray(stops[np.searchsorted(self.start, pixels, side="right")] > pixels)

    def soft(self, margin: int) -> tuple[NDArray[np.float32], tuple[int, int, int, int]]:
        """Paint the mask's box, widened, and blur it by one pixel: the kernel 1 2 1 both ways.

        Args:
            margin: By how many pixels the box is widened, as far as the picture goes; 1 or more, so that what lies
                beyond is all zeros.

        Returns:
            Values 0 to 1 of the box, and the box.

        Example:
            >>> Runs.of_mask(np.array([[0, 0, 0, 1]])).soft(2)
            (array([[0.  , 0.25, 0.75]], dtype=float32), (1, 0, 4, 1))
        """
        (height, width), (x0, y0, x1, y1) = self.image_hw, self.box
        box = (max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin))
        # Edges repeat: the border of the picture is no outline.
        soft = np.pad(self.cut(box).mask().astype(np.float32), 1, mode="edge")
        soft = soft[:-2] + 2 * soft[1:-1] + soft[2:]
        return (soft[:, :-2] + 2 * soft[:, 1:-1] + soft[:, 2:]) * np.float32(1 / 16), box

    def iou(self, other: "Runs") -> float:
        """Measure how much two masks of one picture overlap, 0 to 1; two empty masks give 1."""
        shared = self.shared(other)
        union = self.area + other.area - shared
        return shared / union if union else 1.0

    def _below(self, pixels: Ints) -> Ints:
        """Count the pixels inside with numbers below each of these."""
        filled = np.concatenate(([0], np.cumsum(self.stop - self.start)))
        begun = np.searchsorted(self.start, pixels, side="right")
        ends = np.concatenate(([0], self.stop))[begun]
        return filled[begun] - np.maximum(np.where(begun > 0, ends - pixels, 0), 0)

    @classmethod
    def _of_pieces(cls, column: Ints, top: Ints, bottom: Ints, image_hw: tuple[int, int]) -> Self:
        begin = column * image_hw[0]
        return cls(*_joined(begin + top, begin + bottom), image_hw)


def union(parts: Sequence[Runs]) -> Runs:
    """Join masks of one picture into one.

    Args:
        parts: At least one.

    Raises:
        InputError: There are none, or they are of different sizes.

    Example:
        >>> union([Runs.of_mask(np.eye(2) > 0), Runs.of_mask(np.eye(2)[::-1] > 0)]).area
        4
    """
    if not parts or any(part.image_hw != parts[0].image_hw for part in parts):
        raise InputError(
            "expected one mask or more of one picture, got none or different sizes; check the masks"
        )
    start = np.concatenate([part.start for part in parts])
    order = np.argsort(start, kind="stable")
    start = start[order]
    reach = np.maximum.accumulate(np.concatenate([part.stop for part in parts])[order])
    apart = start[1:] > reach[:-1]
    first = np.concatenate((np.ones(min(1, len(start)), bool), apart))
    last = np.concatenate((apart, np.ones(min(1, len(start)), bool)))
    return Runs(start[first], reach[last], parts[0].image_hw)


def distinct(masks: Sequence[Runs], order: Iterable[int], iou: float) -> NDArray[np.int64]:
    """Drop each mask that overlaps an earlier one too much; masks are compared, not boxes.

    Args:
        masks: Masks of one picture.
        order: Their numbers, the better ones first.
        iou: Largest overlap (IoU) of masks that stays.

    Returns:
        The numbers of the survivors, in `order`.

    Example:
        >>> whole, half = Runs.of_mask(np.ones((2, 2), bool)), Runs.of_mask(np.eye(2) > 0)
        >>> distinct([half, whole, whole], [2, 1, 0], 0.5).tolist()
        [2, 0]
    """
    areas = np.array([runs.area for runs in masks], np.float64)
    boxes = np.array([runs.box for runs in masks], np.float64).reshape(-1, 4)
    kept: list[int] = []
    for row in order:
        better = np.array(kept, np.int64)
        corners = np.maximum(boxes[better, :2], boxes[row, :2]), np.minimum(boxes[better, 2:], boxes[row, 2:])
        room = np.clip(corners[1] - corners[0], 0, None).prod(axis=1)
        # Only boxes that share enough, and areas that are close enough, can belong to masks that overlap so much.
        most, least = np.maximum(areas[better], areas[row]), np.minimum(areas[better], areas[row])
        near = better[(room > iou * most) & (least > iou * most)]
        if all(masks[other].iou(masks[row]) <= iou for other in near.tolist()):
            kept.append(row)
    return np.array(kept, np.int64)


def runs_of_labels(labels: NDArray[Any], count: int) -> list[Runs]:
    """Take a map of labels apart into one mask for each label.

    Args:
        labels: (H, W) whole numbers, 0 is background.
        count: How many labels to look for, 1 to `count`.

    Returns:
        The masks of the labels 1, 2, ...; empty ones for labels that do not occur.

    Example:
        >>> [runs.area for runs in runs_of_labels(np.array([[1, 1, 0, 3]]), 3)]
        [2, 0, 1]
    """
    height, width = labels.shape
    flat = labels.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = np.concatenate(([0], edges))
    stop = np.concatenate((edges, [flat.size]))
    value = flat[start]
    order = np.argsort(value, kind="stable")  # within a label the stretches stay in their order
    bounds = np.searchsorted(value[order], np.arange(1, count + 2))
    return [
        Runs(start[order[a:b]], stop[order[a:b]], (height, width))
        for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]


def paint_labels(
    parts: Iterable[tuple[int, Runs]],
    image_hw: tuple[int, int],
    dtype: type[np.unsignedinteger[Any]] = np.uint16,
) -> NDArray[Any]:
    """Paint masks over each other, later ones on top.

    Args:
        parts: A label for each mask, and the mask.
        image_hw: Size of the picture.
        dtype: Of the labels.

    Returns:
        (H, W); 0 where no mask is.

    Example:
        >>> paint_labels([(7, Runs.of_mask(np.eye(2) > 0))], (2, 2)).tolist()
        [[7, 0], [0, 7]]
    """
    height, width = image_hw
    flat = np.zeros(height * width, dtype)
    for number, runs in parts:
        # One stretch after the other: numbers of all pixels at once would need eight bytes a pixel, several times.
        for start, stop in zip(runs.start.tolist(), runs.stop.tolist(), strict=True):
            flat[start:stop] = number
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _joined(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Make one stretch of those that follow each other without a gap."""
    if not len(start):
        return start, stop
    apart = start[1:] != stop[:-1]
    return start[np.concatenate(([True], apart))], stop[np.concatenate((apart, [True]))]
