"""The command line when something breaks: one of several pictures, one of several files, a pipe."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from samlet.cli import output
from samlet.errors import BackendError, OutputError
from samlet.session import Session
from tests import cli_stubs
from tests.cli_stubs import POINT, Run, picture, written

loads, run = cli_stubs.loads, cli_stubs.run  # fixtures


def test_the_others_go_on_when_one_is_bad(run: Run) -> None:
    Path("empty").mkdir()
    Path("broken.png").write_bytes(Path(picture("good.png")).read_bytes()[:90])
    small = picture("small.png", size=(20, 20))
    last = picture("last.png")
    code, out, err = run(
        "segment", "empty", "broken.png", "good.png", "nope.png", small, last, *POINT, "--json"
    )
    assert code == 6
    assert [json.loads(line)["image"] for line in out.splitlines()] == ["good.png", "last.png"]
    names = ["empty", "broken.png", "nope.png", "small.png"]
    assert [line.split(": ")[2] for line in err.splitlines()[:-1]] == names
    assert "small.png: expected points inside the picture of 20 x 20 pixels" in err
    assert err.splitlines()[-1] == (
        "samlet: error: expected masks for 6 pictures, but 4 of them failed; see the sentences above"
    )
    assert written() == ["good.overlay.png", "last.overlay.png"]


def test_a_runtime_that_fails_for_one_picture(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(self: Session, image: Any) -> Any:
        raise BackendError("expected memory, got none; buy some")

    monkeypatch.setattr(Session, "embed", embed)
    a, b = picture("a.png"), picture("b.png")
    assert run("segment", a, *POINT)[0] == 5
    code, _, err = run("segment", a, b, *POINT)
    assert (code, err.count("buy some")) == (6, 2)


def test_a_full_disk_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def full(path: int, data: Any) -> int:
        tried.append(str(path))
        raise OSError(28, "No space left on device")

    names = [picture(f"{name}.png") for name in "abc"]
    monkeypatch.setattr(os, "write", full)
    code, out, err = run("segment", *names, *POINT)
    assert (code, out, len(tried)) == (7, "", 1)
    assert "the disk is full" in err
    assert not Path("samlet-out").exists()


def test_a_name_too_long_is_one_pictures_problem(run: Run) -> None:
    names = [picture("x" * 250 + ".png"), picture("b.png")]
    code, _, err = run("segment", *names, *POINT)
    assert (code, "its name is too long" in err) == (6, True)
    assert written() == ["b.overlay.png"]


def test_all_files_of_a_picture_or_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replacing = os.replace

    def third_fails(source: Any, target: Any) -> None:
        if str(target).endswith(".cutout.png"):
            raise PermissionError(13, "Permission denied")
        replacing(source, target)

    monkeypatch.setattr(os, "replace", third_fails)
    Path("kept").mkdir()
    code, out, err = run(
        "segment", picture("a.png"), *POINT, "--output", "kept", "--format", "overlay,mask,cutout"
    )
    assert (code, out, err.count("\n")) == (7, "", 1)
    assert written("kept") == []
    assert run("segment", "a.png", *POINT, "--output", "new/deep", "--format", "cutout")[0] == 7
    assert not Path("new").exists()


def test_an_empty_mask(run: Run) -> None:
    code, out, err = run("segment", picture("a.png"), "--not-point", "40,30", "--format", "mask,cutout")
    assert code == 0
    assert out.startswith("a.png: nothing found, score ")
    assert err == "samlet: note: a.cutout.png: not written, because its mask is empty\n"
    assert written() == ["a.mask.png"]


def test_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Session, image: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "embed", interrupted)
    code, out, err = run("segment", picture("a.png"), *POINT)
    assert (code, out) == (130, "")
    assert err == "samlet: stopped by Ctrl-C; what is already written is complete\n"


def test_a_reader_that_leaves_is_no_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    code, _, err = run("segment", picture("a.png"), *POINT)
    assert (code, err) == (141, "")


def test_a_standard_output_that_is_full(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    code, _, err = run("models")
    assert code == 7
    assert err == (
        "samlet: error: expected to write to standard output, but it failed (No space left on device); "
        "free some space or send it elsewhere\n"
    )


def test_a_fault_of_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(self: Session, image: Any) -> Any:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(Session, "embed", faulty)
    words = ("segment", picture("a.png"), *POINT)
    code, out, err = run(*words)
    assert (code, out) == (70, "")
    assert err == (
        "samlet: error: something went wrong inside samlet (ZeroDivisionError: one two); "
        "run it again with --debug to see where\n"
    )
    for debugging in (("--debug", *words), (*words, "--debug")):
        code, _, err = run(*debugging)
        assert code == 70
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("samlet: error: something went wrong")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="but it failed"):
        output.write(tmp_path / "file" / "folder", {"a.txt": b""})
