"""A training state becomes a model file that loads by its path and answers as its weights say."""

import hashlib
import tomllib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import samlet
from samlet.errors import CheckpointError
from samlet.export.release import PACKAGE, ship, shrink, write_model


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The built-in weights as if a run had just ended: float32, averaged, beside other slots."""
    weights = load_file(PACKAGE / "weights" / "nano.safetensors")
    tensors = {f"average.{k}": v.astype(np.float32) for k, v in weights.items()}
    tensors["optimiser.0.step"] = np.zeros(1, np.float32)
    path = tmp_path_factory.mktemp("run") / "state.safetensors"
    save_file(tensors, path)
    return path


def test_a_released_model_loads_by_path_and_answers(state, sample, tmp_path):
    write_model(state, tmp_path / "mine.safetensors", name="mine")
    mine, builtin = samlet.load(tmp_path / "mine.safetensors"), samlet.load()
    assert mine.card.name == "mine"
    photo = sample("coffee")
    wanted = builtin.segment(photo, points=[280, 60])
    assert np.array_equal(mine.segment(photo, points=[280, 60]).logits, wanted.logits)


def test_shipping_changes_weights_and_digest_only(state, tmp_path):
    (tmp_path / "cards").mkdir()
    text = (PACKAGE / "cards" / "nano.toml").read_text("utf-8")
    (tmp_path / "cards" / "nano.toml").write_text(text.replace("size = ", "size = 1", 1))
    ship(state, package=tmp_path)
    data = (tmp_path / "weights" / "nano.safetensors").read_bytes()
    card = tomllib.loads((tmp_path / "cards" / "nano.toml").read_text("utf-8"))
    assert card["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["files"][0]["size"] == len(data)
    assert data == (PACKAGE / "weights" / "nano.safetensors").read_bytes()  # equal weights, equal bytes


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
