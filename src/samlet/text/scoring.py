"""Pictures and texts as vectors, compared by their angle; what was embedded before is not embedded again."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from samlet.errors import BackendError

_PICTURES_KEPT, _TEXTS_KEPT = 4096, 256

Vectors = NDArray[np.float32]
_Key = TypeVar("_Key", str, bytes)


class CosineScorer:
    """A `samlet.regions.Scorer`: a hundred times the cosine of a picture's and a text's embedding, as in CLIP.

    The numbers of different calls may be compared. Embeddings of the last few thousand crops are kept (2 kB each),
    so that asking for another phrase costs no second look at the same regions. Safe from many threads.

    Example:
        >>> scorer = CosineScorer(lambda crops: np.array([crop.mean((0, 1)) for crop in crops]),
        ...                       lambda text: np.array([1.0, 0.0, 0.0]))
        >>> scorer([np.array([[[9, 0, 0]]], np.uint8), np.array([[[0, 5, 0]]], np.uint8)], "red").tolist()
        [100.0, 0.0]
    """

    def __init__(
        self,
        embed_pictures: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating]],
        embed_text: Callable[[str], NDArray[np.floating]],
    ) -> None:
        """Put the two halves together.

        Args:
            embed_pictures: Makes (N, D) of N pictures (h, w, 3) RGB of any sizes.
            embed_text: Makes (D,) of a text.
        """
        self._embed_pictures, self._embed_text = embed_pictures, embed_text
        self._pictures: OrderedDict[bytes, Vectors] = OrderedDict()
        self._texts: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, crops: list[NDArray[np.uint8]], text: str) -> NDArray[np.float64]:
        """Score pictures against a text.

        Args:
            crops: N pictures (h, w, 3) RGB of any sizes.
            text: The phrase.

        Returns:
            (N,) in [-100, 100]; for a trained CLIP about 15 for no match and 25 to 35 for a good one.

        Raises:
            BackendError: The two halves do not belong together, or gave no usable numbers.
        """
        words = self._text(text)
        if not crops:
            return np.zeros(0)
        seen = self._seen(crops)
        if seen.shape[1] != len(words):
            raise BackendError(
                f"expected embeddings of one length, got {seen.shape[1]} for pictures and {len(words)} for texts; "
                "give both halves of the same CLIP"
            )
        return 100 * (seen.astype(np.float64) @ words.astype(np.float64))

    def _text(self, text: str) -> Vectors:
        with self._lock:
            kept = self._texts.get(text)
        if kept is None:
            kept = _unit(np.asarray(self._embed_text(text), np.float32).reshape(1, -1))[0]
            self._keep(self._texts, {text: kept}, _TEXTS_KEPT)
        return kept

    def _seen(self, crops: list[NDArray[np.uint8]]) -> Vectors:
        keys = [_name(crop) for crop in crops]
        with self._lock:
            known = {key: self._pictures[key] for key in keys if key in self._pictures}
        fresh = {key: crop for key, crop in zip(keys, crops, strict=True) if key not in known}
        if fresh:
            vectors = _unit(np.asarray(self._embed_pictures(list(fresh.values())), np.float32))
            known.update(zip(fresh, vectors, strict=True))
        self._keep(self._pictures, known, _PICTURES_KEPT)
        return np.stack([known[key] for key in keys])

    def _keep(self, store: "OrderedDict[_Key, Vectors]", used: dict[_Key, Vectors], most: int) -> None:
        with self._lock:
            for key, vector in used.items():
                store[key] = vector
                store.move_to_end(key)
            while len(store) > most:
                store.popitem(last=False)


def _unit(vectors: NDArray[np.float32]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise BackendError(
            "expected embeddings with a direction, got one of zeros or of numbers that are not finite; "
            "give another export of the model"
        )
    return np.asarray(vectors / lengths, np.float32)


def _name(crop: NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(repr(crop.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(crop).data)
    return digest.digest()
