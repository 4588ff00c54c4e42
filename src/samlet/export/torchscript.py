"""`torchscript`: the networks as one file each that torch runs without samlet, from Python or C++."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from samlet.errors import InputError
from samlet.export import networks, onnx_files, proof
from samlet.export.job import Job, Made
from samlet.export.proof import Array


def make(job: Job) -> Made:
    """Write `NAME.encoder.torchscript` and `NAME.decoder.torchscript`, or `NAME.torchscript` for a detector.

    The canvas is the model's square; the decoder takes any number of prompts and points.

    Raises:
        MissingExtraError: PyTorch is not installed.
        InputError: An option was chosen: there are none.
        BackendError: The files do not answer as samlet does.
    """
    onnx_files.refuse_options(job, "torchscript")
    if job.options.precision not in (None, "float32"):
        raise InputError(
            f"expected float32 weights with torchscript, got {job.options.precision}; leave --weights out"
        )
    torch = networks.torch_module()
    files = []
    for role in networks.roles_of(job):
        name = f"{job.card.name}.{role}" if job.is_sam else job.card.name
        path = job.folder / f"{name}.torchscript"
        trace(job, role).save(str(path))
        files.append(path)
    runs = [_open(torch, path) for path in files]
    if not job.is_sam:
        return Made(tuple(files), onnx_files.prove_detector(job, runs[0]))
    square = replace(job.card, pad="square")
    return Made(tuple(files), proof.compare_own(job.card, *runs, canvas=square, exact=True))


def trace(job: Job, role: str) -> Any:
    """Trace one of a model's networks on its square canvas."""
    torch = networks.torch_module()
    net, example = networks.network(job, role), networks.examples(job, role)
    with torch.no_grad(), warnings.catch_warnings(), _grid_as_it_is():
        warnings.simplefilter(
            "ignore"
        )  # that tracing is old, and that sizes become constants, which they should
        return torch.jit.trace(net, example, check_trace=False)


@contextlib.contextmanager
def _grid_as_it_is() -> Iterator[None]:
    """Let the longer side of the grid be a constant: tracing hands sizes over as tensors, which sym_max refuses."""
    with mock.patch("torch.sym_max", lambda a, b: max(int(a), int(b))):
        yield


def _open(torch: Any, path: Path) -> proof.Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path))

    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        with torch.inference_mode():
            found = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()))
        return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]

    return run
