import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("cv2")

from samlet.evaluate import bsds
from samlet.evaluate.boundaries import (
    davis_f,
    matched,
    outlines,
    segment_boundaries,
    thinned,
    thinned_levels,
)


def drawn(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


def most_pairs(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], radius: float) -> int:
    """Kuhn's algorithm on all pairs within reach, to have a second opinion."""
    left, right = np.argwhere(ours), np.argwhere(theirs)
    near = [np.flatnonzero(np.hypot(*(right - one).T) <= radius).tolist() for one in left]
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for partner in near[row]:
            if partner not in seen:
                seen.add(partner)
                if partner not in owner or place(owner[partner], seen):
                    owner[partner] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(left)))


# Boundaries and thinning


def test_a_boundary_lies_on_one_side_of_where_segments_meet() -> None:
    ids = np.ones((4, 5), np.int32)
    ids[2:, 2:] = 7
    assert (
        outlines(ids)
        == drawn(
            ".....",
            ".####",
            ".#...",
            ".#...",
        )
    ).all()
    assert not segment_boundaries(np.full((4, 4), 3, np.int32)).any()


@pytest.mark.parametrize(
    "thick, thin",
    [
        (
            ("......", ".####.", ".####.", ".####.", "......"),
            ("......", "......", "..##..", "......", "......"),
        ),
        ((".....", ".###.", "....."), (".....", ".###.", ".....")),
        (("#....", "##...", ".##..", "..##."), ("#....", "#....", ".#...", "..##.")),
    ],
    ids=["a bar", "a line stays", "a staircase"],
)
def test_thinning(thick: tuple[str, ...], thin: tuple[str, ...]) -> None:
    found = thinned(drawn(*thick))
    assert found.sum() == drawn(*thin).sum()
    assert not (found & ~drawn(*thick)).any()
    assert (thinned(found) == found).all()


def test_thinning_keeps_what_hangs_together_and_rings() -> None:
    from samlet.components import label

    random = np.random.default_rng(3)
    blobs = np.kron(random.random((12, 15)) < 0.5, np.ones((4, 4))).astype(bool)
    found = thinned(blobs)
    assert len(label(found)[1]) == len(label(blobs)[1])
    ring = np.zeros((12, 12), bool)
    ring[1:11, 1:11] = True
    ring[4:8, 4:8] = False
    thin = np.pad(thinned(ring), 1)
    neighbours = [thin[y - 1 : y + 2, x - 1 : x + 2].sum() - 1 for y, x in np.argwhere(thin)]
    assert 12 < len(neighbours) < 40 and set(neighbours) == {2}  # closed: no line ends


def test_levels_are_thin_and_lie_within_each_other() -> None:
    levels = np.zeros((7, 12), np.int64)
    levels[2:5, 1:11] = 3
    levels[3, 1:11] = 8
    found = thinned_levels(levels)
    assert set(np.unique(found)) <= {0, 3, 8}
    assert (found[3] == levels[3]).all() and not found[2].any() and not found[4].any()


# Matching


@pytest.mark.parametrize("seed", range(6))
def test_at_every_threshold_as_many_are_matched_as_can_be(seed: int) -> None:
    random = np.random.default_rng(seed)
    strength = np.where(random.random((14, 17)) < 0.35, random.integers(1, 5, (14, 17)), 0) / 4
    truth = random.random((14, 17)) < 0.2
    hits = matched(strength, truth, radius=2.3)
    assert not (hits & (strength == 0)).any()
    for threshold in (0.25, 0.5, 0.75, 1.0):
        kept = strength >= threshold
        assert np.count_nonzero(hits & kept) == most_pairs(kept, truth, 2.3) > 0


def test_one_boundary_pixel_is_not_matched_twice_and_nothing_beyond_reach() -> None:
    truth = drawn("......", "..#...", "......")
    edges = drawn(".#....", ".#.#..", ".....#").astype(float)
    assert np.count_nonzero(matched(edges, truth, radius=1.5)) == 1
    assert not matched(drawn("#.....", "......", "......").astype(float), truth, radius=2.2).any()
    assert matched(drawn("#.....", "......", "......").astype(float), truth, radius=2.3)[0, 0]


def test_nothing_to_match() -> None:
    nothing, line = np.zeros((5, 5), bool), drawn("#####")
    assert not matched(nothing, nothing, radius=2).any()
    assert not matched(line.astype(float), np.zeros((1, 5), bool), radius=2).any()
    assert not matched(np.zeros((1, 5)), line, radius=2).any()


# The benchmark


def square(shift: int = 0, side: int = 40) -> NDArray[np.bool_]:
    ids = np.ones((100, 120), np.int32)
    ids[20 + shift : 20 + shift + side, 30 : 30 + side] = 2
    return segment_boundaries(ids)


def test_a_perfect_map_is_perfect_at_every_threshold() -> None:
    tally = bsds.compare(square().astype(float), [square(), square()])
    assert bsds.best(tally).f == 1.0
    assert (tally.precision == 1).all() and (tally.recall == 1).all()


def test_an_empty_map_finds_nothing() -> None:
    tally = bsds.compare(np.zeros((100, 120)), [square()])
    assert bsds.best(tally).f == 0 and bsds.average_precision(tally) == 0
    assert tally.drawn[0] == square().sum() and tally.claimed.sum() == 0


def test_counts_worked_by_hand() -> None:
    """A row of 10 pixels drawn by one person, 6 of them by another; the map has 4 strong ones and 8 weak ones."""
    first, second, edges = np.zeros((30, 40), bool), np.zeros((30, 40), bool), np.zeros((30, 40))
    first[5, 5:15] = second[5, 5:11] = True
    edges[5, 5:9] = 0.8
    edges[20, 5:13] = 0.3
    tally = bsds.compare(edges, [first, second])
    assert tally.drawn.tolist() == [16] * 99
    assert tally.claimed[[0, 29, 30, 79, 80]].tolist() == [12, 12, 4, 4, 0]
    # The reach is 0.0075 * 50 = 0.375 of a pixel: only pixels that lie on each other match.
    assert tally.found[[0, 79, 80]].tolist() == [8, 8, 0]
    assert tally.right[[0, 79, 80]].tolist() == [4, 4, 0]
    found = bsds.best(tally)
    assert (found.precision, found.recall) == (1.0, 0.5)
    assert found.f == pytest.approx(2 / 3) and 0.3 < found.threshold <= 0.8


def test_a_map_within_reach_matches_and_one_beyond_does_not() -> None:
    assert bsds.best(bsds.compare(square(1).astype(float), [square()])).f > 0.98
    assert bsds.best(bsds.compare(square(10).astype(float), [square()])).f < 0.6


def test_best_f_is_looked_for_between_thresholds() -> None:
    counts = (np.array([10, 0]), np.array([10, 10]), np.array([10, 10]), np.array([40, 10]))
    tally = bsds.Tally(*(values.astype(np.int64) for values in counts))
    ends = [2 * 0.25 * 1 / 1.25, 0.0]
    halves = [
        bsds.f_measure(np.array([0.25 + 0.75 * t]), np.array([1 - t]))[0] for t in np.linspace(0, 1, 101)
    ]
    assert bsds.best(tally).f == pytest.approx(max(halves)) and max(halves) > max(ends)


def test_average_precision_and_recall_at_half_precision() -> None:
    """Precision rises from 0 to 1 at recall 0.5, then falls to 0.5 at recall 1."""
    found = np.array([100, 50, 0])
    tally = bsds.Tally(found, np.full(3, 100), np.array([100, 50, 0]), np.array([200, 50, 0]))
    # Nothing is claimed at the last threshold, so that its precision is 0, as in the benchmark.
    expected = sum(np.interp(recall, [0, 0.5, 1], [0, 1, 0.5]) for recall in np.linspace(0, 1, 101)) * 0.01
    assert bsds.average_precision(tally) == pytest.approx(expected)
    assert bsds.recall_at(tally, 0.5) == 1.0 and bsds.recall_at(tally, 0.6) == 0.5


def test_sizes_that_differ_are_refused() -> None:
    from samlet.errors import InputError

    with pytest.raises(InputError, match="expected an edge map of the size"):
        bsds.compare(np.zeros((3, 4)), [np.zeros((4, 3), bool)])


# The boundary measure of DAVIS


@pytest.mark.parametrize(
    "shift, least, most",
    [(0, 1.0, 1.0), (1, 1.0, 1.0), (20, 0.3, 0.8)],
)
def test_davis_f(shift: int, least: float, most: float) -> None:
    truth, answer = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    truth[20:60, 20:60] = True
    answer[20 + shift : 60 + shift, 20:60] = True
    assert least <= davis_f(answer, truth) <= most


@pytest.mark.parametrize(
    "answer, truth, expected", list(zip((0, 0, 1), (0, 1, 0), (1.0, 0.0, 0.0), strict=True))
)
def test_davis_f_of_nothing(answer: int, truth: int, expected: float) -> None:
    masks = {0: np.zeros((20, 20), bool), 1: np.pad(np.ones((10, 10), bool), 5)}
    assert davis_f(masks[answer], masks[truth]) == expected


def test_davis_f_worked_by_hand() -> None:
    """Two bars of one height; of the wide one's outline, the part that the narrow one has too lies near."""
    truth, answer = np.zeros((20, 60), bool), np.zeros((20, 60), bool)
    truth[5:15, 5:25] = True
    answer[5:15, 5:45] = True
    ours, theirs = outlines(answer), outlines(truth)
    # Reach: 0.008 * 63.2 = 0.51, rounded up to 1 pixel.
    near = {
        name: sum(
            any(
                other[y + dy, x + dx]
                for dy, dx in itertools.product((-1, 0, 1), repeat=2)
                if abs(dy) + abs(dx) <= 1 and 0 <= y + dy < 20 and 0 <= x + dx < 60
            )
            for y, x in np.argwhere(own)
        )
        for name, own, other in (("precision", ours, theirs), ("recall", theirs, ours))
    }
    precision, recall = near["precision"] / ours.sum(), near["recall"] / theirs.sum()
    assert davis_f(answer, truth) == pytest.approx(2 * precision * recall / (precision + recall))
