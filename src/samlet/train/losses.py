"""Mask losses as SAM trains with (Kirillov et al. 2023, appendix A), with soft targets and ignored cells."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_loss(logits: Tensor, target: Tensor, valid: Tensor, *, kind: str = "bce") -> Tensor:
    """Loss of each mask.

    Args:
        logits: (..., h, w) float32.
        target: (..., h, w) in [0, 1]; broadcastable against `logits`.
        valid: (..., h, w) weights in [0, 1]; 0 = ignored.
        kind: "bce" (2 x cross entropy + 2 x dice) or "focal" (20 x focal + dice, SAM's
            published weights, which need masks that exist already).

    Returns:
        (...) one number a mask.
    """
    area = valid.sum((-2, -1)).clamp(min=1)
    cross = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    p = logits.sigmoid()
    overlap = (p * target * valid).sum((-2, -1))
    total = ((p + target) * valid).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    if kind == "focal":
        away = p + target - 2 * p * target  # 1 - p_t, also for soft targets
        alpha = 0.25 * target + 0.75 * (1 - target)
        focal = (alpha * away.square() * cross * valid).sum((-2, -1)) / area
        return 20 * focal + dice
    return 2 * (cross * valid).sum((-2, -1)) / area + 2 * dice


@torch.no_grad()
def grid_iou(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """IoU of `logits > 0` with `target > 0.5` on labelled cells; shapes as in `mask_loss`, returns (...)."""
    said, truth, known = logits > 0, target > 0.5, valid > 0.5
    both = (said & truth & known).sum((-2, -1)).float()
    either = ((said | truth) & known).sum((-2, -1)).float()
    return both / either.clamp(min=1)
