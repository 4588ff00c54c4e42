"""PyTorch: the reference. It runs the networks of `samlet.nets` themselves, not their exported graphs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from samlet.backends.base import Array, Graph, GraphFile, check_names, one_line
from samlet.errors import BackendError, CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn


Precision = Literal["f32", "f16", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("f32", "f16", "bf16")
_TYPES = {"f16": "float16", "bf16": "bfloat16"}


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
        part: "image" or "prompts" for a half of a decoder, which reads some of the network's weights.
    """

    module: str
    prefix: str
    outputs: tuple[str, ...]
    multiple: int
    most: int = 2048
    arguments: Mapping[str, Any] = field(default_factory=dict)
    prompts: bool = True
    part: Literal["", "image", "prompts"] = ""

    def build(self) -> "nn.Module":
        """Make the network with weights that are not yet those of any file."""
        import torch

        room, name = self.module.split(":")
        with torch.random.fork_rng(
            devices=[]
        ):  # a seed means the same whether or not the room was in use before
            found = import_module(f"samlet.nets.{room}")
        module: nn.Module = getattr(found, name)(**self.arguments)
        return module


_EMBEDDING = ("image_embeddings",)
_MASKS = ("iou_predictions", "low_res_masks")
_SHARED = ("image", "positions", "keys", "values", "queries")


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
    "sam_decoder_image": Builder("mask_decoder:SamDecoderImage", "", _SHARED, 0, part="image"),
    "sam_decoder_prompts": Builder("mask_decoder:SamDecoderPrompts", "", _MASKS, 0, part="prompts"),
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
    "nano_all": Builder("nano_all:NanoAll", "", ("candidates", "protos"), 32),
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
    """Runs the networks in PyTorch, on the CPU or another device; with the defaults it is the reference."""

    name = "torch"
    needs_files = True

    def __init__(self, *, device: str = "cpu", precision: Precision = "f32", compiled: bool = False) -> None:
        """Choose where and how to run.

        Args:
            device: PyTorch's name of the device.
            precision: "f32"; or "f16" or "bf16" for products and convolutions, with norms, softmax and positions in
                float32. Embeddings and masks are float32 always.
            compiled: Whether to let `torch.compile` make kernels for each size of input; the first call for a size
                takes from seconds to minutes, later ones are faster.

        Raises:
            MissingExtraError: PyTorch is not installed.
            BackendError: There is no such device or precision.
        """
        torch = _torch()
        if precision not in PRECISIONS:
            raise BackendError(
                f"expected a precision ({', '.join(PRECISIONS)}), got {precision!r:.40}; name one of them"
            )
        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise BackendError(
                f"expected a device that PyTorch has here, got {device!r:.40} ({one_line(error)}); use cpu"
            ) from None
        self._precision, self._compiled = precision, compiled

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
        module = module.eval().to(self._device)
        if builder.multiple:  # convolutions on pictures run fastest with the channels last
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        low = None if self._precision == "f32" else getattr(torch, _TYPES[self._precision])
        if low is not None:
            _lower(module, low)
        run = torch.compile(module) if self._compiled else module
        return _TorchGraph(graph, run, device=self._device, low=low)


def _lower(module: "nn.Module", low: Any) -> None:
    """Keep weights of products and convolutions in the low precision, or each call would convert them again.

    Tables, norms and everything else stay in float32: they are small, and sums over them are not. So do depth-wise
    convolutions, which networks here compute in float32 even under autocast (docs/explanation/speed.md).
    """
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.groups == 1):
            part.to(low)


class _TorchGraph:
    """One network in evaluation mode."""

    any_batch = True

    def __init__(self, graph: GraphFile, module: Any, *, device: Any, low: Any) -> None:
        self._name, self._module, self._device, self._low = graph.name, module, device, low
        self.inputs, self.outputs = graph.inputs, graph.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Call the network with the feeds as keywords, without gradients."""
        torch = _torch()
        check_names(self._name, self.inputs, feeds)
        low = torch.autocast(self._device.type, self._low, enabled=self._low is not None)
        try:
            with torch.inference_mode(), low:
                tensors = {key: self._tensor(feeds[key]) for key in self.inputs}
                results = self._module(**tensors)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise BackendError(
                f"expected PyTorch to run {self._name}, but it failed ({one_line(error)}); "
                "check the shapes of the feeds"
            ) from error
        results = results if isinstance(results, tuple) else (results,)
        arrays = [self._array(result) for result in results]
        if self._low is not None and not all(np.isfinite(array).all() for array in arrays):
            raise BackendError(
                f"expected finite numbers from {self._name}, but it left the range of {self._low}; "
                "use bf16 or f32 for this model"
            )
        return dict(zip(self.outputs, arrays, strict=True))

    def _tensor(self, array: Array) -> Any:
        torch = _torch()
        tensor = torch.tensor(np.asarray(array), device=self._device)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _array(self, tensor: Any) -> Array:
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        array: Array = tensor.contiguous().cpu().numpy()
        return array


def from_options(options: Sequence[str]) -> TorchBackend:
    """Make a backend from words in any order: a device, a precision, "compile", or nothing.

    Raises:
        BackendError: There are several devices or precisions, or there is no such device.
        MissingExtraError: PyTorch is not installed.
    """
    precisions = [option for option in PRECISIONS if option in options]
    devices = [option for option in options if option not in (*PRECISIONS, "compile")]
    if len(devices) > 1 or len(precisions) > 1:
        raise BackendError(
            f"expected one device, one precision ({', '.join(PRECISIONS)}) and compile for torch, got "
            f"{', '.join(options):.80}; name one of each"
        )
    return TorchBackend(
        device=devices[0] if devices else "cpu",
        precision=precisions[0] if precisions else "f32",
        compiled="compile" in options,
    )


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
