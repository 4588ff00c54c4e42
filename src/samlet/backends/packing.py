"""One file with all weights of a graph, each at the offset that the graph itself names.

ONNX Runtime takes weights from memory; OpenVINO and onnxruntime-web do not, and any runtime can map a file. So each
graph marks its initializers as external data with a location, an offset and a length that were fixed at export, and
`pack` lays the folded weights out accordingly. Both sides take the offsets from `places`.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from samlet.backends.base import Array, GraphFile, select_weights
from samlet.errors import CheckpointError

ALIGNMENT = 64
"""Every weight begins at a multiple of it, in bytes: a cache line, and the widest vector."""

_ITEM = 4  # bytes: every weight of a graph is float32


def location_of(graph: str) -> str:
    """Name the file that a graph's initializers point to; it lies in the folder that the runtime is told.

    Example:
        >>> location_of("nano_encoder")
        'nano_encoder.weights'
    """
    return f"{graph}.weights"


def places(initializers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """Say where each weight of a graph lies in its packed file.

    Args:
        initializers: Shapes by name, as in `GraphFile.initializers`; their order does not count.

    Returns:
        (offset, length) in bytes by name, in alphabetical order of the names and without overlaps.

    Example:
        >>> places({"b": (3,), "a": (2, 2)})
        {'a': (0, 16), 'b': (64, 12)}
    """
    found: dict[str, tuple[int, int]] = {}
    offset = 0
    for name in sorted(initializers):
        length = _ITEM * prod(initializers[name])
        found[name] = (offset, length)
        offset += -(-length // ALIGNMENT) * ALIGNMENT
    return found


def pack(graph: GraphFile, weights: Mapping[str, Array]) -> bytearray:
    """Fold the weights of a graph and lay them out as the graph's external data says.

    Args:
        graph: The structure.
        weights: Arrays by official name, as a file holds them.

    Returns:
        The content of the file `location_of(graph.name)`, little-endian float32, with zeros between the weights.

    Raises:
        CheckpointError: Weights are missing, have another shape, or are not float32 once folded.

    Example:
        >>> graph = GraphFile("g", b"", ("x",), ("y",), {"w": (2,)}, 20)
        >>> bytes(pack(graph, {"w": np.array([1, 2], np.float32)})).hex()
        '0000803f00000040'
    """
    arrays = select_weights(graph, weights)
    where = places(graph.initializers)
    packed = bytearray(max((offset + length for offset, length in where.values()), default=0))
    for name, (offset, length) in where.items():
        array = arrays[name]
        if array.dtype != np.float32:
            raise CheckpointError(
                f"expected float32 for the weight {name} of {graph.name}, got {array.dtype}; "
                "use the file that belongs to this model"
            )
        packed[offset : offset + length] = array.astype("<f4", copy=False).tobytes()
    return packed
