"""SAM's contract, checked against numbers worked out by hand or by the reference's recipe."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.embedding import Embedding
from samlet.errors import BackendError, EmbeddingError, ModelError, PromptError
from samlet.families import family, sam
from samlet.geometry import Frame
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.registry import resolve

NANO = resolve("nano")
SAM = replace(NANO, side=1024, pad="square", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
HW = (120, 160)


def picture(hw: tuple[int, int] = HW) -> Image:
    return Image.load(np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8))


def view(card: Any = NANO, hw: tuple[int, int] = HW) -> Embedding:
    frame = Frame.fit(hw, card.side, multiple=None if card.pad == "square" else card.pad)
    grid = tuple(side // card.stride for side in frame.canvas_hw)
    return Embedding(
        {"image_embeddings": np.zeros((1, 256, *grid), np.float32)}, frame, card.name, card.digest
    )


@pytest.mark.parametrize(
    ("card", "hw", "scaled", "canvas"),
    [
        (NANO, (120, 160), (384, 512), (384, 512)),
        (NANO, (100, 160), (320, 512), (320, 512)),
        (NANO, (101, 160), (323, 512), (352, 512)),
        (NANO, (1, 5000), (1, 512), (32, 512)),
        (NANO, (1, 1), (512, 512), (512, 512)),
        (SAM, (120, 160), (768, 1024), (1024, 1024)),
        (SAM, (1365, 2048), (683, 1024), (1024, 1024)),
    ],
)
def test_feed_sizes(card: Any, hw: Any, scaled: Any, canvas: Any) -> None:
    feeds, frame = sam.feed(picture(hw), card)
    assert (frame.image_hw, frame.scaled_hw, frame.canvas_hw) == (hw, scaled, canvas)
    image = feeds["image"]
    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((1, 3, *canvas), np.float32, True)
    assert not image[:, :, scaled[0] :].any()
    assert not image[:, :, :, scaled[1] :].any()


def test_feed_numbers() -> None:
    """Resize by Pillow, then normalise in RGB order, then pad."""
    image = picture()
    feeds, _ = sam.feed(image, SAM)
    resized = np.array(
        PillowImage.fromarray(image.pixels).resize((1024, 768), PillowImage.Resampling.BILINEAR)
    )
    for channel, (mean, std) in enumerate(zip(SAM.mean, SAM.std, strict=True)):
        expected = (resized[..., channel] - mean) / std
        np.testing.assert_allclose(feeds["image"][0, channel, :768], expected, atol=1e-5)


def test_points_end_in_a_padding_point() -> None:
    prompt = Prompt.make(image_hw=HW, points=[[80, 60], [160, 120]], labels=[1, 0])
    feeds = sam.decode_feed(view(SAM), prompt, SAM)
    assert feeds["point_coords"].tolist() == [[[512, 384], [1024, 768], [0, 0]]]
    assert feeds["point_labels"].tolist() == [[1, 0, -1]]


def test_a_box_is_two_points_and_needs_no_padding() -> None:
    prompt = Prompt.make(image_hw=HW, boxes=[[0, 0, 80, 60], [80, 60, 160, 120]])
    feeds = sam.decode_feed(view(SAM), prompt, SAM)
    assert feeds["point_coords"].tolist() == [[[0, 0], [512, 384]], [[512, 384], [1024, 768]]]
    assert feeds["point_labels"].tolist() == [[2, 3], [2, 3]]


def test_points_come_before_the_box_and_ragged_prompts_are_padded() -> None:
    prompt = Prompt.make(
        image_hw=HW, points=[[[80, 60]], [[16, 12], [32, 24]]], boxes=[[0, 0, 80, 60], [0, 0, 160, 120]]
    )
    feeds = sam.decode_feed(view(SAM), prompt, SAM)
    assert feeds["point_labels"].tolist() == [[1, -1, 2, 3], [1, 1, 2, 3]]
    assert feeds["point_coords"][0].tolist() == [[512, 384], [0, 0], [0, 0], [512, 384]]


def test_no_points_and_no_box_are_no_tokens() -> None:
    """SAM adds its padding point only to points; a prompt without any has no tokens, whatever the hint says."""
    nothing = Prompt(np.zeros((3, 0, 2)), np.zeros((3, 0), np.int64))
    feeds = sam.decode_feed(view(SAM), nothing, SAM)
    assert (feeds["point_coords"].shape, feeds["point_labels"].shape) == ((3, 0, 2), (3, 0))
    assert feeds["has_mask_input"].tolist() == [0, 0, 0]
    boxed = replace(nothing, boxes=np.array([[0.0, 0.0, 80.0, 60.0]] * 3))
    assert sam.decode_feed(view(SAM), boxed, SAM)["point_labels"].tolist() == [[2, 3]] * 3


def test_a_picture_of_the_networks_scale_goes_onto_the_canvas_as_it_is() -> None:
    pixels = np.random.default_rng(1).random((3, 5, 3), np.float32) * 255  # between whole numbers, too
    canvas = sam.on_canvas(pixels, (8, 16), SAM)
    assert (canvas.shape, canvas.dtype) == ((1, 3, 8, 16), np.float32)
    for channel, (mean, std) in enumerate(zip(SAM.mean, SAM.std, strict=True)):
        np.testing.assert_allclose(canvas[0, channel, :3, :5], (pixels[..., channel] - mean) / std, atol=1e-5)
    assert not canvas[:, :, 3:].any()
    assert not canvas[:, :, :, 5:].any()


@pytest.mark.parametrize(
    ("card", "hw", "embedding_hw", "grid_hw"),
    [
        (NANO, (160, 160), (64, 64), (256, 256)),
        (NANO, (120, 160), (48, 64), (192, 256)),
        (NANO, (1, 5000), (4, 64), (16, 256)),
        (SAM, (120, 160), (64, 64), (256, 256)),
    ],
)
def test_the_grid_follows_from_the_embedding(card: Any, hw: Any, embedding_hw: Any, grid_hw: Any) -> None:
    embedding = view(card, hw)
    assert embedding.arrays["image_embeddings"].shape[2:] == embedding_hw
    prompt = Prompt.make(image_hw=hw, points=[[[0, 0]], [[1, 1]]])
    feeds = sam.decode_feed(embedding, prompt, card)
    assert feeds["mask_input"].shape == (2, 1, *grid_hw)
    assert not feeds["mask_input"].any()
    assert feeds["has_mask_input"].tolist() == [0, 0]
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.float32)}
    hinted = replace(prompt, hint=np.ones((2, *grid_hw), np.float32))
    feeds = sam.decode_feed(embedding, hinted, card)
    assert feeds["mask_input"].all()
    assert feeds["has_mask_input"].tolist() == [1, 1]


def test_a_hint_of_another_picture() -> None:
    prompt = Prompt.make(image_hw=HW, points=[1, 1], hint=np.zeros((256, 256)))
    with pytest.raises(PromptError, match="grid of 192 x 256 logits, got 256 x 256"):
        sam.decode_feed(view(), prompt, NANO)


def test_an_embedding_of_another_shape() -> None:
    wrong = Embedding({"image_embeddings": np.zeros((1, 3, 48, 64), np.float32)}, view().frame, "x", "x")
    with pytest.raises(EmbeddingError, match=r"\(1, 256, h, w\)"):
        sam.decode_feed(wrong, Prompt.make(image_hw=HW, points=[1, 1]), NANO)


def test_tokens() -> None:
    logits = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 2, 3)
    scores = np.arange(8, dtype=np.float32).reshape(2, 4)
    outputs = {"iou_predictions": scores, "low_res_masks": logits}
    frame = Frame.fit((2, 3), 3, multiple=1)
    single, multi = sam.masks(outputs, frame, multimask=False), sam.masks(outputs, frame, multimask=True)
    np.testing.assert_array_equal(single.logits, logits[:, 0])
    np.testing.assert_array_equal(single.scores, scores[:, 0])
    np.testing.assert_array_equal(multi.logits, logits[:, 1:])
    np.testing.assert_array_equal(multi.scores, scores[:, 1:])


@pytest.mark.parametrize(
    ("scores", "logits"), [((2, 3), (2, 4, 8, 8)), ((2, 4), (3, 4, 8, 8)), ((2, 4), (2, 4, 8))]
)
def test_a_decoder_that_gives_other_shapes(scores: Any, logits: Any) -> None:
    outputs = {"iou_predictions": np.zeros(scores), "low_res_masks": np.zeros(logits)}
    with pytest.raises(BackendError, match="install the model again"):
        sam.masks(outputs, Frame.fit((8, 8), 8), multimask=False)


@pytest.mark.parametrize(
    "array", [np.zeros((1, 3, 8, 8)), np.zeros((256, 8, 8)), np.full((1, 256, 8, 8), np.nan)]
)
def test_an_encoder_that_gives_nonsense(array: np.ndarray) -> None:
    with pytest.raises(BackendError, match="finite embedding"):
        sam.embedding_arrays({"image_embeddings": array}, NANO)


def test_unknown_family() -> None:
    assert family("sam") is sam
    with pytest.raises(ModelError, match="update samlet"):
        family("yolo")
