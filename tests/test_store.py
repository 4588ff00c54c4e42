"""What is loaded is what was pinned: size and digest come before any parser."""

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from samlet import registry, store
from samlet.card import CardFile
from samlet.errors import CheckpointError, ChecksumError, ModelError

ARRAYS = {"a.weight": np.arange(6, dtype=np.float16).reshape(2, 3), "b.bias": np.array([1.5, -2], np.float32)}
DATA = save(ARRAYS, metadata={"made": "here"})


@pytest.fixture
def pinned(tmp_path: Path) -> CardFile:
    """Write a small weights file and pin it."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(DATA)
    return CardFile("weights", str(path), None, hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record what reaches the parser."""
    seen: list[bytes] = []
    parse: Callable[..., object] = store.parse_arrays

    def recorded(data: bytes, *, origin: str) -> object:
        seen.append(data)
        return parse(data, origin=origin)

    monkeypatch.setattr(store, "parse_arrays", recorded)
    return seen


def test_weights_are_read_as_float32(pinned: CardFile) -> None:
    weights = store.read_weights(registry.resolve("nano").with_files(pinned))
    assert weights.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert weights[name].dtype == np.float32
        assert weights[name].flags.c_contiguous
        np.testing.assert_array_equal(weights[name], array)


def test_200_flipped_bits_never_reach_the_parser(pinned: CardFile, parsed: list[bytes]) -> None:
    card = registry.resolve("nano").with_files(pinned)
    path = Path(str(pinned.path))
    rng = random.Random(7)
    refused = 0
    for bit in rng.sample(range(8 * len(DATA)), 200):
        damaged = bytearray(DATA)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ChecksumError, match="expected sha256"):
            store.read_weights(card)
        refused += 1
    assert (refused, parsed) == (200, [])
    path.write_bytes(DATA)
    store.read_weights(card)
    assert parsed == [DATA]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, len(DATA) // 2, len(DATA) - 1])
def test_truncated(pinned: CardFile, parsed: list[bytes], length: int) -> None:
    Path(str(pinned.path)).write_bytes(DATA[:length])
    with pytest.raises(ChecksumError, match=f"expected {len(DATA)} bytes .* found {length};"):
        store.read_weights(registry.resolve("nano").with_files(pinned))
    assert parsed == []


def test_longer_than_pinned(pinned: CardFile) -> None:
    Path(str(pinned.path)).write_bytes(DATA + b"\0")
    with pytest.raises(ChecksumError, match="found more"):
        store.read_verified(pinned)


def test_missing_folder_and_unreadable(pinned: CardFile, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        store.read_verified(replace(pinned, path=str(tmp_path / "none")))
    with pytest.raises(ModelError, match="cannot be read"):
        store.read_verified(replace(pinned, path=str(tmp_path)))
    if os.geteuid() != 0:  # root reads everything
        Path(str(pinned.path)).chmod(0)
        with pytest.raises(ModelError, match="cannot be read"):
            store.read_verified(pinned)


def test_a_file_that_is_only_an_address(pinned: CardFile) -> None:
    with pytest.raises(ModelError, match=r"https://example\.org/x"):
        store.read_verified(replace(pinned, path=None, url="https://example.org/x"))


def test_the_same_name_in_two_files(pinned: CardFile) -> None:
    with pytest.raises(CheckpointError, match="comes twice"):
        store.read_weights(registry.resolve("nano").with_files(pinned, pinned))


def header(text: bytes) -> bytes:
    """Put a length in front of a header, as the format wants it."""
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not parse"),
        (b"\x80\x04.", "does not parse"),  # the start of a pickle
        (b"PK\x03\x04" + b"\0" * 40, "does not parse"),
        (header(b"{}") + b"surplus", "does not parse"),
        (header(b"[" * 5000), "does not parse"),
        ((2**63).to_bytes(8, "little") + b"{}", "does not parse"),
        (header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}') + b"\0" * 4, "does not parse"),
        (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}') + b"\0" * 4, "does not parse"),
        (
            header(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}') + b"\0" * 4,
            "does not parse",
        ),
        (save({"a": np.ones(1, np.float64)}), "a is F64"),
    ],
)
def test_hostile_bytes(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        store.parse_arrays(data, origin="x")


def test_scalars_counters_and_empty_arrays() -> None:
    arrays = {
        "s": np.array(3, np.float32),
        "n": np.array([2], np.int64),
        "e": np.zeros((0, 3), np.float32),
        "b": np.array([True]),
    }
    found = store.parse_arrays(save(arrays), origin="x")
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_metadata() -> None:
    assert store.parse_metadata(DATA, origin="x") == {"made": "here"}
    assert store.parse_metadata(save({"a": np.ones(1, np.float32)}), origin="x") == {}


def test_describe_pins_what_lies_there(pinned: CardFile) -> None:
    file, data = store.describe(Path(str(pinned.path)))
    assert (file.sha256, file.size, data) == (pinned.sha256, pinned.size, DATA)
    assert store.read_verified(file) == DATA


def test_unknown_graph() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        store.read_graph("no_such_graph.onnx")
