"""The parts of everything mode: grids and crops, masks from logits, and logits packed into bytes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samlet.errors import InputError
from samlet.everything import Grid
from samlet.everything.bits import Bits, smaller
from samlet.everything.candidates import Candidates
from samlet.everything.enlarge import Enlarger, Window
from samlet.everything.grid import crop_boxes, near_crop_edge, point_grid
from samlet.everything.pack import pack
from samlet.geometry import Frame
from samlet.rle import mask_runs
from samlet.upscale import enlarge

FRAMES = st.builds(
    lambda h, w, multiple: Frame.fit((h, w), 64, multiple=multiple),
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([None, 16]),
)


def waves(seed: int, hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: hw[0], : hw[1]]
    wave = np.sin(x * rng.uniform(0.1, 1)) * np.cos(y * rng.uniform(0.1, 1)) + rng.uniform(-0.6, 0.6)
    return (4 * wave + rng.normal(0, 0.3, hw)).astype(np.float32)


def painted(window, image_hw):
    whole = np.zeros(image_hw, bool)
    height, width = window.inside.shape
    whole[window.top : window.top + height, window.left : window.left + width] = window.inside
    return whole


@given(FRAMES, st.sampled_from(["fast", "exact"]), st.integers(0, 99))
def test_windows_are_the_full_size_masks(frame, upscale, seed):
    logits = waves(seed, tuple(side // 4 for side in frame.canvas_hw))
    full = enlarge(logits, frame, upscale)
    enlarger = Enlarger(frame, logits.shape, upscale)
    height, width = enlarger.needed_hw
    window = enlarger.cut(logits[:height, :width], 0.25, offset=0.5)
    whole = painted(window, frame.image_hw)
    unsure = np.abs(full - 0.25) < 1e-4  # where the order of a sum decides
    np.testing.assert_array_equal((whole != (full > 0.25)) & ~unsure, False)
    # The counts may differ by what is unsure, hence not at all on almost all examples.
    for count, level in ((window.inner, 0.75), (window.outer, -0.25)):
        assert abs(count - np.count_nonzero(full > level)) <= np.count_nonzero(np.abs(full - level) < 1e-4)
    np.testing.assert_array_equal(window.runs(frame.image_hw), mask_runs(whole))
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    assert window.box == ((columns[0], rows[0], columns[-1], rows[-1]) if len(rows) else (0, 0, 0, 0))


@pytest.mark.parametrize("upscale", ["fast", "exact"])
def test_blocks_of_a_large_picture_are_small_and_leave_nothing_out(upscale):
    frame = Frame.fit((700, 9000), 1024)
    logits = waves(3, (256, 256))
    window = Enlarger(frame, logits.shape, upscale).cut(logits, 0.25)
    full = enlarge(logits, frame, upscale)
    unsure = np.abs(full - 0.25) < 1e-4
    np.testing.assert_array_equal((painted(window, frame.image_hw) != (full > 0.25)) & ~unsure, False)


def test_a_ragged_mask_is_kept_as_bits_and_a_smooth_one_as_run_lengths():
    noise = Window(np.random.default_rng(0).random((40, 50)) > 0.5, 3, 7)
    kept = smaller(noise, noise.runs((60, 70)))
    assert isinstance(kept, Bits) and kept.packed.nbytes == 40 * 50 / 8
    again = kept.window()
    np.testing.assert_array_equal(again.inside, noise.inside)
    np.testing.assert_array_equal(again.runs((60, 70)), noise.runs((60, 70)))
    smooth = Window(np.ones((400, 500), bool), 3, 7)
    runs = smooth.runs((600, 700))
    assert smaller(smooth, runs) is runs


def test_a_window_of_a_crop_lands_in_the_picture():
    window = Enlarger(Frame.fit((6, 8), 8), (8, 8), "fast").cut(np.ones((6, 8), np.float32), 0.0)
    whole = np.zeros((20, 30), bool)
    whole[5:11, 7:15] = True
    np.testing.assert_array_equal(window.runs((20, 30), shift_xy=(7, 5)), mask_runs(whole))
    whole[:] = False
    whole[14:, 22:] = True  # to the last pixel
    np.testing.assert_array_equal(window.runs((20, 30), shift_xy=(22, 14)), mask_runs(whole))


def test_small_masks_make_small_windows():
    logits = np.full((64, 64), -5, np.float32)
    logits[20:23, 40:42] = 5
    window = Enlarger(Frame.fit((480, 640), 256), (64, 64), "exact").cut(logits, 0.0, offset=1.0)
    assert window.inside.size < 0.02 * 480 * 640
    assert 0 < window.inner < window.inside.sum() < window.outer


@given(st.integers(0, 99), st.floats(-1, 1, width=32))
def test_packed_logits_keep_their_side(seed, threshold):
    logits = waves(seed, (40, 56))
    (packed,) = pack(logits[None], threshold)
    assert packed.codes.dtype == np.int8
    unpacked = packed.logits()
    distance, again = logits - np.float32(threshold), unpacked - np.float32(threshold)
    np.testing.assert_array_equal(again > 0, distance > 0)
    # Near the mask nothing but clipping happens, and the error is that of rounding a square root in 127 steps.
    (top, left), (height, width) = packed.corner, packed.codes.shape
    stored = np.s_[top : top + height, left : left + width]
    distance, again = np.abs(distance[stored]), np.abs(again[stored])
    error = np.abs(np.minimum(distance, packed.reach) - again)
    assert np.all(error <= 2 * np.sqrt(packed.reach * distance) / 127 + packed.reach / 127**2 + 1e-5)


def test_small_masks_pack_small():
    logits = np.full((64, 64), -5, np.float32)
    logits[20:23, 40:42] = 5
    (packed,) = pack(logits[None], 0.0)
    assert (packed.codes.shape, packed.corner) == ((5, 4), (19, 39))
    np.testing.assert_array_equal(packed.logits(), logits)


def test_packing_hardly_moves_an_outline():
    frame = Frame.fit((300, 400), 256)
    enlarger = Enlarger(frame, (64, 64), "fast")
    for seed in range(8):
        logits = waves(seed, (64, 64))
        (packed,) = pack(logits[None], 0.0)
        before, after = (painted(enlarger.cut(one, 0.0), frame.image_hw) for one in (logits, packed.logits()))
        assert (before & after).sum() >= 0.99 * (before | after).sum()


def test_packing_maps_without_an_outline():
    logits = np.stack([np.full((4, 4), 7.0), np.full((4, 4), -7.0)]).astype(np.float32)
    full, empty = pack(logits, 0.0)
    assert (full.logits() > 0).all()
    assert (empty.logits() < 0).all()
    assert pack(logits[:0], 0.0) == []


def test_grid_points_lie_half_a_step_from_the_border():
    points = point_grid(4)
    assert points.shape == (16, 2)
    np.testing.assert_allclose(points[:4], [[0.125, 0.125], [0.375, 0.125], [0.625, 0.125], [0.875, 0.125]])
    np.testing.assert_allclose(points[4], [0.125, 0.375])


def test_crops_cover_the_picture_and_overlap():
    boxes, layers = crop_boxes((300, 500), 2, 512 / 1500)
    assert [layers.count(layer) for layer in range(3)] == [1, 4, 16]
    for layer in (1, 2):
        covered = np.zeros((300, 500), int)
        for (x0, y0, x1, y1), own in zip(boxes, layers, strict=True):
            covered[y0:y1, x0:x1] += own == layer
        assert covered.min() == 1
        assert covered.max() == 4


def test_edges_of_the_picture_are_no_crop_edges():
    boxes = np.array([[0, 0, 40, 40], [0, 0, 95, 40], [60, 60, 80, 80], [60, 60, 79, 79]], float)
    assert near_crop_edge(boxes, (0, 0, 100, 100), (100, 200)).tolist() == [False, True, True, False]


def test_candidates_join_and_pick():
    one = Candidates(
        scores=np.float32([0.5, 0.25]), stability=np.float32([1, 0.5]), points=np.eye(2), boxes=np.ones((2, 4)),
        crops=np.zeros(2, np.int64), shapes=(np.array([1]), np.array([2])),
    )  # fmt: skip
    both = Candidates.join([one, one.take(np.array([True, False]))])
    assert both.scores.tolist() == [0.5, 0.25, 0.5]
    assert [shape.tolist() for shape in both.take(np.array([1, 0])).shapes] == [[2], [1]]
    assert len(Candidates.join([])) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": None}, "expected points_per_side or point_grids, got neither"),
        ({"point_grids": [np.ones((1, 2))]}, "got both"),
        ({"points_per_side": 0}, "expected points_per_side from 1 to 1024, got 0"),
        ({"points_per_side": 1.5}, "expected points_per_side as a whole number"),
        ({"points_per_batch": 0}, "expected points_per_batch of at least 1"),
        ({"pred_iou_thresh": float("nan")}, "expected pred_iou_thresh as a number"),
        ({"stability_score_thresh": "high"}, "expected stability_score_thresh as a number"),
        ({"stability_score_offset": -1}, "expected stability_score_offset of 0 or more"),
        ({"box_nms_thresh": 1.5}, "expected box_nms_thresh from 0 to 1"),
        ({"crop_n_layers": -1}, "expected crop_n_layers from 0"),
        ({"crop_n_layers": True}, "expected crop_n_layers as a whole number"),
        ({"crop_overlap_ratio": 1.0}, "expected crop_overlap_ratio from 0 to 0.99"),
        ({"crop_n_points_downscale_factor": 0}, "expected crop_n_points_downscale_factor of at least 1"),
        ({"min_mask_region_area": -1}, "expected min_mask_region_area of 0 or more"),
        ({"points_per_side": None, "point_grids": [np.ones((3, 2)) * 2]}, "x and y from 0 to 1"),
        (
            {"points_per_side": None, "point_grids": [np.ones((3, 2))], "crop_n_layers": 1},
            "for each of 2 layers",
        ),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Grid(**settings)


def test_settings_can_be_replaced():
    grid = Grid(points_per_side=8, crop_n_layers=1, crop_n_points_downscale_factor=2)
    assert [len(points) for points in replace(grid, box_nms_thresh=0.5).layers()] == [64, 16]
