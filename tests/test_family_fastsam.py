"""FastSAM's and the object-aware family: embeddings, prompts, boxes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samlet import backends
from samlet.embedding import Embedding
from samlet.errors import BackendError, EmbeddingError, InputError, PromptError
from samlet.families import family, fastsam, object_aware
from samlet.geometry import Frame
from samlet.image import Image
from samlet.instances import rules_of
from samlet.model import Model
from samlet.registry import resolve
from samlet.session import Session
from tests.fastsam_scenes import CARD, HW, OBJECT_AWARE, Thing, model_of, network, picture

FRAME = Frame.letterbox(HW, 256, multiple=32)
RULES = rules_of(CARD)


def view(*things: Thing, frame: Frame = FRAME, card: Any = CARD) -> Embedding:
    arrays = family(card.family).embedding_arrays(network(things, frame), card)
    return Embedding(arrays, frame, card.name, card.digest)


# --- the embedding ----------------------------------------------------------------------------------------------


def test_the_embedding_keeps_what_any_threshold_could_want() -> None:
    outputs = network([Thing((8, 8, 40, 40), 0.3), Thing((60, 8, 90, 40), 0.8)], FRAME)
    outputs["candidates"][0, 4, 1] = 0.001
    arrays = fastsam.embedding_arrays(outputs, CARD)
    assert arrays["candidates"][:, 4].tolist() == pytest.approx([0.8, 0.3])
    assert (arrays["candidates"].shape, arrays["protos"].shape) == ((2, 37), (32, 32, 64))


@pytest.mark.parametrize("broken", ["candidates", "protos", "nan", "inf"])
def test_a_network_that_gives_something_else_is_refused(broken: str) -> None:
    outputs = network([Thing((8, 8, 40, 40))], FRAME)
    if broken == "nan":
        outputs["candidates"][0, 0, 0] = np.nan
    elif broken == "inf":
        outputs["protos"][0, 0, 0, 0] = np.inf
    else:
        outputs[broken] = outputs[broken][:, :-1]
    with pytest.raises(BackendError, match="install the model again"):
        fastsam.embedding_arrays(outputs, CARD)


def test_an_embedding_answers_the_same_after_saving(tmp_path: Path) -> None:
    before = view(Thing((8, 8, 40, 40)), Thing((60, 8, 90, 40), 0.7, round=True))
    before.save(tmp_path / "scene.safetensors")
    after = Embedding.load(tmp_path / "scene.safetensors")
    assert after.frame == before.frame
    one, two = fastsam.instances(before, CARD), fastsam.instances(after, CARD)
    assert one.rles == two.rles
    assert len(one) == 2


@pytest.mark.parametrize(
    "arrays",
    [
        {"candidates": np.zeros((3, 4), np.float32)},
        {"candidates": np.zeros((3, 37), np.float32), "protos": np.zeros((31, 32, 64), np.float32)},
        {"candidates": np.zeros((3, 37), np.float32), "protos": np.zeros((32, 31, 64), np.float32)},
        {"candidates": np.zeros((3, 37), np.float64)},
        {"protos": np.zeros((32, 32, 64), np.float32)},
    ],
)
def test_a_file_with_other_arrays_is_no_embedding(arrays: Any, tmp_path: Path) -> None:
    Embedding(arrays, FRAME, CARD.name, CARD.digest).save(tmp_path / "x.safetensors")
    with pytest.raises(EmbeddingError, match="embed the picture again"):
        Embedding.load(tmp_path / "x.safetensors")


def test_thresholds_change_without_another_run() -> None:
    model, backend = model_of([Thing((8, 8, 40, 40), 0.3), Thing((60, 8, 90, 40), 0.8)])
    embedding = model.embed(picture())
    assert len(fastsam.instances(embedding, CARD)) == 1
    assert len(fastsam.instances(embedding, CARD, rules_of(CARD, conf=0.2))) == 2
    assert len(fastsam.instances(embedding, CARD, rules_of(CARD, conf=0.2, max_det=1))) == 1
    assert len(backend.fed) == 1


def test_instances_are_worked_out_once_for_many_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = view(Thing((8, 8, 40, 40)))
    first = fastsam.instances(embedding, CARD)
    monkeypatch.setattr(fastsam, "detect", None)
    assert fastsam.instances(embedding, CARD) is first
    # A copy with another frame must not inherit masks of this one.
    assert not replace(embedding, frame=FRAME).derived


# --- prompts ------------------------------------------------------------------------------------------------------

SCENE = (Thing((0, 0, 256, 120), 0.5), Thing((40, 20, 120, 100), 0.9), Thing((60, 40, 80, 60), 0.8))


def test_each_prompt_has_its_answer_in_order() -> None:
    model, _ = model_of(SCENE)
    masks = model.segment(
        picture(), boxes=[[60, 40, 80, 60], [38, 22, 121, 99], [0, 0, 256, 120], [60, 40, 80, 60]]
    )
    np.testing.assert_array_equal(masks.masks, [SCENE[i].mask() for i in (2, 1, 0, 2)])
    assert masks.scores.tolist() == pytest.approx([0.8, 0.9, 0.5, 0.8])
    assert masks.draw().size == HW[::-1]


def test_clicks_carve() -> None:
    model, _ = model_of(SCENE)
    points = [[[70, 50], [50, 30]], [[250, 10], [50, 30]], [[50, 30], [70, 50]]]
    masks = model.segment(picture(), points=points, labels=[[0, 1], [0, -1], [1, 1]])
    ring = SCENE[1].mask() & ~SCENE[2].mask()
    np.testing.assert_array_equal(masks.masks[0], SCENE[0].mask() & ~SCENE[2].mask())
    assert not masks.masks[1].any()  # background clicks alone leave nothing
    np.testing.assert_array_equal(masks.masks[2], SCENE[0].mask())
    assert ring.any()
    assert masks.scores.tolist() == pytest.approx([0.9, 0, 0.9])


def test_a_box_with_clicks_takes_what_agrees_with_the_clicks() -> None:
    model, _ = model_of(SCENE)
    masks = model.segment(
        picture(),
        boxes=[[40, 20, 120, 100], [40, 20, 120, 100], [40, 20, 120, 100]],
        points=[[[70, 50], [250, 10]], [[70, 50], [50, 30]], [[70, 50], [50, 30]]],
        labels=[[1, 1], [1, 0], [1, -1]],
    )
    np.testing.assert_array_equal(masks.masks, [SCENE[i].mask() for i in (0, 2, 1)])


def test_a_click_on_the_last_edge_of_the_picture_counts() -> None:
    model, _ = model_of([Thing((200, 80, 256, 120))])
    masks = model.segment(picture(), points=[[[256, 120]], [[0, 0]]])
    assert masks.areas.tolist() == [56 * 40, 0]


def test_a_box_thinner_than_a_pixel_still_points_somewhere() -> None:
    model, _ = model_of(SCENE[1:])
    masks = model.segment(picture(), boxes=[[70.1, 50.1, 70.3, 50.4]])
    np.testing.assert_array_equal(masks.masks[0], SCENE[2].mask())


@pytest.mark.parametrize(
    ("options", "error"),
    [({"multimask": True}, InputError), ({"hint": np.zeros((64, 64), np.float32)}, PromptError)],
)
def test_what_it_cannot_do_is_said(options: Any, error: Any) -> None:
    model, _ = model_of(SCENE)
    with pytest.raises(error, match="leave it out"):
        model.segment(picture(), points=[50, 30], **options)


def test_an_embedding_of_another_kind_is_refused() -> None:
    strange = Embedding({"image_embeddings": np.zeros((1, 4, 8, 16), np.float32)}, FRAME, "x", "y")
    for ask in (lambda: fastsam.instances(strange, CARD), lambda: object_aware.boxes(strange, OBJECT_AWARE)):
        with pytest.raises(EmbeddingError, match="embed the picture again"):
            ask()


@settings(max_examples=25, deadline=None)
@given(
    hw=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    seed=st.integers(0, 2**16),
    retina=st.booleans(),
    registration=st.sampled_from(["cells", "exact"]),
)
def test_any_picture_and_any_output_give_masks(hw: Any, seed: int, retina: bool, registration: Any) -> None:
    random = np.random.default_rng(seed)
    frame = Frame.letterbox(hw, 256, multiple=32)
    rows = random.normal(scale=100, size=(12, 37)).astype(np.float32)
    rows[:, 4] = np.sort(random.uniform(0, 1, 12))[::-1]
    protos = random.normal(size=(32, frame.canvas_hw[0] // 4, frame.canvas_hw[1] // 4)).astype(np.float32)
    embedding = Embedding({"candidates": rows, "protos": protos}, frame, CARD.name, CARD.digest)
    found = fastsam.instances(embedding, CARD, rules_of(CARD, retina=retina, registration=registration))
    assert found.masks.shape == (len(found), *hw)
    boxes = found.facts["box_xyxy"]
    assert ((boxes >= 0) & (boxes <= (hw[1], hw[0], hw[1], hw[0]))).all()
    if retina:  # never outside the box
        for mask, (x0, y0, x1, y1) in zip(found.masks, np.ceil(boxes).astype(int), strict=True):
            assert not mask[:y0].any() and not mask[y1:].any()
            assert not mask[:, :x0].any() and not mask[:, x1:].any()


# --- the real structure -------------------------------------------------------------------------------------------


def test_the_committed_graph_serves_the_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs have the names, shapes and meaning that the family reads; the weights are random."""
    random = np.random.default_rng(0)

    def weights(card: Any, graphs: Any) -> Any:
        (graph,) = graphs
        made = {
            name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in graph.checkpoint.items()
        }
        for name in made:
            if name.endswith("running_var"):
                made[name] = np.ones_like(made[name])
            if name.endswith("dfl.conv.weight"):
                made[name] = np.arange(made[name].size, dtype=np.float32).reshape(made[name].shape)
        return made

    monkeypatch.setattr("samlet.registry.read_weights", weights)
    model = Model(Session(resolve("fastsam_s"), backends.create("onnx"), threads=1))
    small = replace(model.card, side=128)
    feeds, frame = fastsam.feed(picture((70, 100)), small)
    embedding = model.session.encode(feeds, frame)
    assert embedding.arrays["protos"].shape == (32, frame.canvas_hw[0] // 4, frame.canvas_hw[1] // 4)
    assert (
        len(embedding.arrays["candidates"]) == 128 * 96 * 21 // 32**2
    )  # all three levels score about one half
    found = fastsam.instances(embedding, small, rules_of(small, conf=0.001, iou=0.5))
    assert len(found) >= 1
    assert found.masks.shape[1:] == (70, 100)
    boxes = embedding.arrays["candidates"][:, :4]
    assert ((boxes[:, :2] > -64) & (boxes[:, :2] < 192)).all()
    assert (boxes[:, 2:] > 0).all()


# --- the object-aware detector ---------------------------------------------------------------------------------------


def test_object_aware_boxes_are_in_picture_pixels() -> None:
    hw = (240, 512)
    frame = Frame.letterbox(hw, 256, multiple=32)
    things = [
        Thing((100, 60, 200, 120), 0.9),
        Thing((10, 60, 200, 120), 0.8),
        Thing((300, 60, 380, 120), 0.3),
    ]
    embedding = view(*things, frame=frame, card=OBJECT_AWARE)
    assert embedding.arrays["candidates"].shape == (3, 5)  # the coefficients mean nothing without prototypes
    boxes, scores = object_aware.boxes(embedding, OBJECT_AWARE)
    assert boxes.tolist() == [
        [100, 60, 200, 120],
        [0, 60, 200, 120],
    ]  # 5 canvas pixels from the border: snapped
    assert scores.tolist() == pytest.approx([0.9, 0.8])
    boxes, _ = object_aware.boxes(embedding, OBJECT_AWARE, conf=0.1, border_snap=0)
    assert boxes[1].tolist() == [10, 60, 200, 120]
    assert len(boxes) == 3


@pytest.mark.parametrize("max_det", [300, 320])
def test_the_paper_takes_320_boxes_and_its_code_300(max_det: int) -> None:
    at = [(x, y) for y in range(32, 96, 3) for x in range(32, 224, 8)][:400]
    things = [Thing((x, y, x + 2, y + 2), 0.9 - number / 1000) for number, (x, y) in enumerate(at)]
    boxes, scores = object_aware.boxes(view(*things, card=OBJECT_AWARE), OBJECT_AWARE, max_det=max_det)
    assert (len(boxes), len(scores)) == (max_det, max_det)
    assert (np.diff(scores) <= 0).all()


def test_object_aware_keeps_nearly_full_boxes_and_finds_nothing_in_peace() -> None:
    boxes, _ = object_aware.boxes(view(Thing((21, 1, 256, 120)), card=OBJECT_AWARE), OBJECT_AWARE)
    assert boxes.tolist() == [[21, 0, 256, 120]]
    boxes, scores = object_aware.boxes(view(card=OBJECT_AWARE), OBJECT_AWARE)
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


def test_object_aware_makes_no_masks() -> None:
    model, _ = model_of(SCENE, card=OBJECT_AWARE)
    with pytest.raises(InputError, match="only finds boxes"):
        model.segment(picture(), points=[50, 30])
    outputs = network(SCENE, FRAME)
    outputs["candidates"] = outputs["candidates"][:, :4]
    with pytest.raises(BackendError, match="install the model again"):
        object_aware.embedding_arrays(outputs, OBJECT_AWARE)


def test_a_picture_larger_than_the_canvas_is_answered_in_its_own_pixels() -> None:
    hw = (480, 1024)
    model, _ = model_of([Thing((320, 160, 640, 320))], hw)
    masks = model.segment(Image.load(np.zeros((*hw, 3), np.uint8)), points=[400, 200])
    np.testing.assert_array_equal(masks.masks[0], Thing((320, 160, 640, 320)).mask(hw))
