"""Which place of the object head's grids answers for which object, and the losses.

A place answers for the object whose mask it lies in, on the grids that fit the object's size. Our sets are only
partly labelled, so a place without a label is no proof that nothing is there: it costs nothing, or little, by set.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from samlet.data import IGNORE
from samlet.nets.objects import STRIDES, centres, decode
from samlet.train.object_views import STRIDE as ID_STRIDE

NOBODY, UNLABELLED = -1, -2
"""Owner of a place that says nothing (ignored, of another size, in a gap of a box), and of one without a label."""
# Longer sides (canvas pixels) of the objects that each grid answers for; they overlap, suppression picks the better.
SIZES = ((0.0, 96.0), (48.0, 224.0), (144.0, float("inf")))


def places(hw: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Middles of all places, fine grid first: ((A, 2) x, y in canvas pixels, (A,) number of the grid)."""
    like = torch.zeros(())
    middles = [centres(hw[0] // s, hw[1] // s, s, like).numpy() for s in STRIDES]
    level = np.repeat(np.arange(len(STRIDES)), [len(m) for m in middles])
    return np.concatenate(middles), level


def owners(ids: NDArray[np.uint16], boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Give each place its object.

    Args:
        ids: (H/4, W/4) as `View.ids`.
        boxes: (K, 4) as `View.boxes`.

    Returns:
        (A,) index of the object, `NOBODY` or `UNLABELLED`.
    """
    middle, level = places((ids.shape[0] * ID_STRIDE, ids.shape[1] * ID_STRIDE))
    cell = (middle / ID_STRIDE).astype(np.int64)
    label = ids[cell[:, 1], cell[:, 0]].astype(np.int64)
    out = np.where(label == 0, UNLABELLED, NOBODY)
    if not len(boxes):
        return out
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
    low, high = np.array(SIZES).T
    fits = (longer[None] >= low[level][:, None]) & (longer[None] < high[level][:, None])  # (A, K)
    x, y = middle.T
    inside = (
        (x[:, None] > boxes[:, 0])
        & (x[:, None] < boxes[:, 2])
        & (y[:, None] > boxes[:, 1])
        & (y[:, None] < boxes[:, 3])
    )
    out[(label == 0) & inside.any(1)] = NOBODY
    # The middle of a box may lie in a hole of its object, or between the samples of a speck.
    reach = 0.75 * np.array(STRIDES)[level][:, None]
    near = (np.abs(middle[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).max(2) < reach) & inside & fits
    free = (label == 0) | (label == IGNORE)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest = np.where(near, area, np.inf).argmin(1)
    out = np.where(near.any(1) & free, smallest, out)
    owned = np.where(free, 0, label - 1)
    return np.where(
        ~free & fits[np.arange(len(owned)), owned] & inside[np.arange(len(owned)), owned], owned, out
    )


@dataclass
class Targets:
    """What a batch of B views with A places each should be answered with.

    Attributes:
        positive: (P,) flat indices of places that answer for an object.
        boxes: (P, 4) the object's box.
        weight: (P,) every object counts alike, whatever its size; crowds count less than one by one.
        unlabelled: (B, A) what an answer without a label costs.
    """

    positive: Tensor
    boxes: Tensor
    weight: Tensor
    unlabelled: Tensor


def make_targets(
    ids: NDArray[np.uint16], boxes: list[NDArray[np.float32]], trust: NDArray[np.float32]
) -> Targets:
    """Targets of B views on one canvas.

    Args:
        ids: (B, H/4, W/4).
        boxes: B times (K, 4).
        trust: (B,) how far a place without a label may be taken for background, 0 to 1.
    """
    positive, wanted, weights, empty = [], [], [], []
    for b, (own_ids, own_boxes) in enumerate(zip(ids, boxes, strict=True)):
        owner = owners(own_ids, own_boxes)
        where = np.flatnonzero(owner >= 0)
        found, index, count = np.unique(owner[where], return_inverse=True, return_counts=True)
        positive.append(where + b * len(owner))
        wanted.append(own_boxes[owner[where]])
        weights.append(1 / np.sqrt(count[index] * max(1, len(found))))
        empty.append((owner == UNLABELLED) * trust[b])
    return Targets(
        torch.from_numpy(np.concatenate(positive)),
        torch.from_numpy(np.concatenate(wanted).astype(np.float32)),
        torch.from_numpy(np.concatenate(weights).astype(np.float32)),
        torch.from_numpy(np.stack(empty).astype(np.float32)),
    )


def centreness(points: Tensor, boxes: Tensor) -> Tensor:
    """FCOS's measure of how central points (P, 2) are in boxes (P, 4): 1 in the middle, 0 on the border."""
    left, right = points[:, 0] - boxes[:, 0], boxes[:, 2] - points[:, 0]
    above, below = points[:, 1] - boxes[:, 1], boxes[:, 3] - points[:, 1]
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(above, below) / torch.maximum(above, below)
    return (across * down).clamp(min=0).sqrt()


def pair_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al. 2019) of paired boxes (P, 4): two tensors (P,)."""
    both = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    either = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - both
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = both / either.clamp(min=1e-6)
    return iou, iou - (hull - either) / hull.clamp(min=1e-6)


def object_loss(answers: list[Tensor], targets: Targets, *, background: float) -> dict[str, Tensor]:
    """Losses of a batch, each a mean over objects; their sum is what is trained.

    Args:
        answers: What `ObjectHead.levels` gave, float32.
        targets: What it should have been.
        background: Weight of places without a label, which are asked for quality 0; 0 leaves them alone.

    Returns:
        "box", "centre", "quality", "background" to be added, and "iou" (without gradient) to look at.
    """
    boxes = torch.cat([decode(a, s) for a, s in zip(answers, STRIDES, strict=True)], dim=1)
    logits = torch.cat([a[:, 4:].flatten(2).transpose(1, 2) for a in answers], dim=1)  # (B, A, 2)
    empty = logits[..., 1].sigmoid().detach().square() * F.softplus(logits[..., 1]) * targets.unlabelled
    losses = {"background": background * empty.mean()}
    if not len(targets.positive):
        nothing = logits.sum() * 0
        return {**losses, "box": nothing, "centre": nothing, "quality": nothing}
    at = targets.positive
    hw = [(a.shape[2], a.shape[3]) for a in answers]
    middle = torch.cat([centres(h, w, s, boxes) for (h, w), s in zip(hw, STRIDES, strict=True)])
    central = centreness(middle[at % len(middle)], targets.boxes)
    chosen, said = boxes.flatten(0, 1)[at], logits.flatten(0, 1)[at]
    iou, giou = pair_iou(chosen, targets.boxes)
    weight = targets.weight / targets.weight.sum()
    box_weight = targets.weight * (0.1 + central)
    fit = F.binary_cross_entropy_with_logits(said[:, 1], iou.detach().clamp(0, 1), reduction="none")
    centre = F.binary_cross_entropy_with_logits(said[:, 0], central, reduction="none")
    return {
        **losses,
        "box": 2 * ((1 - giou) * box_weight).sum() / box_weight.sum(),
        "centre": 0.5 * (centre * weight).sum(),
        "quality": (fit * weight).sum(),
        "iou": (iou.detach() * box_weight).sum() / box_weight.sum(),
    }
