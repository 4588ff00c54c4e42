"""From the form a network is trained in to the form it runs in: norms folded, tables gathered, dead weights gone.

The deploy form has other weights than the official file. For each of them there is a recipe, plain data that goes
into the description of the exported graph, so that `samlet.backends` can compute it from the file without torch.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

Recipe = dict[str, Any]
"""How one weight of the deploy form follows from the file; all names are state-dict names. One of

* {"op": "fold_weight" | "fold_bias", "conv": "a.c", "norm": "a.bn", "eps": 1e-5}: a convolution and the batch norm
  behind it; `conv` and `norm` are prefixes of `.weight`, `.bias`, `.running_mean`, `.running_var`.
* {"op": "window_bias", "from": "a.attention_biases", "size": 7}: (heads, s*s) by |row|, |column| distance ->
  (heads, s*s, s*s).
* {"op": "relative", "from": "a.rel_pos_h", "size": 64}: (2s-1, d) by distance q - k -> (s, s, d).
"""


def deploy_(module: nn.Module) -> dict[str, Recipe]:
    """Turn a network into its deploy form, in place and in evaluation mode.

    Every submodule with a method `deploy_` does its own part; it names weights relative to itself.

    Args:
        module: The network in its trained form, with the official state-dict keys.

    Returns:
        Recipes by the name of the weight in the deploy form's state dict; a weight without one is in the file
        under the same name.
    """
    module.eval()
    recipes: dict[str, Recipe] = {}
    for prefix, own in _deployable(module):
        for name, recipe in own.items():
            recipes[prefix + name] = {
                key: prefix + value if key in ("conv", "norm", "from") else value
                for key, value in recipe.items()
            }
    return recipes


def fold_(conv: nn.Conv2d, norm: nn.BatchNorm2d, *, names: tuple[str, str]) -> dict[str, Recipe]:
    """Fold a batch norm into the convolution before it, in place; the caller then drops the norm.

    Args:
        conv: Gets new weights and a bias.
        norm: With running statistics.
        names: What the parent calls the two, for instance ("c", "bn").

    Returns:
        Recipes for the convolution's weight and bias, under the parent's names.
    """
    with torch.no_grad():
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight / (variance + norm.eps).sqrt()
        bias = norm.bias - mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
        conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
    conv.bias = nn.Parameter(bias.detach().clone())
    source = {"conv": names[0], "norm": names[1], "eps": norm.eps}
    return {
        f"{names[0]}.weight": {"op": "fold_weight", **source},
        f"{names[0]}.bias": {"op": "fold_bias", **source},
    }


def window_bias(table: Tensor, size: int) -> Tensor:
    """Spread a TinyViT bias table (heads, size * size) over all pairs of a window: (heads, s*s, s*s).

    The bias depends on the absolute distances alone: row |dr| * size + |dc| of the table.
    """
    row = torch.arange(size).repeat_interleave(size)
    column = torch.arange(size).repeat(size)
    index = (row[:, None] - row[None]).abs() * size + (column[:, None] - column[None]).abs()
    return table[:, index]


def relative(table: Tensor, size: int) -> Tensor:
    """Spread a SAM ViT table (2 size - 1, d) over all pairs of positions: (size, size, d), row q - k + size - 1."""
    position = torch.arange(size)
    return table[position[:, None] - position[None] + size - 1]


def _deployable(module: nn.Module) -> Iterator[tuple[str, dict[str, Recipe]]]:
    for name, part in list(module.named_modules()):
        own = getattr(part, "deploy_", None)
        if callable(own):
            yield f"{name}." if name else "", own()
