"""The original's builders: a checkpoint's path in, a `Sam` ready to use out."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from samlet import backends, registry
from samlet.backends.base import Backend
from samlet.card import Card
from samlet.compat.segment_anything.modeling import Sam
from samlet.errors import CheckpointError
from samlet.session import Session

_MODELS = {  # what the original calls it -> samlet's name, and the encoder that its files hold
    "vit_h": ("sam_vit_h", "vit_h_encoder.onnx"),
    "vit_l": ("sam_vit_l", "vit_l_encoder.onnx"),
    "vit_b": ("sam_vit_b", "vit_b_encoder.onnx"),
    "vit_t": ("mobile_sam", "tiny_vit_5m_encoder.onnx"),
    "efficientvit_l0": ("efficientvit_sam_l0", "efficientvit_l0_encoder.onnx"),
    "efficientvit_l1": ("efficientvit_sam_l1", "efficientvit_l1_encoder.onnx"),
    "efficientvit_l2": ("efficientvit_sam_l2", "efficientvit_l2_encoder.onnx"),
    "nano": ("nano", "nano_encoder.onnx"),
}


def build_sam_vit_h(
    checkpoint: str | Path | None = None, *, backend: str | Backend = "onnx", threads: int | None = None
) -> Sam:
    """Load SAM with ViT-H; `build_sam` is the same.

    Args:
        checkpoint: The official file or one in its layout (.pt, .pth, .safetensors); None takes the official
            weights by name, downloading them at the first use (the original makes random ones).
        backend: "onnx", "torch", or a backend of your own, for instance one on a GPU.
        threads: Threads for one run; None lets the runtime decide.

    Raises:
        ModelError: The file is missing or cannot be had.
        CheckpointError: The file is broken or holds another network.
        MissingExtraError: The backend's runtime is not installed.
    """
    return _build("vit_h", checkpoint, backend=backend, threads=threads)


def build_sam_vit_l(
    checkpoint: str | Path | None = None, *, backend: str | Backend = "onnx", threads: int | None = None
) -> Sam:
    """Load SAM with ViT-L; see `build_sam_vit_h`."""
    return _build("vit_l", checkpoint, backend=backend, threads=threads)


def build_sam_vit_b(
    checkpoint: str | Path | None = None, *, backend: str | Backend = "onnx", threads: int | None = None
) -> Sam:
    """Load SAM with ViT-B; see `build_sam_vit_h`."""
    return _build("vit_b", checkpoint, backend=backend, threads=threads)


def build_sam_vit_t(
    checkpoint: str | Path | None = None, *, backend: str | Backend = "onnx", threads: int | None = None
) -> Sam:
    """Load MobileSAM (TinyViT); see `build_sam_vit_h`."""
    return _build("vit_t", checkpoint, backend=backend, threads=threads)


def _build(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    backend: str | Backend = "onnx",
    threads: int | None = None,
) -> Sam:
    official, encoder = _MODELS[name]
    card = registry.resolve(official if checkpoint is None else checkpoint)
    if card.graphs.get("encoder") != encoder:
        raise CheckpointError(
            f"expected weights of {name} in {checkpoint}, got those of {_original_name(card)}; "
            "use the entry of sam_model_registry that belongs to the file"
        )
    # nano's canvas hugs the picture; the original's contract is a square.
    card = replace(card, pad="square")
    runtime = backends.create(backend) if isinstance(backend, str) else backend
    return Sam(Session(card, runtime, threads=threads))


def _original_name(card: Card) -> str:
    encoder = card.graphs.get("encoder")
    return next((name for name, (_, graph) in _MODELS.items() if graph == encoder), card.name)


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": build_sam_vit_t,
    **{name: partial(_build, name) for name in _MODELS if name not in ("vit_h", "vit_l", "vit_b", "vit_t")},
}
"""The original's names, MobileSAM's `vit_t`, and what samlet adds: EfficientViT-SAM and the built-in nano."""
