"""Weights derived at load: each recipe against a slow computation by its definition."""

import numpy as np
import pytest

from samlet.backends.base import GraphFile, select_weights
from samlet.backends.folding import derive
from samlet.errors import CheckpointError

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def conv_and_norm(*, bias: bool = False) -> dict[str, np.ndarray]:
    found = {
        "a.c.weight": normal(4, 3, 3, 3),
        "a.bn.weight": normal(4),
        "a.bn.bias": normal(4),
        "a.bn.running_mean": normal(4),
        "a.bn.running_var": np.abs(normal(4)) + 1e-6,
    }
    return found | ({"a.c.bias": normal(4)} if bias else {})


FOLD = {"conv": "a.c", "norm": "a.bn", "eps": 1e-5}
RECIPES = {"a.c.weight": {"op": "fold_weight", **FOLD}, "a.c.bias": {"op": "fold_bias", **FOLD}}


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.einsum("ihw,oihw->o", x, weight, dtype=np.float64)  # one output pixel is enough


@pytest.mark.parametrize("bias", [False, True])
def test_folding_gives_what_the_norm_gives(bias: bool) -> None:
    weights = conv_and_norm(bias=bias)
    before = {name: array.copy() for name, array in weights.items()}
    folded = derive(RECIPES, weights)
    x = normal(3, 3, 3)
    plain = convolve(x, weights["a.c.weight"]) + weights.get("a.c.bias", 0)
    deviation = np.sqrt(weights["a.bn.running_var"].astype(float) + 1e-5)
    wanted = (plain - weights["a.bn.running_mean"]) / deviation * weights["a.bn.weight"] + weights[
        "a.bn.bias"
    ]
    got = convolve(x, folded["a.c.weight"]) + folded["a.c.bias"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert folded["a.c.weight"].dtype == folded["a.c.bias"].dtype == np.float32
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)


def test_a_window_bias_depends_on_absolute_distances() -> None:
    size, table = 3, normal(2, 9)
    spread = derive({"b": {"op": "window_bias", "from": "t", "size": size}}, {"t": table})["b"]
    assert spread.shape == (2, 9, 9)
    for query in range(9):
        for key in range(9):
            rows, columns = abs(query // 3 - key // 3), abs(query % 3 - key % 3)
            np.testing.assert_array_equal(spread[:, query, key], table[:, rows * 3 + columns])


def test_a_relative_table_is_read_by_signed_distance() -> None:
    table = normal(7, 5)
    spread = derive({"r": {"op": "relative", "from": "t", "size": 4}}, {"t": table})["r"]
    for query in range(4):
        for key in range(4):
            np.testing.assert_array_equal(spread[query, key], table[query - key + 3])


def test_a_file_that_was_saved_folded_needs_no_norms() -> None:
    ready = {"a.c.weight": normal(4, 3, 3, 3), "a.c.bias": normal(4)}
    graph = GraphFile(
        "g", b"", ("x",), ("y",), {"a.c.weight": (4, 3, 3, 3), "a.c.bias": (4,)}, 20, recipes=RECIPES
    )
    chosen = select_weights(graph, ready)
    np.testing.assert_array_equal(chosen["a.c.bias"], ready["a.c.bias"])


@pytest.mark.parametrize(
    ("recipes", "weights"),
    [
        ({"r": {"op": "relative", "from": "t", "size": 4}}, {"t": normal(6, 5)}),
        ({"b": {"op": "window_bias", "from": "t", "size": 4}}, {"t": normal(2, 9)}),
        (RECIPES, conv_and_norm() | {"a.bn.weight": normal(5)}),
        (RECIPES, conv_and_norm() | {"a.bn.running_var": np.ones(3, np.float32)}),
        (RECIPES, conv_and_norm() | {"a.bn.running_var": np.full(4, -1, np.float32)}),
        ({"r": {"op": "execute", "from": "t"}}, {"t": normal(1)}),
    ],
)
def test_shapes_that_do_not_fit(recipes: dict, weights: dict) -> None:
    with pytest.raises(CheckpointError, match="expected to make"):
        derive(recipes, weights)
