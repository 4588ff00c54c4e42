"""Generate the committed graphs from the networks: structure and names only, no weights.

    python -m samlet.export.graphs              # writes src/samlet/graphs/*.onnx and their .json contracts
    python -m samlet.export.graphs --check      # exit 1 if a committed graph differs from a fresh one

Each parameter becomes an initializer marked external, under its state-dict name, and without bytes; the backend
binds arrays to the names at load (docs/adr/0002), or reads them from a packed file at the offsets that the graph names
(docs/adr/0007). Networks are exported in their deploy form (`nets/deploy.py`), and
the contract beside the graph says how its weights follow from an official file's. Everything else is left to the
runtime's optimiser, once it has the weights.
"""

import argparse
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
from torch.export import Dim

from samlet.backends.packing import location_of, places
from samlet.backends.torch import Builder, builder_of, builders
from samlet.nets.deploy import Recipe, deploy_

GRAPHS = Path(__file__).parent.parent / "graphs"
OPSET = 20
# Exact algebra makes these cancel in the folded attention (nets/two_way.py), so no graph reads them.
CANCELLED = ("_token_to_image.k_proj.bias",)


@dataclass(frozen=True)
class GraphSpec:
    """How one graph is made: its network, example inputs and free axes."""

    network: Builder
    inputs: dict[str, tuple[int, ...]]
    axes: dict[str, dict[int, Any]]
    whole_numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A graph without weights, and what the official file behind it holds."""

    model: onnx.ModelProto
    checkpoint: dict[str, list[int]]
    recipes: dict[str, Recipe]


def _image_spec(network: Builder) -> GraphSpec:
    """One picture in, whose sides are multiples of the network's stride."""
    multiple, most = network.multiple, network.most // network.multiple
    height, width = Dim("h", min=1, max=most), Dim("w", min=1, max=most)
    # The exporter takes a 1 in the example for a law, so there must be several windows of attention each way.
    side = 320 // multiple * multiple
    axes = {"image": {2: multiple * height, 3: multiple * width}}
    return GraphSpec(network, {"image": (1, 3, side, side + multiple)}, axes)


def _decoder_spec(network: Builder) -> GraphSpec:
    prompts, points = Dim("prompts", min=1, max=4096), Dim("points", min=1, max=2048)
    height, width = Dim("h", min=1, max=128), Dim("w", min=1, max=128)
    inputs = {
        "image_embeddings": (1, 256, 10, 14), "point_coords": (3, 4, 2), "point_labels": (3, 4),
        "mask_input": (3, 1, 40, 56), "has_mask_input": (3,),
    }  # fmt: skip
    axes = {
        "image_embeddings": {2: 2 * height, 3: 2 * width},
        "point_coords": {0: prompts, 1: points},
        "point_labels": {0: prompts, 1: points},
        "mask_input": {0: prompts, 2: 8 * height, 3: 8 * width},
        "has_mask_input": {0: prompts},
    }
    return GraphSpec(network, inputs, axes)


def _half_decoder_spec(network: Builder) -> GraphSpec:
    """What depends on the image alone, or the prompts on what that gave."""
    height, width = Dim("h", min=1, max=256), Dim("w", min=1, max=256)
    if network.part == "image":
        inputs: dict[str, tuple[int, ...]] = {
            "image_embeddings": (1, 256, 10, 14), "mask_input": (1, 1, 40, 56), "has_mask_input": (1,),
        }  # fmt: skip
        axes = {
            "image_embeddings": {2: height, 3: width},
            "mask_input": {2: 4 * height, 3: 4 * width},
        }
        return GraphSpec(network, inputs, axes)
    prompts, points = Dim("prompts", min=1, max=4096), Dim("points", min=1, max=2048)
    cells, tokens, rows = (
        Dim("cells", min=1, max=65536),
        Dim("tokens", min=1, max=4),
        Dim("rows", min=1, max=256),
    )
    inputs = {
        "image": (1, 10, 14, 256), "positions": (1, 10, 14, 256),
        "keys": (8, 16, 140), "values": (8, 140, 16), "queries": (8, 16, 140),
        "point_coords": (3, 4, 2), "point_labels": (3, 4), "tokens": (2,), "rows": (6,), "score_floor": (1,),
    }  # fmt: skip
    axes = {
        "image": {1: height, 2: width},
        "positions": {1: height, 2: width},
        "keys": {2: cells},
        "values": {1: cells},
        "queries": {2: cells},
        "point_coords": {0: prompts, 1: points},
        "point_labels": {0: prompts, 1: points},
        "tokens": {0: tokens},
        "rows": {0: rows},
    }
    return GraphSpec(network, inputs, axes, whole_numbers=("tokens", "rows"))


def _embedding_spec(network: Builder) -> GraphSpec:
    """An embedding in and nothing else; its grid is even in both directions, and as a multiple of 4 exact."""
    height, width = Dim("h", min=1, max=64), Dim("w", min=1, max=64)
    axes = {"image_embeddings": {2: 4 * height, 3: 4 * width}}
    return GraphSpec(network, {"image_embeddings": (1, 256, 12, 16)}, axes)


def spec_of(network: Builder) -> GraphSpec:
    """Say how the graph of a network is exported."""
    if network.multiple:
        return _image_spec(network)
    if network.part:
        return _half_decoder_spec(network)
    return _decoder_spec(network) if network.prompts else _embedding_spec(network)


def build(stem: str, spec: GraphSpec) -> Exported:
    """Export one network in its deploy form, strip its weights and say where they lie in the file `stem`.weights."""
    torch.manual_seed(0)
    module, prefix = spec.network.build(), spec.network.prefix
    checkpoint = {prefix + name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    recipes = {
        prefix + name: {
            key: prefix + value if key in ("conv", "norm", "from") else value for key, value in recipe.items()
        }
        for name, recipe in deploy_(module).items()
    }
    arguments = {
        name: torch.zeros(shape, dtype=torch.int64 if name in spec.whole_numbers else torch.float32)
        for name, shape in spec.inputs.items()
    }
    axes = {name: spec.axes.get(name) for name in spec.inputs}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program = torch.onnx.export(
            module, kwargs=arguments, dynamic_shapes=axes, input_names=list(spec.inputs),
            output_names=list(spec.network.outputs), opset_version=OPSET, dynamo=True, optimize=False, verbose=False,
        )  # fmt: skip
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        # Protobuf ends at 2 GiB, so ViT-H's bytes, which nobody will read, go to a file beside.
        beside = sum(tensor.nbytes for tensor in module.state_dict().values()) > 2**30
        program.save(path, external_data=beside)
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.name not in module.state_dict() and uses_external_data(tensor):
                load_external_data_for_tensor(tensor, folder)
    strip(model, set(module.state_dict()), prefix, partial=bool(spec.network.part))
    place(model, stem)
    return Exported(model, checkpoint, recipes)


def strip(model: onnx.ModelProto, parameters: set[str], prefix: str, *, partial: bool = False) -> None:
    """Turn the named initializers into external ones without bytes and drop everything that is not structure.

    Each parameter must be among them, unless the graph is `partial`.
    """
    graph = model.graph
    renamed = {}
    for tensor in graph.initializer:
        if tensor.name in parameters:
            renamed[tensor.name] = prefix + tensor.name
            tensor.name = prefix + tensor.name
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            del tensor.external_data[:]
    missing = {name for name in parameters - set(renamed) if not name.endswith(CANCELLED)}
    if missing and not partial:
        raise RuntimeError(f"the exporter renamed or folded these parameters: {sorted(missing)}")
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    del graph.value_info[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del model.functions[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "samlet", ""


def place(model: onnx.ModelProto, stem: str) -> None:
    """Fix where each external initializer lies in the packed file of its graph."""
    external = {t.name: t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    where = places({name: tuple(tensor.dims) for name, tensor in external.items()})
    for name, (offset, length) in where.items():
        tensor = external[name]
        if tensor.data_type != onnx.TensorProto.FLOAT:
            raise RuntimeError(
                f"the packed file holds float32 only, and {name} is of type {tensor.data_type}"
            )
        del tensor.external_data[:]
        for key, value in (("location", location_of(stem)), ("offset", str(offset)), ("length", str(length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def contract(exported: Exported) -> dict[str, Any]:
    """What a backend must know before it opens the graph: names of inputs, outputs and weights with shapes."""
    graph = exported.model.graph
    external = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    initializers = {t.name: list(t.dims) for t in sorted(external, key=lambda t: t.name)}
    recipes = {name: exported.recipes[name] for name in initializers if name in exported.recipes}
    read = set(initializers) - set(recipes) | {
        name for name in exported.checkpoint for recipe in recipes.values() if _reads(recipe, name)
    }
    unused = {name for name in exported.checkpoint if name not in read and not name.endswith(CANCELLED)}
    return {
        "inputs": [v.name for v in graph.input],
        "outputs": [v.name for v in graph.output],
        "initializers": initializers,
        "opset": OPSET,
        "checkpoint": exported.checkpoint,
        "unused": sorted(unused),
        "recipes": recipes,
    }


def _reads(recipe: Recipe, name: str) -> bool:
    if "from" in recipe:
        return bool(name == recipe["from"])
    return name.startswith((recipe["conv"] + ".", recipe["norm"] + ".")) and "num_batches" not in name


def to_text(described: dict[str, Any]) -> str:
    """Lay a contract out with one weight a line, so that a difference shows which weight it is about."""
    text = json.dumps(described, indent=1, sort_keys=True)
    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", text) + "\n"


def main() -> int:
    """Write or check the committed graphs."""
    parser = argparse.ArgumentParser(description="generate the committed weightless graphs")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("stems", nargs="*", help="only these graphs (default: all)")
    args = parser.parse_args()
    networks = {stem: builder_of(stem) for stem in args.stems or builders}
    differing = []
    for stem, network in networks.items():
        if network is None:
            parser.error(f"expected graphs of {', '.join(builders)}, got {stem}")
        exported = build(stem, spec_of(network))
        model = exported.model
        data = model.SerializeToString(deterministic=True)
        text = to_text(contract(exported))
        for path, content in ((GRAPHS / f"{stem}.onnx", data), (GRAPHS / f"{stem}.json", text.encode())):
            if args.check:
                if not path.exists() or path.read_bytes() != content:
                    differing.append(path.name)
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
        print(f"{stem}: {len(model.graph.node)} nodes, {len(data) / 1024:.0f} KiB")
    if differing:
        print(
            f"these committed graphs differ from fresh ones, run `make graphs`: {', '.join(differing)}",
            file=sys.stderr,
        )
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
