"""The encoders that can be distilled into, each with what its training needs to know. A new one is one more entry."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from samlet.backends.torch import builders
from samlet.card import Card
from samlet.errors import CheckpointError, InputError
from samlet.nets.efficientnet_lite import EfficientNetLite0
from samlet.nets.tiny_vit import TinyViT
from samlet.train.forward import LITE_MEAN, LITE_STD
from samlet.train.optim import Scaled

SAM_MEAN, SAM_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Student:
    """One encoder.

    Attributes:
        name: What users type.
        graph: Its graph in the package, without ".onnx".
        stride: Canvas pixels to a cell of its embedding.
        mean: Subtracted from the picture, RGB.
        std: Divides it.
        imagenet: Takes ImageNet weights into the encoder; None if there is no such file for it.
        words: What it is, for people.
    """

    name: str
    graph: str
    stride: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    imagenet: Callable[[nn.Module, Mapping[str, Any]], None] | None
    words: str

    def build(self) -> nn.Module:
        """Make the encoder with fresh weights."""
        return builders[self.graph].build()

    def initialise(self, encoder: nn.Module, path: Path) -> None:
        """Take ImageNet weights from a file, read as data.

        Raises:
            InputError: There is no such initialisation for this student.
            CheckpointError: The file holds another network.
        """
        if self.imagenet is None:
            raise InputError(
                f"expected a student with ImageNet weights for --init ({', '.join(with_imagenet())}), got {self.name}; "
                "leave --init out"
            )
        from samlet import checkpoint, store

        _, data = store.describe(path)
        arrays = checkpoint.parse(data, origin=str(path)).arrays
        try:
            self.imagenet(encoder, {k: torch.tensor(a) for k, a in arrays.items()})
        except (ValueError, KeyError, StopIteration, RuntimeError) as error:
            raise CheckpointError(
                f"expected ImageNet weights for {self.name} in {path}, but {error!s:.200}; give another file"
            ) from None

    def card(self, teacher: Card, *, name: str, decoder_graph: str) -> Card:
        """The card of the finished student: its own preprocessing, the teacher's decoder and canvas."""
        side = teacher.side * self.stride // teacher.stride
        settings = dict(teacher.settings)
        if self.stride != teacher.stride:
            settings["decoder_stride"] = teacher.stride
        return Card(
            name=name,
            aliases=(),
            family="sam",
            title=f"{name}: {self.words}, distilled from {teacher.name}",
            licence="Apache-2.0",
            weights_licence=f"As the pictures and the teacher allow; {teacher.name}: {teacher.weights_licence}",
            paper=teacher.paper,
            files=(),
            graphs={"encoder": f"{self.graph}.onnx", "decoder": decoder_graph},
            side=side,
            pad=teacher.pad if teacher.pad == "square" else int(teacher.pad) * self.stride // teacher.stride,
            mean=self.mean,
            std=self.std,
            embedding_channels=256,
            mask_grid=4 * side // self.stride,
            zoom_below=teacher.zoom_below,
            zoom_margin=teacher.zoom_margin,
            zoom_clicks=teacher.zoom_clicks,
            quality={},
            notes="Measure it: samlet distill compare, samlet evaluate.",
            settings=settings,
        )


def _tiny_vit_imagenet(encoder: nn.Module, tensors: Mapping[str, Any]) -> None:
    """TinyViT's own releases ({"model": ...}); the neck and position tables of other windows start fresh."""
    own = encoder.state_dict()
    named = {k.removeprefix("model/"): v for k, v in tensors.items()}
    taken = {
        k: v for k, v in named.items() if k in own and v.shape == own[k].shape and not k.startswith("head")
    }
    if not any(k.startswith("layers.0.") for k in taken):
        raise ValueError("it holds no layers.0.* of this size")
    encoder.load_state_dict(taken, strict=False)


def _lite_imagenet(encoder: nn.Module, tensors: Mapping[str, Any]) -> None:
    cast("EfficientNetLite0", encoder.backbone).load_imagenet(tensors)


STUDENTS = {
    s.name: s
    for s in (
        *(
            Student(
                f"tiny_vit_{size}", f"tiny_vit_{size}_encoder", 16, SAM_MEAN, SAM_STD, _tiny_vit_imagenet,
                f"TinyViT-{size.upper()}",
            )
            for size in ("5m", "11m", "21m")
        ),
        Student("efficientvit_l0", "efficientvit_l0_encoder", 16, SAM_MEAN, SAM_STD, None, "EfficientViT-L0"),
        Student("lite0", "student_lite0_encoder", 16, LITE_MEAN, LITE_STD, _lite_imagenet, "EfficientNet-Lite0"),
        Student("plain_m", "student_plain_m_encoder", 16, SAM_MEAN, SAM_STD, None, "a plain, RepViT-like net"),
        Student("nano", "nano_encoder", 8, LITE_MEAN, LITE_STD, _lite_imagenet, "nano's encoder"),
        Student("nano_lite0", "student_nano_lite0_encoder", 8, LITE_MEAN, LITE_STD, _lite_imagenet, "small Lite0"),
        Student("nano_plain_s", "student_nano_plain_s_encoder", 8, LITE_MEAN, LITE_STD, None, "a small plain net"),
    )
}  # fmt: skip


def with_imagenet() -> list[str]:
    """Names of students that can start from an ImageNet file."""
    return [name for name, student in STUDENTS.items() if student.imagenet is not None]


def student_of(name: str) -> Student:
    """Find a student.

    Raises:
        InputError: There is none of that name.
    """
    if name not in STUDENTS:
        raise InputError(f"expected a student ({', '.join(STUDENTS)}), got {name!r:.60}; name one of them")
    return STUDENTS[name]


def freeze(encoder: nn.Module, what: str) -> None:
    """Freeze a part of an encoder.

    Args:
        encoder: The student.
        what: "none"; "early", the stem and first stages of a Lite0 (generic edges and colours, at the largest sizes);
            or "backbone", so that the neck alone learns.

    Raises:
        InputError: The encoder has no such part.
    """
    backbone = getattr(encoder, "backbone", None)
    if what == "none":
        return
    if what == "backbone" and isinstance(backbone, nn.Module):
        backbone.requires_grad_(False)
    elif what == "early" and isinstance(backbone, EfficientNetLite0):
        for part in (backbone.stem, backbone.stages[0], backbone.stages[1]):
            part.requires_grad_(False)
    else:
        raise InputError(
            f"expected to freeze a part of {type(encoder).__name__}, got {what!r:.20}, which it has not; "
            "freeze none of it"
        )


def layer_shares(encoder: nn.Module, decay: float) -> Iterator[Scaled]:
    """Each parameter of an encoder with its share of the learning rate.

    For TinyViT, as its authors define it: block i of n has decay^(n - 1 - i), the patch embedding the first block's
    share, a merging its stage's last block's; what is new here, the neck, learns at the full rate. For other backbones
    the stages count as blocks.
    """
    if decay == 1:
        yield from ((name, p, 1.0) for name, p in encoder.named_parameters())
        return
    shares = (
        _tiny_vit_shares(encoder, decay) if isinstance(encoder, TinyViT) else _stage_shares(encoder, decay)
    )
    for name, parameter in encoder.named_parameters():
        yield name, parameter, shares.get(name, 1.0)


def _tiny_vit_shares(encoder: TinyViT, decay: float) -> dict[str, float]:
    depth = sum(len(cast(nn.ModuleList, stage.blocks)) for stage in encoder.layers)
    shares = dict.fromkeys(_names(encoder.patch_embed, "patch_embed"), decay ** (depth - 1))
    block = 0
    for i, stage in enumerate(encoder.layers):
        for j, module in enumerate(cast(nn.ModuleList, stage.blocks)):
            shares |= dict.fromkeys(_names(module, f"layers.{i}.blocks.{j}"), decay ** (depth - 1 - block))
            block += 1
        if stage.downsample is not None:
            merging = cast(nn.Module, stage.downsample)
            shares |= dict.fromkeys(_names(merging, f"layers.{i}.downsample"), decay ** (depth - block))
    return shares


def _stage_shares(encoder: nn.Module, decay: float) -> dict[str, float]:
    backbone = getattr(encoder, "backbone", None)
    stages = getattr(backbone, "stages", None)
    if backbone is None or stages is None:
        return {}
    depth = len(stages) + 1
    rest = {name: decay ** (depth - 1) for name in _names(backbone, "backbone")}
    numbered = (
        {name: decay ** (depth - 2 - i) for name in _names(stage, f"backbone.stages.{i}")}
        for i, stage in enumerate(stages)
    )
    return rest | dict(chain.from_iterable(each.items() for each in numbered))


def _names(module: nn.Module, prefix: str) -> list[str]:
    return [f"{prefix}.{name}" for name, _ in module.named_parameters()]


def normalised(pixels: Tensor, inside: Tensor, student: Student) -> Tensor:
    """(B, H, W, 3) RGB uint8 and (B, H, W), False on padding -> (B, 3, H, W), zero on padding."""
    mean, std = (
        pixels.new_tensor(student.mean, dtype=torch.float32),
        pixels.new_tensor(student.std, dtype=torch.float32),
    )
    x = (pixels.float() - mean) / std * inside.unsqueeze(-1)
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
