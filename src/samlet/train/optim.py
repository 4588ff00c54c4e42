"""Schedules, parameter groups and the weight average."""

import contextlib
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

Scaled = tuple[str, nn.Parameter, float]
"""A parameter, its name, and its share of the learning rate."""


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


def scaled_groups(parameters: Iterable[Scaled], *, lr: float, decay: float) -> list[dict[str, object]]:
    """Groups with a learning rate of their own, as layer-wise decay wants them.

    Args:
        parameters: Frozen ones are left out.
        lr: Of a share of 1.
        decay: Weight decay, none on vectors, single embeddings and tables of attention biases.

    Returns:
        One group for each share and kind, in the order in which they first come.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter, share in parameters:
        if parameter.requires_grad:
            flat = parameter.ndim < 2 or parameter.shape[0] == 1 or "attention_biases" in name
            groups.setdefault((share, flat), []).append(parameter)
    return [
        {"params": chosen, "lr": lr * share, "base_lr": lr * share, "weight_decay": 0.0 if flat else decay}
        for (share, flat), chosen in groups.items()
    ]


def optimiser_of(name: str, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    """Make "adamw" (0.9, 0.98) or "sgd" (Nesterov, momentum 0.9)."""
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


class WeightAverage:
    """Exponential moving average of a network's parameters, with a warm-up so that early weights fade fast."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        """Begin with the weights as they are.

        Args:
            network: What is averaged; counters of batch norms are copied.
            decay: How much of the old average stays at each update; 0 is no average, the weights as they are.
        """
        self.network, self.decay, self.updates = network, decay, 0
        self.shadow = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = self.network.state_dict()
        moving = [k for k, v in state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.shadow[k] for k in moving], [state[k] for k in moving], 1 - keep)
        for k in state.keys() - set(moving):
            self.shadow[k].copy_(state[k])

    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Continue from a saved average."""
        self.shadow = {k: tensors[k].to(v.device, copy=True) for k, v in self.shadow.items()}
        self.updates = updates

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the network for the block, in evaluation mode, then the weights back."""
        kept = {k: v.clone() for k, v in self.network.state_dict().items()}
        training = self.network.training
        self.network.load_state_dict(self.shadow)
        self.network.eval()
        try:
            yield
        finally:
            self.network.load_state_dict(kept)
            self.network.train(training)
