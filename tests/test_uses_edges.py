"""Edge maps, against the slow way and against outlines that are known."""

import numpy as np
import pytest

from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.masks import Masks, StoredMasks
from samlet.rle import mask_to_rle
from samlet.uses import EdgeVotes, edge_map, thin_ridges


def of(masks):
    masks = np.asarray(masks, bool)
    return StoredMasks.of([mask_to_rle(mask) for mask in masks], np.ones(len(masks)), masks.shape[1:])


def slow_edges(soft_masks):
    """Pixel by pixel: Sobel of each map, the largest, and its neighbours along its own direction."""
    height, width = soft_masks[0].shape
    best = np.zeros((height, width))
    direction = np.zeros((height, width))
    for soft in soft_masks:
        pad = np.pad(soft, 1, mode="edge")
        for y in range(height):
            for x in range(width):
                p = pad[y : y + 3, x : x + 3]
                gx = p[0, 2] + 2 * p[1, 2] + p[2, 2] - p[0, 0] - 2 * p[1, 0] - p[2, 0]
                gy = p[2, 0] + 2 * p[2, 1] + p[2, 2] - p[0, 0] - 2 * p[0, 1] - p[0, 2]
                near = abs(p[1, 1] - 0.5) <= 2 * np.hypot(gx, gy) / 8
                if near and np.hypot(gx, gy) > best[y, x]:
                    best[y, x], direction[y, x] = np.hypot(gx, gy), np.arctan2(gy, gx) % np.pi
    best /= max(best.max(), 1e-12)

    def at(y, x):
        y0, x0 = int(np.floor(y)), int(np.floor(x))
        total = 0.0
        for yy in (y0, y0 + 1):
            for xx in (x0, x0 + 1):
                if 0 <= yy < height and 0 <= xx < width:
                    total += best[yy, xx] * (1 - abs(y - yy)) * (1 - abs(x - xx))
        return total

    slack = np.zeros((height, width))  # how clearly a pixel is a maximum
    for y, x in np.argwhere(best > 0):
        dy, dx = np.sin(direction[y, x]), np.cos(direction[y, x])
        slack[y, x] = best[y, x] - max(at(y + dy, x + dx), at(y - dy, x - dx))
    return best, slack


def blobs(seed, hw=(24, 30), count=3):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: hw[0], : hw[1]]
    places = random.random((count, 3)) * (*hw, 8) + (0, 0, 3)
    return np.array([r - np.hypot(y - cy, x - cx) for cy, cx, r in places], np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_logits_against_the_slow_way(seed):
    logits = blobs(seed)[:, :24, :24]
    masks = Masks(logits, np.ones(len(logits), np.float32), Frame.fit((24, 24), 24))
    strength, slack = slow_edges([1 / (1 + np.exp(-one.astype(float))) for one in logits])
    found = edge_map(masks, thin=False)
    assert found.dtype == np.float32 and found.max() == 1
    assert np.abs(found - strength).max() < 1e-5
    thin = edge_map(masks)
    assert set(np.unique(thin[thin > 0])) <= set(np.unique(found))
    assert (thin > 0)[slack > 0.01].all() and not (thin > 0)[slack < -0.01].any()


@pytest.mark.parametrize("seed", range(3))
def test_stored_masks_against_the_slow_way(seed):
    masks = blobs(seed) > 0
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    soft = []
    for mask in masks:
        pad = np.pad(mask.astype(float), 1, mode="edge")
        soft.append(sum(kernel[i, j] * pad[i : i + 24, j : j + 30] for i in range(3) for j in range(3)))
    strength, slack = slow_edges(soft)
    assert np.abs(edge_map(of(masks), thin=False) - strength).max() < 1e-5
    thin = edge_map(of(masks)) > 0
    assert thin[slack > 0.01].all() and not thin[slack < -0.01].any()


@pytest.mark.parametrize("radius", [12.3, 40.0])
@pytest.mark.parametrize("stored", [True, False])
def test_the_edge_of_a_disc_lies_on_its_rim(radius, stored):
    y, x = np.mgrid[:100, :100]
    distance = radius - np.hypot(y - 50.2, x - 49.7)
    if stored:
        masks = of([distance > 0])
    else:
        masks = Masks(distance[None].astype(np.float32), np.ones(1, np.float32), Frame.fit((100, 100), 100))
    edges = edge_map(masks)
    off = np.abs(distance[edges > 0.3])
    assert off.max() < 1.0
    rim = np.stack(
        [50.2 + radius * np.sin(a := np.linspace(0, 2 * np.pi, 200)), 49.7 + radius * np.cos(a)], axis=1
    )
    places = np.argwhere(edges > 0.3)
    gaps = np.hypot(*(rim[:, None] - places[None]).transpose(2, 0, 1)).min(axis=1)
    assert gaps.max() < 1.5  # closed: no gap of more than a pixel
    assert len(places) < 1.3 * 2 * np.pi * radius  # thin


@pytest.mark.parametrize("turn", range(4))
def test_a_straight_outline_is_one_pixel_thin(turn):
    half = np.rot90(np.arange(20)[:, None] * np.ones(20) < 9, turn)
    edges = edge_map(of([half]))
    assert (edges > 0).sum() == 20 and (edges[edges > 0] == 1).all()


def test_the_border_of_the_picture_is_no_edge_and_nothing_gives_nothing():
    assert not edge_map(of(np.ones((1, 8, 9)))).any()
    assert edge_map(of(np.zeros((0, 8, 9)))).shape == (8, 9)
    assert not edge_map(of(np.zeros((2, 8, 9)))).any()


def test_sure_outlines_are_stronger_than_vague_ones():
    _, x = np.mgrid[:32, :32]
    logits = np.stack([(8 - x) * 4.0, (x - 24) * 0.5]).astype(np.float32)
    edges = edge_map(Masks(logits, np.ones(2, np.float32), Frame.fit((32, 32), 32)))
    assert edges[16, 6:11].max() == 1 and 0.05 < edges[16, 21:27].max() < 0.5


def test_an_unsure_inside_is_no_edge():
    y, x = np.mgrid[:64, :64]
    unsure = 3 + np.sin(x) + np.cos(1.3 * y)
    logits = np.where(np.hypot(y - 32, x - 32) < 20, unsure, -6).astype(np.float32)
    edges = edge_map(Masks(logits[None], np.ones(1, np.float32), Frame.fit((64, 64), 64)))
    assert (edges > 0).any() and (np.abs(np.hypot(y - 32, x - 32)[edges > 0] - 20) < 1.5).all()


def test_candidates_are_refused():
    with pytest.raises(InputError, match="best"):
        edge_map(Masks(np.zeros((1, 3, 4, 4)), np.ones((1, 3)), Frame.fit((4, 4), 4)))


# Votes


def soft_step(at: float, *, hw: tuple[int, int] = (24, 32), scores: tuple[float, ...] = (1.0,)) -> Masks:
    """Masks whose probability rises from left to right around a column."""
    logits = np.tile((np.arange(hw[1]) + 0.5 - at).astype(np.float32), (len(scores), hw[0], 1)) * 2
    return Masks(logits, np.float32(scores), Frame(hw, hw, hw))


def test_votes_add_up_and_count_by_the_square_of_the_score() -> None:
    one, two, half = EdgeVotes(), EdgeVotes(), EdgeVotes()
    one.add(soft_step(12))
    two.add(soft_step(12, scores=(1.0, 1.0)))
    half.add(soft_step(12, scores=(0.5,)))
    assert np.allclose(two.strength(), 2 * one.strength())
    assert np.allclose(half.strength(), 0.25 * one.strength())
    assert one.strength()[3].argmax() in (11, 12)


def test_where_more_masks_agree_the_ridge_is_stronger() -> None:
    votes = EdgeVotes()
    votes.add(soft_step(8, scores=(0.9, 0.9, 0.9)))
    votes.add(soft_step(24))
    thin = thin_ridges(votes.strength())
    row = thin[12]
    places = np.flatnonzero(row > 0.2)
    assert len(places) == 2 and abs(places[0] - 7.5) <= 1 and abs(places[1] - 23.5) <= 1
    assert row.max() == row[places[0]] == pytest.approx(1.0, abs=0.02) and row[places[1]] < 0.8


def test_three_candidates_of_a_prompt_all_vote() -> None:
    single = soft_step(12, scores=(1.0, 0.5, 0.25))
    several = Masks(single.logits[None], single.scores[None], single.frame)
    first, second = EdgeVotes(), EdgeVotes()
    first.add(single)
    second.add(several)
    assert np.allclose(first.strength(), second.strength())


def test_votes_that_cannot_be_counted() -> None:
    votes = EdgeVotes()
    assert not votes
    with pytest.raises(InputError, match="expected masks to have voted"):
        votes.strength()
    with pytest.raises(InputError, match="expected masks with logits"):
        votes.add(StoredMasks.of([{"size": [1, 6], "counts": [3, 3]}], [1.0], (1, 6)))
    votes.add(soft_step(12))
    assert votes
    with pytest.raises(InputError, match="expected masks of one picture"):
        votes.add(soft_step(12, hw=(24, 30)))
    with pytest.raises(InputError, match="expected strengths"):
        thin_ridges(np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match="a blur of 0 or more"):
        thin_ridges(np.zeros((3, 4)), blur=-1)


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 135])
def test_a_broad_line_becomes_one_pixel_thin(angle: int) -> None:
    y, x = np.mgrid[:60, :60] - 29.5
    across = np.cos(np.radians(angle)) * x + np.sin(np.radians(angle)) * y
    thin = thin_ridges(np.exp(-(across**2) / 8)) > 0.5
    thin[[0, -1]] = thin[:, [0, -1]] = False  # at the picture's border nobody knows how the line goes on
    assert thin.any() and np.abs(across[thin]).max() <= 1.01
    inner = thin[10:-10, 10:-10]
    assert 38 <= inner.sum() <= 62, "about one pixel for each step along the line"
    assert not thin_ridges(np.zeros((9, 9))).any()
