"""An object followed through frames: what the last frame answered prompts the next, and is checked against it.

This is no video model: it remembers the first frame's pixels, mask and logits, the last mask, and not who is who.
The first pixels are looked for in each frame (`samlet.placing`); the first mask and its logits, moved there, give the
box and the hint that prompt it, so that errors are not handed on from frame to frame. The answer is rated by the
model's own score, by colours, by size beside the first mask's, and by its agreement with the last mask; one that does
not fit is asked for again in a wider box without a hint, and if that does not fit either, the object is lost: the
frame gets an empty mask, and the search goes on.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.answerer import Answerer
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.geometry import mask_iou
from samlet.image import Image
from samlet.placing import Place, Placing, carried, shrunk_mask, sketch_size
from samlet.upscale import region_of

_BINS = 8
_HALF = 0.5
_KEEP = 0.8  # of the colours remembered, when a new frame brings its own


@dataclass(frozen=True, slots=True)
class Following:
    """How an object is followed.

    Attributes:
        margin: By how much of its sides the box around the moved first mask is widened.
        search: The same while the object is lost, or when a first answer did not fit.
        min_score: Lowest score of an answer, 0 to 1.
        min_colours: Least likeness of colours, 0 to 1 (Bhattacharyya's coefficient of 8 x 8 x 8 colours).
        max_growth: Most growth or shrinking of the area as a factor, beside the last mask's, and beside the first one's
            at the scale at which the first frame's pixels are found.
        min_agreement: Least overlap (IoU) with the last mask, moved to where the object is now; 0 to 1.
        hint: Whether the moved logits are given along with the box.
    """

    margin: float = 0.0
    search: float = 0.5
    min_score: float = 0.3
    min_colours: float = 0.5
    max_growth: float = 2.0
    min_agreement: float = 0.5
    hint: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.margin <= 10 and 0 <= self.search <= 10 and self.max_growth > 1):
            raise InputError(
                f"expected margin and search from 0 to 10 and max_growth above 1, got {self.margin}, {self.search} and "
                f"{self.max_growth}; correct them"
            )
        if not all(0 <= least <= 1 for least in (self.min_score, self.min_colours, self.min_agreement)):
            raise InputError(
                f"expected min_score, min_colours and min_agreement from 0 to 1, got {self.min_score}, "
                f"{self.min_colours} and {self.min_agreement}; correct them"
            )


@dataclass(frozen=True, eq=False)
class Step:
    """What became of the object in one frame.

    Attributes:
        index: Number of the frame, from 0.
        image: The frame.
        mask: (H, W); empty if the object is lost.
        score: The model's own estimate of the mask; 0 if the object is lost.
        colours: Likeness of its colours to those remembered, 0 to 1; that of the best answer if the object is lost.
        found: Whether the object was found.
    """

    index: int
    image: Image
    mask: NDArray[np.bool_]
    score: float
    colours: float
    found: bool


def follow(
    answerer: Answerer,
    frames: Iterable[Image],
    *,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    following: Following | None = None,
) -> Iterator[Step]:
    """Follow an object through frames; only the frame at hand and the one after it are held.

    Args:
        answerer: The model.
        frames: Pictures of one size, in their order; `view.image` of each step is one of them.
        points: (K, 2) clicks on the object in the first frame, in its pixels.
        labels: (K,) 1 foreground, 0 background; None makes all foreground.
        boxes: (4,) x0, y0, x1, y1 around the object in the first frame.
        following: How.

    Yields:
        A step for each frame.

    Raises:
        InputError: There are no frames, they differ in size, or the prompt finds nothing in the first one.
        PromptError: The prompt makes no sense.
        BackendError: The runtime failed.

    Example:
        >>> import samlet
        >>> frames = map(Image.load, ["frame1.jpg", "frame2.jpg"])  # doctest: +SKIP
        >>> for step in follow(samlet.load(), frames, boxes=[10, 10, 90, 80]):  # doctest: +SKIP
        ...     print(step.index, step.found, step.mask.sum())
    """
    asked = {"points": points, "labels": labels, "boxes": boxes}
    given = {name: part for name, part in asked.items() if part is not None}
    track: Track | None = None
    for image, view in embedded(answerer, frames):
        if track is None:
            track = Track(answerer, image, view, given, following=following)
            yield track.first
        else:
            yield track.step(image, view)
    if track is None:
        raise InputError("expected frames, got none; name a folder of pictures or a clip")


def embedded(answerer: Answerer, frames: Iterable[Image]) -> Iterator[tuple[Image, Embedding]]:
    """Read and embed the next frame on a thread of its own, while the one before is answered and drawn.

    Args:
        answerer: The model.
        frames: Pictures in their order.

    Yields:
        Each with its embedding.

    Raises:
        SamletError: A frame cannot be read, or the runtime failed.
    """
    source = iter(frames)

    def following() -> tuple[Image, Embedding] | None:
        image = next(source, None)
        return None if image is None else (image, answerer.embed(image))

    with ThreadPoolExecutor(1, "embed") as pool:
        waiting = pool.submit(following)
        while (found := waiting.result()) is not None:
            waiting = pool.submit(following)
            yield found


class Track:
    """An object that is being followed, for programs that get their frames one at a time, such as a camera's.

    Attributes:
        first: The answer in the frame it began with.

    Example:
        >>> import samlet
        >>> model, image = samlet.load(), samlet.Image.load("frame1.jpg")  # doctest: +SKIP
        >>> track = Track(model, image, model.embed(image), {"boxes": [10, 10, 90, 80]})  # doctest: +SKIP
        >>> image = samlet.Image.load("frame2.jpg")  # doctest: +SKIP
        >>> track.step(image, model.embed(image)).found  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        answerer: Answerer,
        image: Image,
        view: Embedding,
        asked: Mapping[str, ArrayLike],
        *,
        following: Following | None = None,
    ) -> None:
        """Begin with a prompt.

        Args:
            answerer: The model.
            image: The first frame.
            view: What the model made of it.
            asked: `points`, `labels` and `boxes` for one object, in pixels of the frame.
            following: How.

        Raises:
            InputError: The prompt is for several objects, or finds nothing.
            PromptError: The prompt makes no sense.
            BackendError: The runtime failed.
        """
        self._answerer, self._image, self._following = answerer, image, following or Following()
        masks = answerer.segment(view, **asked)
        if len(masks) != 1:
            raise InputError(f"expected a prompt for one object, got {len(masks)}; follow one at a time")
        mask, score = next(masks.iter_masks()), float(masks.scores[0])
        if not mask.any():
            raise InputError(
                "expected the prompt to find something in the first frame, got an empty mask; move it"
            )
        self._placing = Placing(image.pixels, mask)
        self._first = self._last = self._seen(mask)
        self._logits = masks.hint[0].astype(np.float64)
        self._covered = region_of(masks.frame, (self._logits.shape[0], self._logits.shape[1]))
        self._is_lost = False
        self._colours = histogram(image.pixels, mask)
        self._index = 0
        self.first = Step(0, image, mask, score, 1.0, found=True)

    def step(self, image: Image, view: Embedding) -> Step:
        """Follow the object into the next frame.

        Args:
            image: The frame, of the first one's size.
            view: What the model made of it.

        Raises:
            InputError: The frame has another size.
            BackendError: The runtime failed.
        """
        self._index += 1
        if image.hw != self._image.hw:
            raise InputError(
                f"expected frames of {self._image.width} x {self._image.height} pixels, got {image.width} x "
                f"{image.height} in frame {self._index}; scale them to one size"
            )
        how, best = self._following, 0.0
        self._placing.follow(image.pixels)
        moved = self._moved(self._first)
        hint = self._carried(self._logits, self._first, self._covered)[None].astype(np.float32)
        # While it is lost, nothing is known of where it is now.
        for is_far in (False, True)[self._is_lost :]:
            masks = self._answerer.segment(
                view,
                boxes=[self._next_box(moved, how.search if is_far else how.margin, image)],
                **({"hint": hint} if how.hint and not is_far else {}),
            )
            mask, score = next(masks.iter_masks()), float(masks.scores[0])
            colours = histogram(image.pixels, mask)
            alike = likeness(colours, self._colours)
            best = max(best, alike)
            if score < how.min_score or alike < how.min_colours or not mask.any():
                continue
            seen = self._seen(mask)
            if self._fits(seen, moved, is_far=is_far):
                self._remember(seen, moved, colours)
                return Step(self._index, image, mask, score, alike, found=True)
        self._is_lost = True
        return Step(self._index, image, np.zeros(image.hw, bool), 0.0, best, found=False)

    def _seen(self, mask: NDArray[np.bool_]) -> "_Seen":
        cells = shrunk_mask(mask, sketch_size(mask.shape))
        return _Seen(cells, int(mask.sum()), self._placing.place)

    def _carried(
        self, grid: NDArray[np.float64], seen: "_Seen", covered: tuple[float, ...]
    ) -> NDArray[np.float64]:
        return carried(grid, covered, seen.cells.shape, before=seen.place, now=self._placing.place)

    def _moved(self, seen: "_Seen") -> NDArray[np.bool_]:
        return self._carried(seen.cells.astype(np.float64), seen, seen.cells.shape) > _HALF

    def _next_box(self, moved: NDArray[np.bool_], margin: float, image: Image) -> list[float]:
        # Of what has left the frame, the last place is as good as any.
        height, width = moved.shape
        pixels = np.array([image.width / width, image.height / height] * 2)
        x0, y0, x1, y1 = _box(moved if moved.any() else self._last.cells) * pixels
        dx, dy = margin * (x1 - x0), margin * (y1 - y0)
        box = np.array([x0 - dx, y0 - dy, x1 + dx, y1 + dy])
        size = np.array([image.width, image.height], np.float64)
        low = np.clip(box[:2], 0, size - 1)
        return [*low.tolist(), *np.clip(box[2:], low + 1, size).tolist()]

    def _fits(self, seen: "_Seen", moved: NDArray[np.bool_], *, is_far: bool) -> bool:
        how, last = self._following, self._last
        if is_far or not moved.any():  # wherever it is, it has the shape it had
            x, y = centre_of(seen.cells) - centre_of(last.cells)
            expected = carried(
                last.cells.astype(np.float64),
                last.cells.shape,
                last.cells.shape,
                before=last.place,
                now=last.place.moved(x, y),
            )
            # How much of it is inside the frame is not known: a part may have the size of a part.
            whole = self._first.area * self._placing.place.scale**2
            grown = max(_ratio(seen.area, last.area), seen.area / whole)
            return grown <= how.max_growth and mask_iou(seen.cells, expected > _HALF) >= how.min_agreement
        # Of what is partly outside, the part inside is compared.
        first = self._first.area * moved.sum() / self._first.cells.sum()
        grown = max(_ratio(seen.area, last.area), _ratio(seen.area, first))
        return grown <= how.max_growth and mask_iou(seen.cells, self._moved(last)) >= how.min_agreement

    def _remember(self, seen: "_Seen", moved: NDArray[np.bool_], colours: NDArray[np.float64]) -> None:
        here = centre_of(moved) if moved.any() else self._placing.place.middle
        is_elsewhere = self._is_lost or mask_iou(moved, seen.cells) == 0
        self._placing.lean(centre_of(seen.cells) - here, wholly=is_elsewhere)
        self._is_lost = False
        self._last = replace(seen, place=self._placing.place)
        self._colours = _KEEP * self._colours + (1 - _KEEP) * colours


@dataclass(frozen=True, eq=False)
class _Seen:
    """A mask as it is remembered: its cells in the sketch, its area in pixels, and where the object was."""

    cells: NDArray[np.bool_]
    area: int
    place: Place


def histogram(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count the colours inside a mask.

    Args:
        pixels: (H, W, 3).
        mask: (H, W).

    Returns:
        (512,) shares of 8 x 8 x 8 colours; all 0 for an empty mask.

    Example:
        >>> histogram(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), bool))[:2].tolist()
        [1.0, 0.0]
    """
    inside = pixels[mask].astype(np.int64) * _BINS // 256
    numbers = (inside[:, 0] * _BINS + inside[:, 1]) * _BINS + inside[:, 2]
    return np.bincount(numbers, minlength=_BINS**3) / max(len(numbers), 1)


def likeness(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Compare two histograms: Bhattacharyya's coefficient, 0 for no colour in common to 1 for the same.

    Args:
        first: (N,) shares.
        second: (N,) shares.

    Example:
        >>> likeness(np.array([1.0, 0.0]), np.array([0.0, 1.0])), likeness(np.array([1.0]), np.array([1.0]))
        (0.0, 1.0)
    """
    return float(np.sqrt(first * second).sum())


def centre_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the middle of a mask's pixels as (x, y).

    Args:
        mask: (H, W), not empty.

    Example:
        >>> centre_of(np.array([[0, 1, 1]], bool)).tolist()
        [2.0, 0.5]
    """
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def _ratio(one: float, other: float) -> float:
    return max(one, other) / max(min(one, other), 1)


def _box(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
