import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage

pytest.importorskip("faster_coco_eval")

import samlet
from samlet.backends.fake import FakeBackend
from samlet.cli import evaluate as command
from samlet.cli import evaluation
from samlet.errors import InputError, MissingExtraError, SamletError
from samlet.evaluate import proposals, proposals_report
from samlet.evaluate.datasets import Dataset, Region, Sample
from samlet.evaluate.finders import Finder, Split, Timing, finder, ranked, usual
from samlet.evaluate.proposals import (
    AREAS,
    AT,
    FinderResult,
    PictureResult,
    ProposalResult,
    Tally,
    Truth,
    compare,
    evaluate_proposals,
    interval,
)
from samlet.evaluate.report import Run
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.registry import resolve
from samlet.rle import mask_to_rle
from samlet.session import Session
from tests.evaluate_stubs import make_set, two_squares

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RUN = Run(model="stub", digest="0" * 64, command="samlet evaluate stub", version="0.1.0")
NO_TIME = Timing(Split(0.0, 0.0, 0.0, 0.0), Split(0.0, 0.0, 0.0, 0.0), 0)


def average_recall(ious: NDArray[np.float64], areas: NDArray[np.int64], area: str, at: int) -> float:
    """Average recall written down independently: greedy, best proposal first, over ious (proposals, objects).

    An object outside the range never competes with one inside, so those outside are simply left out.
    """
    low, high = AREAS[area]
    ious = ious[:at, (areas >= low) & (areas <= high)]
    found = []
    for threshold in THRESHOLDS:
        free = np.ones(ious.shape[1], bool)
        for row in ious:
            candidates = np.where(free & (row >= threshold - 1e-12), row, -1.0)
            if candidates.size and candidates.max() >= 0:
                free[len(row) - 1 - int(candidates[::-1].argmax())] = False  # the last of equals, as in COCO
        found.append((~free).mean())
    return float(np.mean(found))


def mask_ious(proposed: NDArray[np.bool_], truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    both = (proposed[:, None] & truths[None]).sum(axis=(2, 3))
    either = (proposed[:, None] | truths[None]).sum(axis=(2, 3))
    return both / np.maximum(either, 1)


def boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the tight box of each mask: the IoU of such masks is that of the boxes."""
    filled = np.zeros_like(masks)
    for row, mask in enumerate(masks):
        if mask.any():
            y, x = np.nonzero(mask)
            filled[row, y.min() : y.max() + 1, x.min() : x.max() + 1] = True
    return filled


def square(x: int, y: int, width: int, height: int, hw: tuple[int, int] = (120, 160)) -> NDArray[np.bool_]:
    mask = np.zeros(hw, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def truth_of(masks: list[NDArray[np.bool_]], ignore: NDArray[np.bool_] | None = None) -> Truth:
    hw = masks[0].shape if masks else (120, 160)
    regions = [Region(number, mask) for number, mask in enumerate(masks, 1)]
    return Truth.of(Sample(Path("a.png"), "a", regions, np.zeros(hw, bool) if ignore is None else ignore))


def stored(masks: list[NDArray[np.bool_]], hw: tuple[int, int] = (120, 160), **facts: Any) -> StoredMasks:
    scores = np.linspace(1, 0, len(masks))
    return StoredMasks.of([mask_to_rle(mask) for mask in masks], scores, hw, facts=facts)


SMALL, MEDIUM, LARGE = square(4, 4, 20, 20), square(40, 4, 50, 40), square(0, 0, 160, 118)


def test_perfect_proposals_have_a_recall_of_one() -> None:
    tallies = compare(truth_of([SMALL, MEDIUM]), stored([MEDIUM, SMALL]))
    assert sorted(tallies) == ["box", "mask"]
    for tally in tallies.values():
        assert tally.truths.tolist() == [2, 1, 1, 0]
        assert tally.recall[:3].tolist() == [[1, 1, 1]] * 3
        assert np.isnan(tally.recall[3]).all(), "there is no large object"


def test_no_proposals_have_a_recall_of_zero() -> None:
    for tally in compare(truth_of([SMALL, MEDIUM]), stored([])).values():
        assert tally.hits.sum() == 0 and tally.truths.tolist() == [2, 1, 1, 0]


def test_no_objects_count_for_nothing() -> None:
    for tally in compare(truth_of([]), stored([SMALL])).values():
        assert tally.truths.sum() == 0 and tally.hits.sum() == 0


def test_one_of_two_found_at_three_quarters() -> None:
    """3 of 4 columns of the first object: found at 0.50 ... 0.75, that is at 6 of 10 thresholds, of 2 objects."""
    found = compare(truth_of([square(0, 0, 40, 40), square(100, 50, 40, 40)]), stored([square(0, 0, 30, 40)]))
    assert found["mask"].recall[0].tolist() == pytest.approx([0.3] * 3)
    assert found["box"].recall[0].tolist() == pytest.approx([0.3] * 3)


def test_mask_and_box_are_judged_apart() -> None:
    ring = square(10, 10, 60, 60)
    ring[20:60, 20:60] = False
    found = compare(truth_of([ring]), stored([square(10, 10, 60, 60)]))
    assert found["box"].recall[0, 0] == 1
    assert found["mask"].recall[0, 0] == pytest.approx(0.2), "IoU 2000 / 3600: 0.50 and 0.55 are reached"


def test_only_the_best_ten_count_among_ten() -> None:
    wrong = [square(100, 100, 2 + index, 5) for index in range(12)]
    recall = compare(truth_of([SMALL]), stored([*wrong, SMALL]))["mask"].recall
    assert recall[0].tolist() == [0, 1, 1]


def test_what_comes_after_a_thousand_does_not_count() -> None:
    wrong = [square(100, 100, 5, 5)] * 1000
    assert compare(truth_of([SMALL]), stored([*wrong, SMALL]))["mask"].hits.sum() == 0
    assert compare(truth_of([SMALL]), stored([*wrong[1:], SMALL]))["mask"].recall[0].tolist() == [0, 0, 1]


def test_equal_scores_keep_their_order() -> None:
    masks = stored([*[square(100, 100, 5, 5)] * 10, SMALL])
    same = ranked(masks, np.zeros(11))
    assert [rle["counts"] for rle in same.rles] == [rle["counts"] for rle in masks.rles]
    assert compare(truth_of([SMALL]), same)["mask"].recall[0].tolist() == [0, 1, 1]


def test_one_proposal_finds_one_object() -> None:
    twice = truth_of([SMALL, SMALL])
    assert compare(twice, stored([SMALL]))["mask"].recall[0, 0] == 0.5
    assert compare(twice, stored([SMALL, SMALL]))["mask"].recall[0, 0] == 1


def test_areas_are_the_masks_own_and_both_ends_belong_to_a_range() -> None:
    edge = square(0, 0, 32, 32)
    hollow = square(60, 0, 98, 98)
    hollow[2:96, 62:156] = False  # its box is large, it is not
    tally = compare(truth_of([edge, hollow, LARGE]), stored([edge, hollow, LARGE]))["box"]
    assert tally.truths.tolist() == [3, 2, 1, 1]
    assert hollow.sum() < 32**2


def test_void_is_taken_away_from_proposals() -> None:
    """Half of the proposal lies on ignored pixels, the other half is the object."""
    ignore = square(40, 0, 40, 120)
    found = compare(truth_of([square(0, 0, 40, 120)], ignore), stored([square(0, 0, 80, 120)]))
    assert found["mask"].recall[0, 0] == 1 and found["box"].recall[0, 0] == 1
    without = compare(truth_of([square(0, 0, 40, 120)]), stored([square(0, 0, 80, 120)]))
    assert without["mask"].recall[0, 0] == pytest.approx(0.1)


def test_a_proposal_on_void_keeps_its_place() -> None:
    ignore = square(100, 100, 20, 20)
    recall = compare(truth_of([SMALL], ignore), stored([*[square(102, 102, 9, 9)] * 10, SMALL]))[
        "mask"
    ].recall
    assert recall[0].tolist() == [0, 1, 1]


def test_own_boxes_are_measured_where_there_are_some() -> None:
    masks = stored([SMALL], box_xyxy=np.array([[4.0, 4.0, 24.0, 14.0]]))
    tallies = compare(truth_of([SMALL]), masks)
    assert tallies["box"].recall[0, 0] == 1
    assert tallies["own box"].recall[0, 0] == pytest.approx(0.1), "half of the box: IoU 0.5"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 14), st.booleans())
def test_the_library_agrees_with_an_independent_implementation(
    seed: int, objects: int, count: int, void: bool
) -> None:
    """Objects and proposals near them at random, some the same; 10 proposals are fewer than all."""
    random = np.random.default_rng(seed)

    def some(number: int) -> list[NDArray[np.bool_]]:
        sides = random.integers((0, 0, 3, 3), (60, 40, 100, 80), (number, 4))
        return [square(*side.tolist()) for side in sides]

    truths = np.stack(some(objects))
    near = [np.roll(truths[random.integers(objects)], random.integers(-4, 5), axis=1) for _ in range(count)]
    proposed = np.stack([*near, *some(2)])
    ignore = some(1)[0] if void else np.zeros(truths.shape[1:], bool)
    kept = truths & ~ignore
    kept = kept[kept.any(axis=(1, 2))]
    tallies = compare(truth_of(list(truths), ignore), stored(list(proposed)))
    cut = proposed & ~ignore
    ious = {"mask": mask_ious(cut, kept), "box": mask_ious(boxes_of(cut), boxes_of(kept))}
    areas = kept.sum(axis=(1, 2))
    for kind, matrix in ious.items():
        for row, area in enumerate(AREAS):
            if not tallies[kind].truths[row]:
                continue
            for column, at in enumerate(AT):
                expected = average_recall(matrix, areas, area, at)
                assert tallies[kind].recall[row, column] == pytest.approx(expected), (kind, area, at)


def test_recall_of_a_set_is_over_objects_not_pictures() -> None:
    one = compare(truth_of([SMALL]), stored([SMALL]))["mask"]
    other = compare(truth_of([SMALL, MEDIUM, square(100, 90, 20, 20)]), stored([]))["mask"]
    assert (one + other).recall[0].tolist() == [0.25] * 3


# Finders


@pytest.fixture
def session() -> Any:
    return samlet.load("nano", backend=FakeBackend()).session


class Oracle:
    """A finder without a model: knows the regions of each picture."""

    def __init__(self, id_maps: dict[str, NDArray[np.int32]], reverse: bool = False) -> None:
        self.id_maps, self.reverse, self.seen = id_maps, reverse, []

    def __call__(self, session: Any, image: Image) -> StoredMasks:
        name = Path(image.source).stem
        self.seen.append(name)
        ids = self.id_maps[name]
        masks = [ids == id_ for id_ in np.unique(ids) if id_ not in (0, 255)]
        return stored(masks[:1] if self.reverse else masks, ids.shape)


def finder_of(propose: Any, name: str = "oracle") -> Finder:
    return Finder(name, "Knows the truth.", SimpleNamespace(), propose)


def test_the_grid_asks_every_click_and_ranks_by_the_mean(session: Any) -> None:
    image = Image.load(np.zeros((48, 64, 3), np.uint8))
    masks, timing = finder("grid3", session).find(image)
    assert timing.asked == 9 and timing.clock.prompts == 0
    assert timing.clock.encoder > 0 and timing.clock.decoder > 0 and timing.clock.post > 0
    assert timing.cpu.total == pytest.approx(timing.cpu.encoder + timing.cpu.decoder + timing.cpu.post)
    assert len(masks) > 0 and (np.diff(masks.scores) <= 0).all()
    strict, _ = finder("grid3-nms70", session).find(image)
    default, _ = finder("grid3-default", session).find(image)
    assert len(default) <= len(strict) <= len(masks)


def test_the_card_has_thresholds_for_the_grid(session: Any) -> None:
    found = finder("grid3-card", session)
    assert (
        "the card's thresholds (score above 0.3, stability 0.7, box NMS 0.7), ranked by score" in found.words
    )
    masks, _ = found.find(Image.load(np.zeros((48, 64, 3), np.uint8)))
    assert (np.diff(masks.scores) <= 0).all() and (masks.stability() >= 0.7).all()


def test_the_hierarchical_grid_asks_fewer_clicks(session: Any) -> None:
    image = Image.load(np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8))
    found = finder("hierarchical16", session)
    assert "every 4th of a line first" in found.words and "no thresholds, box NMS 0.9" in found.words
    masks, timing = found.find(image)
    assert 16 < timing.asked < 200 and len(masks) > 0
    assert finder("hierarchical16-card", session).find(image)[1].asked == timing.asked


def with_objects(functions: Any = None, **changes: Any) -> Session:
    """Nano with an object head that finds the four quarters of the canvas, or whatever the function gives."""
    nano = resolve("nano")
    card = replace(nano, graphs={**nano.graphs, "objects": "nano_objects.onnx"}, **changes)
    return Session(card, FakeBackend(functions))


def without_objects() -> Session:
    nano = resolve("nano")
    return Session(
        replace(nano, graphs={role: nano.graphs[role] for role in ("encoder", "decoder")}), FakeBackend()
    )


def test_objects_prompt_with_boxes_and_rank_as_asked() -> None:
    image = Image.load(np.zeros((64, 64, 3), np.uint8))
    head = with_objects()
    masks, timing = finder("objects", head).find(image)
    assert timing.asked == 4 and timing.clock.prompts > 0 and timing.clock.decoder > 0
    assert len(masks) == 4 and (np.diff(masks.scores) <= 0).all()
    assert masks.facts["prompt_box"][0].tolist() == [0, 0, 32, 32]
    assert sorted(compare(truth_of([square(0, 0, 32, 32, (64, 64))]), masks)) == ["box", "mask", "own box"]
    few, timing = finder("objects2-box", head).find(image)
    assert timing.asked == 2 and few.scores.tolist() == pytest.approx([0.9, 0.8])
    paper, _ = finder("objects-paper", head).find(image)
    assert paper.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("objects320", "At most 320 boxes of its own object head (box NMS 0.7)"),
        ("objects-nms90-mask", "(box NMS 0.9)"),
        ("objects-nms90-mask", "masks that overlap by more than 0.9 dropped, ranked by the decoder's score."),
        ("objects-paper", "At most 320 boxes of its own object head (box NMS 0.9)"),
        ("objects64-paper", "At most 64 boxes"),
        ("objects", "ranked by the box's score times the mask's stability."),
        ("objects64-paper", "no NMS of masks, ranked by the box's score."),
    ],
)
def test_the_words_say_what_the_name_asks_for(name: str, words: str) -> None:
    assert words in finder(name, with_objects()).words


def test_boxes_may_come_from_another_model() -> None:
    asked = []

    def load(name: str) -> Session:
        asked.append(name)
        return with_objects(name="other")

    found = finder("objects@some/model.pt", without_objects(), load=load)
    assert asked == ["some/model.pt"] and "boxes of other (digest " in found.words
    masks, timing = found.find(Image.load(np.zeros((64, 64, 3), np.uint8)))
    assert len(masks) == timing.asked == 4
    assert timing.clock.prompts > 0 and timing.clock.encoder > 0, (
        "the other model's encoding is not the model's"
    )


def test_no_object_is_an_empty_answer() -> None:
    head = with_objects(
        {"objects": lambda feeds: {"boxes": np.zeros((1, 0, 4), np.float32), "scores": np.zeros((1, 0))}}
    )
    masks, timing = finder("objects", head).find(Image.load(np.zeros((8, 8, 3), np.uint8)))
    assert len(masks) == timing.asked == 0
    assert compare(truth_of([square(0, 0, 4, 4, (8, 8))]), masks)["own box"].recall[0].tolist() == [0, 0, 0]


def fastsam_session() -> Any:
    """One candidate in the middle of the canvas, whose mask is its box, and a weak one elsewhere."""

    def network(feeds: Any) -> dict[str, NDArray[np.float32]]:
        height, width = feeds["image"].shape[2:]
        candidates = np.zeros((1, 37, 3), np.float32)
        candidates[0, :5, 0] = (width / 2, height / 2, width / 2, height / 2, 0.9)
        candidates[0, :5, 1] = (width / 8, height / 8, width / 8, height / 8, 0.2)
        candidates[0, 5] = 1
        return {"candidates": candidates, "protos": np.ones((1, 32, height // 4, width // 4), np.float32)}

    class Backend:
        needs_files = False

        def open(self, role: str, *rest: Any, **options: Any) -> Any:
            return SimpleNamespace(run=network)

    return samlet.load("fastsam_s", backend=Backend()).session


def test_instances_are_all_that_the_network_finds() -> None:
    session = fastsam_session()
    image = Image.load(np.zeros((64, 64, 3), np.uint8))
    masks, timing = finder("instances", session).find(image)
    assert masks.scores.tolist() == pytest.approx([0.9, 0.2]) and timing.asked == 0
    assert masks.boxes_xyxy[0].tolist() == [16, 16, 48, 48]
    card, _ = finder("instances-card", session).find(image)
    assert len(card) == 1
    assert set(compare(truth_of([square(16, 16, 32, 32, (64, 64))]), masks)) == {"mask", "box", "own box"}


def test_each_model_has_its_usual_way() -> None:
    assert usual(without_objects()) == "grid32"
    assert usual(with_objects()) == "objects"
    assert usual(fastsam_session()) == "instances"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("circle", "such as grid32"),
        ("grid0", "such as grid32"),
        ("grid32-fast", "such as grid32"),
        ("objects", "finds boxes of objects for objects, got nano"),
        ("objects@", "such as grid32"),
        ("objects@other", "such as grid32"),
        ("objects-box-mask", "such as grid32"),
        ("instances", "by itself, such as fastsam_s, for instances, got nano"),
    ],
)
def test_what_a_model_cannot_do_is_refused_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        finder(name, without_objects())


def test_a_model_without_clicks_has_no_grid() -> None:
    with pytest.raises(InputError, match="answers clicks"):
        finder("grid32", fastsam_session())
    with pytest.raises(InputError, match="answers boxes"):
        finder("objects@nano", fastsam_session(), load=lambda name: with_objects())


# Sets


def test_an_oracle_finds_everything_in_a_set(tmp_path: Path) -> None:
    maps = {"a": two_squares(), "b": two_squares()[:, ::-1]}
    dataset = Dataset.open(make_set(tmp_path / "set", maps))
    result = evaluate_proposals([finder_of(Oracle(maps)), finder_of(Oracle(maps, True), "half")], dataset)
    assert (result.pictures, result.segmentations, result.truths) == (2, 2, 4)
    assert result.finders[0].tally("mask").recall[0].tolist() == [1, 1, 1]
    assert result.finders[1].tally("mask").recall[0].tolist() == [0.5, 0.5, 0.5]
    assert result.peak_mib is None or result.peak_mib > 10


def test_each_human_is_a_truth_of_its_own_and_the_picture_is_looked_at_once(tmp_path: Path) -> None:
    coarse, fine = np.ones((30, 40), np.int32), np.ones((30, 40), np.int32)
    fine[:, 20:] = 2
    root = make_set(tmp_path / "set", {"a": coarse, "a_b": coarse}, human=(1, 2, 11))
    PillowImage.fromarray(fine.astype(np.uint8)).save(root / "masks" / "a_h2.png")
    oracle = Oracle({"a": coarse, "a_b": coarse})
    dataset = Dataset.open(root)
    assert [item.name for item in dataset.segmentations(dataset.items[0])] == ["a_h1", "a_h2", "a_h11"]
    result = evaluate_proposals([finder_of(oracle)], dataset)
    assert oracle.seen == ["a", "a_b"]
    assert (result.pictures, result.segmentations, result.truths) == (2, 6, 7)
    # Two humans of a and three of a_b marked the whole; the halves overlap it by 0.5, which one of them uses up.
    assert result.finders[0].tally("mask").recall[0, 0] == pytest.approx((5 + 0.1) / 7)


def test_broken_pictures_and_masks_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    maps = {name: two_squares() for name in "abcde"}
    root = make_set(tmp_path / "set", maps)
    (root / "masks" / "a.png").unlink()
    (root / "images" / "b.png").write_bytes(b"no picture")
    (root / "masks" / "c.png").write_bytes(b"no mask")
    PillowImage.new("L", (7, 7), 1).save(root / "masks" / "d.png")
    oracle = Oracle(maps)
    result = evaluate_proposals([finder_of(oracle)], Dataset.open(root))
    assert [entry.name for entry in result.broken] == ["a", "b", "c", "d"]
    assert oracle.seen == ["e"] and result.pictures == 1
    remarks = "\n".join(proposals_report.remarks(result))
    assert (
        "4 pictures or marks could not be used" in remarks and "d: expected a picture of the size" in remarks
    )


def test_a_broken_human_does_not_cost_the_others_and_a_broken_picture_is_named_once(tmp_path: Path) -> None:
    maps = {"a": two_squares(), "b": two_squares()}
    root = make_set(tmp_path / "set", maps, human=(1, 2, 3))
    (root / "masks" / "a_h2.png").write_bytes(b"no mask")
    PillowImage.new("L", (7, 7), 1).save(root / "masks" / "a_h3.png")
    (root / "images" / "b.png").write_bytes(b"no picture")
    result = evaluate_proposals([finder_of(Oracle(maps))], Dataset.open(root))
    assert [entry.name for entry in result.broken] == ["a_h2", "a_h3", "b_h1"]
    assert (result.pictures, result.segmentations, result.truths) == (1, 1, 2)


def test_pictures_without_objects_are_counted_and_not_looked_at(tmp_path: Path) -> None:
    maps = {"a": np.zeros((20, 20), np.int32), "b": np.full((20, 20), 255, np.int32)}
    oracle = Oracle(maps)
    result = evaluate_proposals([finder_of(oracle)], Dataset.open(make_set(tmp_path / "set", maps)))
    assert (result.pictures, result.empty, result.truths, oracle.seen) == (2, 2, 0, [])
    assert proposals_report.sheets(result) == []
    assert proposals_report.report(RUN, [result]).to_dict()["sets"][0]["finders"][0]["recall"] == {}
    assert "2 pictures have no object" in proposals_report.report(RUN, [result]).to_markdown()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r"samlet\[eval\]"):
        proposals.coco()


# Reports


def picture(name: str, found: int, there: int, seconds: float) -> PictureResult:
    hits = np.zeros((len(AREAS), len(AT)))
    hits[0] = found
    tally = Tally(hits, np.array([there, 0, there, 0]))
    timing = Timing(Split(0.1, 0, seconds, 0), Split(0.2, 0, 2 * seconds, 0), 7)
    return PictureResult(name, {"mask": tally}, timing, 9)


def measured(tmp_path: Path) -> ProposalResult:
    dataset = Dataset.open(make_set(tmp_path / "set", {"a": two_squares(), "b": two_squares()}))
    first = FinderResult(finder_of(None, "grid"), [picture("a", 1, 4, 1.6), picture("b", 1, 4, 1.6)])
    other = FinderResult(finder_of(None, "objects"), [picture("a", 2, 4, 0.1), picture("b", 3, 4, 0.1)])
    return ProposalResult(dataset, [first, other], pictures=2, segmentations=2, truths=8, peak_mib=99.6)


def test_the_report_has_recall_costs_and_a_comparison(tmp_path: Path) -> None:
    result = measured(tmp_path)
    text = proposals_report.report(RUN, [result]).to_markdown()
    assert "| grid | 10 | 25.0 | 25.0 - 25.0 | - | 0.0 | - |" in text
    assert "| objects | 1000 | 62.5 | 50.0 - 75.0 | - | 0.0 | - |" in text
    assert "| grid | 7 | 9 | clock | 0.100 | 0.000 | 1.600 | 0.000 | 1.700 |" in text
    assert "| grid | 7 | 9 | processor | 0.200 | 0.000 | 3.200 | 0.000 | 3.400 |" in text
    assert "| objects | mask AR@100, points | +37.5 | +25.0 to +50.0 |" in text
    assert "| objects | decoder seconds (clock), share | 0.062 |  |" in text
    assert "| objects | total seconds (processor), share | 0.118 |  |" in text
    assert "all finders together: 100 MiB" in text and "Knows the truth." in text
    for words in proposals_report.WORDS:
        assert words in text


def test_the_json_has_the_same_figures(tmp_path: Path) -> None:
    written = proposals_report.report(RUN, [measured(tmp_path)]).write(tmp_path / "out")
    assert sorted(path.name for path in written) == ["report.json", "report.md"]
    fields = json.loads((tmp_path / "out" / "report.json").read_text())["sets"][0]
    grid, objects = fields["finders"]
    assert grid["recall"]["mask"]["all"] == {"10": 0.25, "100": 0.25, "1000": 0.25, "mean": 0.25}
    assert grid["recall"]["mask"]["small"]["10"] is None
    assert objects["against"] == "grid" and objects["gain"]["mask"]["100"]["mean"] == 0.375
    assert objects["recall"]["mask"]["interval_95"]["10"] == [0.5, 0.75]
    assert objects["seconds"]["decoder"] == pytest.approx(0.1) and objects["results"][1]["proposals"] == 9
    assert grid["processor_seconds"]["total"] == pytest.approx(3.4)


def test_an_interval_draws_pictures_and_survives_those_without_objects() -> None:
    assert interval(np.zeros(0), np.zeros(0, np.int64)) is None
    low, high = interval(np.array([0.0, 4.0, 0.0]), np.array([4, 4, 0])) or (1.0, 0.0)
    assert (low, high) == (0, 1)


# The command


def test_one_thread_is_asked_for_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    fake = FakeBackend()

    def opened(role: str, file: object, *, weights: object, threads: int | None) -> object:
        seen.append(threads)
        return FakeBackend.open(fake, role, file, weights=weights, threads=threads)  # type: ignore[arg-type]

    monkeypatch.setattr(fake, "open", opened)
    monkeypatch.setattr("samlet.backends.create", lambda name: fake)
    args = parse("nano", "--on", "x", "--threads", "1")
    evaluation.load(args, args.model, args.size)
    assert set(seen) == {1}
    assert command.command_line(args).endswith("--threads 1")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["evaluate", *words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = samlet.load("nano", backend=FakeBackend())
    monkeypatch.setattr(evaluation, "load", lambda *_: model)
    return make_set(tmp_path / "set", {"a": two_squares(), "b": two_squares()[:, ::-1]})


def test_the_command_measures_several_finders(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--on", str(folder), "--protocol", "proposals", "--everything", "grid3,grid2")
    assert command.run(parse("nano", *words, "--json", "--output", str(tmp_path / "out"))) == 0
    fields = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in fields["sets"][0]["finders"]] == ["grid3", "grid2"]
    assert [one["prompts"] for one in fields["sets"][0]["finders"]] == [9, 4]
    assert "results" not in fields["sets"][0]["finders"][0], "pictures are listed in the file only"
    assert "--protocol proposals --everything grid3,grid2" in fields["command"]
    assert "--clicks" not in fields["command"] and "--threads" not in fields["command"]
    assert (tmp_path / "out" / "report.md").read_text().startswith("# nano: proposals measured")


def test_the_command_prints_tables_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--on", str(folder), "--protocol", "proposals", "--everything", "grid2", "--limit", "1")
    assert command.run(parse("nano", *words)) == 0
    out = capsys.readouterr().out
    assert "mask AR@K in percent" in out and "2 objects of 1 pictures" in out and "4 x 4" not in out


def test_a_set_without_objects_is_a_partial_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()
    words = ("--on", str(folder), "--protocol", "proposals", "--everything", "grid2")
    assert command.run(parse("nano", *words)) == 6
    assert "2 pictures or marks could not be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "proposals,box"), "proposals alone"),
        (("--protocol", "box", "--everything", "grid32"), "with --protocol proposals"),
        (("--protocol", "proposals", "--everything", ","), "one or more names after --everything"),
        (("--protocol", "proposals", "--everything", "net"), "such as grid32"),
    ],
)
def test_wrong_arguments_are_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SamletError, match=message):
        command.run(parse("nano", "--on", str(folder), *words))
