"""OpenVINO: the package's graphs with their packed weights, compiled for this CPU, the compiled form kept in the cache.

It opens the graph file that lies beside the packed weights (`samlet.packed`), so that the weights are mapped and not
copied. One compiled form serves pictures of any size: one for a fixed size is 2 % quicker and has to be made again for
each size.

Only networks that read pictures run here. Decoders and heads run on ONNX Runtime, which every install has: OpenVINO
2026.4 writes the sum of a convolution and a map of one picture into that map when the number of prompts is free, so
that several prompts get wrong masks, and no error says so.
"""

import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from samlet.backends.base import Array, Graph, GraphFile, TakesPacked, check_names, one_line
from samlet.errors import BackendError, MissingExtraError, ModelError

Precision = Literal["f32", "bf16", "f16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "f16", "int8")

_READ_PICTURES = ("encoder", "network")
CACHE = "openvino"
"""Folder of compiled forms, beside the packed weights."""
_KINDS = {"f32": np.dtype(np.float32), "i64": np.dtype(np.int64), "boolean": np.dtype(np.bool_)}


class OpenVinoBackend:
    """Runs graphs on OpenVINO."""

    name = "openvino"
    needs_files = True
    takes_packed: TakesPacked = "always"

    def __init__(self, *, device: str = "CPU", precision: Precision = "f32") -> None:
        """Choose where and how to run.

        Args:
            device: OpenVINO's name of the device, such as "CPU" or "GPU".
            precision: What encoders compute in: "f32", as every other backend does; "bf16" and "f16" where the
                processor has such instructions, else they are emulated or ignored; "int8" takes the encoder that
                `samlet quantize` made. Everything else computes in f32 whatever this says.

        Raises:
            MissingExtraError: OpenVINO is not installed.
            BackendError: The device or the precision is none.

        Example:
            >>> samlet.load("nano", backend=OpenVinoBackend(precision="bf16"))  # doctest: +SKIP
        """
        if precision not in PRECISIONS:
            raise BackendError(
                f"expected a precision ({', '.join(PRECISIONS)}), got {precision!r:.40}; name one of them"
            )
        self._core = _runtime().Core()
        if device.split(".")[0] not in self._core.available_devices:
            raise BackendError(
                f"expected a device that OpenVINO has ({', '.join(self._core.available_devices)}), got {device!r:.40}; "
                "name one of them"
            )
        self._device, self._precision = device, precision

    def open(
        self, role: str, graph: GraphFile, *, weights: Mapping[str, Array], threads: int | None = None
    ) -> Graph:
        """Read the graph beside its packed weights; see `Backend.open`. `weights` is not looked at.

        Roles other than "encoder" and "network" are opened on ONNX Runtime.

        Raises:
            BackendError: OpenVINO refuses the graph.
            ModelError: Nobody made the int8 form that was asked for.
        """
        if graph.packed is None:
            raise BackendError(
                f"expected packed weights for {graph.name}, got none; open the model with samlet.load or "
                "samlet.packed.pack_model"
            )
        if role not in _READ_PICTURES:
            from samlet.backends.onnx import OnnxBackend

            return OnnxBackend().open(role, graph, weights=weights, threads=threads)
        low = self._precision if role == "encoder" else "f32"
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "CACHE_DIR": str(graph.packed.parent / CACHE),
        }
        if self._device.startswith("CPU"):
            # Otherwise processors with bfloat16 use it without being asked, and answers differ from machine to machine.
            options["INFERENCE_PRECISION_HINT"] = "f32" if low == "int8" else low
            if threads is not None:
                options["INFERENCE_NUM_THREADS"] = threads
        path = quantized_path(graph) if low == "int8" else graph.packed.with_name(f"{graph.name}.onnx")
        if not path.is_file():
            raise ModelError(
                f"expected the int8 form of {graph.name} at {path}, but nobody made it yet; "
                "run samlet quantize MODEL --pictures FOLDER first"
            )
        return _OpenVinoGraph(graph, self._compiled(graph.name, path, options).create_infer_request())

    def _compiled(self, name: str, path: Path, options: dict[str, Any]) -> Any:
        """Compile; a second time without the compiled form in the cache, which may be damaged."""
        try:
            return self._core.compile_model(path, self._device, options)
        except RuntimeError:
            shutil.rmtree(options["CACHE_DIR"], ignore_errors=True)
        try:
            return self._core.compile_model(path, self._device, options)
        except RuntimeError as error:
            raise BackendError(
                f"expected OpenVINO to open the graph {name}, but it refused ({one_line(error)}); "
                "install samlet again or update openvino"
            ) from error


def from_options(options: Sequence[str]) -> OpenVinoBackend:
    """Make a backend from words: a precision, a device, both in any order, or nothing.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BackendError: There is no such device.
    """
    precision: Precision = next((known for known in PRECISIONS if known in options), "f32")
    devices = [option.upper() for option in options if option not in PRECISIONS]
    if len(devices) > 1 or len(options) > len(devices) + 1:
        raise BackendError(
            f"expected one precision ({', '.join(PRECISIONS)}) and one device for openvino, got "
            f"{', '.join(options):.80}; name one of each"
        )
    return OpenVinoBackend(device=devices[0] if devices else "CPU", precision=precision)


def quantized_path(graph: GraphFile) -> Path:
    """Say where the int8 form of a graph lies: in a folder of its own beside the packed weights.

    Raises:
        BackendError: The graph has no packed weights.
    """
    if graph.packed is None:
        raise BackendError(
            f"expected packed weights for {graph.name}, got none; use samlet.packed.pack_model"
        )
    return graph.packed.with_name(f"{graph.name}.int8") / f"{graph.name}.xml"


class _OpenVinoGraph:
    """One compiled network with the memory of one call."""

    def __init__(self, graph: GraphFile, request: Any) -> None:
        self._name, self._request = graph.name, request
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._ports = {port.get_any_name(): port for port in request.model_inputs}
        # A stream serves one call at a time anyway, and each request would hold activations of its own.
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Check the feeds, then run; threads take turns."""
        check_names(self._name, self.inputs, feeds)
        for name, port in self._ports.items():
            self._check(name, port, feeds[name])
        with self._lock:
            try:
                found = self._request.infer({name: np.ascontiguousarray(feeds[name]) for name in self._ports})
                # Copied, because the next call writes into the same memory.
                return {name: np.array(found[name]) for name in self.outputs}
            except RuntimeError as error:
                raise BackendError(
                    f"expected OpenVINO to run {self._name}, but it failed ({one_line(error)}); "
                    "free some memory or report this"
                ) from error

    def _check(self, name: str, port: Any, array: Array) -> None:
        kind, shape = _KINDS.get(port.get_element_type().get_type_name()), port.get_partial_shape()
        fixed = [side.get_length() if side.is_static else None for side in shape]
        fits = array.ndim == len(fixed) and all(
            side in (None, got) for side, got in zip(fixed, array.shape, strict=True)
        )
        if not fits or kind not in (None, array.dtype):
            sides = ", ".join("?" if side is None else str(side) for side in fixed)
            raise BackendError(
                f"expected {kind} of shape ({sides}) for the input {name} of {self._name}, got {array.dtype} of "
                f"shape {array.shape}; pass an array of that kind"
            )


def _runtime() -> Any:
    try:
        import openvino
    except ImportError:
        raise MissingExtraError(
            "this needs OpenVINO; install it with pip install 'samlet[openvino]'"
        ) from None
    return openvino
