"""What the tests of several networks share: fingerprints of key lists, random norms, recipes in numpy."""

import hashlib

import numpy as np
import torch
from torch import nn


def fingerprint(net: nn.Module) -> tuple[int, str]:
    """Number of state-dict keys, and the SHA-256 of the sorted lines "key<tab>shape" (shape as "64,3,3,3")."""
    lines = sorted(f"{key}\t{','.join(map(str, value.shape))}" for key, value in net.state_dict().items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


def parameters(net: nn.Module) -> int:
    """Number of numbers in the parameters."""
    return sum(p.numel() for p in net.parameters())


@torch.no_grad()
def fit_norms_(net: nn.Module, image: torch.Tensor) -> None:
    """Give the batch norms of a freshly made network random scales and shifts, and the statistics of a picture.

    Fresh weights shrink a signal layer by layer until only biases speak, and fresh norms are nearly the identity:
    two such networks would agree whatever their structure. Leaves the network in evaluation mode.

    Args:
        net: With `nn.BatchNorm2d`; changed in place.
        image: A batch for its forward, more than one value for each channel at every norm.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.copy_(0.7 + 0.6 * torch.rand_like(norm.weight))
        norm.bias.copy_(0.3 * torch.randn_like(norm.bias))
    net.train()
    net(image)
    net.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def folded(recipe: dict, file: dict[str, np.ndarray]) -> np.ndarray:
    """Follow a recipe of `samlet.nets.deploy` for a folded norm, from the arrays of an official file."""
    norm = {key: file[f"{recipe['norm']}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + recipe["eps"])
    if recipe["op"] == "fold_weight":
        return file[f"{recipe['conv']}.weight"] * scale[:, None, None, None]
    bias = file.get(f"{recipe['conv']}.bias", 0.0)
    return norm["bias"] + (bias - norm["running_mean"]) * scale
