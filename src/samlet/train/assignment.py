"""Task-aligned assignment (TOOD, Feng et al. 2021, arXiv 2108.07755): which places of the grids answer for which truth.

A place is good for an instance if it already scores high *and* its box already fits: t = score^alpha * IoU^beta. The
best few places inside an instance's box answer for it, and are asked for a score that says how good they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BEST, ALPHA, BETA = 10, 0.5, 6.0
NOBODY = -1


@dataclass(frozen=True)
class Assignment:
    """What each of A places answers for.

    Attributes:
        owner: (A,) index of the instance, or `NOBODY`.
        score: (A,) the score that is asked for, in 0..1; 0 where there is no owner.
    """

    owner: Tensor
    score: Tensor


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., 4) x0, y0, x1, y1 with boxes (..., 4), broadcast."""
    both = (
        (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    )
    either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    return both / either.clamp(min=1e-9)


@torch.no_grad()
def assign(  # noqa: PLR0913  the paper's three numbers beside the arrays
    scores: Tensor, boxes: Tensor, places: Tensor, truths: Tensor, *,
    best: int = BEST, alpha: float = ALPHA, beta: float = BETA,
) -> Assignment:  # fmt: skip
    """Choose places for the instances of one picture.

    Args:
        scores: (A,) what the network says, 0..1.
        boxes: (A, 4) its boxes, canvas pixels.
        places: (A, 2) middles of the cells, x and y.
        truths: (K, 4) boxes of the instances.
        best: Places that an instance takes at most.
        alpha: Exponent of the score.
        beta: Exponent of the IoU.

    Returns:
        For each place its instance: of several that want it, the one that its box overlaps most. The score asked for is
        the place's t, scaled so that an instance's largest is its largest IoU.

    Example:
        >>> one = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> assign(torch.tensor([0.25]), one, torch.tensor([[4.0, 4.0]]), one).score.tolist()
        [1.0]
    """
    if not len(truths):
        return Assignment(torch.full_like(scores, NOBODY, dtype=torch.int64), torch.zeros_like(scores))
    x, y = places.unsqueeze(0).unbind(-1)  # (1, A)
    left, top, right, bottom = truths.unsqueeze(1).unbind(-1)  # (K, 1)
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)  # (K, A)
    iou = pair_iou(truths.unsqueeze(1), boxes.unsqueeze(0))
    # Inside and without any overlap yet is still better than outside.
    fit = torch.where(inside, scores.pow(alpha) * iou.pow(beta) + 1e-9, 0.0)
    first = fit.topk(min(best, fit.shape[1]), dim=1).indices
    wanted = torch.zeros_like(inside).scatter_(1, first, torch.ones_like(inside)) & inside
    owner = torch.where(wanted, iou, -1.0).argmax(0)
    owner = torch.where(wanted.any(0), owner, NOBODY)
    own = torch.arange(len(truths), device=owner.device).unsqueeze(1) == owner  # (K, A)
    highest = torch.where(own, fit, 0.0).amax(1, keepdim=True).clamp(min=1e-9)
    closest = torch.where(own, iou, 0.0).amax(1, keepdim=True)
    return Assignment(owner, torch.where(own, fit / highest * closest, 0.0).amax(0))
