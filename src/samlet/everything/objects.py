"""Everything in a picture, from boxes of objects instead of a blind grid: MobileSAMv2's idea (Zhang et al. 2023).

The boxes come from the model's own object head, which reads the embedding that is there already, or from a detector
such as MobileSAMv2's. Each box prompts the decoder once and gives one mask; a hundred prompts take the place of 1,024.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.everything.enlarge import Enlarger
from samlet.families import object_aware
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.prompt import Prompt
from samlet.rle import Rle
from samlet.runs import Runs, distinct
from samlet.session import Session

Ranking = Literal["stable", "both", "box", "mask"]
Progress = Callable[[int, int], None]
"""Called with the boxes done and the boxes in all."""

_OFFSET = 1.0  # SAM's, for the stability score


@dataclass(frozen=True, slots=True)
class Objects:
    """How boxes are chosen and masks are ranked.

    Attributes:
        at_most: Most boxes that prompt the decoder: 56 take about a sixteenth of the decoder's time for SAM's
            32 x 32 clicks (docs/evaluation); the paper takes up to 320.
        box_iou: Of two boxes that overlap more, the better stays.
        min_box_score: Boxes below it are left out, 0 to 1.
        min_score: Masks whose rank score is below it are left out.
        mask_iou: Of two masks that overlap more, the better stays; 1 keeps all, as the paper does.
        rank: What the masks are ordered by: "box", the box's score; "stable", the same times the mask's stability
            score; "mask", the decoder's score for the mask; "both", the geometric mean of box and mask.
    """

    at_most: int = 56
    box_iou: float = 0.7
    min_box_score: float = 0.0
    min_score: float = 0.0
    mask_iou: float = 0.85
    rank: Ranking = "stable"

    def __post_init__(self) -> None:
        """Check every number."""
        if type(self.at_most) is not int or not 1 <= self.at_most <= 4096:
            raise InputError(
                f"expected at_most from 1 to 4096, got {self.at_most!r:.40}; pass a whole number"
            )
        for name in ("box_iou", "min_box_score", "min_score", "mask_iou"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
                raise InputError(f"expected {name} from 0 to 1, got {value!r:.40}; pass a share")
        if self.rank not in get_args(Ranking):
            raise InputError(
                f"expected rank {', '.join(map(repr, get_args(Ranking)))}, got {self.rank!r:.40}; choose one"
            )

    @classmethod
    def mobile_sam_v2(cls, *, at_most: int = 320) -> "Objects":
        """Choose and rank as MobileSAMv2 does: boxes may overlap by 0.9, no mask is dropped, the box's score ranks.

        Args:
            at_most: Most boxes: 320 in the paper; its code never takes more than 300.

        Example:
            >>> Objects.mobile_sam_v2().box_iou
            0.9
        """
        return cls(at_most=at_most, box_iou=0.9, mask_iou=1.0, rank="box")


DEFAULT_OBJECTS = Objects()


def object_boxes(
    session: Session,
    embedding: Embedding,
    wanted: Objects = DEFAULT_OBJECTS,
    *,
    detector: Session | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Find boxes of objects.

    Args:
        session: The model that made the embedding.
        embedding: Of the picture; a detector needs it to hold its picture.
        wanted: How many, how different.
        detector: A model of the family object_aware, or one with an object head of its own, such as nano; None
            asks the model's own object head.

    Returns:
        (N, 4) boxes xyxy in picture pixels and (N,) scores in 0..1, best first.

    Raises:
        InputError: The model has no object head and there is no detector, the detector is none, or the embedding
            came without its picture.
        BackendError: The runtime failed.
    """
    if detector is None:
        boxes, scores = session.objects(embedding, at_most=wanted.at_most, iou=wanted.box_iou)
    else:
        if embedding.image is None:
            raise InputError("expected an embedding that holds its picture, got one without; embed it again")
        boxes, scores = _detected(detector, embedding.image, wanted)
    good = scores >= wanted.min_box_score
    return np.asarray(boxes[good], np.float64), np.asarray(scores[good], np.float32)


def _detected(
    detector: Session, image: Image, wanted: Objects
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    if detector.has_objects:
        return detector.objects(detector.embed(image), at_most=wanted.at_most, iou=wanted.box_iou)
    if detector.card.family != "object_aware":
        raise InputError(
            f"expected a detector of boxes, such as object_aware or nano, got {detector.card.name}; name another"
        )
    found = detector.embed(image)
    boxes, scores = object_aware.boxes(found, detector.card, iou=wanted.box_iou, max_det=wanted.at_most)
    return np.asarray(boxes, np.float64), np.asarray(scores, np.float32)


def masks_of_boxes(
    session: Session,
    embedding: Embedding,
    boxes: NDArray[np.float64],
    *,
    progress: Progress | None = None,
) -> tuple[list[Rle], NDArray[np.float32], NDArray[np.float32]]:
    """Prompt the decoder with N boxes, one mask each, a few at a time, and keep run lengths.

    Args:
        session: The model.
        embedding: What its encoder made of the picture.
        boxes: (N, 4) xyxy, picture pixels.
        progress: Told how far the work is.

    Returns:
        N run-length codes at picture size, in order, possibly of empty masks; (N,) the decoder's scores; (N,)
        stability scores, 0 to 1, counted at picture size.

    Raises:
        EmbeddingError: Another model made the embedding.
        BackendError: The runtime failed.
    """
    height, width = embedding.frame.image_hw
    rles: list[Rle] = []
    scores, stability = np.zeros(len(boxes), np.float32), np.zeros(len(boxes), np.float32)
    enlarger: Enlarger | None = None
    size = min(16, max(1, session.at_once(embedding) // 2))
    for start in range(0, len(boxes), size):
        masks = session.segment(embedding, Prompt(boxes=boxes[start : start + size]))
        if enlarger is None:
            enlarger = Enlarger(masks.frame, (masks.logits.shape[1], masks.logits.shape[2]), "fast")
        for row, logits in enumerate(masks.logits, start):
            window = enlarger.cut(logits, masks.threshold, offset=_OFFSET)
            rles.append(Rle(size=[height, width], counts=window.runs((height, width)).tolist()))
            stability[row] = window.inner / max(window.outer, 1)
        scores[start : start + len(masks)] = masks.scores
        if progress is not None:
            progress(start + len(masks), len(boxes))
    return rles, scores, stability


def objects(
    session: Session,
    view: Image | Embedding,
    wanted: Objects = DEFAULT_OBJECTS,
    *,
    detector: Session | None = None,
    progress: Progress | None = None,
) -> StoredMasks:
    """Find the objects of a picture: boxes first, then one mask a box.

    Args:
        session: A model that answers boxes with logits.
        view: The picture, or what `Session.embed` made of it.
        wanted: How boxes are chosen and masks are ranked.
        detector: A model of the family object_aware; None asks the model's own object head.
        progress: Told how far the work is.

    Returns:
        The masks that are not empty, best first, with the facts "box_score", "predicted_iou", "stability_score"
        (N,) and "prompt_box" (N, 4) xyxy in picture pixels.

    Raises:
        InputError: There is nothing that finds boxes; see `object_boxes`.
        EmbeddingError: Another model made the embedding.
        BackendError: The runtime failed.
    """
    embedding = session.embed(view) if isinstance(view, Image) else view
    boxes, box_scores = object_boxes(session, embedding, wanted, detector=detector)
    rles, predicted, stability = masks_of_boxes(session, embedding, boxes, progress=progress)
    shares = np.clip(predicted, 0, 1)
    rank = {
        "stable": box_scores * stability,
        "both": np.sqrt(box_scores * shares),
        "box": box_scores,
        "mask": shares,
    }[wanted.rank]
    masks = StoredMasks.of(
        rles,
        rank,
        embedding.frame.image_hw,
        image=embedding.image,
        facts={
            "box_score": box_scores,
            "predicted_iou": predicted,
            "stability_score": stability,
            "prompt_box": boxes,
        },
    )
    masks = masks[(masks.areas > 0) & (masks.scores >= wanted.min_score)]
    order = np.argsort(-masks.scores, kind="stable")
    if wanted.mask_iou < 1:
        order = distinct([Runs.of(rle) for rle in masks.rles], order.tolist(), wanted.mask_iou)
    return masks[order]
