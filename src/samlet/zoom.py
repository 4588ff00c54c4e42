"""A second look at small boxes: encode what lies around the box again, larger, and average the two answers.

The closer answer is brought onto the grid of the first one, so what comes back is `Masks` like any other:
with one frame, and with logits that serve as a hint.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.embedding import Embedding
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks
from samlet.prompt import PADDING, Prompt
from samlet.session import Session

Window = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole picture pixels; the end is exclusive."""


def plan(prompt: Prompt, image_hw: tuple[int, int], *, card: Card) -> dict[int, Window]:
    """Choose the prompts that deserve a second look, and what to look at.

    A prompt is chosen if it has a box whose longer side is below `Card.zoom_below` of the picture's, and no
    click far from it. The window is the box and `Card.zoom_margin` of its longer side around it, cut off at
    the edges of the picture.

    Args:
        prompt: N prompts in picture pixels.
        image_hw: Size of the picture.
        card: Holds the two numbers.

    Returns:
        Window by number of the prompt.

    Example:
        >>> from samlet.registry import resolve
        >>> plan(Prompt.make(image_hw=(100, 200), boxes=[0, 0, 20, 10]), (100, 200), card=resolve("nano"))
        {0: (0, 0, 28, 18)}
    """
    if prompt.boxes is None:
        return {}
    height, width = image_hw
    chosen: dict[int, Window] = {}
    for index, (x0, y0, x1, y1) in enumerate(prompt.boxes.tolist()):
        longer = max(x1 - x0, y1 - y0)
        if longer >= card.zoom_below * max(height, width):
            continue
        margin = card.zoom_margin * longer
        window = (
            max(0, math.floor(x0 - margin)),
            max(0, math.floor(y0 - margin)),
            min(width, math.ceil(x1 + margin)),
            min(height, math.ceil(y1 + margin)),
        )
        if _clicks_inside(prompt, index, window):
            chosen[index] = window
    return chosen


def second_look(
    session: Session, embedding: Embedding, *, prompt: Prompt, masks: Masks, multimask: bool = False
) -> Masks:
    """Improve the answers to small boxes, one more encoding each.

    Where the window and the picture's grid overlap the two logits are averaged, and so are the scores. A hint
    is not shown to the second look, because it lies on the first one's grid.

    Args:
        session: The model.
        embedding: The first look; without its picture (after loading from disk) there is no second one.
        prompt: What was asked.
        masks: The first answer.
        multimask: Whether that has three candidates a prompt.

    Returns:
        The masks, in the same order; the very same ones if no prompt is small.

    Raises:
        BackendError: The runtime failed.
    """
    windows = {} if embedding.image is None else plan(prompt, embedding.frame.image_hw, card=session.card)
    if embedding.image is None or not windows:
        return masks
    logits, scores = masks.logits.copy(), masks.scores.copy()
    for index, window in windows.items():
        closer = session.segment(
            session.embed(_cut(embedding.image, window)),
            _moved(prompt, index, window),
            multimask=multimask,
        )
        scores[index] = (scores[index] + closer.scores[0]) / 2
        logits[index] = blend(logits[index], masks.frame, closer=closer, window=window)
    return replace(masks, logits=logits, scores=scores)


def blend(logits: NDArray[np.float32], frame: Frame, *, closer: Masks, window: Window) -> NDArray[np.float32]:
    """Average logits with those of a part of the picture, each cell with the mean of what it covers.

    Args:
        logits: (h, w) or (C, h, w), of the whole picture.
        frame: How the whole picture lies on that grid.
        closer: One answer for the part.
        window: Which part of the picture.

    Returns:
        Logits of the same shape; cells that lie mostly outside the window are as they were.
    """
    x0, y0 = window[:2]
    near = closer.logits[0]
    rows, row_share = _cover(
        logits.shape[-2], near.shape[-2], whole=_axis(frame, 0), part=_axis(closer.frame, 0), start=y0
    )
    columns, column_share = _cover(
        logits.shape[-1], near.shape[-1], whole=_axis(frame, 1), part=_axis(closer.frame, 1), start=x0
    )
    inside = np.outer(row_share, column_share) > 0.5
    return np.where(inside, (logits + rows @ near @ columns.T) / 2, logits).astype(np.float32)


def _axis(frame: Frame, axis: int) -> tuple[int, float]:
    """Picture pixels along an axis, and the share of the canvas that they fill."""
    return frame.image_hw[axis], frame.scaled_hw[axis] / frame.canvas_hw[axis]


def _cover(
    cells: int, near_cells: int, *, whole: tuple[int, float], part: tuple[int, float], start: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (cells, near_cells) of a mean over covered cells of one axis, and the share of each covered."""
    step = whole[0] / (cells * whole[1])  # picture pixels per cell
    near_step = part[0] / (near_cells * part[1])
    edges = np.arange(cells + 1) * step
    near_edges = np.minimum(
        start + np.arange(near_cells + 1) * near_step, start + part[0]
    )  # padding counts nothing
    overlap = np.minimum(edges[1:, None], near_edges[None, 1:]) - np.maximum(
        edges[:-1, None], near_edges[None, :-1]
    )
    overlap = np.maximum(overlap, 0)
    total = overlap.sum(axis=1)
    weights = overlap / np.maximum(total, 1e-12)[:, None]
    return weights.astype(np.float32), (total / step).astype(np.float32)


def _clicks_inside(prompt: Prompt, index: int, window: Window) -> bool:
    if prompt.points is None or prompt.labels is None:
        return True
    real = prompt.points[index][prompt.labels[index] != PADDING]
    return bool(((real >= window[:2]) & (real <= window[2:])).all())


def _cut(image: Image, window: Window) -> Image:
    x0, y0, x1, y1 = window
    return Image(image.pixels[y0:y1, x0:x1], image.source)


def _moved(prompt: Prompt, index: int, window: Window) -> Prompt:
    """Give one prompt in the window's pixels."""
    shift = np.array(window[:2], np.float64)
    points = None if prompt.points is None else prompt.points[index : index + 1] - shift
    labels = None if prompt.labels is None else prompt.labels[index : index + 1]
    boxes = None if prompt.boxes is None else prompt.boxes[index : index + 1] - np.tile(shift, 2)
    return Prompt(points=points, labels=labels, boxes=boxes)
