"""`samlet compare`: sizes that are published, edges worked out by hand, questions, and whole runs."""

import json
import math
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet
from samlet.cli import main
from samlet.compare import measure, questions, report
from samlet.compare.contestants import Contest, Contestant, contest, labels
from samlet.compare.parts import parameters
from samlet.compare.worker import Worker
from samlet.errors import BackendError, InputError, ModelError
from samlet.evaluate import Dataset, Plan, evaluate_set
from samlet.evaluate.contours import boundary_f, boundary_iou
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.registry import resolve

from .compat_ultralytics_stubs import fake_fastsam, fake_sam

HW = (120, 160)
WEIGHTS = Path(samlet.__file__).parent / "weights" / "nano.safetensors"


def box(x0: int, y0: int, x1: int, y1: int, hw: tuple[int, int] = HW) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize(
    ("model", "millions"),  # what the originals print or their papers and pages say
    [
        ("sam_vit_b", 93.735472),
        ("sam_vit_l", 312.342832),
        ("sam_vit_h", 641.090608),
        ("mobile_sam", 10.130092),
        ("efficientvit_sam_l0", 34.8),
        ("efficientvit_sam_l2", 61.3),
        ("fastsam_s", 11.8),
        ("fastsam_x", 72.2),
    ],
)
def test_parameters_are_those_published(model: str, millions: float) -> None:
    counts = parameters(resolve(model))
    assert counts["all"] / 1e6 == pytest.approx(
        millions, abs=0.05 if millions == round(millions, 1) else 1e-6
    )
    if model.startswith("fastsam"):
        assert (counts["encoder"], counts["decoder"]) == (counts["all"], 0)
    else:
        assert counts["decoder"] == 4064560 and counts["encoder"] + 4064560 == counts["all"]


def test_boundary_iou_by_hand() -> None:
    """Bands are 4 wide (2 % of a diagonal of 200): two squares 4 apart share their top and bottom bands and no side."""
    one, two = box(20, 20, 80, 100), box(24, 20, 84, 100)
    assert math.hypot(*HW) == 200
    band = 60 * 80 - 52 * 72
    shared = (
        56 * 8
    )  # top and bottom, where they overlap; the left band of the second lies on no band of the first
    assert boundary_iou(one, two) == pytest.approx(shared / (2 * band - shared))
    assert boundary_iou(one, one) == boundary_iou(~one | one, ~one | one) == 1.0
    assert boundary_iou(one, one & False) == 0.0 and boundary_iou(one & False, one & False) == 1.0


def test_boundary_iou_ignores_what_nobody_decided() -> None:
    one, two = box(20, 20, 80, 100), box(20, 20, 80, 60)
    ignore = box(0, 50, 160, 120)
    assert boundary_iou(one, two) < 0.7 < boundary_iou(one, two, ignore=ignore)


@pytest.mark.parametrize(
    ("shift", "value"),
    [(0, 1.0), (2, 1.0), (3, None), (30, 0.0)],
)
def test_boundary_f_counts_edges_within_two_pixels(shift: int, value: float | None) -> None:
    one = box(
        40, 30, 44, 90
    )  # four wide: shifted by thirty nothing but the ends could meet, and they are too far
    found = boundary_f(one, np.roll(one, shift, axis=1))
    # By three: of the 4 x 60 rectangle's edge of 124 pixels the far side's 60 pixels are lost, less those at the ends,
    # from where the other's top or bottom is within two.
    assert found == pytest.approx(value) if value is not None else 0.4 < found < 1.0


def test_boundary_f_at_the_border_and_for_nothing() -> None:
    half = box(0, 0, 80, 120)  # only its right side is an edge
    assert boundary_f(half, box(0, 0, 83, 120)) == 0.0 and boundary_f(half, box(0, 0, 82, 120)) == 1.0
    nothing = np.zeros(HW, bool)
    assert boundary_f(nothing, nothing) == 1.0 and boundary_f(half, nothing) == 0.0


def test_a_second_click_lies_outside_at_its_distance() -> None:
    pytest.importorskip("cv2")
    hw = (400, 600)
    thing, void = box(50, 50, 250, 200, hw), box(0, 300, 600, 400, hw)
    asked = {
        one.kind: one for one in questions.of_objects([thing, box(0, 0, 600, 250, hw)], avoid=void, name="p")
    }
    assert list(asked) == ["click", "box", *(f"two clicks {apart} px" for apart in questions.APART)]
    assert asked["box"].prompt["boxes"][0] == [50, 50, 250, 200]
    for apart in questions.APART:
        one = asked[f"two clicks {apart} px"]
        assert one.prompt["labels"] == [[1, 0]] * len(one.rows)
        for row, (first, second) in zip(one.rows, one.prompt["points"], strict=True):
            assert abs(math.dist(first, second) - apart) <= 0.5
            x, y = map(int, second)
            assert not void[y, x] and not (thing if row == 0 else box(0, 0, 600, 250, hw))[y, x]
    # The second thing is 250 high and reaches from side to side: from its middle, 100 pixels lead out of it nowhere.
    assert asked["two clicks 100 px"].rows.tolist() == [0]
    again = {one.kind: one.prompt for one in questions.of_objects([thing], avoid=void, name="p")}
    assert again["two clicks 200 px"]["points"][0] == asked["two clicks 200 px"].prompt["points"][0]
    other = {one.kind: one.prompt for one in questions.of_objects([thing], avoid=void, name="q")}
    assert other != again


def test_boxes_are_asked_about_with_a_click_in_their_middles() -> None:
    asked = {one.kind: one for one in questions.of_boxes(np.array([[10.0, 20, 50, 60]]), (300, 400))}
    assert asked["click"].prompt == {"points": [[[30.0, 40.0]]], "labels": [[1]]}
    ((_, second),) = asked["two clicks 100 px"].prompt["points"]
    assert not (10 <= second[0] < 50 and 20 <= second[1] < 60)


class Inside(Contestant):
    """A contestant without a process of its own."""

    def __init__(self, label: str, model: samlet.Model, log: list[tuple[str, str]]) -> None:
        super().__init__(label, label, None)  # type: ignore[arg-type]
        self._worker, self._log = Worker(), log
        self._worker.model = model
        self.facts = {
            "name": model.card.name, "title": model.card.title, "family": model.card.family, "digest": "0" * 64,
            "published": label == "sam", "load_ms": 1.0, "bytes": 1234567,
            "parameters": {"encoder": 2_000_000, "decoder": 0, "all": 2_000_000},
        }  # fmt: skip

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        self._log.append((self.label, what))
        return json.loads(json.dumps(self._worker.obey({"do": what, **details})))


Inside.__slots__ = ()  # type: ignore[attr-defined]


@pytest.fixture
def log() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def inside(log: list[tuple[str, str]], tmp_path: Path) -> Contest:
    return Contest([Inside("sam", fake_sam(), log), Inside("fast.pt", fake_fastsam()[0], log)], tmp_path)


@pytest.fixture
def image() -> Image:
    return Image.load(np.random.default_rng(0).integers(0, 255, (320, 640, 3), np.uint8))


PROMPT = {"points": [[200.0, 200.0]], "labels": [1]}


def test_models_take_turns_and_regions_are_a_kind_of_their_own(
    inside: Contest, image: Image, log: list[tuple[str, str]]
) -> None:
    costs = measure.photo(inside, image, measure.Plan(PROMPT, ("objects", "grid4"), rounds=3))
    timed = [label for label, what in log if what == "embed"]
    assert timed == ["sam", "fast.pt"] * 4  # one that does not count, then the rounds
    assert [len(cost.encoder.ms) for cost in costs] == [len(cost.decoder.ms) for cost in costs] == [3, 3]
    assert [list(cost.everything) for cost in costs] == [["objects", "grid4"], ["regions"]]
    assert [len(cost.everything[kind]) for cost, kind in zip(costs, ("objects", "regions"), strict=True)] == [
        4,
        3,
    ]
    for cost in costs:
        assert next(iter(cost.everything.values())).ms > cost.encoder.median
        assert next(cost.answer.masks())[200, 200]
        assert all(mib is None or mib > 10 for mib in cost.memory.values()) and len(cost.memory) == 2


def test_slow_models_have_fewer_rounds(
    inside: Contest, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SLOW_MS", 0.0)
    costs = measure.photo(inside, image, measure.Plan(PROMPT, (), rounds=7))
    assert [len(cost.encoder.ms) for cost in costs] == [2, 2] and not costs[0].everything
    assert [len(cost.decoder.ms) for cost in costs] == [2, 2]


@pytest.fixture
def compared(inside: Contest, image: Image) -> report.Comparison:
    costs = measure.photo(inside, image, measure.Plan(PROMPT, ("objects", "grid4"), rounds=1))
    boxes = np.array([[0.0, 0, 320, 320], [400, 100, 600, 300]])  # two of the regions
    scores = measure.photo_agreement(inside, inside.named("fast.pt"), boxes, image)
    prompt = Prompt.make(image_hw=image.hw, **PROMPT)
    return report.Comparison("p|p.png", image, prompt, costs, [scores], "samlet compare p", "1.2", 2)


def test_agreement_with_a_reference(compared: report.Comparison) -> None:
    (scores,) = compared.scores
    assert scores.values["fast.pt"]["box"] == [1.0, 1.0] == scores.values["fast.pt"][measure.BOUNDARY_F]
    # The fake SAM fills the box, and so does the region up to the network's coarse cells.
    assert min(scores.values["sam"]["box"]) > 0.95
    assert set(scores.values["sam"]) == set(scores.figures)


def test_reports_say_the_same(compared: report.Comparison) -> None:
    text = report.to_markdown(compared, sheet="p.png")
    record = json.loads(json.dumps(report.to_dict(compared)))
    mean = {(row["figure"], row["model"]): row["mean"] for row in record["scores"][0]["figures"]}
    assert f"| box | {mean['box', 'sam']:.3f} | 1.000 | 2 |" in text
    median = record["models"][0]["encoder_ms"]["median"]
    assert f"| encoder | {median:,.0f} ms" in text or f"| encoder | {median:.1f} ms" in text
    assert "| everything, regions | - | " in text and "(3) |" in text
    assert "![masks side by side](p.png)" in text and "    samlet compare p\n" in text
    assert "fast.pt chooses among regions" in text and "nobody published: fast.pt." in text
    assert record["models"][1]["answer"]["masks"][0]["size"] == [320, 640]
    tables = report.to_tables(compared)
    assert [table.title for table in tables] == [
        "cost on this machine",
        "agreement with fast.pt on the picture",
    ]


def test_the_sheet_has_a_cell_for_every_answer(compared: report.Comparison, tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_bytes(report.sheet_png(compared))
    with PillowImage.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert sheet.width > 2 * 360
    # The regions stand beside the objects; in the third row only the first model has a cell with a picture.
    blank = np.abs(pixels - np.array(report._BLANK)).max(axis=2) == 0
    third = blank[-200:-60]
    assert third[:, 400:].mean() > 0.8 and blank[:-230].mean() < 0.05 and third[:, :360].mean() < 0.05


@pytest.fixture
def folder(tmp_path: Path, sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photograph, a copy of nano with a card of its own, and a set of two pictures and a broken one."""
    monkeypatch.chdir(tmp_path)
    with PillowImage.open(sample("coffee")) as photo:
        small = photo.convert("RGB").resize((300, 200))
    small.save("cup.png")
    (tmp_path / "copy.safetensors").write_bytes(WEIGHTS.read_bytes())
    card = (WEIGHTS.parents[1] / "cards/nano.toml").read_text()
    (tmp_path / "copy.toml").write_text(card.replace("weights/nano.safetensors", "copy.safetensors"))
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for index, name in enumerate(("a", "b")):
        small.save(f"set/images/{name}.png")
        ids = np.zeros((200, 300), np.uint8)
        ids[60:160, 80:200], ids[20:50, 220 : 280 - 20 * index], ids[:5] = 1, 2, 255
        PillowImage.fromarray(ids).save(f"set/masks/{name}.png")
    (tmp_path / "set/images/c.png").write_bytes(b"no picture")
    PillowImage.fromarray(ids).save("set/masks/c.png")
    return tmp_path


def test_a_whole_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with the same weights agree to the pixel, and score what `samlet evaluate` says."""
    pytest.importorskip("cv2")
    monkeypatch.setattr(
        measure, "usual_boxes", partial(measure.usual_boxes, at_most=2)
    )  # sixteen take a while
    words = ["compare", "cup.png", "--models", "nano,copy.toml", "--reference", "nano", "--rounds", "1"]
    words += ["--everything", "objects", "--data", "set", "--threads", "1", "--box", "80,60,200,160"]
    assert main([*words, "--json", "--output", "out"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((folder / "out/cup.compare.json").read_text())
    assert printed["command"].startswith("samlet compare cup.png --models nano,copy.toml --reference nano")
    for part in ("--box 80,60,200,160", "--everything objects", "--rounds 1", "--data set", "--threads 1"):
        assert part in printed["command"]
    one, two = printed["models"]
    assert one["card"]["published"] and one["card"]["digest"] == two["card"]["digest"]
    assert one["bytes"] == WEIGHTS.stat().st_size and one["answer"] == two["answer"]
    assert one["everything"]["objects"]["masks"] == two["everything"]["objects"]["masks"] != []
    assert all(
        60 < mib < 1500 for mib in (one["peak_memory_mib"]["prompt"], two["peak_memory_mib"]["everything"])
    )
    on_photo, truth, agreed = printed["scores"]
    for scores in (on_photo, agreed):
        assert {row["mean"] for row in scores["figures"]} == {1.0}
    found = evaluate_set(
        samlet.load(threads=1), Dataset.open("set"), plan=Plan(protocols=("box", "click"), grabcut=False)
    )
    for figure in ("box", "click"):
        (mean,) = {row["mean"] for row in truth["figures"] if row["figure"] == figure}
        assert mean == pytest.approx(float(np.mean(found.values(figure))), abs=1e-9) and 0.1 < mean < 1
    assert truth["pictures"] == 2 and truth["broken"][0]["name"] == "c"
    text = (folder / "out/cup.compare.md").read_text()
    assert "![masks side by side](cup.compare.png)" in text and printed["command"] in text
    assert (folder / "out/cup.compare.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["no.png", "--models", "nano"], 2, r"no\.png"),
        (["cup.png", "--models", " , "], 2, "expected models after --models"),
        (["cup.png", "--models", "nano", "--everything", "all"], 2, "expected a kind of everything mode"),
        (["cup.png", "--models", "nano", "--point", "999,5"], 2, "inside the picture"),
        (["cup.png", "--models", "nano", "--data", "none"], 2, "expected a .* (in none|at 'none')"),
        (["cup.png", "--models", "nano,weights/mobile_sam.pt"], 3, r"mobile_sam\.pt: expected a model file"),
        (["cup.png", "--models", "object_aware"], 3, "object_aware"),
    ],
)
def test_what_cannot_be_compared(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.setenv("SAMLET_OFFLINE", "1")
    assert main(["compare", *words, "--output", "out"]) == code
    assert re.search(sentence, capsys.readouterr().err)
    assert not (folder / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_process_that_dies_is_named() -> None:
    with contest(["nano"]) as models:
        (one,) = models.contestants
        with pytest.raises(InputError, match="nano: expected a model and a picture"):
            one.ask("embed")
        os.kill(one.process.pid, signal.SIGKILL)
        with pytest.raises(
            BackendError, match="process of nano, but it was killed by signal 9; free some memory"
        ):
            one.ask("embed")
    assert one.process.returncode == -9


def test_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="expected models to compare"), contest([]):
        pass
    assert labels(["a/x.pt", "b/x.pt", "nano"]) == ["a/x.pt", "b/x.pt", "nano"]
    assert issubclass(ModelError, samlet.SamletError)
