"""PyTorch: the reference. It runs the networks of `samlet.nets` themselves, not their exported graphs."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from samlet.backends.base import Array, Graph, GraphFile, check_names, one_line
from samlet.errors import BackendError, CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn


def _nano_encoder() -> "nn.Module":
    from samlet.nets.nano import NanoEncoder

    return NanoEncoder()


def _nano_decoder() -> "nn.Module":
    from samlet.nets.nano import NanoDecoder

    return NanoDecoder()


def _sam_decoder() -> "nn.Module":
    from samlet.nets.mask_decoder import SamDecoder

    return SamDecoder()


builders: "dict[str, Callable[[], nn.Module]]" = {
    "nano_encoder": _nano_encoder,
    "nano_decoder": _nano_decoder,
    "sam_decoder": _sam_decoder,
}
"""Graph name to the network it was exported from; the one place to extend for a new network."""


class TorchBackend:
    """Runs the networks in eager PyTorch, in float32 on the CPU or another device."""

    name = "torch"
    needs_files = True

    def __init__(self, *, device: str = "cpu") -> None:
        """Choose where to run.

        Args:
            device: PyTorch's name of the device.

        Raises:
            MissingExtraError: PyTorch is not installed.
        """
        _torch()
        self._device = device

    def open(
        self, role: str, graph: GraphFile, *, weights: Mapping[str, Array], threads: int | None = None
    ) -> Graph:
        """Build the network that the graph was exported from and load the weights; see `Backend.open`.

        PyTorch knows only one number of threads for the whole process, so `threads` changes it for everybody.
        """
        torch = _torch()
        if graph.name not in builders:
            raise BackendError(
                f"expected a graph with a network in samlet.nets ({', '.join(builders)}), got {graph.name}; "
                "use the onnx backend"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        module = builders[graph.name]()
        state = _state_for(module.state_dict(), role, graph.name, weights)
        module.load_state_dict(
            {key: torch.tensor(np.asarray(array)) for key, array in state.items()}, strict=False
        )
        return _TorchGraph(graph, module.eval().to(self._device), device=self._device)


class _TorchGraph:
    """One network in evaluation mode."""

    def __init__(self, graph: GraphFile, module: "nn.Module", *, device: str) -> None:
        self._name, self._module, self._device = graph.name, module, device
        self.inputs, self.outputs = graph.inputs, graph.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Call the network with the feeds as keywords, without gradients."""
        torch = _torch()
        check_names(self._name, self.inputs, feeds)
        try:
            with torch.inference_mode():
                tensors = {
                    key: torch.tensor(np.asarray(feeds[key]), device=self._device) for key in self.inputs
                }
                results = self._module(**tensors)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise BackendError(
                f"expected PyTorch to run {self._name}, but it failed ({one_line(error)}); "
                "check the shapes of the feeds"
            ) from error
        results = results if isinstance(results, tuple) else (results,)
        arrays = (result.cpu().numpy() for result in results)
        return dict(zip(self.outputs, arrays, strict=True))


def _state_for(
    own: Mapping[str, Any], role: str, name: str, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Pick a module's weights by name, with or without the role in front of it ("encoder.neck.deep.bias")."""
    state: dict[str, Array] = {}
    missing: list[str] = []
    for key, tensor in own.items():
        found = weights.get(key, weights.get(f"{role}.{key}"))
        if found is None and key.endswith("num_batches_tracked"):
            continue  # a training counter that inference does not read
        if found is None or tuple(found.shape) != tuple(tensor.shape):
            missing.append(key)
        else:
            state[key] = found
    if missing:
        used = {*state, *(f"{role}.{key}" for key in state)}
        unexpected = sorted(weights.keys() - used)
        raise CheckpointError(
            f"expected {len(own)} weights for {name}, missing or of another shape: {', '.join(missing[:5])} "
            f"({len(missing)}), unexpected: {', '.join(unexpected[:5]) or 'none'} ({len(unexpected)}); "
            "use the file that belongs to this model"
        )
    return state


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("this needs PyTorch; install it with pip install 'samlet[torch]'") from None
    return torch
