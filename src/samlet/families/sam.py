"""SAM's contract, driven by a card: it serves nano, MobileSAM and SAM alike.

The +0.5 that moves a pixel's corner to its centre happens inside the decoder's graph, as in SAM's own export.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.draft import Draft
from samlet.embedding import Embedding
from samlet.errors import BackendError, EmbeddingError, PromptError
from samlet.families.base import Feeds, Outputs
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks
from samlet.prompt import Prompt

ROLES = ("encoder", "decoder")
OPTIONAL_ROLES = ("objects",)
"""A head that finds boxes of objects in an embedding; nano has one."""
_PADDING, _BOX_LOW, _BOX_HIGH = -1, 2, 3
_TOKENS = 4


def feed(image: Image | Draft, card: Card) -> tuple[Feeds, Frame]:
    """Resize, normalise and pad a picture, in SAM's order: padding comes last, so it has the mean colour.

    Args:
        image: The picture, or a draft of it.
        card: Says how long the longest side becomes, how the canvas is padded, mean and std.

    Returns:
        {"image": (1, 3, H, W) float32}, H and W being the canvas, and the frame.
    """
    frame = Frame.fit(image.hw, card.side, multiple=None if card.pad == "square" else int(card.pad))
    return {"image": on_canvas(image.resized(frame.scaled_hw), frame.canvas_hw, card)}, frame


def on_canvas(scaled: NDArray[Any], canvas_hw: tuple[int, int], card: Card) -> NDArray[np.float32]:
    """Normalise a picture that already has the network's scale, and pad it to the right and at the bottom.

    Args:
        scaled: (h, w, 3) RGB, 0 to 255, whole numbers or not; it fits into the canvas.
        canvas_hw: Size of the canvas, in pixels.
        card: Says mean and std.

    Returns:
        (1, 3, H, W), zeros in the padding.
    """
    height, width = scaled.shape[:2]
    canvas = np.zeros((1, 3, *canvas_hw), np.float32)
    mean, std = np.array(card.mean, np.float32), np.array(card.std, np.float32)
    # Plane by plane and in place: the same numbers as (scaled - mean) / std in a third of the time.
    for channel, plane in enumerate(canvas[0, :, :height, :width]):
        plane[:] = scaled[:, :, channel]
        plane -= mean[channel]
        plane /= std[channel]
    return canvas


def embedding_arrays(outputs: Outputs, card: Card) -> Feeds:
    """Check what the encoder gave.

    Returns:
        {"image_embeddings": (1, C, h, w) float32}.

    Raises:
        BackendError: The encoder gave something else, or numbers that are not finite.
    """
    array = outputs["image_embeddings"]
    if array.ndim != 4 or array.shape[:2] != (1, card.embedding_channels) or not np.isfinite(array).all():
        raise BackendError(
            f"expected a finite embedding of shape (1, {card.embedding_channels}, h, w) from {card.name}, "
            f"got shape {array.shape}; install the model again"
        )
    return {"image_embeddings": array.astype(np.float32, copy=False)}


def array_of(embedding: Embedding, card: Card) -> NDArray[np.float32]:
    """Give the array of an embedding, which may come from a file.

    Returns:
        (1, C, h, w).

    Raises:
        EmbeddingError: There is none, or it does not have the model's shape.
    """
    array = embedding.arrays.get("image_embeddings")
    if array is None or array.ndim != 4 or array.shape[:2] != (1, card.embedding_channels):
        raise EmbeddingError(
            f"expected an embedding with image_embeddings of shape (1, {card.embedding_channels}, h, w) for "
            f"{card.name}, got {None if array is None else array.shape}; embed the picture again"
        )
    return array


def decode_feed(embedding: Embedding, prompt: Prompt, card: Card) -> Feeds:
    """Prepare N prompts for the decoder; all sizes follow from the embedding's grid (h, w).

    Args:
        embedding: What the encoder made of the picture.
        prompt: N prompts in picture pixels.
        card: The model.

    Returns:
        image_embeddings (1, C, h, w), point_coords (N, K, 2) in canvas pixels, point_labels (N, K) with -1
        for padding, 0 background, 1 foreground, 2 and 3 for the corners of a box, mask_input (N, 1, 4h, 4w)
        and has_mask_input (N,); all float32. Without boxes each prompt ends in a padding point, as SAM
        demands; a prompt without points and boxes, points (N, 0, 2), has none at all (K = 0), as in SAM.

    Raises:
        PromptError: The hint is not on the grid of this picture's low-res logits.
        EmbeddingError: The embedding's array does not have the model's shape.
    """
    array = array_of(embedding, card)
    count = len(prompt)
    grid_hw = 4 * array.shape[2], 4 * array.shape[3]
    coords, labels = _points(prompt, embedding.frame)
    # A distilled encoder may look at more pixels than its decoder's own one did for a map of the same size.
    coords *= float(card.settings.get("decoder_stride", card.stride)) / card.stride
    mask_input, has_mask = np.zeros((count, 1, *grid_hw), np.float32), np.zeros(count, np.float32)
    if prompt.hint is not None:
        if prompt.hint.shape[-2:] != grid_hw:
            raise PromptError(
                f"expected a hint on this picture's grid of {grid_hw[0]} x {grid_hw[1]} logits, got "
                f"{prompt.hint.shape[-2]} x {prompt.hint.shape[-1]}; pass Masks.hint of an earlier answer "
                "for the same picture and model"
            )
        mask_input[:, 0], has_mask[:] = prompt.hint, 1
    return {
        "image_embeddings": array,
        "point_coords": coords,
        "point_labels": labels,
        "mask_input": mask_input,
        "has_mask_input": has_mask,
    }


def masks(outputs: Outputs, frame: Frame, *, multimask: bool) -> Masks:
    """Turn the decoder's four tokens into masks.

    Args:
        outputs: iou_predictions (N, 4) and low_res_masks (N, 4, h, w).
        frame: Where the picture lies in the canvas.
        multimask: False takes token 0, for unambiguous prompts; True takes tokens 1 to 3 in order.

    Raises:
        BackendError: The decoder gave other shapes.
    """
    scores, logits = outputs["iou_predictions"], outputs["low_res_masks"]
    if scores.ndim != 2 or logits.ndim != 4 or not scores.shape == logits.shape[:2] == (len(logits), _TOKENS):
        raise BackendError(
            f"expected iou_predictions (N, {_TOKENS}) and low_res_masks (N, {_TOKENS}, h, w) from the "
            f"decoder, got {scores.shape} and {logits.shape}; install the model again"
        )
    token = slice(1, _TOKENS) if multimask else 0
    return Masks(
        logits=np.ascontiguousarray(logits[:, token], np.float32),
        scores=np.ascontiguousarray(scores[:, token], np.float32),
        frame=frame,
    )


def objects(outputs: Outputs, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Bring what an object head gave to the picture.

    Args:
        outputs: boxes (1, A, 4) xyxy in canvas pixels and scores (1, A) in 0..1.
        frame: Where the picture lies in the canvas.

    Returns:
        (N, 4) boxes in picture pixels, clipped to the picture, those without area left out, and (N,) scores;
        in no order and with all overlaps.

    Raises:
        BackendError: The head gave other shapes, or numbers that are not finite.
    """
    boxes, scores = outputs["boxes"], outputs["scores"]
    if (
        boxes.shape != (1, boxes.shape[-2], 4)
        or scores.shape != boxes.shape[:2]
        or not np.isfinite(boxes).all()
    ):
        raise BackendError(
            f"expected finite boxes (1, A, 4) and scores (1, A) from the object head, got {boxes.shape} and "
            f"{scores.shape}; install the model again"
        )
    height, width = frame.image_hw
    inside = np.clip(frame.to_image_boxes(boxes[0]), 0, [width, height, width, height])
    full = (inside[:, 2] - inside[:, 0] >= 1) & (inside[:, 3] - inside[:, 1] >= 1)
    return inside[full], np.asarray(scores[0][full], np.float32)


def _points(prompt: Prompt, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Put clicks and box corners into one list a prompt: (N, K, 2) canvas pixels and (N, K) labels."""
    count = len(prompt)
    coords, labels = [], []
    if prompt.points is not None and prompt.labels is not None:
        if prompt.boxes is None and not prompt.labels.size:
            return np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.float32)
        coords.append(frame.to_model_points(prompt.points))
        labels.append(prompt.labels.astype(np.float32))
    if prompt.boxes is not None:
        coords.append(frame.to_model_boxes(prompt.boxes).reshape(count, 2, 2))
        labels.append(np.tile(np.array([_BOX_LOW, _BOX_HIGH], np.float32), (count, 1)))
    else:
        coords.append(np.zeros((count, 1, 2), np.float32))
        labels.append(np.full((count, 1), _PADDING, np.float32))
    return np.concatenate(coords, axis=1), np.concatenate(labels, axis=1)
