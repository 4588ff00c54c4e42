"""The protocols that go alone: DAVIS, boxes of a detector, downstream tasks, edges, and how the command runs them."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

pytest.importorskip("cv2")
pytest.importorskip("faster_coco_eval")

import samlet
from samlet.backends.fake import FakeBackend
from samlet.cli import evaluate as command
from samlet.cli import evaluation
from samlet.errors import InputError, SamletError
from samlet.evaluate import bsds, davis, detections, downstream, edge_finders
from samlet.evaluate.datasets import Dataset
from samlet.evaluate.finders import Finder, Split, Timing
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.rle import mask_to_rle
from tests.evaluate_stubs import make_set, two_squares


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["evaluate", *words])


class Colours:
    """A model of pictures with evenly coloured things: answers a box with all pixels of the colour in its middle."""

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, image: Image) -> Any:
        self.embedded += 1
        return image

    def segment(self, view: Any, *, boxes: Any = None, **_: Any) -> Masks:
        found = []
        for x0, y0, x1, y1 in np.atleast_2d(np.asarray(boxes, float)):
            middle = view.pixels[int((y0 + y1) / 2), int((x0 + x1) / 2)]
            found.append((view.pixels == middle).all(axis=-1))
        logits = np.where(np.stack(found), 10, -10).astype(np.float32)
        frame = Frame(image_hw=view.hw, scaled_hw=view.hw, canvas_hw=view.hw)
        return Masks(logits, np.full(len(found), 0.9, np.float32), frame)


# DAVIS


def make_davis(
    root: Path, *, frames: int = 5, jump_at: int | None = None, ids: tuple[int, ...] = (1, 2)
) -> Path:
    """One video of squares that move by a pixel a frame; `jump_at` takes the first one away."""
    pictures, marks = root / "JPEGImages" / "480p" / "squares", root / "Annotations" / "480p" / "squares"
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("squares\n")
    pictures.mkdir(parents=True)
    marks.mkdir(parents=True)
    for index in range(frames):
        pixels, id_map = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
        for place, (number, color) in enumerate(zip(ids, ((250, 20, 20), (20, 250, 20)), strict=False)):
            window = (slice(5 + 18 * place, 15 + 18 * place), slice(10 + index, 22 + index))
            if jump_at is None or place or index < jump_at:
                pixels[window] = color
            id_map[window] = number
        PillowImage.fromarray(pixels).save(pictures / f"{index:05}.jpg", format="PNG")
        PillowImage.fromarray(id_map).save(marks / f"{index:05}.png")
    return root


def test_davis_perfect_answers(tmp_path: Path) -> None:
    model = Colours()
    result = davis.evaluate_davis(model, davis.videos(make_davis(tmp_path), split="2017/val"))
    assert [(track.video, track.object, len(track.j)) for track in result.tracks] == [
        ("squares", 1, 3),
        ("squares", 2, 3),
    ]
    assert result.j_and_f == 1.0 and result.mean("j").recall == 1.0 and result.mean("f").decay == 0.0
    assert model.embedded == 5, "each frame is encoded once, however many objects there are"


def test_davis_a_lost_object_counts_nothing_and_decays(tmp_path: Path) -> None:
    result = davis.evaluate_davis(
        Colours(), davis.videos(make_davis(tmp_path, frames=6, jump_at=3, ids=(1,)))
    )
    (track,) = result.tracks
    assert track.j == (1.0, 1.0, 0.0, 0.0) and track.lost == 2
    assert result.mean("j").recall == 0.5 and result.mean("j").decay == 1.0


def test_davis_2016_marks_its_object_with_255(tmp_path: Path) -> None:
    result = davis.evaluate_davis(Colours(), davis.videos(make_davis(tmp_path, ids=(255,))))
    assert result.j_and_f == 1.0 and [track.object for track in result.tracks] == [255]


def test_davis_statistics_have_the_parts_of_its_own_evaluation() -> None:
    # Eight frames: bins of the frames 1-3, 3-5 (rounded up from 2.75, 4.5), 5-6 and 6-8.
    found = davis.Statistics.of([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert found.mean == pytest.approx(0.65) and found.recall == 5 / 8
    assert found.decay == pytest.approx(np.mean([1.0, 0.9, 0.8]) - np.mean([0.5, 0.4, 0.3]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "JPEGImages" / "480p" / "squares" / "00003.jpg").unlink(), "squares"),
        (
            lambda root: PillowImage.new("L", (9, 9), 1).save(
                root / "Annotations" / "480p" / "squares" / "00002.png"
            ),
            "annotations of the frames' size",
        ),
    ],
    ids=["a frame is missing", "a mask has another size"],
)
def test_davis_a_broken_video_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    root = make_davis(tmp_path)
    spoil(root)
    result = davis.evaluate_davis(Colours(), davis.videos(root))
    assert not result.tracks and result.broken[0].name == "squares"
    assert message in result.broken[0].reason or message in result.broken[0].name


@pytest.mark.parametrize(
    ("split", "message"), [("2017/test", "list of videos"), ("../x", "list of videos"), (None, "a folder")]
)
def test_davis_wrong_places(tmp_path: Path, split: str | None, message: str) -> None:
    root = tmp_path / "nothing" if split is None else make_davis(tmp_path)
    with pytest.raises(InputError, match=message):
        davis.videos(root, split=split)


# Boxes of a detector


def make_coco(root: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Two pictures with a square of each of two classes, and perfect detections."""
    root.mkdir()
    images, annotations, found = [], [], []
    for image_id in (1, 2):
        pixels = np.zeros((50, 60, 3), np.uint8)
        for category, (x, y, color) in enumerate(((5, 5, 90), (35, 25, 200)), 1):
            pixels[y : y + 15, x : x + 20] = color
            mask = (pixels == color).all(axis=-1)
            box = [x, y, 20, 15]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": [[x, y, x + 20, y, x + 20, y + 15, x, y + 15]],
                    "area": int(mask.sum()),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
            found.append({"image_id": image_id, "category_id": category, "bbox": box, "score": 0.9})
        PillowImage.fromarray(pixels).save(root / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 50, "width": 60})
    fields = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "dark"}, {"id": 2, "name": "light"}],
    }
    known = root / "instances.json"
    known.write_text(json.dumps(fields))
    return root, known, found


def measured(root: Path, known: Path, found: list[dict[str, Any]]) -> detections.DetectionResult:
    boxes = root / "boxes.json"
    boxes.write_text(json.dumps(found))
    return detections.evaluate_detections(
        Colours(), root, detections.read_annotations(known), detections.read_detections(boxes)
    )


def test_perfect_boxes_give_perfect_masks(tmp_path: Path) -> None:
    result = measured(*make_coco(tmp_path / "coco"))
    assert result.figures["mask"]["AP"] == pytest.approx(1.0)
    assert result.figures["box"]["AP"] == pytest.approx(1.0)
    assert result.figures["mask"]["AP small"] == pytest.approx(1.0)
    assert result.figures["mask"]["AP large"] is None, "there is no large object"
    assert (result.pictures, result.detections, result.objects) == (2, 4, 4)


def test_average_precision_worked_by_hand(tmp_path: Path) -> None:
    """Of class 1 one of two is found, after a wrong answer: precision 1/2 up to recall 1/2; class 2 is perfect."""
    root, known, found = make_coco(tmp_path / "coco")
    found = [one for one in found if not (one["image_id"] == 2 and one["category_id"] == 1)]
    found.append({"image_id": 2, "category_id": 1, "bbox": [35, 25, 20, 15], "score": 0.95})
    result = measured(root, known, found)
    first = 0.5 * 51 / 101  # COCO's 101 recalls: 0, 0.01, ..., 0.50
    for kind in ("mask", "box"):
        assert result.figures[kind]["AP"] == pytest.approx((first + 1) / 2, abs=1e-6)


def test_no_detections_and_broken_pictures(tmp_path: Path) -> None:
    root, known, found = make_coco(tmp_path / "coco")
    assert measured(root, known, []).figures["mask"]["AP"] == 0
    (root / "2.png").write_bytes(b"no picture")
    result = measured(root, known, found)
    assert [entry.name for entry in result.broken] == ["2.png"]
    assert result.figures["mask"]["AP"] == pytest.approx(51 / 101)


def test_only_the_best_hundred_of_a_picture_count(tmp_path: Path) -> None:
    root, known, found = make_coco(tmp_path / "coco")
    weak = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "score": 0.1}] * 120
    assert measured(root, known, found + weak).detections == 102


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "a list of detections"),
        ('[{"image_id": 1}]', "number 0"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]', "number 0"),
        ("no json", "it is no JSON"),
    ],
)
def test_other_files_than_detections(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        detections.read_detections(path)


def test_a_picture_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    root, known, found = make_coco(tmp_path / "coco")
    fields = json.loads(known.read_text())
    fields["images"][0]["file_name"] = "../outside.png"
    PillowImage.new("RGB", (60, 50)).save(tmp_path / "outside.png")
    known.write_text(json.dumps(fields))
    assert "a picture inside" in measured(root, known, found).broken[0].reason


# What one does with everything


def stored(masks: list[NDArray[np.bool_]], hw: tuple[int, int]) -> StoredMasks:
    return StoredMasks.of([mask_to_rle(mask) for mask in masks], [0.9] * len(masks), hw)


def regions_of(*masks: NDArray[np.bool_]) -> Finder:
    def propose(session: Any, image: Image) -> StoredMasks:
        return stored(list(masks), image.hw)

    return Finder("fixed", "The same regions in every picture.", None, propose)  # type: ignore[arg-type]


def block(rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros((30, 40), bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("task", sorted(downstream.TASKS))
def test_oracles_bound_the_rules(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finder, "find", find_without_a_session)
    id_map = np.where(block(slice(8, 22), slice(10, 30)), 1, 0).astype(np.int32)
    root = make_set(tmp_path / "set", {"a": id_map})
    halves = block(slice(8, 22), slice(10, 20)), block(slice(8, 22), slice(20, 30))
    wrong = block(slice(0, 5), slice(0, 40))
    result = downstream.evaluate_downstream(
        [regions_of(*halves, wrong)], Dataset.open(root), downstream.TASKS[task]
    )
    found = {rule: figures[0] for (_, rule), figures in result.figures.items()}
    assert found["best union (oracle)"].iou == 1.0
    assert found["best region (oracle)"].iou == 0.5 and found["best region (oracle)"].f1 == pytest.approx(
        2 / 3
    )
    assert all(0 <= one.iou <= 1 and 0 <= one.scores.mae <= 1 for one in found.values())
    (drawn,) = result.drawn
    assert drawn.truth.sum() == 14 * 20


def find_without_a_session(finder: Finder, image: Image) -> tuple[StoredMasks, Timing]:
    nothing = Split(0, 0, 0, 0)
    return finder.propose(None, image), Timing(nothing, nothing, 0)  # type: ignore[arg-type]


def test_no_regions_and_nothing_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finder, "find", find_without_a_session)
    marked = np.where(block(slice(8, 22), slice(10, 30)), 1, 0).astype(np.int32)
    root = make_set(tmp_path / "set", {"a": marked, "b": np.zeros((30, 40), np.int32)})
    for task in downstream.TASKS.values():
        result = downstream.evaluate_downstream([regions_of()], Dataset.open(root), task)
        assert result.names == ["a"] and result.empty == 1
        assert result.figures["fixed", "best union (oracle)"][0].iou == 0


def test_ignored_pixels_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finder, "find", find_without_a_session)
    id_map = np.where(block(slice(8, 22), slice(10, 20)), 1, 0).astype(np.int32)
    id_map[8:22, 20:30] = 255
    root = make_set(tmp_path / "set", {"a": id_map})
    both = block(slice(8, 22), slice(10, 30))
    result = downstream.evaluate_downstream(
        [regions_of(both)], Dataset.open(root), downstream.TASKS["saliency"]
    )
    assert result.figures["fixed", "salient region"][0].iou == 1.0


def test_the_best_union_stops_where_it_gains_nothing() -> None:
    truth = block(slice(0, 10), slice(0, 10))
    parts = [
        block(slice(0, 10), slice(0, 6)),
        block(slice(0, 10), slice(4, 12)),
        block(slice(20, 30), slice(0, 9)),
    ]
    found = downstream.best_union(parts, truth)
    assert np.array_equal(found, parts[0] | parts[1])


# Edges


class Halves(Colours):
    """A model whose card and session are nano's; it answers points like boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.session = samlet.load("nano", backend=FakeBackend()).session
        self.card = self.session.card


@pytest.mark.parametrize("name", ["canny", "sobel"])
def test_plain_edges_find_a_step_and_nothing_in_an_even_picture(name: str) -> None:
    pixels = np.full((60, 80, 3), 60, np.uint8)
    found = edge_finders.edge_finder(name, Halves())  # type: ignore[arg-type]
    assert not found.find(Image.load(pixels)).any()
    pixels[:, 40:] = 200
    edges = found.find(Image.load(pixels))
    columns = np.unique(np.nonzero(edges[5:-5])[1])
    assert len(columns) and abs(columns - 39.5).max() <= 2 and edges.max() <= 1


@pytest.mark.parametrize("name", ["votes", "objects", "grid3"])
def test_edges_of_a_model_have_the_pictures_size(name: str) -> None:
    model = samlet.load("nano", backend=FakeBackend())
    image = Image.load(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8))
    edges = edge_finders.edge_finder(name, model).find(image)
    assert edges.shape == (48, 64) and edges.dtype == np.float32
    assert 0 <= edges.min() and edges.max() <= 1


@pytest.mark.parametrize(
    ("name", "message"), [("net", "a way to find edges"), ("instances", "finds instances")]
)
def test_edges_that_there_are_not(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        edge_finders.edge_finder(name, samlet.load("nano", backend=FakeBackend()))


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = samlet.load("nano", backend=FakeBackend())
    monkeypatch.setattr(evaluation, "load", lambda *_: model)
    return make_set(tmp_path / "set", {"a": two_squares(), "b": two_squares()[:, ::-1]}, human=(1, 2))


def test_the_command_measures_edges(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--on", str(folder), "--protocol", "bsds", "--edges", "canny,objects")
    assert command.run(parse("nano", *words, "--output", str(tmp_path / "out"))) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "ODS" in text and "each person against the others" in text and "--edges canny,objects" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "1_precision_recall.png",
        "report.json",
        "report.md",
    ]
    fields = json.loads((tmp_path / "out" / "report.json").read_text())["sets"][0]
    assert fields["human_f"] == 1.0, "the two people drew the same"
    assert [one["name"] for one in fields["edges"]] == ["canny", "objects"]
    assert len(fields["edges"][0]["precision"]) == bsds.THRESHOLDS


@pytest.mark.parametrize("protocol", ["saliency", "anomalies", "buildings"])
def test_the_command_measures_downstream(
    folder: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--on", str(folder), "--protocol", protocol, "--everything", "grid2", "--json")
    assert command.run(parse("nano", *words, "--output", str(tmp_path / "out"))) == 0
    fields = json.loads(capsys.readouterr().out)["sets"][0]
    assert [row["answer"] for row in fields["rows"]] == [one.name for one in downstream.TASKS[protocol].rules]
    assert "results" not in fields["rows"][0]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| best union (oracle) |" in text and len(list((tmp_path / "out").glob("1_*.png"))) == 1


def test_the_command_measures_a_detectors_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = samlet.load("nano", backend=FakeBackend())
    monkeypatch.setattr(evaluation, "load", lambda *_: model)
    root, known, found = make_coco(tmp_path / "coco")
    (root / "boxes.json").write_text(json.dumps(found))
    files = ("--boxes", str(root / "boxes.json"), "--annotations", str(known))
    assert command.run(parse("nano", "--on", str(root), "--protocol", "coco-ap", *files)) == 0
    assert "boxes of the detector" in capsys.readouterr().out


def test_the_command_follows_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Halves()
    monkeypatch.setattr(evaluation, "load", lambda *_: model)
    root = make_davis(tmp_path / "davis")
    assert command.run(parse("nano", "--on", str(root), "--protocol", "davis", "--split", "2017/val")) == 0
    text = capsys.readouterr().out
    assert "J&F" in text and "100.0" in text and "squares 2" in text


def test_lvis_ar_gives_the_mean_of_the_three(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--on", str(folder), "--protocol", "lvis-ar", "--everything", "grid2", "--json")
    assert command.run(parse("nano", *words)) == 0
    recall = json.loads(capsys.readouterr().out)["sets"][0]["finders"][0]["recall"]
    for kind in ("mask", "box"):
        every = recall[kind]["all"]
        assert every["mean"] == pytest.approx(np.mean([every[at] for at in ("10", "100", "1000")]))
        assert set(recall[kind]) >= {"all", "small", "medium", "large"}


def test_noc_is_clicks_with_the_fields_cap(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--on", str(folder), "--protocol", "noc", "--limit", "1", "--no-grabcut", "--json")
    assert command.run(parse("nano", *words)) == 0
    fields = json.loads(capsys.readouterr().out)
    titles = {row["title"] for row in fields["sets"][0]["rows"]}
    assert {"NoC@80 (cap 20)", "NoC@85 (cap 20)", "NoC@90 (cap 20)"} <= titles
    assert "--protocol noc" in fields["command"] and "--clicks" not in fields["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "bsds,box"), "bsds alone"),
        (("--protocol", "noc,davis"), "noc alone"),
        (("--protocol", "noc", "--clicks", "5"), "noc with 20 clicks"),
        (("--protocol", "box", "--edges", "canny"), "--edges with --protocol bsds"),
        (("--protocol", "bsds", "--everything", "grid32"), "--everything with --protocol"),
        (("--protocol", "bsds", "--edges", "net"), "a way to find edges"),
        (("--protocol", "coco-ap"), "--boxes FILE and --annotations FILE"),
        (("--protocol", "davis", "--on", "a,b"), "one folder after --on"),
        (("--protocol", "davis", "--every", "0"), "every and limit of 1 or more"),
    ],
)
def test_wrong_words_are_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SamletError, match=message):
        command.run(parse("nano", "--on", str(folder), *words))
