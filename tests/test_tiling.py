"""Large pictures tile by tile: what seams cut comes back whole, and memory stays small."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samlet.components import label
from samlet.errors import InputError
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.rle import mask_to_rle
from samlet.runs import Runs, distinct, paint_labels, runs_of_labels, union
from samlet.tiling import everything_tiled, tiles


def parts_of(image: Image, *, least: int = 1) -> StoredMasks:
    """A stand-in for a network: every bright thing, each with the share of its box as its score."""
    numbers, areas = label(image.pixels[..., 0] > 127)
    masks = [numbers == number + 1 for number in np.flatnonzero(areas >= least)]
    rles = [mask_to_rle(mask) for mask in masks]
    scores = [0.5 + Runs.of(rle).area / (2 * image.height * image.width) for rle in rles]
    return StoredMasks.of(rles, scores, image.hw, facts={"stability_score": np.full(len(rles), 0.9)})


def picture(hw: tuple[int, int], discs: list[tuple[int, int, int]]) -> Image:
    pixels = np.zeros((*hw, 3), np.uint8)
    for x, y, radius in discs:
        yy, xx = np.ogrid[: hw[0], : hw[1]]
        pixels[(xx - x) ** 2 + (yy - y) ** 2 <= radius**2] = 255
    return Image.load(pixels)


def overlap_with(found: StoredMasks, truth: Image) -> list[float]:
    """Of each bright thing of a picture, the best overlap that a mask has with it."""
    numbers, areas = label(truth.pixels[..., 0] > 127)
    masks = [Runs.of_mask(numbers == number + 1) for number in range(len(areas))]
    return [max((Runs.of(rle).iou(mask) for rle in found.rles), default=0.0) for mask in masks]


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(2, 90), st.integers(1, 45)
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_tiles_cover_the_picture_and_overlap(height, width, side, overlap):
    if overlap > side // 2:
        with pytest.raises(InputError, match="overlap"):
            tiles((height, width), side, overlap)
        return
    boxes = tiles((height, width), side, overlap)
    assert boxes.min() == 0 and boxes[:, 2].max() == width and boxes[:, 3].max() == height
    for low, high, length in ((0, 2, width), (1, 3, height)):
        starts, stops = np.unique(boxes[:, low]), np.unique(boxes[:, high])
        assert np.array_equal(stops - starts, np.full(len(starts), min(side, length)))
        assert (stops[:-1] - starts[1:] >= overlap).all()
        # One tile fewer would not do.
        assert len(starts) == 1 or (len(starts) - 1) * (side - overlap) + overlap < length


def test_a_small_picture_is_one_tile_and_looked_at_once():
    image = picture((40, 50), [(20, 20, 10)])
    calls = []

    def find(view):
        calls.append(view.hw)
        return parts_of(view)

    found = everything_tiled(find, image, side=64, overlap=8)
    assert calls == [(40, 50)]
    assert found.rles == parts_of(image).rles and found.image is image
    assert not found.facts["cut"].any() and found.facts["pieces"].tolist() == [1]


# Where tiles of 64 with 16 shared pixels lie in 160 x 160: at 0, 48, 96, so that strips are 48-64 and 96-112.
@pytest.mark.parametrize(
    "disc",
    [
        (56, 30, 20),  # across one seam
        (30, 56, 20),
        (56, 56, 20),  # across the corner of four tiles
        (80, 80, 60),  # across all nine
        (56, 80, 6),  # in a strip, seen whole by two tiles
        (55, 56, 7),  # in the corner of strips, seen whole by four
        (50, 80, 10),  # one tile sees it whole, the next one cuts it
        (60, 40, 23),  # cut by the seam below only a little
        (44, 100, 12),
        (0, 56, 30),  # half outside the picture
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_disc_comes_back_whole_and_once(disc, whole):
    image = picture((160, 160), [disc])
    found = everything_tiled(parts_of, image, side=64, overlap=16, whole=whole)
    assert len(found) == 1
    assert not found.facts["cut"].any()
    assert np.array_equal(found.masks[0], image.pixels[..., 0] > 0)
    assert found.facts["stability_score"].tolist() == pytest.approx([0.9])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_many_things_come_back_as_one_look_finds_them(seed):
    random = np.random.default_rng(seed)
    discs = [(*random.integers(0, 200, 2).tolist(), int(random.integers(3, 25))) for _ in range(8)]
    image = picture((170, 210), discs)
    found = everything_tiled(parts_of, image, side=80, overlap=30, whole=False)
    assert min(overlap_with(found, image)) > 0.7
    # A thing may come in two pieces only if it winds in and out of a strip; discs rarely do.
    assert len(found) <= len(parts_of(image)) + 2


def test_joined_masks_have_the_mean_score_of_their_parts():
    image = picture((40, 100), [])
    pixels = image.pixels.copy()
    pixels[10:20, 5:95] = 255

    def find(view):
        masks = parts_of(view)
        score = 0.9 if view.pixels[:, 0].max() == 0 and view.pixels[:, -1].max() else 0.3
        return StoredMasks.of(masks.rles, [score] * len(masks), view.hw)

    found = everything_tiled(find, Image.load(pixels), side=60, overlap=20, whole=False)
    assert found.facts["pieces"].tolist() == [2]
    assert found.scores[0] == pytest.approx((0.9 * 55 + 0.3 * 55) / 110, abs=1e-6)


def test_a_mask_without_partner_stays_and_says_that_it_is_cut():
    image = picture((64, 112), [(56, 30, 25)])

    def only_left(view):
        masks = parts_of(view)
        return masks if view.pixels[30, -1, 0] else masks[[]]

    found = everything_tiled(only_left, image, side=64, overlap=16, whole=False)
    assert found.facts["cut"].tolist() == [True]
    assert found.boxes_xyxy.tolist() == [[31, 5, 64, 56]]


def test_the_look_at_the_whole_takes_the_place_of_what_it_completes():
    image = picture((64, 112), [(56, 30, 25)])

    def left_and_whole(view):
        masks = parts_of(view)
        return (
            masks
            if view.pixels[-1, -1, 0] == 0 and view.pixels[30 * view.height // 64, -1, 0]
            else (masks if view.width != view.height else masks[[]])
        )

    found = everything_tiled(left_and_whole, image, side=64, overlap=16)
    assert found.facts["pieces"].tolist() == [0] and not found.facts["cut"].any()
    assert overlap_with(found, image)[0] > 0.93


def test_what_one_tile_cuts_and_the_next_sees_whole_but_does_not_report_goes():
    image = picture((64, 112), [(55, 30, 10)])

    def blind_right(view):
        masks = parts_of(view)
        return masks if view.pixels[30, -1, 0] else masks[[]]

    # It lies at 45-66 and the right tile begins at 48: both cut it, the left one finds it.
    assert len(everything_tiled(blind_right, image, side=64, overlap=16, whole=False)) == 1
    image = picture((64, 112), [(62, 30, 10)])
    # At 52-73 the right tile sees it whole.
    assert len(everything_tiled(blind_right, image, side=64, overlap=16, whole=False)) == 0


def test_a_part_inside_a_thing_stays_apart_from_it():
    """Both are cut by the seam; each is joined with its own partner."""
    image = picture((64, 112), [(56, 30, 28)])
    pixels = image.pixels.copy()
    pixels[20:40, 46:66] //= 2

    def find(view):
        outer, inner = view.pixels[..., 0] > 0, view.pixels[..., 0] == 127
        rles = [mask_to_rle(mask) for mask in (outer, inner) if mask.any()]
        return StoredMasks.of(rles, [0.8] * len(rles), view.hw)

    found = everything_tiled(find, Image.load(pixels), side=64, overlap=16, whole=False)
    assert sorted(found.areas.tolist()) == [400, int((image.pixels[..., 0] > 0).sum())]


def test_facts_that_are_places_are_left_out_and_progress_is_told():
    image = picture((100, 100), [(50, 50, 30)])
    told = []

    def find(view):
        masks = parts_of(view)
        facts = {**masks.facts, "point_coords": np.zeros((len(masks), 2)), "row": np.arange(len(masks))}
        return StoredMasks.of(masks.rles, masks.scores, view.hw, facts=facts)

    found = everything_tiled(find, image, side=64, overlap=16, progress=lambda *step: told.append(step))
    assert set(found.facts) == {"stability_score", "cut", "pieces"}
    assert told == [(number, 5) for number in range(1, 6)]


def test_nothing_found_is_an_empty_answer():
    found = everything_tiled(parts_of, picture((100, 150), []), side=64, overlap=16)
    assert len(found) == 0 and found.masks.shape == (0, 100, 150)


def test_bad_input_is_refused():
    image = picture((100, 100), [])
    with pytest.raises(InputError, match="iou from 0 to 1"):
        everything_tiled(parts_of, image, iou=2.0)
    with pytest.raises(InputError, match="masks of its picture"):
        everything_tiled(lambda view: parts_of(image), image, side=64, overlap=16)
    with pytest.raises(InputError, match="overlap"):
        everything_tiled(parts_of, image, side=64, overlap=40)


BIG = """
import json, resource, sys, time
import numpy as np
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.runs import Runs, runs_of_labels
from samlet.tiling import everything_tiled

random = np.random.default_rng(4)
pixels = np.zeros((4000, 6000, 3), np.uint8)
truth = []
for column in range(12):
    for row in range(8):
        x, y, radius = 500 * column + 250, 500 * row + 250, int(random.integers(50, 240))
        yy, xx = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        disc = xx**2 + yy**2 <= radius**2
        # The colour tells the discs apart: their place in the grid.
        pixels[y - radius : y + radius + 1, x - radius : x + radius + 1][disc] = (255, 17 * column, 17 * row)
        truth.append(Runs.of_mask(disc).moved(x - radius, y - radius, (4000, 6000)))
pixels.flags.writeable = False
image = Image(pixels)

def find(view):
    bright, column, row = np.moveaxis(view.pixels, 2, 0)
    seen = bright > 127
    place = np.rint(np.stack((column, row))[:, seen] * (15.0 / bright[seen])).astype(int)  # dimmer at the rim
    labels = np.zeros(view.hw, np.uint16)
    labels[seen] = 12 * place[1] + place[0] + 1
    runs = [one for one in runs_of_labels(labels, 96) if len(one)]
    return StoredMasks.of([one.rle() for one in runs], np.full(len(runs), 0.9), view.hw)

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
start = time.perf_counter()
found = everything_tiled(find, image)
seconds = time.perf_counter() - start
masks = [Runs.of(rle) for rle in found.rles]
boxes = np.array([one.box for one in masks])
worst = 1.0
for one in truth:
    near = np.flatnonzero((np.abs(boxes - one.box).max(axis=1) <= 8))
    worst = min(worst, max((masks[row].iou(one) for row in near), default=0.0))
print(json.dumps({"found": len(found), "truth": len(truth), "worst": worst, "cut": int(found.facts["cut"].sum()),
    "joined": int((found.facts["pieces"] > 1).sum()), "before": before, "peak": peak(), "seconds": seconds}))
"""


def test_24_megapixels_in_little_memory():
    pytest.importorskip("resource")
    source = Path(__file__).parent.parent / "src"
    code = f"import sys; sys.path.insert(0, {str(source)!r})\n{BIG}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    told = json.loads(done.stdout)
    print(told)
    assert told["found"] == told["truth"] == 96 and told["cut"] == 0
    assert told["joined"] > 10 and told["worst"] == 1.0
    # The picture itself takes 72 MB, Pillow 96 MB while it makes the small one.
    assert told["peak"] - told["before"] < 300


def test_runs_agree_with_painted_masks():
    random = np.random.default_rng(0)
    for _ in range(50):
        height, width = random.integers(1, 12, 2)
        a, b = random.random((2, height, width)) < random.random()
        one, other = Runs.of_mask(a), Runs.of_mask(b)
        assert one.rle() == mask_to_rle(a) and np.array_equal(one.mask(), a)
        assert one.area == a.sum() and one.shared(other) == (a & b).sum()
        assert np.array_equal(union([one, other]).mask(), a | b)
        ys, xs = np.nonzero(a)
        if len(xs):
            assert one.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert one.centroid == pytest.approx((xs.mean() + 0.5, ys.mean() + 0.5))
        x0, y0 = random.integers(0, width), random.integers(0, height)
        x1, y1 = random.integers(x0 + 1, width + 1), random.integers(y0 + 1, height + 1)
        cut = one.cut((x0, y0, x1, y1))
        assert np.array_equal(cut.mask(), a[y0:y1, x0:x1])
        placed = np.zeros((height + 3, width + 2), bool)
        placed[1 : 1 + height, 2 : 2 + width] = a
        assert np.array_equal(one.moved(2, 1, placed.shape).mask(), placed)
        labels = random.integers(0, 4, (height, width))
        for number, runs in enumerate(runs_of_labels(labels, 4), start=1):
            assert np.array_equal(runs.mask(), labels == number)
        assert np.array_equal(paint_labels([(1, one), (2, other)], a.shape), np.where(b, 2, a))


def test_runs_of_odd_codes():
    assert Runs.of({"size": [2, 3], "counts": [0, 2, 0, 1, 3]}).rle()["counts"] == [0, 3, 3]
    assert Runs.of({"size": [1, 2], "counts": [2]}).rle()["counts"] == [2]
    with pytest.raises(InputError, match="one mask or more"):
        union([])


@given(
    st.lists(st.tuples(*[st.integers(0, 11)] * 4), max_size=12),
    st.sampled_from([0.0, 0.3, 0.5, 0.85, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_distinct_masks_are_those_that_painted_ones_would_give(
    corners: list[tuple[int, int, int, int]], iou: float
) -> None:
    masks = []
    for x0, y0, width, height in corners:
        mask = np.zeros((12, 12), bool)
        mask[y0 : y0 + height, x0 : x0 + width] = True
        masks.append(mask)
    order = list(range(len(masks)))[::-1]
    kept: list[int] = []
    for row in order:
        shares = [(masks[row] & masks[one]).sum() / max((masks[row] | masks[one]).sum(), 1) for one in kept]
        if all(share <= iou for share in shares):
            kept.append(row)
    assert distinct([Runs.of_mask(mask) for mask in masks], order, iou).tolist() == kept
