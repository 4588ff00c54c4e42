"""Let packages that import torchvision load beside a CPU build of torch (parity tests only).

PyPI's torchvision links CUDA libraries and dies on import with "operator torchvision::nms does not exist".
Declaring the two operators first is enough for everything that the reference implementations use; `nms` gets a
plain CPU kernel.
"""

import torch


def install() -> None:
    """Declare the operators once per process, however often it is called."""
    if _KEEP:
        return
    library = torch.library.Library("torchvision", "DEF")  # must outlive this call
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _KEEP.append(library)


_KEEP: list[torch.library.Library] = []


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    order = scores.argsort(descending=True, stable=True)
    kept = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low, high = boxes[rest, :2].maximum(boxes[first, :2]), boxes[rest, 2:].minimum(boxes[first, 2:])
        both = (high - low).clamp(min=0).prod(-1)
        # Written so that nothing over nothing, two boxes without area, is no overlap, as in torchvision.
        order = rest[~(both / (area[rest] + area[first] - both) > iou_threshold)]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)
