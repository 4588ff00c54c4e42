"""A session remembers nothing: any order, any batch and any number of threads give the same answers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samlet.backends.base import Array
from samlet.backends.fake import FakeBackend, decoded
from samlet.errors import EmbeddingError, InputError, ModelError, PromptError
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.registry import resolve
from samlet.session import Session

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
HW = (60, 80)


def picture(seed: int, hw: tuple[int, int] = HW) -> Image:
    return Image.load(np.random.default_rng(seed).integers(0, 255, (*hw, 3), np.uint8))


def session(**options: Any) -> Session:
    return Session(CARD, FakeBackend(channels=4), **options)


def spied(calls: list[dict[str, Array]], **options: Any) -> Session:
    """Give a session that records what its decoder is fed."""

    def decoder(feeds: Any) -> dict[str, Array]:
        calls.append(dict(feeds))
        return decoded(feeds, CARD.stride)

    return Session(CARD, FakeBackend({"decoder": decoder}, channels=4), **options)


def test_a_click_hits_what_it_points_at() -> None:
    one = session()
    view = one.embed(picture(0))
    masks = one.segment(view, Prompt.make(image_hw=HW, points=[20, 30]))
    assert (masks.logits.shape, masks.scores.shape, masks.masks.shape) == ((1, 48, 64), (1,), (1, *HW))
    assert masks.masks[0, 30, 20]
    assert not masks.masks[0, 30, 60]
    x0, _, x1, _ = masks.boxes_xyxy[0]
    assert abs((x0 + x1) / 2 - 20) < 1


def test_three_candidates() -> None:
    one = session()
    masks = one.segment(
        one.embed(picture(0)), Prompt.make(image_hw=HW, boxes=[10, 10, 50, 40]), multimask=True
    )
    assert (masks.logits.shape, masks.scores.shape) == ((1, 3, 48, 64), (1, 3))
    areas = masks.areas[0]
    assert areas[0] < areas[1] < areas[2]


def test_chunks_keep_prompt_order() -> None:
    boxes = [[i, i, i + 10 + i % 7, i + 12] for i in range(0, 40)]
    prompt = Prompt.make(image_hw=HW, boxes=boxes)
    calls: list[dict[str, Array]] = []
    small, whole = spied(calls, chunk=7), session(chunk=1000)
    view = whole.embed(picture(1))
    masks, expected = small.segment(view, prompt), whole.segment(view, prompt)
    assert [len(call["point_coords"]) for call in calls] == [7, 7, 7, 7, 7, 5]
    np.testing.assert_array_equal(masks.logits, expected.logits)
    np.testing.assert_array_equal(masks.scores, expected.scores)
    assert len({array.tobytes() for array in masks.logits}) == len(boxes)


def test_a_prompt_answers_the_same_alone_and_among_longer_ones() -> None:
    """In SAM a padding point is a token of its own, so padding one prompt for another would change it."""
    points = [[[10, 10]], [[20, 20], [30, 30]], [[50, 40]], [[1, 1], [2, 2], [3, 3]]]
    labels = [[1], [1, 0], [0], [1, 0, 0]]
    calls: list[dict[str, Array]] = []
    one = spied(calls)
    view = one.embed(picture(2))
    together = one.segment(view, Prompt.make(image_hw=HW, points=points, labels=labels))
    assert sorted(call["point_labels"].shape for call in calls) == [(1, 3), (1, 4), (2, 2)]
    assert all((call["point_labels"][:, :-1] != -1).all() for call in calls)
    for index, (xy, label) in enumerate(zip(points, labels, strict=True)):
        alone = one.segment(view, Prompt.make(image_hw=HW, points=xy, labels=label))
        np.testing.assert_array_equal(together.logits[index], alone.logits[0])
        np.testing.assert_array_equal(together.scores[index], alone.scores[0])


def test_boxes_of_which_some_have_points_and_hints() -> None:
    prompt = Prompt.make(
        image_hw=HW,
        points=[[[10, 10]], [[0, 0]]],
        labels=[[1], [-1]],
        boxes=[[0, 0, 30, 30], [20, 20, 60, 50]],
        hint=np.stack([np.full((48, 64), 5.0), np.full((48, 64), 9.0)]),
    )
    calls: list[dict[str, Array]] = []
    one = spied(calls)
    one.segment(one.embed(picture(3)), prompt)
    assert [call["point_labels"].tolist() for call in calls] == [[[2, 3]], [[1, 2, 3]]]
    assert [call["mask_input"].mean() for call in calls] == [9, 5]


def test_a_hint_changes_the_answer() -> None:
    one = session()
    view = one.embed(picture(4))
    first = one.segment(view, Prompt.make(image_hw=HW, points=[20, 30]))
    second = one.segment(view, Prompt.make(image_hw=HW, points=[20, 30], hint=first.hint))
    assert np.abs(second.logits - first.logits).max() > 0.1


def test_a_hint_of_another_size() -> None:
    one = session()
    with pytest.raises(PromptError, match="48 x 64 logits, got 64 x 64"):
        one.segment(one.embed(picture(5)), Prompt.make(image_hw=HW, points=[1, 1], hint=np.zeros((64, 64))))


def test_eight_threads_with_mixed_pictures_and_prompts() -> None:
    one = session(chunk=2)
    sizes = [(60, 80), (80, 60), (50, 90), (33, 47)]

    def work(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        hw = sizes[seed % len(sizes)]
        view = one.embed(picture(seed, hw))
        points = rng.uniform(0, (hw[1], hw[0]), (3, 1 + seed % 3, 2))
        masks = one.segment(view, Prompt.make(image_hw=hw, points=points), multimask=bool(seed % 2))
        return masks.logits, masks.scores

    serial = [work(seed) for seed in range(48)]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(work, range(48)))
    for (logits, scores), (expected_logits, expected_scores) in zip(threaded, serial, strict=True):
        np.testing.assert_array_equal(logits, expected_logits)
        np.testing.assert_array_equal(scores, expected_scores)
    assert len({logits.tobytes() for logits, _ in serial}) == 48


@pytest.mark.parametrize(
    ("options", "error"),
    [({"threads": 0}, InputError), ({"threads": -1}, InputError), ({"chunk": 0}, InputError)],
)
def test_wrong_numbers(options: dict[str, int], error: type[Exception]) -> None:
    with pytest.raises(error, match="at least 1"):
        session(**options)


@pytest.mark.parametrize("arrays", [{}, {"image_embeddings": np.zeros(3, np.float32)}])
def test_an_embedding_from_outside_without_the_models_array(arrays: dict[str, np.ndarray]) -> None:
    """Its digest may be right and its arrays wrong; that is the embedding's fault, in one sentence."""
    from samlet.everything import everything

    one = session()
    view = replace(one.embed(Image.load(np.zeros((48, 64, 3), np.uint8))), arrays=arrays)
    with pytest.raises(EmbeddingError, match="image_embeddings"):
        one.segment(view, Prompt.make(image_hw=(48, 64), points=[32, 24]))
    with pytest.raises(EmbeddingError, match="image_embeddings"):
        everything(one, view)


def test_unknown_family() -> None:
    with pytest.raises(ModelError, match="family"):
        Session(replace(CARD, family="yolo"), FakeBackend())
