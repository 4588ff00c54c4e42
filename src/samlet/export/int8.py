"""An encoder in int8 for OpenVINO, calibrated with the user's own pictures (extra `nncf`).

Matrix products and full convolutions get int8 weights, one scale a channel, and int8 inputs whose ranges are measured
on the pictures. Depth-wise convolutions stay as they are: they are bound by memory, not by arithmetic, and their inputs
have a range for each channel. The result lies in samlet's cache beside the packed weights, and
`samlet.load(..., backend="openvino:int8")` finds it there.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from samlet import packed
from samlet.backends.openvino import CACHE, quantized_path
from samlet.card import Card
from samlet.errors import InputError, MissingExtraError, ModelError, OutputError
from samlet.families import family
from samlet.image import Image

PICTURES = 64
"""Pictures looked at unless somebody says otherwise; ranges hardly move after a few dozen."""


def quantize(
    card: Card,
    pictures: Sequence[Path],
    *,
    most: int = PICTURES,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make the int8 form of a model's encoder.

    Args:
        card: The model, in the shape it will mostly be used in (`Card.shaped`); the form made serves all shapes.
        pictures: Pictures like those it will see; the first `most` of them are used. A hundred are plenty.
        most: Most pictures, at least 1.
        progress: Called with the pictures seen and the pictures in all, once for each of the two passes.

    Returns:
        The file that the backend opens.

    Raises:
        InputError: There are no pictures, or `most` is below 1.
        ImageError: A picture cannot be read.
        MissingExtraError: nncf or OpenVINO is not installed.
        ModelError: The model has no encoder.
        OutputError: The cache cannot be written.
    """
    chosen = list(pictures[:most]) if most >= 1 else []
    if not chosen:
        raise InputError(
            "expected pictures to calibrate with, and to use at least 1, got none; name a folder of photos"
        )
    if "encoder" not in card.graphs:
        raise ModelError(
            f"expected a model with an encoder, such as nano or mobile_sam, got {card.name}; name one"
        )
    nncf, openvino, passes = _runtimes()
    graph = packed.pack_model(card, roles=["encoder"])["encoder"]
    target = quantized_path(graph)
    network = openvino.Core().read_model(target.parent.with_name(f"{graph.name}.onnx"))
    # Weights reach their products through transpositions that nobody has computed yet; nncf looks for constants.
    folding = passes.Manager()
    folding.register_pass(passes.ConstantFolding())
    folding.run_passes(network)
    seen = 0

    def feed(path: Path) -> dict[str, Any]:
        nonlocal seen
        feeds, _ = family(card.family).feed(Image.load(path), card)
        if progress is not None:
            progress(seen % len(chosen) + 1, len(chosen))
        seen += 1
        return dict(feeds)

    made = nncf.quantize(
        network,
        nncf.Dataset(chosen, feed),
        subset_size=len(chosen),
        preset=nncf.QuantizationPreset.MIXED,
        # With attention, softmax and norms stay in floating point.
        model_type=nncf.ModelType.TRANSFORMER if "vit_" in graph.name else None,
        ignored_scope=nncf.IgnoredScope(types=["GroupConvolution"]),
    )
    return _put(openvino, made, target)


def _put(openvino: Any, network: Any, target: Path) -> Path:
    """Write the two files of a network, so that they are there together or not at all."""
    folder = target.parent
    temporary = folder.with_name(f".samlet-{secrets.token_hex(8)}.tmp")
    old = temporary.with_suffix(".old")
    try:
        temporary.mkdir()
        openvino.save_model(network, temporary / target.name, compress_to_fp16=False)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(
            folder.with_name(CACHE), ignore_errors=True
        )  # it is found by name, whatever is in the file
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"could not write {folder} ({error}); free some space or set SAMLET_CACHE to another folder"
        ) from error
    finally:
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)
    return target


def _runtimes() -> tuple[Any, Any, Any]:
    try:
        import nncf
        import openvino
        from openvino import passes
    except ImportError:
        raise MissingExtraError(
            "this needs nncf and OpenVINO; install them with pip install 'samlet[nncf]'"
        ) from None
    return nncf, openvino, passes
