"""What a family of models has to provide: four functions without state, disk or runtime."""

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
    """A module with these functions is a family; `samlet.families.sam` is the model to follow."""

    __name__: str

    def feed(self, image: Image, card: Card) -> tuple[Feeds, Frame]:
        """Prepare a picture for the encoder."""

    def embedding_arrays(self, outputs: Outputs, card: Card) -> Feeds:
        """Name and check what the encoder gave."""

    def decode_feed(self, embedding: Embedding, prompt: Prompt, card: Card) -> Feeds:
        """Prepare an embedding and N prompts for the decoder."""

    def masks(self, outputs: Outputs, frame: Frame, *, multimask: bool) -> Masks:
        """Turn what the decoder gave into masks, in prompt order."""
