"""How prompts are answered: by a decoder that is one graph, or by one in two, whose first half runs once a picture.

A decoder as one graph does all of its work for every prompt. SAM's comes in two halves as well: `sam_decoder_image`
does what depends on the embedding alone, `sam_decoder_prompts` the rest; it draws masks only for prompts whose score is
good enough, and only those masks and rows that are asked for (docs/explanation/speed.md).
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from samlet.backends.base import Array, Graph
from samlet.card import Card
from samlet.embedding import Embedding
from samlet.errors import BackendError
from samlet.families import sam
from samlet.families.base import Family
from samlet.prompt import Prompt

HALVES: Mapping[str, tuple[str, str]] = {
    "sam_decoder.onnx": ("sam_decoder_image.onnx", "sam_decoder_prompts.onnx")
}
"""Graphs that a decoder's graph may be replaced by."""

_RECENT = 3  # embeddings whose first half is kept: 10 MiB each for SAM's square
_GRIDS = 8  # shapes of embeddings whose positions are kept


class Wanted(NamedTuple):
    """What is asked of prompts.

    Attributes:
        multimask: Whether three candidates are wanted, or one mask.
        floor: Prompts whose scores are all not above it are left out.
        height: How many rows of the logits are needed, from the top; more may come. None wants all.
    """

    multimask: bool
    floor: float = -math.inf
    height: int | None = None


class Drawn(NamedTuple):
    """Masks of those prompts that passed.

    Attributes:
        prompts: (S,) numbers of the prompts, in order.
        logits: (S, C, h, w); C is 3 for three candidates, else 1.
        scores: (S, C) float32.
    """

    prompts: NDArray[np.int64]
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]


class Decoder(Protocol):
    """Answers prompts on embeddings of one model; any number of threads may use it at once."""

    def draw(self, embedding: Embedding, prompt: Prompt, wanted: Wanted) -> Drawn:
        """Decode N prompts with the same number of points.

        Args:
            embedding: What the encoder made of the picture.
            prompt: The prompts.
            wanted: What is asked of them.
        """


class WholeDecoder:
    """A decoder that is one graph."""

    def __init__(self, family: Family, card: Card, graph: Graph) -> None:
        """Keep the graph and the family that knows its feeds."""
        self._family, self._card, self._graph = family, card, graph

    def draw(self, embedding: Embedding, prompt: Prompt, wanted: Wanted) -> Drawn:
        """See `Decoder.draw`."""
        feeds = self._family.decode_feed(embedding, prompt, self._card)
        masks = self._family.masks(self._graph.run(feeds), embedding.frame, multimask=wanted.multimask)
        logits = masks.logits if wanted.multimask else masks.logits[:, None]
        scores = masks.scores if wanted.multimask else masks.scores[:, None]
        prompts = np.flatnonzero(~(scores <= np.float32(wanted.floor)).all(axis=1))
        if len(prompts) < len(scores):
            logits, scores = logits[prompts], scores[prompts]
        return Drawn(prompts, logits, scores)


class HalvedDecoder:
    """SAM's decoder in two graphs."""

    def __init__(self, card: Card, image: Graph, prompts: Graph) -> None:
        """Keep the halves."""
        self._card, self._image, self._prompts = card, image, prompts
        self._recent: OrderedDict[tuple[int, tuple[int, ...]], tuple[Array, dict[str, Array]]] = OrderedDict()
        self._positions: dict[tuple[int, ...], Array] = {}
        self._lock = Lock()

    def draw(self, embedding: Embedding, prompt: Prompt, wanted: Wanted) -> Drawn:
        """See `Decoder.draw`; prompts with a hint are decoded one by one, since each has an image of its own."""
        feeds = sam.decode_feed(embedding, prompt, self._card)
        array = feeds["image_embeddings"]
        asked: dict[str, Array] = {
            "point_coords": feeds["point_coords"],
            "point_labels": feeds["point_labels"],
            "tokens": np.arange(1, 4) if wanted.multimask else np.zeros(1, np.int64),
            "rows": np.arange(
                array.shape[2] if wanted.height is None else min(array.shape[2], -(-wanted.height // 4))
            ),
            "score_floor": np.array([wanted.floor], np.float32),
        }
        if prompt.hint is None:
            return self._draw(self._known(array, feeds), asked)
        parts = []
        for row in range(len(prompt)):
            one = slice(row, row + 1)
            shared = self._shared(
                array, {name: feeds[name][one] for name in ("mask_input", "has_mask_input")}
            )
            mine = {name: asked[name][one] for name in ("point_coords", "point_labels")}
            parts.append((row, self._draw(shared, {**asked, **mine})))
        return Drawn(
            np.array([row for row, drawn in parts for _ in drawn.prompts], np.int64),
            np.concatenate([drawn.logits for _, drawn in parts]),
            np.concatenate([drawn.scores for _, drawn in parts]),
        )

    def _draw(self, shared: Mapping[str, Array], asked: Mapping[str, Array]) -> Drawn:
        outputs = self._prompts.run({**shared, **asked})
        scores, logits = outputs["iou_predictions"], outputs["low_res_masks"]
        prompts = np.flatnonzero(~(scores <= asked["score_floor"]).all(axis=1))
        if logits.ndim != 4 or logits.shape[:2] != (len(prompts), scores.shape[1]):
            raise BackendError(
                f"expected low_res_masks ({len(prompts)}, {scores.shape[1]}, h, w) from the decoder, got "
                f"{logits.shape}; install samlet again"
            )
        return Drawn(prompts, logits, scores[prompts])

    def _known(self, array: Array, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Give the first half of an embedding without a hint; threads that meet here do the work twice, no harm."""
        key = (array.__array_interface__["data"][0], array.shape)
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
                return self._recent[key][1]
        no_hint = {name: feeds[name][:1] for name in ("mask_input", "has_mask_input")}
        shared = self._shared(array, no_hint)
        with self._lock:
            # Keeping the array too, so that no other one can come to lie where it lies.
            self._recent[key] = (array, shared)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return shared

    def _shared(self, array: Array, hint: Mapping[str, Array]) -> dict[str, Array]:
        shared = self._image.run({"image_embeddings": array, **hint})
        grid = array.shape[2:]
        with self._lock:
            if len(self._positions) >= _GRIDS and grid not in self._positions:
                self._positions.clear()
            # Positions depend on the grid alone, and are as large as the image.
            shared["positions"] = self._positions.setdefault(grid, shared["positions"])
        return shared
