"""`samlet annotate`: boxes in every form become masks in every form, with figures of quality and a page for review."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.batch import boxes, review
from samlet.batch.quality import rated
from samlet.batch.recipe import Recipe
from samlet.cli import annotate, batch, main
from samlet.data import Dataset
from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks
from tests import data_sets
from tests.test_batch import Inline

HW = (96, 128)
BOXES = [(20, 16, 60, 56), (76, 40, 112, 84)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the work be done in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch, "engine_of", lambda args: Inline())
    return tmp_path


def scene(path: Path) -> None:
    """A red and a blue rectangle on gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*HW, 3), 128, np.uint8)
    for (x0, y0, x1, y1), colour in zip(BOXES, ((200, 30, 30), (30, 30, 200)), strict=True):
        pixels[y0:y1, x0:x1] = colour
    PillowImage.fromarray(pixels).save(path)


def yolo_set(root: Path) -> Path:
    for name in ("a", "sub/b"):
        scene(root / "images" / f"{name}.png")
        lines = [
            f"{kind} {(x0 + x1) / 256} {(y0 + y1) / 192} {(x1 - x0) / 128} {(y1 - y0) / 96}"
            for kind, (x0, y0, x1, y1) in zip((4, 1), BOXES, strict=True)
        ]
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    scene(root / "images" / "none.png")
    return root


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def truths() -> list[np.ndarray]:
    made = []
    for x0, y0, x1, y1 in BOXES:
        mask = np.zeros(HW, bool)
        mask[y0:y1, x0:x1] = True
        made.append(mask)
    return made


def test_boxes_come_back_as_masks_in_every_form(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = yolo_set(place / "set")
    words = [
        "annotate",
        f"yolo:{root}",
        "--output",
        "out",
        "--format",
        "yolo,coco,labelme,voc,labels",
        "--zoom",
        "off",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == "4 boxes in 3 pictures: 4 masks -> out\n" and "review.html" in said.err
    for kind, path in (
        ("yolo", "back"),
        ("coco", "out/coco.json@set/images"),
        ("labelme", "out/labelme@set/images"),
    ):
        if kind == "yolo":
            (place / "back").mkdir()
            (place / "back" / "images").symlink_to(root / "images")
            (place / "back" / "labels").symlink_to(place / "out" / "yolo")
        dataset = Dataset.open(f"{kind}:{path}")
        item = next(item for item in dataset.items if item.file_name == "a.png")
        for region, truth in zip(dataset.read(item).regions, truths(), strict=True):
            assert overlap(region.mask, truth) > 0.8, kind
    # Numbers of classes are those that came in, and a picture without boxes is one without objects.
    assert [line.split()[0] for line in Path("out/yolo/sub/b.txt").read_text().splitlines()] == ["4", "1"]
    assert Path("out/yolo/classes.txt").read_text().split() == ["0", "1", "2", "3", "4"]
    assert Path("out/yolo/none.txt").read_text() == ""
    xml = Path("out/voc/Annotations/a.xml").read_text()
    assert xml.count("<object>") == 2 and "<name>4</name>" in xml
    assert np.unique(np.asarray(PillowImage.open("out/voc/SegmentationObject/a.png"))).tolist() == [0, 1, 2]
    coco = json.loads(Path("out/coco.json").read_text())["annotations"]
    assert all(0 <= one[name] <= 1 for one in coco for name in ("score", "stability", "agreement", "doubt"))
    assert main([*words, "--json"]) == 0, "again: nothing is left to do"
    assert json.loads(capsys.readouterr().out)["worked_on"] == 0


def test_the_page_shows_the_most_doubtful_first_and_loads_nothing(place: Path) -> None:
    root = yolo_set(place / "set")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.9 0.06\n1 0.3125 0.375 0.3125 0.41666\n")
    (root / "classes.txt").write_text("<b>thin\n=cmd()\n")
    assert main(["annotate", str(root), "--output", "out", "--zoom", "off", "--quiet"]) == 0
    rows = list(csv.DictReader(Path("out/quality.csv").read_text().splitlines()))
    assert [row["label"] for row in rows][:2] == ["<b>thin", "'=cmd()"] and len(rows) == 4
    page = Path("out/review.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 4
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page and "<b>thin" not in page
    shown = [float(part.split("<")[0]) for part in page.split("<br>doubt ")[1:]]
    assert shown == sorted(shown, reverse=True)
    worst = max(rows, key=lambda row: float(row["doubt"]))
    assert worst["label"] == "<b>thin", "a box across the picture that is no object"


def test_what_is_broken_is_listed_and_the_rest_is_done(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_set(place / "set")
    (root / "labels" / "a.txt").write_text("0 0.3 0.37 0.3 0.4\nnonsense\n")
    (root / "images" / "broken.png").write_bytes(b"no picture")
    (root / "labels" / "broken.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert main(["annotate", f"yolo:{root}", "--output", "out", "--zoom", "off"]) == 6
    assert "2 pictures or marks were left out" in capsys.readouterr().err
    left = [json.loads(line)["name"] for line in Path("out/left_out.jsonl").read_text().splitlines()]
    assert left == ["a, line 2", "broken"]
    assert len(Path("out/yolo/a.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["masks:set", "--output", "out"], "expected a folder images/"),
        (["csv:empty.csv", "--output", "out"], "expected pictures in"),
        (["csv:bad.csv", "--output", "out"], "expected boxes in"),
        (["csv:twins.csv", "--output", "out", "--format", "yolo"], "differ before the ending"),
        (["csv:twins.csv", "--output", "out", "--format", "png"], "expected formats after --format"),
        (["csv:twins.csv", "--output", "out", "--find", "a dog"], "--detector together with --find"),
    ],
)
def test_what_cannot_be_done_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (place / "set").mkdir()
    header = "name,x0,y0,x1,y1\n"
    (place / "empty.csv").write_text(header)
    (place / "bad.csv").write_text(header + "a.png,9,9,1,1\n")
    (place / "twins.csv").write_text(header + "a.png,1,1,9,9\na.jpg,1,1,9,9\n")
    assert main(["annotate", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_detector_is_asked_once_for_each_picture(place: Path) -> None:
    yolo_set(place / "set")
    asked: list[str] = []

    def find(image: Image) -> list[tuple[str, tuple[float, ...]]]:
        asked.append(image.source)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [("red", BOXES[0])] if image.source != "none.png" else []

    with pytest.raises(KeyboardInterrupt):
        boxes.gather("set/images", place, find=find)
    with (place / boxes.PART).open("a") as part:
        part.write('["half a li')
    (place / "set" / "images" / "c.png").write_bytes(b"no picture")
    gathered = boxes.gather("set/images", place, find=find)
    assert len(asked) == 4 and asked.count(asked[0]) == 1, "the one it was stopped at is asked again"
    assert (gathered.boxes, list(gathered.labels), gathered.left_out[0].name) == (2, ["red"], "c.png")
    assert not (place / boxes.PART).exists()
    lines = [json.loads(line) for line in (place / boxes.PROMPTS).read_text().splitlines()]
    assert [line["objects"] for line in lines] == [[{"box": list(BOXES[0]), "label": "red"}]] * 2


def test_a_detector_by_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene(place / "photos" / "a.png")
    monkeypatch.setattr(annotate, "_find", lambda args: lambda image: [("blue", BOXES[1]), ("red", BOXES[0])])
    words = ["annotate", "photos", "--find", "red", "--find", "blue", "--detector", "x", "--output", "out"]
    assert main([*words, "--format", "yolo", "--zoom", "off", "--quiet"]) == 0
    assert [line.split()[0] for line in Path("out/yolo/a.txt").read_text().splitlines()] == ["1", "0"]


@pytest.mark.parametrize("kind", ["coco", "voc", "labelme", "csv"])
def test_each_kind_of_boxes_is_taken(place: Path, kind: str) -> None:
    words = {
        "coco": lambda: f"coco:{data_sets.coco(place)}",
        "voc": lambda: f"voc:{data_sets.voc(place)}",
        "labelme": lambda: f"labelme:{data_sets.labelme(place)}",
        "csv": lambda: f"csv:{data_sets.table(place)}@photos",
    }[kind]()
    gathered = boxes.gather(words, place)
    assert gathered.boxes == {"coco": 2, "voc": 2, "labelme": 3, "csv": 2}[kind]
    assert "cat" in gathered.labels


def test_doubt_is_of_score_stability_and_agreement() -> None:
    logits = np.full((2, 4, 4), 9.0, np.float32)
    logits[1, :, 2:] = -9
    masks = Masks(logits, np.array([0.5, 1.0]), Frame.fit((4, 4), 4))
    found = rated(masks, [[-3, 0, 4, 2], [0, 0, 2, 4]], [[0, 0, 4, 4], [0, 0, 2, 4]])
    assert found[0] == {"stability": 1.0, "agreement": 0.5, "doubt": 0.75}
    assert found[1] == {"stability": 1.0, "agreement": 1.0, "doubt": 0.0}


def test_a_rated_recipe_needs_records_and_old_ones_are_read() -> None:
    with pytest.raises(InputError, match="jsonl or coco"):
        Recipe(rated=True, formats=("yolo",))
    old = json.loads(Recipe().to_json())
    del old["rated"], old["classes"]
    assert Recipe.from_json(json.dumps(old)) == Recipe()
    assert Recipe.from_json(Recipe(classes=("a",)).to_json()).classes == ("a",)


def test_a_picture_that_is_gone_leaves_its_row(tmp_path: Path) -> None:
    mask = {
        "score": 0.5,
        "stability": 0.5,
        "agreement": 0.5,
        "doubt": 0.875,
        "bbox": [0, 0, 1, 1],
        "name": "x",
        "counts": "1",
    }
    record = {"number": 0, "name": "a.png", "width": 1, "height": 1, "masks": [mask]}
    review.write_review(tmp_path, [record], lambda number: {"path": str(tmp_path / "gone.png")})
    page = (tmp_path / "review.html").read_text()
    assert "no picture" in page and "doubt 0.88" in page
