"""Embeddings of the pictures that people work on, bounded in bytes, the longest unused one leaving first."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samlet.embedding import Embedding
from samlet.errors import LimitError
from samlet.image import Image
from samlet.limits import SERVER_LIMITS, Limits
from samlet.server.refusals import UnknownEmbeddingError

Hint = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Kept:
    """One picture that somebody works on.

    Attributes:
        embedding: What the encoder made of it, without the picture.
        picture: The picture as it was uploaded, which takes a tenth of its pixels.
        hints: Logits (N, h, w) of the last answers, by their ids.
    """

    embedding: Embedding
    picture: bytes
    hints: "OrderedDict[str, Hint]" = field(default_factory=OrderedDict)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, without the hints."""
        return len(self.picture) + sum(array.nbytes for array in self.embedding.arrays.values())

    def whole(self, limits: Limits) -> Embedding:
        """Give the embedding with its picture, decoded again."""
        return replace(self.embedding, image=Image.load(self.picture, limits=limits, name="picture"))


class Cache(Protocol):
    """Where embeddings wait for the next prompt; any thread may call."""

    ttl: float

    def put(self, kept: Kept, *, digest: str | None = None) -> str:
        """Keep one, and give the id that nobody can guess; a digest lets `find` find it again."""

    def get(self, name: str) -> Kept:
        """Give one by its id, and count it as used.

        Raises:
            UnknownEmbeddingError: There is none, or no longer.
        """

    def find(self, digest: str) -> str | None:
        """Give the id of what was put with a digest, if it is still there."""

    def remove(self, name: str) -> bool:
        """Forget one; whether it was there."""

    def keep_hint(self, name: str, hint: Hint) -> str:
        """Keep logits of an answer, and give its id."""

    def hint(self, name: str, answer: str) -> Hint:
        """Give the logits of an earlier answer.

        Raises:
            UnknownEmbeddingError: There is no such answer, or no longer.
        """

    def sweep(self) -> None:
        """Forget what nobody used for long."""

    def facts(self) -> dict[str, int]:
        """Say how many bytes and entries there are, and how often something was found or not."""

    def close(self) -> None:
        """Forget everything held in this process."""


class MemoryCache:
    """Keeps embeddings in this process.

    Example:
        >>> MemoryCache(2**26).facts()["bytes"]
        0
    """

    def __init__(
        self,
        most_bytes: int,
        *,
        ttl: float = 3600.0,
        max_answers: int = SERVER_LIMITS.max_answers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty.

        Args:
            most_bytes: Bound on all that is kept.
            ttl: Seconds after which an unused embedding is forgotten.
            max_answers: Most answers kept for one picture.
            clock: Gives the seconds.
        """
        self.most_bytes, self.ttl = most_bytes, ttl
        self._max_answers, self._clock = max_answers, clock
        self._entries: OrderedDict[str, tuple[Kept, float]] = OrderedDict()
        self._names: dict[str, str] = {}  # digest -> id
        self._digests: dict[str, str] = {}  # id -> digest
        self._bytes = self._hits = self._misses = self._evicted = 0
        self._lock = threading.Lock()

    def put(self, kept: Kept, *, digest: str | None = None, name: str | None = None) -> str:
        """Keep one; see `Cache.put`.

        Raises:
            LimitError: It is larger than the whole cache.
        """
        if kept.nbytes > self.most_bytes:
            raise LimitError(
                f"expected a picture that fits into the cache of {self.most_bytes:,} bytes, got one that takes "
                f"{kept.nbytes:,}; send a smaller one"
            )
        name = name or secrets.token_urlsafe(16)
        with self._lock:
            self._drop(name)
            self._entries[name] = (kept, self._clock())
            self._bytes += kept.nbytes
            if digest is not None:
                self._drop_digest(digest)
                self._names[digest], self._digests[name] = name, digest
            self._make_room()
        return name

    def get(self, name: str) -> Kept:
        """Give one; see `Cache.get`."""
        with self._lock:
            kept, used = self._entries.get(name, (None, 0.0))
            now = self._clock()
            if kept is None or now - used > self.ttl:
                self._misses += 1
                self._drop(name)
                raise unknown()
            self._hits += 1
            self._entries[name] = (kept, now)
            self._entries.move_to_end(name)
            return kept

    def find(self, digest: str) -> str | None:
        """Give an id; see `Cache.find`."""
        with self._lock:
            return self._names.get(digest)

    def remove(self, name: str) -> bool:
        """Forget one; see `Cache.remove`."""
        with self._lock:
            return self._drop(name)

    def keep_hint(self, name: str, hint: Hint) -> str:
        """Keep logits; see `Cache.keep_hint`."""
        answer = secrets.token_urlsafe(9)
        with self._lock:
            kept, _ = self._entries.get(name, (None, 0.0))
            if kept is not None:  # else it was forgotten meanwhile
                kept.hints[answer] = hint
                self._bytes += hint.nbytes
                while len(kept.hints) > self._max_answers:
                    self._bytes -= kept.hints.popitem(last=False)[1].nbytes
                self._make_room()
        return answer

    def hint(self, name: str, answer: str) -> Hint:
        """Give logits; see `Cache.hint`."""
        with self._lock:
            kept, _ = self._entries.get(name, (None, 0.0))
            found = None if kept is None else kept.hints.get(answer)
        if found is None:
            raise unknown("answer to refine")
        return found

    def sweep(self) -> None:
        """Forget what nobody used for long; see `Cache.sweep`."""
        with self._lock:
            oldest = self._clock() - self.ttl
            for name in [name for name, (_, used) in self._entries.items() if used < oldest]:
                self._drop(name)

    def facts(self) -> dict[str, int]:
        """Say how full it is; see `Cache.facts`."""
        with self._lock:
            return {
                "bytes": self._bytes,
                "entries": len(self._entries),
                "hits": self._hits,
                "misses": self._misses,
                "evicted": self._evicted,
            }

    def close(self) -> None:
        """Forget everything; see `Cache.close`."""
        with self._lock:
            for name in list(self._entries):
                self._drop(name)

    def _make_room(self) -> None:
        while self._bytes > self.most_bytes and len(self._entries) > 1:
            self._drop(next(iter(self._entries)))
            self._evicted += 1
        if self._bytes > self.most_bytes:  # one picture with its answers: the answers go first
            kept, _ = next(iter(self._entries.values()))
            while kept.hints and self._bytes > self.most_bytes:
                self._bytes -= kept.hints.popitem(last=False)[1].nbytes

    def _drop(self, name: str) -> bool:
        kept, _ = self._entries.pop(name, (None, 0.0))
        if kept is None:
            return False
        self._bytes -= kept.nbytes + sum(hint.nbytes for hint in kept.hints.values())
        # Somebody may still hold it; what arrives for it from now on must not be counted.
        kept.hints.clear()
        digest = self._digests.pop(name, None)
        if digest is not None:
            self._names.pop(digest, None)
        return True

    def _drop_digest(self, digest: str) -> None:
        before = self._names.pop(digest, None)
        if before is not None:
            self._digests.pop(before, None)


def unknown(what: str = "embedding") -> UnknownEmbeddingError:
    """Say that there is no such thing, in the same words for what never was and what is no longer."""
    return UnknownEmbeddingError(
        f"expected the id of an {what}, got one that is not known or no longer kept; send the picture again"
    )
