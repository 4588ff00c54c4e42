"""Several processes that train one network: `torchrun` starts them, gradients are summed by hand.

Every process takes its own parts of a step, so two processes do what one does with twice as many parts. Summing the
gradients after the backward pass, in one flat message, costs some overlap that `DistributedDataParallel` would have;
for networks of 5 to 20 million weights that is milliseconds, and nothing hooks into the network.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """The processes of a run; by default this one alone.

    Attributes:
        rank: Which of them this is.
        world: How many there are.
        local: Which of those on this machine, that is, which GPU to take.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def join(cls, device: str) -> Self:
        """Meet the others if `torchrun` started this process, else be alone.

        Args:
            device: "cpu" talks through gloo, "cuda" through nccl.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))

    def leave(self) -> None:
        """Part from the others."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and states."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all are here."""
        if self.world > 1:
            dist.barrier()

    def share_weights(self, network: nn.Module) -> None:
        """Give everybody the weights of the first process."""
        if self.world > 1:
            for value in network.state_dict().values():
                dist.broadcast(value, 0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that nobody has stays None."""
        if self.world == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        has = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=trained[0].device)
        dist.all_reduce(has, dist.ReduceOp.MAX)
        shared = [p for p, anybody in zip(trained, has.tolist(), strict=True) if anybody]
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in shared]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for p, g, summed in zip(shared, grads, flat.split([g.numel() for g in grads]), strict=True):
            p.grad = torch.empty_like(g).copy_(summed.reshape(g.shape))

    def everyone(self, numbers: Mapping[str, float]) -> list[dict[str, float]]:
        """Gather numbers of all processes, by rank."""
        if self.world == 1:
            return [dict(numbers)]
        found: list[dict[str, float]] = [{} for _ in range(self.world)]
        dist.all_gather_object(found, dict(numbers))
        return found

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Average numbers over the processes, by name; a name that some lack is averaged over the rest."""
        found: dict[str, list[float]] = {}
        for each in self.everyone(numbers):
            for key, value in each.items():
                found.setdefault(key, []).append(value)
        return {key: sum(values) / len(values) for key, values in found.items()}

    def agreed(self, here: bool) -> bool:
        """What the first process says: clocks differ, and all must do the same."""
        return bool(self._reduced(here if self.leads else False, dist.ReduceOp.MAX))

    def agreed_all(self, here: bool) -> bool:
        """Whether it is so for every process."""
        return bool(self._reduced(here, dist.ReduceOp.MIN))

    def _reduced(self, here: bool, how: "dist.ReduceOp.RedOpType") -> bool:
        if self.world == 1:
            return here
        cuda = dist.get_backend() == "nccl"
        told: Tensor = torch.tensor(int(here), device="cuda" if cuda else "cpu")
        dist.all_reduce(told, how)
        return bool(told.item())
