"""ONNX Runtime: graphs from the package, weights mapped from a packed file or handed over in memory.

The graphs mark their initializers as external. Packed files (`samlet.packed`) are mapped, which spares a copy of all
weights and, on a second start, reading and folding the model's own file; where the cache cannot be written,
`SessionOptions.add_external_initializers` (onnxruntime 1.20) takes arrays. The `onnx` package is not needed.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from samlet.backends.base import Array, Graph, GraphFile, TakesPacked, check_names, one_line, select_weights
from samlet.errors import BackendError, MissingExtraError

_KINDS = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}
_FOLDER = "session.model_external_initializers_file_folder_path"
_REST = "session.force_spinning_stop"
"""A model is several sessions, each with threads of its own. Between nodes these had better spin, but the encoder's
went on while the decoder ran: with nano, a photo and a click took twice as long on two cores."""


class OnnxBackend:
    """Runs graphs on ONNX Runtime, on the CPU unless other providers are named."""

    name = "onnx"
    needs_files = True
    takes_packed: TakesPacked = "gladly"

    def __init__(self, *, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        """Choose where to run.

        Args:
            providers: ONNX Runtime's execution providers, the first that can do a node does it.
        """
        self._providers = list(providers)

    def open(
        self, role: str, graph: GraphFile, *, weights: Mapping[str, Array], threads: int | None = None
    ) -> Graph:
        """Bind weights to a graph; see `Backend.open`."""
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        options.add_session_config_entry(_REST, "1")
        _bound_memory(runtime, options)
        arrays = {} if graph.packed else select_weights(graph, weights)
        values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        try:
            if graph.packed:
                options.add_session_config_entry(_FOLDER, str(graph.packed.parent))
            else:
                options.add_external_initializers(list(arrays), values)
            session = runtime.InferenceSession(graph.onnx, options, providers=self._providers)
        except Exception as error:  # the runtime's exceptions share no base below Exception
            raise BackendError(
                f"expected ONNX Runtime to open the {role} graph {graph.name}, but it refused "
                f"({one_line(error)}); install samlet again or update onnxruntime"
            ) from error
        # OrtValues borrow numpy's memory and the session borrows theirs: both live as long as the graph.
        return _OnnxGraph(graph.name, session, keep=(arrays, values))


class _OnnxGraph:
    """One session with the weights it borrows."""

    def __init__(self, name: str, session: Any, *, keep: object) -> None:
        self._name, self._session, self._keep = name, session, keep
        self._expected = {entry.name: entry for entry in session.get_inputs()}
        self.inputs: tuple[str, ...] = tuple(self._expected)
        self.outputs: tuple[str, ...] = tuple(entry.name for entry in session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Check the feeds, then run; ONNX Runtime's own messages are for its developers."""
        check_names(self._name, self.inputs, feeds)
        for key, entry in self._expected.items():
            self._check(key, entry, feeds[key])
        try:
            results = self._session.run(list(self.outputs), dict(feeds))
        except Exception as error:  # the runtime's exceptions share no base below Exception
            raise BackendError(
                f"expected ONNX Runtime to run {self._name}, but it failed ({one_line(error)}); "
                "free some memory or report this"
            ) from error
        return dict(zip(self.outputs, results, strict=True))

    def _check(self, key: str, entry: Any, array: Array) -> None:
        kind = _KINDS.get(entry.type)
        fixed = [size if isinstance(size, int) else None for size in entry.shape]
        fits = array.ndim == len(fixed) and all(
            size in (None, got) for size, got in zip(fixed, array.shape, strict=True)
        )
        if not fits or (kind is not None and array.dtype != kind):
            shape = ", ".join(str(size) for size in entry.shape)
            raise BackendError(
                f"expected {kind or entry.type} of shape ({shape}) for the input {key} of {self._name}, "
                f"got {array.dtype} of shape {array.shape}; pass an array of that kind"
            )


def _bound_memory(runtime: Any, options: Any) -> None:
    """Let all graphs share one arena that grows by what is asked for, and plan no memory ahead.

    The plan lays all activations of a first run out at once, and arenas of their own double when they grow:
    MobileSAM's encoder took 540 MB that way, 385 without the plan, 315 with the shared arena, in the same time.
    """
    options.enable_mem_pattern = False
    if _shared_arena(runtime):
        options.add_session_config_entry("session.use_env_allocators", "1")


@cache
def _shared_arena(runtime: Any) -> bool:
    kinds = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    try:
        settings = runtime.OrtArenaCfg({"arena_extend_strategy": 1})  # 1: as requested
        runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", *kinds), settings)
    except Exception:  # the program around us registered one of its own, or this build has none: its choice
        return False
    return True


def _runtime() -> Any:
    """Import onnxruntime late: it takes a tenth of a second and tests on the fake do without."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(
            "this needs onnxruntime, which samlet depends on; install it with pip install samlet"
        ) from None
    return onnxruntime
