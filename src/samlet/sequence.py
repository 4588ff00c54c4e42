"""An object followed through frames: what the last frame answered prompts the next, and is checked against it.

This is no video model: there is no memory of what the object looked like beyond its colours, and none of who is who.
The last mask's box, moved on as the object moved before, and the last logits as a hint prompt the next frame. The
answer is rated by the model's own score, by colours and by size; one that does not fit is asked for again in a wider
box, and if that does not fit either, the object is lost: the frame gets an empty mask, and the search goes on.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.answerer import Answerer
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.image import Image

_BINS = 8
_KEEP = 0.8  # of the colours remembered, when a new frame brings its own


@dataclass(frozen=True, slots=True)
class Following:
    """How an object is followed.

    Attributes:
        margin: By how much of its sides the last box is widened for the next frame.
        search: The same while the object is lost, or when a first answer did not fit.
        min_score: Lowest score of an answer, 0 to 1.
        min_colours: Least likeness of colours, 0 to 1 (Bhattacharyya's coefficient of 8 x 8 x 8 colours).
        max_growth: Most growth or shrinking of the area from one frame to the next, as a factor.
        hint: Whether the last logits are given along with the box.
    """

    margin: float = 0.1
    search: float = 0.5
    min_score: float = 0.3
    min_colours: float = 0.5
    max_growth: float = 2.0
    hint: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.margin <= 10 and 0 <= self.search <= 10 and self.max_growth > 1):
            raise InputError(
                f"expected margin and search from 0 to 10 and max_growth above 1, got {self.margin}, {self.search} and "
                f"{self.max_growth}; correct them"
            )
        if not (0 <= self.min_score <= 1 and 0 <= self.min_colours <= 1):
            raise InputError(
                f"expected min_score and min_colours from 0 to 1, got {self.min_score} and {self.min_colours}; correct "
                "them"
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
        self._mask, self._score = next(masks.iter_masks()), float(masks.scores[0])
        if not self._mask.any():
            raise InputError(
                "expected the prompt to find something in the first frame, got an empty mask; move it"
            )
        self._hint = masks.hint
        self._box = _box(self._mask)
        self._motion = np.zeros(2)
        self._area = int(self._mask.sum())
        self._colours = histogram(image.pixels, self._mask)
        self._index = 0
        self.first = Step(0, image, self._mask, self._score, 1.0, found=True)

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
        how = self._following
        is_lost = not self._mask.any()
        best = 0.0
        # While it is lost, the last logits say nothing about where it is now.
        tries = [(how.margin, how.hint), (how.search, False)] if not is_lost else [(how.search, False)]
        for margin, with_hint in tries:
            masks = self._answerer.segment(
                view,
                boxes=[self._next_box(margin, image)],
                **({"hint": self._hint} if with_hint else {}),
            )
            mask, score = next(masks.iter_masks()), float(masks.scores[0])
            seen = histogram(image.pixels, mask)
            colours = likeness(seen, self._colours)
            best = max(best, colours)
            if self._fits(mask, score, colours):
                self._remember(mask, masks.hint, seen)
                return Step(self._index, image, mask, score, colours, found=True)
        self._mask, self._motion = np.zeros(image.hw, bool), np.zeros(2)
        return Step(self._index, image, self._mask, 0.0, best, found=False)

    def _next_box(self, margin: float, image: Image) -> list[float]:
        x0, y0, x1, y1 = self._box + np.tile(self._motion, 2)
        dx, dy = margin * (x1 - x0), margin * (y1 - y0)
        box = np.array([x0 - dx, y0 - dy, x1 + dx, y1 + dy])
        size = np.array([image.width, image.height], np.float64)
        low = np.clip(box[:2], 0, size - 1)
        return [*low.tolist(), *np.clip(box[2:], low + 1, size).tolist()]

    def _fits(self, mask: NDArray[np.bool_], score: float, colours: float) -> bool:
        how, area = self._following, int(mask.sum())
        grown = max(area, self._area) / max(min(area, self._area), 1)
        return score >= how.min_score and colours >= how.min_colours and 0 < area and grown <= how.max_growth

    def _remember(
        self, mask: NDArray[np.bool_], hint: NDArray[np.float32], seen: NDArray[np.float64]
    ) -> None:
        box = _box(mask)
        was_lost = not self._mask.any()
        moved = (box[:2] + box[2:] - self._box[:2] - self._box[2:]) / 2
        self._motion = np.zeros(2) if was_lost else moved
        self._mask, self._box, self._hint, self._area = mask, box, hint, int(mask.sum())
        self._colours = _KEEP * self._colours + (1 - _KEEP) * seen


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


def _box(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
