"""Every way to point at something, and every way to get it wrong."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from samlet.errors import LimitError, PromptError
from samlet.limits import DEFAULT_LIMITS
from samlet.prompt import Prompt

HW = (100, 200)  # height, width
NAN, INF = float("nan"), float("inf")
BOX = [10, 20, 50, 60]

GOOD = [
    # what, arguments, points, labels, boxes
    ("one point", {"points": [5, 6]}, [[[5, 6]]], [[1]], None),
    ("K points", {"points": [[5, 6], [7, 8]], "labels": [1, 0]}, [[[5, 6], [7, 8]]], [[1, 0]], None),
    ("labels (1, K)", {"points": [[5, 6], [7, 8]], "labels": [[0, 1]]}, [[[5, 6], [7, 8]]], [[0, 1]], None),
    (
        "N prompts",
        {"points": [[[5, 6]], [[7, 8]]], "labels": [[1], [0]]},
        [[[5, 6]], [[7, 8]]],
        [[1], [0]],
        None,
    ),
    (
        "one label for all",
        {"points": [[[5, 6]], [[7, 8]]], "labels": 0},
        [[[5, 6]], [[7, 8]]],
        [[0], [0]],
        None,
    ),
    ("labels as bool", {"points": [5, 6], "labels": [True]}, [[[5, 6]]], [[1]], None),
    (
        "ragged",
        {"points": [[[5, 6]], [[7, 8], [9, 9]]], "labels": [[1], [1, 0]]},
        [[[5, 6], [0, 0]], [[7, 8], [9, 9]]],
        [[1, -1], [1, 0]],
        None,
    ),
    (
        "ragged, one label",
        {"points": [np.array([[5, 6]]), np.array([[7, 8], [9, 9]])], "labels": 1},
        [[[5, 6], [0, 0]], [[7, 8], [9, 9]]],
        [[1, -1], [1, 1]],
        None,
    ),
    ("only background", {"points": [5, 6], "labels": 0}, [[[5, 6]]], [[0]], None),
    ("corners", {"points": [[0, 0], [200, 100]]}, [[[0, 0], [200, 100]]], [[1, 1]], None),
    (
        "padding may hold anything",
        {"points": [[5, 6], [NAN, -9]], "labels": [1, -1]},
        [[[5, 6], [0, 0]]],
        [[1, -1]],
        None,
    ),
    ("one box", {"boxes": BOX}, None, None, [BOX]),
    ("N boxes", {"boxes": [BOX, [0, 0, 1, 1]]}, None, None, [BOX, [0, 0, 1, 1]]),
    ("box clipped", {"boxes": [-10, 20, 500, 60]}, None, None, [[0, 20, 200, 60]]),
    ("box and point", {"boxes": BOX, "points": [5, 6]}, [[[5, 6]]], [[1]], [BOX]),
    ("box and no points", {"boxes": BOX, "points": []}, None, None, [BOX]),
    (
        "boxes, points for one of them",
        {"boxes": [BOX, BOX], "points": [[[5, 6]], []]},
        [[[5, 6]], [[0, 0]]],
        [[1], [-1]],
        [BOX, BOX],
    ),
]


@pytest.mark.parametrize(
    ("arguments", "points", "labels", "boxes"), [pytest.param(*row[1:], id=row[0]) for row in GOOD]
)
def test_good_prompts(arguments, points, labels, boxes):
    prompt = Prompt.make(image_hw=HW, **arguments)
    for found, expected, kind in [
        (prompt.points, points, np.float64),
        (prompt.labels, labels, np.int64),
        (prompt.boxes, boxes, np.float64),
    ]:
        if expected is None:
            assert found is None
        else:
            assert found.dtype == kind
            assert found.tolist() == expected
            assert not found.flags.writeable
    assert len(prompt) == len(points or boxes)


BAD = [
    # what, arguments, error, sentence
    ("nothing", {}, PromptError, "got an empty prompt; add a point or a box"),
    ("all empty", {"points": [], "labels": [], "boxes": []}, PromptError, "got an empty prompt"),
    ("empty array of points", {"points": np.zeros((0, 2))}, PromptError, "got an empty prompt"),
    ("prompts without points", {"points": [[], []]}, PromptError, "got an empty prompt"),
    (
        "one prompt without points",
        {"points": [[[1, 2]], []]},
        PromptError,
        "got none in prompt 1; add one or drop it",
    ),
    ("only padding", {"points": [1, 2], "labels": -1}, PromptError, "got none in prompt 0"),
    ("labels alone", {"labels": [1]}, PromptError, "got labels alone; add the points they belong to"),
    ("labels with a box", {"boxes": BOX, "labels": [1]}, PromptError, "got labels alone"),
    ("hint alone", {"hint": np.zeros((8, 8))}, PromptError, "got a hint alone; add a point or a box"),
    ("label 7", {"points": [1, 2], "labels": [7]}, PromptError, "got 7; use one of the three"),
    ("label 0.5", {"points": [1, 2], "labels": 0.5}, PromptError, r"got 0\.5; use one of the three"),
    ("label NaN", {"points": [1, 2], "labels": [NAN]}, PromptError, "got nan; use one of the three"),
    ("label text", {"points": [1, 2], "labels": ["fg"]}, PromptError, "one label a point"),
    (
        "too few labels",
        {"points": [[1, 2], [3, 4]], "labels": [1]},
        PromptError,
        r"of shape \(2,\), got shape \(1,\)",
    ),
    (
        "flat labels of two prompts",
        {"points": [[[1, 2]], [[3, 4]]], "labels": [1, 1]},
        PromptError,
        r"shape \(2, K\)",
    ),
    (
        "labels of other prompts",
        {"points": [[[1, 2]]], "labels": [[1], [1]]},
        PromptError,
        "one label a point",
    ),
    (
        "labels None each",
        {"points": [[[1, 2]], [[3, 4]]], "labels": [None, None]},
        PromptError,
        "one label a point",
    ),
    (
        "x too large",
        {"points": [200.5, 2]},
        PromptError,
        r"200 x 100 pixels \(width x height\), got \(200\.5, 2\)",
    ),
    ("y negative", {"points": [[1, 2], [3, -1]]}, PromptError, r"got \(3, -1\); give x, y in its pixels"),
    (
        "y, x swapped",
        {"points": [50, 150]},
        PromptError,
        r"inside the picture of 200 x 100 .* got \(50, 150\)",
    ),
    ("point NaN", {"points": [NAN, 2]}, PromptError, r"finite points, got \(nan, 2\)"),
    ("point infinite", {"points": [1, INF]}, PromptError, r"finite points, got \(1, inf\)"),
    ("points of 3", {"points": [1, 2, 3]}, PromptError, r"\(2,\), \(K, 2\) or \(N, K, 2\), got shape \(3,\)"),
    ("points of 4 axes", {"points": np.zeros((1, 1, 1, 2))}, PromptError, r"got shape \(1, 1, 1, 2\)"),
    ("points a number", {"points": 5}, PromptError, r"got shape \(\)"),
    ("points text", {"points": "5,6"}, PromptError, "got values of type str; give x, y pairs"),
    ("points ragged pairs", {"points": [[1, 2], [3]]}, PromptError, r"got shape \(2,\)"),
    ("points ragged text", {"points": [[[1, 2]], "ab"]}, PromptError, "points as numbers"),
    ("box zero width", {"boxes": [10, 20, 10, 60]}, PromptError, r"got \(10, 20, 10, 60\) of zero area"),
    ("box a point", {"boxes": [10, 20, 10, 20]}, PromptError, "of zero area; make it wider or use a point"),
    (
        "box reversed",
        {"boxes": [BOX, [50, 20, 10, 60]]},
        PromptError,
        r"reversed \(50, 20, 10, 60\); swap its corners",
    ),
    ("box upside down", {"boxes": [10, 60, 50, 20]}, PromptError, r"reversed \(10, 60, 50, 20\)"),
    ("box outside", {"boxes": [300, 20, 400, 60]}, PromptError, "overlap the picture of 200 x 100"),
    ("box beside", {"boxes": [-20, 20, 0, 60]}, PromptError, r"overlap .* got \(-20, 20, 0, 60\)"),
    ("box NaN", {"boxes": [NAN, 20, 50, 60]}, PromptError, r"finite boxes, got \(nan, 20, 50, 60\)"),
    ("box infinite", {"boxes": [0, 0, INF, 60]}, PromptError, "finite boxes"),
    ("box of 3", {"boxes": [1, 2, 3]}, PromptError, r"\(4,\) or \(N, 4\), got shape \(3,\)"),
    (
        "boxes ragged",
        {"boxes": [[1, 2, 3, 4], [1, 2]]},
        PromptError,
        "got a list of 2 parts of different shape",
    ),
    ("box text", {"boxes": "all"}, PromptError, "got values of type str; give x0, y0, x1, y1"),
    (
        "2 boxes, 1 prompt",
        {"boxes": [BOX, BOX], "points": [[1, 2]]},
        PromptError,
        "got 2 boxes and 1 prompts of points",
    ),
    (
        "100,000 points",
        {"points": np.ones((100_000, 2))},
        LimitError,
        "at most 1,024 points in a prompt, got 100,000",
    ),
    (
        "100,000 prompts",
        {"points": np.ones((100_000, 1, 2))},
        LimitError,
        "at most 4,096 prompts, got 100,000; split",
    ),
    (
        "100,000 boxes",
        {"boxes": np.tile(BOX, (100_000, 1))},
        LimitError,
        "at most 4,096 prompts, got 100,000",
    ),
    (
        "hint of 1 axis",
        {"points": [1, 2], "hint": np.zeros(8)},
        PromptError,
        r"got shape \(8,\); pass the hint",
    ),
    (
        "hint of 3 candidates",
        {"points": [1, 2], "hint": np.zeros((1, 3, 8, 8))},
        PromptError,
        r"shape \(1, 3, 8, 8\)",
    ),
    ("hint empty", {"points": [1, 2], "hint": np.zeros((1, 0, 8))}, PromptError, r"got shape \(1, 0, 8\)"),
    ("hint text", {"points": [1, 2], "hint": "mask"}, PromptError, "hint of logits"),
    ("hint NaN", {"points": [1, 2], "hint": np.full((8, 8), NAN)}, PromptError, "finite logits, got NaN"),
    (
        "2 hints, 1 prompt",
        {"points": [1, 2], "hint": np.zeros((2, 8, 8))},
        PromptError,
        "got 2 for 1 prompts",
    ),
    ("no float", {"points": [[10**400, 2]]}, PromptError, "expected points as numbers"),
    (
        "no float in a ragged one",
        {"points": [[[10**400, 2]], [[1, 2], [3, 4]]]},
        PromptError,
        "points as numbers",
    ),
    ("no float as a label", {"points": [1, 2], "labels": [10**400]}, PromptError, "expected"),
    ("no float in a box", {"boxes": [1, 2, 3, 10**400]}, PromptError, "expected boxes as numbers"),
    ("no float in a hint", {"points": [1, 2], "hint": [[10**400]]}, PromptError, "expected a hint"),
    (
        "hint at picture size",
        {"points": [1, 2], "hint": np.zeros((2000, 9))},
        LimitError,
        "at most 1,024 cells a side",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"), [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_prompts_are_refused_in_one_clear_sentence(arguments, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        Prompt.make(image_hw=HW, **arguments)
    assert type(caught.value) is error
    assert error.exit_code == 2
    text = str(caught.value)
    assert text.startswith("expected ")
    assert ", got " in text
    assert ";" in text
    assert "\n" not in text


@pytest.mark.parametrize("shape", [(8, 6), (1, 8, 6), (1, 1, 8, 6)])
def test_hints_of_every_shape(shape):
    mine = np.arange(48, dtype=np.float64).reshape(shape)
    prompt = Prompt.make(image_hw=HW, points=[1, 2], hint=mine)
    assert prompt.hint.dtype == np.float32
    assert prompt.hint.shape == (1, 8, 6)
    mine[...] = 0
    assert prompt.hint[0, 7, 5] == 47


def test_a_prompt_does_not_follow_the_callers_arrays():
    points, boxes = np.array([[1.0, 2.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    hint = np.ones((1, 4, 4), dtype=np.float32)
    prompt = Prompt.make(image_hw=HW, points=points, boxes=boxes, hint=hint)
    for mine in (points, boxes, hint):
        mine[...] = 9
    assert prompt.points.tolist() == [[[1, 2]]]
    assert prompt.boxes.tolist() == [[1, 2, 3, 4]]
    assert (prompt.hint == 1).all()
    with pytest.raises(FrozenInstanceError):
        prompt.points = None
    with pytest.raises(ValueError, match="read-only"):
        prompt.points[0, 0, 0] = 7


def test_bounds_are_the_operators():
    few = replace(DEFAULT_LIMITS, max_points=2, max_prompts=2)
    assert len(Prompt.make(image_hw=HW, points=np.ones((2, 2, 2)), limits=few)) == 2
    with pytest.raises(LimitError, match="at most 2 points"):
        Prompt.make(image_hw=HW, points=np.ones((2, 3, 2)), limits=few)
    with pytest.raises(LimitError, match="at most 2 prompts, got 3"):
        Prompt.make(image_hw=HW, points=[[[1, 1]], [[1, 1], [2, 2]], [[1, 1]]], limits=few)


def test_concat_pads_points():
    short = Prompt.make(image_hw=HW, points=[1, 2], labels=0)
    long = Prompt.make(image_hw=HW, points=[[3, 4], [5, 6]])
    both = Prompt.concat([short, long])
    assert both.points.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    assert both.labels.tolist() == [[0, -1], [1, 1]]
    assert both.boxes is None


def test_concat_boxes_with_points_for_some():
    box = Prompt.make(image_hw=HW, boxes=BOX, hint=np.zeros((4, 4)))
    box_and_point = Prompt.make(image_hw=HW, boxes=[0, 0, 9, 9], points=[1, 2], hint=np.ones((4, 4)))
    both = Prompt.concat([box, box_and_point])
    assert len(both) == 2
    assert both.boxes.tolist() == [BOX, [0, 0, 9, 9]]
    assert both.labels.tolist() == [[-1], [1]]
    assert both.hint.shape == (2, 4, 4)


POINT = {"points": [1, 2]}
BAD_JOINS = [
    ("none", [], DEFAULT_LIMITS, PromptError, "at least one prompt to join"),
    ("boxes in one", [POINT, {"boxes": BOX}], DEFAULT_LIMITS, PromptError, "boxes .* got them in 1 of 2"),
    (
        "hint in one",
        [POINT, POINT | {"hint": np.ones((4, 4))}],
        DEFAULT_LIMITS,
        PromptError,
        "hints .* in 1 of 2",
    ),
    (
        "two sizes of hint",
        [POINT | {"hint": np.ones((4, 4))}, POINT | {"hint": np.ones((8, 8))}],
        DEFAULT_LIMITS,
        PromptError,
        "hints of one size",
    ),
    (
        "too many",
        [POINT, POINT],
        replace(DEFAULT_LIMITS, max_prompts=1),
        LimitError,
        "at most 1 prompts, got 2",
    ),
]


@pytest.mark.parametrize(
    ("parts", "limits", "error", "sentence"), [pytest.param(*row[1:], id=row[0]) for row in BAD_JOINS]
)
def test_bad_joins(parts, limits, error, sentence):
    with pytest.raises(error, match=sentence):
        Prompt.concat([Prompt.make(image_hw=HW, **part) for part in parts], limits=limits)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "got neither"),
        ({"points": np.ones((1, 1, 2))}, "points with their labels"),
        ({"boxes": np.ones((2, 4)), "hint": np.ones((1, 4, 4))}, r"got \[2, 1\]"),
    ],
)
def test_a_prompt_made_by_hand_is_checked_too(parts, sentence):
    with pytest.raises(PromptError, match=sentence):
        Prompt(**parts)
