"""Words to boxes to masks: a detector finds what a text names, and any model cuts it out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.geometry import nms
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.prompt import Prompt
from samlet.session import Session
from samlet.text.labelled import labelled, read_texts, words


class Detections(NamedTuple):
    """What a detector found in a picture.

    Attributes:
        boxes: (N, 4) as x0, y0, x1, y1 in picture pixels.
        scores: (N,) higher is better, 0 to 1.
        texts: N texts, each one of those asked for.
    """

    boxes: ArrayLike
    scores: ArrayLike
    texts: Sequence[str]


class Detector(Protocol):
    """Finds what texts name, such as GroundingDINO or OWLv2 behind `load_detector`."""

    def detect(self, image: Image, texts: Sequence[str], *, threshold: float) -> Detections:
        """Find the boxes of some texts.

        Args:
            image: The picture.
            texts: What to look for.
            threshold: Lowest score.

        Returns:
            The boxes in any order; none at all is an answer, too.
        """


class _HasSession(Protocol):
    @property
    def session(self) -> Session:
        """The model on its backend."""


def segment_text(
    model: Session | _HasSession,
    view: Image | Embedding,
    texts: str | Sequence[str],
    detector: Detector,
    *,
    box_threshold: float = 0.25,
    nms_iou: float = 0.8,
) -> StoredMasks:
    """Cut out what texts name, as Grounded-SAM does (Ren et al. 2024, arXiv 2401.14159).

    All boxes of a picture are prompted at once. Of boxes that overlap too much the better one stays, whatever
    their texts, so that one object has one name. A picture where nothing is found is not even encoded.

    Args:
        model: A `samlet.Model` or its session; any family.
        view: A picture, or an embedding of it that still carries the picture.
        texts: A phrase, or several.
        detector: Finds the boxes.
        box_threshold: Lowest score of a box, 0 to 1.
        nms_iou: Largest overlap of two boxes that both stay, 0 to 1.

    Returns:
        A mask for each box, best box first; maybe none. Scores are the model's own; the facts are "text" (N,) str,
        "box_score" (N,), "box_xyxy" (N, 4) in picture pixels and "stability_score". `to_coco`, `to_labelme` and
        others take `labels=masks.facts["text"]`. The masks are run lengths: to refine one, prompt the model with
        its box.

    Raises:
        PromptError: A text is empty or comes twice.
        InputError: The embedding has no picture, a threshold is no share, or the detector gave something else.
        EmbeddingError: Another model made the embedding.
        LimitError: There are more boxes than prompts are allowed.
        BackendError: The runtime failed.
    """
    asked = read_texts(texts)
    image = view if isinstance(view, Image) else view.image
    if image is None:
        raise InputError(
            "expected a picture for the detector, got an embedding without one; pass the picture itself"
        )
    if not (0 <= box_threshold <= 1 and 0 <= nms_iou <= 1):
        raise InputError(
            f"expected thresholds from 0 to 1, got {box_threshold!r:.20} and {nms_iou!r:.20}; correct them"
        )
    boxes, scores, names = _checked(detector.detect(image, asked, threshold=box_threshold), image, asked)
    kept = np.flatnonzero((scores >= box_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    kept = kept[nms(boxes[kept], scores[kept], nms_iou)] if len(kept) else kept
    facts: dict[str, NDArray[Any]] = {
        "text": words([names[row] for row in kept]),
        "box_score": scores[kept].astype(np.float32),
        "box_xyxy": boxes[kept],
    }
    if not len(kept):
        return StoredMasks.of([], [], image.hw, image=image, facts=facts)
    session = model if isinstance(model, Session) else model.session
    embedding = session.embed(view) if isinstance(view, Image) else view
    prompt = Prompt.make(image_hw=image.hw, boxes=boxes[kept])
    found = session.segment(embedding, prompt)
    return labelled(replace(found, prompt=prompt), facts, image=image)


def _checked(
    found: Detections, image: Image, asked: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Check what a detector gave, and cut boxes at the border of the picture."""
    boxes = np.asarray(found.boxes, np.float64)
    boxes = boxes.reshape(0, 4) if not boxes.size else boxes
    scores = np.asarray(found.scores, np.float64).ravel()
    names = [str(name) for name in found.texts]
    sound = boxes.ndim == 2 and boxes.shape[1] == 4 and len(boxes) == len(scores) == len(names)
    if not sound or not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise InputError(
            f"expected N finite boxes (N, 4) with N scores and texts from the detector, got {boxes.shape}, "
            f"{len(scores)} and {len(names)}; give them in step"
        )
    foreign = set(names) - set(asked)
    if foreign:
        raise InputError(
            f"expected texts that were asked for from the detector, got {foreign.pop()!r:.60}; name each box "
            "by one of them"
        )
    return np.clip(boxes, 0, (image.width, image.height) * 2), scores, names
