"""A card on a backend: pictures become embeddings, prompts become masks, nothing is remembered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from samlet import packed
from samlet.backends.base import Array, Backend, Graph, GraphFile
from samlet.card import Card
from samlet.decoding import HALVES, Decoder, Drawn, HalvedDecoder, Wanted, WholeDecoder
from samlet.draft import Draft
from samlet.embedding import Embedding
from samlet.errors import CheckpointError, InputError
from samlet.families import family, sam
from samlet.families.base import Family, Feeds, Outputs, Proposing, Selecting
from samlet.geometry import Frame, nms
from samlet.image import Image
from samlet.masks import Masks
from samlet.prompt import PADDING, Prompt

_TOKENS_AT_ONCE = 32_768
"""Image tokens times prompts decoded at a time, of which the runtime's memory is a multiple: 32 prompts for nano, 8 for
SAM's square. More is hardly faster: MobileSAM's decoder took 59 ms of CPU a prompt at 16, 61 at 8, and 440 MB more."""
_HALVES = ("decoder_image", "decoder_prompts")
"""Roles of a decoder's halves, see `samlet.decoding.HALVES`."""
_CANDIDATES = 2000  # best boxes that suppression looks at: what is behind them is not an object


class Session:
    """One model, loaded and ready; any number of threads may use it at once.

    Attributes:
        card: The model.

    Example:
        >>> from samlet.backends.fake import FakeBackend
        >>> from samlet.registry import resolve
        >>> session = Session(resolve("nano"), FakeBackend())
        >>> view = session.embed(Image.load(np.zeros((48, 64, 3), np.uint8)))
        >>> len(session.segment(view, Prompt.make(image_hw=(48, 64), points=[32, 24])))
        1
    """

    def __init__(
        self, card: Card, backend: Backend, *, threads: int | None = None, chunk: int | None = None
    ) -> None:
        """Read and check the weights, and open the model's graphs.

        Args:
            card: The model.
            backend: The runtime.
            threads: Threads for one run, at least 1; None lets the runtime decide.
            chunk: Most prompts decoded at a time, at least 1; None bounds them by memory, see `at_once`.

        Raises:
            InputError: A number is below 1.
            ModelError: A file of the model is missing, damaged or does not fit.
            BackendError: The runtime refuses the model.
        """
        if (chunk is not None and chunk < 1) or (threads is not None and threads < 1):
            raise InputError(
                f"expected threads and chunk of at least 1, got {threads} and {chunk}; pass positive numbers"
            )
        self.card = card
        self._family = family(card.family)
        self._chunk = chunk
        roles = self._family.ROLES
        more = tuple(role for role in getattr(self._family, "OPTIONAL_ROLES", ()) if role in card.graphs)
        opened = _open(card, roles + more, backend, threads)
        self._encoder, self._extra = opened[roles[0]], {role: opened[role] for role in more}
        self._decoder = _decoder(self._family, card, opened)

    def embed(self, image: Image | Draft) -> Embedding:
        """Do the expensive half of the work, once for a picture.

        Args:
            image: The picture; the embedding keeps a reference to it. Of a draft it keeps none.

        Raises:
            InputError: The picture is a draft, and the model is none of SAM's kind.
            BackendError: The runtime failed.
        """
        if isinstance(image, Draft):
            if self.card.family != "sam":
                raise InputError(
                    f"expected a model of SAM's kind for pictures decoded as drafts, got {self.card.name}; leave "
                    "decode out"
                )
            return self.encode(*sam.feed(image, self.card))
        feeds, frame = self._family.feed(image, self.card)
        return replace(self.encode(feeds, frame), image=image)

    def embed_many(self, images: Sequence[Image], *, at_once: int = 8) -> list[Embedding]:
        """Embed several pictures, together where the backend can: on a GPU that is what keeps it busy.

        Pictures whose canvases have the same size go through the network at once on the torch backend; every other
        backend takes them one by one, which on a CPU is no slower.

        Args:
            images: The pictures.
            at_once: Most pictures in one call, at least 1; memory is a multiple of it.

        Returns:
            Embeddings in the order of the pictures.

        Raises:
            InputError: `at_once` is below 1.
            BackendError: The runtime failed.
        """
        if at_once < 1:
            raise InputError(f"expected at_once of at least 1, got {at_once}; pass a positive number")
        if at_once == 1 or not getattr(self._encoder, "any_batch", False):
            return [self.embed(image) for image in images]
        found: dict[int, Embedding] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, Feeds, Frame]]] = {}
        for index, image in enumerate(images):
            feeds, frame = self._family.feed(image, self.card)
            group = waiting.setdefault(frame.canvas_hw, [])
            group.append((index, feeds, frame))
            if len(group) == at_once:
                found |= self._encode_group(waiting.pop(frame.canvas_hw))
        for group in waiting.values():
            found |= self._encode_group(group)
        return [replace(found[index], image=image) for index, image in enumerate(images)]

    def _encode_group(self, group: Sequence[tuple[int, Feeds, Frame]]) -> dict[int, Embedding]:
        names = group[0][1].keys()
        outputs = self._encoder.run(
            {name: np.concatenate([feeds[name] for _, feeds, _ in group]) for name in names}
        )
        return {
            index: self._embedding({name: array[i : i + 1] for name, array in outputs.items()}, frame)
            for i, (index, _, frame) in enumerate(group)
        }

    def encode(self, feeds: Feeds, frame: Frame) -> Embedding:
        """Embed what the caller prepared for the network itself, as users of SAM's tensors do.

        Args:
            feeds: What the family's `feed` would have made.
            frame: How the picture lies in it.

        Raises:
            BackendError: The feeds do not fit the network, or the runtime failed.
        """
        return self._embedding(self._encoder.run(feeds), frame)

    def _embedding(self, outputs: Outputs, frame: Frame) -> Embedding:
        arrays = self._family.embedding_arrays(outputs, self.card)
        return Embedding(arrays=arrays, frame=frame, model=self.card.name, digest=self.card.digest)

    def at_once(self, embedding: Embedding) -> int:
        """Say how many prompts are decoded at a time, so that memory stays bounded whatever the model.

        Args:
            embedding: What the prompts are about; its grid decides.
        """
        array = embedding.arrays.get("image_embeddings")
        if array is None or array.ndim != 4:
            return 1  # an embedding from outside; the family says what is wrong with it
        # SAM's tokens lie at stride 16; nano's embedding packs four cells into one of them.
        tokens = array.shape[2] * array.shape[3] * (self.card.stride / 16) ** 2
        return max(1, int(_TOKENS_AT_ONCE / max(tokens, 1)))

    @property
    def has_objects(self) -> bool:
        """Whether the model has an object head, so that `objects` gives boxes."""
        return "objects" in self._extra

    def segment(
        self,
        embedding: Embedding,
        prompt: Prompt,
        *,
        multimask: bool = False,
        padding: Literal["cut", "keep"] = "cut",
    ) -> Masks:
        """Do the cheap half of the work, for N prompts on one picture.

        Prompts with different numbers of points are decoded apart, so that padding one prompt to the
        length of another never changes its answer.

        Args:
            embedding: What `embed` gave, or `Embedding.load`.
            prompt: N prompts in pixels of the embedded picture.
            multimask: Whether to give three candidates for each prompt instead of one mask.
            padding: "keep" hands trailing padding points (label -1) to the network, for which each is a token;
                that is SAM's own behaviour, and only its drop-in wants it.

        Returns:
            Masks in prompt order: logits (N, h, w), or (N, 3, h, w) with `multimask`; a family that only
            selects (FastSAM) gives stored masks without logits.

        Raises:
            EmbeddingError: Another model made the embedding.
            PromptError: The hint does not have the size of this picture's logits.
            BackendError: The runtime failed.
        """
        embedding.check(self.card)
        if self._decoder is None:
            return cast(Selecting, self._family).answer(embedding, prompt, self.card, multimask=multimask)
        drawn = self._draw(self._decoder, embedding, prompt, Wanted(multimask), cut=padding == "cut")
        one = slice(None) if multimask else 0
        return Masks(logits=drawn.logits[:, one], scores=drawn.scores[:, one], frame=embedding.frame)

    def passing(
        self, embedding: Embedding, prompt: Prompt, *, floor: float, height: int | None = None
    ) -> Drawn:
        """Decode N prompts with three candidates each, and give those of which one is good enough.

        A model whose decoder comes in two halves draws no masks for the others, nor for rows that nobody needs.

        Args:
            embedding: What `embed` gave, or `Embedding.load`.
            prompt: N prompts in pixels of the embedded picture, without a hint.
            floor: Prompts none of whose scores is above it are left out.
            height: How many rows of the logits are needed, from the top; more may come. None wants all.

        Returns:
            Numbers of the prompts, their logits (S, 3, h, w) and scores (S, 3).

        Raises:
            InputError: The model does not answer prompts with logits.
            EmbeddingError: Another model made the embedding.
            BackendError: The runtime failed.
        """
        embedding.check(self.card)
        if self._decoder is None:
            raise InputError(
                f"expected a model that answers prompts with logits, got {self.card.name}; use `segment`"
            )
        return self._draw(self._decoder, embedding, prompt, Wanted(True, floor, height), cut=True)

    def objects(
        self, embedding: Embedding, *, at_most: int = 320, iou: float = 0.7, floor: float = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Find boxes of objects, if the model has an object head; it reads the embedding that is there already.

        Args:
            embedding: What `embed` gave, or `Embedding.load`.
            at_most: Most boxes to give, at least 1.
            iou: Of two boxes that overlap more than this, the better stays; in 0..1.
            floor: Boxes whose score is below it are left out; in 0..1.

        Returns:
            (N, 4) boxes xyxy in picture pixels, inside the picture, and (N,) scores in 0..1, best first.

        Raises:
            InputError: The model has no object head, or a number is out of range.
            EmbeddingError: Another model made the embedding.
            BackendError: The runtime failed.
        """
        if not self.has_objects:
            raise InputError(
                f"expected a model with an object head, such as nano, got {self.card.name}; "
                "take boxes from another model or prompt with a grid"
            )
        if at_most < 1 or not (0 <= iou <= 1 and 0 <= floor <= 1):
            raise InputError(
                f"expected at_most of at least 1 and iou and floor in 0..1, got {at_most}, {iou} and {floor}; "
                "correct the numbers"
            )
        embedding.check(self.card)
        outputs = self._extra["objects"].run(dict(embedding.arrays))
        boxes, scores = cast(Proposing, self._family).objects(outputs, embedding.frame)
        good = np.flatnonzero(scores >= floor)
        best = good[np.argsort(-scores[good], kind="stable")[: max(_CANDIDATES, 4 * at_most)]]
        kept = best[nms(boxes[best], scores[best], iou)[:at_most]]
        return boxes[kept], scores[kept]

    def _draw(
        self, decoder: Decoder, embedding: Embedding, prompt: Prompt, wanted: Wanted, *, cut: bool
    ) -> Drawn:
        """Decode prompts of any lengths, a few at a time, and give them in order."""
        parts: list[Drawn] = []
        for chosen, length in _chunks(prompt, self._chunk or self.at_once(embedding), cut=cut):
            some = _take(prompt, chosen, length)
            drawn = decoder.draw(embedding, some, wanted)
            parts.append(drawn._replace(prompts=chosen[drawn.prompts]))
        if len(parts) == 1:  # in order as it is: spare the copy
            return parts[0]
        prompts, logits, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(prompts)
        return Drawn(prompts[order], logits[order], scores[order])


def _decoder(family: Family, card: Card, opened: Mapping[str, Graph]) -> Decoder | None:
    """Put the decoder together from the graphs opened; None for a family that only selects."""
    if "decoder" in opened:
        return WholeDecoder(family, card, opened["decoder"])
    if _HALVES[0] in opened:
        return HalvedDecoder(card, *(opened[role] for role in _HALVES))
    return None


def _open(card: Card, roles: tuple[str, ...], backend: Backend, threads: int | None) -> dict[str, Graph]:
    """Open the graphs of a family's roles, a decoder's two halves in its place; the weights are read once for all."""
    lacking = [role for role in roles if role not in card.graphs]
    if lacking:
        raise CheckpointError(
            f"expected graphs for {', '.join(roles)} in the card of {card.name}, but it lacks "
            f"{', '.join(lacking)}; correct the card"
        )
    names = {role: card.graphs[role] for role in roles}
    weights: Mapping[str, Array] = {}
    if not backend.needs_files:
        files = [GraphFile(name.removesuffix(".onnx"), b"", (), (), {}, 0) for name in names.values()]
    else:
        halves = HALVES.get(names.get("decoder", "")) if card.family == "sam" else None
        if halves is not None:
            del names["decoder"]
            names.update(zip(_HALVES, halves, strict=True))
        takes = getattr(backend, "takes_packed", None)
        files, weights = packed.bound(card, [packed.read_graph(name) for name in names.values()], takes)
    return {
        role: backend.open(role, file, weights=weights, threads=threads)
        for role, file in zip(names, files, strict=True)
    }


def _chunks(prompt: Prompt, size: int, *, cut: bool) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Give indices of prompts with the same number of points, at most `size` at a time, and that number.

    With `cut`, padding points at the end do not count.
    """
    lengths = np.zeros(len(prompt), np.int64)
    if prompt.labels is not None and prompt.labels.size:
        count = prompt.labels.shape[1]
        real = (prompt.labels != PADDING) | (not cut)
        lengths = np.where(real.any(axis=1), count - real[:, ::-1].argmax(axis=1), 0)
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        for start in range(0, len(alike), size):
            yield alike[start : start + size], int(length)


def _take(prompt: Prompt, chosen: NDArray[np.int64], length: int) -> Prompt:
    """Give some of the prompts, cut to the first `length` points."""

    def rows(array: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if array is None else array[chosen]

    points, labels = rows(prompt.points), rows(prompt.labels)
    if points is not None and labels is not None:
        points, labels = points[:, :length], labels[:, :length]
    if length == 0 and prompt.boxes is not None:
        points = labels = None
    return Prompt(points=points, labels=labels, boxes=rows(prompt.boxes), hint=rows(prompt.hint))
