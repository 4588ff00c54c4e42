"""Schedules, parameter groups and the weight average."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def cosine(progress: float, *, floor: float = 0.02) -> float:
    """Learning-rate factor: 1 at progress 0, `floor` at progress 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


def parameter_groups(
    fast: Iterable[nn.Parameter],
    slow: Iterable[nn.Parameter],
    *,
    lr_fast: float,
    lr_slow: float,
    decay: float,
) -> list[dict[str, object]]:
    """AdamW groups: two learning rates, no weight decay on vectors (norms, biases, single embeddings)."""
    groups: list[dict[str, object]] = []
    for parameters, lr in ((list(fast), lr_fast), (list(slow), lr_slow)):
        trained = [p for p in parameters if p.requires_grad]
        for flat in (False, True):
            chosen = [p for p in trained if (p.ndim < 2 or p.shape[0] == 1) == flat]
            if chosen:
                groups.append(
                    {"params": chosen, "lr": lr, "base_lr": lr, "weight_decay": 0.0 if flat else decay}
                )
    return groups


class WeightAverage:
    """Exponential moving average of a network's parameters, with a warm-up so that early weights fade fast."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.network, self.decay, self.updates = network, decay, 0
        self.shadow = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = self.network.state_dict()
        torch._foreach_lerp_([self.shadow[k] for k in state], list(state.values()), 1 - keep)

    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Continue from a saved average."""
        self.shadow = {k: tensors[k].clone() for k in self.shadow}
        self.updates = updates
