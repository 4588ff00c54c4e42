"""Faults of the original's mask generator: those that are mended, and those kept because results depend on them."""

import types
from dataclasses import replace

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend, decoded
from samlet.compat.segment_anything import amg
from samlet.compat.segment_anything.automatic import SamAutomaticMaskGenerator
from samlet.errors import InputError
from samlet.everything import Grid, GridEngine, everything
from samlet.image import Image
from samlet.registry import resolve
from samlet.session import Session

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
LOW = {"points_per_side": 4, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.3}


def picture(hw=(60, 80)):
    return np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8)


def sam(change=None, feeds_seen=None):
    """Something like a `Sam` on the fake backend; `change` may alter the logits (N, 4, h, w)."""

    def decoder(feeds):
        if feeds_seen is not None:
            feeds_seen.append(feeds)
        outputs = decoded(feeds, CARD.stride)
        if change is not None:
            outputs["low_res_masks"] = change(outputs["low_res_masks"]).astype(np.float32)
        return outputs

    session = Session(CARD, FakeBackend({"decoder": decoder}, channels=4))
    return types.SimpleNamespace(session=session, mask_threshold=0.0, image_format="RGB")


def test_mended_nothing_in_any_crop_is_an_empty_list():
    generator = SamAutomaticMaskGenerator(sam(), **{**LOW, "pred_iou_thresh": 5.0}, crop_n_layers=1)
    assert generator.generate(picture()) == []
    generator.min_mask_region_area = 50
    assert generator.generate(picture()) == []


def test_mended_no_mask_without_a_stability_score():
    """Where all logits are below the lower threshold the score is 0/0; a bound of 0 let that through."""
    empty = sam(lambda logits: np.full_like(logits, -9))
    for bound in (0.0, 0.5):
        assert (
            SamAutomaticMaskGenerator(empty, **{**LOW, "stability_score_thresh": bound}).generate(picture())
            == []
        )
        grid = Grid(4, pred_iou_thresh=0.0, stability_score_thresh=bound)
        assert len(everything(empty.session, Image.load(picture()), grid)) == 0


def test_mended_layers_too_deep_for_their_points_keep_one():
    grids = Grid(2, crop_n_layers=2, crop_n_points_downscale_factor=2).layers()
    assert [len(points) for points in grids] == [4, 1, 1]
    assert grids[2].tolist() == [[0.5, 0.5]]
    assert [len(points) for points in amg.build_all_layer_point_grids(1, 1, 4)] == [1, 1]
    with pytest.raises(InputError, match="of at least 1, got 0"):
        amg.build_point_grid(0)


def test_mended_rows_longer_than_16_bits_count():
    logits = np.full((1, 2, 40_000), 5.0, np.float32)
    logits[0, 0] = 0.5  # above the lower threshold only
    assert amg.calculate_stability_score(logits, 0.0, 1.0).tolist() == [0.5]


def test_mended_boxes_are_whole_numbers_when_a_batch_is_empty():
    def half_of_the_batches(logits):
        half_of_the_batches.calls += 1
        return logits if half_of_the_batches.calls % 2 else np.full_like(logits, -9)

    half_of_the_batches.calls = 0
    generator = SamAutomaticMaskGenerator(sam(half_of_the_batches), **LOW, points_per_batch=2)
    records = generator.generate(picture())
    assert records
    assert {type(side) for record in records for side in (*record["bbox"], *record["crop_box"])} == {int}


def test_mended_the_network_gets_single_precision():
    seen = []
    SamAutomaticMaskGenerator(sam(feeds_seen=seen), **LOW).generate(picture())
    assert seen
    assert {array.dtype for feeds in seen for array in feeds.values()} == {np.dtype(np.float32)}


def test_mended_crops_without_pixels_are_left_out():
    boxes, _ = amg.generate_crop_boxes((3, 3), 3, 0.3)
    assert all(x1 > x0 and y1 > y0 for x0, y0, x1, y1 in boxes)
    SamAutomaticMaskGenerator(sam(), **LOW, crop_n_layers=3).generate(picture((3, 3)))


def test_mended_clean_up_needs_no_opencv(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    assert SamAutomaticMaskGenerator(sam(), **LOW, min_mask_region_area=20).generate(picture())


def test_kept_box_sides_are_one_less_than_the_pixels_they_cover():
    for record in SamAutomaticMaskGenerator(sam(), **LOW).generate(picture()):
        rows, columns = np.nonzero(record["segmentation"])
        x, y, width, height = record["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns), np.ptp(rows))
        assert record["area"] == len(rows)


def test_kept_masks_within_20_pixels_of_a_crop_edge_are_dropped():
    crop, whole = [0, 0, 100, 100], [0, 0, 200, 100]
    boxes = np.array([[10, 10, 80, 90], [10, 10, 79, 90]])
    assert amg.is_box_near_crop_edge(boxes, crop, whole).tolist() == [True, False]


def test_kept_scores_are_not_measured_again_after_clean_up():
    rng = np.random.default_rng(1)
    specks = np.where(rng.random((48, 64)) < 0.05, -9.0, 0.0)
    rough = sam(lambda logits: logits + specks)
    settings = {**LOW, "box_nms_thresh": 1.0, "crop_nms_thresh": 1.0}
    before = SamAutomaticMaskGenerator(rough, **settings).generate(picture())
    after = SamAutomaticMaskGenerator(rough, **settings, min_mask_region_area=40).generate(picture())
    facts = [
        sorted((one["predicted_iou"], one["stability_score"], *one["point_coords"][0]) for one in records)
        for records in (before, after)
    ]
    assert facts[0] == facts[1]
    assert sum(one["area"] for one in after) > sum(one["area"] for one in before)


def test_kept_stability_is_not_a_number_for_empty_masks():
    scores = amg.calculate_stability_score(np.full((2, 3, 3), -9.0, np.float32), 0.0, 1.0)
    assert np.isnan(scores).all()


def test_the_generator_turns_colours_for_models_that_want_them_so():
    seen = {}

    def like(image_format):
        def encoder(feeds):
            seen[image_format] = feeds["image"]
            return FakeBackend(channels=4).open("encoder").run(feeds)

        session = Session(
            replace(CARD, mean=(0, 0, 0), std=(1, 1, 1)), FakeBackend({"encoder": encoder}, channels=4)
        )
        return types.SimpleNamespace(session=session, mask_threshold=0.0, image_format=image_format)

    for image_format in ("RGB", "BGR"):
        SamAutomaticMaskGenerator(like(image_format), **LOW).generate(picture())
    np.testing.assert_array_equal(seen["RGB"][:, ::-1], seen["BGR"])


def test_settings_are_attributes_that_may_change():
    generator = SamAutomaticMaskGenerator(sam(), **LOW, output_mode="coco_rle")
    many = generator.generate(picture())
    generator.box_nms_thresh = 0.1
    assert 0 < len(generator.generate(picture())) < len(many)
    assert isinstance(many[0]["segmentation"]["counts"], str)
    assert many[0]["segmentation"]["size"] == [60, 80]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"point_grids": [np.ones((1, 2))]}, "got both"),
        ({"output_mode": "png"}, "expected output_mode"),
        ({"pred_iou_thresh": None}, "expected pred_iou_thresh"),
    ],
)
def test_wrong_settings_raise_what_the_original_raises(settings, message):
    with pytest.raises(AssertionError, match=message):
        SamAutomaticMaskGenerator(sam(), **settings)


def test_a_threshold_of_the_model_is_heeded():
    high = sam()
    high.mask_threshold = 3.0
    low_areas, high_areas = (
        [
            one["area"]
            for one in SamAutomaticMaskGenerator(one_of, **LOW, box_nms_thresh=1.0).generate(picture())
        ]
        for one_of in (sam(), high)
    )
    assert max(high_areas) < max(low_areas)
    engine = GridEngine(high.session, Grid(**LOW), mask_threshold=3.0)
    engine.initialize(Image.load(picture()))
    assert engine.generate().areas.max() < max(low_areas)
