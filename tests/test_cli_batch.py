"""`samlet batch`: options, exit codes, notes and progress; what the work does is tested in test_batch."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samlet.batch.ledger import Counts
from samlet.batch.local import Local
from samlet.batch.ray import Ray
from samlet.cli import batch, main
from tests.batch_kills import CARD
from tests.cli_stubs import picture
from tests.test_batch import Inline


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the fake model work in this process, whatever engine is asked for."""
    (tmp_path / "tiny.toml").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    made = batch._recipe
    monkeypatch.setattr(batch, "engine_of", lambda args: Inline())
    monkeypatch.setattr(batch, "_recipe", lambda args: replace(made(args), model="tiny.toml", backend="fake"))
    return tmp_path


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["batch", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_batch(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture("photos/a.png")
    picture("photos/b.png")
    code, out, err = say(capsys, "photos", "--output", "out", "--format", "coco", "--at-most", "2")
    assert (code, err) == (0, "") and out == "2 pictures done, 4 masks -> out\n"
    assert len(json.loads(Path("out/coco.json").read_text())["annotations"]) == 4
    code, out, _ = say(capsys, "--output", "out", "--format", "coco", "--at-most", "2", "--json")
    assert json.loads(out) == {
        "pictures": 2, "done": 2, "failed": 0, "pending": 0, "masks": 4, "worked_on": 0, "output": "out",
    }  # fmt: skip


def test_some_that_fail_give_exit_code_6(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture("photos/a.png")
    Path("photos/b.png").write_text("no picture")
    for _ in range(2):  # also when there is nothing left to do
        code, _, err = say(capsys, "photos", "--output", "out")
        assert (
            code == 6
            and "expected masks for 2 pictures, but 1 of them failed; out/failures.jsonl says why" in err
        )
    picture("photos/b.png", seed=1)
    code, _, err = say(capsys, "photos", "--output", "out")
    assert code == 0 and "note: 1 pictures or their prompts have changed" in err


def test_prompts_and_going_on_with_them(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        picture(f"photos/{name}.png")
    Path("p.csv").write_text("name,x,y\na.png,10,10\nc.png,1,1\n")
    code, out, err = say(capsys, "photos", "--prompts", "p.csv", "--output", "out")
    assert code == 0 and out.startswith("2 pictures done, 1 masks")
    assert "1 pictures have no prompt" in err and "1 names with prompts are no pictures" in err
    assert say(capsys, "--output", "out")[0] == 0
    code, _, err = say(capsys, "photos", "--output", "out")
    assert code == 2 and "prompts for all pictures of an output or for none" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "--output"),
        (("nothing", "--output", "out"), 2, "there is no 'nothing'"),
        (("--output", "out"), 2, "got no inputs"),
        (("photos", "--output", "out", "--format", "gif"), 2, "gif"),
        (("photos", "--output", "out", "--min-score", "2"), 2, "from 0 to 1 after --min-score"),
        (("photos", "--output", "out", "--workers", "no"), 2, "give 8, or 1:64 for ray"),
        (("photos", "--output", "out", "--workers", "1:2:3"), 2, "give 8, or 1:64 for ray"),
        (("photos", "--output", "out", "--shard", "0"), 2, "--shard"),
        (("photos", "--output", "file"), 7, "could not write"),
    ],
)
def test_what_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    picture("photos/a.png")
    Path("file").write_text("")
    found, out, err = say(capsys, *words)
    assert found == code and message in err and out == "" and err.count("\n") == 1


def engine_of(*words: str) -> Any:
    parser = argparse.ArgumentParser()
    batch.add_parser(parser.add_subparsers())
    return batch.engine_of(parser.parse_args(["batch", "--output", "out", *words]))


def test_every_option_of_the_model_is_in_the_recipe() -> None:
    parser = argparse.ArgumentParser()
    batch.add_parser(parser.add_subparsers())
    words = [
        "--model",
        "m",
        "--decoder",
        "d",
        "--backend",
        "openvino",
        "--shape",
        "fit",
        "--by",
        "grid",
        "--grid",
        "8x8",
    ]
    made = batch._recipe(parser.parse_args(["batch", "x", "--output", "out", *words]))
    assert (made.model, made.decoder, made.backend, made.shape) == ("m", "d", "openvino", "fit")
    assert (made.by, made.grid) == ("grid", "8x8")


def test_engines() -> None:
    local = engine_of("--workers", "3")
    assert isinstance(local, Local) and local.workers == 3
    ray = engine_of(
        "--engine", "ray", "--workers", "2:8", "--gpus", "0.25", "--cpus", "2", "--address", "auto"
    )
    assert isinstance(ray, Ray)
    assert (ray._address, ray._workers, ray._gpus, ray._cpus) == ("auto", (2, 8), 0.25, 2.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gpus", "1"), "expected --gpus with --engine ray"),
        (("--workers", "1:2"), "expected one number after --workers"),
        (("--engine", "ray", "--workers", "3:2"), "the fewest first"),
        (("--engine", "ray", "--cpus", "0"), "cpus above 0"),
    ],
)
def test_engines_that_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "x", "--output", "out", *words]) == 2
    assert message in capsys.readouterr().err


def test_progress_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(batch.time, "perf_counter", lambda: next(times))
    with batch.progress(quiet=False) as tell:
        assert tell is not None
        for done in (100, 150, 300, 400):
            tell(Counts(pending=8000 - done, done=done - 1, failed=1, masks=0))
    assert capsys.readouterr().err == "samlet: 300 of 8,000 pictures, 1 failed, 5.0 pictures/s, 25 min left\n"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(batch.sys.stderr, "isatty", lambda: True, raising=False)
    with batch.progress(quiet=False) as tell:
        assert tell is not None
        tell(Counts(pending=5, done=5, failed=0, masks=0))
        tell(Counts(pending=1, done=8, failed=1, masks=0))
    with batch.progress(quiet=True) as tell:
        assert tell is None
