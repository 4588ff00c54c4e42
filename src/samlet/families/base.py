"""What a family of models has to provide: functions without state, disk or runtime."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.embedding import Embedding
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks
from samlet.prompt import Prompt

Feeds = dict[str, NDArray[np.float32]]
Outputs = Mapping[str, NDArray[Any]]


class Family(Protocol):
    """A module with these names is a family; `samlet.families.sam` is the model to follow.

    A family whose prompts only choose among what one network found has one role and, instead of `decode_feed`
    and `masks`, a function `answer(embedding, prompt, card, *, multimask) -> Masks`; see `Selecting`.
    """

    __name__: str
    ROLES: tuple[str, ...]
    """Roles of its graphs: the first makes embeddings; the second, if there is one, answers prompts."""

    def feed(self, image: Image, card: Card) -> tuple[Feeds, Frame]:
        """Prepare a picture for the encoder."""

    def embedding_arrays(self, outputs: Outputs, card: Card) -> Feeds:
        """Name and check what the encoder gave."""

    def decode_feed(self, embedding: Embedding, prompt: Prompt, card: Card) -> Feeds:
        """Prepare an embedding and N prompts for the decoder."""

    def masks(self, outputs: Outputs, frame: Frame, *, multimask: bool) -> Masks:
        """Turn what the decoder gave into masks, in prompt order."""


class Selecting(Family, Protocol):
    """A family with a single network, such as FastSAM: prompts choose among the regions it found."""

    def answer(self, embedding: Embedding, prompt: Prompt, card: Card, *, multimask: bool) -> Masks:
        """Answer N prompts from the embedding alone, in prompt order."""


class Proposing(Family, Protocol):
    """A family whose models may find objects by themselves, by a graph of the optional role "objects"."""

    OPTIONAL_ROLES: tuple[str, ...]
    """Roles that a card may have beside `ROLES`; what they answer is no part of an embedding or of a mask."""

    def objects(self, outputs: Outputs, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Turn what the object head gave into boxes (N, 4) in picture pixels and scores (N,)."""
