"""Object-aware everything mode: boxes from a head or a detector, one mask each, scores exposed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from samlet.backends.fake import FakeBackend
from samlet.errors import EmbeddingError, InputError
from samlet.everything import Objects, masks_of_boxes, object_boxes, objects
from samlet.geometry import Frame, mask_iou
from samlet.image import Image
from samlet.registry import resolve
from samlet.session import Session
from tests.fastsam_scenes import OBJECT_AWARE, SceneBackend, Thing, network

NANO = resolve("nano")
WITH_HEAD = replace(NANO, graphs={**NANO.graphs, "objects": "nano_objects.onnx"})
WITHOUT = replace(NANO, graphs={role: NANO.graphs[role] for role in ("encoder", "decoder")})
PICTURE = Image.load(np.random.default_rng(1).integers(0, 255, (60, 100, 3), np.uint8))


def halves(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Find the middle, the left half, the right half, and nearly the left half again."""
    height, width = (8 * side for side in feeds["image_embeddings"].shape[2:])
    shares = [[0.25, 0.25, 0.75, 0.75], [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 0.49, 1]]
    boxes = np.array([shares], np.float32) * np.array([width, height, width, height], np.float32)
    return {"boxes": boxes, "scores": np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)}


@pytest.fixture
def session() -> Session:
    return Session(WITH_HEAD, FakeBackend({"objects": halves}))


def test_boxes_of_the_head_are_picture_pixels_best_first(session: Session) -> None:
    boxes, scores = session.objects(session.embed(PICTURE))
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.7])  # the fourth is nearly the second
    frame = session.embed(PICTURE).frame
    right = frame.canvas_hw[1] * 100 / frame.scaled_hw[1]
    np.testing.assert_allclose(boxes[1], [0, 0, right / 2, 60], atol=1e-4)
    assert boxes.max() <= 100
    few, _ = session.objects(session.embed(PICTURE), at_most=1, iou=1.0)
    assert few.shape == (1, 4)


def test_one_mask_a_box_in_the_order_of_the_rank(session: Session) -> None:
    masks = objects(session, PICTURE)
    assert len(masks) == 3
    assert (np.diff(masks.scores) <= 0).all()
    for fact in ("box_score", "predicted_iou", "stability_score"):
        assert masks.facts[fact].shape == (3,)
    for mask, box in zip(masks.masks, masks.facts["prompt_box"], strict=True):
        wanted = np.zeros(PICTURE.hw, bool)
        x0, y0, x1, y1 = np.rint(box).astype(int)
        wanted[y0:y1, x0:x1] = True
        assert mask_iou(mask, wanted) > 0.9
    np.testing.assert_allclose(
        masks.scores, masks.facts["box_score"] * masks.facts["stability_score"], rtol=1e-6
    )


def test_the_rank_may_be_another(session: Session) -> None:
    box, both, mask = (objects(session, PICTURE, Objects(rank=rank)) for rank in ("box", "both", "mask"))
    np.testing.assert_array_equal(box.scores, box.facts["box_score"])
    share = np.clip(both.facts["predicted_iou"], 0, 1)
    np.testing.assert_allclose(both.scores, np.sqrt(both.facts["box_score"] * share), rtol=1e-6)
    np.testing.assert_array_equal(mask.scores, np.clip(mask.facts["predicted_iou"], 0, 1))


def test_the_same_masks_as_segment_gives(session: Session) -> None:
    view = session.embed(PICTURE)
    from samlet.prompt import Prompt

    boxes, _ = object_boxes(session, view)
    rles, scores, stability = masks_of_boxes(session, view, boxes)
    plain = session.segment(view, Prompt(boxes=boxes))
    np.testing.assert_allclose(scores, plain.scores)
    assert ((stability > 0) & (stability <= 1)).all()
    assert plain.to_rle(compressed=False) == rles


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Objects(at_most=1), 1),
        (Objects(min_box_score=0.75), 2),
        (Objects(min_score=0.99), 0),
        (Objects(box_iou=1.0, mask_iou=1.0), 4),
        (Objects(box_iou=1.0), 3),
        (Objects(box_iou=1.0, mask_iou=0.99), 4),
    ],
)
def test_settings_do_what_they_say(session: Session, wanted: Objects, count: int) -> None:
    assert len(objects(session, PICTURE, wanted)) == count


def test_nothing_found_is_an_empty_answer() -> None:
    def nothing(feeds: object) -> dict[str, np.ndarray]:
        return {"boxes": np.zeros((1, 0, 4), np.float32), "scores": np.zeros((1, 0), np.float32)}

    masks = objects(Session(WITH_HEAD, FakeBackend({"objects": nothing})), PICTURE)
    assert (len(masks), masks.masks.shape) == (0, (0, 60, 100))


def test_a_model_without_a_head_takes_anothers_boxes(session: Session) -> None:
    plain = Session(WITHOUT, FakeBackend())
    with pytest.raises(InputError, match="object head, such as nano"):
        objects(plain, PICTURE)
    assert not plain.has_objects
    theirs = objects(plain, PICTURE, detector=session)
    assert theirs.to_rle() == objects(session, PICTURE).to_rle()
    with pytest.raises(InputError, match="such as object_aware or nano"):
        objects(plain, PICTURE, detector=plain)
    with pytest.raises(InputError, match="holds its picture"):
        objects(plain, replace(plain.embed(PICTURE), image=None), detector=session)


def detector_of(*things: Thing) -> Session:
    """MobileSAMv2's detector, which finds these things on whatever picture it is shown."""
    frame = Frame.letterbox(PICTURE.hw, OBJECT_AWARE.side, multiple=32)
    return Session(OBJECT_AWARE, SceneBackend(lambda feeds: network(things, frame)))


def test_mobile_sam_v2s_detector_prompts_another_model() -> None:
    """The published pipeline: boxes above 0.4 that overlap by up to 0.9, one mask each, in the detector's order."""
    things = (
        Thing((30, 10, 70, 50), 0.9),
        Thing((30, 10, 70, 48), 0.8),  # overlaps the first by 0.95
        Thing((30, 10, 70, 45), 0.7),  # by 0.88
        Thing((75, 10, 90, 50), 0.3),
    )
    masks = objects(
        Session(WITHOUT, FakeBackend()), PICTURE, Objects.mobile_sam_v2(), detector=detector_of(*things)
    )
    assert masks.facts["box_score"].tolist() == pytest.approx([0.9, 0.7])
    np.testing.assert_array_equal(masks.scores, masks.facts["box_score"])
    np.testing.assert_allclose(masks.facts["prompt_box"], [things[0].box, things[2].box], atol=1e-3)
    assert np.isfinite(masks.facts["predicted_iou"]).all()  # MobileSAMv2's code throws the scores away


@pytest.mark.parametrize(("at_most", "count"), [(300, 300), (320, 320)])
def test_mobile_sam_v2_may_take_320_boxes(at_most: int, count: int) -> None:
    """The paper's 320 could never be reached: its code leaves the detector's bound at 300."""
    things = [
        Thing((x, y, x + 2, y + 2), 0.9 - number / 1000)
        for number, (x, y) in enumerate((4 * (n % 24) + 1, 4 * (n // 24) + 1) for n in range(330))
    ]
    session = Session(WITHOUT, FakeBackend())
    boxes, scores = object_boxes(
        session,
        session.embed(PICTURE),
        Objects.mobile_sam_v2(at_most=at_most),
        detector=detector_of(*things),
    )
    assert boxes.shape == (count, 4) and (np.diff(scores) <= 0).all()


def test_a_detector_that_finds_nothing_is_an_empty_answer() -> None:
    """MobileSAMv2's script ends with an IndexError there."""
    masks = objects(Session(WITHOUT, FakeBackend()), PICTURE, Objects.mobile_sam_v2(), detector=detector_of())
    assert len(masks) == 0 and masks.image is not None


def test_an_embedding_of_another_model_is_refused(session: Session) -> None:
    other = Session(replace(WITH_HEAD, side=256, mask_grid=128), FakeBackend())
    with pytest.raises(EmbeddingError):
        session.objects(other.embed(PICTURE))


def test_progress_counts_boxes(session: Session) -> None:
    seen: list[tuple[int, int]] = []
    objects(session, PICTURE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 3)]


@pytest.mark.parametrize(
    "changes",
    [
        {"at_most": 0},
        {"at_most": 2.5},
        {"box_iou": 1.5},
        {"mask_iou": -1},
        {"min_score": True},
        {"rank": "size"},
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        Objects(**changes)  # type: ignore[arg-type]
