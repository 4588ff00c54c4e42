"""What a run leaves for use: a model with its card, and a file in MobileSAM's layout where the network is SAM's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samlet import checkpoint, registry
from samlet.atomic import atomic_write
from samlet.card import Card
from samlet.errors import CheckpointError, InputError
from samlet.nets.nano_all import NanoAll
from samlet.nets.yolo_seg import YoloSeg
from samlet.train.forward import LITE_MEAN, LITE_STD
from samlet.train.promptable import Promptable, is_sam, parts_of, weights_of
from samlet.train.students import Student

ALL_INSTANCE = "mine-all"  # what a finished network of samlet.train.recipes.all_instance is called
ALL_INSTANCE_SETTINGS: dict[str, float | bool | str] = {
    "conf": 0.05, "iou": 0.7, "max_det": 100, "border_snap": 0, "antialias": True, "registration": "exact",
}  # fmt: skip


def write_student(network: Promptable, student: Student, teacher: Card, out: Path, *, name: str) -> Path:
    """Write `student.safetensors`, and `student.pt` with SAM's decoder; see `write_model`."""
    card = student.card(teacher, name=name, decoder_graph=teacher.graphs["decoder"])
    return write_model(network, card, out / "student.safetensors")


def write_model(
    network: Promptable, card: Card, path: Path, *, kept: Mapping[str, NDArray[Any]] | None = None
) -> Path:
    """Write a model that `samlet.load(path)` takes: float16 weights, and the card in the metadata.

    A network with SAM's decoder is also written as a plain state dict with the official names, float32, beside it
    with the ending `.pt`: for TinyViT-5M that is the layout of `mobile_sam.pt`.

    Args:
        network: What to write, its weights as they are.
        card: Without files.
        path: Ends with `.safetensors`.
        kept: Weights of the model's other parts, by name.

    Returns:
        The path.

    Raises:
        CheckpointError: A weight is beyond what float16 can hold: the run diverged.
        OutputError: The file cannot be written.
    """
    weights = weights_of(network, parts_of(card))
    try:
        half = checkpoint.halved({**weights, **(kept or {})})
    except InputError as error:
        raise CheckpointError(f"{error}; the run diverged, look at its curves") from None
    data = checkpoint.to_safetensors(half, {registry.CARD_KEY: replace(card, files=()).to_json()})
    atomic_write(path, data)
    if is_sam(network):
        atomic_write(path.with_suffix(".pt"), checkpoint.to_pt(weights, "official"))
    return path


def all_instance_card(*, name: str) -> Card:
    """Give the card of a network that finds every instance with nano's features, without files."""
    return replace(
        registry.resolve("fastsam_s"),
        name=name,
        aliases=(),
        title=f"{name}: nano's features and YOLOv8-seg's head find everything at once, prompts choose among it",
        weights_licence="Yours, as far as the pictures it was trained on and nano's own terms allow",
        side=512,
        pad=32,
        mean=LITE_MEAN,
        std=LITE_STD,
        graphs={"network": "nano_all.onnx"},
        settings={**ALL_INSTANCE_SETTINGS},
        files=(),
        quality={},
        notes="Measure it: samlet evaluate --protocol proposals --everything instances.",
    )


def write_all_instance(network: NanoAll | YoloSeg, out: Path) -> Path:
    """Write a network that finds every instance, as `samlet.load(path)` and the drop-ins' `FastSAM(path)` take it.

    Args:
        network: FastSAM's own becomes `model.pt`, float32 under the official names; one on nano's features
            `model.safetensors`, float16 with its card.
        out: The folder.

    Returns:
        The path.

    Raises:
        CheckpointError: A weight is beyond what float16 can hold: the run diverged.
        OutputError: The file cannot be written.
    """
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    if isinstance(network, YoloSeg):
        path = out / "model.pt"
        atomic_write(path, checkpoint.to_pt(weights, "official"))
        return path
    path = out / "model.safetensors"
    card = all_instance_card(name=ALL_INSTANCE)
    try:
        half = checkpoint.halved(weights)
    except InputError as error:
        raise CheckpointError(f"{error}; the run diverged, look at its curves") from None
    atomic_write(path, checkpoint.to_safetensors(half, {registry.CARD_KEY: card.to_json()}))
    return path
