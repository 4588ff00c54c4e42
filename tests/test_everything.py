"""Everything mode on a drawn model: what it finds, what moving thresholds costs, and what it keeps in memory."""

import logging
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend, decoded
from samlet.components import label
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.everything import Grid, GridEngine, everything
from samlet.everything.pack import Packed
from samlet.geometry import mask_iou
from samlet.image import Image
from samlet.registry import resolve
from samlet.session import Session

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
HW = (60, 80)
GRID = Grid(points_per_side=5, pred_iou_thresh=0.65, stability_score_thresh=0.6)


def picture(hw=HW):
    return Image.load(np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8))


class Counted:
    """A session on the fake backend that counts its runs."""

    def __init__(self):
        self.encoded = self.decoded = 0
        self.largest = 0
        fake = FakeBackend(channels=4)
        encode = fake.open("encoder").run

        def encoder(feeds):
            self.encoded += 1
            return encode(feeds)

        def decoder(feeds):
            self.decoded += len(feeds["point_coords"])
            self.largest = max(self.largest, len(feeds["point_coords"]))
            return decoded(feeds, CARD.stride)

        self.session = Session(CARD, FakeBackend({"encoder": encoder, "decoder": decoder}, channels=4))


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_masks_surround_their_clicks(mode):
    masks = everything(Counted().session, picture(), replace(GRID, box_nms_thresh=0.3), mode=mode)
    assert len(masks) > 4
    assert (np.diff(masks.scores) <= 0).all()
    assert masks.image is not None
    assert masks.scores.dtype == np.float32
    for mask, (x, y) in zip(masks.masks, masks.facts["point_coords"], strict=True):
        assert mask[int(y), int(x)]
    assert (masks.facts["stability_score"] >= 0.6).all()
    assert np.unique(masks.facts["crop_box"], axis=0).tolist() == [[0, 0, 80, 60]]
    assert masks.to_coco()["annotations"][0]["area"] == masks.areas[0]


def test_the_two_modes_agree_on_smooth_masks():
    grid = replace(GRID, box_nms_thresh=0.5)
    fast, exact = (everything(Counted().session, picture(), grid, mode=mode) for mode in ("fast", "exact"))
    assert len(fast) == len(exact)
    for one, other in zip(fast.masks, exact.masks, strict=True):
        assert mask_iou(one, other) > 0.97


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_tighter_thresholds_run_nothing(mode):
    counted = Counted()
    engine = GridEngine(counted.session, GRID, mode=mode)
    engine.initialize(picture(), score_floor=0.5, stability_floor=0.3)
    runs = (counted.encoded, counted.decoded)
    assert runs == (1, 25)
    loose = engine.generate(pred_iou_thresh=0.5, stability_score_thresh=0.3, box_nms_thresh=1.0)
    tight = engine.generate(pred_iou_thresh=0.75, stability_score_thresh=0.3, box_nms_thresh=1.0)
    assert len(loose) > len(tight) > 0
    assert len(engine.generate(box_nms_thresh=0.1)) < len(engine.generate(box_nms_thresh=0.9))
    assert len(engine.generate(min_mask_region_area=10)) > 0
    assert (counted.encoded, counted.decoded) == runs
    assert engine.decodings == 1
    fresh = everything(
        counted.session, picture(), replace(GRID, pred_iou_thresh=0.75, box_nms_thresh=1.0), mode=mode
    )
    again = engine.generate(pred_iou_thresh=0.75, box_nms_thresh=1.0)
    assert again.rles == fresh.rles


def test_looser_thresholds_decode_again_and_say_so(caplog):
    counted = Counted()
    engine = GridEngine(counted.session, GRID)
    engine.initialize(picture(), score_floor=0.75)
    with caplog.at_level(logging.WARNING, logger="samlet.everything"):
        engine.generate(pred_iou_thresh=0.8)
        assert not caplog.records
        assert len(engine.generate(pred_iou_thresh=0.5)) > len(engine.generate(pred_iou_thresh=0.75))
    assert "decoded again" in caplog.text
    assert engine.decodings == 2
    assert (counted.encoded, counted.decoded) == (1, 50)  # the embedding was kept
    engine.generate(pred_iou_thresh=0.5)
    assert engine.decodings == 2


def test_an_embedding_is_not_made_again():
    counted = Counted()
    view = counted.session.embed(picture())
    masks = everything(counted.session, view, GRID)
    assert counted.encoded == 1
    assert masks.rles == everything(counted.session, picture(), GRID).rles


def test_crops_look_at_parts_of_the_picture():
    counted = Counted()
    grid = replace(GRID, crop_n_layers=1, crop_n_points_downscale_factor=2, crop_nms_thresh=0.5)
    steps = []
    big = picture((240, 320))
    masks = everything(counted.session, big, grid, progress=lambda done, total: steps.append((done, total)))
    assert counted.encoded == 5
    assert counted.decoded == 25 + 4 * 4
    assert steps[-1] == (41, 41)
    boxes = masks.facts["crop_box"]
    assert len(np.unique(boxes, axis=0)) > 1
    points = masks.facts["point_coords"]
    assert (points >= boxes[:, :2]).all()
    assert (points <= boxes[:, :2] + boxes[:, 2:]).all()
    for mask, (x, y) in zip(masks.iter_masks(), points, strict=True):
        assert mask[int(y), int(x)]


def test_crops_of_an_embedding_need_its_picture():
    counted = Counted()
    view = counted.session.embed(picture())
    bare = Embedding(view.arrays, view.frame, view.model, view.digest)
    assert len(everything(counted.session, bare, GRID)) > 0
    with pytest.raises(InputError, match="cannot be cropped"):
        everything(counted.session, bare, replace(GRID, crop_n_layers=1))


def test_clean_up_fills_holes_and_drops_specks():
    rng = np.random.default_rng(1)
    specks = np.where(rng.random((48, 64)) < 0.03, -9.0, 0.0) + np.where(
        rng.random((48, 64)) < 0.01, 9.0, 0.0
    )

    def decoder(feeds):
        outputs = decoded(feeds, CARD.stride)
        outputs["low_res_masks"] = (outputs["low_res_masks"] + specks).astype(np.float32)
        return outputs

    session = Session(CARD, FakeBackend({"decoder": decoder}, channels=4))
    grid = replace(GRID, points_per_side=3, stability_score_thresh=0.2)
    rough = everything(session, picture(), grid)
    clean = everything(session, picture(), replace(grid, min_mask_region_area=60))
    assert any(len(label(mask)[1]) > 1 for mask in rough.masks)
    assert len(clean) > 0
    for mask in clean.masks:
        parts, holes = label(mask)[1], label(~mask)[1]
        assert len(parts) == 1 or parts.min() >= 60
        assert holes.min() >= 60


def test_memory_does_not_grow_with_the_number_of_clicks():
    """Batches are small, what fails the floor is dropped at once, and what passes takes a byte a cell."""

    def peak(side):
        counted = Counted()
        engine = GridEngine(counted.session, Grid(side, pred_iou_thresh=2.0))
        tracemalloc.start()
        engine.initialize(picture(), score_floor=2.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert counted.largest <= GRID.points_per_batch
        return most

    peak(4)
    assert peak(24) < 1.2 * peak(8)
    engine = GridEngine(Counted().session, GRID)
    engine.initialize(picture(), score_floor=0.0, stability_floor=0.0)
    assert all(isinstance(shape, Packed) and shape.codes.nbytes <= 48 * 64 for shape in engine._found.shapes)


@pytest.mark.parametrize("hw", [(1, 1), (1, 200), (300, 2), (7, 5)])
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_odd_pictures(hw, mode):
    grid = replace(GRID, points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0.1)
    masks = everything(Counted().session, picture(hw), grid, mode=mode)
    assert masks.masks.shape == (len(masks), *hw)
    assert (masks.areas > 0).any()


def test_generate_needs_a_picture():
    with pytest.raises(InputError, match=r"call initialize\(image\)"):
        GridEngine(Counted().session).generate()


def test_wrong_mode_and_wrong_model_are_refused():
    with pytest.raises(InputError, match="expected mode 'fast' or 'exact'"):
        GridEngine(Counted().session, mode="quick")
    selecting = Counted().session
    selecting.card = replace(CARD, family="fastsam")
    with pytest.raises(InputError, match="expected a model that answers clicks"):
        GridEngine(selecting)


def test_a_threshold_out_of_range_is_refused():
    engine = GridEngine(Counted().session, GRID)
    engine.initialize(picture())
    with pytest.raises(InputError, match="expected box_nms_thresh from 0 to 1, got 7"):
        engine.generate(box_nms_thresh=7)


def test_the_modes_agree_on_a_photograph(sample):
    """nano on the cup of coffee: measured on 32 x 32 clicks in docs/explanation/everything.md, here on 8 x 8."""
    import samlet

    session = samlet.load(threads=1).session
    view = session.embed(Image.load(sample("coffee")))
    decode, answers = session.passing, {}

    def remembered(
        embedding, prompt, **options
    ):  # both modes ask the same, so the network need answer only once
        key = prompt.points.tobytes()
        if key not in answers:
            answers[key] = decode(embedding, prompt, **options)
        return answers[key]

    session.passing = remembered
    grid = Grid(8, pred_iou_thresh=0.2, stability_score_thresh=0.5)
    fast, exact = (everything(session, view, grid, mode=mode) for mode in ("fast", "exact"))
    assert 1 < len(answers) <= 8
    assert min(len(fast), len(exact)) >= 15
    overlaps = np.array([[mask_iou(one, other) for other in fast.masks] for one in exact.masks])
    assert (overlaps.max(axis=1) >= 0.95).mean() >= 0.85
    assert (overlaps.max(axis=0) >= 0.95).mean() >= 0.85
