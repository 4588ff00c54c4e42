"""`openvino`: OpenVINO's IR, in the same contract as `onnx`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samlet.errors import BackendError, InputError, MissingExtraError
from samlet.export import onnx_files, proof
from samlet.export.job import Job, Made
from samlet.export.proof import Array


def make(job: Job) -> Made:
    """Write what `onnx` would, each network as a pair of .xml and .bin.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        InputError: An option does not suit the model, or weights are to be stored as int8.
        BackendError: The files do not answer as samlet does.
    """
    openvino = _openvino()
    precision = job.options.precision or "float32"
    if precision == "int8":
        raise InputError(
            "expected --weights float32 or float16 with openvino, got int8; quantise the IR with nncf instead"
        )
    plain = replace(job, options=replace(job.options, precision="float32"))
    files: list[Path] = []
    networks = onnx_files.write_networks(plain)
    for path in networks:
        target = path.with_suffix(".xml")
        # float16 storage is OpenVINO's own, so that its compiler knows of it.
        openvino.save_model(openvino.convert_model(path), target, compress_to_fp16=precision == "float16")
        files += [target.with_suffix(".bin"), target]
    runs = [_open(openvino, path.with_suffix(".xml")) for path in networks]
    return Made(tuple(files), onnx_files.prove_networks(job, runs))


def _open(openvino: Any, path: Path) -> proof.Run:
    """Open a written IR on the CPU, in full precision: what is checked is the file."""
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = openvino.Core().compile_model(path, "CPU", hints)
    except RuntimeError as error:
        raise BackendError(
            f"expected OpenVINO to open the exported {path.name}, but it refused ({error!s:.200}); report this"
        ) from error

    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        results = model(dict(feeds))
        return [results[output] for output in model.outputs]

    return run


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise MissingExtraError(
            "this needs OpenVINO; install it with pip install 'samlet[onnx,openvino]'"
        ) from None
    return openvino
