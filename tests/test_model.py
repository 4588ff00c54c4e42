"""The facade: pictures and prompts in the forms people have them, and the second look at small boxes."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import samlet
from samlet import zoom
from samlet.backends.base import Array
from samlet.backends.fake import FakeBackend, pooled
from samlet.embedding import Embedding
from samlet.errors import (
    EmbeddingError,
    ImageError,
    InputError,
    LimitError,
    ModelError,
    PromptError,
    UnknownModelError,
)
from samlet.families import family
from samlet.geometry import Frame
from samlet.image import Image
from samlet.limits import Limits
from samlet.masks import Masks
from samlet.model import Model
from samlet.prompt import Prompt
from samlet.registry import resolve
from samlet.session import Session
from tests.fastsam_scenes import SceneBackend

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
PIXELS = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def fake_model(*, limits: Limits | None = None) -> Model:
    return Model(Session(CARD, FakeBackend(channels=4)), limits=limits or Limits())


@pytest.fixture
def encodings() -> list[tuple[int, ...]]:
    """Collect the sizes of what was encoded."""
    return []


@pytest.fixture
def counting(encodings: list[tuple[int, ...]]) -> Model:
    """Give a model that reports each encoding."""

    def encoder(feeds: Any) -> dict[str, Array]:
        encodings.append(feeds["image"].shape[2:])
        return {"image_embeddings": pooled(feeds["image"], CARD.stride, 4)}

    return Model(Session(CARD, FakeBackend({"encoder": encoder}, channels=4)))


def test_every_kind_of_picture(tmp_path: Path) -> None:
    model = fake_model()
    path, buffer = tmp_path / "photo.png", BytesIO()
    picture = PillowImage.fromarray(PIXELS)
    picture.save(path)
    picture.save(buffer, "PNG")
    kinds = [PIXELS, picture, path, str(path), buffer.getvalue(), Image.load(PIXELS), model.embed(PIXELS)]
    answers = [model.segment(kind, points=[40, 30]) for kind in kinds]
    for masks in answers:
        np.testing.assert_array_equal(masks.logits, answers[0].logits)
    assert answers[0].masks[0, 30, 40]


def test_masks_carry_picture_and_prompt() -> None:
    masks = fake_model().segment(PIXELS, boxes=[[0, 0, 40, 30], [40, 30, 80, 60]])
    assert masks.image is not None
    assert masks.prompt is not None
    np.testing.assert_array_equal(masks.image.pixels, PIXELS)
    assert (len(masks), len(masks.prompt)) == (2, 2)
    assert masks.draw().size == (80, 60)


def test_refinement() -> None:
    model = fake_model()
    view = model.embed(PIXELS)
    first = model.segment(view, points=[40, 30], multimask=True)
    second = model.segment(view, points=[[40, 30], [60, 30]], labels=[1, 0], hint=first.hint)
    assert second.masks[0, 30, 40]
    assert not second.masks[0, 30, 60]


def test_a_loaded_view_has_no_picture(tmp_path: Path) -> None:
    model = fake_model()
    model.embed(PIXELS).save(tmp_path / "view")
    masks = model.segment(Embedding.load(tmp_path / "view"), boxes=[30, 20, 40, 30], zoom="auto")
    np.testing.assert_array_equal(masks.logits, model.segment(PIXELS, boxes=[30, 20, 40, 30]).logits)
    assert masks.image is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, PromptError),
        ({"points": [90, 30]}, PromptError),
        ({"points": [np.nan, 30]}, PromptError),
        ({"labels": [1]}, PromptError),
        ({"points": [1, 1], "labels": [7]}, PromptError),
        ({"boxes": [10, 10, 10, 20]}, PromptError),
        ({"boxes": [20, 20, 10, 10]}, PromptError),
        ({"points": [1, 1], "hint": np.zeros((9, 9))}, PromptError),
        ({"points": np.zeros((1, 100_000, 2))}, LimitError),
        ({"points": [1, 1], "zoom": "on"}, InputError),
        ({"points": [1, 1], "zoom": None}, InputError),
    ],
)
def test_wrong_prompts(arguments: dict[str, Any], error: type[Exception]) -> None:
    model = fake_model()
    with pytest.raises(error):
        model.segment(PIXELS, **arguments)
    with pytest.raises(error):
        model.segment(model.embed(PIXELS), **arguments)


def test_a_wrong_prompt_costs_no_encoding(counting: Model, encodings: list[tuple[int, ...]]) -> None:
    with pytest.raises(PromptError):
        counting.segment(PIXELS, points=[-1, 0])
    assert encodings == []


def test_wrong_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        fake_model().embed(tmp_path / "none.jpg")
    with pytest.raises(LimitError):
        fake_model(limits=Limits(max_pixels=100)).embed(PIXELS)


def test_a_view_of_another_model() -> None:
    other = Model(Session(replace(CARD, std=(1.0, 1.0, 1.0)), FakeBackend(channels=4)))
    with pytest.raises(EmbeddingError, match="embed the picture again"):
        other.segment(fake_model().embed(PIXELS), points=[1, 1])


def test_a_detectors_quirks_are_settings_of_load() -> None:
    """What MobileSAMv2 does with colours and borders is chosen by name, without a card of one's own."""
    network = SceneBackend(lambda feeds: {})
    plain = samlet.load("object_aware", backend=network)
    asked = {"swap_channels": True, "border_snap": 0, "max_det": 320}
    quirky = samlet.load("object_aware", backend=network, settings=asked)
    assert quirky.card.settings == {**plain.card.settings, **asked}
    image = Image.load(PIXELS)
    feeds = [family("object_aware").feed(image, model.card)[0]["image"] for model in (plain, quirky)]
    np.testing.assert_array_equal(feeds[0][:, ::-1], feeds[1])
    assert samlet.load("nano", backend=FakeBackend(), settings={"pred_iou_thresh": 0.5}).card.settings[
        "pred_iou_thresh"
    ] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "object_aware",
            {"swap": True},
            "expected settings that object_aware has .*swap_channels.*, got 'swap'",
        ),
        ("mobile_sam", {"border_snap": 0}, r"expected settings that mobile_sam has \(none\)"),
        ("fastsam_s", {"conf": 2.0}, "expected conf and iou from 0 to 1"),
    ],
)
def test_settings_that_a_model_does_not_have(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        samlet.load(name, backend=FakeBackend(), settings=settings)


def test_load() -> None:
    model = samlet.load(backend=FakeBackend())
    assert model.card.name == "nano"
    assert repr(model) == "<Model: nano>"
    assert model.segment(PIXELS, points=[40, 30]).masks.shape == (1, 60, 80)
    assert "nano" in samlet.models()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "nanoo", "backend": FakeBackend()}, UnknownModelError, "did you mean nano"),
        ({"backend": "tensorflow"}, ModelError, "onnx, openvino, torch"),
        ({"backend": 3}, ModelError, "with open"),
        ({"backend": FakeBackend(), "threads": 0}, InputError, "at least 1"),
        ({"backend": FakeBackend(), "shape": "round"}, InputError, "expected a shape .auto, padded, fit."),
    ],
)
def test_wrong_loads(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        samlet.load(**arguments)


@pytest.mark.parametrize(
    ("name", "shape", "canvas_hw"),
    [
        ("mobile_sam", "auto", (1024, 1024)),
        ("mobile_sam", "padded", (1024, 1024)),
        ("mobile_sam", "fit", (576, 1024)),
        ("fastsam_s", "fit", (576, 1024)),
        ("nano", "auto", (288, 512)),
        ("nano", "fit", (288, 512)),
        ("nano", "padded", (512, 512)),
    ],
)
def test_the_canvas(name: str, shape: Any, canvas_hw: tuple[int, int]) -> None:
    card = resolve(name).shaped(shape)
    feeds, frame = family(card.family).feed(Image.load(np.zeros((90, 160, 3), np.uint8)), card)
    assert frame.canvas_hw == feeds["image"].shape[2:] == canvas_hw


def test_embeddings_of_two_shapes_do_not_mix() -> None:
    fit, padded = (samlet.load(backend=FakeBackend(), shape=shape) for shape in ("fit", "padded"))
    with pytest.raises(EmbeddingError, match="embed the picture again"):
        padded.segment(fit.embed(PIXELS), points=[1, 1])
    masks = padded.segment(padded.embed(PIXELS), points=[40, 30])
    assert masks.logits.shape == (1, 256, 256)


# --- the second look ---

PLANS = [
    # box, points, labels -> window or None
    ([0, 0, 20, 10], None, None, (0, 0, 28, 18)),
    ([100, 40, 120, 60], None, None, (92, 32, 128, 68)),
    ([100.5, 40.5, 110.5, 50.5], None, None, (96, 36, 115, 55)),
    ([180, 90, 200, 100], None, None, (172, 82, 200, 100)),
    ([0, 0, 70, 10], None, None, None),  # 0.35 of the longer side
    ([0, 0, 69, 10], None, None, (0, 0, 97, 38)),
    ([0, 0, 20, 10], [[5, 5]], [[1]], (0, 0, 28, 18)),
    ([0, 0, 20, 10], [[150, 5]], [[0]], None),  # a click far away
    ([0, 0, 20, 10], [[150, 5]], [[-1]], (0, 0, 28, 18)),  # padding is no click
]


@pytest.mark.parametrize(("box", "points", "labels", "window"), PLANS)
def test_plan(box: Any, points: Any, labels: Any, window: Any) -> None:
    prompt = Prompt.make(image_hw=(100, 200), boxes=box, points=points, labels=labels)
    assert zoom.plan(prompt, (100, 200), card=CARD) == ({} if window is None else {0: window})


def test_clicks_alone_are_looked_at_once(counting: Model, encodings: list[tuple[int, ...]]) -> None:
    counting.segment(PIXELS, points=[40, 30], zoom="auto")
    assert len(encodings) == 1


@pytest.mark.parametrize("multimask", [False, True])
def test_small_boxes_are_looked_at_twice(
    counting: Model, encodings: list[tuple[int, ...]], multimask: bool
) -> None:
    boxes = [[10, 10, 70, 50], [30, 20, 42, 29], [60, 40, 80, 60]]
    plain = counting.segment(PIXELS, boxes=boxes, multimask=multimask)
    assert len(encodings) == 1
    zoomed = counting.segment(PIXELS, boxes=boxes, multimask=multimask, zoom="auto")
    assert len(encodings) == 1 + 3
    np.testing.assert_array_equal(zoomed.logits[0], plain.logits[0])
    for index in (1, 2):
        assert np.abs(zoomed.logits[index] - plain.logits[index]).max() > 0.1
        x0, y0, x1, y1 = boxes[index]
        truth = np.zeros((60, 80), bool)
        truth[y0:y1, x0:x1] = True
        found = zoomed.masks[index, 1] if multimask else zoomed.masks[index]
        assert (found & truth).sum() / (found | truth).sum() > 0.85
    counting.segment(PIXELS, boxes=boxes[0], hint=zoomed.hint[0])  # still on the picture's own grid


def masks_of(logits: np.ndarray, frame: Frame) -> Masks:
    return Masks(logits[None].astype(np.float32), np.ones(1, np.float32), frame)


@pytest.mark.parametrize(
    ("hw", "window"), [((64, 64), (16, 8, 48, 40)), ((60, 80), (7, 11, 33, 29)), ((48, 90), (60, 20, 90, 48))]
)
def test_blend_puts_a_slope_where_it_belongs(hw: tuple[int, int], window: zoom.Window) -> None:
    """A linear ramp over the picture, seen whole and seen through the window, must be the same ramp."""

    def ramp(frame: Frame, x0: int, y0: int) -> np.ndarray:
        grid = tuple(side // 2 for side in frame.canvas_hw)
        x = x0 + (np.arange(grid[1]) + 0.5) * 2 * frame.image_hw[1] / frame.scaled_hw[1]
        y = y0 + (np.arange(grid[0]) + 0.5) * 2 * frame.image_hw[0] / frame.scaled_hw[0]
        return (x[None] - 2 * y[:, None]).astype(np.float32)

    frame = Frame.fit(hw, 128, multiple=32)
    part = Frame.fit((window[3] - window[1], window[2] - window[0]), 128, multiple=32)
    whole = ramp(frame, 0, 0)
    blended = zoom.blend(whole, frame, closer=masks_of(ramp(part, *window[:2]), part), window=window)
    # Cells cut by the window's edge average over their covered part only: half a cell off at most.
    tolerance = 3 * 2 * max(hw) / 128 / 2
    assert np.abs(blended - whole).max() <= tolerance
    inner = np.zeros(whole.shape, bool)
    step = 2 * max(hw) / 128
    inner[
        int(window[1] / step) + 2 : int(window[3] / step) - 2,
        int(window[0] / step) + 2 : int(window[2] / step) - 2,
    ] = True
    np.testing.assert_allclose(blended[inner], whole[inner], atol=0.15)
    moved = zoom.blend(whole, frame, closer=masks_of(ramp(part, *window[:2]) + 10, part), window=window)
    np.testing.assert_allclose(moved[inner], whole[inner] + 5, atol=0.15)
    assert moved[0, 0] == whole[0, 0]
