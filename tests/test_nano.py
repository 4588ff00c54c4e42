"""The built-in model on real photographs: what a person would call right, said as pixels in and pixels out."""

import numpy as np
import pytest

import samlet
from samlet.errors import EmbeddingError, PromptError
from samlet.geometry import mask_iou

# photo, prompt, pixels (x, y) that belong to the answer, pixels that do not
SCENES = [
    ("coffee", {"boxes": [75, 15, 482, 390]}, [(280, 60), (280, 140), (230, 120), (300, 200)],
     [(20, 20), (580, 380), (560, 60), (20, 390)]),
    ("chelsea", {"boxes": [10, 0, 420, 300]}, [(174, 118), (250, 150), (265, 260), (120, 60)],
     [(445, 100), (445, 20), (440, 280)]),
    ("chelsea", {"points": [[230, 150]]}, [(174, 118), (250, 150)], [(445, 100), (445, 20)]),
    ("astronaut", {"points": [[220, 110], [160, 380]]}, [(220, 100), (220, 60), (160, 380)],
     [(410, 60), (20, 60), (330, 60)]),
    ("astronaut", {"boxes": [5, 10, 495, 512]}, [(220, 100), (160, 380), (250, 300)], [(410, 60), (330, 60)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return samlet.load()


@pytest.fixture(scope="module")
def views(model, sample):
    return {name: model.embed(sample(name)) for name in ("coffee", "chelsea", "astronaut")}


@pytest.mark.parametrize(("photo", "prompt", "inside", "outside"), SCENES)
def test_a_person_would_call_it_right(model, views, photo, prompt, inside, outside):
    masks = model.segment(views[photo], **prompt)
    mask = masks.masks[0]
    assert mask.shape == views[photo].frame.image_hw
    assert all(mask[y, x] for x, y in inside)
    assert not any(mask[y, x] for x, y in outside)
    assert 0.5 < masks.scores[0] < 1.05


def test_a_background_click_takes_away(model, views):
    """Clicking the saucer as "not this" leaves the cup and takes the saucer."""
    both = model.segment(views["coffee"], boxes=[75, 15, 482, 390])
    less = model.segment(views["coffee"], points=[[[280, 60], [110, 300]]], labels=[[1, 0]], hint=both.hint)
    assert less.masks[0][60, 280]
    assert not less.masks[0][300, 110]


def test_n_boxes_give_n_masks_in_order(model, views):
    boxes = [[75, 15, 482, 390], [165, 15, 425, 260], [300, 220, 400, 330]]
    together = model.segment(views["coffee"], boxes=boxes)
    backwards = model.segment(views["coffee"], boxes=boxes[::-1])
    assert len(together) == 3
    for i, box in enumerate(boxes):
        assert mask_iou(together.masks[i], backwards.masks[2 - i]) > 0.999
        assert mask_iou(together.masks[i], model.segment(views["coffee"], boxes=box).masks[0]) > 0.999


def test_points_pair_with_boxes(model, views):
    masks = model.segment(
        views["astronaut"],
        points=[[[220, 110]], [[400, 430]]],
        boxes=[[5, 10, 495, 512], [330, 335, 490, 512]],
    )
    assert len(masks) == 2
    assert masks.masks[0][110, 220] and not masks.masks[1][110, 220]


def test_three_candidates_and_the_best(model, views):
    masks = model.segment(views["chelsea"], points=[230, 150], multimask=True)
    assert masks.masks.shape == (1, 3, 300, 451)
    assert masks.scores.shape == (1, 3)
    best = masks.best()
    assert best.scores[0] == masks.scores.max()
    assert np.array_equal(best.masks[0], masks.masks[0, masks.scores[0].argmax()])


def test_refinement_keeps_and_corrects(model, views):
    first = model.segment(views["astronaut"], points=[220, 110])
    again = model.segment(
        views["astronaut"], points=[[[220, 110], [160, 380], [400, 430]]], labels=[[1, 1, 0]], hint=first.hint
    )
    assert again.masks[0][110, 220] and again.masks[0][380, 160]
    assert not again.masks[0][430, 400]


def test_zoom_keeps_shape_and_order(model, views):
    boxes = [[185, 30, 275, 190], [5, 10, 495, 512]]
    plain = model.segment(views["astronaut"], boxes=boxes)
    zoomed = model.segment(views["astronaut"], boxes=boxes, zoom="auto")
    assert zoomed.masks.shape == plain.masks.shape
    assert mask_iou(zoomed.masks[1], plain.masks[1]) == 1  # a large box is looked at once
    assert zoomed.masks[0][100, 220] and not zoomed.masks[0][300, 220]


def test_a_saved_embedding_answers_the_same(model, views, tmp_path):
    views["coffee"].save(tmp_path / "view.safetensors")
    loaded = samlet.Embedding.load(tmp_path / "view.safetensors")
    wanted = model.segment(views["coffee"], points=[280, 60])
    got = model.segment(loaded, points=[280, 60])
    assert np.array_equal(got.logits, wanted.logits)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (700, 3), (37, 53), (512, 512), (1200, 500)])
def test_any_shape_of_picture(model, shape):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (*shape, 3), dtype=np.uint8)
    masks = model.segment(pixels, points=[shape[1] / 2, shape[0] / 2])
    assert masks.masks.shape == (1, *shape)
    assert np.isfinite(masks.logits).all()


def test_what_does_not_fit_is_refused(model, views):
    other = views["coffee"].frame.image_hw
    with pytest.raises(PromptError, match="hint on this picture's grid"):
        model.segment(views["coffee"], points=[10, 10], hint=np.zeros((7, 9), np.float32))
    with pytest.raises(PromptError):
        model.segment(views["coffee"], points=[other[1] + 5, 10])
    import dataclasses

    stranger = dataclasses.replace(views["coffee"], digest="0" * 64)
    with pytest.raises(EmbeddingError):
        model.segment(stranger, points=[10, 10])
