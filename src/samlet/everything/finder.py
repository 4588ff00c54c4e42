"""From the clicks on one crop to candidates: scores first, and only what passes is looked at any further."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samlet.embedding import Embedding
from samlet.everything.bits import smaller
from samlet.everything.candidates import Candidates, Shape, nothing
from samlet.everything.enlarge import Enlarger, Window
from samlet.everything.grid import Box, near_crop_edge
from samlet.everything.pack import pack
from samlet.geometry import Frame
from samlet.prompt import FOREGROUND, Prompt
from samlet.session import Session
from samlet.upscale import region_of

Mode = Literal["fast", "exact"]


@dataclass(frozen=True, slots=True)
class Search:
    """How candidates are found, whatever is made of them later.

    Attributes:
        mode: "exact" measures full-size masks as SAM does, "fast" the logits on their own grid.
        threshold: Where a mask begins, in logits.
        offset: How far the threshold is moved for the stability score, in logits.
        score_floor: Candidates must be above it; 0 or less lets all pass.
        stability_floor: Candidates must reach it; 0 or less lets all pass.
    """

    mode: Mode
    threshold: float
    offset: float
    score_floor: float
    stability_floor: float


@dataclass(frozen=True, slots=True)
class Crop:
    """One crop as it was embedded.

    Attributes:
        number: Its place in the list of crops.
        box: Where it lies in the picture.
        image_hw: Size of the whole picture.
        frame: How the crop lies in the network's input.
        grid_hw: Size of the network's logits for it.
    """

    number: int
    box: Box
    image_hw: tuple[int, int]
    frame: Frame
    grid_hw: tuple[int, int]

    def enlarger(self, mode: Mode) -> Enlarger:
        """Prepare to make masks of the crop's size."""
        return Enlarger(self.frame, self.grid_hw, mode)

    def runs(self, window: Window) -> NDArray[np.integer[Any]]:
        """Run lengths, at the size of the whole picture, of a mask of the crop; thousands of them are kept."""
        runs = window.runs(self.image_hw, shift_xy=self.box[:2])
        return runs.astype(np.int32 if self.image_hw[0] * self.image_hw[1] < 2**31 else np.int64)

    @property
    def shift(self) -> NDArray[np.float64]:
        """What moves a box (x0, y0, x1, y1) from the crop to the picture."""
        return np.array(self.box[:2] * 2, np.float64)


def above(scores: NDArray[np.float32], bound: float) -> NDArray[np.bool_]:
    """Tell which scores are above a bound; one of 0 or less is no bound, since SAM's scores may be negative."""
    return np.ones(len(scores), np.bool_) if bound <= 0 else scores > np.float32(bound)


def reaching(stability: NDArray[np.float32], bound: float) -> NDArray[np.bool_]:
    """Tell which stability scores reach a bound; one of 0 or less is no bound."""
    return np.ones(len(stability), np.bool_) if bound <= 0 else stability >= np.float32(bound)


class Finder:
    """Decodes clicks on one crop."""

    def __init__(self, session: Session, embedding: Embedding, crop: Crop, search: Search) -> None:
        """Keep what all clicks on a crop have in common.

        Args:
            session: The model.
            embedding: What the encoder made of the crop.
            crop: Where the crop lies.
            search: What to keep.
        """
        self._session, self._embedding, self._crop, self._search = session, embedding, crop, search
        self._enlarger = crop.enlarger(search.mode)
        # Half of what other prompts get: three masks a click have to be looked at as well.
        self.at_once = min(16, max(1, session.at_once(embedding) // 2))

    def find(self, points: NDArray[np.float64]) -> Candidates:
        """Decode a few clicks.

        Args:
            points: (N, 2) in the crop's pixels; the work in memory grows with N.

        Returns:
            Those of the 3 N masks that pass the floors.
        """
        prompt = Prompt(points=points[:, None, :], labels=np.full((len(points), 1), FOREGROUND, np.int64))
        height, width = self._enlarger.needed_hw
        floor = self._search.score_floor
        drawn = self._session.passing(
            self._embedding, prompt, floor=floor if floor > 0 else -math.inf, height=height
        )
        candidates = drawn.scores.shape[1]
        clicks = np.repeat(drawn.prompts, candidates)
        scores = drawn.scores.ravel()
        rows = np.flatnonzero(above(scores, floor))
        if not len(rows):
            return nothing()
        logits = drawn.logits.reshape(len(scores), *drawn.logits.shape[-2:])[rows, :height, :width]
        del drawn  # the survivors are copied; let the rest go before more is made
        look = self._look_exactly if self._search.mode == "exact" else self._look_fast
        chosen, stability, boxes, shapes = look(logits)
        rows = rows[chosen]
        return Candidates(
            scores=scores[rows],
            stability=stability,
            points=points[clicks[rows]] + np.array(self._crop.box[:2], np.float64),
            boxes=boxes,
            crops=np.full(len(rows), self._crop.number, np.int64),
            shapes=tuple(shapes),
        )

    def _look_exactly(self, logits: NDArray[np.float32]) -> "_Look":
        """Make the full-size masks one by one, as SAM does all at once, and keep their run lengths."""
        search, crop = self._search, self._crop
        chosen: list[int] = []
        stability: list[np.float32] = []
        boxes: list[NDArray[np.float64]] = []
        shapes: list[Shape] = []
        for row, one in enumerate(logits):
            window = self._enlarger.cut(one, search.threshold, offset=search.offset)
            if not window.outer:  # nothing over nothing is no stability at all
                continue
            ratio = np.float32(window.inner) / np.float32(window.outer)
            box = np.array(window.box, np.float64) + crop.shift
            if not reaching(np.atleast_1d(ratio), search.stability_floor)[0]:
                continue
            if near_crop_edge(box[None], crop.box, crop.image_hw)[0]:
                continue
            chosen.append(row)
            stability.append(ratio)
            boxes.append(box)
            shapes.append(smaller(window, crop.runs(window)))
        return (
            np.array(chosen, np.int64),
            np.array(stability, np.float32),
            np.array(boxes, np.float64).reshape(-1, 4),
            shapes,
        )

    def _look_fast(self, logits: NDArray[np.float32]) -> "_Look":
        """Measure all masks on the logits' own grid, and pack the logits of those that pass."""
        search, crop = self._search, self._crop
        region = region_of(crop.frame, crop.grid_hw)
        height, width = (max(1, int(side + 0.5)) for side in region)
        valid = logits[:, :height, :width]
        inner = np.count_nonzero(valid > search.threshold + search.offset, axis=(1, 2))
        outer = np.count_nonzero(valid > search.threshold - search.offset, axis=(1, 2))
        stability = (inner / np.maximum(outer, 1)).astype(np.float32)
        inside = valid > search.threshold
        boxes = _boxes(valid, search.threshold, crop.frame.image_hw, region) + crop.shift
        keep = reaching(stability, search.stability_floor) & inside.any(axis=(1, 2))
        keep &= ~near_crop_edge(boxes, crop.box, crop.image_hw)
        chosen = np.flatnonzero(keep)
        return chosen, stability[chosen], boxes[chosen], list(pack(logits[chosen], search.threshold))


_Look = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64], list[Shape]]
"""Rows kept, and their stability scores, boxes in picture pixels and shapes."""


def _boxes(
    logits: NDArray[np.float32], threshold: float, image_hw: tuple[int, int], region: tuple[float, float]
) -> NDArray[np.float64]:
    """Find the boxes that full-size masks will about have: (N, 4) x0, y0, x1, y1 with inclusive ends.

    Seen along one axis, a mask begins where the line between two neighbouring maxima of the logits crosses the
    threshold, which is finer than a cell.
    """
    ends = []
    for axis in (1, 0):  # x, then y
        profile: NDArray[np.float32] = logits.max(axis=2 - axis)
        pixels = image_hw[axis] / region[axis]
        low = _crossing(profile - threshold)
        high = profile.shape[1] - 1 - _crossing(profile[:, ::-1] - threshold)
        first = np.ceil((low + 0.5) * pixels - 0.5).clip(0, image_hw[axis] - 1)
        last = np.floor((high + 0.5) * pixels - 0.5).clip(0, image_hw[axis] - 1)
        ends.append((first, np.maximum(first, last)))
    (x0, x1), (y0, y1) = ends
    return np.stack((x0, y0, x1, y1), axis=1).astype(np.float64)


def _crossing(profile: NDArray[np.float32]) -> NDArray[np.float64]:
    """Find where rows (N, n) first rise above zero, in cells from the centre of the first; -0.5 if at once."""
    rows = np.arange(len(profile))
    inside = (profile > 0).argmax(axis=1)
    above, below = profile[rows, inside], profile[rows, np.maximum(inside - 1, 0)]
    rise = np.where(inside > 0, above - below, 1.0)  # from not above zero to above it
    return np.where(inside > 0, inside - above / rise, -0.5)
