"""Generate the committed graphs from the networks: structure and names only, no weights.

    python -m samlet.export.graphs              # writes src/samlet/graphs/*.onnx and their .json contracts
    python -m samlet.export.graphs --check      # exit 1 if a committed graph differs from a fresh one

Each parameter becomes an initializer marked external, under its state-dict name, and without bytes; the backend
binds arrays to the names at load (docs/adr/0002). Nothing is folded or optimised here: that is the runtime's job,
once it has the weights.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.export import Dim

from samlet.nets.mask_decoder import SamDecoder
from samlet.nets.nano import NanoDecoder, NanoEncoder

GRAPHS = Path(__file__).parent.parent / "graphs"
OPSET = 20
# Exact algebra makes these cancel in the folded attention (nets/two_way.py), so no graph reads them.
CANCELLED = ("_token_to_image.k_proj.bias",)


@dataclass(frozen=True)
class GraphSpec:
    """How one graph is made: its module, example inputs, free axes and names."""

    module: Callable[[], nn.Module]
    prefix: str  # put before the module's own parameter names
    inputs: dict[str, tuple[int, ...]]
    axes: dict[str, dict[int, Any]]
    outputs: tuple[str, ...]


def _encoder_spec(module: Callable[[], nn.Module], multiple: int) -> GraphSpec:
    height, width = Dim("h", min=1, max=64), Dim("w", min=1, max=64)
    side = 5 * multiple
    return GraphSpec(
        module, "encoder.", {"image": (1, 3, side, side + multiple)},
        {"image": {2: multiple * height, 3: multiple * width}}, ("image_embeddings",),
    )  # fmt: skip


def _decoder_spec(module: Callable[[], nn.Module], prefix: str) -> GraphSpec:
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
    return GraphSpec(module, prefix, inputs, axes, ("iou_predictions", "low_res_masks"))


def specs() -> dict[str, GraphSpec]:
    """Every committed graph by file stem."""
    return {
        "nano_encoder": _encoder_spec(NanoEncoder, 32),
        "nano_decoder": _decoder_spec(NanoDecoder, "decoder."),
        "sam_decoder": _decoder_spec(SamDecoder, ""),
    }


def build(spec: GraphSpec) -> onnx.ModelProto:
    """Export one module and strip its weights."""
    torch.manual_seed(0)
    module = spec.module().eval()
    arguments = {name: torch.zeros(shape) for name, shape in spec.inputs.items()}
    axes = {name: spec.axes.get(name) for name in spec.inputs}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        program = torch.onnx.export(
            module, kwargs=arguments, dynamic_shapes=axes, input_names=list(spec.inputs),
            output_names=list(spec.outputs), opset_version=OPSET, dynamo=True, optimize=False, verbose=False,
        )  # fmt: skip
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        program.save(path, external_data=False)
        model = onnx.load(path)
    strip(model, set(module.state_dict()), spec.prefix)
    return model


def strip(model: onnx.ModelProto, parameters: set[str], prefix: str) -> None:
    """Turn the named initializers into external ones without bytes and drop everything that is not structure."""
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
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", "weights"
    missing = {name for name in parameters - set(renamed) if not name.endswith(CANCELLED)}
    if missing:
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


def contract(model: onnx.ModelProto) -> dict[str, Any]:
    """What a backend must know before it opens the graph: names of inputs, outputs and weights with shapes."""
    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    return {
        "inputs": [v.name for v in model.graph.input],
        "outputs": [v.name for v in model.graph.output],
        "initializers": {t.name: list(t.dims) for t in sorted(external, key=lambda t: t.name)},
        "opset": OPSET,
    }


def main() -> int:
    """Write or check the committed graphs."""
    parser = argparse.ArgumentParser(description="generate the committed weightless graphs")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    differing = []
    for stem, spec in specs().items():
        model = build(spec)
        data = model.SerializeToString(deterministic=True)
        text = json.dumps(contract(model), indent=1, sort_keys=True) + "\n"
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
