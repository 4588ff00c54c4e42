"""Connected parts equal OpenCV's, number for number, and clean-up on run lengths equals clean-up of pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from samlet.components import label, without_small_parts
from samlet.errors import InputError
from samlet.rle import mask_to_rle, rle_to_mask

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def smooth(seed: int, hw: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).random(hw, np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2) > 0.5


def by_pixels(mask: np.ndarray, min_area: float, what: str) -> np.ndarray:
    """Clean one mask the slow way, with OpenCV's labels."""
    work = mask if what == "islands" else ~mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(work.astype(np.uint8), 8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    small = areas < min_area
    if what == "islands" and len(areas) and small.all():
        small[areas.argmax()] = False
    kept = np.isin(labels, 1 + np.flatnonzero(~small))
    return kept if what == "islands" else ~kept


@given(MASKS)
def test_labels_are_opencvs(mask):
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), 8)
    ours, areas = label(mask)
    np.testing.assert_array_equal(ours, labels)
    np.testing.assert_array_equal(areas, stats[1:, cv2.CC_STAT_AREA])


@pytest.mark.parametrize("hw", [(200, 300), (301, 97), (1, 50), (50, 1)])
def test_labels_of_large_masks_are_opencvs(hw):
    for seed in range(3):
        mask = smooth(seed, hw)
        np.testing.assert_array_equal(
            label(mask)[0], cv2.connectedComponentsWithStats(mask.astype(np.uint8), 8)[1]
        )


def test_a_spiral_is_one_part():
    mask = np.zeros((41, 41), bool)
    y, x, step, direction = 20, 20, 2, 0
    for leg in range(36):
        for _ in range(step * (leg // 2 + 1) // 2):
            mask[y, x] = True
            y, x = y + (0, 1, 0, -1)[direction], x + (1, 0, -1, 0)[direction]
        direction = (direction + 1) % 4
    assert len(label(mask)[1]) == 1


@given(MASKS, st.integers(0, 30), st.sampled_from(["holes", "islands"]))
def test_clean_up_equals_pixels(mask, min_area, what):
    rle = mask_to_rle(mask)
    cleaned, changed = without_small_parts(rle, min_area, what=what)
    wanted = by_pixels(mask, min_area, what)
    assert cleaned == mask_to_rle(wanted)
    if not changed:
        np.testing.assert_array_equal(wanted, mask)


def test_holes_at_the_border_are_holes():
    mask = np.ones((5, 5), bool)
    mask[0, 0] = False
    cleaned, changed = without_small_parts(mask_to_rle(mask), 2, what="holes")
    assert changed
    assert rle_to_mask(cleaned).all()


def test_of_small_islands_the_largest_stays():
    mask = np.zeros((5, 9), bool)
    mask[1, 1], mask[1:3, 4], mask[3, 8] = True, True, True
    cleaned, _ = without_small_parts(mask_to_rle(mask), 100, what="islands")
    assert np.argwhere(rle_to_mask(cleaned)).tolist() == [[1, 4], [2, 4]]


def test_empty_masks_have_no_parts():
    empty = np.zeros((4, 4), bool)
    assert len(label(empty)[1]) == 0
    assert without_small_parts(mask_to_rle(empty), 9, what="islands") == (mask_to_rle(empty), False)


def test_unknown_clean_up_is_refused():
    with pytest.raises(InputError, match="expected 'holes' or 'islands'"):
        without_small_parts(mask_to_rle(np.eye(3)), 2, what="edges")
