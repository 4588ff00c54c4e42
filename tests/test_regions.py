"""The rules that choose among regions, each against its definition and against the faults of the reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samlet.errors import InputError, PromptError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.regions import (
    NOTHING,
    Pick,
    Regions,
    by_boxes,
    by_boxes_and_points,
    by_points,
    by_text,
    crops,
    paint,
)
from samlet.rle import mask_to_compressed_rle, mask_to_rle

HW = (40, 60)


def rectangle(x0: int, y0: int, x1: int, y1: int, hw: tuple[int, int] = HW) -> NDArray[np.bool_]:
    mask = np.zeros(hw, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


BIG, SMALL, APART, SPECK = (
    rectangle(5, 5, 35, 35),
    rectangle(10, 10, 22, 20),
    rectangle(40, 5, 55, 35),
    rectangle(0, 0, 2, 2),
)
REGIONS = Regions.of(np.stack([SMALL, APART, BIG, SPECK]))


@st.composite
def scenes(draw: st.DrawFn) -> NDArray[np.bool_]:
    count, height, width = (draw(st.integers(low, high)) for low, high in ((0, 5), (1, 12), (1, 12)))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    return random.random((count, height, width)) < draw(st.sampled_from([0.05, 0.5, 0.95, 1.0]))


def painted(points: Any, labels: Any) -> list[NDArray[np.bool_]]:
    return [paint(REGIONS, pick) for pick in by_points(REGIONS, points, labels)]


# --- questions ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(masks=scenes(), seed=st.integers(0, 2**16))
def test_questions_are_answered_as_from_pixels(masks: NDArray[np.bool_], seed: int) -> None:
    count, height, width = masks.shape
    regions = Regions.of(masks)
    random = np.random.default_rng(seed)
    assert (len(regions), regions.image_hw) == (count, (height, width))
    np.testing.assert_array_equal(regions.areas, masks.sum(axis=(1, 2)))
    points = random.uniform(-3, 15, (20, 2))
    expected = np.zeros((count, 20), np.bool_)
    for number, (x, y) in enumerate(points):
        if 0 <= x <= width and 0 <= y <= height:
            expected[:, number] = masks[:, min(int(y), height - 1), min(int(x), width - 1)]
    np.testing.assert_array_equal(regions.contains(points), expected)
    corners = np.sort(random.integers(0, (width + 1, height + 1), (10, 2, 2)), axis=1).reshape(10, 4)
    np.testing.assert_array_equal(
        regions.inside_boxes(corners),
        np.array([masks[:, y0:y1, x0:x1].sum(axis=(1, 2)) for x0, y0, x1, y1 in corners])
        .reshape(10, count)
        .T,
    )
    for number in range(count):
        np.testing.assert_array_equal(regions.shared_with(number), (masks & masks[number]).sum(axis=(1, 2)))
        np.testing.assert_array_equal(regions.mask(number), masks[number])


def test_regions_come_from_all_that_holds_masks() -> None:
    rles = [mask_to_rle(BIG), mask_to_rle(SMALL)]
    stored = StoredMasks.of(rles, [0.5, 0.5], HW)
    logits = np.where(np.stack([BIG, SMALL]), 1, -1).astype(np.float32)
    plain = Masks(logits, np.ones(2, np.float32), Frame(HW, HW, HW))
    for source in (stored, plain, np.stack([BIG, SMALL]).astype(np.uint8), Regions(rles, HW)):
        assert Regions.of(source).areas.tolist() == [900, 120]
    empty = Regions.of(np.zeros((0, *HW)))
    assert (len(empty), empty.contains([[1, 1]]).shape, empty.boxes_xyxy.shape) == (0, (0, 1), (0, 4))
    assert Regions.of(np.zeros((1, *HW))).boxes_xyxy.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Regions.of(BIG),
        lambda: Regions.of(np.zeros((1, 0, 4))),
        lambda: Regions([mask_to_rle(BIG)], (40, 61)),
        lambda: Regions([mask_to_compressed_rle(BIG)], HW),
    ],
)
def test_what_holds_no_masks_is_refused(make: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


# --- points ---------------------------------------------------------------------------------------------------------


def by_points_as_defined(masks: Any, points: Any, labels: Any) -> NDArray[np.bool_]:
    """The rule in its plainest form: masks from the largest down, clicks in order, each click paints or clears."""
    answer = np.zeros(masks.shape[1:], np.bool_)
    for number in sorted(range(len(masks)), key=lambda number: -int(masks[number].sum())):
        for (x, y), label in zip(points, labels, strict=True):
            if label in (0, 1) and masks[number][int(y), int(x)]:
                answer[masks[number]] = label == 1
    return answer


@settings(max_examples=150, deadline=None)
@given(masks=scenes(), seed=st.integers(0, 2**16), clicks=st.integers(0, 6))
def test_points_choose_as_defined(masks: NDArray[np.bool_], seed: int, clicks: int) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform(0, (masks.shape[2], masks.shape[1]), (3, clicks, 2))
    labels = random.integers(-1, 2, (3, clicks))
    regions = Regions.of(masks)
    for pick, own_points, own_labels in zip(by_points(regions, points, labels), points, labels, strict=True):
        np.testing.assert_array_equal(
            paint(regions, pick), by_points_as_defined(masks, own_points, own_labels)
        )


def test_a_small_background_region_cuts_a_hole() -> None:
    (answer,) = painted([[[15, 15], [30, 30]]], [[0, 1]])
    np.testing.assert_array_equal(answer, BIG & ~SMALL)


def test_several_objects_have_a_mask_each() -> None:
    """The reference melts the clicks on several objects into one mask."""
    answers = painted([[[30, 30]], [[45, 10], [30, 30]], [[58, 39]]], [[1], [1, 1], [1]])
    np.testing.assert_array_equal(answers, [BIG, BIG | APART, np.zeros(HW, np.bool_)])


@pytest.mark.parametrize(
    "point", [[-1, 3], [3, -1], [-50, -50], [61, 3], [3, 41], [np.nan, 3], [np.inf, 1], [1e30, 1]]
)
def test_points_outside_the_picture_hit_nothing(point: Any) -> None:
    """Negative ones used to count from the other side, and ones too large to fail."""
    whole = Regions.of(np.ones((1, *HW)))
    assert not whole.contains([point]).any()
    assert whole.contains([[60, 40], [0, 0], [59.9, 39.9]]).all()


def test_clicks_where_nothing_is_choose_nothing() -> None:
    empty = Regions.of(np.zeros((0, *HW)))
    for regions in (empty, REGIONS):
        pick, none = by_points(regions, [[[59, 39]], []], [[1], []])
        assert (len(pick.chosen), len(none.chosen)) == (0, 0)
        assert not paint(regions, pick).any()
    assert by_points(empty, [], []) == []


@pytest.mark.parametrize(
    ("points", "labels"),
    [([[[1, 1]]], []), ([[[1, 1]]], [[1, 0]]), ([[[1, 1, 1]]], [[1]]), ([[1, 1]], [1])],
)
def test_points_that_make_no_sense_are_refused(points: Any, labels: Any) -> None:
    with pytest.raises(PromptError, match="expected"):
        by_points(REGIONS, points, labels)


def test_painting_follows_the_order() -> None:
    pick = Pick(np.array([0, 2]), np.array([False, True]))
    np.testing.assert_array_equal(paint(REGIONS, pick), BIG)


# --- boxes ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(masks=scenes(), seed=st.integers(0, 2**16))
def test_boxes_choose_as_defined(masks: NDArray[np.bool_], seed: int) -> None:
    random = np.random.default_rng(seed)
    _, height, width = masks.shape
    low = random.integers(0, (width, height), (6, 2))
    boxes = np.concatenate((low, low + 1 + random.integers(0, 9, (6, 2))), axis=1)
    chosen, overlaps = by_boxes(Regions.of(masks), boxes)
    for box, row, overlap in zip(boxes, chosen, overlaps, strict=True):
        inside = np.zeros((height, width), np.bool_)
        inside[box[1] : box[3], box[0] : box[2]] = True
        ious = [(mask & inside).sum() / (mask | inside).sum() for mask in masks]
        assert overlap == pytest.approx(max(ious, default=0))
        assert row == (int(np.argmax(ious)) if max(ious, default=0) > 0 else NOTHING)


def test_each_box_has_one_region_in_order() -> None:
    """The reference drops repeated regions and gives the rest in no particular order."""
    boxes = [[9, 9, 21, 21], [40, 5, 55, 35], [10, 10, 20, 20], [5, 5, 36, 36], [40, 5, 54, 35]]
    assert by_boxes(REGIONS, boxes)[0].tolist() == [0, 1, 0, 2, 1]
    many = np.tile(boxes, (200, 1))
    assert by_boxes(REGIONS, many)[0].tolist() == [0, 1, 0, 2, 1] * 200


def test_the_callers_boxes_are_left_alone() -> None:
    """The reference rounds and clips the caller's own list."""
    boxes = [[-7.4, 3.6, 400.2, 21.0]]
    array = np.array(boxes)
    by_boxes(REGIONS, boxes)
    by_boxes(REGIONS, array)
    assert boxes == array.tolist() == [[-7.4, 3.6, 400.2, 21.0]]


def test_boxes_are_cut_at_the_border_and_do_not_wrap() -> None:
    """A negative corner used to count from the other side of the picture."""
    assert by_boxes(REGIONS, [[-30, -30, 2, 2]]) == (np.array([3]), np.array([1.0]))
    assert by_boxes(REGIONS, [[39.6, 4.6, 55.4, 35.4]])[1].tolist() == [1.0]  # rounded to whole pixels


def test_a_box_that_touches_nothing_chooses_nothing() -> None:
    chosen, overlaps = by_boxes(REGIONS, [[56, 36, 60, 40], [10, 10, 22, 20]])
    assert (chosen.tolist(), overlaps.tolist()) == ([NOTHING, 0], [0, 1])
    assert not REGIONS.mask(NOTHING).any()
    chosen, overlaps = by_boxes(Regions.of(np.zeros((0, *HW))), [[1, 1, 5, 5]] * 2)
    assert (chosen.tolist(), overlaps.tolist()) == ([NOTHING] * 2, [0, 0])
    assert by_boxes(REGIONS, [])[0].shape == (0,)


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 0, 0],
        [10, 10, 10, 20],
        [10, 10, 20, 10.4],
        [20, 20, 10, 10],
        [-9, -9, 0, 5],
        [60, 3, 80, 9],
        [3, 40, 9, 80],
        [1, 1, np.nan, 3],
        [1, 1, np.inf, 3],
        [1, 2, 3],
    ],
)
def test_boxes_without_a_pixel_of_the_picture_are_refused(box: Any) -> None:
    for ask in (lambda: by_boxes(REGIONS, [box]), lambda: by_boxes_and_points(REGIONS, [box], [[]], [[]])):
        with pytest.raises(PromptError, match="expected"):
            ask()


def test_clicks_decide_between_regions_in_a_box() -> None:
    box = [5, 5, 35, 35]
    points: list[Any] = [[], [[15, 15]], [[15, 15], [30, 30]], [[12, 12], [30, 30]], [[50, 10]], [[59, 39]]]
    labels: list[Any] = [[], [1], [1, 1], [1, 0], [1], [1]]
    chosen = by_boxes_and_points(REGIONS, [box] * 6, points, labels)
    # Of regions that agree equally with the clicks the box decides; a click outside of the box moves nothing.
    assert chosen.tolist() == [2, 2, 2, 0, 2, 2]
    nothing = by_boxes_and_points(REGIONS, [[57, 37, 60, 40]], [[[15, 15]]], [[1]])
    assert nothing.tolist() == [NOTHING]
    with pytest.raises(PromptError, match="in step"):
        by_boxes_and_points(REGIONS, [box], [], [])


def test_votes_against_all_still_leave_the_best() -> None:
    chosen = by_boxes_and_points(REGIONS, [[10, 10, 20, 20]], [[[15, 15], [16, 16]]], [[0, 0]])
    assert chosen.tolist() == [0]


# --- words ----------------------------------------------------------------------------------------------------------

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


class ColourScorer:
    """Scores a crop by the share of its pixels that have the colour named."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    def __call__(self, crops: list[NDArray[np.uint8]], text: str) -> list[float]:
        self.seen += crops
        return [float((crop == COLOURS[text]).all(axis=2).mean()) for crop in crops]


def coloured(*things: tuple[str, NDArray[np.bool_]]) -> Image:
    pixels = np.full((*HW, 3), 90, np.uint8)
    for name, mask in things:
        pixels[mask] = COLOURS[name]
    return Image.load(pixels)


PHOTO = coloured(("green", BIG), ("red", SMALL), ("blue", APART))


@pytest.mark.parametrize("crop", ["masked", "box", "whole"])
@pytest.mark.parametrize(("text", "region"), [("red", 0), ("blue", 1), ("green", 2)])
def test_words_choose_the_region_that_scores_best(text: str, region: int, crop: Any) -> None:
    pick = by_text(REGIONS, PHOTO, text, ColourScorer(), crop=crop)
    assert pick.chosen == region
    assert np.isneginf(pick.scores[3])  # four pixels are too few to be recognised
    assert np.isfinite(pick.scores[:3]).all()


@pytest.mark.parametrize("small", [[0], [1, 2], [0, 2, 3], [0, 1, 3, 4, 6], [5, 6, 7]])
def test_the_index_survives_regions_left_out(small: list[int]) -> None:
    """The reference repairs its index wrongly once two or more small masks lie before or between the others."""
    large = [rectangle(5 + 6 * n, 5, 11 + 6 * n, 35) for n in range(8 - len(small))]
    specks = [rectangle(2 * n, 0, 2 * n + 2, 2) for n in range(len(small))]
    masks = [specks.pop() if n in small else large.pop() for n in range(8)]
    regions = Regions.of(np.stack(masks))
    for wanted in (n for n in range(8) if n not in small):
        image = coloured(("red", masks[wanted]))
        assert by_text(regions, image, "red", ColourScorer()).chosen == wanted


def test_a_region_of_a_hundred_pixels_is_too_small_and_one_more_is_not() -> None:
    line = rectangle(0, 38, 51, 40)
    hundred, more = line.copy(), line.copy()
    hundred[38, :2] = False
    more[38, 0] = False
    assert by_text(Regions.of(hundred[None]), PHOTO, "red", ColourScorer()).chosen == NOTHING
    assert by_text(Regions.of(more[None]), PHOTO, "red", ColourScorer()).chosen == 0


def test_nothing_found_is_no_region_for_words() -> None:
    scorer = ColourScorer()
    for masks in (np.zeros((0, *HW)), SPECK[None], np.zeros((2, *HW))):
        pick = by_text(Regions.of(masks), PHOTO, "red", scorer)
        assert (pick.chosen, len(pick.scores)) == (NOTHING, len(masks))
    assert not scorer.seen  # an empty mask has no box to cut out: it is never shown


def test_a_neighbour_in_the_box_does_not_mislead() -> None:
    """With the whole box shown, what lies in front of a thing is scored with it."""
    ring = BIG & ~SMALL
    regions = Regions.of(
        np.stack([ring, SMALL & rectangle(10, 10, 20, 15), SMALL & rectangle(10, 15, 20, 20)])
    )
    (seen,) = crops(regions, PHOTO, [0])
    assert not (seen == COLOURS["red"]).all(axis=2).any()
    (boxed,) = crops(regions, PHOTO, [0], crop="box")
    assert (boxed == COLOURS["red"]).all(axis=2).sum() == 120


def test_crops_are_square_so_that_none_is_cut_in_the_middle() -> None:
    wide = Regions.of(rectangle(0, 10, 60, 20)[None])
    (seen,) = crops(wide, PHOTO, [0])
    assert seen.shape == (60, 60, 3)
    np.testing.assert_array_equal(seen[25:35], PHOTO.pixels[10:20])
    assert (seen[:25] == 255).all() and (seen[35:] == 255).all()


def test_whole_crops_are_the_references() -> None:
    """The picture in its own colours (the reference swaps red and blue), white outside the box, not cut."""
    (seen,) = crops(REGIONS, PHOTO, [0], crop="whole")
    assert seen.shape == PHOTO.pixels.shape
    np.testing.assert_array_equal(seen[10:20, 10:22], PHOTO.pixels[10:20, 10:22])
    assert (seen[~SMALL] == 255).all()


def test_wider_takes_the_largest_that_holds_the_best() -> None:
    partly = rectangle(10, 11, 40, 40)  # holds 108 of SMALL's 120 pixels: not more than nine tenths
    regions = Regions.of(np.stack([SMALL, BIG, APART, partly]))
    image = coloured(("red", SMALL))
    assert by_text(regions, image, "red", ColourScorer()).chosen == 0
    assert by_text(regions, image, "red", ColourScorer(), wider=True).chosen == 1
    alone = Regions.of(np.stack([APART, SMALL | SPECK]))
    assert by_text(alone, image, "red", ColourScorer(), wider=True).chosen == 1


def test_many_regions_are_shown_a_few_at_a_time() -> None:
    counts: list[int] = []

    def scorer(crops: list[NDArray[np.uint8]], text: str) -> NDArray[np.float64]:
        counts.append(len(crops))
        return np.array([float(crop.mean()) for crop in crops])

    regions = Regions.of(np.stack([rectangle(0, 0, 20 + n, 20) for n in range(37)]))
    by_text(regions, PHOTO, "red", scorer)
    assert (sum(counts), max(counts)) == (37, 16)


@pytest.mark.parametrize("answer", [[0.5], [[0.5]] * 3, [0.1, 0.2, np.nan], 0.5])
def test_a_scorer_that_answers_otherwise_is_refused(answer: Any) -> None:
    with pytest.raises(InputError, match="one number a crop"):
        by_text(REGIONS, PHOTO, "red", lambda crops, text: answer)


def test_another_picture_or_an_unknown_crop_is_refused() -> None:
    with pytest.raises(InputError, match="the picture they were found in"):
        crops(REGIONS, Image.load(np.zeros((40, 61, 3), np.uint8)), [0])
    with pytest.raises(InputError, match="'masked', 'box' or 'whole'"):
        by_text(REGIONS, PHOTO, "red", ColourScorer(), crop="tight")  # type: ignore[arg-type]
