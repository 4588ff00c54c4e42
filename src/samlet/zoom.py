"""A second look at what is small: encode a part of the picture again, larger, and answer the prompt there.

A small box is looked at twice and the two answers are averaged. An object that has been clicked on again and again is
looked at from near instead, because many clicks on a small object run into each other on the picture's own grid; the
way of f-BRS's zoom-in (Sofiiuk et al. 2020, https://arxiv.org/abs/2001.10331). Either way the closer answer is brought
onto the grid of the first one, so what comes back is `Masks` like any other: with one frame, and with logits that
serve as a hint.
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

NEAR_BELOW = 0.6  # of the picture's longer side: larger objects have room enough for clicks
NEAR_MARGIN = 1.0  # of the object's longer side, on each side of it
_NEAR_KEPT = 4  # embeddings of parts that a picture's embedding remembers
_NEAR_LOOSE = 2.0  # a remembered part that is so much too large is not close enough
_FAR = -10.0  # logit of what lies outside the part


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
        window = _inside(x0 - margin, y0 - margin, x1 + margin, y1 + margin, image_hw)
        if _clicks_inside(prompt, index, window):
            chosen[index] = window
    return chosen


def plan_clicks(prompt: Prompt, masks: Masks, *, card: Card) -> dict[int, Window]:
    """Choose the prompts that are to be answered from near, and what has to be seen there.

    A prompt is chosen if it has at least `Card.zoom_clicks` clicks and they, its box and the earlier answer (its hint;
    without one, the first look's best mask) together are shorter than `NEAR_BELOW` of the picture.

    Args:
        prompt: N prompts in picture pixels.
        masks: The first look's answers.
        card: Holds the number of clicks; with 0 none is chosen.

    Returns:
        What has to be seen, by number of the prompt.
    """
    chosen: dict[int, Window] = {}
    if not card.zoom_clicks or prompt.points is None or prompt.labels is None:
        return chosen
    height, width = masks.frame.image_hw
    for index in range(len(prompt)):
        clicks = prompt.points[index][prompt.labels[index] != PADDING]
        if len(clicks) < card.zoom_clicks:
            continue
        corners = [clicks, *_corners(_earlier(prompt, masks, index) > masks.threshold, masks.frame)]
        if prompt.boxes is not None:
            corners.append(prompt.boxes[index].reshape(2, 2))
        every = np.concatenate(corners)
        low, high = np.floor(every.min(0)).astype(int), np.ceil(every.max(0)).astype(int) + 1
        if (high - low).max() < NEAR_BELOW * max(height, width):
            (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, (width, height))
            chosen[index] = (int(x0), int(y0), int(x1), int(y1))
    return chosen


def second_look(
    session: Session, embedding: Embedding, *, prompt: Prompt, masks: Masks, multimask: bool = False
) -> Masks:
    """Improve the answers to small boxes and to objects that were clicked on often; see `plan` and `plan_clicks`.

    A box costs one more encoding: where the window and the picture's grid overlap the two logits are averaged, and so
    are the scores; a hint is not shown to that look, because it lies on the first one's grid. A part that is looked at
    from near is encoded once and remembered with the embedding, its answer replaces the first one, and the hint is
    brought onto its grid. Which part that is, and so the last digits of an answer, may depend on what was asked before.

    Args:
        session: The model.
        embedding: The first look; without its picture (after loading from disk) there is no second one.
        prompt: What was asked.
        masks: The first answer.
        multimask: Whether that has three candidates a prompt.

    Returns:
        The masks, in the same order; the very same ones if no prompt deserves a second look.

    Raises:
        BackendError: The runtime failed.
    """
    if embedding.image is None:
        return masks
    needed = plan_clicks(prompt, masks, card=session.card)
    windows = plan(prompt, embedding.frame.image_hw, card=session.card)
    if not needed and not windows:
        return masks
    logits, scores = masks.logits.copy(), masks.scores.copy()
    for index, window in windows.items():
        if index not in needed:
            closer = session.segment(
                session.embed(_cut(embedding.image, window)),
                _moved(prompt, index, window),
                multimask=multimask,
            )
            scores[index] = (scores[index] + closer.scores[0]) / 2
            logits[index] = blend(logits[index], masks.frame, closer=closer, window=window)
    for index, need in needed.items():
        window, near = _near(session, embedding, embedding.image, need)
        h, w = near.arrays["image_embeddings"].shape[-2:]
        hint = carried(_earlier(prompt, masks, index), masks.frame, near.frame, window, grid=(4 * h, 4 * w))
        closer = session.segment(near, _moved(prompt, index, window, hint), multimask=multimask)
        scores[index] = closer.scores[0]
        values, inside = _onto(logits[index], masks.frame, closer=closer, window=window)
        logits[index] = np.where(inside, values, np.float32(_FAR))
    return replace(masks, logits=logits, scores=scores)


def carried(
    logits: NDArray[np.float32], frame: Frame, near: Frame, window: Window, *, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """Bring logits of the whole picture onto the grid of a part of it, bilinearly.

    Args:
        logits: (h, w), of the whole picture.
        frame: How the whole picture lies on that grid.
        near: How the part lies in the network's input.
        window: Which part it is.
        grid: Rows and columns of its grid.

    Returns:
        (1, *grid) float32.
    """
    weights = []
    for axis, start in enumerate((window[1], window[0])):
        cells, near_cells = logits.shape[axis], grid[axis]
        whole, part = _axis(frame, axis), _axis(near, axis)
        middles = start + (np.arange(near_cells) + 0.5) * part[0] / (near_cells * part[1])
        at = np.clip(middles * cells * whole[1] / whole[0] - 0.5, 0, cells - 1)
        first = np.minimum(at.astype(int), max(0, cells - 2))
        matrix = np.zeros((near_cells, cells), np.float32)
        rows = np.arange(near_cells)
        matrix[rows, np.minimum(first + 1, cells - 1)] = at - first
        matrix[rows, first] += 1 - (at - first)
        weights.append(matrix)
    return (weights[0] @ logits @ weights[1].T)[None].astype(np.float32)


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
    values, inside = _onto(logits, frame, closer=closer, window=window)
    return np.where(inside, (logits + values) / 2, logits).astype(np.float32)


def _onto(
    logits: NDArray[np.float32], frame: Frame, *, closer: Masks, window: Window
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bring a part's logits onto the whole picture's grid: the values, and the cells (h, w) that it covers mostly."""
    x0, y0 = window[:2]
    near = closer.logits[0]
    rows, row_share = _cover(
        logits.shape[-2], near.shape[-2], whole=_axis(frame, 0), part=_axis(closer.frame, 0), start=y0
    )
    columns, column_share = _cover(
        logits.shape[-1], near.shape[-1], whole=_axis(frame, 1), part=_axis(closer.frame, 1), start=x0
    )
    return rows @ near @ columns.T, np.outer(row_share, column_share) > 0.5


def _near(session: Session, embedding: Embedding, image: Image, need: Window) -> tuple[Window, Embedding]:
    """Encode a part of the picture with room around what has to be seen, or find one that was encoded before."""
    x0, y0, x1, y1 = need
    longer = max(x1 - x0, y1 - y0)
    reach = longer * (0.5 + NEAR_MARGIN) + 2
    kept: list[tuple[Window, Embedding]] = embedding.derived.setdefault("near", [])
    for window, near in kept:
        holds = window[0] <= x0 and window[1] <= y0 and x1 <= window[2] and y1 <= window[3]
        if holds and max(window[2] - window[0], window[3] - window[1]) <= _NEAR_LOOSE * 2 * reach:
            return window, near
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    window = _inside(x - reach, y - reach, x + reach, y + reach, embedding.frame.image_hw)
    near = session.embed(_cut(image, window))
    embedding.derived["near"] = [(window, near), *kept[: _NEAR_KEPT - 1]]
    return window, near


def _inside(x0: float, y0: float, x1: float, y1: float, image_hw: tuple[int, int]) -> Window:
    """The whole pixels of the picture that a rectangle touches."""
    height, width = image_hw
    return (
        max(0, math.floor(x0)),
        max(0, math.floor(y0)),
        min(width, math.ceil(x1)),
        min(height, math.ceil(y1)),
    )


def _earlier(prompt: Prompt, masks: Masks, index: int) -> NDArray[np.float32]:
    """The (h, w) logits that the person has seen: the hint, or else the first look's best mask."""
    logits: NDArray[np.float32] = masks.logits[index] if prompt.hint is None else prompt.hint[index]
    if logits.ndim == 3:  # candidates
        logits = logits[int(masks.scores[index].argmax())]
    return logits


def _corners(inside: NDArray[np.bool_], frame: Frame) -> list[NDArray[np.float64]]:
    """The (2, 2) corners of what is inside, in picture pixels; none if nothing is."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return []
    height, width = (length / (cells * share) for cells, (length, share) in zip(
        inside.shape, (_axis(frame, 0), _axis(frame, 1)), strict=True))  # fmt: skip
    low = columns[0] * width, rows[0] * height
    high = (columns[-1] + 1) * width, (rows[-1] + 1) * height
    return [np.minimum([low, high], np.array(frame.image_hw[::-1], np.float64))]


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


def _moved(prompt: Prompt, index: int, window: Window, hint: NDArray[np.float32] | None = None) -> Prompt:
    """Give one prompt in the window's pixels, with a hint (1, h, w) that lies on its grid."""
    shift = np.array(window[:2], np.float64)
    points = None if prompt.points is None else prompt.points[index : index + 1] - shift
    labels = None if prompt.labels is None else prompt.labels[index : index + 1]
    boxes = None if prompt.boxes is None else prompt.boxes[index : index + 1] - np.tile(shift, 2)
    return Prompt(points=points, labels=labels, boxes=boxes, hint=hint)
