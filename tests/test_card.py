"""Cards are data that may come from outside: strict reading, one clear sentence for what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from samlet import registry
from samlet.card import Card, CardFile
from samlet.errors import CheckpointError, ModelError, UnknownModelError

NANO = registry.resolve("nano")
FILE = {"role": "weights", "path": "weights/x.safetensors", "sha256": "0" * 64, "size": 9}


def fields(**changes: Any) -> dict[str, Any]:
    """Give nano's fields with some of them changed."""
    return {**NANO.to_dict(), **changes}


def test_nano_is_what_the_design_says() -> None:
    assert (NANO.family, NANO.side, NANO.pad, NANO.stride, NANO.mask_grid) == ("sam", 512, 32, 8, 256)
    assert (NANO.mean, NANO.std) == ((127.0,) * 3, (128.0,) * 3)
    assert NANO.graphs == {role: f"nano_{role}.onnx" for role in ("encoder", "decoder", "objects")}


def test_sam_has_stride_16() -> None:
    assert replace(NANO, side=1024, pad="square").stride == 16


def test_dict_and_json_round_trips() -> None:
    assert Card.from_dict(NANO.to_dict(), origin="test") == NANO
    assert Card.from_json(NANO.to_json(), origin="test") == replace(NANO, files=())
    with_url = NANO.with_files(CardFile("weights", None, "https://example.org/x", "a" * 64, 3))
    assert Card.from_dict(with_url.to_dict(), origin="test") == with_url


BAD = [
    ({"side": 31}, "from 32 to 8192 for 'side'"),
    ({"side": True}, "for 'side'"),
    ({"side": 512.0}, "for 'side'"),
    ({"mask_grid": 255}, "four times a divisor of side"),
    ({"mask_grid": 20}, "four times a divisor of side"),
    ({"pad": "squares"}, "for 'pad'"),
    ({"pad": 12}, "for 'pad'"),
    ({"pad": 1024}, "for 'pad'"),
    ({"pad": 0}, "for 'pad'"),
    ({"mean": [1, 2]}, "three numbers"),
    ({"mean": [1, 2, float("nan")]}, "three numbers"),
    ({"std": [1, 2, 0]}, "three numbers above 0"),
    ({"std": "128"}, "three numbers"),
    ({"embedding_channels": 0}, "for 'embedding_channels'"),
    ({"zoom_below": 1.5}, "for 'zoom_below'"),
    ({"zoom_margin": "wide"}, "for 'zoom_margin'"),
    ({"name": "../nano"}, "for 'name'"),
    ({"name": 7}, "a text for 'name'"),
    ({"aliases": "default"}, "a list for 'aliases'"),
    ({"aliases": ["a b"]}, "a list of model names"),
    ({"graphs": {}}, "for 'graphs'"),
    ({"graphs": {"En coder": "nano_encoder.onnx"}}, "for 'graphs'"),
    ({"settings": {"conf": [1]}}, "numbers, texts and switches"),
    ({"settings": {"conf": float("nan")}}, "numbers, texts and switches"),
    ({"graphs": {"encoder": "/etc/passwd", "decoder": "nano_decoder.onnx"}}, "for 'graphs'"),
    ({"graphs": {"encoder": "../x.onnx", "decoder": "nano_decoder.onnx"}}, "for 'graphs'"),
    ({"quality": {"box": "good"}}, "a table of numbers"),
    ({"files": {}}, "a list for 'files'"),
    ({"files": ["nano"]}, "tables under 'files'"),
    ({"files": [{**FILE, "sha256": "0" * 63}]}, "64 lower-case"),
    ({"files": [{**FILE, "sha256": "A" * 64}]}, "64 lower-case"),
    ({"files": [{**FILE, "size": 0}]}, "for 'size'"),
    ({"files": [{**FILE, "role": "program"}]}, "weights, encoder, decoder, network for 'role'"),
    ({"files": [{**FILE, "url": "https://example.org"}]}, "unknown path"),
    (
        {"files": [{"role": "weights", "url": "http://example.org", "sha256": "0" * 64, "size": 1}]},
        "https://",
    ),
    ({"colour": "red"}, "has unknown colour"),
    ({"two\nlines": 1, "l" * 100: 2}, r"has unknown 'l{39}, 'two\\nlines'; correct"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_wrong_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        Card.from_dict(fields(**changes), origin="card.toml")
    assert "card.toml" in str(caught.value)


OPTIONAL = {
    "aliases",
    "notes",
    "pad",
    "embedding_channels",
    "mask_grid",
    "zoom_below",
    "zoom_margin",
    "zoom_clicks",
} | {
    "settings",
    "quality",
}


@pytest.mark.parametrize("key", sorted(OPTIONAL))
def test_keys_that_have_a_default(key: str) -> None:
    rest = fields()
    del rest[key]
    card = Card.from_dict(rest, origin="card.toml")
    defaults = {"pad": "square", "embedding_channels": 256, "mask_grid": 256, "aliases": (), "notes": ""}
    assert getattr(card, key) == defaults.get(key, {} if key in ("settings", "quality") else 0.0)


@pytest.mark.parametrize("key", sorted(NANO.to_dict().keys() - OPTIONAL))
def test_every_other_key_is_needed(key: str) -> None:
    rest = fields()
    del rest[key]
    with pytest.raises(CheckpointError, match=f"lacks {key}"):
        Card.from_dict(rest, origin="card.toml")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_json_that_is_no_card(text: str) -> None:
    with pytest.raises(CheckpointError, match="JSON object in x"):
        Card.from_json(text, origin="x")


@pytest.mark.parametrize(
    "text", ["name = ", "name = " + "1" * 5000, "name = " + "[" * 100_000, "a" * 10 + " = {" + "b={" * 5000]
)
def test_toml_that_does_not_parse(text: str) -> None:
    with pytest.raises(CheckpointError, match="does not parse"):
        Card.from_toml(text, origin="x")


@pytest.mark.parametrize("key", ["side", "mean", "std", "quality", "zoom_below", "name", "files", "graphs"])
@pytest.mark.parametrize("value", ["1" + "0" * 400, "0x" + "f" * 5000], ids=["no float", "too long to write"])
def test_whole_numbers_that_are_too_large(key: str, value: str) -> None:
    """TOML's hexadecimal numbers know no bound, and neither do Python's until they are written out."""
    number = int(value, 0)
    wanted = {"mean": [number, 1, 1], "std": [1, number, 1], "quality": {"iou": number}, "files": [number]}
    with pytest.raises(CheckpointError):
        Card.from_dict(fields() | {key: wanted.get(key, number)}, origin="x")


def test_digest_follows_what_decides_an_embedding() -> None:
    same = replace(NANO, title="x", notes="y", quality={"z": 1.0}, zoom_below=0.1, aliases=())
    assert same.digest == NANO.digest
    other_file = CardFile("weights", "elsewhere", None, "1" * 64, 1)
    others = [
        replace(NANO, side=256),
        replace(NANO, pad=64),
        replace(NANO, mean=(0.0, 127.0, 127.0)),
        replace(NANO, std=(1.0, 128.0, 128.0)),
        NANO.with_files(other_file),
        replace(NANO, graphs={**NANO.graphs, "encoder": "other.onnx"}),
    ]
    digests = {NANO.digest, *(card.digest for card in others)}
    assert len(digests) == len(others) + 1
    moved = NANO.with_files(*(replace(file, path="elsewhere") for file in NANO.files))
    assert moved.digest == NANO.digest


URL_FILE = {"role": "encoder", "url": "https://example.org/a/b.pt?x=1", "sha256": "", "size": 0}


def test_files_elsewhere_may_lack_what_nobody_published() -> None:
    card = Card.from_dict(
        fields(files=[{**URL_FILE, "repo": "owner/name", "git_sha1": "1" * 40}]), origin="card.toml"
    )
    (file,) = card.files
    assert (file.file_name, file.sha256, file.size, file.repo) == ("b.pt", "", 0, "owner/name")
    assert Card.from_dict(card.to_dict(), origin="again") == card


@pytest.mark.parametrize(
    "changes",
    [
        {"repo": "../.."},
        {"repo": "name"},
        {"git_sha1": "1" * 39},
        {"sha256": "1"},
        {"size": -1},
        {"colour": 1},
    ],
)
def test_files_elsewhere_are_checked(changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        Card.from_dict(fields(files=[{**URL_FILE, **changes}]), origin="card.toml")


def test_a_file_on_this_computer_needs_its_digest() -> None:
    with pytest.raises(CheckpointError, match="64 lower-case"):
        Card.from_dict(fields(files=[{**FILE, "sha256": ""}]), origin="card.toml")


def test_settings_count_for_embeddings() -> None:
    assert replace(NANO, settings={"conf": 0.4}).digest != NANO.digest


def test_registry_knows_names_and_aliases() -> None:
    assert list(registry.cards()) == sorted(registry.cards())
    for name in ("nano", "NANO", " nano ", "default"):
        assert registry.resolve(name) is registry.cards()["nano"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nanu", "did you mean nano"),
        ("", "`samlet models` lists them"),
        ("../../etc/passwd", "got '../../etc/passwd'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message) as caught:
        registry.resolve(name)
    assert "nano" in str(caught.value)


def test_a_trained_file_carries_its_card(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    mine = replace(NANO, name="mine")
    path.write_bytes(save({"w": np.ones(3, np.float32)}, metadata={registry.CARD_KEY: mine.to_json()}))
    found = registry.resolve(str(path))
    assert (found.name, found.files[0].size) == ("mine", path.stat().st_size)
    assert found == registry.resolve(path)
    path.write_bytes(save({"w": np.zeros(3, np.float32)}, metadata={registry.CARD_KEY: mine.to_json()}))
    assert registry.resolve(path).digest != found.digest


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, ModelError, "found none"),
        (b"", CheckpointError, "it is empty"),
        (b"\xff" * 40, CheckpointError, "neither a safetensors file nor"),
        (b"\x02" + b"\0" * 7 + b"[]", CheckpointError, "neither a safetensors file nor"),
        (save({"w": np.ones(1, np.float32)}), CheckpointError, "found none that samlet knows"),
        (
            save({"w": np.ones(1, np.float32)}, metadata={"samlet.card": "{}"}),
            CheckpointError,
            "lacks family",
        ),
        (
            save({"w": np.ones(1, np.float32)}, metadata={"samlet.card": json.dumps(fields(side=10**9))}),
            CheckpointError,
            "for 'side'",
        ),
    ],
)
def test_files_that_carry_no_card(
    tmp_path: Path, content: bytes | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / "mine.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        registry.resolve(path)
