"""PyTorch: the reference. It runs the networks of `samlet.nets` themselves, not their exported graphs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from samlet.backends.base import Array, Graph, GraphFile, check_names, one_line
from samlet.errors import BackendError, CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Builder:
    """How to build the network that a graph was exported from, and how it was exported.

    Attributes:
        module: Module of `samlet.nets` and class in it, as "module:Class".
        prefix: What stands before the network's own names in a file.
        outputs: Names of what its forward gives, in order.
        multiple: What the sides of the picture are multiples of, in pixels; 0 for a network that takes an
            embedding instead.
        most: Longest side of the picture, in pixels.
        arguments: Keywords for the constructor.
        prompts: Whether a network that takes an embedding takes prompts too, as a mask decoder does.
    """

    module: str
    prefix: str
    outputs: tuple[str, ...]
    multiple: int
    most: int = 2048
    arguments: Mapping[str, Any] = field(default_factory=dict)
    prompts: bool = True

    def build(self) -> "nn.Module":
        """Make the network with weights that are not yet those of any file."""
        room, name = self.module.split(":")
        module: nn.Module = getattr(import_module(f"samlet.nets.{room}"), name)(**self.arguments)
        return module


_EMBEDDING = ("image_embeddings",)
_MASKS = ("iou_predictions", "low_res_masks")


def _encoder(module: str, size: str, multiple: int) -> Builder:
    # SAM's positions end at 1,024 pixels.
    return Builder(module, "image_encoder.", _EMBEDDING, multiple, most=1024, arguments={"size": size})


def _student(network: str, backbone: str) -> Builder:
    prefix, most = ("encoder.", 2048) if network == "NanoStudent" else ("image_encoder.", 1024)
    arguments = {"backbone": backbone}
    return Builder(f"students:{network}", prefix, _EMBEDDING, 32, most=most, arguments=arguments)


def _yolo(size: str, reg_max: int, *, protos: bool) -> Builder:
    outputs = ("candidates", "protos") if protos else ("candidates",)
    arguments = {"size": size, "reg_max": reg_max, "protos": protos}
    return Builder("yolo_seg:YoloSeg", "", outputs, 32, arguments=arguments)


builders: dict[str, Builder] = {
    "nano_encoder": Builder("nano:NanoEncoder", "encoder.", _EMBEDDING, 32),
    "nano_decoder": Builder("nano:NanoDecoder", "decoder.", _MASKS, 0),
    "nano_objects": Builder("objects:ObjectHead", "objects.", ("boxes", "scores"), 0, prompts=False),
    "sam_decoder": Builder("mask_decoder:SamDecoder", "", _MASKS, 0),
    "tiny_vit_5m_encoder": _encoder("tiny_vit:TinyViT", "5m", 16),
    "tiny_vit_11m_encoder": _encoder("tiny_vit:TinyViT", "11m", 16),
    "tiny_vit_21m_encoder": _encoder("tiny_vit:TinyViT", "21m", 16),
    "vit_b_encoder": _encoder("vit:SamViT", "b", 16),
    "vit_l_encoder": _encoder("vit:SamViT", "l", 16),
    "vit_h_encoder": _encoder("vit:SamViT", "h", 16),
    "efficientvit_l0_encoder": _encoder("efficientvit:EfficientViTSam", "l0", 64),
    "efficientvit_l1_encoder": _encoder("efficientvit:EfficientViTSam", "l1", 64),
    "efficientvit_l2_encoder": _encoder("efficientvit:EfficientViTSam", "l2", 64),
    "student_lite0_encoder": _student("SamStudent", "lite0"),
    "student_plain_m_encoder": _student("SamStudent", "plain_m"),
    "student_nano_lite0_encoder": _student("NanoStudent", "lite0"),
    "student_nano_plain_s_encoder": _student("NanoStudent", "plain_s"),
    "yolo_seg_s_rm16": _yolo("s", 16, protos=True),
    "yolo_seg_x_rm26": _yolo("x", 26, protos=True),
    "object_aware_x_rm26": _yolo("x", 26, protos=False),
}
"""Graph name to the network it was exported from; the one place to extend for a new network."""

_ANY_BINS = re.compile(r"(yolo_seg|object_aware)_([sx])_rm([1-9]\d?)")


def builder_of(name: str) -> Builder | None:
    """Find the network behind a graph's name; a detector's box bins may be any number ("yolo_seg_s_rm20")."""
    if (detector := _ANY_BINS.fullmatch(name)) and name not in builders:
        return _yolo(detector[2], int(detector[3]), protos=detector[1] == "yolo_seg")
    return builders.get(name)


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
        builder = builder_of(graph.name)
        if builder is None:
            raise BackendError(
                f"expected a graph with a network in samlet.nets ({', '.join(builders)}), got {graph.name}; "
                "use the onnx backend"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        module = builder.build()
        state = _state_for(module.state_dict(), builder.prefix, graph, weights)
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


def from_options(options: Sequence[str]) -> TorchBackend:
    """Make a backend from words: a device, or nothing.

    Raises:
        BackendError: There is more than one word.
        MissingExtraError: PyTorch is not installed.
    """
    if len(options) > 1:
        raise BackendError(f"expected one device for torch, got {', '.join(options):.80}; name one")
    return TorchBackend(device=options[0] if options else "cpu")


def _state_for(
    own: Mapping[str, Any], prefix: str, graph: GraphFile, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Pick a module's weights by their names in the file ("image_encoder.neck.0.weight")."""
    state: dict[str, Array] = {}
    missing: list[str] = []
    for key, tensor in own.items():
        found = weights.get(prefix + key)
        if found is None and (prefix + key in graph.unused or key.endswith("num_batches_tracked")):
            continue  # weights that no answer depends on
        if found is None or tuple(found.shape) != tuple(tensor.shape):
            missing.append(prefix + key)
        else:
            state[key] = found
    if missing:
        unexpected = sorted(weights.keys() - {prefix + key for key in own})
        raise CheckpointError(
            f"expected {len(own)} weights for {graph.name}, missing or of another shape: "
            f"{', '.join(missing[:5])} ({len(missing)}), unexpected: {', '.join(unexpected[:5]) or 'none'} "
            f"({len(unexpected)}); use the file that belongs to this model"
        )
    return state


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("this needs PyTorch; install it with pip install 'samlet[torch]'") from None
    return torch
