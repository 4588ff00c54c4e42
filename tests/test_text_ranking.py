"""Regions ranked by words: which masks are taken, for which text, and how they are named."""

import numpy as np
import pytest

from samlet.errors import InputError, PromptError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.rle import mask_to_rle
from samlet.text import pick

HW = (40, 60)


def rectangle(x0, y0, x1, y1):
    mask = np.zeros(HW, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


# A red square, a smaller one in it, a green bar, and a speck that is too small to be looked at.
MASKS = [rectangle(0, 0, 30, 30), rectangle(5, 5, 20, 20), rectangle(40, 0, 55, 40), rectangle(58, 0, 60, 2)]
PIXELS = np.full((*HW, 3), 90, np.uint8)
PIXELS[MASKS[0]], PIXELS[MASKS[1]], PIXELS[MASKS[2]] = (150, 30, 0), (200, 0, 0), (0, 200, 0)
PHOTO = Image.load(PIXELS)


def stored(image=PHOTO):
    facts = {"rank": np.arange(4)}
    return StoredMasks.of(
        [mask_to_rle(mask) for mask in MASKS], [0.9, 0.8, 0.7, 0.6], HW, image=image, facts=facts
    )


class Colours:
    """Rates how much of a colour a crop has, white left out; remembers what it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, crops, text):
        self.shown += crops
        channel = ("red", "green", "blue").index(text.split()[-1])
        kept = [crop[crop.min(-1) < 250] for crop in crops]
        return [float(pixels[:, channel].mean() - pixels.mean()) for pixels in kept]


def test_the_best_region_answers():
    masks = pick(stored(), None, "red", Colours())
    np.testing.assert_array_equal(masks.masks, [MASKS[1]])
    assert (masks.facts["text"].tolist(), masks.facts["rank"].tolist()) == (["red"], [1])
    assert masks.scores.tolist() == pytest.approx([0.8])
    assert masks.facts["text_score"][0] == pytest.approx(200 * 2 / 3, abs=1e-3)
    assert masks.facts["text_share"][0] == pytest.approx(1, abs=1e-3)
    assert masks.image is PHOTO


def test_each_region_has_one_text():
    masks = pick(stored(), PHOTO, ["a green", "blue", "red"], Colours(), at_most=None)
    assert masks.facts["rank"].tolist() == [2, 1, 0]
    assert masks.facts["text"].tolist() == [
        "a green",
        "red",
        "red",
    ]  # nothing is more blue than something else
    shares = masks.facts["text_share"]
    assert shares.dtype == np.float32
    assert (shares >= 0).all()
    coco = masks.to_coco(labels=masks.facts["text"])
    assert [category["name"] for category in coco["categories"]] == ["a green", "red"]
    assert [shape["label"] for shape in masks.to_labelme(labels=masks.facts["text"])["shapes"]] == [
        "a green", "red", "red",
    ]  # fmt: skip


def test_thresholds_and_numbers_bound_the_answer():
    assert pick(stored(), None, ["red", "green"], Colours()).facts["rank"].tolist() == [1, 2]
    assert pick(stored(), None, "red", Colours(), at_most=2).facts["rank"].tolist() == [1, 0]
    assert pick(stored(), None, "red", Colours(), at_most=None).facts["rank"].tolist() == [1, 0, 2]
    assert pick(stored(), None, "red", Colours(), at_most=None, threshold=125).facts["rank"].tolist() == [1]
    nothing = pick(stored(), None, "red", Colours(), threshold=300)
    assert (len(nothing), nothing.facts["text"].shape, nothing.masks.shape) == (0, (0,), (0, *HW))
    assert nothing.to_coco(labels=nothing.facts["text"])["annotations"] == []


def test_shares_add_up_to_one():
    masks = pick(stored(), None, "red", lambda crops, text: [0.0] * len(crops), at_most=None)
    assert masks.facts["text_share"].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("crop", ["masked", "box", "whole"])
def test_the_scorer_sees_what_was_chosen(crop):
    scorer = Colours()
    pick(stored(), None, "red", scorer, crop=crop)
    assert len(scorer.shown) == 3
    side = scorer.shown[0].shape
    assert side == ((40, 60, 3) if crop == "whole" else (30, 30, 3))


def test_the_wider_region_takes_the_place_of_its_part():
    masks = pick(stored(), None, ["red", "green"], Colours(), wider=True)
    assert masks.facts["rank"].tolist() == [0, 2]


def test_no_regions_are_no_answer():
    empty = StoredMasks.of([], [], HW, image=PHOTO)
    for wider in (False, True):
        masks = pick(empty, None, ["red", "green"], Colours(), wider=wider)
        assert (len(masks), masks.facts["text_score"].shape) == (0, (0,))
    specks = stored()[[3]]
    assert len(pick(specks, None, "red", Colours(), at_most=None)) == 0


def test_logits_become_run_lengths():
    logits = np.where(np.stack(MASKS[:3]), 8, -8).astype(np.float32)
    masks = pick(Masks(logits, np.ones(3, np.float32), Frame(HW, HW, HW)), PHOTO, ["green"], Colours())
    assert isinstance(masks, StoredMasks)
    np.testing.assert_array_equal(masks.masks, [MASKS[2]])
    assert masks.stability().tolist() == [1.0]


@pytest.mark.parametrize(
    "texts", ["", [], ["red", ""], ["red", " red "], [1], None, [f"{n}" for n in range(300)]]
)
def test_texts_without_sense_are_refused(texts):
    with pytest.raises(PromptError, match="expected"):
        pick(stored(), None, texts, Colours())


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="expected a picture to show"):
        pick(stored(None), None, "red", Colours())
    with pytest.raises(InputError, match="expected at_most"):
        pick(stored(), None, "red", Colours(), at_most=0)
    for at_most in (2, None):
        with pytest.raises(InputError, match="with wider"):
            pick(stored(), None, "red", Colours(), at_most=at_most, wider=True)
    with pytest.raises(InputError, match="expected the picture of the regions"):
        pick(stored(None), Image.load(PIXELS[:20]), "red", Colours())
