"""The losses of YOLOv8-seg for one class, from their papers, for labels that are incomplete.

Boxes: CIoU (Zheng et al. 2020, arXiv 1911.08287) and the distribution focal loss (Li et al. 2020, arXiv 2006.04388);
scores: cross entropy against how well the place is aligned; masks: cross entropy of prototypes mixed by the place's
coefficients, inside the box and by its area (YOLACT, Bolya et al. 2019, arXiv 1904.02689). What is found but not
labelled counts by its quality, and places without an instance by how far the set labels everything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from samlet.nets.yolo_seg import STRIDES
from samlet.train.assignment import NOBODY, Assignment, assign, pair_iou
from samlet.train.instance_views import STRIDE, Labels

Level = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Gains:
    """Weights of the losses; FastSAM's, which are YOLOv8's.

    Attributes:
        box: Of CIoU and of the masks.
        score: Of the scores.
        dfl: Of the distributions.
        background: Least weight of places without an instance, where a set labels next to nothing; 1 elsewhere.
        masks: Most instances of a picture whose masks are looked at: each at its best place.
    """

    box: float = 7.5
    score: float = 0.5
    dfl: float = 1.5
    background: float = 0.25
    masks: int = 24


@dataclass(frozen=True)
class Answers:
    """What the network said of B pictures with A places each, float32.

    Attributes:
        sides: (B, A, 4, R) logits of the distances to the left, upper, right and lower side, in cells.
        scores: (B, A) logits.
        coefficients: (B, A, 32).
        protos: (B, 32, h, w).
        places: (A, 2) middles of the cells, canvas pixels.
        strides: (A,) canvas pixels a cell.
    """

    sides: Tensor
    scores: Tensor
    coefficients: Tensor
    protos: Tensor
    places: Tensor
    strides: Tensor

    @classmethod
    def of(cls, levels: Sequence[Level], protos: Tensor) -> "Answers":
        """Put together what `raw` of a network gave."""
        sides, scores, coefficients, places, strides = [], [], [], [], []
        for (box, score, coefficient), stride in zip(levels, STRIDES, strict=True):
            b, channels, h, w = box.shape
            sides.append(box.float().reshape(b, 4, channels // 4, h * w).permute(0, 3, 1, 2))
            scores.append(score.float().flatten(1))
            coefficients.append(coefficient.float().flatten(2).transpose(1, 2))
            y, x = torch.meshgrid(
                torch.arange(h, device=box.device), torch.arange(w, device=box.device), indexing="ij"
            )
            places.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
            strides.append(torch.full((h * w,), float(stride), device=box.device))
        return cls(
            torch.cat(sides, 1), torch.cat(scores, 1), torch.cat(coefficients, 1), protos.float(),
            torch.cat(places), torch.cat(strides),
        )  # fmt: skip

    def boxes(self) -> Tensor:
        """(B, A, 4) x0, y0, x1, y1 in canvas pixels: the mean of each distribution."""
        bins = torch.arange(self.sides.shape[-1], device=self.sides.device, dtype=torch.float32)
        reach = (self.sides.softmax(-1) @ bins) * self.strides[:, None]
        return torch.cat([self.places - reach[..., :2], self.places + reach[..., 2:]], -1)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of paired boxes (P, 4): IoU, less the distance of the middles, less the difference in shape.

    Args:
        a: Of the network.
        b: True ones.

    Returns:
        (P,) at most 1.
    """
    iou = pair_iou(a, b)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = ((a[:, :2] + a[:, 2:]) - (b[:, :2] + b[:, 2:])).square().sum(1) / 4
    size_a, size_b = (a[:, 2:] - a[:, :2]).clamp(min=1e-6), (b[:, 2:] - b[:, :2]).clamp(min=1e-6)
    shape = torch.atan(size_b[:, 0] / size_b[:, 1]) - torch.atan(size_a[:, 0] / size_a[:, 1])
    v = 4 / math.pi**2 * shape.square()
    share = (v / (1 - iou + v).clamp(min=1e-6)).detach()  # the paper lets no gradient through it
    return iou - apart / hull.square().sum(1).clamp(min=1e-6) - share * v


def distribution_loss(sides: Tensor, wanted: Tensor) -> Tensor:
    """Distribution focal loss: the two bins next to a distance share its probability.

    Args:
        sides: (P, 4, R) logits.
        wanted: (P, 4) distances in cells; those beyond the last bin count as just before it.

    Returns:
        (P,) means over the sides.
    """
    bins = sides.shape[-1]
    wanted = wanted.clamp(0, bins - 1 - 0.01)
    low = wanted.floor().long()
    above = wanted - low
    logs = sides.log_softmax(-1)
    at_low, at_high = (logs.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in (low, low + 1))
    return -((1 - above) * at_low + above * at_high).mean(1)


def in_boxes(boxes: Tensor, hw: Sequence[int]) -> Tensor:
    """Cells of the stride-4 grid (N, h, w) whose middles are inside boxes (N, 4) in canvas pixels."""
    y = (torch.arange(hw[0], device=boxes.device) + 0.5) * STRIDE
    x = (torch.arange(hw[1], device=boxes.device) + 0.5) * STRIDE
    rows = (y > boxes[:, 1:2]) & (y < boxes[:, 3:])
    columns = (x > boxes[:, :1]) & (x < boxes[:, 2:3])
    return rows.unsqueeze(2) & columns.unsqueeze(1)


def mask_loss(logits: Tensor, masks: Tensor, counting: Tensor) -> Tensor:
    """Cross entropy of each mask, a mean over the cells that count.

    Args:
        logits: (N, h, w).
        masks: (N, h, w) bool.
        counting: (N, h, w) bool: the cells of the box about which something is known.

    Returns:
        (N,); 0 where no cell counts.
    """
    each = F.binary_cross_entropy_with_logits(logits, masks.to(logits.dtype), reduction="none")
    return (each * counting).flatten(1).sum(1) / counting.flatten(1).sum(1).clamp(min=1)


def all_instance_loss(answers: Answers, labels: Sequence[Labels], gains: Gains) -> dict[str, Tensor]:
    """Losses of a batch.

    Args:
        answers: What the network said.
        labels: What is in the B pictures.
        gains: Weights.

    Returns:
        "box", "dfl", "score" and "mask" to be added; "iou" and "mask_iou" (without gradient) to look at.
    """
    boxes = answers.boxes()
    sums: dict[str, Tensor] = {}
    for b, own in enumerate(labels):
        for name, value in _picture(answers, boxes, b, own, gains).items():
            sums[name] = value if name not in sums else sums[name] + value
    total, masks = sums["total"].clamp(min=1.0), sums["masks"].clamp(min=1.0)
    return {
        "box": gains.box * sums["box"] / total,
        "dfl": gains.dfl * sums["dfl"] / total,
        "score": gains.score * sums["score"] / total,
        "mask": gains.box * sums["mask"] / masks,
        "iou": sums["iou"] / total,
        "mask_iou": sums["mask_iou"] / masks,
    }


def _picture(answers: Answers, boxes: Tensor, b: int, labels: Labels, gains: Gains) -> dict[str, Tensor]:
    """Sums of one picture, and what to divide the batch's by: "total" for places, "masks" for instances."""
    device = boxes.device
    truths = torch.from_numpy(labels.boxes).to(device)
    given = assign(answers.scores[b].detach().sigmoid(), boxes[b].detach(), answers.places, truths)
    at = (given.owner != NOBODY).nonzero().squeeze(1)
    own = given.owner[at]
    wanted = given.score.clone()
    wanted[at] *= torch.from_numpy(labels.quality).to(device)[own]
    each = F.binary_cross_entropy_with_logits(answers.scores[b], wanted, reduction="none")
    weight, truth = wanted[at], truths[own]
    middle, stride = answers.places[at], answers.strides[at].unsqueeze(1)
    reach = torch.cat([middle - truth[:, :2], truth[:, 2:] - middle], 1) / stride
    return {
        "total": wanted.sum(),
        "score": (each * _score_weights(given, answers, labels, gains)).sum(),
        "box": ((1 - ciou(boxes[b, at], truth)) * weight).sum(),
        "dfl": (distribution_loss(answers.sides[b, at], reach) * weight).sum(),
        "iou": (pair_iou(boxes[b, at].detach(), truth) * weight).sum(),
        **_masks(answers, b, given, labels, gains),
    }


def _score_weights(given: Assignment, answers: Answers, labels: Labels, gains: Gains) -> Tensor:
    """(A,) what a wrong score costs: all of it at owned places, nothing where nobody knows, else by trust."""
    unknown = torch.from_numpy(labels.unknown).to(answers.places.device)
    cell = (answers.places / STRIDE).long()
    empty = gains.background + (1 - gains.background) * labels.trust
    weights = torch.where(unknown[cell[:, 1], cell[:, 0]], 0.0, empty)
    return torch.where(given.owner != NOBODY, 1.0, weights)


def _masks(answers: Answers, b: int, given: Assignment, labels: Labels, gains: Gains) -> dict[str, Tensor]:
    """Each instance that has a mask, at its best place."""
    device = given.owner.device
    own = torch.arange(len(labels.masked), device=device).unsqueeze(1) == given.owner  # (K, A)
    nothing = answers.protos[b].sum() * 0
    if not own.any():
        return {"mask": nothing, "mask_iou": nothing.detach(), "masks": nothing.detach()}
    best, place = torch.where(own, given.score, -1.0).max(1)
    chosen = ((best >= 0) & torch.from_numpy(labels.masked).to(device)).nonzero().squeeze(1)
    if len(chosen) > gains.masks:  # evenly, for they are sorted by size
        chosen = chosen[torch.linspace(0, len(chosen) - 1, gains.masks, device=device).long()]
    protos = answers.protos[b]
    logits = (answers.coefficients[b, place[chosen]] @ protos.flatten(1)).reshape(-1, *protos.shape[1:])
    masks = torch.from_numpy(labels.masks).to(device)[chosen]
    inside = in_boxes(torch.from_numpy(labels.boxes).to(device)[chosen], protos.shape[1:])
    known = inside & ~torch.from_numpy(labels.unknown).to(device)
    with torch.no_grad():
        said = (logits > 0) & inside
        both, either = ((said & masks).flatten(1).sum(1), (said | masks).flatten(1).sum(1))
        iou = (both / either.clamp(min=1)).sum()
    count = torch.tensor(float(len(chosen)), device=device)
    return {"mask": mask_loss(logits, masks, known).sum() + nothing, "mask_iou": iou, "masks": count}
