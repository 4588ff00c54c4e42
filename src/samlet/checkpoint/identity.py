"""Which network a set of weights belongs to, by its contents."""

from collections.abc import Mapping
from typing import NamedTuple

from samlet.checkpoint.elements import Array
from samlet.checkpoint.names import DECODER

_TINY_VIT: dict[tuple[int, ...], str] = {
    (64, 128, 160, 320): "tiny_vit_5m",
    (64, 128, 256, 448): "tiny_vit_11m",
    (96, 192, 384, 576): "tiny_vit_21m",
}
_VIT = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_EFFICIENTVIT = {4: "efficientvit_l0", 8: "efficientvit_l1", 12: "efficientvit_l2"}
_YOLO = {32: "yolo_seg_s", 80: "yolo_seg_x"}
_NECK = "image_encoder.neck.middle.op_list."
_HEAD = "model.22."


class Identity(NamedTuple):
    """What a set of weights is.

    Attributes:
        architecture: Name of the encoder or detector, for instance "tiny_vit_5m"; None if it is none that is known.
        decoder: Whether SAM's mask decoder is among the weights.
        reg_max: Bins of each box side, of a detector; None for everything else.
    """

    architecture: str | None
    decoder: bool
    reg_max: int | None


def identify(arrays: Mapping[str, Array]) -> Identity:
    """Say which network the arrays belong to, by marker weights and their shapes.

    Args:
        arrays: With canonical names.

    Example:
        >>> import numpy as np
        >>> identify({"image_encoder.pos_embed": np.zeros((1, 64, 64, 768), np.float32)}).architecture
        'vit_b'
    """
    decoder = any(name.startswith(DECODER) for name in arrays)
    for mark, classify in _MARKS.items():
        if mark in arrays:
            architecture = classify(arrays)
            is_detector = mark.startswith("model.")
            return Identity(architecture, decoder, _reg_max(arrays) if is_detector else None)
    return Identity(None, decoder, None)


def _tiny_vit(arrays: Mapping[str, Array]) -> str | None:
    widths = ["image_encoder.patch_embed.seq.2.c.weight"]
    widths += [f"image_encoder.layers.{stage}.downsample.conv1.c.weight" for stage in range(3)]
    return _TINY_VIT.get(tuple(_side(arrays, name, 0) for name in widths))


def _vit(arrays: Mapping[str, Array]) -> str | None:
    return _VIT.get(_side(arrays, "image_encoder.pos_embed", -1))


def _efficientvit(arrays: Mapping[str, Array]) -> str | None:
    numbers = {name.removeprefix(_NECK).split(".")[0] for name in arrays if name.startswith(_NECK)}
    return _EFFICIENTVIT.get(len(numbers))


def _yolo(arrays: Mapping[str, Array]) -> str | None:
    name = _YOLO.get(_side(arrays, "model.0.conv.weight", 0))
    if any(key.startswith(f"{_HEAD}proto.") for key in arrays):
        return name
    return "object_aware_x" if name == "yolo_seg_x" else None


def _reg_max(arrays: Mapping[str, Array]) -> int | None:
    """Read the bins off the head; None if its parts contradict each other."""
    found = {_side(arrays, f"{_HEAD}cv2.{level}.2.weight", 0) for level in range(3)}
    found |= {4 * _side(arrays, f"{_HEAD}dfl.conv.weight", 1)}
    sides = found.pop()
    return sides // 4 if not found and sides > 0 and sides % 4 == 0 else None


def _side(arrays: Mapping[str, Array], name: str, axis: int) -> int:
    """Give one size of an array, 0 if there is no such array or axis."""
    shape = arrays[name].shape if name in arrays else ()
    return shape[axis] if -len(shape) <= axis < len(shape) else 0


_MARKS = {
    "image_encoder.patch_embed.seq.0.c.weight": _tiny_vit,
    "image_encoder.pos_embed": _vit,
    "image_encoder.backbone.stages.0.op_list.0.conv.weight": _efficientvit,
    "model.22.dfl.conv.weight": _yolo,
}
