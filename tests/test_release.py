"""A training state becomes a model file that loads by its path and answers as its weights say."""

import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save_file

import samlet
from samlet.errors import CheckpointError
from samlet.export.release import PACKAGE, ship, ship_all_instance, ship_objects, shrink, write_model


def parts(weights, *, head):
    """The object head of a model's weights, or all the rest."""
    return {k: v for k, v in weights.items() if k.startswith("objects.") == head}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The built-in weights as if a run had just ended: float32, averaged, beside other slots."""
    weights = parts(load_file(PACKAGE / "weights" / "nano.safetensors"), head=False)
    tensors = {f"average.{k}": v.astype(np.float32) for k, v in weights.items()}
    tensors["optimiser.0.step"] = np.zeros(1, np.float32)
    path = tmp_path_factory.mktemp("run") / "state.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def other(state, tmp_path_factory):
    """The same with another encoder: one number of it differs."""
    tensors = load_file(state)
    name = next(k for k in tensors if k.startswith("average.encoder."))
    tensors[name] = tensors[name].copy()
    tensors[name].flat[0] += 1
    path = tmp_path_factory.mktemp("run") / "state.safetensors"
    save_file(tensors, path)
    return path


def test_a_released_model_loads_by_path_and_answers(state, other, sample, tmp_path):
    write_model(state, tmp_path / "mine.safetensors", name="mine")
    mine, builtin = samlet.load(tmp_path / "mine.safetensors"), samlet.load()
    assert mine.card.name == "mine"
    assert mine.card.graphs == builtin.card.graphs
    write_model(other, tmp_path / "other.safetensors", name="other")
    graphs = samlet.load(tmp_path / "other.safetensors").card.graphs
    assert "objects" not in graphs  # the built-in head does not know another encoder's features
    photo = sample("coffee")
    wanted = builtin.segment(photo, points=[280, 60])
    assert np.array_equal(mine.segment(photo, points=[280, 60]).logits, wanted.logits)


@pytest.fixture
def package(tmp_path):
    """The parts of the package that shipping reads and writes, with a stale size in the card."""
    for part in ("cards/nano.toml", "graphs/nano_objects.json", "weights/nano.safetensors"):
        (tmp_path / part).parent.mkdir()
        (tmp_path / part).write_bytes((PACKAGE / part).read_bytes())
    card = tmp_path / "cards" / "nano.toml"
    card.write_text(card.read_text("utf-8").replace("size = ", "size = 1", 1), "utf-8")
    return tmp_path


def shipped(package):
    """Card and weights, after checking that they belong together."""
    data = (package / "weights" / "nano.safetensors").read_bytes()
    card = tomllib.loads((package / "cards" / "nano.toml").read_text("utf-8"))
    assert card["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["files"][0]["size"] == len(data)
    return card, load(data)


def test_shipping_an_encoder_changes_weights_and_digest_and_drops_the_head(other, package):
    ship(other, package=package)
    card, weights = shipped(package)
    before = load_file(PACKAGE / "weights" / "nano.safetensors")
    assert card["graphs"].keys() == {"encoder", "decoder"}
    assert weights.keys() == parts(before, head=False).keys()
    assert sum(not np.array_equal(weights[k], before[k]) for k in weights) == 1


def test_shipping_a_decoder_keeps_what_stands_on_the_encoder(state, package, tmp_path):
    tensors = load_file(state)
    moved = {k: v + np.float32(1) if k.startswith("average.decoder.") else v for k, v in tensors.items()}
    save_file(moved, tmp_path / "moved.safetensors")
    ship(tmp_path / "moved.safetensors", package=package)
    card, weights = shipped(package)
    before = load_file(PACKAGE / "weights" / "nano.safetensors")
    assert card["graphs"].keys() == {"encoder", "decoder", "objects"}
    assert weights.keys() == before.keys()
    for name, array in before.items():
        assert np.array_equal(weights[name], array) != name.startswith("decoder.")


def test_shipping_a_head_changes_nothing_else(package, tmp_path):
    before = load_file(PACKAGE / "weights" / "nano.safetensors")
    head = {k.removeprefix("objects."): v for k, v in parts(before, head=True).items()}
    save_file({f"average.{k}": v.astype(np.float32) for k, v in head.items()}, tmp_path / "same.safetensors")
    ship_objects(tmp_path / "same.safetensors", package=package)
    shipped(package)
    for part in ("weights/nano.safetensors", "cards/nano.toml"):  # equal weights, equal bytes
        assert (package / part).read_bytes() == (PACKAGE / part).read_bytes()
    save_file({f"average.{k}": v + np.float32(1) for k, v in head.items()}, tmp_path / "other.safetensors")
    ship_objects(tmp_path / "other.safetensors", package=package)
    card, weights = shipped(package)
    assert card["graphs"]["objects"] == "nano_objects.onnx"
    for name, array in before.items():
        assert np.array_equal(weights[name], array) != name.startswith("objects.")


def test_a_state_of_another_network_is_no_object_head(state, package):
    with pytest.raises(CheckpointError, match="expected the state of an object head"):
        ship_objects(state, package=package)


ALL_INSTANCE_CARD = """
name = "nano-all"
family = "fastsam"
title = "everything at once"
licence = "Apache-2.0"
weights_licence = "-"
paper = ""
side = 64
pad = 32
mask_grid = 32
mean = [127.0, 127.0, 127.0]
std = [128.0, 128.0, 128.0]
[graphs]
network = "nano_all.onnx"
[settings]
conf = 0.01
[[files]]
role = "weights"
path = "weights/nano_all.safetensors"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
size = 1

[[files]]
role = "encoder"
path = "weights/nano.safetensors"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
size = 1
"""


def test_what_finds_all_instances_ships_without_the_encoder_that_is_there_already(state, other, tmp_path):
    for part in ("cards", "graphs", "weights"):
        (tmp_path / part).mkdir()
    for part in ("graphs/nano_all.json", "weights/nano.safetensors"):
        (tmp_path / part).write_bytes((PACKAGE / part).read_bytes())
    card = tmp_path / "cards" / "nano_all.toml"
    card.write_text(ALL_INSTANCE_CARD, "utf-8")
    shapes = json.loads((tmp_path / "graphs" / "nano_all.json").read_text("utf-8"))["checkpoint"]
    random, encoder = np.random.default_rng(0), load_file(tmp_path / "weights" / "nano.safetensors")
    made = {
        f"average.{name}": encoder[name].astype(np.float32)
        if name in encoder and name.startswith("encoder.")
        else random.uniform(0.1, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(made, tmp_path / "state.safetensors")
    ship_all_instance(tmp_path / "state.safetensors", package=tmp_path)
    own = load_file(tmp_path / "weights" / "nano_all.safetensors")
    assert (
        not any(name.startswith("encoder.") for name in own) and own["protos.last.weight"].dtype == np.float16
    )
    beside = tmp_path / "nano_all.toml"
    beside.write_text(card.read_text("utf-8"), "utf-8")
    for file in samlet.load(beside).card.files:  # loading checks size and digest
        assert file.size == Path(file.path).stat().st_size
    assert samlet.load(beside).embed(np.zeros((48, 64, 3), np.uint8)).arrays["protos"].shape == (32, 16, 16)
    before = (tmp_path / "cards" / "nano_all.toml").read_bytes()
    (tmp_path / "cards" / "nano.toml").write_bytes((PACKAGE / "cards" / "nano.toml").read_bytes())
    (tmp_path / "graphs" / "nano_objects.json").write_bytes(
        (PACKAGE / "graphs/nano_objects.json").read_bytes()
    )
    head = {k.removeprefix("objects."): v for k, v in parts(encoder, head=True).items()}
    save_file({f"average.{k}": v + np.float16(1) for k, v in head.items()}, tmp_path / "head.safetensors")
    ship_objects(tmp_path / "head.safetensors", package=tmp_path)
    beside.write_text(card.read_text("utf-8"), "utf-8")
    assert beside.read_bytes() != before and samlet.load(beside).card.name == "nano-all"
    made["average.encoder.backbone.stem.weight"] += 1
    save_file(made, tmp_path / "state.safetensors")
    with pytest.raises(CheckpointError, match="built-in encoder"):
        ship_all_instance(tmp_path / "state.safetensors", package=tmp_path)
    ship(state, package=tmp_path)  # a decoder alone
    assert card.exists()
    ship(other, package=tmp_path)  # an encoder that it was not trained on
    assert not card.exists() and not (tmp_path / "weights" / "nano_all.safetensors").exists()


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"model.a": np.zeros(2, np.float32)}, "expected averaged weights"),
        ({"average.a": np.array([1e6], np.float32)}, "expected numbers that float16 can hold in a"),
        ({"average.a": np.array([np.nan], np.float32)}, "expected numbers that float16 can hold in a"),
    ],
)
def test_unusable_states_are_refused(tensors, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        shrink(tensors)
