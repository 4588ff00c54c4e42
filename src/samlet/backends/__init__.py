"""Runtimes that execute a graph; they know names and arrays, and nothing of pictures or prompts."""

from samlet.backends.base import Backend
from samlet.errors import ModelError

NAMES = ("onnx", "openvino", "torch")


def create(name: str) -> Backend:
    """Give the backend of that name, importing its runtime only now.

    Args:
        name: "onnx"; "openvino" or "openvino:bf16", with what encoders compute in (f32, bf16, f16, int8); "torch" or
            "torch:cuda,bf16,compile", with the device, what to compute in, and whether to compile.

    Raises:
        ModelError: There is no such backend, or it has no such option.
        BackendError: The runtime has no such device.
        MissingExtraError: Its runtime is not installed.

    Example:
        >>> create("onnx").name
        'onnx'
    """
    kind, _, rest = name.partition(":")
    options = [option.strip().lower() for option in rest.split(",") if option.strip()]
    if kind == "onnx" and not options:
        from samlet.backends.onnx import OnnxBackend

        return OnnxBackend()
    if kind == "openvino":
        from samlet.backends.openvino import from_options as openvino_backend

        return openvino_backend(options)
    if kind == "torch":
        from samlet.backends.torch import from_options as torch_backend

        return torch_backend(options)
    raise ModelError(f"expected a backend ({', '.join(NAMES)}), got {name!r:.80}; name one of them")
