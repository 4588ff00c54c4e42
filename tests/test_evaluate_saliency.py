import numpy as np
import pytest

pytest.importorskip("cv2")

from samlet.evaluate.saliency import f_curve, s_measure, score, summarise_saliency


def half(height: int = 8, width: int = 10) -> np.ndarray:
    truth = np.zeros((height, width), bool)
    truth[:, : width // 2] = True
    return truth


def test_a_perfect_map() -> None:
    found = score(half().astype(float), half())
    assert found.mae == 0 and found.f.max() == pytest.approx(1.0) and found.s == pytest.approx(1.0)


def test_an_empty_map() -> None:
    found = score(np.zeros((8, 10)), half())
    assert found.mae == 0.5
    # At level 0 the whole picture is the answer: precision 0.5, recall 1; above it nothing is.
    assert found.f[0] == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1)) and not found.f[1:].any()
    assert found.s < 0.5


def test_the_wrong_way_round_is_worst() -> None:
    found = score(1.0 - half(), half())
    assert found.mae == 1 and found.s == pytest.approx(0.0, abs=1e-9)
    assert not found.f[1:].any()


def test_f_worked_by_hand() -> None:
    """Of 4 pixels 2 are the object; at level 1..128 three are claimed, two of them rightly; above one, rightly."""
    truth = np.array([[True, True, False, False]])
    curve = f_curve(np.array([[1.0, 128 / 255, 128 / 255, 0.0]]), truth)
    two_thirds = 1.3 * (2 / 3) * 1 / (0.3 * (2 / 3) + 1)
    one = 1.3 * 1 * 0.5 / (0.3 * 1 + 0.5)
    assert curve[1:129] == pytest.approx(two_thirds)
    assert curve[129:] == pytest.approx(one)


def test_max_f_takes_one_level_for_all_pictures() -> None:
    truth = np.array([[True, False]])
    low, high = score(np.array([[0.2, 0.0]]), truth), score(np.array([[1.0, 0.6]]), truth)
    together = summarise_saliency([low, high])
    assert together.max_f == pytest.approx((low.f + high.f).max() / 2)
    assert together.max_f < (low.f.max() + high.f.max()) / 2
    assert together.mae == pytest.approx((0.4 + 0.3) / 2)


@pytest.mark.parametrize(("value", "everything", "expected"), [(0.25, False, 0.75), (0.25, True, 0.25)])
def test_s_measure_of_nothing_and_of_everything(value: float, everything: bool, expected: float) -> None:
    assert s_measure(np.full((4, 4), value), np.full((4, 4), everything)) == pytest.approx(expected)


def test_s_measure_worked_by_hand() -> None:
    """An even map of 0.5 on an object that is the left half.

    Object: both sides have mean 0.5 and no spread, 2 * 0.5 / (0.25 + 1) = 0.8. Regions: the map is even in each
    rectangle, so that each has no structure in common; of the rectangles only those with an even truth, too, have
    neither spread and count 1: all four, since the object's middle, column 2, begins the right ones at column 3.
    """
    truth = half(4, 10)
    parts = [truth[:, :3], truth[:, 3:]]
    even = [part.size / truth.size for part in parts if part.min() == part.max()]
    assert s_measure(np.full((4, 10), 0.5), truth) == pytest.approx(0.5 * 0.8 + 0.5 * sum(even))
