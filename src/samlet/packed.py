"""A model's graphs with their weights in files that a runtime can map, for OpenVINO, browsers and quick starts.

The committed graphs name one external file each, with an offset and a length for every weight. Here that file is
written, once, with the weights already folded, into samlet's cache; `samlet.backends.packing` says how it is laid out.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

from samlet import registry, store
from samlet.backends import packing
from samlet.backends.base import Array, GraphFile, TakesPacked
from samlet.card import Card, CardFile
from samlet.errors import CheckpointError, OutputError

_log = logging.getLogger("samlet.packed")
_LAYOUT = 1  # counts up when the bytes that follow from the same files and graphs change


def pack_model(card: Card, *, roles: Sequence[str] | None = None) -> dict[str, GraphFile]:
    """Give graphs of a model together with packed files of their weights, which are written if they are not there.

    `graph.onnx` refers to the file by the name `graph.packed.name`: a runtime that is told to look in
    `graph.packed.parent` finds all weights at the offsets that the graph names, and onnxruntime-web takes
    `{path: graph.packed.name, data: graph.packed.read_bytes()}` as `externalData`.

    Args:
        card: The model; files that are not on this computer are downloaded.
        roles: Which of `card.graphs` are wanted; None means all.

    Returns:
        Graphs by role, each with `packed` set; the graph itself lies beside that file as `<graph>.onnx`.

    Raises:
        ModelError: A file is missing and cannot be had, or is not the one the card names.
        CheckpointError: The weights do not fit the graphs, or the card has no graph for a role.
        OutputError: The cache cannot be written.

    Example:
        >>> found = pack_model(registry.resolve("nano"), roles=["decoder"])  # doctest: +SKIP
        >>> found["decoder"].packed.name  # doctest: +SKIP
        'nano_decoder.weights'
    """
    lacking = [role for role in roles or () if role not in card.graphs]
    if lacking:
        raise CheckpointError(
            f"expected graphs for {', '.join(roles or ())} in the card of {card.name}, but it lacks "
            f"{', '.join(lacking)}; correct the card"
        )
    chosen = tuple(card.graphs) if roles is None else tuple(roles)
    graphs = [read_graph(card.graphs[role]) for role in chosen]
    return dict(zip(chosen, with_packed(card, graphs), strict=True))


def with_packed(card: Card, graphs: Sequence[GraphFile]) -> list[GraphFile]:
    """Give the same graphs of a model with `packed` set; see `pack_model`.

    The model's own files are read only if a packed one is missing: on a second start it alone is read and checked.
    """
    sources = sorted((file.role, _digest_of(file)) for file in card.files)
    # Whichever graphs are wanted, the files must hold the weights of all: they are checked against all.
    read = cache(lambda: registry.read_weights(card, [read_graph(name) for name in card.graphs.values()]))
    found = []
    for graph in graphs:
        digest = _digest(sources, graph)
        path = store.keep(digest, packing.location_of(graph.name), partial(_content, graph, read))
        # Some runtimes open graphs by path only, and look for weights beside them.
        store.keep(digest, f"{graph.name}.onnx", partial(bytes, graph.onnx))
        found.append(replace(graph, packed=path))
    return found


def bound(
    card: Card, graphs: Sequence[GraphFile], takes: TakesPacked | None
) -> tuple[list[GraphFile], Mapping[str, Array]]:
    """Give graphs of a model with their weights, in the form that a backend takes.

    Args:
        card: The model.
        graphs: Its graphs.
        takes: `Backend.takes_packed`; None for a backend that has none.

    Returns:
        Graphs, and arrays by official name; none where the graphs have packed files.
    """
    if takes is not None:
        try:
            return with_packed(card, graphs), {}
        except OutputError:
            if takes == "always":
                raise
            _log.info("the cache cannot be written, so weights of %s are kept in memory", card.name)
    return list(graphs), registry.read_weights(card, graphs)


def read_graph(file_name: str) -> GraphFile:
    """Read a network's structure and description from the package.

    Args:
        file_name: As in `Card.graphs`.

    Raises:
        ModelError: The package has no such graph, or its description is broken.
    """
    onnx, description = store.read_graph(file_name)
    return GraphFile.parse(file_name.removesuffix(".onnx"), onnx, description)


def _content(graph: GraphFile, read: Callable[[], Mapping[str, Array]]) -> bytearray:
    return packing.pack(graph, read())


def _digest(sources: list[tuple[str, str]], graph: GraphFile) -> str:
    """Name all that the packed file of a graph follows from."""
    decisive = {
        "layout": _LAYOUT,
        "sources": sources,
        "graph": hashlib.sha256(graph.onnx).hexdigest(),
        "recipes": {name: dict(recipe) for name, recipe in graph.recipes.items()},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _digest_of(file: CardFile) -> str:
    """Name what is in a file of a model; one whose digest nobody published is read for it."""
    published = file.sha256 or file.git_sha1
    return published or hashlib.sha256(store.read_verified(file)).hexdigest()
