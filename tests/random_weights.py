"""Files in official layouts with random weights, made from the graphs' descriptions alone: no torch, no reference."""

from pathlib import Path

import numpy as np

from samlet import registry, store
from samlet.backends.base import GraphFile
from samlet.checkpoint import to_pt


def arrays_of(model: str, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Give random weights for every name an official file of this model holds; what stays finite, stays sane."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for file_name in registry.resolve(model).graphs.values():
        onnx, description = store.read_graph(file_name)
        for name, shape in GraphFile.parse(file_name, onnx, description).checkpoint.items():
            found[name] = _random(name, shape, random)
    return found


def write_official(model: str, path: Path, *, seed: int = 0) -> Path:
    """Write such a file."""
    path.write_bytes(to_pt(arrays_of(model, seed=seed), "official"))
    return path


def _random(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(("running_var", "norm.weight", "bn.weight")):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    inputs = int(np.prod(shape[1:])) if len(shape) > 1 else 100
    return (random.standard_normal(shape) / np.sqrt(max(inputs, 1))).astype(np.float32)
