"""Weights stored in fewer bytes than they are computed with: float16 or int8, widened once when the model is opened.

The arithmetic stays float32. Runtimes fold the widening nodes while they load, so that a run costs the same; what
shrinks is the file, which is what a browser downloads.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.export.assembly import Assembly, onnx_module

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")

_LEAST = 1024
"""Weights with fewer numbers than this stay float32: they are norms and biases, and there is nothing to win."""


def narrow(assembly: Assembly, precision: Precision) -> None:
    """Store the large weights of a model in fewer bytes, in place.

    Args:
        assembly: The model, its weights float32.
        precision: "float16" rounds to 11 bits; "int8" to 8 bits with one scale for each output channel, or for each
            row of a matrix.

    Raises:
        InputError: A weight does not fit into float16.
    """
    if precision == "float32":
        return
    onnx, graph = onnx_module(), assembly.model.graph
    nodes = []
    for name in sorted(assembly.arrays):
        array = assembly.arrays[name]
        if array.dtype != np.float32 or array.size < _LEAST or array.ndim < 2:
            continue
        stored, scale = _half(name, array) if precision == "float16" else _eight_bits(array)
        del assembly.arrays[name]
        _rename(graph, name, f"{name}.{precision}")
        assembly.arrays[f"{name}.{precision}"] = stored
        wide = name if scale is None else f"{name}.wide"
        nodes.append(
            onnx.helper.make_node("Cast", [f"{name}.{precision}"], [wide], to=onnx.TensorProto.FLOAT)
        )
        if scale is not None:
            assembly.arrays[f"{name}.scale"] = scale
            graph.initializer.add().name = f"{name}.scale"
            nodes.append(onnx.helper.make_node("Mul", [wide, f"{name}.scale"], [name]))
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])


def _half(name: str, array: NDArray[np.float32]) -> tuple[NDArray[Any], None]:
    if np.abs(array).max() > np.finfo(np.float16).max:
        raise InputError(
            f"expected weights that float16 can hold, but {name} goes up to {np.abs(array).max():.3g}; "
            "export with --weights float32"
        )
    return array.astype(np.float16), None


def _eight_bits(array: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round symmetrically, with a scale for each index of the first axis (output channels of both conv and linear)."""
    most = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True)
    scale = np.where(most > 0, most / 127, 1).astype(np.float32)
    return np.rint(array / scale).astype(np.int8), scale


def _rename(graph: Any, old: str, new: str) -> None:
    for tensor in graph.initializer:
        if tensor.name == old:
            tensor.name = new
            return
