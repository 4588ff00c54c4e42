"""What people do with all masks of a picture: labels, parts, sizes, proposals, and regions that stand out."""

import math

import numpy as np
import pytest

from samlet.components import label
from samlet.errors import InputError, LimitError
from samlet.geometry import Frame, box_iou
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.polygons import polygon_to_mask
from samlet.rle import mask_to_rle
from samlet.uses import (
    anomalies,
    by_size,
    disjoint_parts,
    filled,
    footprints,
    label_map,
    proposals,
    region_sheet,
    salience,
    salient,
    squared,
    without_overlaps,
)
from samlet.uses.looks import looks, to_lab


def of(masks, scores=None, image=None):
    masks = np.asarray(masks, bool)
    scores = np.linspace(0.9, 0.5, len(masks)) if scores is None else scores
    return StoredMasks.of([mask_to_rle(mask) for mask in masks], scores, masks.shape[1:], image=image)


def some(count=12, hw=(40, 50), seed=1):
    random = np.random.default_rng(seed)
    masks = np.zeros((count, *hw), bool)
    for mask in masks:
        y, x = random.integers(0, hw[0] - 3), random.integers(0, hw[1] - 3)
        mask[y : y + random.integers(3, 20), x : x + random.integers(3, 20)] = True
        mask &= random.random(hw) < 0.9
    return masks


@pytest.mark.parametrize("on_top", ["small", "score"])
def test_labels_by_painting_one_mask_after_the_other(on_top):
    masks = some()
    scores = np.random.default_rng(0).random(len(masks))
    worth = scores if on_top == "score" else -masks.sum(axis=(1, 2))
    expected = np.zeros(masks.shape[1:], int)
    for row in sorted(range(len(masks)), key=lambda row: (worth[row], -row)):
        expected[masks[row]] = row + 1
    found = of(masks, scores)
    labels = label_map(found, on_top=on_top)
    assert labels.dtype == np.uint16 and np.array_equal(labels, expected)
    apart = without_overlaps(found, on_top=on_top)
    assert apart.masks.sum(axis=0).max() == 1
    shown = [row for row in range(len(masks)) if (expected == row + 1).any()]
    assert np.array_equal(apart.masks, [expected == row + 1 for row in shown])
    assert apart.scores.tolist() == found.scores[shown].tolist()


def test_labels_of_equals_go_to_the_first():
    masks = np.ones((2, 1, 1), bool)
    assert label_map(of(masks, [0.5, 0.5])).tolist() == [[1]]
    assert label_map(of(masks, [0.5, 0.5]), on_top="score").tolist() == [[1]]


def test_labels_refuse_other_rules_and_too_many():
    with pytest.raises(InputError, match="'small' or 'score'"):
        label_map(of(some()), on_top="large")
    one = mask_to_rle(np.ones((1, 1), bool))
    with pytest.raises(LimitError, match="65535"):
        label_map(StoredMasks.of([one] * 65_536, np.zeros(65_536), (1, 1)))


def test_masks_with_logits_are_taken_too():
    logits = np.where(some(3, (32, 32)), 4, -4).astype(np.float32)
    masks = Masks(logits, np.array([0.5, 0.9, 0.7], np.float32), Frame.fit((32, 32), 32))
    assert len(np.unique(label_map(masks))) == 4
    small = by_size(masks, max_area=int(masks.areas.min()))
    assert type(small) is Masks and len(small) == 1
    several = Masks(logits[None], np.ones((1, 3), np.float32), Frame.fit((32, 32), 32))
    for use in (label_map, filled, proposals, by_size):
        with pytest.raises(InputError, match="best"):
            use(several)


def test_sizes_in_pixels_and_shares():
    masks = np.zeros((4, 10, 10), bool)
    for row, side in enumerate((0, 2, 4, 8)):
        masks[row, :side, :side] = True
    found = of(masks)
    assert by_size(found, min_area=4, max_area=16).areas.tolist() == [4, 16]
    assert by_size(found, min_share=0.04, max_share=0.16).areas.tolist() == [4, 16]
    assert len(by_size(found)) == 4
    for wrong in ({"min_area": -1}, {"max_share": 1.5}, {"max_area": math.nan}):
        with pytest.raises(InputError, match="correct the bounds"):
            by_size(found, **wrong)


def test_parts_are_those_that_labelling_finds():
    masks = some()
    parts = disjoint_parts(of(masks))
    for row, mask in enumerate(masks):
        areas = label(mask)[1]
        mine = parts[parts.facts["mask"] == row]
        assert mine.areas.tolist() == sorted(areas.tolist(), reverse=True)
        assert np.array_equal(mine.masks.sum(axis=0), mask)
    large = disjoint_parts(of(masks), min_area=10)
    assert large.areas.min() >= 10 and len(large) == (parts.areas >= 10).sum()
    assert len(disjoint_parts(of(np.zeros((2, 5, 5))))) == 0


def test_holes_are_filled_but_not_bays():
    ring = np.zeros((12, 12), bool)
    ring[0:9, 2:11] = True
    ring[3:5, 4:6] = False  # a hole of 4
    ring[6:8, 7:10] = False  # a hole of 6
    ring[0:2, 5:7] = False  # open to the border of the picture
    assert filled(of([ring])).areas.tolist() == [ring.sum() + 10]
    assert filled(of([ring]), max_area=4).areas.tolist() == [ring.sum() + 4]
    bay = np.ones((5, 5), bool)
    bay[2, 2:] = False
    assert np.array_equal(filled(of([bay])).masks[0], bay)
    assert filled(of(np.zeros((1, 3, 3)))).areas.tolist() == [0]


def test_proposals_are_ranked_and_without_doubles():
    masks = np.zeros((4, 20, 20), bool)
    masks[0, 2:12, 2:12] = masks[1, 2:12, 2:13] = masks[2, 15:, 15:] = True
    found = proposals(of(masks, [0.5, 0.8, 0.9, 1.0]))
    assert found.rows.tolist() == [2, 1] and found.boxes_xyxy.tolist() == [[15, 15, 20, 20], [2, 2, 13, 12]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert box_iou(found.boxes_xyxy, found.boxes_xyxy)[0, 1] == 0
    assert proposals(of(masks), iou=1).rows.tolist() == [0, 1, 2]
    assert proposals(of(masks), top=1).rows.tolist() == [0]
    assert proposals(of(masks[:0])).boxes_xyxy.shape == (0, 4)
    with pytest.raises(InputError, match="iou"):
        proposals(of(masks), iou=-1)


def test_lab_is_that_of_opencv():
    cv2 = pytest.importorskip("cv2")
    colors = np.random.default_rng(0).integers(0, 256, (1, 500, 3), dtype=np.uint8)
    expected = cv2.cvtColor(colors.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    assert np.abs(to_lab(colors) - expected).max() < 0.5


def scene():
    """A red disc near the middle on grass under a sky, and a small sun."""
    pixels = np.empty((120, 160, 3), np.uint8)
    pixels[:50], pixels[50:] = (120, 170, 230), (60, 140, 60)
    y, x = np.mgrid[:120, :160]
    disc, sun = (y - 65) ** 2 + (x - 85) ** 2 < 20**2, (y - 10) ** 2 + (x - 140) ** 2 < 6**2
    pixels[disc], pixels[sun] = (200, 40, 40), (250, 240, 120)
    sky, grass = (y < 50) & ~disc & ~sun, (y >= 50) & ~disc
    return Image.load(pixels), np.array([sky, sun, disc, grass, np.ones_like(sky)])


def test_the_salient_thing_is_the_one_in_the_middle():
    image, masks = scene()
    found = of(masks, [0.9] * 5, image)
    assert np.array_equal(salient(found).masks[0], masks[2])
    rated = salience(found)
    assert ((rated >= 0) & (rated <= 1)).all() and rated[2] > 2 * np.delete(rated, 2).max()
    assert len(salient(of(masks[:0], image=image))) == 0
    assert salience(of(np.zeros((1, 120, 160)), image=image)).tolist() == [0]


def test_looks_are_those_of_the_painted_masks():
    image, masks = scene()
    seen = looks(of(masks), image)
    assert seen.share.tolist() == pytest.approx((masks.sum(axis=(1, 2)) / 19200).tolist())
    assert seen.color[2] == pytest.approx(to_lab(np.array([200, 40, 40], np.uint8)), abs=1e-3)
    assert seen.contrast[4] == 0 and seen.contrast[2] > 50
    assert seen.center[2].tolist() == pytest.approx([2 * 85.5 / 160 - 1, 2 * 65.5 / 120 - 1])
    assert seen.frame[4] == 1 and seen.frame[2] == 0


def test_what_needs_the_picture_says_so():
    masks = scene()[1]
    with pytest.raises(InputError, match="pass image="):
        salience(of(masks))
    with pytest.raises(InputError, match="120 x 160, got one of 4 x 4"):
        anomalies(of(masks), Image.load(np.zeros((4, 4, 3), np.uint8)))


def test_the_odd_ones_are_found_and_named():
    y, x = np.mgrid[:200, :200]
    pixels = np.full((200, 200, 3), 230, np.uint8)
    random = np.random.default_rng(3)
    masks = []
    for number in range(25):
        row, column = divmod(number, 5)
        radius = 30 if number == 7 else 10 + 0.4 * random.standard_normal()
        radius = 16 if number == 7 else radius
        disc = (y - 20 - 40 * row) ** 2 + (x - 20 - 40 * column) ** 2 < radius**2
        pixels[disc] = (200, 60, 40) if number == 18 else random.integers(95, 105, 3)
        masks.append(disc)
    found = anomalies(of(masks, image=Image.load(pixels)))
    assert dict(zip(found.rows.tolist(), found.reasons, strict=True)) == {7: "size", 18: "color"}
    assert (np.diff(found.scores) <= 0).all() and len(found.all_scores) == 25
    assert found.scores.tolist() == found.all_scores[found.rows].tolist()
    few = anomalies(of(masks[:2], image=Image.load(pixels)))
    assert few.all_scores.tolist() == [0, 0] and few.rows.tolist() == []
    assert anomalies(of(np.zeros((0, 200, 200)), image=Image.load(pixels))).rows.tolist() == []
    with pytest.raises(InputError, match="least"):
        anomalies(of(masks, image=Image.load(pixels)), least=-1)


def turned(ring, degrees, center=(100, 100)):
    a = math.radians(degrees)
    return ring @ np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) + center


L_SHAPE = np.array([[-50.0, -40], [50, -40], [50, 0], [0, 0], [0, 40], [-50, 40]])


@pytest.mark.parametrize("degrees", [0, 7, 30, 45, 80])
def test_a_ragged_house_becomes_rectilinear(degrees):
    corners = turned(L_SHAPE, degrees)
    mask = polygon_to_mask([corners], (200, 200))
    random = np.random.default_rng(degrees)
    for y, x in random.integers(0, 200, (4000, 2)):  # ragged walls
        mask[y : y + 2, x : x + 2] = mask[y, x]
    found = footprints(of([mask]), tolerance=4.0, max_share=0.5)
    assert [row for row, _ in found] == [0]
    ring = found[0][1].exterior
    assert len(ring) == 6
    for corner in corners:
        assert np.hypot(*(ring - corner).T).min() < 4
    sides = np.roll(ring, -1, axis=0) - ring
    cosines = (sides * np.roll(sides, -1, axis=0)).sum(axis=1)
    assert np.abs(cosines).max() < 1e-6 * np.abs(sides).max() ** 2
    plain = footprints(of([mask]), tolerance=4.0, max_share=0.5, square=False)[0][1].exterior
    assert len(plain) >= len(ring)


def test_what_is_no_building_is_left_out():
    y, x = np.mgrid[:200, :200]
    road = np.abs(x - y) < 4
    cross = (np.abs(x - 100) < 4) | (np.abs(y - 100) < 4)
    field = np.ones_like(road)
    speck = (x < 4) & (y < 4)
    house = (x > 40) & (x < 90) & (y > 60) & (y < 100)
    assert [row for row, _ in footprints(of([cross, field, speck, house, 0 * field]))] == [3]
    # A straight road fills its rectangle: size and shape do not tell it from a long house.
    assert len(footprints(of([road]))) == 1
    with pytest.raises(InputError, match="correct the numbers"):
        footprints(of([road]), max_share=2)


def test_round_things_keep_their_outline():
    y, x = np.mgrid[:200, :200]
    pond = (x - 100) ** 2 + (y - 100) ** 2 < 40**2
    ring = footprints(of([pond]), tolerance=1)[0][1].exterior
    assert abs(polygon_to_mask([ring], (200, 200)).sum() - pond.sum()) < 0.1 * pond.sum()


def test_squared_gives_back_what_has_no_rectilinear_form():
    line = np.array([[0.0, 0], [10, 0], [20, 0]])
    assert np.array_equal(squared(line), line)
    with pytest.raises(InputError, match="three or more points"):
        squared(line[:2])


def test_a_sheet_of_regions():
    image, masks = scene()
    sheet = region_sheet(of(masks, image=image), top=4, columns=2, cell=100)
    assert sheet.mode == "RGB" and 200 < sheet.width < 240
    alone = region_sheet(of([masks[2], 0 * masks[2]], image=image), cell=100)
    assert alone.width < 120
    assert tuple(np.asarray(alone)[60, 58]) == (200, 40, 40)
    with pytest.raises(InputError, match="regions to show"):
        region_sheet(of(0 * masks, image=image))
