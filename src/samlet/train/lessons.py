"""What a step of distillation is made of: pictures as the student sees them, and what the teacher made of them.

The order of an epoch comes from (seed, epoch), the view of a picture from (seed, epoch, key); nothing else is random.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.session import Session
from samlet.train.sources import Source
from samlet.train.teacher_store import Facts, Taught, TeacherStore, cells_of, teach
from samlet.train.teacher_views import view_of

HELD_OUT_EVERY, HELD_OUT_MOST = 40, 48


class Teaching(Protocol):
    """Where the teacher's embeddings come from."""

    facts: Facts

    def read(self, key: str, view: int) -> Taught:
        """The teacher's embedding of a view."""

    def frame(self, key: str, view: int) -> Frame | None:
        """Where the view lies on the teacher's canvas, if that is known without looking at it."""


class Stored:
    """From a store."""

    def __init__(self, store: TeacherStore) -> None:
        self.store, self.facts = store, store.facts

    def read(self, key: str, view: int) -> Taught:
        """Read it from its shard."""
        return self.store.read(key, view)

    def frame(self, key: str, view: int) -> Frame | None:
        """As the shard says."""
        row = self.store.at.get((key, view))
        return None if row is None else row.frame


class Live:
    """From the teacher itself, at every step; nothing is stored, and every epoch may have views of its own."""

    def __init__(self, session: Session, source: Source, facts: Facts) -> None:
        self.session, self.source, self.facts = session, source, facts

    def read(self, key: str, view: int) -> Taught:
        """Ask the teacher."""
        return teach(self.session, self.source, key, view, seed=self.facts.seed)

    def frame(self, key: str, view: int) -> Frame | None:
        """Unknown before the picture is read."""
        return None


@dataclass
class Lesson:
    """B pictures on one canvas.

    Attributes:
        pixels: (B, H, W, 3) RGB uint8, on the student's canvas.
        inside: (B, H, W), False on padding.
        taught: (B, C, h, w) float32, the teacher's embedding; its padding has the teacher's mean padding vector.
        valid: (B, h, w) 1 on cells that see any of the picture.
        scaled: (B, 2) height and width of the picture on the teacher's canvas.
        keys: Of the pictures.
    """

    pixels: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    taught: NDArray[np.float32]
    valid: NDArray[np.float32]
    scaled: NDArray[np.float32]
    keys: tuple[str, ...]


class Lessons:
    """Batches of lessons by number.

    Attributes:
        keys: Pictures to learn from.
        held_out: Pictures that are only looked at.
        per_epoch: Batches of an epoch.
    """

    def __init__(
        self, teaching: Teaching, source: Source, card: Card, *, ratio: int, batch: int, seed: int
    ) -> None:
        """Choose the pictures.

        Args:
            teaching: The teacher's embeddings.
            source: The pictures.
            card: The teacher.
            ratio: The student's canvas pixels to one of the teacher's.
            batch: Pictures of a batch.
            seed: Of the order and of the views.

        Raises:
            InputError: Fewer pictures have been embedded than a batch needs.
        """
        self.teaching, self.source, self.card = teaching, source, card
        self.ratio, self.batch, self.seed = ratio, batch, seed
        views = range(teaching.facts.views)
        stored = isinstance(teaching, Stored)
        known = [
            key
            for key in source.keys
            if not stored or all(teaching.frame(key, view) is not None for view in views)
        ]
        self.held_out = known[::HELD_OUT_EVERY][:HELD_OUT_MOST] if len(known) > HELD_OUT_EVERY else []
        chosen = set(self.held_out)
        self.keys = [key for key in known if key not in chosen]
        if len(self.keys) < batch:
            raise InputError(
                f"expected at least {batch} pictures with embeddings, got {len(self.keys)}; embed more of them, "
                "or lower --batch"
            )
        self._buckets: dict[tuple[int, int], list[str]] = {}
        for key in self.keys:
            frame = teaching.frame(key, 0)
            hw = self.canvases[-1] if frame is None else self._canvas([frame])
            self._buckets.setdefault(hw, []).append(key)
        self.per_epoch = sum(-(-len(keys) // batch) for keys in self._buckets.values())
        self._order = lru_cache(2)(self._order_of)

    @property
    def canvases(self) -> tuple[tuple[int, int], ...]:
        """The teacher's canvases for batches: as SAM a square, else also 3:4 and 4:3; the square last."""
        side = self.card.side
        if self.card.pad == "square":
            return ((side, side),)
        step = max(int(self.card.pad), 64)  # of a student with a stride of 32 and twice the pixels, too
        short, long = -(-3 * side // (4 * step)) * step, -(-side // step) * step
        return ((short, long), (long, short), (long, long))

    def _canvas(self, frames: Sequence[Frame]) -> tuple[int, int]:
        """The smallest canvas that holds all."""
        for hw in self.canvases:
            if all(f.scaled_hw[0] <= hw[0] and f.scaled_hw[1] <= hw[1] for f in frames):
                return hw
        return self.canvases[-1]

    def _order_of(self, epoch: int) -> list[list[str]]:
        """The batches of an epoch: of one canvas each, a last incomplete one filled up from its beginning."""
        rng = np.random.default_rng((self.seed, 0, epoch))
        batches = []
        for hw in sorted(self._buckets):
            keys = [self._buckets[hw][i] for i in rng.permutation(len(self._buckets[hw]))]
            for start in range(0, len(keys), self.batch):
                chunk = keys[start : start + self.batch]
                while len(chunk) < self.batch:
                    chunk = chunk + keys[: self.batch - len(chunk)]
                batches.append(chunk)
        return [batches[i] for i in rng.permutation(len(batches))]

    def make(self, number: int) -> Lesson:
        """The `number`-th batch of the run; depends on (seed, number) alone."""
        epoch, index = divmod(number, self.per_epoch)
        keys = self._order(epoch)[index]
        return self.lesson(keys, [self._view(epoch, key) for key in keys])

    def _view(self, epoch: int, key: str) -> int:
        views = self.teaching.facts.views
        if views == 1:
            return 0
        digest = hashlib.sha256(f"{self.seed}/{epoch}/{key}".encode()).digest()
        return int.from_bytes(digest[:4], "little") % views

    def looked_at(self) -> list[Lesson]:
        """Held-out lessons, whole pictures, one canvas a batch."""
        found: dict[tuple[int, int], list[str]] = {}
        for key in self.held_out:
            frame = self.teaching.frame(key, 0)
            found.setdefault(self.canvases[-1] if frame is None else self._canvas([frame]), []).append(key)
        chunks = [keys[i : i + 8] for keys in found.values() for i in range(0, len(keys), 8)]
        return [self.lesson(chunk, [0] * len(chunk)) for chunk in chunks]

    def lesson(self, keys: Sequence[str], views: Sequence[int]) -> Lesson:
        """Read pictures and embeddings and put them on one canvas."""
        taught = [self.teaching.read(key, view) for key, view in zip(keys, views, strict=True)]
        hw = self._canvas([t.frame for t in taught])
        stride, ratio = self.card.stride, self.ratio
        b, (h, w) = len(keys), (hw[0] // stride, hw[1] // stride)
        big = hw[0] * ratio, hw[1] * ratio
        lesson = Lesson(
            pixels=np.zeros((b, *big, 3), np.uint8),
            inside=np.zeros((b, *big), np.bool_),
            taught=np.empty((b, self.card.embedding_channels, h, w), np.float32),
            valid=np.zeros((b, h, w), np.float32),
            scaled=np.array([t.frame.scaled_hw for t in taught], np.float32),
            keys=tuple(keys),
        )
        for i, (key, view, each) in enumerate(zip(keys, views, taught, strict=True)):
            image = view_of(self.source.read(key), key, view, seed=self.teaching.facts.seed)
            small = Frame.fit(image.hw, self.card.side * ratio).scaled_hw
            if image.hw != each.frame.image_hw:
                raise InputError(
                    f"expected {key!r:.80} as it was embedded, {each.frame.image_hw}, got a picture of {image.hw}; "
                    "embed the pictures again"
                )
            small = min(small[0], big[0]), min(small[1], big[1])
            lesson.pixels[i, : small[0], : small[1]] = image.resized(small)
            lesson.inside[i, : small[0], : small[1]] = True
            rows, columns = cells_of(each.frame, stride)
            lesson.taught[i] = each.fill[:, None, None]
            lesson.taught[i, :, :rows, :columns] = each.values
            lesson.valid[i, :rows, :columns] = 1
        return lesson
