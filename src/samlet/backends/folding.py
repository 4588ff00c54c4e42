"""Weights that a graph needs and a file does not hold, computed from those it holds, once, at load.

A graph is exported from a network's deploy form: batch norms folded into convolutions, tables of relative
positions spread out. The description beside the graph says how each such weight follows from the file's; the
recipes are data (`samlet.nets.deploy` writes them), and these few lines are all that acts on them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.errors import CheckpointError

Recipe = Mapping[str, Any]
"""One of `samlet.nets.deploy.Recipe`."""

Arrays = Mapping[str, NDArray[Any]]


def derive(recipes: Mapping[str, Recipe], weights: Arrays) -> dict[str, NDArray[Any]]:
    """Add what the recipes give to the weights of a file.

    A weight whose ingredients are not there is left out: either the file holds it ready made, as a file that was
    saved folded does, or `select_weights` says what is missing.

    Args:
        recipes: By the name of the weight that each gives.
        weights: Arrays of the file, by official name; never changed.

    Returns:
        The file's arrays and the derived ones; a derived one replaces a file's of the same name.

    Raises:
        CheckpointError: An ingredient has a shape that the recipe cannot use, or the recipe is unknown.

    Example:
        >>> recipe = {"op": "relative", "from": "table", "size": 2}
        >>> derive({"spread": recipe}, {"table": np.array([[0], [1], [2]])})["spread"][..., 0].tolist()
        [[1, 0], [2, 1]]
    """
    found = dict(weights)
    for name, recipe in recipes.items():
        if not all(part in weights for part in _ingredients(recipe)):
            continue
        try:
            found[name] = _OPERATIONS[recipe["op"]](recipe, weights)
        except (KeyError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"expected to make {name} from {', '.join(_ingredients(recipe))}, but their shapes do not fit "
                f"({error}); use the file that belongs to this model"
            ) from None
    return found


def _ingredients(recipe: Recipe) -> list[str]:
    if "from" in recipe:
        return [recipe["from"]]
    norm = recipe["norm"]
    return [
        f"{recipe['conv']}.weight",
        *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
    ]


def _scale(recipe: Recipe, weights: Arrays) -> NDArray[np.float64]:
    norm = recipe["norm"]
    # float64, because float32 would lose digits of tiny variances
    variance = weights[f"{norm}.running_var"].astype(np.float64) + recipe["eps"]
    if not (variance > 0).all():
        raise ValueError("a variance below zero")
    scale: NDArray[np.float64] = weights[f"{norm}.weight"] / np.sqrt(variance)
    return scale


def _fold_weight(recipe: Recipe, weights: Arrays) -> NDArray[np.float32]:
    weight = weights[f"{recipe['conv']}.weight"]
    scale = _scale(recipe, weights).astype(np.float32)
    return np.asarray(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), np.float32)


def _fold_bias(recipe: Recipe, weights: Arrays) -> NDArray[np.float32]:
    norm, scale = recipe["norm"], _scale(recipe, weights)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    own = weights.get(f"{recipe['conv']}.bias")
    return np.asarray(bias if own is None else bias + own * scale, np.float32)


def _window_bias(recipe: Recipe, weights: Arrays) -> NDArray[Any]:
    size, table = int(recipe["size"]), weights[recipe["from"]]
    row, column = np.divmod(np.arange(size * size), size)
    index = np.abs(row[:, None] - row) * size + np.abs(column[:, None] - column)
    return np.asarray(table[:, index])


def _relative(recipe: Recipe, weights: Arrays) -> NDArray[Any]:
    size, table = int(recipe["size"]), weights[recipe["from"]]
    if len(table) != 2 * size - 1:
        raise ValueError(f"{len(table)} rows instead of {2 * size - 1}")
    position = np.arange(size)
    return np.asarray(table[position[:, None] - position + size - 1])


_OPERATIONS = {
    "fold_weight": _fold_weight,
    "fold_bias": _fold_bias,
    "window_bias": _window_bias,
    "relative": _relative,
}
