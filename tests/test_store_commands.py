"""`samlet models` and `samlet fetch` as people and machines see them."""

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from samlet.card import CardFile
from samlet.cli import fetch, models
from samlet.errors import ChecksumError, ModelError, UnknownModelError
from samlet.registry import resolve
from tests.bad_server import BadServer

CONTENT = b"weights of a model" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "SAMLET_MIRROR",
        "SAMLET_OFFLINE",
        "HF_TOKEN",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "cache"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    models.add_parser(commands)
    fetch.add_parser(commands)
    args = parser.parse_args(words)
    assert args.run(args) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def offer(monkeypatch: pytest.MonkeyPatch, *files: CardFile) -> None:
    """Let there be one model, with these files."""
    card = replace(resolve("nano").with_files(*files), name="small", aliases=())
    monkeypatch.setattr("samlet.registry.cards", lambda: {"small": card})


def test_a_model_is_fetched(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with BadServer(CONTENT) as server:
        offer(monkeypatch, CardFile("weights", None, server.url("good"), DIGEST, len(CONTENT)))
        assert json.loads(run(capsys, "models", "--json"))["state"] == "no, its weights have to be downloaded"
        place = cache / "files" / DIGEST / "model.pt"
        assert run(capsys, "fetch", "small") == f"small: {place}\n"
        assert json.loads(run(capsys, "models", "small", "--json"))["available"] is True
        place.write_bytes(CONTENT[::-1])
        assert (
            run(capsys, "fetch", "small", "--to", str(tmp_path / "usb"))
            == f"small: {tmp_path}/usb/model.pt\n"
        )
        assert place.read_bytes() == (tmp_path / "usb" / "model.pt").read_bytes() == CONTENT
        place.write_bytes(b"cut")
        assert json.loads(run(capsys, "models", "--json"))["state"] == "no, its weights are damaged"
        assert len(server.asked) == 2


def test_a_wrong_name_stops_before_any_download(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with BadServer(CONTENT) as server:
        offer(monkeypatch, CardFile("weights", None, server.url("good"), DIGEST, len(CONTENT)))
        with pytest.raises(UnknownModelError, match="did you mean small"):
            run(capsys, "fetch", "small", "smal")
        assert server.asked == []


def test_wrong_bytes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with BadServer(CONTENT) as server:
        offer(monkeypatch, CardFile("weights", None, server.url("wrong"), DIGEST, len(CONTENT)))
        with pytest.raises(ChecksumError, match="so it was deleted"):
            run(capsys, "fetch", "small")


def test_an_unpublished_digest(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, CardFile("weights", None, "https://example.org/model.pt", "", 0))
    record = json.loads(run(capsys, "models", "--json"))
    assert (record["state"], record["bytes"]) == ("no, model.pt has to be put there by hand", 0)
    with pytest.raises(ModelError, match="nobody published its digest"):
        run(capsys, "fetch", "small")
    (cache / "by_hand").mkdir(parents=True)
    (cache / "by_hand" / "model.pt").write_bytes(CONTENT)
    assert run(capsys, "fetch", "small") == f"small: {cache}/by_hand/model.pt\n"


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "models").splitlines()
    rows = {line.split()[0]: line for line in lines[1 : lines.index("")]}
    assert rows["nano"].split()[1:5] == ["sam", "14.4", "MB", "yes"]
    assert rows["sam_vit_h"].split()[1:5] == ["sam", "2,564.6", "MB", "no"]
    assert rows["mobile_sam_v2_l2"].split()[1:4] == ["sam", "?", "no"]
    assert len({line.index(resolve(name).title) for name, line in rows.items()}) == 1, (
        "titles stand in one column"
    )
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    assert max(map(len, run(capsys, "models").splitlines()[1:])) <= 90


def test_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "models", "fastsam_x")
    assert "AGPL-3.0" in text and "144.9 MB of weights" in text
    assert "https://huggingface.co/spaces/An-619/FastSAM/resolve/main/weights/FastSAM.pt" in text
    assert "not published" in run(capsys, "models", "efficientvit_sam_l0")
