"""Frames map there and back for every size, and the fast functions equal slow ones."""

import json

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from samlet.errors import InputError
from samlet.geometry import Frame, box_iou, mask_iou, nms, resize_bilinear

sides = st.integers(1, 16_384)
sizes = st.tuples(sides, sides).filter(lambda hw: hw[0] * hw[1] <= 50_000_000)
canvases = st.tuples(st.integers(16, 2048), st.sampled_from([None, 1, 16, 32, 64]))
fractions = st.floats(0, 1)


def reference_size(height, width, target):
    """segment_anything/utils/transforms.py, ResizeLongestSide.get_preprocess_shape."""
    scale = target * 1.0 / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


@given(sizes, canvases)
@example((1, 5000), (1024, None))
@example((16_384, 1), (512, None))
@example((1, 1), (1024, None))
@example((6000, 8333), (1024, 16))
@settings(max_examples=200, deadline=None)
def test_fit_is_sams_size_and_at_least_one_pixel(hw, canvas):
    target, multiple = canvas
    frame = Frame.fit(hw, target, multiple=multiple)
    assert frame.image_hw == hw
    assert frame.scaled_hw == tuple(max(1, side) for side in reference_size(*hw, target))
    assert max(frame.scaled_hw) == target
    if multiple is None:
        assert frame.canvas_hw == (target, target)
    else:
        for canvas_side, side in zip(frame.canvas_hw, frame.scaled_hw, strict=True):
            assert canvas_side % multiple == 0
            assert 0 <= canvas_side - side < multiple


@given(sizes, canvases, fractions, fractions)
@example((1, 16_384), (1024, None), 1.0, 1.0)
@example((7071, 7071), (1024, None), 0.5, 1 / 3)
@settings(max_examples=200, deadline=None)
def test_a_point_comes_back_within_half_a_pixel(hw, canvas, across, down):
    frame = Frame.fit(hw, canvas[0], multiple=canvas[1])
    point = np.array([across * hw[1], down * hw[0]])
    model = frame.to_model_points(point)
    assert model.dtype == np.float32
    assert 0 <= model[0] <= frame.scaled_hw[1] + 1e-3
    assert 0 <= model[1] <= frame.scaled_hw[0] + 1e-3
    assert np.abs(frame.to_image_points(model) - point).max() < 0.5


@given(
    sizes, canvases, st.lists(st.tuples(fractions, fractions, fractions, fractions), min_size=1, max_size=5)
)
@settings(max_examples=200, deadline=None)
def test_boxes_come_back_within_half_a_pixel_and_move_as_points_do(hw, canvas, parts):
    frame = Frame.fit(hw, canvas[0], multiple=canvas[1])
    boxes = np.array(parts) * (hw[1], hw[0], hw[1], hw[0])
    model = frame.to_model_boxes(boxes)
    assert np.abs(frame.to_image_boxes(model) - boxes).max() < 0.5
    np.testing.assert_array_equal(model.reshape(-1, 2), frame.to_model_points(boxes.reshape(-1, 2)))


def test_each_axis_has_its_own_scale():
    """SAM maps by the rounded sides: 1,000 x 667 at 1,024 is 1024 x 683, and 683/667 is not 1.024."""
    frame = Frame.fit((667, 1000), 1024)
    assert frame.scaled_hw == (683, 1024)
    np.testing.assert_allclose(frame.to_model_points([1000, 667]), [1024, 683], rtol=1e-7)


@given(sizes, canvases)
@settings(max_examples=50, deadline=None)
def test_a_frame_survives_json(hw, canvas):
    frame = Frame.fit(hw, canvas[0], multiple=canvas[1])
    assert Frame.from_dict(json.loads(json.dumps(frame.to_dict()))) == frame


GOOD = {"image_hw": [2, 4], "scaled_hw": [4, 8], "canvas_hw": [8, 8]}
BAD_GEOMETRY = [
    ("height 0", lambda: Frame.fit((0, 5), 1024), "at least 1, got a picture of 0 x 5"),
    ("target 0", lambda: Frame.fit((5, 5), 0), "target 0"),
    ("multiple 0", lambda: Frame.fit((5, 5), 8, multiple=0), "multiple 0"),
    (
        "points of 3",
        lambda: Frame.fit((5, 5), 8).to_model_points([1, 2, 3]),
        r"points of shape \(\.\.\., 2\)",
    ),
    ("boxes of 2", lambda: Frame.fit((5, 5), 8).to_image_boxes([1, 2]), r"boxes of shape \(\.\.\., 4\)"),
    ("scalar", lambda: Frame.fit((5, 5), 8).to_image_points(1), r"got \(\)"),
    ("size missing", lambda: Frame.from_dict({"image_hw": [1, 1]}), "scaled_hw as two integers, got None"),
    ("size of 3", lambda: Frame.from_dict(GOOD | {"canvas_hw": [8, 8, 8]}), "canvas_hw as two integers"),
    (
        "size as text",
        lambda: Frame.from_dict(GOOD | {"image_hw": "24"}),
        "image_hw as two integers, got '24'",
    ),
    ("negative size", lambda: Frame.from_dict(GOOD | {"image_hw": [-2, 4]}), "two positive integers"),
    ("fractional size", lambda: Frame.from_dict(GOOD | {"image_hw": [2.5, 4]}), "two positive integers"),
    ("scaled over canvas", lambda: Frame.from_dict(GOOD | {"scaled_hw": [9, 8]}), "fits into its canvas_hw"),
    ("iou of (N, 3)", lambda: box_iou([[1, 2, 3]], [[1, 2, 3, 4]]), r"shape \(N, 4\)"),
    ("iou of two sizes", lambda: mask_iou(np.ones((2, 2)), np.ones((2, 3))), "two masks of one size"),
    ("nms without scores", lambda: nms([[0, 0, 1, 1]], [], 0.5), "one score for each of 1 boxes"),
    ("resize (h, w)", lambda: resize_bilinear(np.zeros((4, 4)), (2, 2)), r"shape \(N, h, w\)"),
    ("resize to 0", lambda: resize_bilinear(np.zeros((1, 4, 4)), (0, 2)), "at least 1 x 1"),
    (
        "region too large",
        lambda: resize_bilinear(np.zeros((1, 4, 4)), (2, 2), region_hw=(5, 4)),
        "region 5 x 4",
    ),
    ("region 0", lambda: resize_bilinear(np.zeros((1, 4, 4)), (2, 2), region_hw=(0, 4)), "region 0 x 4"),
]


@pytest.mark.parametrize(("call", "message"), [pytest.param(*row[1:], id=row[0]) for row in BAD_GEOMETRY])
def test_bad_geometry_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def slow_iou(a, b):
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    tall = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall
    return wide * tall / union if union > 0 else 0.0


def slow_nms(boxes, scores, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(slow_iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


# Whole numbers make overlaps, ties and boxes of no area frequent.
grid_boxes = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 8), st.integers(0, 8)), max_size=40
).map(lambda rows: [(x, y, x + w, y + h) for x, y, w, h in rows])


@given(grid_boxes, st.data())
@settings(max_examples=200, deadline=None)
def test_nms_equals_the_slow_one(boxes, data):
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(boxes), max_size=len(boxes)))
    threshold = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]))
    found = nms(boxes, scores, threshold)
    assert found.dtype == np.int64
    assert found.tolist() == slow_nms(boxes, scores, threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms_equals_the_slow_one_across_blocks(threshold):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (700, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (700, 2))], axis=1)
    scores = rng.integers(0, 50, 700) / 50  # many ties
    assert nms(boxes, scores, threshold).tolist() == slow_nms(boxes.tolist(), scores.tolist(), threshold)


def test_box_iou_of_every_pair():
    boxes = np.random.default_rng(1).uniform(0, 10, (6, 2))
    boxes = np.concatenate([boxes, boxes + 4], axis=1)
    expected = [[slow_iou(a, b) for b in boxes[:4]] for a in boxes]
    np.testing.assert_allclose(box_iou(boxes, boxes[:4]), expected)
    assert box_iou([], boxes).shape == (0, 6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([[1, 1], [0, 0]], [[1, 0], [1, 0]], 1 / 3),
        ([[0, 0]], [[0, 0]], 1.0),
        ([[1, 0]], [[0, 0]], 0.0),
        ([[1, 1]], [[1, 1]], 1.0),
    ],
)
def test_mask_iou(a, b, expected):
    assert mask_iou(np.array(a, dtype=bool), np.array(b, dtype=bool)) == pytest.approx(expected)


def slow_resize(grid, out_hw, region_hw):
    """One output pixel at a time, straight from the definition."""
    height, width = grid.shape
    out = np.zeros(out_hw)
    for i in range(out_hw[0]):
        for j in range(out_hw[1]):
            y = min(max((i + 0.5) * region_hw[0] / out_hw[0] - 0.5, 0), height - 1)
            x = min(max((j + 0.5) * region_hw[1] / out_hw[1] - 0.5, 0), width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = grid[y0, x0] * (1 - (x - x0)) + grid[y0, x1] * (x - x0)
            bottom = grid[y1, x0] * (1 - (x - x0)) + grid[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return out


small = st.integers(1, 12)


@given(st.tuples(small, small), st.tuples(small, small), st.tuples(fractions, fractions), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_resize_equals_the_slow_one(grid_hw, out_hw, part, seed):
    region = (part[0] * grid_hw[0], part[1] * grid_hw[1])
    assume(min(region) > 1e-3)
    grid = np.random.default_rng(seed).normal(0, 10, (2, *grid_hw)).astype(np.float32)
    found = resize_bilinear(grid, out_hw, region_hw=region)
    assert found.dtype == np.float32
    assert found.shape == (2, *out_hw)
    expected = [slow_resize(one.astype(np.float64), out_hw, region) for one in grid]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_resize_over_many_row_blocks_equals_the_slow_one():
    grid = np.random.default_rng(3).normal(0, 10, (1, 7, 5)).astype(np.float32)
    found = resize_bilinear(grid, (300, 1000), region_hw=(4.5, 5))
    assert found[0, ::37, ::41] == pytest.approx(
        slow_resize(grid[0], (300, 1000), (4.5, 5))[::37, ::41], abs=1e-4
    )


def test_resize_to_the_same_size_changes_nothing_and_copies():
    grid = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    found = resize_bilinear(grid, (3, 4))
    np.testing.assert_array_equal(found, grid)
    assert not np.shares_memory(found, grid)
    assert resize_bilinear(np.zeros((0, 3, 4), dtype=np.float32), (5, 6)).shape == (0, 5, 6)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("grid_hw", "out_hw"),
    [((64, 64), (180, 320)), ((128, 128), (720, 1280)), ((50, 40), (20, 30)), ((1, 9), (4, 4))],
)
def test_resize_is_what_torch_computes(grid_hw, out_hw):
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(4).normal(0, 5, (2, *grid_hw)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None], out_hw, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(resize_bilinear(grid, out_hw), expected[0].numpy(), atol=2e-4)
