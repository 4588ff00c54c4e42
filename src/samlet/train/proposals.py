"""How many objects a ranked list of boxes finds: average recall (Hosang et al. 2015) as COCO counts it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from samlet.geometry import box_iou, nms
from samlet.nets.objects import ObjectHead
from samlet.train.feature_cache import Shelf

THRESHOLDS = np.arange(0.5, 0.96, 0.05)
BUDGETS = (10, 100)


def hits(overlap: NDArray[np.float64], threshold: float) -> int:
    """Objects found: each proposal, best first, takes the object it overlaps most among those still free.

    Args:
        overlap: (N, K) IoU of proposals, best first, with objects.
        threshold: Least IoU that counts.
    """
    free = overlap * (overlap >= threshold)
    found = 0
    for row in np.flatnonzero(free.any(1)):
        best = int(free[row].argmax())
        if free[row, best] > 0:
            free[:, best] = 0
            found += 1
    return found


class Recall:
    """Average recall over a set of pictures: all objects of all pictures count alike."""

    def __init__(self, budgets: tuple[int, ...] = BUDGETS) -> None:
        self.budgets = budgets
        self.found = np.zeros((len(budgets), len(THRESHOLDS)))
        self.objects = 0

    def add(self, overlap: NDArray[np.float64]) -> None:
        """Count one picture; (N, K) IoU of its ranked proposals with its objects."""
        self.objects += overlap.shape[1]
        for i, budget in enumerate(self.budgets):
            self.found[i] += [hits(overlap[:budget], t - 1e-9) for t in THRESHOLDS]

    def figures(self, prefix: str = "AR@") -> dict[str, float]:
        """{"AR@10": ..., "AR@100": ...}, in 0..1."""
        mean = self.found.mean(1) / max(1, self.objects)
        return {f"{prefix}{budget}": float(value) for budget, value in zip(self.budgets, mean, strict=True)}


def scales_of(features: NDArray[np.float16], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B, 256, H/16, W/16) and detail (B, 64, H/8, W/8) of cached features, float32."""
    deep = torch.from_numpy(np.asarray(features, np.float32)).to(device)
    tokens, detail = deep.split([256, 256], dim=1)
    return tokens, F.pixel_shuffle(detail, 2)


@torch.no_grad()
def box_recall(
    head: ObjectHead, shelves: list[Shelf], device: torch.device, *, suppress: float = 0.7
) -> dict[str, float]:
    """Box recall of a head on cached views, overall and as "AR@100 <set>" by set.

    Args:
        head: The network.
        shelves: Held-out views.
        device: Where to compute.
        suppress: Boxes that overlap a better one more than this are dropped first.
    """
    every, by_set = Recall(), dict[str, Recall]()
    for shelf in shelves:
        for row, group in enumerate(shelf.groups):
            if not len(shelf.boxes[row]):
                continue
            boxes, scores = head.propose(*scales_of(shelf.features[row : row + 1], device))
            ranked = ranked_boxes(boxes[0].cpu().numpy(), scores[0].cpu().numpy(), suppress)
            overlap = box_iou(ranked, shelf.boxes[row])
            every.add(overlap)
            by_set.setdefault(group, Recall()).add(overlap)
    found = every.figures()
    for group, recall in by_set.items():
        found |= recall.figures(f"{group} AR@")
    return found


def ranked_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], suppress: float, at_most: int = 1000
) -> NDArray[np.float32]:
    """The best `at_most` boxes, suppressed, best first: (N, 4)."""
    best = np.argsort(-scores, kind="stable")[:at_most]
    return boxes[best][nms(boxes[best], scores[best], suppress)]
