"""The command line on a model without networks: what it prints, what it writes, what it returns."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samlet
from samlet.cli import output, pictures
from samlet.errors import ImageError
from samlet.model import Model
from samlet.registry import resolve
from samlet.rle import rle_to_mask, string_to_rle
from tests import cli_stubs
from tests.cli_stubs import BOX, POINT, Run, picture, pixels, size, written

ALL = ",".join(output.FORMATS)
HERE = {**os.environ, "PYTHONPATH": str(Path(samlet.__file__).parent.parent), "PYTHONWARNINGS": ""}

loads, run = cli_stubs.loads, cli_stubs.run  # fixtures


def test_one_picture(run: Run, loads: list[Any]) -> None:
    code, out, err = run("segment", picture("cat.png"), *POINT)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert out.startswith("cat.png: score 0.90, ")
    assert " % of the picture, box 28,18,52,42 -> " in out
    assert str(Path("samlet-out/cat.overlay.png")) in out
    assert "(embed " in out and "segment " in out and out.endswith(" ms)\n")
    assert written() == ["cat.overlay.png"]
    assert size("samlet-out/cat.overlay.png") == (80, 60)
    assert loads == [("nano", None)]


def test_backend_and_shape(run: Run, loads: list[Any]) -> None:
    code, _, _ = run("segment", picture("cat.png"), *POINT, "--backend", "openvino:bf16", "--shape", "fit")
    assert code == 0
    assert loads == [("nano", None, "fit", "openvino:bf16")]
    code, _, err = run("segment", "cat.png", *POINT, "--shape", "round")
    assert code == 2
    assert "--shape" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (POINT, ["overlay.png", "mask.png", "cutout.png"]),
        (BOX, ["overlay.png", "mask.png", "cutout.png"]),
        ((*POINT, *BOX), ["overlay.png", "mask.png", "cutout.png"]),
        ((*BOX, *BOX), ["overlay.png", "mask-1.png", "mask-2.png", "cutout-1.png", "cutout-2.png"]),
        (
            (*POINT, "--multimask"),
            [f"{name}-{letter}.png" for name in ("overlay", "mask", "cutout") for letter in "abc"],
        ),
        (
            (*BOX, *BOX, "--multimask"),
            [f"overlay-{letter}.png" for letter in "abc"]
            + [f"{name}-{n}{letter}.png" for name in ("mask", "cutout") for n in (1, 2) for letter in "abc"],
        ),
    ],
)
def test_names_of_files(run: Run, words: tuple[str, ...], expected: list[str]) -> None:
    code, _, err = run("segment", picture("cat.png"), *words, "--format", ALL)
    assert (code, err) == (0, "")
    data = ["coco.json", "polygons.json", "json", "txt"]
    assert written() == sorted(f"cat.{name}" for name in (*expected, *data))


def test_contents_agree(run: Run) -> None:
    words = ("--box", "10,10,50,40", "--box", "55,5,75,20", "--format", ALL, "--label", "dog", "--json")
    code, out, err = run("segment", picture("in/cat.png"), *words)
    assert (code, err, out.count("\n")) == (0, "", 1)
    record = json.loads(out)
    assert sorted(record) == ["files", "height", "image", "objects", "prompt", "times_ms", "width"]
    assert (record["image"], record["width"], record["height"]) == ("in/cat.png", 80, 60)
    assert record["prompt"] == {"boxes": [[10, 10, 50, 40], [55, 5, 75, 20]]}
    assert sorted(record["times_ms"]) == ["embed", "segment"]
    assert sorted(Path(path).name for path in record["files"]) == written()
    for number, found in enumerate(record["objects"], 1):
        mask = pixels(f"samlet-out/cat.mask-{number}.png")
        assert found["object"] == number
        assert "candidate" not in found
        assert found["area"] == np.count_nonzero(mask) > 0
        assert np.array_equal(rle_to_mask(string_to_rle(found["rle"]["counts"], found["rle"]["size"])), mask)
        x0, y0, x1, y1 = found["bbox_xyxy"]
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert size(f"samlet-out/cat.cutout-{number}.png") == (x1 - x0, y1 - y0)
    coco = json.loads(Path("samlet-out/cat.coco.json").read_text())
    assert [each["area"] for each in coco["annotations"]] == [each["area"] for each in record["objects"]]
    assert coco["images"][0]["file_name"] == "cat.png"
    assert coco["categories"][0]["name"] == "dog"
    labelme = json.loads(Path("samlet-out/cat.json").read_text())
    assert labelme["imagePath"] == "../in/cat.png"  # as labelme will look for it, from where its file lies
    assert [shape["label"] for shape in labelme["shapes"]] == ["dog", "dog"]
    polygons = json.loads(Path("samlet-out/cat.polygons.json").read_text())
    assert [each["label"] for each in polygons["objects"]] == ["dog", "dog"]
    assert len(polygons["objects"][0]["polygons"][0]["exterior"]) >= 4
    assert Path("samlet-out/cat.txt").read_text().count("\n") == 2


def test_prompts_are_understood(run: Run) -> None:
    words = (
        "--point",
        "40,30",
        "--not-point",
        "60.5,30",
        "--point",
        "0,0",
        "--box",
        "-5,-5,500,55",
        "--json",
    )
    code, out, _ = run("segment", picture("cat.png"), *words)
    assert code == 0
    assert json.loads(out)["prompt"] == {
        "points": [[40, 30], [60.5, 30], [0, 0]],
        "labels": [1, 0, 1],
        "boxes": [[-5, -5, 500, 55]],
    }
    assert len(json.loads(out)["objects"]) == 1


def test_candidates_come_best_first(run: Run) -> None:
    code, out, _ = run(
        "segment", picture("cat.png"), *POINT, "--multimask", "--json", "--format", "mask,coco"
    )
    found = json.loads(out)["objects"]
    assert code == 0
    assert [each["candidate"] for each in found] == ["a", "b", "c"]
    assert [each["score"] for each in found] == [0.8, 0.7, 0.6]  # the fake network gives .6, .8, .7
    for each in found:
        mask = pixels(f"samlet-out/cat.mask-{each['candidate']}.png")
        assert np.count_nonzero(mask) == each["area"]
    coco = json.loads(Path("samlet-out/cat.coco.json").read_text())
    assert [each["score"] for each in coco["annotations"]] == [0.8]


def test_candidates_for_people(run: Run) -> None:
    _, out, _ = run("segment", picture("cat.png"), *BOX, *BOX, "--multimask", "--format", "mask")
    lines = out.splitlines()
    assert lines[0].startswith("cat.png: 6 masks -> 6 files in samlet-out (")
    assert [line[:5] for line in lines[1:]] == ["  1a:", "  1b:", "  1c:", "  2a:", "  2b:", "  2c:"]


def test_options_reach_the_model(run: Run, loads: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    segment = Model.segment
    monkeypatch.setattr(
        Model, "segment", lambda self, view, **asked: seen.append(asked) or segment(self, view, **asked)
    )
    words = ("--model", "other", "--threads", "3", "--zoom", "auto", "--quiet")
    assert run("segment", picture("cat.png"), *BOX, *words) == (0, "", "")
    assert loads == [("other", 3)]
    assert seen == [{"boxes": [[10, 10, 50, 40]], "multimask": False, "zoom": "auto"}]


def test_folders_and_several_pictures(run: Run, loads: list[Any]) -> None:
    picture("photos/b.jpg")
    picture("photos/a.PNG")
    picture("photos/.hidden.png")
    picture("photos/inner/c.png")
    Path("photos/notes.txt").write_text("no picture")
    picture("d.bmp")
    code, out, err = run("segment", "d.bmp", "photos", *POINT)
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == ["d.bmp", "photos/a.PNG", "photos/b.jpg"]
    assert written() == ["a.overlay.png", "b.overlay.png", "d.overlay.png"]
    assert len(loads) == 1
    _, out, _ = run("segment", "photos", *POINT, "--recursive", "--json")
    assert [json.loads(line)["image"] for line in out.splitlines()] == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/inner/c.png",
    ]


def test_a_folder_may_be_input_and_output(run: Run) -> None:
    """A second run must not segment what the first one drew."""
    picture("photos/a.png")
    for _ in range(2):
        code, out, _ = run(
            "segment", "photos", *BOX, *BOX, "--output", "photos", "--format", "overlay,mask,cutout", "--json"
        )
        assert code == 0
        assert [json.loads(line)["image"] for line in out.splitlines()] == ["photos/a.png"]
    assert "a.mask-2.png" in written("photos")


def test_the_output_folder_is_no_input(run: Run) -> None:
    picture("photos/a.png")
    for _ in range(2):
        code, out, _ = run("segment", "photos", *POINT, "--output", "photos/out", "--recursive", "--json")
        assert (code, out.count("\n")) == (0, 1)


def test_equal_names_do_not_overwrite_each_other(run: Run) -> None:
    names = [
        picture(f"{place}.png", seed=i) for i, place in enumerate(("a/cat", "b/cat", "c/Cat", "d/cat-2"))
    ]
    code, out, _ = run("segment", *names, *POINT, "--json")
    files = [json.loads(line)["files"][0] for line in out.splitlines()]
    assert code == 0
    assert [Path(path).name for path in files] == [
        "cat.overlay.png",
        "cat-2.overlay.png",
        "Cat-3.overlay.png",
        "cat-2-2.overlay.png",
    ]
    assert len(written()) == 4


def test_a_picture_of_the_run_is_not_overwritten(run: Run) -> None:
    first, second = picture("cat.png"), picture("cat.overlay.png", seed=1)
    before = Path(second).read_bytes()
    code, _, _ = run("segment", first, second, *POINT, "--output", ".")
    assert code == 0
    assert Path(second).read_bytes() == before
    assert written(".") == ["cat-2.overlay.png", "cat.overlay.overlay.png", "cat.overlay.png", "cat.png"]


def test_a_second_run_replaces_the_first(run: Run) -> None:
    picture("cat.png")
    run("segment", "cat.png", *POINT)
    before = Path("samlet-out/cat.overlay.png").read_bytes()
    run("segment", "cat.png", *BOX)
    assert Path("samlet-out/cat.overlay.png").read_bytes() != before
    assert written() == ["cat.overlay.png"]


def test_a_picture_that_comes_twice_is_taken_once(run: Run) -> None:
    picture("photos/cat.png")
    code, out, err = run("segment", "photos", "photos/../photos/cat.png", *POINT)
    assert (code, out.count("\n")) == (0, 1)
    assert err == "samlet: note: photos/../photos/cat.png: comes twice and is taken once\n"


def test_a_file_name_cannot_move_the_cursor(run: Run) -> None:
    code, out, err = run("segment", picture("a\nb\x1b[2J.png"), *POINT)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert "\x1b" not in out


def test_progress_is_for_people(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    names = [picture("a.png"), picture("b.png")]
    for words, bar in ((names, True), (names[:1], False), ((*names, "--quiet"), False)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        code, out, _ = run("segment", *words, *POINT, "--json")
        assert code == 0
        assert [json.loads(line)["image"] for line in out.splitlines()] == [w for w in words if w[0] != "-"]
        assert ("pictures" in screen.getvalue()) is bar


def test_models(run: Run) -> None:
    code, out, err = run("models", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [record["name"] for record in records] == samlet.models()
    assert set(records[0]) >= {
        "family",
        "title",
        "bytes",
        "licence",
        "weights_licence",
        "quality",
        "available",
    }
    code, out, _ = run("models")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1 : lines.index("")]] == samlet.models()
    code, out, _ = run("models", "nano", "default")
    assert code == 0
    assert out.count("nano\n") == 2
    assert "weights licence" in out and "available here" in out


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"size": 1}, "no, its weights are damaged"),
        ({"path": "weights/nothing.safetensors"}, "no, its weights are missing"),
        ({"path": None, "url": "https://example.org/x"}, "no, its weights have to be downloaded"),
    ],
)
def test_models_that_are_not_here(
    run: Run, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], state: str
) -> None:
    card = resolve("nano")
    absent = card.with_files(replace(card.files[0], **change))
    monkeypatch.setattr("samlet.registry.cards", lambda: {"nano": absent})
    _, out, _ = run("models", "--json")
    assert (json.loads(out)["available"], json.loads(out)["state"]) == (False, state)


def test_help_and_version(run: Run) -> None:
    assert run("--version") == (0, f"samlet {samlet.__version__}\n", "")
    for words, text in (
        (("--help",), "segment"),
        (("segment", "--help"), "describe ONE object"),
        (("models", "--help"), "--json"),
        (("evaluate", "--help"), "--on"),
    ):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert text in " ".join(out.split())


def test_find_reports_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    found, twice = pictures.find([str(tmp_path)])
    assert twice == []
    assert isinstance(found[0], ImageError)
    assert "Permission denied" in str(found[0])


def test_the_command_is_light() -> None:
    """Help must not wait for numpy, Pillow or a runtime."""
    code = (
        "import sys; from samlet.cli import main; code = main(['segment', '--help']); "
        "heavy = {'numpy', 'PIL', 'onnxruntime', 'rich', 'torch'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy or code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_as_a_process(tmp_path: Path) -> None:
    """The whole way through `python -m samlet`: exit code, one sentence, nothing on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "samlet", "segment", "nope.jpg", "--point", "1,2"],
        cwd=tmp_path,
        env=HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "samlet: error: nope.jpg: expected a picture file, but there is none; check the path\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of another kind")
def test_head_leaves_no_complaint() -> None:
    """Python would print a BrokenPipeError while it exits."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "samlet", "models"],
        env=HERE,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
