"""Bad input at the command line: one clear sentence each, the right exit code, and nothing left behind."""

import os
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet.model
from samlet.cli import main
from samlet.errors import BackendError, BusyError, MissingExtraError
from samlet.model import Model
from samlet.registry import resolve
from tests.cli_stubs import fake_model

ONE = ("--point", "40,30")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make every kind of bad file, and be in their folder."""
    monkeypatch.chdir(tmp_path)
    good = PillowImage.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    good.save("good.jpg")
    good.save("good.png")
    Path("cut.jpg").write_bytes(Path("good.jpg").read_bytes()[:1500])
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:1500])
    good.save("moving.gif", save_all=True, append_images=[good.rotate(90)])
    good.save("moving.webp", save_all=True, append_images=[good.rotate(90)])
    Path("zero.png").write_bytes(b"")
    Path("notes.png").write_text("Dear diary, today I was not a picture.")
    Path("drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Path("paper.pdf").write_bytes(b"%PDF-1.7\n")
    Path("bomb.png").write_bytes(_png_header(14_000, 14_000))
    Path("line.png").write_bytes(_png_header(20_000, 1))
    Path("broken.safetensors").write_bytes(b"\x08" + bytes(7) + b"not json")
    Path("cardless.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("a")
    Path("taken").write_text("a file")
    return tmp_path


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake_model()
    monkeypatch.setattr(samlet.model, "load", lambda name, **_: model)


def _refused(
    capsys: pytest.CaptureFixture[str], folder: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    """Run the command, and check the code, the one sentence, and that the folder is as it was."""
    before = _everything(folder)
    assert main(list(words)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("samlet: error: ")
    assert re.search(sentence, captured.err), captured.err
    assert not re.search(r"Traceback|usage:|\.$", captured.err)
    assert _everything(folder) == before


def _everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


PICTURES = [
    ("nope.jpg", 2, r"nope\.jpg: expected a picture file, but there is none; check the path"),
    ("https://example.org/cat.jpg", 2, "there is none; download it first"),
    ("empty", 2, r"empty: expected pictures \(\.jpg, .*\) in the folder, found none; .*--recursive"),
    ("texts", 2, "texts: expected pictures .* in the folder, found none"),
    ("notes.png", 2, r"notes\.png: expected a picture of format JPEG, .* got a text file; convert it"),
    ("drawing.svg", 2, "got an SVG; convert it"),
    ("paper.pdf", 2, "got a PDF; convert it"),
    ("cut.jpg", 2, r"cut\.jpg: expected a complete picture, got a damaged one"),
    ("cut.png", 2, r"cut\.png: expected a complete picture, got a damaged one"),
    ("zero.png", 2, r"zero\.png: expected a picture, got a file of 0 bytes"),
    ("moving.gif", 2, r"moving\.gif: expected a picture of format .* got a GIF"),
    ("moving.webp", 2, r"moving\.webp: expected at most 1 frame\(s\), got an animation"),
    ("bomb.png", 2, "expected at most 50,000,000 pixels, got 14000 x 14000 = 196,000,000"),
    ("line.png", 2, "expected sides of at most 16,384 pixels, got 20000 x 1"),
    ("a\0b.png", 2, "expected a readable file, but opening it failed"),
    ("good.png/cat.png", 2, r"expected a readable file, but opening it failed \(Not a directory\)"),
]


@pytest.mark.parametrize(("name", "code", "sentence"), PICTURES)
def test_pictures(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    sentence: str,
) -> None:
    _fake(monkeypatch)
    _refused(capsys, folder, ("segment", name, *ONE), code, sentence)


PROMPTS = [
    ((), 2, "expected a prompt, got none; point at the object with --point x,y or frame it with --box"),
    (
        ("--point", "80.5,30"),
        2,
        r"inside the picture of 80 x 60 pixels \(width x height\), got \(80\.5, 30\)",
    ),
    (("--point", "-1,30"), 2, r"expected points inside the picture .* got \(-1, 30\)"),
    (("--not-point", "3,61"), 2, r"expected points inside the picture .* got \(3, 61\)"),
    (("--point", "12"), 2, "expected two numbers x,y after --point, got '12'"),
    (("--point", "1,2,3"), 2, "expected two numbers x,y after --point, got '1,2,3'"),
    (("--point", "left,top"), 2, "expected two numbers x,y after --point, got 'left,top'"),
    (("--point", "nan,3"), 2, "expected two numbers x,y after --point, got 'nan,3'"),
    (("--not-point", "3,inf"), 2, "expected two numbers x,y after --not-point, got '3,inf'"),
    (("--point", ""), 2, "expected two numbers x,y after --point, got ''"),
    (("--point", "1" * 5000 + ",x"), 2, "expected two numbers x,y after --point, got '1+; give"),
    (("--point",), 2, "argument --point: expected one argument; see samlet segment --help"),
    (("--box", "50,40,10,10"), 2, r"with x0 < x1 and y0 < y1, got the reversed \(50, 40, 10, 10\)"),
    (("--box", "10,10,10,40"), 2, r"expected boxes with an area, got \(10, 10, 10, 40\) of zero area"),
    (("--box", "90,5,95,9"), 2, "expected boxes that overlap the picture of 80 x 60 pixels"),
    (("--box", "-9,-9,-1,-1"), 2, "expected boxes that overlap the picture of 80 x 60 pixels"),
    (("--box", "1,2,3"), 2, "expected four numbers x0,y0,x1,y1 after --box, got '1,2,3'"),
    (("--box", "1,2,3,four"), 2, "expected four numbers x0,y0,x1,y1 after --box, got '1,2,3,four'"),
    (("--box", "1,2,3,1e999"), 2, "expected four numbers x0,y0,x1,y1 after --box"),
    (
        (*ONE, "--box", "1,1,9,9", "--box", "2,2,8,8"),
        2,
        "at most one --box along with points, got 2; .* one object",
    ),
    (("--point", "1,1") * 1025, 2, "1,?024"),
    (("--box", "1,1,9,9") * 4097, 2, "4,?096"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), PROMPTS)
def test_prompts(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    _fake(monkeypatch)
    _refused(capsys, folder, ("segment", "good.png", *words), code, sentence)


OPTIONS = [
    ((), 2, r"expected a command \(segment, everything, .*, evaluate, .*\), got none; see samlet --help"),
    (("segmnt", "good.png"), 2, "invalid choice: 'segmnt'.*; see samlet --help"),
    (("segment",), 2, "the following arguments are required: PHOTO; see samlet segment --help"),
    (("segment", "good.png", *ONE, "--colour", "red"), 2, "unrecognized arguments: --colour red; see"),
    (("segment", "good.png", *ONE, "--multi"), 2, "unrecognized arguments: --multi; see"),
    (("segment", "good.png", *ONE, "--zoom", "2"), 2, "argument --zoom: invalid choice: '2'"),
    (
        ("segment", "good.png", *ONE, "--threads", "0"),
        2,
        "a whole number from 1 to 4096 after --threads, got '0'",
    ),
    (("segment", "good.png", *ONE, "--threads", "two"), 2, "after --threads, got 'two'"),
    (
        ("segment", "good.png", *ONE, "--format", "mask,gif"),
        2,
        r"\(overlay, mask, cutout, coco, polygons, labelme, yolo\), got 'gif'; separate several by commas",
    ),
    (("segment", "good.png", *ONE, "--format", ","), 2, "expected formats after --format .* got none"),
    (("segment", "good.png", *ONE, "--label", " "), 2, "expected a name after --label, got ' '"),
    (("segment", "good.png", *ONE, "--label", "a\nb"), 2, "expected a name after --label"),
    (("segment", "good.png", *ONE, "--output", ""), 2, "expected a folder after --output, got ''"),
    (
        ("segment", "good.png", *ONE, "--output", "taken"),
        7,
        "expected a folder after --output, got the file 'taken'",
    ),
    (
        ("segment", "good.png", *ONE, "--output", "taken/inner"),
        7,
        r"make the output folder 'taken.inner', but it failed \(Not a directory\)",
    ),
    (
        ("models", "nanoo"),
        3,
        r"expected the name of a model, such as nano .*, got 'nanoo'; did you mean nano\?",
    ),
]


@pytest.mark.parametrize(("words", "code", "sentence"), OPTIONS)
def test_options(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    _fake(monkeypatch)
    _refused(capsys, folder, words, code, sentence)


MODELS = [
    ("nanoo", 3, r"expected the name of a model, such as nano .*, got 'nanoo'; did you mean nano\?"),
    ("yolo", 3, r"expected the name of a model, .*, got 'yolo'; `samlet models` lists them"),
    ("", 3, r"expected the name of a model, .*, got ''"),
    ("gone.safetensors", 3, r"expected a model file at 'gone\.safetensors', found none; correct the path"),
    ("broken.safetensors", 3, r"expected model weights that samlet can read in broken\.safetensors"),
    ("cardless.safetensors", 3, r"the weights of a network in cardless\.safetensors, found none that"),
]


@pytest.mark.parametrize(("name", "code", "sentence"), MODELS)
def test_models(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, code: int, sentence: str
) -> None:
    """Here the real `load` is at work."""
    _refused(capsys, folder, ("segment", "good.png", *ONE, "--model", name), code, sentence)


def test_a_broken_model_ends_a_run_of_several_pictures_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("segment", "good.png", "good.jpg", *ONE, "--model", "broken.safetensors")
    _refused(capsys, folder, words, 3, "expected model weights that samlet can read")


def test_a_damaged_built_in_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A good packed copy from an earlier start would be used in place of the damaged file.
    monkeypatch.setenv("SAMLET_CACHE", str(folder / ".cache"))
    Path("weights.bin").write_bytes(b"damaged")
    card = resolve("nano")
    damaged = replace(card.files[0], path=str(folder / "weights.bin"), size=7)
    monkeypatch.setattr("samlet.registry.resolve", lambda name, decoder=None: card.with_files(damaged))
    words = ("segment", "good.png", *ONE)
    _refused(capsys, folder, words, 3, r"expected sha256 .* the file is damaged or another one")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingExtraError("expected torch, got none; install it with pip install 'samlet[torch]'"), 3),
        (BusyError("expected a free place, got a full queue; try again later"), 4),
        (BackendError("expected an answer, got none; report it"), 5),
        (RuntimeError("two\nlines"), 70),
    ],
)
def test_errors_of_the_model(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    def load(name: str, **_: Any) -> Model:
        raise error

    monkeypatch.setattr(samlet.model, "load", load)
    sentence = re.escape(" ".join(str(error).split()))
    _refused(capsys, folder, ("segment", "good.png", *ONE), code, sentence)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (28, "could not write .*: the disk is full; free some space"),
        (13, "could not write .*: permission was refused"),
        (30, "could not write .*: the disk is read-only"),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_outputs_that_cannot_be_written(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    sentence: str,
    existing: bool,
) -> None:
    _fake(monkeypatch)
    if existing:
        Path("samlet-out").mkdir()
        Path("samlet-out/good.mask.png").write_bytes(b"an earlier result")

    def refuse(descriptor: int, data: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    words = ("segment", "good.png", *ONE, "--format", "mask,coco,overlay")
    _refused(capsys, folder, words, 7, sentence)


def test_a_picture_that_may_not_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Any, *rest: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    _fake(monkeypatch)
    # Patched, because the rights of a file do not stop root.
    monkeypatch.setattr("samlet.image.open", refuse, raising=False)
    words = ("segment", "good.png", *ONE)
    _refused(capsys, folder, words, 2, r"opening it failed \(Permission denied\); check path and rights")
