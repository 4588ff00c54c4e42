"""`coreml`, `executorch` and `litert`: files for phones and small devices, made by their own converters.

They have fixed sizes, which these runtimes want: the model's square canvas, one prompt of two points (a box, or a click
and its padding), four masks of low-res logits. docs/how-to/export.md says which of them were tried with what.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samlet.errors import BackendError, InputError, MissingExtraError
from samlet.export import networks, onnx_files, proof, torchscript
from samlet.export.job import Job, Made
from samlet.export.proof import Array

if TYPE_CHECKING:
    from torch import Tensor

_INPUTS = {
    "encoder": ("image",),
    "decoder": ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input"),
}
_OUTPUTS = {"encoder": ("image_embeddings",), "decoder": ("iou_predictions", "low_res_masks")}


@dataclass(frozen=True, slots=True)
class Converter:
    """How one runtime's files are made and opened.

    Attributes:
        convert: Writes a network to a path.
        open: Runs what was written; None if only other computers can.
        ending: Of the main file.
        install: What brings the converter.
    """

    convert: Callable[[Job, str, Path], None]
    open: Callable[[Path, str], proof.Run] | None
    ending: str
    install: str


def make(job: Job, runtime: str) -> Made:
    """Write `NAME.encoder.*` and `NAME.decoder.*` for a runtime.

    Args:
        job: The export.
        runtime: A key of `CONVERTERS`.

    Raises:
        MissingExtraError: PyTorch or the runtime's converter is not installed.
        InputError: The model takes no prompts, or an option was chosen: there are none.
        BackendError: The converter fails, or the files do not answer as samlet does.
    """
    if not job.is_sam:
        raise InputError(
            f"expected a model that takes clicks and boxes for {runtime}, got {job.card.name}; export it as onnx"
        )
    onnx_files.refuse_options(job, runtime)
    if job.options.precision not in (None, "float32"):
        raise InputError(
            f"expected float32 weights with {runtime}, got {job.options.precision}; leave --weights out"
        )
    way = CONVERTERS[runtime]
    networks.torch_module()
    files, runs = [], []
    for role in ("encoder", "decoder"):
        path = job.folder / f"{job.card.name}.{role}{way.ending}"
        try:
            way.convert(job, role, path)
        except ImportError as error:
            raise MissingExtraError(
                f"this needs {error.name or runtime}; install it with pip install {way.install}, in an environment "
                "of its own"
            ) from None
        except Exception as error:  # converters raise whatever they like
            raise BackendError(
                f"expected {runtime}'s converter to take the {role} of {job.card.name}, but it failed "
                f"({str(error).strip().splitlines()[-1]:.200}); export it as onnx"
            ) from error
        files += sorted(job.folder.glob(f"{job.card.name}.{role}.*"), key=lambda each: each == path)
        if way.open is not None:
            runs.append(way.open(path, role))
    if len(runs) < 2:
        return Made(tuple(files), None)
    canvas = replace(job.card, pad="square")
    found = proof.compare_own(job.card, *runs, canvas=canvas, exact=True, tokens=networks.POINTS)
    return Made(tuple(files), found)


def _to_coreml(job: Job, role: str, path: Path) -> None:
    tools = import_module("coremltools")
    traced, example = torchscript.trace(job, role), networks.examples(job, role)
    # An output may not be called as an input of the same network; the encoder's is free.
    inputs = [tools.TensorType(name, each.shape) for name, each in zip(_INPUTS[role], example, strict=True)]
    model = tools.convert(
        traced,
        inputs=inputs,
        outputs=[tools.TensorType(name) for name in _OUTPUTS[role]],
        convert_to="mlprogram",
        compute_precision=tools.precision.FLOAT32,
        minimum_deployment_target=tools.target.iOS16,
    )
    model.save(str(path))


def _to_executorch(job: Job, role: str, path: Path) -> None:
    torch = networks.torch_module()
    exir = import_module("executorch.exir")
    xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    program = torch.export.export(networks.network(job, role), networks.examples(job, role))
    edge = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)


def _open_executorch(path: Path, role: str) -> proof.Run:
    runtime = import_module("executorch.runtime").Runtime.get()
    method = runtime.load_program(path).load_method("forward")
    return lambda feeds: [found.numpy() for found in method.execute(_tensors(feeds))]


def _to_litert(job: Job, role: str, path: Path) -> None:
    converted = import_module("litert_torch").convert(
        networks.network(job, role), networks.examples(job, role)
    )
    converted.export(str(path))


def _open_litert(path: Path, role: str) -> proof.Run:
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(path))
    signature = interpreter.get_signature_runner()

    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        numbered = {f"args_{i}": np.ascontiguousarray(array) for i, array in enumerate(feeds.values())}
        found = signature(**numbered)
        return [found[f"output_{i}"] for i in range(len(found))]

    return run


def _tensors(feeds: Mapping[str, Array]) -> "list[Tensor]":
    torch = networks.torch_module()
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()]


CONVERTERS: Mapping[str, Converter] = {
    "coreml": Converter(_to_coreml, None, ".mlpackage", "'samlet[coreml]'"),
    "executorch": Converter(_to_executorch, _open_executorch, ".pte", "'samlet[torch]' executorch"),
    "litert": Converter(_to_litert, _open_litert, ".tflite", "'samlet[torch]' litert-torch ai-edge-litert"),
}
"""Runtime to its converter."""
