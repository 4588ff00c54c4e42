from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from samlet.errors import InputError
from samlet.evaluate import protocols
from samlet.evaluate.datasets import Dataset, Region, Sample
from samlet.evaluate.protocols import Plan, evaluate_set
from samlet.image import Image
from tests.evaluate_stubs import EmptyModel, OracleModel, PatchModel, make_set, two_squares


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(make_set(tmp_path / "set", {"a": two_squares(), "b": two_squares()[:, ::-1]}))


@pytest.fixture
def id_maps() -> dict[str, np.ndarray]:
    return {"a": two_squares(), "b": two_squares()[:, ::-1]}


def test_an_oracle_is_perfect(dataset: Dataset, id_maps: dict[str, np.ndarray]) -> None:
    model = OracleModel(id_maps)
    result = evaluate_set(model, dataset, plan=Plan(grabcut=False))
    assert (result.pictures, len(result.objects), result.skipped) == (2, 4, 0)
    for key in ("box", "click", "click_best", "clicks_1", "clicks_5", "clicks_20"):
        assert result.values(key) == [1.0] * 4, key
    for threshold in (80, 85, 90):
        assert result.values(f"noc_{threshold}") == [1] * 4
        assert result.values(f"noc_{threshold}_failed") == [False] * 4
    assert model.embedded == ["a", "b"], "each picture is encoded once"
    assert len(model.calls) == 2 * (1 + 2 + 1), "one batch each: box, click twice, one round of clicks"


def test_an_empty_model_gets_nothing_and_the_cap(dataset: Dataset) -> None:
    model = EmptyModel()
    result = evaluate_set(model, dataset, plan=Plan(clicks=5, grabcut=False))
    for key in ("box", "click", "click_best", "click_chosen", "clicks_1", "clicks_5"):
        assert result.values(key) == [0.0] * 4, key
    assert result.values("noc_80") == [5] * 4
    assert result.values("noc_80_failed") == [True] * 4
    assert result.values("filled_box")[0] == 1.0, "region 1 is a square"


def test_the_oracle_of_three_beats_the_models_own_choice(
    dataset: Dataset, id_maps: dict[str, np.ndarray]
) -> None:
    result = evaluate_set(OracleModel(id_maps), dataset, plan=Plan(("click",), grabcut=False))
    for entry in result.objects:
        assert entry.values["click_best"] >= entry.values["click"]
        assert entry.values["click_best"] == 1.0
        assert entry.values["click_chosen"] == 0.0, "the stub scores an empty mask highest"


def test_ignored_pixels_count_neither_way(tmp_path: Path) -> None:
    """Region 1 is columns 0-3; column 4 is ignored; the answer 0-5 has 1 wrong column of 5 that count."""
    id_map = np.zeros((6, 10), np.int32)
    id_map[:, :4], id_map[:, 4] = 1, 255

    class Wide(EmptyModel):
        def answer(self, view, points, labels, box, hint):
            assert tuple(box) == (0, 0, 4, 6), "the ignored column is not in the box"
            mask = np.zeros(view.hw, bool)
            mask[:, :6] = True
            return mask

    dataset = Dataset.open(make_set(tmp_path / "set", {"a": id_map}))
    result = evaluate_set(Wide(), dataset, plan=Plan(("box",), grabcut=False))
    assert result.values("box") == [4 / 5]


def test_an_object_under_ignored_pixels_is_skipped_and_counted(
    dataset: Dataset, id_maps: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = id_maps["a"]
    sample = Sample(
        image_path=dataset.items[0].image_path,
        name="a",
        regions=[Region(1, ids == 1), Region(2, ids == 2)],
        ignore=ids == 1,
    )
    monkeypatch.setattr(Dataset, "read", lambda self, item: sample)
    result = evaluate_set(OracleModel(id_maps), dataset.select(limit=1), plan=Plan(("box",), grabcut=False))
    assert [entry.region for entry in result.objects] == [2]
    assert result.skipped == 1


def test_clicks_go_to_the_worst_error_with_all_earlier_clicks_and_logits() -> None:
    """A bar of 3 x 9: the patch model fills a third at each click and is done after three."""
    truth = np.zeros((1, 12, 20), bool)
    truth[0, 4:7, 2:11] = True
    image = Image.load(np.zeros((12, 20, 3), np.uint8))
    model = PatchModel()
    view = model.embed(image)
    scene = protocols.Scene(image, view, truth, np.zeros((12, 20), bool))
    figures = protocols.measure_clicks(model, scene, Plan(clicks=10))[0]
    shapes = [call["points"].shape for call in model.calls]
    assert shapes[0] == (1, 1, 2) and shapes[1] == (1, 2, 2)
    assert model.calls[0]["hint"] is None
    first = tuple(model.calls[0]["points"][0, 0].astype(int))
    assert np.array_equal(model.calls[1]["points"][0, 0].astype(int), first)
    assert model.calls[1]["hint"].sum() == 9, "the logits of the first answer, which has 9 pixels"
    assert figures["clicks_1"] == pytest.approx(9 / 27)
    assert figures["clicks_10"] == 1.0
    assert figures["noc_90"] == len(model.calls) < 10


def test_excess_is_answered_with_a_background_click() -> None:
    truth = np.zeros((1, 12, 20), bool)
    truth[0, 2:5, 2:5] = True

    class TooMuch(PatchModel):
        def answer(self, view, points, labels, box, hint):
            mask = super().answer(view, points, labels, box, hint)
            mask[7:12, 10:15] = 0 not in labels
            return mask

    model = TooMuch()
    view = model.embed(Image.load(np.zeros((12, 20, 3), np.uint8)))
    scene = protocols.Scene(
        Image.load(np.zeros((12, 20, 3), np.uint8)), view, truth, np.zeros((12, 20), bool)
    )
    figures = protocols.measure_clicks(model, scene, Plan(clicks=5))[0]
    assert model.calls[1]["labels"].tolist() == [[1, 0]]
    assert model.calls[1]["points"][0, 1].tolist() == [12, 9]
    assert (figures["clicks_1"], figures["clicks_2"]) == (9 / 34, 1.0)


def test_objects_without_error_are_not_asked_again() -> None:
    truths = np.zeros((2, 12, 24), bool)
    truths[0, 2:5, 2:5] = True  # done after one click
    truths[1, 4:7, 10:22] = True
    model = PatchModel()
    image = Image.load(np.zeros((12, 24, 3), np.uint8))
    scene = protocols.Scene(image, model.embed(image), truths, np.zeros((12, 24), bool))
    figures = protocols.measure_clicks(model, scene, Plan(clicks=3))
    assert [len(call["points"]) for call in model.calls] == [2, 1, 1]
    assert figures[0]["clicks_3"] == 1.0


def test_crowded_pictures_are_asked_in_groups_with_the_same_result(
    dataset: Dataset, id_maps: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(grabcut=False, clicks=3)
    whole = evaluate_set(PatchModelWithBox(), dataset, plan=plan)
    monkeypatch.setattr(protocols, "_GROUP_OBJECTS", 1)
    assert evaluate_set(PatchModelWithBox(), dataset, plan=plan).objects == whole.objects


class PatchModelWithBox(PatchModel):
    def answer(self, view, points, labels, box, hint):
        if points is None:
            return np.ones(view.hw, bool)
        return super().answer(view, points, labels, box, hint)


def test_broken_pictures_are_counted_named_and_not_fatal(
    dataset: Dataset, id_maps: dict[str, np.ndarray]
) -> None:
    (dataset.root / "images" / "a.png").write_bytes(b"no picture")
    seen = []
    result = evaluate_set(
        OracleModel(id_maps),
        dataset,
        plan=Plan(("box",), grabcut=False),
        on_picture=lambda result: seen.append(result.pictures),
    )
    assert [entry.name for entry in result.broken] == ["a"]
    assert (result.pictures, len(result.objects)) == (1, 2)
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("names", "clicks", "message"),
    [
        (("box", "scribble"), 20, "expected some of the protocols box, click, clicks, got scribble"),
        ((), 20, "got none"),
        (("box",), 0, "expected 1 to 20 clicks, got 0"),
        (("box",), 21, "expected 1 to 20 clicks, got 21"),
    ],
)
def test_impossible_plans_are_refused(names: tuple[str, ...], clicks: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan(names, clicks=clicks)


def test_the_cap_is_in_the_title() -> None:
    titles = [column.title for column in Plan(("clicks",), clicks=5).columns]
    assert "NoC@90 (cap 5)" in titles and "after 5 clicks" in titles and "after 10 clicks" not in titles
    assert titles[-3:] == ["filled box", "ellipse in the box", "GrabCut in the box"]
    assert "NoC@90 (cap 20)" in [column.title for column in Plan(("clicks",)).columns]


def test_zoom_is_for_boxes_and_many_clicks_and_named(
    dataset: Dataset, id_maps: dict[str, np.ndarray]
) -> None:
    model, plan = OracleModel(id_maps), Plan(("box", "click"), grabcut=False, zoom="auto")
    evaluate_set(model, dataset, plan=plan)
    assert {call["zoom"] for call in model.calls if call["boxes"] is not None} == {"auto"}
    assert {call["zoom"] for call in model.calls if call["boxes"] is None} == {"off"}
    many = OracleModel(id_maps)
    evaluate_set(many, dataset, plan=Plan(("clicks",), clicks=5, grabcut=False, zoom="auto"))
    assert {call["zoom"] for call in many.calls} == {"auto"}
    assert "zoom=auto" in Plan(("clicks",), zoom="auto").columns[0].words
    assert plan.columns[0].title == "box, zoom" and "zoom=auto" in plan.columns[0].words
