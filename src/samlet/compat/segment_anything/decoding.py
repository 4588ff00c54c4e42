"""Prompts in the network's own pixels, as the original's tensors are: checked, decoded, enlarged exactly."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.compat.segment_anything.arrays import to_numpy
from samlet.compat.segment_anything.errors import ShapeError, UsageError
from samlet.embedding import Embedding
from samlet.geometry import Frame
from samlet.masks import Masks
from samlet.prompt import Prompt
from samlet.session import Session
from samlet.upscale import enlarge

_NO_KIND = 4
"""A label that the networks give no meaning, which leaves the position alone: the original's answer to unknown ones."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Where the picture lies.

    Attributes:
        original_hw: Size of the picture, in pixels.
        input_hw: Size of the resized picture inside the network's canvas, in pixels.
    """

    original_hw: tuple[int, int]
    input_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What B prompts were answered with C masks each; everything is writable and the caller's own.

    Attributes:
        masks: (B, C, H, W) in the picture's size, bool, or float32 logits if asked for.
        scores: (B, C) float32.
        logits: (B, C, h, w) float32 on the network's grid.
    """

    masks: NDArray[Any]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]


def prompt_of(points: Any, labels: Any, boxes: Any, hint: Any) -> Prompt:
    """Put the four parts of B prompts together; nothing is cut to the picture, as in the original.

    Args:
        points: (B, K, 2) in the network's pixels, or None.
        labels: (B, K), or None with the points.
        boxes: (B, 4) in the network's pixels, or None.
        hint: (B, 1, h, w) logits, or (1, 1, h, w) for all prompts, or None.

    Returns:
        A prompt; without points and boxes it has points (B, 0, 2), which means no tokens at all.

    Raises:
        UsageError: Points came without labels.
        ShapeError: The parts have other shapes, or their B differ.
    """
    parts = [_shaped(hint, ("B", 1, "h", "w"), "mask_input", np.float32)]
    if points is not None:
        if labels is None:
            raise UsageError(
                "expected point_labels along with point_coords, got none; give one label a point"
            )
        coords = _shaped(points, ("B", "K", 2), "point_coords", np.float64)
        marks = _shaped(labels, coords.shape[:2], "point_labels", np.float64).astype(np.int64)
        parts += [coords, np.where((marks >= -1) & (marks <= 1), marks, _NO_KIND)]
    else:
        parts += [None, None]
    parts.append(_shaped(boxes, ("B", 4), "boxes", np.float64))
    return _paired(*parts)


def decode(
    session: Session, features: NDArray[np.float32], sizes: Sizes, *, prompt: Prompt, multimask: bool
) -> Masks:
    """Answer B prompts; masks made from the result are enlarged in the original's two steps.

    Args:
        session: The model.
        features: (1, C, h, w), what its encoder made.
        sizes: Where the picture lies.
        prompt: What `prompt_of` gave.
        multimask: Three candidates, or one.

    Raises:
        EmbeddingError: The features do not have the model's shape.
        PromptError: The hint is not on the network's grid.
        BackendError: The runtime failed.
    """
    card = session.card
    canvas = card.side, card.side
    # In this frame picture pixels are the network's, so the prompt's numbers reach the decoder as they are.
    embedding = Embedding(
        {"image_embeddings": features}, Frame(canvas, canvas, canvas), card.name, card.digest
    )
    frame = Frame(sizes.original_hw, sizes.input_hw, canvas)
    if not len(prompt):  # a detector found nothing: that is an answer, too
        each: tuple[int, ...] = (0, 3) if multimask else (0,)
        logits = np.zeros((*each, card.mask_grid, card.mask_grid), np.float32)
        return Masks(logits, np.zeros(each, np.float32), frame, upscale="exact")
    masks = session.segment(embedding, prompt, multimask=multimask, padding="keep")
    return replace(masks, frame=frame, upscale="exact")


def answer(masks: Masks, threshold: float | None) -> Answer:
    """Make the full-size masks.

    Args:
        masks: What `decode` gave, with or without candidates.
        threshold: Where a mask begins, in logits; None for the logits themselves.
    """
    logits = masks.logits if masks.is_multimask else masks.logits[:, None]
    scores = masks.scores if masks.is_multimask else masks.scores[:, None]
    kind = np.float32 if threshold is None else np.bool_
    full = np.empty((*logits.shape[:2], *masks.frame.image_hw), kind)
    for index in np.ndindex(logits.shape[:2]):
        large = enlarge(logits[index], masks.frame, masks.upscale)
        full[index] = large if threshold is None else large > threshold
    return Answer(full, np.array(scores), np.array(logits))


def _shaped(value: Any, shape: tuple[int | str, ...], name: str, kind: type) -> Any:
    """Give a part as numbers of that shape, in which letters stand for any length; None stays None."""
    if value is None:
        return None
    try:
        array: NDArray[Any] = to_numpy(value).astype(kind)
    except (TypeError, ValueError):
        raise ShapeError(f"expected {name} as numbers, got {type(value).__name__}; pass an array") from None
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == got for wanted, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"expected {name} of shape ({', '.join(map(str, shape))}), got {array.shape}; reshape it"
        )
    return array


def _paired(hint: Any, points: Any, labels: Any, boxes: Any) -> Prompt:
    """Bring the parts to one number of prompts."""
    counts = {len(part) for part in (points, boxes) if part is not None}
    if len(counts) > 1:
        raise ShapeError(
            f"expected as many boxes as prompts of points, got {len(boxes)} and {len(points)}; pair them up"
        )
    count = counts.pop() if counts else 1 if hint is None else len(hint)
    if hint is not None:
        if len(hint) not in (1, count):
            raise ShapeError(f"expected one mask_input a prompt, got {len(hint)} for {count}; pair them up")
        hint = np.repeat(hint[:, 0], count // len(hint), axis=0)
    if points is None and boxes is None:
        points, labels = np.zeros((count, 0, 2)), np.zeros((count, 0), np.int64)
    return Prompt(points, labels, boxes, hint)
