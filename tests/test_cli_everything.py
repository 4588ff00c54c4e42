"""`samlet everything` on a model without networks, and once on the built-in one."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet
import samlet.model
from samlet.cli import findings, pictures
from samlet.errors import BackendError
from samlet.model import Model
from samlet.rle import rle_to_mask, string_to_rle
from tests import cli_stubs
from tests.cli_stubs import Run, fake_model, picture, pixels, size, written

loads, run = cli_stubs.loads, cli_stubs.run  # fixtures

ALL = ("--format", ",".join(findings.FORMATS), "--use", ",".join(findings.USES))
SAMPLES = Path(__file__).parent.parent / "samples"


def painted(record: dict[str, Any]) -> Any:
    return rle_to_mask(string_to_rle(record["rle"]["counts"], record["rle"]["size"]))


def test_one_picture(run: Run, loads: list[Any]) -> None:
    code, out, err = run("everything", picture("cat.png", size=(120, 100)))
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert out.startswith("cat.png: 4 masks, scores 0.73 to 0.46 -> ")
    assert str(Path("samlet-out/cat.overlay.png")) in out
    assert all(f"{step} " in out for step in ("(embed", "ms, find", "ms, write"))
    assert written() == ["cat.overlay.png"]
    assert size("samlet-out/cat.overlay.png") == (120, 100)
    assert loads == [("nano", None)]


def test_all_files_agree(run: Run) -> None:
    code, out, err = run("everything", picture("in/cat.png", size=(120, 100)), *ALL, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    record = json.loads(out)
    assert sorted(record) == ["by", "files", "height", "image", "masks", "times_ms", "width"]
    assert (record["image"], record["width"], record["height"], record["by"]) == (
        "in/cat.png",
        120,
        100,
        "objects",
    )
    assert sorted(record["times_ms"]) == ["embed", "find", "write"]
    assert sorted(Path(path).name for path in record["files"]) == written()
    masks = record["masks"]
    assert [mask["mask"] for mask in masks] == [1, 2, 3, 4]
    assert sorted(masks[0]["facts"]) == ["box_score", "predicted_iou", "prompt_box", "stability_score"]
    labels = np.asarray(PillowImage.open("samlet-out/cat.labels.png"))
    table = list(csv.DictReader(io.StringIO(Path("samlet-out/cat.csv").read_text())))
    coco = json.loads(Path("samlet-out/cat.coco.json").read_text())
    places = json.loads(Path("samlet-out/cat.geojson").read_text())
    for number, mask in enumerate(masks, 1):
        inside = painted(mask)
        assert np.array_equal(inside, pixels(f"samlet-out/cat.mask-{number}.png"))
        assert mask["area"] == np.count_nonzero(inside) == int(table[number - 1]["area"])
        assert coco["annotations"][number - 1]["area"] == mask["area"]
        assert coco["annotations"][number - 1]["segmentation"] == mask["rle"]
        assert (labels[inside] > 0).all() and (labels == number).any()
        assert places["features"][number - 1]["properties"]["area"] == mask["area"]
        x0, y0, x1, y1 = mask["bbox_xyxy"]
        assert size(f"samlet-out/cat.cutout-{number}.png") == (x1 - x0, y1 - y0)
    proposals = json.loads(Path("samlet-out/cat.proposals.json").read_text())["proposals"]
    assert [one["bbox_xyxy"] for one in proposals] == [mask["bbox_xyxy"] for mask in masks]
    assert json.loads(Path("samlet-out/cat.json").read_text())["imagePath"] == "../in/cat.png"
    assert {each["category_id"] for each in coco["annotations"]} == {1}
    assert size("samlet-out/cat.edges.png") == (120, 100)
    assert json.loads(Path("samlet-out/cat.anomalies.json").read_text())["anomalies"] == []


def test_footprints_are_rings(run: Run) -> None:
    run("everything", picture("cat.png", size=(120, 100)), "--use", "footprints", "--quiet")
    features = json.loads(Path("samlet-out/cat.footprints.geojson").read_text())["features"]
    assert len(features) == 2  # the fake finds boxes; the upper ones are more than a quarter of the picture
    for feature in features:
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        x, y = np.array(ring).T
        assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0  # as RFC 7946 wants an outer ring
    assert written() == ["cat.footprints.geojson", "cat.footprints.png", "cat.overlay.png"]


def test_the_same_twice_is_one_file(run: Run) -> None:
    assert run("everything", picture("cat.png"), "--format", "labels", "--use", "labels")[0] == 0
    assert written() == ["cat.labels.png"]


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ((), "objects"),
        (("--by", "objects"), "objects"),
        (("--grid", "3x3"), "grid"),
        (("--by", "grid", "--grid", "3"), "grid"),
        (("--by", "hierarchical", "--grid", "4x4"), "hierarchical"),
        (("--detector", "other"), "objects"),
    ],
)
def test_ways(run: Run, words: tuple[str, ...], way: str) -> None:
    code, out, err = run("everything", picture("cat.png", size=(120, 100)), *words, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["by"] == way
    facts = record["masks"][0]["facts"]
    assert ("point_coords" in facts) is (way != "objects")
    assert ("box_score" in facts) is (way == "objects")
    scores = [mask["score"] for mask in record["masks"]]
    assert scores == sorted(scores, reverse=True)


def test_options_reach_the_model(run: Run, loads: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    everything = Model.everything
    monkeypatch.setattr(
        Model, "everything", lambda self, view, **asked: seen.append(asked) or everything(self, view, **asked)
    )
    words = ("--model", "other", "--detector", "third", "--threads", "3", "--quiet", "--at-most", "7")
    assert run("everything", picture("cat.png"), *words, "--min-score", "0.5") == (0, "", "")
    assert loads == [("other", 3), ("third", 3)]
    assert (seen[0]["by"], seen[0]["objects"].at_most, seen[0]["objects"].min_score) == ("objects", 7, 0.5)
    run("everything", "cat.png", "--grid", "2x2", "--min-score", "0.1", "--min-stability", "0.2")
    grid = seen[1]["grid"]
    assert (grid.points_per_side, grid.pred_iou_thresh, grid.stability_score_thresh) == (2, 0.1, 0.2)
    run("everything", "cat.png", "--grid", "2x2")
    assert (seen[2]["grid"].pred_iou_thresh, seen[2]["grid"].stability_score_thresh) == (
        0.75,
        0.5,
    )  # the card's


@pytest.mark.parametrize(
    ("words", "test"),
    [
        (("--at-most", "2"), lambda masks, all_: masks == all_[:2]),
        (
            ("--min-score", "0.6"),
            lambda masks, all_: 0 < len(masks) < 4 and min(m["score"] for m in masks) >= 0.6,
        ),
        (("--min-area", "99999"), lambda masks, all_: masks == []),
        (("--max-area", "99999"), lambda masks, all_: masks == all_),
        (("--min-area", "1%", "--max-area", "100 %"), lambda masks, all_: masks == all_),
        (("--max-area", "0.5%"), lambda masks, all_: masks == []),
        (("--min-stability", "1"), lambda masks, all_: len(masks) < 4),
    ],
)
def test_filters(run: Run, words: tuple[str, ...], test: Any) -> None:
    picture("cat.png", size=(120, 100))
    _, out, _ = run("everything", "cat.png", "--json")
    code, chosen, err = run("everything", "cat.png", *words, "--json")
    assert (code, err) == (0, "")
    assert test(json.loads(chosen)["masks"], json.loads(out)["masks"])


def test_tiles(run: Run) -> None:
    code, out, err = run("everything", picture("cat.png", size=(200, 150)), "--tile", "128", "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert len(record["masks"]) > 4
    assert sorted(record["masks"][0]["facts"]) == [
        "box_score",
        "cut",
        "pieces",
        "predicted_iou",
        "stability_score",
    ]
    assert record["times_ms"]["embed"] > 0
    assert painted(record["masks"][0]).shape == (150, 200)


def test_nothing_found(run: Run) -> None:
    words = (picture("cat.png"), *ALL, "--max-area", "1")
    code, out, err = run("everything", *words)
    assert code == 0
    assert out.startswith("cat.png: nothing found -> ")
    notes = sorted(line.split(": ")[2] for line in err.splitlines())
    assert notes == ["cat.salient.png", "cat.sheet.png"]
    assert "not written, because nothing was found" in err
    assert not {"cat.mask.png", "cat.salient.png", "cat.sheet.png"} & set(written())
    assert np.array_equal(PillowImage.open("samlet-out/cat.overlay.png"), PillowImage.open("cat.png"))
    assert json.loads(Path("samlet-out/cat.coco.json").read_text())["annotations"] == []
    assert len(Path("samlet-out/cat.csv").read_text().splitlines()) == 1
    assert run("everything", *words, "--quiet") == (0, "", "")


def test_the_others_go_on_when_one_is_bad(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    good, last = picture("good.png"), picture("last.png")
    code, out, err = run("everything", good, "nope.png", last, "--json")
    assert code == 6
    assert [json.loads(line)["image"] for line in out.splitlines()] == ["good.png", "last.png"]
    assert "nope.png: expected a picture file" in err
    assert written() == ["good.overlay.png", "last.overlay.png"]

    def fails(self: Model, image: Any) -> Any:
        raise BackendError("expected memory, got none; buy some")

    monkeypatch.setattr(Model, "embed", fails)
    code, _, err = run("everything", good, last)
    assert (code, err.count("buy some")) == (6, 2)
    assert run("everything", good)[0] == 5


def test_a_folder_may_be_input_and_output(run: Run) -> None:
    picture("photos/a.png", size=(120, 100))
    for _ in range(2):
        code, out, _ = run("everything", "photos", "--output", "photos", *ALL, "--json")
        assert code == 0
        assert [json.loads(line)["image"] for line in out.splitlines()] == ["photos/a.png"]
    drawn = {name for name in written("photos") if name.endswith(".png")} - {"a.png"}
    assert len(drawn) == 15
    assert all(pictures._OURS.search(name) for name in drawn)


WRONG = [
    (("--by", "guessing"), 2, "invalid choice: 'guessing'"),
    (("--grid", "3x4"), 2, "such as 32x32, got '3x4'; both sides are equal"),
    (("--grid", "0"), 2, "such as 32x32, got '0'"),
    (
        ("--grid", "8x8", "--by", "objects"),
        2,
        "expected --grid with --by grid or hierarchical, got --by objects",
    ),
    (("--grid", "8x8", "--detector", "x"), 2, "expected --detector with --by objects, got it with --grid"),
    (("--by", "grid", "--detector", "x"), 2, "expected --detector with --by objects, got it with --by grid"),
    (
        ("--by", "regions"),
        3,
        "expected --by regions for FastSAM and another way for other models, got --by regions",
    ),
    (("--at-most", "0"), 2, "expected a whole number from 1 to 4096 after --at-most, got '0'"),
    (("--at-most", "many"), 2, "expected a whole number from 1 to 4096 after --at-most, got 'many'"),
    (("--tile", "8"), 2, "expected a whole number from 64 to 16384 after --tile, got '8'"),
    (("--min-score", "2"), 2, "expected a number from 0 to 1 after --min-score, got '2'"),
    (("--min-stability", "nan"), 2, "expected a number from 0 to 1 after --min-stability, got 'nan'"),
    (
        ("--min-area", "2.5"),
        2,
        "whole pixels such as 400, or a share of the picture such as 2%, after --min-area",
    ),
    (("--max-area", "101%"), 2, "after --max-area, got '101%'"),
    (("--max-area", "-3"), 2, "expected .* argument|after --max-area"),
    (("--min-area", "9", "--max-area", "8"), 2, "expected --min-area below --max-area"),
    (("--format", "gif"), 2, r"expected formats after --format \(overlay, .*, sheet\), got 'gif'"),
    (("--use", "edges,magic"), 2, r"expected uses of the masks after --use \(edges, .*\), got 'magic'"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), WRONG)
def test_bad_options(run: Run, words: tuple[str, ...], code: int, sentence: str) -> None:
    found, out, err = run("everything", picture("cat.png"), *words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert re.search(sentence, err), err
    assert not Path("samlet-out").exists()


def test_models_that_cannot(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no picture could mend stops the run at the first one."""
    headless = {role: file for role, file in cli_stubs.CARD.graphs.items() if role != "objects"}

    def load(name: str, **_: Any) -> Model:
        if name == "headless":
            return fake_model(name="headless", graphs=headless)
        model = fake_model(name=name)
        object.__setattr__(model.card, "family", name if name in ("fastsam", "object_aware") else "sam")
        return model

    monkeypatch.setattr(samlet.model, "load", load)
    a, b = picture("a.png"), picture("b.png")
    for words, sentence in (
        (("--model", "object_aware"), "which finds boxes; give it after --detector"),
        (("--model", "fastsam", "--by", "grid"), "got --by grid for fastsam"),
        (("--model", "fastsam", "--grid", "4x4"), "expected no --grid for fastsam"),
        (("--model", "fastsam", "--min-stability", "0.5"), "expected no --min-stability for fastsam"),
        (("--detector", "headless"), "expected a model that finds boxes after --detector"),
    ):
        code, out, err = run("everything", a, b, *words)
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert sentence in err
    code, out, _ = run("everything", a, "--model", "headless", "--json")
    assert (code, len(json.loads(out)["masks"])) == (0, 4)  # nano finds the boxes


def test_progress_is_for_people(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    names = [picture("a.png"), picture("b.png")]
    for words, words_seen in ((names, True), ((*names, "--quiet"), False)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("COLUMNS", "160")
        assert run("everything", *words, "--json")[0] == 0
        assert ("masks/s" in screen.getvalue()) is words_seen
        assert ("pictures/s" in screen.getvalue()) is words_seen


def test_help_is_light_and_says_it_all() -> None:
    code = (
        "import sys; from samlet.cli import main; code = main(['everything', '--help']); "
        "heavy = {'numpy', 'PIL', 'onnxruntime', 'rich', 'torch'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy or code else 0)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(samlet.__file__).parent.parent), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=here, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in (*findings.FORMATS, *findings.USES, "hierarchical", "examples:"):
        assert word in done.stdout


def test_the_built_in_model_by_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["everything", str(SAMPLES / "coffee.jpg"), "--by", "grid", "--grid", "8x8", "--threads", "1"]
    code = samlet.cli.main([*words, "--min-score", "0.3", "--min-stability", "0.6", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert code == 0
    assert record["masks"]
    assert painted(record["masks"][0])[150, 290]  # the cup
    assert size("samlet-out/coffee.overlay.png") == (record["width"], record["height"])
