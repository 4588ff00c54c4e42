"""Views of training pictures for all-instance segmentation: whole, scaled, cut, mirrored, or four in a mosaic.

A view is pixels on a canvas with the instances in it: labelled regions, which count in full, and boxes that a model
found where nobody labelled anything, which count by their quality. Pixels about which nothing is known, such as void,
crowds and the rest of objects that the view cuts off, are marked so that nobody learns anything from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samlet.data import IGNORE
from samlet.geometry import box_iou
from samlet.train.pictures import Picture, recolour

STRIDE = 4  # of the masks
GREY = 114  # where there is no picture
SMALLEST = 8.0  # shorter side of a box, canvas pixels: the finest grid has a place in each of these
VISIBLE = 0.3  # a view must show so much of an instance, or the rest is unknown
SAME = 0.4  # a box that was found says nothing new if it overlaps a label's by so much
MOST = 64  # instances of a view: the largest labelled ones, then the best of what was found
WHOLE, ZOOMED, MOSAIC = 0, 1, 2
"""Kinds of view: all of a picture; one at half to twice the size that fits; four such ones. Half are mirrored."""


@dataclass(frozen=True)
class Labels:
    """K instances of a view, the labelled ones first.

    Attributes:
        boxes: (K, 4) float32 x0, y0, x1, y1 in canvas pixels, the far edge outside.
        masks: (K, H/4, W/4) bool: whether the instance covers most of the cell.
        quality: (K,) float32: 1 for labels, the quality of what was found.
        masked: (K,) bool: whether there is a mask; of boxes that were found alone there is none.
        unknown: (H/4, W/4) bool: nobody knows what is here.
        trust: How far places without an instance may be taken for background, 0 to 1.
    """

    boxes: NDArray[np.float32]
    masks: NDArray[np.bool_]
    quality: NDArray[np.float32]
    masked: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    trust: float

    def with_boxes(self, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> "Labels":
        """Add boxes without masks, best first, where no instance is yet; as many as there is room for.

        Args:
            boxes: (N, 4) canvas pixels.
            scores: (N,) their quality.
        """
        height, width = self.unknown.shape
        middle = ((boxes[:, :2] + boxes[:, 2:]) / (2 * STRIDE)).astype(int).clip(0, (width - 1, height - 1))
        new = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= SMALLEST
        if len(self.boxes):
            new &= box_iou(boxes, self.boxes).max(1) < SAME
        new &= ~self.unknown[middle[:, 1], middle[:, 0]]
        chosen = np.flatnonzero(new)[: MOST - len(self.boxes)]
        return Labels(
            np.concatenate([self.boxes, boxes[chosen].astype(np.float32)]),
            np.concatenate([self.masks, np.zeros((len(chosen), height, width), np.bool_)]),
            np.concatenate([self.quality, scores[chosen].astype(np.float32)]),
            np.concatenate([self.masked, np.zeros(len(chosen), np.bool_)]),
            self.unknown,
            self.trust,
        )


@dataclass(frozen=True)
class View:
    """Pixels (H, W, 3) RGB on the canvas, and what is in them."""

    pixels: NDArray[np.uint8]
    labels: Labels


class Album:
    """Where views are cut from."""

    def __init__(self, pictures: list[Picture], trust: Mapping[str, float]) -> None:
        """Put pictures together.

        Args:
            pictures: Training pictures.
            trust: By the set's name, see `Labels`; 0 for others.
        """
        self.pictures, self.trust = pictures, trust

    def __len__(self) -> int:
        """Give the number of pictures."""
        return len(self.pictures)

    def view(self, index: int, kind: int, hw: tuple[int, int], rng: np.random.Generator) -> View:
        """Make a view; it depends on the arguments alone.

        Args:
            index: Of the picture; a mosaic draws three more.
            kind: `WHOLE`, `ZOOMED` or `MOSAIC`.
            hw: The canvas, multiples of 32.
            rng: Decides everything else.
        """
        if kind == MOSAIC:
            y, x = (STRIDE * round(side * rng.uniform(0.35, 0.65) / STRIDE) for side in hw)
            cells = [(0, 0, y, x), (0, x, y, hw[1]), (y, 0, hw[0], x), (y, x, *hw)]
            others = [int(i) for i in rng.integers(len(self.pictures), size=3)]
        else:
            cells, others = [(0, 0, *hw)], []
        canvas = _Canvas(hw)
        for cell, one in zip(cells, [index, *others], strict=True):
            canvas.add(cell, *self._cut(one, kind, (cell[2] - cell[0], cell[3] - cell[1]), rng))
        return canvas.view()

    def _cut(
        self, index: int, kind: int, hw: tuple[int, int], rng: np.random.Generator
    ) -> "tuple[_Cut, float]":
        picture = self.pictures[index]
        ids = picture.regions[0 if kind == WHOLE else int(rng.integers(len(picture.regions)))]
        zoom = 1.0 if kind == WHOLE else float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
        if kind == MOSAIC:
            zoom *= 1.4
        cut = _Cut.of(picture.pixels, hw, zoom, rng, centred=kind == WHOLE)
        cut.take(ids)
        if kind != WHOLE:
            cut.pixels = recolour(rng, cut.pixels)
        if rng.random() < 0.5:
            cut.mirror()
        return cut, self.trust.get(picture.group, 0.0)


@dataclass
class _Cut:
    """The part of a picture that one cell of a canvas shows, brought to its size there."""

    pixels: NDArray[np.uint8]
    source: tuple[slice, slice]
    offset_yx: tuple[int, int]  # inside the cell, multiples of STRIDE
    boxes: NDArray[np.float32]  # inside the cut
    masks: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        pixels: NDArray[np.uint8],
        hw: tuple[int, int],
        zoom: float,
        rng: np.random.Generator,
        *,
        centred: bool,
    ) -> "_Cut":
        """Choose the part and where it goes: all of it if it fits, else a random window."""
        height, width = pixels.shape[:2]
        scale = zoom * min(hw[0] / height, hw[1] / width)
        source, offset, size = [], [], []
        for full, room in zip((height, width), hw, strict=True):
            length = min(float(full), room / scale)
            start = int(rng.uniform(0, full - length))
            there = max(STRIDE, STRIDE * round(min(room, length * scale) / STRIDE))
            free = (room - there) // STRIDE
            source.append(slice(start, start + max(1, round(length))))
            offset.append(STRIDE * (free // 2 if centred else int(rng.integers(free + 1))))
            size.append(there)
        part = pixels[source[0], source[1]]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=how), np.uint8)
        grid = size[0] // STRIDE, size[1] // STRIDE
        return cls(
            scaled,
            (source[0], source[1]),
            (offset[0], offset[1]),
            np.zeros((0, 4), np.float32),
            np.zeros((0, *grid), np.bool_),
            np.zeros(grid, np.bool_),
        )

    def take(self, ids: NDArray[np.uint16]) -> None:
        """Find the labelled regions in the cut."""
        cut = ids[self.source]
        void = (cut == IGNORE).astype(np.uint8)
        boxes, masks = [], []
        hidden = void
        for key in np.unique(cut):
            if key in (0, IGNORE):
                continue
            mask = (cut == key).astype(np.uint8)
            box = self._box(mask, int(np.count_nonzero(ids == key)))
            if box is None:
                hidden = hidden | mask
            else:
                boxes.append(box)
                masks.append(self._small(mask))
        self.unknown = self._small(hidden)
        if boxes:
            self.boxes, self.masks = np.stack(boxes), np.stack(masks)

    def _box(self, mask: NDArray[np.uint8], whole: int) -> NDArray[np.float32] | None:
        """The box inside the cut; None if too little is to be seen."""
        x, y, w, h = cv2.boundingRect(mask)
        ratio = np.array(self.pixels.shape[1::-1], np.float64) / mask.shape[::-1]
        if min(w * ratio[0], h * ratio[1]) < SMALLEST or np.count_nonzero(mask) < VISIBLE * whole:
            return None
        return np.array([x * ratio[0], y * ratio[1], (x + w) * ratio[0], (y + h) * ratio[1]], np.float32)

    def _small(self, mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
        height, width = self.unknown.shape
        share = cv2.resize(mask * np.uint8(255), (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(share > 127, np.bool_)

    def mirror(self) -> None:
        """Exchange left and right."""
        self.pixels, self.masks = self.pixels[:, ::-1], self.masks[:, :, ::-1]
        self.unknown = self.unknown[:, ::-1]
        width = np.float32(self.pixels.shape[1])
        self.boxes = np.stack(
            [width - self.boxes[:, 2], self.boxes[:, 1], width - self.boxes[:, 0], self.boxes[:, 3]], 1
        )


class _Canvas:
    """What cuts are laid on."""

    def __init__(self, hw: tuple[int, int]) -> None:
        self.pixels = np.full((*hw, 3), GREY, np.uint8)
        self.grid = hw[0] // STRIDE, hw[1] // STRIDE
        self.unknown = np.zeros(self.grid, np.bool_)
        self.boxes: list[NDArray[np.float32]] = []
        self.masks: list[NDArray[np.bool_]] = []
        self.trust: list[tuple[int, float]] = []

    def add(self, cell: tuple[int, int, int, int], cut: _Cut, trust: float) -> None:
        y, x = cell[0] + cut.offset_yx[0], cell[1] + cut.offset_yx[1]
        h, w = cut.pixels.shape[:2]
        self.pixels[y : y + h, x : x + w] = cut.pixels
        rows = slice(y // STRIDE, (y + h) // STRIDE)
        columns = slice(x // STRIDE, (x + w) // STRIDE)
        self.unknown[rows, columns] = cut.unknown
        masks = np.zeros((len(cut.masks), *self.grid), np.bool_)
        masks[:, rows, columns] = cut.masks
        self.boxes.append(cut.boxes + np.array([x, y, x, y], np.float32))
        self.masks.append(masks)
        self.trust.append((h * w, trust))

    def view(self) -> View:
        boxes, masks = np.concatenate(self.boxes), np.concatenate(self.masks)
        largest = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(1), kind="stable")[:MOST]
        area = sum(area for area, _ in self.trust)
        labels = Labels(
            boxes[largest],
            masks[largest],
            np.ones(len(largest), np.float32),
            np.ones(len(largest), np.bool_),
            self.unknown,
            sum(area * trust for area, trust in self.trust) / area,
        )
        return View(self.pixels, labels)
