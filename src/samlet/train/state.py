"""Training state on disk: safetensors and JSON only, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from samlet.atomic import flush_folder
from samlet.errors import CheckpointError
from samlet.train.optim import WeightAverage


def save_state(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage,
    facts: dict[str, Any],
) -> None:
    """Write weights, their average, the optimiser's moments and `facts` (JSON) so that training can go on."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.shadow.items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    temporary = path.with_name(f".{path.name}.part")
    facts = {**facts, "average_updates": average.updates}
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
        temporary,
        {"facts": json.dumps(facts)},
    )
    with temporary.open("rb") as file:  # on the disk before it takes the place of the state before it
        os.fsync(file.fileno())
    os.replace(temporary, path)
    flush_folder(path.parent)


def load_state(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: WeightAverage
) -> dict[str, Any]:
    """Restore what `save_state` wrote and return its facts.

    Raises:
        CheckpointError: the file is unreadable or belongs to another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}
        network.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        average.load(
            {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}, facts["average_updates"]
        )
        groups = optimiser.state_dict()["param_groups"]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, slot = key.split(".")
                like = parameters[int(index)]
                # The fused kernel walks raw memory: moments must have their parameter's strides (channels last).
                laid_out = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.ndim else value
                state.setdefault(int(index), {})[slot] = laid_out
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, IndexError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"expected a training state of this recipe in {path}, but {error}") from error
    return facts
