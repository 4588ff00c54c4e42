"""The seam between samlet and a runtime: a graph is opened once with its weights and run many times."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from samlet.backends import folding
from samlet.backends.folding import Recipe
from samlet.errors import BackendError, CheckpointError

Array = NDArray[Any]
"""Any numpy array; which kind and shape is up to the graph."""

TakesPacked = Literal["always", "gladly"]
"""Whether a backend wants `GraphFile.packed` instead of arrays; see `Backend`."""

_SHOWN = 5
_KEYS = {"inputs", "outputs", "initializers", "opset", "checkpoint", "unused", "recipes"}


@dataclass(frozen=True, slots=True)
class GraphFile:
    """The structure of one network, without its weights, as the exporter wrote it.

    Attributes:
        name: File name without its suffix, for instance "nano_encoder".
        onnx: The ONNX model; its initializers are marked as external.
        inputs: Names of the inputs, in order.
        outputs: Names of the outputs, in order.
        initializers: Shape of each weight the graph needs, by name.
        opset: ONNX operator set.
        checkpoint: Shape of each weight that an official file holds for this network, by its official name;
            it differs from `initializers` where weights are folded at load.
        unused: Those of `checkpoint` that no answer depends on; a file may leave them out.
        recipes: How a weight that is not in the file follows from those that are; see `samlet.backends.folding`.
        packed: File with all weights folded, at the offsets that `onnx` names (`samlet.backends.packing`); None where
            nobody asked for one. Only samlet's own cache is ever named here.
    """

    name: str
    onnx: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: Mapping[str, tuple[int, ...]]
    opset: int
    checkpoint: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    packed: Path | None = None

    @classmethod
    def parse(cls, name: str, onnx: bytes, description: bytes) -> Self:
        """Read the JSON description that lies beside a graph.

        Raises:
            CheckpointError: The description is no JSON object with the names and shapes above.
        """
        try:
            fields = json.loads(description)
            if fields.keys() != _KEYS:
                raise ValueError(f"keys must be {', '.join(sorted(_KEYS))}")
            inputs, outputs = tuple(fields["inputs"]), tuple(fields["outputs"])
            if not inputs or not outputs or not all(isinstance(key, str) for key in (*inputs, *outputs)):
                raise ValueError("inputs and outputs must be lists of names")
            return cls(
                name,
                onnx,
                inputs,
                outputs,
                initializers=_shapes(fields["initializers"]),
                opset=int(fields["opset"]),
                checkpoint=_shapes(fields["checkpoint"]),
                unused=frozenset(map(str, fields["unused"])),
                recipes={str(key): dict(recipe) for key, recipe in fields["recipes"].items()},
            )
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"expected the description of the graph {name} as JSON, but it cannot be used ({error}); "
                "install samlet again"
            ) from None


class Graph(Protocol):
    """A network ready to run; `run` may be called from many threads at once."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays that `run` expects."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the arrays that `run` gives."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once.

        Args:
            feeds: One array for each input, by name.

        Returns:
            One array for each output, by name.

        Raises:
            BackendError: The feeds do not fit the network, or the runtime failed.
        """


class Backend(Protocol):
    """A runtime.

    One that can read weights from a file says so with an attribute `takes_packed`: its graphs then come with
    `GraphFile.packed`, and without arrays. "always" makes a cache that cannot be written an error; with "gladly" the
    arrays come instead.
    """

    @property
    def name(self) -> str:
        """What users type to choose it."""

    @property
    def needs_files(self) -> bool:
        """Whether `open` wants a real graph and weights; only the fake for tests does without."""

    def open(
        self, role: str, graph: GraphFile, *, weights: Mapping[str, Array], threads: int | None = None
    ) -> Graph:
        """Bind weights to a graph.

        Args:
            role: What the graph does in its model: "encoder" or "decoder".
            graph: The structure.
            weights: Arrays by name; those that the graph does not name are left alone.
            threads: Threads for one run; None lets the runtime decide.

        Raises:
            CheckpointError: Weights are missing or have another shape.
            BackendError: The runtime refuses the graph.
        """


def select_weights(graph: GraphFile, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Give exactly the weights that a graph names, folded, contiguous, after checking that they fit.

    Raises:
        CheckpointError: Some are missing or have another shape; the message lists both sides.
    """
    weights = folding.derive(graph.recipes, weights)
    missing = sorted(graph.initializers.keys() - weights.keys())
    if missing:
        unexpected = sorted(weights.keys() - graph.initializers.keys())
        raise CheckpointError(
            f"expected {len(graph.initializers)} weights for {graph.name}, missing: {_some(missing)}, "
            f"unexpected: {_some(unexpected)}; use the file that belongs to this model"
        )
    misshaped = [
        f"{name} is {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in graph.initializers.items()
        if tuple(weights[name].shape) != shape
    ]
    if misshaped:
        raise CheckpointError(
            f"expected weights of other shapes for {graph.name}: {_some(misshaped)}; "
            "use the file that belongs to this model"
        )
    return {name: np.ascontiguousarray(weights[name]) for name in graph.initializers}


def check_names(graph: str, inputs: tuple[str, ...], feeds: Mapping[str, Array]) -> None:
    """Make sure that the feeds are exactly the inputs.

    Raises:
        BackendError: One is missing or unknown.
    """
    missing, unknown = sorted(set(inputs) - feeds.keys()), sorted(feeds.keys() - set(inputs))
    if missing or unknown:
        raise BackendError(
            f"expected the inputs {', '.join(inputs)} for {graph}, missing: {_some(missing)}, "
            f"unknown: {_some(unknown)}; pass each input once"
        )


def one_line(error: Exception) -> str:
    """Give the first line of a runtime's message, without its location prefix, for a sentence of ours."""
    text = str(error).strip().split("\n", 1)[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:200] or type(error).__name__


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + rest


def _shapes(entries: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {str(key): tuple(map(int, shape)) for key, shape in entries.items()}
