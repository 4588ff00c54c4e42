import builtins
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2")

from samlet.errors import MissingExtraError
from samlet.evaluate import baselines, clicks, metrics
from samlet.image import Image


def mask_of(text: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in text.split()])


@pytest.mark.parametrize(
    ("answer", "truth", "ignore", "expected"),
    [
        ("##..", "##..", "....", 1.0),
        ("##..", "..##", "....", 0.0),
        ("###.", ".###", "....", 0.5),
        ("....", "##..", "....", 0.0),
        ("....", "....", "....", 1.0),
        ("####", "##..", "..##", 1.0),  # the excess lies on ignored pixels
        ("#...", "####", "..##", 0.5),  # and so does half of what is missing
    ],
)
def test_iou_by_hand(answer: str, truth: str, ignore: str, expected: float) -> None:
    assert metrics.iou(mask_of(answer), mask_of(truth), ignore=mask_of(ignore)) == expected


@pytest.mark.parametrize(
    ("ious", "cap", "expected"),
    [
        ([0.9], 20, (1, True)),
        ([0.5, 0.8], 20, (2, True)),
        ([0.5, 0.81, 0.7], 20, (2, True)),
        ([0.5, 0.6, 0.7], 3, (3, False)),
        ([0.5, 0.6, 0.9], 2, (2, False)),
    ],
)
def test_clicks_to_reach_by_hand(ious: list[float], cap: int, expected: tuple[int, bool]) -> None:
    assert metrics.clicks_to_reach(ious, 0.8, cap=cap) == expected


def test_summary_by_hand_and_repeatable() -> None:
    values, pictures = [0.0, 0.2, 1.0, 0.8], ["a", "a", "b", "c"]
    summary = metrics.summarise(values, pictures)
    assert summary is not None
    assert (summary.mean, summary.median, summary.objects) == (0.5, 0.5, 4)
    assert summary.low < 0.5 < summary.high
    assert summary == metrics.summarise(values, pictures)
    assert metrics.summarise([], []) is None


def test_the_interval_knows_that_objects_of_one_picture_go_together() -> None:
    values = [0.0, 1.0] * 50
    apart = metrics.summarise(values, [str(index) for index in range(100)])
    together = metrics.summarise(values, [str(index % 2) for index in range(100)])
    assert apart is not None and together is not None
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_interior_click_is_the_middle_of_a_square() -> None:
    region = np.zeros((20, 30), bool)
    region[5:12, 10:17] = True
    click = clicks.most_interior(region)
    assert click == clicks.Click(x=13, y=8, label=1, distance=4.0)


def test_the_edge_of_the_picture_counts_as_a_boundary() -> None:
    """Without the border of zeros the most interior pixel of a full picture would lie on its edge."""
    click = clicks.most_interior(np.ones((9, 9), bool))
    assert click == clicks.Click(x=4, y=4, label=1, distance=5.0)


def test_the_click_lies_in_the_larger_of_several_parts_and_never_between_them() -> None:
    region = np.zeros((20, 40), bool)
    region[2:7, 2:7] = True
    region[5:16, 25:36] = True
    click = clicks.most_interior(region)
    assert click is not None and (click.x, click.y) == (30, 10)


def test_cropping_to_the_region_does_not_change_the_distances() -> None:
    import cv2

    random = np.random.default_rng(3)
    for _ in range(20):
        region = np.zeros((40, 50), bool)
        top, left = random.integers(0, 20, 2)
        region[top : top + 20, left : left + 25] = random.random((20, 25))[: 40 - top, : 50 - left] < 0.9
        distances = cv2.distanceTransform(
            np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        click = clicks.most_interior(region)
        assert click is not None and region[click.y, click.x]
        assert click.distance == pytest.approx(distances.max(), abs=1e-6)


def test_a_pixel_is_not_clicked_twice() -> None:
    region, taken = np.ones((1, 3), bool), np.zeros((1, 3), bool)
    seen = []
    while (click := clicks.most_interior(region, taken=taken)) is not None:
        seen.append((click.x, click.y))
        taken[click.y, click.x] = True
    assert sorted(seen) == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize(
    ("answer", "truth", "ignore", "expected"),
    [
        ("......", ".###..", "......", (2, 1)),  # all missing
        (".#####", ".##...", "......", (4, 0)),  # too much
        (".##...", ".##...", "......", None),
        (".#####", ".##...", "...###", None),  # the excess lies on ignored pixels
        ("#.....", "..#...", "......", (2, 1)),  # a tie goes to what is missing
    ],
)
def test_corrections_by_hand(answer: str, truth: str, ignore: str, expected: tuple[int, int] | None) -> None:
    rows = 5  # tall enough that the columns decide

    def tall(text: str) -> np.ndarray:
        return np.repeat(mask_of(text), rows, axis=0)

    click = clicks.correction(tall(answer), tall(truth), ignore=tall(ignore))
    assert (None if click is None else (click.x, click.label)) == expected


def test_missing_opencv_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'samlet\[eval\]'"):
        clicks.most_interior(np.ones((3, 3), bool))


def test_tight_box_holds_all_parts_and_ends_exclusive() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2, 3] = mask[7, 9] = True
    assert baselines.tight_box(mask) == (3, 2, 10, 8)
    assert baselines.filled_box((3, 2, 10, 8), (10, 12)).sum() == 7 * 6


def test_the_ellipse_fills_pi_quarters_of_its_box() -> None:
    mask = baselines.ellipse((10, 20, 210, 120), (140, 230))
    assert mask.sum() / (200 * 100) == pytest.approx(np.pi / 4, abs=0.002)
    assert baselines.tight_box(mask) == (10, 20, 210, 120)


def test_grabcut_finds_a_plain_object_and_falls_back_to_the_box() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 20, (60, 80, 3)).astype(np.uint8)
    truth = baselines.ellipse((20, 10, 60, 50), (60, 80))
    pixels[truth] += 200
    image = Image.load(pixels)
    mask, found = baselines.grabcut(image, (20, 10, 60, 50))
    assert found and metrics.iou(mask, truth) > 0.97
    again, _ = baselines.grabcut(image, (20, 10, 60, 50))
    assert np.array_equal(mask, again)
    whole, found = baselines.grabcut(image, (0, 0, 80, 60))
    assert not found and whole.all()
