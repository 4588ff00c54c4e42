"""One half of a CLIP as an ONNX file from outside, opened from memory after it has been checked."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.backends.base import one_line
from samlet.errors import BackendError, CheckpointError, MissingExtraError
from samlet.text.guard import check_self_contained

_OUTPUTS = ("image_embeds", "text_embeds")  # what exporters of CLIP call the projected embedding
_KINDS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
}


class Tower:
    """An image or text tower: arrays in, embeddings out; safe from many threads.

    Attributes:
        shapes: Shape of each input by name; None for a size that is free.
    """

    def __init__(self, onnx: bytes, origin: str, *, threads: int | None = None) -> None:
        """Check and open a graph.

        Args:
            onnx: The whole ONNX file.
            origin: Its name, for messages.
            threads: Threads for one run; None lets the runtime decide.

        Raises:
            CheckpointError: The file refers to other files, is damaged, or gives no embedding.
            BackendError: ONNX Runtime refuses it.
        """
        check_self_contained(onnx, origin=origin)
        self._origin = origin
        self._session = _open(onnx, origin, threads)
        entries = self._session.get_inputs()
        self.shapes: dict[str, tuple[int | None, ...]] = {
            entry.name: tuple(size if isinstance(size, int) else None for size in entry.shape)
            for entry in entries
        }
        self._kinds = {entry.name: _KINDS.get(entry.type) for entry in entries}
        self._output = self._choose_output()
        # A batch size that is fixed at export is met by running one at a time.
        self._single = any(shape[:1] == (1,) for shape in self.shapes.values())

    def only(self, rank: int, *, usual: str) -> str:
        """Name the input that takes the pictures or tokens.

        Args:
            rank: How many axes it has.
            usual: The name that it has in most files.

        Raises:
            CheckpointError: There is none.
        """
        fitting = [name for name, shape in self.shapes.items() if len(shape) == rank]
        if usual in fitting:
            return usual
        if len(fitting) == 1:
            return fitting[0]
        raise CheckpointError(
            f"expected an input {usual!r} with {rank} axes in {self._origin}, found "
            f"{', '.join(self.shapes) or 'none'}; give the matching half of a CLIP"
        )

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Embed N pictures or texts.

        Args:
            feeds: One array with N rows for each input.

        Returns:
            (N, D).

        Raises:
            BackendError: The runtime failed, or gave something else.
        """
        count = len(next(iter(feeds.values())))
        size = 1 if self._single else max(count, 1)
        typed = {name: np.asarray(array, self._kinds[name]) for name, array in feeds.items()}
        parts = [
            self._run({name: array[start : start + size] for name, array in typed.items()})
            for start in range(0, count, size)
        ]
        found = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
            raise BackendError(
                f"expected {count} finite embeddings from {self._origin}, got an array of shape {found.shape} or "
                "numbers that are not finite; give another export of the model"
            )
        return found

    def _run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            (found,) = self._session.run([self._output], feeds)
        except Exception as error:  # the runtime's exceptions share no base below Exception
            raise BackendError(
                f"expected ONNX Runtime to run {self._origin}, but it failed ({one_line(error)}); give the matching "
                "half of a CLIP, or free some memory"
            ) from error
        return np.asarray(found, np.float32)

    def _choose_output(self) -> str:
        outputs = {entry.name: entry.shape for entry in self._session.get_outputs()}
        named = [name for name in _OUTPUTS if name in outputs]
        flat = named or [name for name, shape in outputs.items() if len(shape) == 2]
        if len(flat) != 1:
            raise CheckpointError(
                f"expected one output with an embedding ({' or '.join(_OUTPUTS)}) in {self._origin}, found "
                f"{', '.join(outputs)}; export the towers with their projections"
            )
        return flat[0]


def _open(onnx: bytes, origin: str, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(
            "this needs onnxruntime, which samlet depends on; install it with pip install samlet"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Bytes that look like the runtime's own format would be read by a reader that was not asked for.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base below Exception
        raise BackendError(
            f"expected ONNX Runtime to open {origin}, but it refused ({one_line(error)}); export it again, or update "
            "onnxruntime"
        ) from error
