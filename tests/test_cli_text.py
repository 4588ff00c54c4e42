"""`samlet text` on a model without networks and readers that know colours."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet.text
from samlet.errors import MissingExtraError
from samlet.text import CLIP_FILES, Detections
from tests import cli_stubs
from tests.cli_stubs import Run, size, written

loads, run = cli_stubs.loads, cli_stubs.run  # fixtures

COLORS = {"red": (220, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 220)}


@pytest.fixture
def flag(tmp_path: Path) -> str:
    """A picture whose quarters, which the fake takes for objects, are red, green, blue and black."""
    pixels = np.zeros((120, 120, 3), np.uint8)
    pixels[:60, :60], pixels[:60, 60:], pixels[60:, :60] = COLORS.values()
    PillowImage.fromarray(pixels).save(tmp_path / "flag.png")
    return "flag.png"


def rate(crops: Sequence[Any], text: str) -> list[float]:
    """Score crops by the share of their pixels that are of a colour."""
    color = np.array(COLORS.get(text, (255, 0, 255)))
    return [100 * float((np.abs(crop.astype(int) - color).sum(axis=2) < 60).mean()) for crop in crops]


class Boxes:
    """Finds two boxes for red and none for anything else."""

    def detect(self, image: Any, texts: Sequence[str], *, threshold: float) -> Detections:
        scores = np.array([0.9, 0.5]) if "red" in texts else np.zeros(0)
        kept = scores >= threshold
        boxes = np.array([[5.0, 5, 55, 55], [65, 65, 110, 110]])[: len(scores)]
        return Detections(boxes.reshape(-1, 4)[kept], scores[kept], ["red"] * int(kept.sum()))


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []
    monkeypatch.setattr(samlet.text, "default_scorer", lambda: asked.append("default") or rate)
    monkeypatch.setattr(samlet.text, "load_clip", lambda *files, **more: asked.append((files, more)) or rate)
    monkeypatch.setattr(
        samlet.text, "load_detector", lambda name, **more: asked.append((name, more)) or Boxes()
    )
    return asked


def test_words_choose_regions(run: Run, readers: list[Any], flag: str) -> None:
    code, out, err = run("text", flag, "--find", "red", "--find", "blue")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 3)
    assert lines[0].startswith("flag.png: 2 masks -> ") and "flag.overlay.png (find " in lines[0]
    assert lines[1].startswith("  1 red: text score ") and " of the picture, box " in lines[1]
    assert lines[2].startswith("  2 blue: ")
    assert readers == ["default"]
    assert written() == ["flag.overlay.png"]
    assert size("samlet-out/flag.overlay.png") == (120, 120)


def test_labels_are_the_texts(run: Run, readers: list[Any], flag: str) -> None:
    words = ("--find", "green", "--find", "red", "--find", "purple", "--threshold", "10", "--json")
    code, out, err = run("text", flag, *words, "--format", "coco,labelme,geojson,csv,yolo,polygons,mask")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert sorted(record) == ["files", "height", "image", "masks", "texts", "times_ms", "width"]
    assert record["texts"] == ["green", "red", "purple"]
    assert [mask["text"] for mask in record["masks"]] == ["green", "red"]
    assert {"text_score", "text_share", "box_score"} <= set(record["masks"][0]["facts"])
    x0, y0, x1, y1 = record["masks"][0]["bbox_xyxy"]
    assert 50 < (x0 + x1) / 2 and (y0 + y1) / 2 < 70  # the upper right quarter
    coco = json.loads(Path("samlet-out/flag.coco.json").read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    assert [names[each["category_id"]] for each in coco["annotations"]] == ["green", "red"]
    assert [each["label"] for each in json.loads(Path("samlet-out/flag.json").read_text())["shapes"]] == [
        "green",
        "red",
    ]
    places = json.loads(Path("samlet-out/flag.geojson").read_text())["features"]
    assert [each["properties"]["label"] for each in places] == ["green", "red"]
    polygons = json.loads(Path("samlet-out/flag.polygons.json").read_text())["objects"]
    assert [each["label"] for each in polygons] == ["green", "red"]
    assert [line.split()[0] for line in Path("samlet-out/flag.txt").read_text().splitlines()] == ["0", "1"]
    assert ",green," in Path("samlet-out/flag.csv").read_text()


def test_yolo_numbers_texts_as_they_were_given(run: Run, readers: list[Any], flag: str) -> None:
    words = ("--find", "purple", "--find", "red", "--threshold", "10", "--format", "yolo", "--quiet")
    assert run("text", flag, *words) == (0, "", "")
    assert Path("samlet-out/flag.txt").read_text().startswith("1 ")


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 1),
        (("--at-most", "2"), 2),
        (("--at-most", "all"), 4),
        (("--at-most", "all", "--threshold", "5"), 1),
    ],
)
def test_how_many(run: Run, readers: list[Any], flag: str, words: tuple[str, ...], count: int) -> None:
    _, out, _ = run("text", flag, "--find", "red", *words, "--json")
    assert len(json.loads(out)["masks"]) == count


def test_clip_by_its_files(run: Run, readers: list[Any], flag: str) -> None:
    code, _, _ = run("text", flag, "--find", "red", "--clip", "a.onnx", "b.onnx", "c.json", "--threads", "2")
    assert code == 0
    assert readers == [(("a.onnx", "b.onnx", "c.json"), {"threads": 2})]


def test_a_detector(run: Run, readers: list[Any], flag: str) -> None:
    words = ("text", flag, "--find", "red", "--find", "a bench", "--detector", "some/where")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "flag.png",
        "  1 red",
        "  2 red",
        "  a bench",
    ]
    assert "  1 red: text score 0.90, " in out and out.endswith("  a bench: nothing\n")
    for more, count in ((("--at-most", "1"), 1), (("--at-most", "all"), 2), (("--threshold", "0.6"), 1)):
        _, out, _ = run(*words, *more, "--json", "--download")
        assert [mask["text"] for mask in json.loads(out)["masks"]] == ["red"] * count
    assert readers[0] == ("some/where", {"local_files_only": True})
    assert readers[1] == ("some/where", {"local_files_only": False})


def test_nothing_found(run: Run, readers: list[Any], flag: str) -> None:
    words = ("text", flag, "--find", "a bench", "--detector", "x", "--format", "overlay,mask,coco,sheet")
    code, out, err = run(*words)
    assert code == 0
    assert out.splitlines()[0].startswith("flag.png: nothing found -> ")
    assert err == "samlet: note: flag.sheet.png: not written, because nothing was found to show in it\n"
    assert written() == ["flag.coco.json", "flag.overlay.png"]
    assert json.loads(run(*words, "--json", "--quiet")[1])["masks"] == []


def test_no_reader_is_said_once(run: Run, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "empty"))
    code, out, err = run("text", flag, "other.png", "--find", "a dog")
    assert (code, out, err.count("\n")) == (MissingExtraError.exit_code, "", 1)
    assert CLIP_FILES[0].file_name in err and "by_hand" in err
    assert err.endswith(", or name a CLIP's files with --clip or a detector with --detector\n")
    assert "scorer=" not in err


def test_a_detector_that_is_not_here(run: Run, flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice is for the command line, not for people who write programs."""

    class Nothing:
        class AutoProcessor:
            @staticmethod
            def from_pretrained(name: str, **options: Any) -> Any:
                raise OSError("not found")

    words = ("text", flag, "--find", "a dog", "--detector", "some/where")
    monkeypatch.setattr(samlet.text.detectors, "import_module", lambda name: Nothing)
    code, _, err = run(*words)
    assert (code, err.endswith("; correct the name, or add --download\n")) == (3, True)
    assert run(*words, "--download")[2].endswith("; correct the name\n")

    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(samlet.text.detectors, "import_module", absent)
    assert run(*words)[2].endswith("need the packages transformers and torch; install them\n")


def test_the_others_go_on_when_one_is_bad(run: Run, readers: list[Any], flag: str) -> None:
    code, out, err = run("text", "nope.png", flag, "--find", "red", "--json")
    assert (code, out.count("\n")) == (6, 1)
    assert "nope.png: expected a picture file" in err


WRONG = [
    ((), "the following arguments are required: --find"),
    (("--find", " "), "expected a phrase or a list of them"),
    (("--find", "a", "--find", "a"), "different phrases, got 2, 1 of them different"),
    (("--find", "a", "--clip", "x.onnx"), "argument --clip: expected 3 arguments"),
    (("--find", "a", "--clip", "x", "y", "z", "--detector", "d"), "not allowed with argument --clip"),
    (("--find", "a", "--download"), "expected --download with --detector, got it alone"),
    (
        ("--find", "a", "--detector", "d", "--threshold", "24"),
        "expected --threshold from 0 to 1 with --detector, got 24",
    ),
    (("--find", "a", "--threshold", "much"), "expected a number after --threshold, got 'much'"),
    (
        ("--find", "a", "--at-most", "0"),
        "whole number from 1 to 4096 after --at-most, got '0'; or give the word all",
    ),
    (("--find", "a", "--format", "svg"), "got 'svg'"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG)
def test_bad_options(run: Run, readers: list[Any], flag: str, words: tuple[str, ...], sentence: str) -> None:
    code, out, err = run("text", flag, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(re.escape(sentence), err), err
    assert not Path("samlet-out").exists()


def test_help(run: Run) -> None:
    code, out, err = run("text", "--help")
    assert (code, err) == (0, "")
    for word in ("--find TEXT", "--clip", "text-prompts.md", "examples:", "Nothing found is no error"):
        assert word in out
