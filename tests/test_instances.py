"""From a detector's arrays to boxes and masks: scenes whose masks are known, and OpenCV's arithmetic."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.families import family, fastsam
from samlet.geometry import Frame, mask_iou, nms, resize_bilinear
from samlet.instances import InstanceRules, canvas_masks, detect, rules_of
from samlet.prompt import Prompt
from tests.fastsam_scenes import CARD, HW, Thing, model_of, network, picture

FRAME = Frame.letterbox(HW, 256, multiple=32)
RULES = rules_of(CARD)


def view(*things: Thing, frame: Frame = FRAME, card: Any = CARD) -> Embedding:
    arrays = family(card.family).embedding_arrays(network(things, frame), card)
    return Embedding(arrays, frame, card.name, card.digest)


# --- letterbox -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hw", "side", "multiple", "scaled", "canvas", "offset"),
    [
        ((720, 1280), 1024, 32, (576, 1024), (576, 1024), (0, 0)),
        ((427, 640), 1024, 32, (683, 1024), (704, 1024), (10, 0)),  # 21 spare rows: 10 above, 11 below
        ((427, 640), 1024, None, (683, 1024), (1024, 1024), (170, 0)),
        ((640, 427), 640, 32, (640, 427), (640, 448), (0, 10)),
        ((1, 5000), 1024, 32, (1, 1024), (32, 1024), (15, 0)),  # round() gives 0 rows, and nothing is left
        ((5, 2), 1025, 32, (1025, 410), (1025, 417), (0, 3)),
        ((512, 512), 1024, 32, (1024, 1024), (1024, 1024), (0, 0)),  # small pictures are enlarged
    ],
)
def test_letterbox_sizes(hw: Any, side: int, multiple: Any, scaled: Any, canvas: Any, offset: Any) -> None:
    frame = Frame.letterbox(hw, side, multiple=multiple)
    assert (frame.scaled_hw, frame.canvas_hw, frame.offset_yx) == (scaled, canvas, offset)
    assert frame.fits()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    multiple=st.sampled_from([None, 32]),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_letterbox_maps_points_there_and_back(height: int, width: int, multiple: Any, share: Any) -> None:
    frame = Frame.letterbox((height, width), 1024, multiple=multiple)
    point = np.array([share[0] * width, share[1] * height])
    there = frame.to_model_points(point)
    low = np.array(frame.offset_yx[::-1])
    assert (there >= low - 1e-3).all()
    assert (there <= low + frame.scaled_hw[::-1] + 1e-3).all()
    tolerance = 1e-3 * max(height, width) / 1024 + 1e-3
    np.testing.assert_allclose(frame.to_image_points(there), point, atol=tolerance)
    box = np.concatenate((point / 2, point))
    np.testing.assert_allclose(frame.to_image_boxes(frame.to_model_boxes(box)), box, atol=tolerance)
    assert Frame.from_dict(frame.to_dict()) == frame


def test_a_frame_without_offset_is_written_as_ever() -> None:
    assert "offset_yx" not in Frame.fit((4, 4), 8).to_dict()
    assert Frame.letterbox((2, 4), 32, multiple=32).to_dict()["offset_yx"] == [8, 0]


@pytest.mark.parametrize("offset", [[-1, 0], [0, 1], [1], "ab", [0.0, 0.0]])
def test_a_frame_whose_offset_does_not_fit_is_refused(offset: Any) -> None:
    sizes = {"image_hw": [4, 4], "scaled_hw": [4, 4], "canvas_hw": [8, 4], "offset_yx": offset}
    with pytest.raises(InputError, match="make the frame again"):
        Frame.from_dict(sizes)


def test_part_of_a_resized_map_is_cut_from_the_whole() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    whole = resize_bilinear(maps, (31, 45), region_hw=(4.5, 6.25), region_yx=(1.5, 2.75))
    part = resize_bilinear(
        maps, (31, 45), region_hw=(4.5, 6.25), region_yx=(1.5, 2.75), window=(slice(3, 20), slice(44, 45))
    )
    np.testing.assert_array_equal(part, whole[:, 3:20, 44:45])
    nothing = resize_bilinear(maps, (31, 45), window=(slice(3, 3), slice(0, 45)))
    assert nothing.shape == (2, 0, 45)


@pytest.mark.parametrize("hw", [(100, 160), (333, 500), (64, 64), (512, 384)])
def test_feed_is_what_opencv_makes(hw: tuple[int, int]) -> None:
    """RGB in 0..1, scaled without antialiasing to within one level, and grey 114 around it."""
    cv2 = pytest.importorskip("cv2")
    image = picture(hw)
    feeds, frame = fastsam.feed(image, CARD)
    array = feeds["image"]
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (
        (1, 3, *frame.canvas_hw),
        np.float32,
        True,
    )
    scaled = cv2.resize(image.pixels, frame.scaled_hw[::-1], interpolation=cv2.INTER_LINEAR)
    (top, left), (height, width) = frame.offset_yx, frame.scaled_hw
    bottom, right = frame.canvas_hw[0] - top - height, frame.canvas_hw[1] - left - width
    expected = cv2.copyMakeBorder(
        scaled, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114)
    )
    difference = np.abs(array[0].transpose(1, 2, 0) * 255 - expected)
    assert difference.max() <= 1.001
    assert (
        difference.mean() < 0.15
    )  # OpenCV mixes with weights of 11 bits: every eighth value rounds the other way


def test_channels_can_be_swapped_as_the_published_pipeline_does() -> None:
    plain, _ = fastsam.feed(picture(), CARD)
    swapped, _ = fastsam.feed(picture(), replace(CARD, settings={"swap_channels": True}))
    np.testing.assert_array_equal(swapped["image"], plain["image"][:, ::-1])


def test_pictures_can_be_scaled_with_antialiasing() -> None:
    image = picture((480, 1024))
    soft, frame = fastsam.feed(image, replace(CARD, settings={"antialias": True}))
    np.testing.assert_allclose(
        soft["image"][0, :, 4:124] * 255, image.resized(frame.scaled_hw).transpose(2, 0, 1), atol=1e-3
    )


# --- which instances ---------------------------------------------------------------------------------------------


def boxes_of(rows: Any, rules: InstanceRules = RULES, *, full_frame: bool = True) -> Any:
    array = np.array([[*row, *np.zeros(32)] for row in rows], np.float32).reshape(-1, 37)
    return detect(array, (128, 256), rules, full_frame=full_frame)


def test_the_score_must_lie_above_the_threshold() -> None:
    found = boxes_of([[60, 60, 20, 20, 0.6], [160, 60, 20, 20, 0.5]], rules_of(CARD, conf=0.5))
    assert found.scores.tolist() == pytest.approx([0.6])


def test_overlapping_boxes_give_way_to_better_ones() -> None:
    rows = [[60, 60, 20, 20, 0.9], [61, 60, 20, 20, 0.8], [160, 60, 20, 20, 0.7], [64, 60, 20, 20, 0.6]]
    found = boxes_of(rows, rules_of(CARD, iou=0.8))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert len(boxes_of(rows, rules_of(CARD, iou=0.8, max_det=2)).scores) == 2


@pytest.mark.parametrize(("iou", "max_det"), [(0.9, 300), (0.5, 1500), (0.2, 100_000)])
def test_the_first_survivors_are_those_of_all(iou: float, max_det: int) -> None:
    """Twenty thousand candidates with a low threshold: comparing them all takes six seconds."""
    random = np.random.default_rng(0)
    rows = np.zeros((3000, 37), np.float32)
    rows[:, :2], rows[:, 2:4] = random.uniform(0, 256, (3000, 2)), np.exp(random.uniform(1, 4, (3000, 2)))
    rows[:, 4] = np.sort(random.uniform(0.5, 1, 3000))[::-1]
    rules = rules_of(CARD, iou=iou, max_det=max_det, border_snap=0)
    boxes = np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2), axis=1)
    expected = nms(boxes, rows[:, 4], iou)[:max_det]
    np.testing.assert_array_equal(detect(rows, (256, 256), rules, full_frame=False).scores, rows[expected, 4])


def test_nothing_found_is_an_empty_answer() -> None:
    """The reference gives [] for the whole call, which then fails at results[0]."""
    found = fastsam.instances(view(), CARD)
    assert (len(found), found.masks.shape, found.facts["box_xyxy"].shape) == (0, (0, *HW), (0, 4))
    assert boxes_of([]).boxes_xyxy.shape == (0, 4)
    one, other = fastsam.answer(
        view(), Prompt.make(image_hw=HW, points=[[[9, 9]], [[1, 1]]]), CARD, multimask=False
    )
    assert (one.areas.tolist(), other.scores.tolist()) == ([0], [0.0])
    assert not fastsam.instances(view(), CARD, rules_of(CARD, retina=False)).masks.size


@pytest.mark.parametrize(
    ("box", "snapped"),
    [
        ([19.5, 30, 100, 100], [0, 30, 100, 100]),
        ([20, 30, 100, 100], [20, 30, 100, 100]),
        ([30, 19, 100, 100], [30, 0, 100, 100]),
        ([30, 30, 236, 100], [30, 30, 236, 100]),
        ([30, 30, 236.5, 100], [30, 30, 256, 100]),
        ([30, 30, 100, 108.5], [30, 30, 100, 128]),
        ([-5, -5, 100, 300], [0, 0, 100, 128]),
    ],
)
def test_boxes_near_the_border_reach_it(box: Any, snapped: Any) -> None:
    x0, y0, x1, y1 = box
    row = [[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0.9]]
    assert boxes_of(row).boxes_xyxy.tolist() == [snapped]
    assert boxes_of(row, rules_of(CARD, border_snap=0)).boxes_xyxy.tolist() == [box]


def test_several_boxes_may_cover_nearly_everything() -> None:
    """The reference fails on more than one such box, swallows the error and gives None; a port lost all but one."""
    near_full = [[128, 64, 250, 120, 0.9], [126, 62, 250, 122, 0.8], [128, 64, 60, 60, 0.7]]
    rules = rules_of(CARD, iou=1.0, border_snap=0)
    found = boxes_of(near_full, rules)
    assert found.boxes_xyxy.tolist() == [[0, 0, 256, 128], [0, 0, 256, 128], [98, 34, 158, 94]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert boxes_of(near_full, rules.changed(full_frame=False)).boxes_xyxy[0].tolist() == [3, 4, 253, 124]
    assert boxes_of(near_full, rules, full_frame=False).boxes_xyxy[0].tolist() == [3, 4, 253, 124]


def test_a_nearly_full_box_does_not_cut_its_mask() -> None:
    things = [
        Thing((0, 0, 256, 120), 0.9, seen=(3, -2, 254, 122)),
        Thing((0, 0, 128, 120), 0.8, seen=(2, -3, 254, 122)),
    ]
    found = fastsam.instances(view(*things), CARD, rules_of(CARD, border_snap=0, iou=1.0))
    np.testing.assert_array_equal(found.masks, [thing.mask() for thing in things])


def test_the_rules_hold_for_every_picture() -> None:
    """The reference snaps and replaces boxes of the first picture of a batch only."""
    model, _ = model_of([Thing((0, 0, 256, 120), 0.9, seen=(6, 2, 250, 119))])
    for seed in range(2):
        found = fastsam.instances(model.embed(picture(seed=seed)), CARD)
        assert found.facts["box_xyxy"].tolist() == [[0, 0, 256, 120]]


@pytest.mark.parametrize(
    "changes",
    [
        {"conf": -0.1},
        {"conf": 0.0005},
        {"iou": 1.5},
        {"max_det": 0},
        {"border_snap": -1},
        {"threshold": "x"},
        {"registration": "x"},
        {"conf": "high"},
        {"unheard_of": 1},
    ],
)
def test_rules_out_of_range_are_refused(changes: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        rules_of(CARD, **changes)


def test_rules_come_from_the_card() -> None:
    rules = rules_of(
        replace(CARD, settings={"conf": 0.25, "threshold": "sigmoid", "antialias": True}), iou=None
    )
    assert (rules.conf, rules.iou, rules.threshold) == (0.25, 0.9, "sigmoid")


# --- their masks --------------------------------------------------------------------------------------------------


def test_masks_are_exact() -> None:
    """Where picture and canvas have one scale, the edge of a shape lies on the edge of a cell."""
    things = [
        Thing((0, 0, 256, 120), 0.95),
        Thing((40, 20, 80, 60), 0.9),
        Thing((100, 40, 180, 100), 0.8),
        Thing((200, 0, 256, 120), 0.7),
    ]
    for rules in (RULES, rules_of(CARD, registration="exact"), rules_of(CARD, threshold="sigmoid")):
        found = fastsam.instances(view(*things), CARD, rules)
        np.testing.assert_array_equal(found.masks, [thing.mask() for thing in things])
    assert found.scores.tolist() == pytest.approx([0.95, 0.9, 0.8, 0.7])
    assert found.facts["box_xyxy"].tolist() == [list(map(float, thing.box)) for thing in things]
    assert found.boxes_xyxy.tolist() == [list(thing.box) for thing in things]


def test_masks_end_at_their_boxes() -> None:
    """A pixel column c is inside where x0 <= c < x1, as its left edge counts."""
    thing = Thing((40, 20, 200, 100), seen=(60.5, 30, 150.25, 80))
    (mask,) = fastsam.instances(view(thing), CARD).masks
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (30, 79, 61, 150)
    assert mask.sum() == 50 * 90


@pytest.mark.parametrize("retina", [True, False])
@pytest.mark.parametrize("threshold", ["logit", "sigmoid"])
@pytest.mark.parametrize("hw", [(120, 256), (427, 640), (300, 90)])
def test_masks_are_what_opencv_makes(hw: tuple[int, int], threshold: str, retina: bool) -> None:
    """The whole way from prototypes to masks, worked out again with other means."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(7)
    frame = Frame.letterbox(hw, 256, multiple=32)
    (height, width), (canvas_h, canvas_w) = hw, frame.canvas_hw
    grid_h, grid_w = canvas_h // 4, canvas_w // 4
    protos = random.normal(size=(32, grid_h, grid_w)).astype(np.float32)
    protos = np.stack([cv2.GaussianBlur(proto, (0, 0), 3) for proto in protos]) * 20
    rows = np.zeros((6, 37), np.float32)
    rows[:, :2] = random.uniform(0.3, 0.7, (6, 2)) * (canvas_w, canvas_h)
    rows[:, 2:4] = random.uniform(0.2, 0.6, (6, 2)) * (canvas_w, canvas_h)
    rows[:, 4], rows[:, 5:] = np.linspace(0.9, 0.5, 6), random.normal(size=(6, 32))
    rules = rules_of(CARD, retina=retina, threshold=threshold, iou=1.0)
    embedding = Embedding({"candidates": rows, "protos": protos}, frame, CARD.name, CARD.digest)
    found = detect(rows, frame.canvas_hw, rules, full_frame=True)
    logits = np.einsum("nk,khw->nhw", found.coefficients.astype(np.float64), protos)
    values = 1 / (1 + np.exp(-logits)) if threshold == "sigmoid" else logits
    cut = 0.5 if threshold == "sigmoid" else 0.0
    expected = []
    for box, coarse in zip(found.boxes_xyxy, values, strict=True):
        if retina:
            gain = min(grid_h / height, grid_w / width)
            pad_y, pad_x = (grid_h - height * gain) / 2, (grid_w - width * gain) / 2
            coarse = coarse[int(pad_y) : int(grid_h - pad_y), int(pad_x) : int(grid_w - pad_x)]
            fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) > cut
            x0, y0, x1, y1 = frame.to_image_boxes(box)
            y, x = np.mgrid[:height, :width]
            expected.append(fine & (x >= x0) & (x < x1) & (y >= y0) & (y < y1))
        else:
            y, x = np.mgrid[:grid_h, :grid_w] * 4
            coarse = coarse * ((x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3]))
            expected.append(cv2.resize(coarse, (canvas_w, canvas_h), interpolation=cv2.INTER_LINEAR) > cut)
    made = (
        fastsam.instances(embedding, CARD, rules).masks
        if retina
        else np.array(list(canvas_masks(found, protos, frame.canvas_hw, rules)))
    )
    assert min(mask.sum() for mask in expected) > 50
    assert (
        made != np.array(expected)
    ).sum() <= 1e-4 * made.size  # single and double precision at the threshold


def test_coarse_masks_come_at_the_size_of_the_picture() -> None:
    hw = (240, 512)
    frame = Frame.letterbox(hw, 256, multiple=32)
    things = [Thing((80, 40, 160, 120)), Thing((200, 80, 360, 200), 0.8)]
    found = fastsam.instances(view(*things, frame=frame), CARD, rules_of(CARD, retina=False))
    for mask, thing in zip(found.masks, things, strict=True):
        # A cell that the box cuts off counts as 0 and not as outside: the mask may grow by one cell (8 pixels).
        grown = Thing((thing.box[0] - 8, thing.box[1] - 8, thing.box[2] + 8, thing.box[3] + 8)).mask(hw)
        assert (mask & thing.mask(hw)).sum() == thing.mask(hw).sum()
        assert not (mask & ~grown).any()


def test_exact_registration_is_nearer_to_the_truth() -> None:
    """Whole cells of padding shift masks: at 427 x 640, 2.5 rows of cells are padding and 2 are cut."""
    hw = (427, 640)
    frame = Frame.letterbox(hw, 1024, multiple=32)
    things = [Thing((100, 50, 200, 100), 0.9, round=True), Thing((300, 300, 420, 400), 0.8, round=True)]
    embedding = view(*things, frame=frame)
    ious = {}
    for registration in ("cells", "exact"):
        found = fastsam.instances(embedding, CARD, rules_of(CARD, registration=registration))
        ious[registration] = [
            mask_iou(m, thing.mask(hw)) for m, thing in zip(found.masks, things, strict=True)
        ]
    assert min(ious["exact"]) > 0.96
    assert sum(ious["exact"]) > sum(ious["cells"])


def test_memory_does_not_grow_with_the_masks() -> None:
    """Users of the reference run out of memory with 1,000 masks of 2000 x 3000 pixels (6 GB as booleans)."""
    hw = (2000, 3000)
    frame = Frame.letterbox(hw, 256, multiple=32)
    random = np.random.default_rng(0)
    corners = random.uniform(0, (2700, 1700), (120, 2)).round()
    things = [Thing((x, y, x + 250, y + 250), 0.9, round=True) for x, y in corners]
    outputs = network(things, frame)
    outputs["candidates"][0, 5:] = random.normal(size=outputs["candidates"][0, 5:].shape)
    embedding = Embedding(fastsam.embedding_arrays(outputs, CARD), frame, CARD.name, CARD.digest)
    tracemalloc.start()
    found = fastsam.instances(embedding, CARD)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) > 50
    assert peak < 40 * 2**20
