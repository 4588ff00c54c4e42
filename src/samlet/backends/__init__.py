"""Runtimes that execute a graph; they know names and arrays, and nothing of pictures or prompts."""

from samlet.backends.base import Backend
from samlet.errors import ModelError

NAMES = ("onnx", "torch")


def create(name: str) -> Backend:
    """Give the backend of that name, importing its runtime only now.

    Raises:
        ModelError: There is no such backend.
        MissingExtraError: Its runtime is not installed.

    Example:
        >>> create("onnx").name
        'onnx'
    """
    if name == "onnx":
        from samlet.backends.onnx import OnnxBackend

        return OnnxBackend()
    if name == "torch":
        from samlet.backends.torch import TorchBackend

        return TorchBackend()
    raise ModelError(f"expected a backend ({', '.join(NAMES)}), got {name!r:.80}; name one of them")
