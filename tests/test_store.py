"""What is loaded is what was pinned: size and digest come before any parser."""

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from samlet import checkpoint, registry, store
from samlet.backends.base import GraphFile
from samlet.card import CardFile
from samlet.checkpoint import Checkpoint
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
    parse = checkpoint.parse

    def recorded(data: bytes, *, origin: str) -> Checkpoint:
        seen.append(data)
        return parse(data, origin=origin)

    monkeypatch.setattr(checkpoint, "parse", recorded)
    return seen


def read(*files: CardFile) -> dict[str, np.ndarray]:
    """Read files as the weights of a graph that wants exactly what they hold."""
    shapes = {name: array.shape for name, array in ARRAYS.items()}
    graph = GraphFile("g", b"", ("x",), ("y",), shapes, 20, checkpoint=shapes)
    return registry.read_weights(registry.resolve("nano").with_files(*files), [graph])


def test_weights_are_read_as_float32(pinned: CardFile) -> None:
    weights = read(pinned)
    assert weights.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert weights[name].dtype == np.float32
        assert weights[name].flags.c_contiguous
        np.testing.assert_array_equal(weights[name], array)


def test_200_flipped_bits_never_reach_the_parser(pinned: CardFile, parsed: list[bytes]) -> None:
    path = Path(str(pinned.path))
    rng = random.Random(7)
    refused = 0
    for bit in rng.sample(range(8 * len(DATA)), 200):
        damaged = bytearray(DATA)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ChecksumError, match="expected sha256"):
            read(pinned)
        refused += 1
    assert (refused, parsed) == (200, [])
    path.write_bytes(DATA)
    read(pinned)
    assert parsed == [DATA]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, len(DATA) // 2, len(DATA) - 1])
def test_truncated(pinned: CardFile, parsed: list[bytes], length: int) -> None:
    Path(str(pinned.path)).write_bytes(DATA[:length])
    with pytest.raises(ChecksumError, match=f"expected {len(DATA)} bytes .* found {length};"):
        read(pinned)
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


def test_a_file_that_is_only_an_address(
    pinned: CardFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    monkeypatch.setenv("SAMLET_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"https://example\.org/x"):
        store.read_verified(replace(pinned, path=None, url="https://example.org/x"))


def test_the_same_name_in_two_files(pinned: CardFile) -> None:
    with pytest.raises(CheckpointError, match="comes twice"):
        read(pinned, pinned)
