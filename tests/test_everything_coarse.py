"""Hierarchical everything mode: fewer clicks, and none of the masks that only they would have found is lost."""

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend
from samlet.errors import InputError
from samlet.everything import Grid, GridEngine, everything
from samlet.everything.coarse import covered, split
from samlet.everything.finder import Crop
from samlet.geometry import Frame
from samlet.image import Image
from samlet.registry import resolve
from samlet.session import Session

PICTURE = Image.load(np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8))


def engine(coarse: int, grid: Grid) -> GridEngine:
    found = GridEngine(Session(resolve("nano"), FakeBackend()), grid, coarse=coarse)
    found.initialize(PICTURE)
    return found


@pytest.mark.parametrize(("side", "step", "first"), [(8, 1, 64), (8, 2, 16), (8, 4, 4), (9, 4, 4), (2, 4, 1)])
def test_a_square_grid_is_thinned_both_ways(side: int, step: int, first: int) -> None:
    points = Grid(points_per_side=side).layers()[0]
    coarse, rest = split(points, step)
    if step > side:
        assert len(coarse) + len(rest) == side * side
    else:
        assert (len(coarse), len(rest)) == (first, side * side - first)
    both = {tuple(point) for point in np.concatenate((coarse, rest)).tolist()}
    assert both == {tuple(point) for point in points.tolist()}


def test_other_grids_are_thinned_in_order() -> None:
    points = np.random.default_rng(2).random((37, 2))
    coarse, rest = split(points, 2)
    assert (len(coarse), len(rest)) == (10, 27)


def test_clicks_inside_what_was_found_are_left_out() -> None:
    """The fake answers a click with a disk round it: its neighbours need not be asked."""
    grid = Grid(points_per_side=16, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    fine, coarse = engine(1, grid), engine(4, grid)
    assert fine.asked == 256
    assert 16 <= coarse.asked < 128
    union = [found.generate().masks.any(axis=0) for found in (fine, coarse)]
    assert (union[0] & union[1]).sum() / union[0].sum() > 0.95


def test_where_nothing_is_sure_every_click_is_asked() -> None:
    assert engine(4, Grid(points_per_side=16, pred_iou_thresh=0.99)).asked == 256


def test_covered_is_about_the_cell_a_click_lies_in() -> None:
    grid = Grid(points_per_side=1, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    one = engine(1, grid)
    frame = Frame.fit(PICTURE.hw, 512, multiple=32)
    crop = Crop(0, (0, 0, 128, 96), PICTURE.hw, frame, (frame.canvas_hw[0] // 2, frame.canvas_hw[1] // 2))
    points = np.stack(np.meshgrid(np.arange(128) + 0.5, np.arange(96) + 0.5), axis=-1).reshape(-1, 2)
    inside = covered(points, one._found, crop).reshape(96, 128)
    mask = one.generate().masks.any(axis=0)
    assert mask.any()
    assert (inside != mask).mean() < 0.02


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
