"""What rooms that ask a model many times need of it, so that they need not import the model itself."""

from typing import Protocol

from numpy.typing import ArrayLike

from samlet.embedding import Embedding
from samlet.image import Image
from samlet.masks import Masks


class Answerer(Protocol):
    """A model; `samlet.load()` gives one, and a test may write its own."""

    def embed(self, image: Image) -> Embedding:
        """Embed a picture."""

    def segment(
        self,
        view: Embedding,
        *,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        hint: ArrayLike | None = None,
    ) -> Masks:
        """Answer one prompt."""
