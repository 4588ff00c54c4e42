"""Where model files lie and how they are read: size and digest first, then a parser that executes nothing.

Bytes are read once: what is parsed is what was hashed, so that swapping a file between the two is of no use.
"""

import hashlib
import json
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card, CardFile
from samlet.errors import CheckpointError, ChecksumError, ModelError

_DTYPES = {"F16": "<f2", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_verified(file: CardFile) -> bytes:
    """Read one file of a card and check its size and SHA-256 before anybody parses it.

    Raises:
        ModelError: The file is not on this computer or cannot be read.
        ChecksumError: The file is there, but is not the one the card names.
    """
    path = locate(file)
    data = _read_bytes(path, at_most=file.size)
    if len(data) != file.size:
        found = "more" if len(data) > file.size else f"{len(data):,}"
        raise ChecksumError(
            f"expected {file.size:,} bytes in the model file {path}, found {found}; "
            "the file is damaged or another one, install it again"
        )
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise ChecksumError(
            f"expected sha256 {file.sha256[:12]}... for the model file {path}, found {digest[:12]}...; "
            "the file is damaged or another one, install it again"
        )
    return data


def locate(file: CardFile) -> Path:
    """Say where a card's file lies: relative paths are inside the package.

    Raises:
        ModelError: The file has only an address, and this version does not download.
    """
    if file.path is None:
        raise ModelError(
            f"expected the model file on this computer, but the card only knows {file.url}; "
            "download it yourself and give its path as the model's name"
        )
    return Path(str(package_files("samlet"))) / file.path


def read_weights(card: Card) -> dict[str, NDArray[np.generic]]:
    """Read all weights of a card as arrays by name; float16 becomes float32.

    Raises:
        ModelError: A file is missing.
        ChecksumError: A file is not the one the card names.
        CheckpointError: A file is no safetensors file, or two files hold the same name.
    """
    weights: dict[str, NDArray[np.generic]] = {}
    for file in card.files:
        arrays = parse_arrays(read_verified(file), origin=str(file.path))
        twice = sorted(arrays.keys() & weights.keys())
        if twice:
            raise CheckpointError(
                f"expected each weight once in the files of {card.name}, but {twice[0]} comes twice; "
                "correct the card"
            )
        weights.update(arrays)
    return weights


def parse_arrays(data: bytes, *, origin: str) -> dict[str, NDArray[np.generic]]:
    """Parse safetensors bytes into arrays by name; float16 becomes float32, other kinds stay as they are.

    Raises:
        CheckpointError: The bytes are no safetensors file, or hold a kind of number that is not supported.
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call,unused-ignore]  # a Rust function
    except (SafetensorError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"expected a safetensors file in {origin}, but it does not parse ({_line(error)}); "
            "install the model again"
        ) from None
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise CheckpointError(
                f"expected float16 or float32 weights in {origin}, but {name} is {entry['dtype']}; "
                "convert the file"
            )
        kind = np.dtype(_DTYPES[entry["dtype"]])
        array = np.frombuffer(entry["data"], dtype=kind).reshape(entry["shape"])
        arrays[name] = array.astype(np.float32) if kind == np.float16 else array
    return arrays


def parse_metadata(data: bytes, *, origin: str) -> dict[str, str]:
    """Read the metadata texts of safetensors bytes; call `parse_arrays` too if the arrays matter.

    Raises:
        CheckpointError: The bytes do not begin with a safetensors header.
    """
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length]) if 2 <= length <= len(data) - 8 else None
    except (ValueError, RecursionError):
        header = None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise CheckpointError(
            f"expected a safetensors file in {origin}, but its header does not parse; "
            "give a file saved by samlet"
        )
    return {str(key): value for key, value in metadata.items() if isinstance(value, str)}


def read_graph(name: str) -> tuple[bytes, bytes]:
    """Read a network structure of the package: the .onnx file and the .json beside it that describes it.

    Args:
        name: Plain file name as in `Card.graphs`, for instance "nano_encoder.onnx".

    Raises:
        ModelError: The package has no such graph.
    """
    path = Path(str(package_files("samlet"))) / "graphs" / name
    return _read_bytes(path), _read_bytes(path.with_suffix(".json"))


def describe(path: Path) -> tuple[CardFile, bytes]:
    """Read a user's own weights file, whose digest nobody published, and record its size and digest.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    data = _read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    return CardFile(role="weights", path=str(path.resolve()), url=None, sha256=digest, size=len(data)), data


def _read_bytes(path: Path, *, at_most: int = -1) -> bytes:
    """Read a file; with `at_most`, one byte beyond it at the most, enough to see that it is too long."""
    try:
        with path.open("rb") as stream:
            return stream.read(at_most + 1 if at_most >= 0 else -1)
    except OSError as error:
        raise ModelError(
            f"expected a model file at {path}, but it cannot be read ({error.strerror or error}); "
            "install samlet again or correct the path"
        ) from None


def _line(error: Exception) -> str:
    """Give the first line of a foreign message, short enough for one sentence."""
    return str(error).strip().split("\n", 1)[0][:160]
