"""`samlet convert`: model files from one form into another, without executing anything in them."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from samlet.cli.output import one_line
from samlet.errors import InputError, ModelError
from samlet.limits import MODEL_FILE_LIMITS

if TYPE_CHECKING:
    from samlet.checkpoint import Array, Checkpoint, Identity

_DESCRIPTION = """\
Convert a model file: official .pt and .pth files, whole pickled detectors (FastSAM, MobileSAMv2's object-aware
model) and safetensors become safetensors, or a .pt file in the layout of the authors. The file is read as data:
nothing in it is executed.
"""
_EPILOG = """\
Layouts of a .pt file: official, as this network was published; encoder, the image encoder alone, as MobileSAMv2
reads it; v2-decoder, {'PromtEncoder': ..., 'MaskDecoder': ...}; model and state_dict, everything under that one
name. A .pt file of a detector is a plain state dict with the names model.0.conv.weight and so on, not a pickled
module: the original library can fill a network of its own with it, but not open it by itself. Weights are named
as in the official files and stored as float32, or with --half as float16. An existing OUT is replaced.
"""
_TORCH = (".pt", ".pth")
_LAYOUTS = ("official", "encoder", "v2-decoder", "model", "state_dict")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "convert",
        help="convert model files to safetensors and back",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="IN", help="a .pt, .pth or .safetensors file, whatever its name")
    parser.add_argument("target", metavar="OUT", help="the file to write: .safetensors, .pt or .pth")
    parser.add_argument(
        "--layout",
        choices=_LAYOUTS,
        help="how to arrange a .pt file (default: official)",
    )
    parser.add_argument("--half", action="store_true", help="store float16, half the size")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert one file and say what it holds.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        InputError: OUT has no ending that is known, or is IN, or the layout does not fit the network.
        ModelError: IN cannot be read.
        CheckpointError: IN is no model file.
        OutputError: OUT cannot be written.
    """
    source, target = Path(args.source), Path(args.target)
    _check(source, target, args.layout)
    from samlet import checkpoint
    from samlet.atomic import atomic_write

    found = checkpoint.parse(_read(source), origin=str(source))
    arrays = checkpoint.canonical(found, origin=str(source))
    identity = checkpoint.identify(arrays)
    stored = checkpoint.halved(arrays) if args.half else arrays
    if target.suffix.lower() in _TORCH:
        data = checkpoint.to_pt(stored, args.layout or "official")
        _note_losses(found, identity)
    else:
        data = checkpoint.to_safetensors(stored, found.metadata)
    atomic_write(target, data)
    print(
        f"{one_line(str(source))}: {_described(arrays, identity)} -> {one_line(str(target))}, {_size(len(data))}"
    )
    return 0


def _check(source: Path, target: Path, layout: str | None) -> None:
    """Refuse before anything is read what could not be written."""
    ending = target.suffix.lower()
    if ending not in (*_TORCH, ".safetensors"):
        raise InputError(
            f"expected a file to write that ends with .safetensors, .pt or .pth, got {str(target)!r:.120}; "
            "choose one of these endings"
        )
    if layout and ending not in _TORCH:
        raise InputError("expected a .pt or .pth file for --layout, got a .safetensors file; leave it out")
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise InputError(
            f"expected two files, got {str(target)!r:.120} twice; choose another name to write to"
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MODEL_FILE_LIMITS.max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ModelError(
            f"expected a model file at {path}, but it cannot be read "
            f"({getattr(error, 'strerror', None) or error}); correct the path"
        ) from None


def _described(arrays: "dict[str, Array]", identity: "Identity") -> str:
    parts = [identity.architecture] if identity.architecture else []
    parts += ["SAM's decoder"] if identity.decoder else []
    what = " and ".join(parts) or "a network that samlet has no name for"
    what += f" (reg_max {identity.reg_max})" if identity.reg_max else ""
    count = "1 array" if len(arrays) == 1 else f"{len(arrays):,} arrays"
    return f"{what}, {count}, {_size(sum(array.nbytes for array in arrays.values()))} as float32"


def _note_losses(found: "Checkpoint", identity: "Identity") -> None:
    """Say what a .pt file has no place for."""
    if found.metadata:
        names = one_line(", ".join(found.metadata))
        print(f"samlet: note: a .pt file has no place for the metadata ({names:.120})", file=sys.stderr)
    if identity.reg_max:
        print("samlet: note: this .pt file is a plain state dict, not a pickled module", file=sys.stderr)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 50_000 else f"{count:,} bytes"
