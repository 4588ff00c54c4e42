"""How much of held-out pictures a network finds: average recall of masks and boxes on the stride-4 grid, for choices.

`samlet evaluate --protocol proposals` measures at the picture's size, through the whole library. Never compare the two.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samlet.geometry import box_iou, nms
from samlet.train.instance_losses import Answers, in_boxes
from samlet.train.instance_views import Labels
from samlet.train.proposals import Recall

LOOKED_AT = 1000  # best candidates before suppression
MOST = 100


def ranked(answers: Answers, b: int, *, suppress: float) -> tuple[NDArray[np.float32], Tensor]:
    """The best instances of one picture of a batch: boxes (N, 4) in canvas pixels and masks (N, h, w), best first."""
    scores = answers.scores[b]
    best = scores.topk(min(LOOKED_AT, len(scores))).indices
    boxes = answers.boxes()[b, best]
    kept = nms(boxes.cpu().numpy(), scores[best].cpu().numpy(), suppress)[:MOST]
    chosen = torch.from_numpy(np.asarray(kept)).to(best.device)
    protos = answers.protos[b]
    logits = (answers.coefficients[b, best[chosen]] @ protos.flatten(1)).reshape(-1, *protos.shape[1:])
    masks = (logits > 0) & in_boxes(boxes[chosen], protos.shape[1:])
    return boxes[chosen].cpu().numpy(), masks


def mask_overlap(masks: Tensor, labels: Labels) -> NDArray[np.float64]:
    """IoU (N, K) of masks (N, h, w) with the labelled ones, where something is known."""
    known = ~torch.from_numpy(labels.unknown).flatten()
    found = (masks.cpu().flatten(1) & known).float()
    truth = (torch.from_numpy(labels.masks[labels.masked]).flatten(1) & known).float()
    both = found @ truth.T
    either = found.sum(1, keepdim=True) + truth.sum(1) - both
    return np.asarray((both / either.clamp(min=1)).numpy(), np.float64)


@torch.no_grad()
def instance_recall(
    pictures: Iterable[tuple[NDArray[np.generic], Labels]],
    answer: Callable[[NDArray[np.generic]], Answers],
    *,
    suppress: float = 0.7,
) -> dict[str, float]:
    """Average recall of the best 10 and 100: "AR@10", "AR@100" of masks, "box_AR@10", "box_AR@100" of boxes.

    Args:
        pictures: Each as the network takes it, without a batch axis, with its labels; boxes without masks do not count.
        answer: The network on a batch.
        suppress: Boxes that overlap a better one more than this are dropped first.
    """
    masks, boxes = Recall(), Recall()
    for inputs, labels in pictures:
        if not labels.masked.any():
            continue
        own, said = ranked(answer(inputs[None]), 0, suppress=suppress)
        masks.add(mask_overlap(said, labels))
        boxes.add(box_iou(own, labels.boxes[labels.masked]))
    return masks.figures() | boxes.figures("box_AR@")
