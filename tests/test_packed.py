"""Packed weights: one file a graph, at the offsets the graph names, written once and checked each time."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from samlet import packed, registry, store
from samlet.backends.base import GraphFile
from samlet.backends.onnx import OnnxBackend
from samlet.backends.packing import ALIGNMENT, pack, places
from samlet.errors import CheckpointError, InputError, OutputError
from tests.random_weights import write_official

DIGEST = "5" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_weights_lie_in_order_aligned_and_apart() -> None:
    shapes = {"c": (2, 3), "a": (33,), "b": (), "d": (5, 0)}
    where = places(shapes)
    assert list(where) == ["a", "b", "c", "d"]
    assert where["a"] == (0, 132)
    assert where["b"] == (192, 4)
    assert all(offset % ALIGNMENT == 0 for offset, _ in where.values())
    assert places(dict(reversed(shapes.items()))) == where


def test_a_packed_file_holds_the_folded_weights() -> None:
    recipe = {"op": "relative", "from": "table", "size": 2}
    graph = GraphFile("g", b"", ("x",), ("y",), {"a": (3,), "r": (2, 2, 1)}, 20, recipes={"r": recipe})
    content = pack(
        graph, {"a": np.arange(3, dtype=np.float32), "table": np.array([[0], [1], [2]], np.float32)}
    )
    assert len(content) == 64 + 16
    np.testing.assert_array_equal(np.frombuffer(content, "<f4", 3), [0, 1, 2])
    np.testing.assert_array_equal(np.frombuffer(content, "<f4", 4, 64), [1, 0, 2, 1])
    assert not any(content[12:64])


def test_only_float32_is_packed() -> None:
    graph = GraphFile("g", b"", ("x",), ("y",), {"a": (3,)}, 20)
    with pytest.raises(CheckpointError, match="expected float32 for the weight a of g, got float16"):
        pack(graph, {"a": np.zeros(3, np.float16)})


@pytest.mark.parametrize("role", ["encoder", "decoder", "objects"])
def test_a_runtime_finds_the_weights_where_the_graph_says(role: str) -> None:
    """ONNX Runtime reads the packed file by the graph's own entries, and answers as with weights from memory."""
    card = registry.resolve("nano")
    found = packed.pack_model(card, roles=[role])[role]
    assert found.packed is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(found.packed.parent)
    )
    session = onnxruntime.InferenceSession(found.onnx, options, providers=["CPUExecutionProvider"])
    weights = registry.read_weights(card, list(packed.pack_model(card).values()))
    graph = OnnxBackend().open(role, replace(found, packed=None), weights=weights, threads=1)
    random = np.random.default_rng(0)
    sizes = {"N": 1, "prompts": 2, "points": 3}
    feeds = {}
    for entry in session.get_inputs():
        shape = [side if isinstance(side, int) else sizes.get(side, 0) for side in entry.shape]
        if entry.name == "image":
            shape = [1, 3, 64, 96]
        elif entry.name == "image_embeddings":
            shape = [1, 256, 8, 12]
        elif entry.name == "mask_input":
            shape = [2, 1, 32, 48]
        elif entry.name == "has_mask_input":
            shape = [2]
        feeds[entry.name] = random.uniform(0, 1, shape).astype(np.float32)
    answers = graph.run(feeds)
    for name, array in zip(graph.outputs, session.run(list(graph.outputs), feeds), strict=True):
        np.testing.assert_array_equal(array, answers[name])


def test_the_models_own_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = registry.resolve(write_official("mobile_sam", tmp_path / "mine.pt"))
    first = packed.pack_model(card)
    assert set(first) == {"encoder", "decoder"}
    contents = {role: graph.packed.read_bytes() for role, graph in first.items() if graph.packed}

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(registry, "read_weights", refuse)
    second = packed.pack_model(card)
    assert {role: graph.packed for role, graph in second.items()} == {r: g.packed for r, g in first.items()}
    assert {r: g.packed.read_bytes() for r, g in second.items() if g.packed} == contents


def test_other_weights_are_another_file(tmp_path: Path) -> None:
    cards = [registry.resolve(write_official("mobile_sam", tmp_path / f"{i}.pt", seed=i)) for i in (0, 1)]
    one, other = (packed.pack_model(card, roles=["decoder"])["decoder"].packed for card in cards)
    assert one is not None and other is not None
    assert one != other
    assert one.read_bytes() != other.read_bytes()


def test_an_unknown_role() -> None:
    with pytest.raises(CheckpointError, match="lacks painter"):
        packed.pack_model(registry.resolve("nano"), roles=["painter"])


def test_a_damaged_file_is_made_again(cache: Path) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return b"content"

    path = store.keep(DIGEST, "x", make)
    assert path == cache / "derived" / DIGEST / "x"
    assert store.keep(DIGEST, "x", make).read_bytes() == b"content"
    assert len(made) == 1
    beside = path.with_name("x.sha256")
    assert beside.read_text() == f"{hashlib.sha256(b'content').hexdigest()}  x\n"
    for damaged, content in ((path, b"c0ntent"), (path, b""), (beside, b""), (beside, b"\xff")):
        damaged.write_bytes(content)
        assert store.keep(DIGEST, "x", make).read_bytes() == b"content"
    path.unlink()
    beside.unlink()
    store.keep(DIGEST, "x", make)
    assert len(made) == 6
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["x", "x.sha256"]


@pytest.mark.parametrize(("digest", "name"), [("", "x"), ("A" * 64, "x"), (DIGEST, "../x"), (DIGEST, "")])
def test_names_lead_nowhere_else(digest: str, name: str) -> None:
    with pytest.raises(InputError, match="expected a SHA-256 in hex and a plain file name"):
        store.keep(digest, name, bytes)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="could not make the folder"):
        store.keep(DIGEST, "x", bytes)
