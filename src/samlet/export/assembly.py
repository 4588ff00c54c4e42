"""ONNX models put together from samlet's own graphs: weights bound, and around them what other programs expect.

No network is traced here, so no torch is needed: the graphs in the package are those of the networks, and what comes
before and after them is small enough to be written in ONNX's own text form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet import registry, store
from samlet.backends.base import GraphFile, select_weights
from samlet.card import Card
from samlet.errors import MissingExtraError

Array = NDArray[Any]

_MOST_INSIDE = 1_500_000_000
"""Bytes of weights that go into the .onnx file itself; protobuf ends at 2 GiB."""


@dataclass
class Assembly:
    """An ONNX model under construction, with its weights kept apart until it is written.

    Attributes:
        model: The graph (`onnx.ModelProto`); initializers named in `arrays` have no bytes yet.
        arrays: Weights by the name of their initializer.
    """

    model: Any
    arrays: dict[str, Array]

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in order."""
        return [value.name for value in self.model.graph.input]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return [value.name for value in self.model.graph.output]


def onnx_module() -> Any:
    """Import the package onnx, which samlet itself does without.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import onnx
        import onnx.parser
    except ImportError:
        raise MissingExtraError(
            "this needs the package onnx; install it with pip install 'samlet[onnx]'"
        ) from None
    return onnx


def graph_file(card: Card, role: str) -> GraphFile:
    """Read the structure of one of a model's networks.

    Args:
        card: The model.
        role: A key of `card.graphs`.
    """
    name = card.graphs[role]
    return GraphFile.parse(name.removesuffix(".onnx"), *store.read_graph(name))


def read_weights(card: Card, roles: tuple[str, ...]) -> dict[str, Array]:
    """Read and check the weights of a model, by official name.

    Args:
        card: The model; files that are not on this computer are downloaded.
        roles: Its networks whose weights have to be there; the others are read too if the card has them.

    Raises:
        ModelError: A file is missing, damaged or does not fit.
    """
    optional = [role for role in card.graphs if role not in roles]
    return registry.read_weights(card, [graph_file(card, role) for role in (*roles, *optional)])


def core(graph: GraphFile, weights: Mapping[str, Array]) -> Assembly:
    """Bind weights to one of samlet's graphs.

    Args:
        graph: The structure.
        weights: Arrays by official name; folded ones are computed from them.
    """
    model = onnx_module().ModelProto.FromString(graph.onnx)
    return Assembly(model, dict(select_weights(graph, weights)))


def prepend(assembly: Assembly, text: str, *, replaces: Mapping[str, str]) -> None:
    """Put nodes before a graph, in place.

    Args:
        assembly: The graph.
        text: A model in ONNX's text form, whose value names begin with "before_" except its inputs.
        replaces: Input of the graph to the value of the text that stands in for it; the text's inputs come instead.
    """
    graph, new = assembly.model.graph, onnx_module().parser.parse_model(text).graph
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = replaces.get(name, name)
    kept = [value for value in graph.input if value.name not in replaces]
    nodes = [*new.node, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    own = {value.name: value for value in [*new.input, *kept]}
    graph.input.extend(own.values())


def append(assembly: Assembly, text: str, *, renames: Mapping[str, str]) -> None:
    """Put nodes behind a graph, in place; the outputs of the text become those of the whole.

    Args:
        assembly: The graph.
        text: A model in ONNX's text form, whose value names begin with "after_" except inputs and outputs.
        renames: Output of the graph to the name under which the text reads it.
    """
    graph, new = assembly.model.graph, onnx_module().parser.parse_model(text).graph
    for node in graph.node:
        for i, name in enumerate(node.output):
            node.output[i] = renames.get(name, name)
        for i, name in enumerate(node.input):
            node.input[i] = renames.get(name, name)
    made = {name for node in graph.node for name in node.output}
    there = {value.name for value in graph.input}
    del graph.output[:]
    graph.node.extend(new.node)
    graph.input.extend(value for value in new.input if value.name not in made | there)
    graph.output.extend(new.output)


def write(assembly: Assembly, path: Path, *, beside: bool = False) -> list[Path]:
    """Write a model with its weights.

    Args:
        assembly: The model; its initializers get their bytes or places.
        path: The .onnx file.
        beside: Whether the weights go into a file of their own, PATH with the ending .weights; always if a file of
            protobuf could not hold them.

    Returns:
        The files.
    """
    onnx = onnx_module()
    beside = beside or sum(array.nbytes for array in assembly.arrays.values()) > _MOST_INSIDE
    data = path.with_suffix(".weights")
    assembly.model.producer_name, assembly.model.graph.name = "samlet", path.stem
    tensors = {tensor.name: tensor for tensor in assembly.model.graph.initializer}
    offset = 0
    with data.open("wb") if beside else _Nowhere() as stream:
        for name in sorted(assembly.arrays):
            array, tensor = np.ascontiguousarray(assembly.arrays[name]), tensors[name]
            tensor.Clear()
            tensor.name, tensor.dims[:] = name, array.shape
            tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            if not beside:
                tensor.raw_data = content
                continue
            stream.write(content + bytes(-len(content) % 64))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            place = {"location": data.name, "offset": str(offset), "length": str(len(content))}
            for key, value in place.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value
            offset += len(content) + -len(content) % 64
    path.write_bytes(assembly.model.SerializeToString(deterministic=True))
    return [path, data] if beside else [path]


class _Nowhere:
    """Stands in for a file that is not wanted."""

    def __enter__(self) -> "_Nowhere":
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        raise RuntimeError("nothing is written beside")
