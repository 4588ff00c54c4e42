"""Corrective clicks, on any device: the middle of the largest mistake, as an annotator would click."""

import torch
from torch import Tensor
from torch.nn import functional as F


def depth(mask: Tensor, rounds: int = 16) -> Tensor:
    """Chessboard distance of each set cell to the nearest unset one, capped at `rounds`.

    Args:
        mask: (B, 1, h, w) bool. Outside the map counts as unset.
        rounds: The largest distance that is told apart.

    Returns:
        (B, 1, h, w) float32, 0 on unset cells.
    """
    left = mask.to(torch.float32)
    total = left.clone()
    for _ in range(rounds - 1):
        left = -F.max_pool2d(F.pad(-left, (1, 1, 1, 1)), 3, 1)  # erosion
        if not bool(left.any()):
            break
        total = total + left
    return total


def corrective_click(
    logits: Tensor, target: Tensor, valid: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One click per prompt on its deepest mistake.

    Args:
        logits: (B, h, w) current answer on the stride-4 grid.
        target: (B, h, w) share of each cell that the object covers.
        valid: (B, h, w) share of each cell that is labelled; mistakes on ignored cells do not count.
        generator: CPU generator; it breaks ties and moves clicks off the exact middle.

    Returns:
        (coords (B, 1, 2) canvas pixels, labels (B, 1)): 1 where the object was missed, 0 where too much was
        taken, -1 (padding) where nothing is wrong.
    """
    b, h, w = logits.shape
    said, truth, known = logits > 0, target > 0.5, valid > 0.5
    missed, extra = (truth & ~said & known), (said & ~truth & known)
    both = depth(torch.cat([missed, extra]).unsqueeze(1)).reshape(2, b, h * w)
    noise = torch.rand(2, b, h * w, generator=generator).to(logits.device)
    # Any cell at least nearly as deep as the deepest may be clicked: people do not compute distance maps.
    deepest = both.amax(-1, keepdim=True)
    score = both + noise * (both >= 0.7 * deepest) * (deepest * 0.5 + 0.5)
    label = (deepest[0, :, 0] >= deepest[1, :, 0]).long()  # (B,) 1 = missed part is the larger one
    chosen = torch.where(label.bool()[:, None], score[0], score[1]).argmax(-1)
    xy = torch.stack([chosen % w, chosen // w], -1).float()
    nothing = both.amax((0, 2)) == 0
    labels = torch.where(nothing, torch.full_like(label, -1), label)
    return (4 * xy + 1.5).unsqueeze(1), labels.float().unsqueeze(1)
