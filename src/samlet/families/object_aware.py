"""MobileSAMv2's object-aware detector (Zhang et al. 2023, arXiv 2312.09579): boxes of objects, to prompt others with.

    embedding = session.embed(image)                                   candidates (M, 5)
    boxes(embedding, card, conf=0.4, iou=0.9, max_det=320) -> (boxes (N, 4) picture pixels, scores (N,))

It is FastSAM's network without prototypes, so it cannot make masks itself. The paper takes 320 boxes at most; the
published code leaves the number at 300, which is what a card says that wants the published behaviour.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.embedding import Embedding
from samlet.errors import BackendError, EmbeddingError, InputError
from samlet.families import fastsam
from samlet.families.base import Feeds, Outputs
from samlet.geometry import Frame
from samlet.image import Image
from samlet.instances import BOX_AND_SCORE, detect, promising, rules_of
from samlet.masks import Masks
from samlet.prompt import Prompt

ROLES = ("network",)


def feed(image: Image, card: Card) -> tuple[Feeds, Frame]:
    """Prepare a picture as FastSAM does.

    The published pipeline hands over red where the network expects blue; the card's setting `swap_channels` does
    the same, for its published numbers.

    Args:
        image: The picture.
        card: The model.

    Returns:
        {"image": (1, 3, H, W) float32}, H and W being the canvas, and the frame.
    """
    return fastsam.feed(image, card)


def embedding_arrays(outputs: Outputs, card: Card) -> Feeds:
    """Keep boxes and scores of what any threshold could want; the network's unused coefficients are left out.

    Returns:
        {"candidates": (M, 5) float32, best first}.

    Raises:
        BackendError: The network gave something else, or numbers that are not finite.
    """
    candidates = outputs["candidates"]
    fits = candidates.ndim == 3 and len(candidates) == 1 and candidates.shape[1] >= BOX_AND_SCORE
    if not fits or not np.isfinite(candidates[:, :BOX_AND_SCORE]).all():
        raise BackendError(
            f"expected finite candidates (1, {BOX_AND_SCORE} or more, A) from {card.name}, got shape "
            f"{candidates.shape}; install the model again"
        )
    return {"candidates": promising(candidates[:, :BOX_AND_SCORE], card)}


def boxes(
    embedding: Embedding, card: Card, **changes: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the boxes of the objects found.

    Args:
        embedding: What `embed` made of the picture.
        card: The model.
        **changes: Rules that differ from the card's: `conf`, `iou`, `max_det`, `border_snap`; see
            `samlet.instances.InstanceRules`.

    Returns:
        (N, 4) boxes in picture pixels and (N,) scores, best first, possibly none.

    Raises:
        InputError: A rule is out of range.
        EmbeddingError: The arrays are not this family's.
    """
    rows = embedding.arrays.get("candidates")
    if rows is None or rows.ndim != 2 or rows.shape[1] < BOX_AND_SCORE:
        raise EmbeddingError(
            f"expected an embedding with candidates (M, {BOX_AND_SCORE}) for {card.name}, got "
            f"{', '.join(embedding.arrays) or 'nothing'}; embed the picture again"
        )
    rules = rules_of(card, **changes)
    found = detect(rows, embedding.frame.canvas_hw, rules, full_frame=False)
    return found.picture_boxes(embedding.frame), found.scores


def answer(embedding: Embedding, prompt: Prompt, card: Card, *, multimask: bool) -> Masks:
    """Refuse: a detector has no masks to choose among.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"expected a model that makes masks, got {card.name}, which only finds boxes; prompt another model, such as "
        "mobile_sam, with them"
    )
