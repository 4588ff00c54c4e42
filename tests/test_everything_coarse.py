"""Hierarchical everything mode: clicks between those that were answered alike are left out."""

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend
from samlet.errors import InputError
from samlet.everything import Grid, GridEngine, everything
from samlet.everything.candidates import Candidates, nothing
from samlet.everything.coarse import ALIKE, doubtful, rounds
from samlet.everything.finder import Crop
from samlet.everything.pack import pack
from samlet.geometry import Frame
from samlet.image import Image
from samlet.registry import resolve
from samlet.session import Session

PICTURE = Image.load(np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8))


def engine(coarse: int, grid: Grid) -> GridEngine:
    found = GridEngine(Session(resolve("nano"), FakeBackend()), grid, coarse=coarse)
    found.initialize(PICTURE)
    return found


@pytest.mark.parametrize(
    ("side", "step", "lengths"),
    [
        (8, 1, [64]),
        (8, 2, [16, 16, 32]),
        (8, 4, [4, 4, 8, 16, 32]),
        (9, 4, [4, 4, 8, 25, 40]),
        (9, 3, [9, 9, 63]),
        (2, 4, [1, 1, 2]),
        (1, 64, [1]),
    ],
)
def test_each_round_lies_between_those_before(side: int, step: int, lengths: list[int]) -> None:
    points = Grid(points_per_side=side).layers()[0]
    taken = [batch for batch, _ in rounds(points, step)]
    assert [len(batch) for batch in taken] == lengths
    assert sorted(np.concatenate(taken).tolist()) == sorted(points.tolist())


def test_nearer_clicks_need_to_agree_less() -> None:
    bounds = [alike for _, alike in rounds(Grid(points_per_side=64).layers()[0], 8)]
    assert bounds == sorted(bounds, reverse=True) and bounds[-4:] == list(reversed(ALIKE))


def test_other_grids_are_thinned_in_order() -> None:
    points = np.random.default_rng(2).random((37, 2))
    first, middle, rest = (batch for batch, _ in rounds(points, 4))
    np.testing.assert_array_equal(first, points[1::4])
    np.testing.assert_array_equal(middle, points[3::4])
    np.testing.assert_array_equal(rest, points[::2])


CROP = Crop(0, (10, 20, 74, 84), (200, 200), Frame.fit((64, 64), 64, multiple=32), (64, 64))
CORNERS = np.array([[0.5, 0.5], [32.5, 0.5], [0.5, 32.5], [32.5, 32.5]])
MIDDLE = np.array([[16.5, 16.5]])


def candidates(answers: list[list[tuple[int, int, int, int]]]) -> Candidates:
    """Give each corner its masks, rectangles (top, left, bottom, right) of the logits' grid."""
    logits, points = [], []
    for point, rectangles in zip(CORNERS, answers, strict=True):
        for top, left, bottom, right in rectangles:
            one = np.full((64, 64), -5.0, np.float32)
            one[top:bottom, left:right] = 5.0
            logits.append(one)
            points.append(point + CROP.box[:2])
    count = len(logits)
    return Candidates(
        scores=np.ones(count, np.float32),
        stability=np.ones(count, np.float32),
        points=np.array(points).reshape(-1, 2),
        boxes=np.zeros((count, 4)),
        crops=np.zeros(count, np.int64),
        shapes=tuple(pack(np.array(logits), 0.0)) if logits else (),
    )


WHOLE, LEFT, RIGHT, SPECK = (0, 0, 64, 64), (0, 0, 64, 32), (0, 32, 64, 64), (30, 30, 32, 32)


@pytest.mark.parametrize(
    ("answers", "agreement"),
    [
        ([[WHOLE]] * 4, 1.0),
        ([[WHOLE, LEFT]] * 4, 1.0),
        ([[LEFT], [RIGHT], [LEFT], [RIGHT]], 0.0),
        ([[WHOLE], [WHOLE], [WHOLE], [LEFT]], 0.5),
        (
            [[WHOLE], [WHOLE], [WHOLE], [WHOLE, RIGHT]],
            0.75,
        ),  # of two masks one finds its like, the other half of it
        ([[WHOLE], [WHOLE], [WHOLE], []], 0.0),
        ([[]] * 4, 0.0),
        ([[WHOLE, SPECK], [WHOLE], [WHOLE], [WHOLE]], 0.5),
    ],
)
def test_a_click_is_doubtful_where_its_neighbours_disagree(
    answers: list[list[tuple[int, int, int, int]]], agreement: float
) -> None:
    found = candidates(answers)
    assert not doubtful(MIDDLE, CORNERS, found, CROP, alike=agreement - 0.01).any()
    assert doubtful(MIDDLE, CORNERS, found, CROP, alike=agreement + 0.01).all()


def test_only_the_nearest_four_are_heard() -> None:
    found = candidates([[WHOLE]] * 4)
    asked = np.concatenate((CORNERS, [[60.5, 60.5], [60.5, 2.5]]))  # these two have no mask
    near, far = np.array([[16.5, 16.5]]), np.array([[60.5, 50.5]])
    assert doubtful(np.concatenate((near, far)), asked, found, CROP, alike=0.5).tolist() == [False, True]


def test_with_few_clicks_asked_all_are_doubtful() -> None:
    assert doubtful(MIDDLE, CORNERS[:3], nothing(), CROP, alike=0.0).all()


def test_alike_neighbours_spare_the_clicks_between_them() -> None:
    """The fake answers a click with a disk round it, so that near clicks agree and far ones do not."""
    grid = Grid(points_per_side=16, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    fine, coarse = engine(1, grid), engine(4, grid)
    assert fine.asked == 256
    assert 32 <= coarse.asked < 200
    union = [found.generate().masks.any(axis=0) for found in (fine, coarse)]
    assert (union[0] & union[1]).sum() / union[0].sum() > 0.95


def test_all_masks_are_kept_whatever_the_floors() -> None:
    """Clicks are compared by all their masks; thresholds then move freely, both ways."""
    found = engine(4, Grid(points_per_side=8, pred_iou_thresh=0.99, stability_score_thresh=0.99))
    assert len(found.generate()) == 0
    assert len(found.generate(pred_iou_thresh=0.0, stability_score_thresh=0.0)) > 0
    assert found.decodings == 1


@pytest.mark.parametrize(("coarse", "mode"), [(0, "fast"), (65, "fast"), (2.0, "fast"), (2, "exact")])
def test_settings_that_make_no_sense(coarse: int, mode: str) -> None:
    with pytest.raises(InputError, match="expected coarse"):
        GridEngine(Session(resolve("nano"), FakeBackend()), Grid(), coarse=coarse, mode=mode)


def test_the_function_takes_it_too() -> None:
    session = Session(resolve("nano"), FakeBackend())
    grid = Grid(points_per_side=8, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    asked: list[int] = []
    masks = everything(session, PICTURE, grid, coarse=4, progress=lambda done, total: asked.append(done))
    assert len(masks) > 0
    assert max(asked) == 64


@pytest.mark.parametrize("size", ["32x16", "x", "0x", "many", "-3"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(InputError, match="such as 32x32"):
        Grid.parse(size, resolve("nano"))


def test_a_size_of_a_grid() -> None:
    assert Grid.parse("24", resolve("mobile_sam")).points_per_side == 24
    assert Grid.parse(None, resolve("mobile_sam")).points_per_side == 32
