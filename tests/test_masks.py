"""What a prompt answers: full-size masks, measures, choice, files."""

import json
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from samlet.codecs import png_to_mask, rle_to_mask
from samlet.errors import InputError, OutputError
from samlet.geometry import Frame, resize_bilinear
from samlet.image import Image
from samlet.masks import Masks
from samlet.prompt import Prompt


def made(count=2, *, image_hw=(30, 40), grid=16, target=64, candidates=None, seed=0, **fields):
    """Smooth random blobs as a network would give them, 64 pixels canvas and logits at a quarter of it."""
    rng = np.random.default_rng(seed)
    shape = (count,) if candidates is None else (count, candidates)
    coarse = rng.normal(0, 4, (int(np.prod(shape)), 5, 5)).astype(np.float32)
    logits = resize_bilinear(coarse, (grid, grid)).reshape(*shape, grid, grid)
    frame = Frame.fit(image_hw, target)
    return Masks(logits, rng.random(shape).astype(np.float32), frame, **fields)


SIDES = st.integers(1, 400)


@settings(max_examples=60)
@given(SIDES, SIDES, st.sampled_from(["fast", "exact"]), st.sampled_from([None, 2]))
def test_masks_have_the_size_of_the_picture(height, width, upscale, candidates):
    masks = made(2, image_hw=(height, width), upscale=upscale, candidates=candidates)
    lead = (2,) if candidates is None else (2, 2)
    assert masks.masks.shape == (*lead, height, width)
    assert masks.masks.dtype == np.bool_
    assert masks.boxes_xyxy.shape == (*lead, 4)
    assert masks.areas.shape == lead
    assert masks.full_logits(1).shape == masks.masks.shape[1:]


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 5000), (5000, 1), (2, 3), (64, 64)])
@pytest.mark.parametrize("upscale", ["fast", "exact"])
def test_extreme_shapes(image_hw, upscale):
    masks = made(1, image_hw=image_hw, upscale=upscale)
    assert masks.masks.shape == (1, *image_hw)


def test_exact_upscaling_is_sams_two_steps():
    masks = made(1, image_hw=(45, 90), upscale="exact")
    canvas = resize_bilinear(masks.logits, (64, 64))
    expected = resize_bilinear(canvas[:, :32, :64], (45, 90))[0]
    assert np.array_equal(masks.full_logits(0), expected)
    assert np.array_equal(masks.masks[0], expected > 0)


def test_fast_upscaling_agrees_with_the_exact_one():
    fast, exact = made(4, image_hw=(450, 600), seed=3), made(4, image_hw=(450, 600), seed=3, upscale="exact")
    both = (fast.masks & exact.masks).sum((1, 2)) / np.maximum(1, (fast.masks | exact.masks).sum((1, 2)))
    assert both.min() > 0.98
    assert not np.array_equal(fast.full_logits(0), exact.full_logits(0))


def test_padding_never_reaches_the_mask():
    """The picture fills the upper half of the canvas; the loud lower half of the logits must not be seen."""
    logits = np.full((1, 16, 16), -5, np.float32)
    logits[:, 9:] = 5
    masks = Masks(logits, np.ones(1), Frame.fit((32, 64), 64))
    assert not masks.masks.any()
    assert masks.stability().tolist() == [0.0]


@pytest.mark.parametrize("candidates", [None, 3])
@pytest.mark.parametrize("first", ["masks", "boxes"])
def test_measures_are_those_of_the_masks(candidates, first):
    masks = made(3, candidates=candidates)
    _ = masks.masks if first == "masks" else masks.boxes_xyxy
    full = masks.masks.reshape(-1, 30, 40)
    for mask, streamed, box, area in zip(
        full, masks.iter_masks(), masks.boxes_xyxy.reshape(-1, 4), masks.areas.ravel(), strict=True
    ):
        assert np.array_equal(mask, streamed)
        assert area == mask.sum()
        ys, xs = np.nonzero(mask)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_an_empty_mask_has_a_box_of_zeros():
    masks = Masks(np.full((1, 8, 8), -1.0), np.ones(1), Frame.fit((20, 30), 32))
    assert masks.boxes_xyxy.tolist() == [[0, 0, 0, 0]]
    assert masks.areas.tolist() == [0]


def test_masks_are_made_once_and_only_when_asked(monkeypatch):
    calls = []
    import samlet.masks.logits as module

    real = module.enlarge
    monkeypatch.setattr(module, "enlarge", lambda *args: calls.append(1) or real(*args))
    masks = made(3)
    assert len(masks) == 3
    assert calls == []
    assert masks.masks is masks.masks
    assert len(calls) == 3
    assert masks.areas.sum() == masks.masks.sum()
    assert len(list(masks[1:].iter_masks())) == 2
    assert len(calls) == 3


def test_streaming_keeps_no_masks():
    masks = made(3)
    stream = masks.iter_masks()
    next(stream)
    assert masks.boxes_xyxy.shape == (3, 4)
    assert set(masks._made) == {"boxes", "areas"}


def test_shared_arrays_cannot_be_changed():
    masks = made(1)
    for array in (masks.masks, masks.boxes_xyxy, masks.areas):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [0]),
        (-1, [3]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0], [2, 0]),
        ([], []),
        (np.array([True, False, False, True]), [0, 3]),
        ([False, True, False, False], [1]),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_indexing(index, expected, warm):
    masks = made(4)
    if warm:
        _ = masks.masks, masks.areas
    picked = masks[index]
    assert len(picked) == len(expected)
    assert np.array_equal(picked.logits, masks.logits[expected])
    assert np.array_equal(picked.scores, masks.scores[expected])
    assert np.array_equal(picked.masks, masks.masks[expected])
    assert np.array_equal(picked.areas, masks.areas[expected])


@pytest.mark.parametrize("index", [4, -5, [0, 9], np.ones(3, bool)])
def test_indexing_out_of_range(index):
    with pytest.raises(IndexError):
        made(4)[index]


def test_iteration_gives_single_answers():
    assert [len(one) for one in made(3)] == [1, 1, 1]


def test_best_takes_the_highest_score_of_each_prompt():
    masks = made(4, candidates=3)
    _ = masks.areas
    best = masks.best()
    chosen = masks.scores.argmax(1)
    assert best.logits.shape == (4, 16, 16)
    assert np.array_equal(best.scores, masks.scores.max(1))
    for row, candidate in enumerate(chosen):
        assert np.array_equal(best.masks[row], masks.masks[row, candidate])
        assert best.areas[row] == masks.areas[row, candidate]
    assert best.best() is best
    assert np.array_equal(masks.hint, best.logits)


def test_stability_counts_the_cells_of_the_picture():
    logits = np.full((1, 4, 4), -9, np.float32)
    logits[0, 0] = [9, 0.5, -0.5, -9]
    masks = Masks(logits, np.ones(1), Frame.fit((2, 4), 4))
    assert masks.stability(1.0).tolist() == [pytest.approx(1 / 3)]
    assert masks.stability(0.1).tolist() == [1.0]


def test_filter_and_nms():
    masks = made(6)
    assert np.array_equal(masks.filter(min_score=0.5).scores, masks.scores[masks.scores >= 0.5])
    floor = int(np.median(masks.areas))
    assert (masks.filter(min_area=floor).areas >= floor).all()
    assert len(masks.filter(min_stability=1.1)) == 0
    assert len(masks.filter()) == 6
    kept = Masks(np.ones((3, 4, 4)), np.array([0.1, 0.9, 0.5]), Frame.fit((8, 8), 8)).nms(0.5)
    assert kept.scores.tolist() == [pytest.approx(0.9)]


def test_the_prompt_follows_the_choice():
    prompt = Prompt.make(image_hw=(30, 40), points=[[[1, 2]], [[3, 4]]], boxes=[[0, 0, 9, 9], [5, 5, 9, 9]])
    picked = made(2, prompt=prompt)[1]
    assert picked.prompt.points.tolist() == [[[3, 4]]]
    assert picked.prompt.boxes.tolist() == [[5, 5, 9, 9]]


LOGITS = np.zeros((2, 4, 4), np.float32)
FRAME = Frame.fit((30, 40), 16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Masks(np.zeros((4, 4)), np.zeros(4), FRAME), "expected logits of shape"),
        (lambda: Masks(np.zeros((1, 2, 3, 4, 4)), np.zeros((1, 2, 3)), FRAME), "expected logits of shape"),
        (lambda: Masks(np.zeros((1, 0, 4)), np.zeros(1), FRAME), "expected logits of shape"),
        (lambda: Masks(LOGITS, np.zeros(3), FRAME), "got (3,)"),
        (lambda: Masks(LOGITS, np.zeros((2, 1)), FRAME), "got (2, 1)"),
        (lambda: Masks(LOGITS, np.zeros(2), FRAME, upscale="slow"), "'fast' or 'exact'"),
        (
            lambda: Masks(LOGITS, np.zeros(2), FRAME, image=Image.load(np.zeros((4, 4, 3), np.uint8))),
            "picture of the frame, 30 x 40, got one of 4 x 4",
        ),
        (lambda: made(candidates=3).to_coco(), "call best() first"),
        (lambda: made(candidates=3).to_rle(), "call best() first"),
        (lambda: made(candidates=3).to_yolo(), "call best() first"),
        (lambda: made(candidates=3).to_labelme(), "call best() first"),
        (lambda: made(candidates=3).to_polygons(), "call best() first"),
        (lambda: made(candidates=3).nms(), "call best() first"),
        (lambda: made(candidates=3).filter(min_score=0.5), "call best() first"),
        (lambda: made(candidates=3).save("a.png"), "call best() first"),
        (lambda: made(candidates=3).save_all("."), "call best() first"),
        (lambda: made(2).save("a.png"), "use save_all"),
        (lambda: made(0).save("a.png"), "got 0"),
        (lambda: made(2).save("a.gif"), ".png, .json or .txt"),
        (lambda: made(2).draw(), "pass draw(image=...)"),
        (lambda: made(2).draw("a.gif", image=Image.load(np.zeros((30, 40, 3), np.uint8))), ".png, .jpg"),
        (lambda: made(2).draw(image=Image.load(np.zeros((4, 4, 3), np.uint8))), "picture's size 4 x 4"),
        (lambda: made(2).stability(0), "offset above 0"),
        (lambda: made(2).to_coco(labels=["a"]), "one label for each mask"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(call, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_masks_are_masks_too():
    none = made(2)[[]]
    assert none.masks.shape == (0, 30, 40)
    assert none.boxes_xyxy.shape == (0, 4)
    assert none.to_coco()["annotations"] == []
    assert none.to_yolo() == ""
    assert len(none.nms()) == 0
    assert len(none.filter(min_area=1)) == 0


def test_saving(tmp_path):
    masks = made(2, image=Image.load(np.zeros((30, 40, 3), np.uint8), name="photos/dog.jpg"))
    assert np.array_equal(png_to_mask(masks[0].save(tmp_path / "one.PNG").read_bytes()), masks.masks[0])
    coco = json.loads(masks.save(tmp_path / "all.json").read_text())
    assert coco["images"][0]["file_name"] == "dog.jpg"
    assert np.array_equal(rle_to_mask(coco["annotations"][1]["segmentation"]), masks.masks[1])
    assert coco["annotations"][0]["score"] == pytest.approx(float(masks.scores[0]), abs=1e-6)
    assert len(masks.save(tmp_path / "all.txt").read_text().splitlines()) == 2
    paths = masks.save_all(tmp_path, stem="dog")
    assert [path.name for path in paths] == ["dog_0.png", "dog_1.png"]
    assert np.array_equal(png_to_mask(paths[1].read_bytes()), masks.masks[1])
    with pytest.raises(OutputError, match="create the folder first"):
        masks[0].save(tmp_path / "missing" / "a.png")


def test_codecs_agree_with_the_masks():
    masks = made(2)
    for compressed in (True, False):
        for rle, mask in zip(masks.to_rle(compressed=compressed), masks.masks, strict=True):
            assert isinstance(rle["counts"], str) is compressed
            assert np.array_equal(rle_to_mask(rle), mask)
    assert len(masks.to_polygons()) == 2
    assert {shape["label"] for shape in masks.to_labelme(labels=["a", "b"])["shapes"]} == {"a", "b"}
    assert [line[0] for line in masks.to_yolo(classes=[7, 8]).splitlines()] == ["7", "8"]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_drawing_to_a_file(tmp_path, name):
    photo = Image.load(np.full((30, 40, 3), 90, np.uint8))
    drawn = made(2, candidates=3, image=photo).draw(tmp_path / name)
    with PillowImage.open(tmp_path / name) as saved:
        assert saved.size == drawn.size == (40, 30)
    assert os.listdir(tmp_path) == [name]


def test_repr_says_what_it_holds():
    assert repr(made(2)) == "<Masks: 2 of 30 x 40 pixels>"
    assert repr(made(2, candidates=3)) == "<Masks: 2 x 3 candidates of 30 x 40 pixels>"
