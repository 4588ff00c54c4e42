"""Masks kept as run lengths behave as the same masks with logits do."""

import numpy as np
import pytest

from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.rle import mask_to_rle

RANDOM = np.random.default_rng(3)
FULL = RANDOM.random((4, 9, 13)) > 0.6
FULL[2] = False
SCORES = np.array([0.2, 0.9, 0.5, 0.7], np.float32)


def stored(**more) -> StoredMasks:
    return StoredMasks.of([mask_to_rle(mask) for mask in FULL], SCORES, (9, 13), **more)


def with_logits() -> Masks:
    frame = Frame((9, 13), (9, 13), (9, 13))
    return Masks(np.where(FULL, 1, -1).astype(np.float32), SCORES, frame)


def test_what_both_kinds_give_is_the_same() -> None:
    ours, wanted = stored(), with_logits()
    np.testing.assert_array_equal(ours.masks, wanted.masks)
    np.testing.assert_array_equal(ours.boxes_xyxy, wanted.boxes_xyxy)
    np.testing.assert_array_equal(ours.areas, wanted.areas)
    assert ours.to_rle() == wanted.to_rle()
    assert ours.to_yolo() == wanted.to_yolo()
    assert ours.to_coco() == wanted.to_coco()
    assert ours.nms(0.5).scores.tolist() == wanted.nms(0.5).scores.tolist()
    assert ours.best() is ours


def test_boxes_and_areas_are_measured_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = stored()
    monkeypatch.setattr(StoredMasks, "_decoded", None)
    assert masks.areas.tolist() == FULL.sum(axis=(1, 2)).tolist()
    assert masks.boxes_xyxy[2].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("index", [1, [3, 0], slice(1, None), SCORES > 0.4, [], -1])
def test_picking_takes_everything_along(index) -> None:
    masks = stored(facts={"row": np.arange(4)})
    rows = np.atleast_1d(np.arange(4)[np.asarray(index, np.int64) if isinstance(index, list) else index])
    picked = masks[index]
    assert picked.facts["row"].tolist() == rows.tolist()
    np.testing.assert_array_equal(picked.masks, FULL[rows])
    np.testing.assert_array_equal(picked.scores, SCORES[rows])


def test_no_masks_at_all() -> None:
    empty = StoredMasks.of([], [], (5, 6))
    assert (len(empty), empty.masks.shape, empty.boxes_xyxy.shape) == (0, (0, 5, 6), (0, 4))
    assert empty.to_coco()["annotations"] == []


def test_what_needs_logits_says_so() -> None:
    masks = stored()
    for call in (lambda: masks.hint, lambda: masks.full_logits(0), masks.stability):
        with pytest.raises(InputError, match="stored as run lengths"):
            call()
    assert stored(facts={"stability_score": SCORES}).stability().tolist() == SCORES.tolist()


def test_parts_that_do_not_belong_together() -> None:
    with pytest.raises(InputError, match="masks of one picture"):
        StoredMasks.of([mask_to_rle(FULL[0])], [1.0], (9, 14))
    with pytest.raises(InputError, match="another number of row"):
        stored(facts={"row": np.arange(3)})
    with pytest.raises(InputError, match="one score for each mask"):
        StoredMasks.of([mask_to_rle(FULL[0])], [1.0, 2.0], (9, 13))


def test_drawing(tmp_path) -> None:
    image = Image.load(np.zeros((9, 13, 3), np.uint8))
    assert stored(image=image).draw(tmp_path / "o.png").size == (13, 9)
