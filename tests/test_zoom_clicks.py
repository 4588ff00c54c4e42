"""Looking from near at small objects with many clicks: which, at what, how often, and what comes back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samlet import zoom
from samlet.backends.base import Array
from samlet.backends.fake import FakeBackend, pooled
from samlet.embedding import Embedding
from samlet.geometry import Frame
from samlet.masks import Masks
from samlet.model import Model
from samlet.prompt import Prompt
from samlet.registry import resolve
from samlet.session import Session

CARD = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
PIXELS = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
FOUR = [[40, 30], [42, 30], [40, 33], [44, 34]]
HW = (100, 200)


class Counting:
    """A model that counts its encodings, and pictures of it."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.model = Model(Session(CARD, FakeBackend({"encoder": self._encode}, channels=4)))
        self.view = self.model.embed(PIXELS)
        self.sizes.clear()

    def _encode(self, feeds: Any) -> dict[str, Array]:
        self.sizes.append(feeds["image"].shape[2:])
        return {"image_embeddings": pooled(feeds["image"], CARD.stride, 4)}


@pytest.fixture
def counting() -> Counting:
    return Counting()


def answers(inside: tuple[int, int, int, int] | None, candidates: int = 0) -> Masks:
    """A mask of one rectangle (picture pixels), or several candidates of which the last scores best."""
    frame = Frame.fit(HW, 128, multiple=32)
    step = 200 / 64
    logits = np.full((max(1, candidates), *(side // 2 for side in frame.canvas_hw)), -1, np.float32)
    if inside is not None:
        x0, y0, x1, y1 = (round(value / step) for value in inside)
        logits[-1, y0:y1, x0:x1] = 1
    scores = np.linspace(0.1, 0.9, len(logits), dtype=np.float32)
    return Masks(logits[None], scores[None], frame) if candidates else Masks(logits, scores, frame)


@pytest.mark.parametrize(
    ("points", "labels", "inside", "more", "need"),
    [
        ([[20, 20], [30, 20], [20, 40], [25, 25]], None, None, {}, (20, 20, 31, 41)),
        ([[20, 20], [30, 20], [20, 40]], None, None, {}, None),  # three clicks
        ([[20, 20], [30, 20], [20, 40], [25, 25]], [1, 0, 1, -1], None, {}, None),  # padding is no click
        ([[20, 20], [30, 20], [20, 40], [25, 25]], None, (50, 25, 100, 75), {}, (20, 20, 101, 76)),
        ([[20, 20], [30, 20], [20, 40], [25, 25]], None, (50, 25, 200, 75), {}, None),  # too large already
        ([[20, 20], [150, 20], [20, 40], [25, 25]], [1, 0, 1, 1], None, {}, None),  # a click far away
        ([[20, 20], [30, 20], [20, 40], [25, 25]], None, None, {"boxes": [10, 15, 40, 30]}, (10, 15, 41, 41)),
        ([[199, 99]] * 4, None, None, {}, (199, 99, 200, 100)),
    ],
)
@pytest.mark.parametrize("candidates", [0, 3])
def test_what_has_to_be_seen(
    points: Any, labels: Any, inside: Any, more: dict[str, Any], need: Any, candidates: int
) -> None:
    prompt = Prompt.make(image_hw=HW, points=points, labels=labels, **more)
    found = zoom.plan_clicks(prompt, answers(inside, candidates), card=CARD)
    assert found.keys() == ({} if need is None else {0: None}).keys()
    if need is not None:  # to a cell of the grid
        np.testing.assert_allclose(found[0], need, atol=200 / 64)


def test_the_hint_says_what_has_been_seen_and_a_card_may_say_never() -> None:
    hint = answers((50, 25, 100, 75)).logits
    prompt = Prompt.make(image_hw=HW, points=[[20, 20], [30, 20], [20, 40], [25, 25]], hint=hint)
    shown = zoom.plan_clicks(prompt, answers((0, 0, 200, 100)), card=CARD)
    np.testing.assert_allclose(shown[0], (20, 20, 101, 76), atol=200 / 64)
    assert zoom.plan_clicks(prompt, answers(None), card=replace(CARD, zoom_clicks=0)) == {}


@pytest.mark.parametrize("multimask", [False, True])
def test_a_part_is_encoded_once_for_all_further_clicks(counting: Counting, multimask: bool) -> None:
    model, view = counting.model, counting.view
    hint = np.full((1, 48, 64), -5, np.float32)
    hint[0, 24:27, 32:35] = 5
    model.segment(view, points=FOUR[:3], hint=hint, zoom="auto")
    assert counting.sizes == []
    four = model.segment(view, points=FOUR, hint=hint, zoom="auto", multimask=multimask)
    assert len(counting.sizes) == 1
    plain = model.segment(view, points=FOUR, hint=hint, multimask=multimask)
    assert four.logits.shape == plain.logits.shape and not np.array_equal(four.logits, plain.logits)
    again = model.segment(view, points=[*FOUR, [41, 31]], labels=[1, 1, 1, 1, 0], hint=hint, zoom="auto")
    assert len(counting.sizes) == 1 and again.masks.shape == (1, 60, 80)
    (window, _), *none = view.derived["near"]
    assert not none and window[0] <= 40 and window[2] >= 44 and window[2] - window[0] < 80
    x, y = (np.arange(64) + 0.5) * 80 / 64, (np.arange(four.logits.shape[-2]) + 0.5) * 80 / 64
    far = ((x < window[0] - 1) | (x > window[2] + 1))[None] | ((y < window[1] - 1) | (y > window[3] + 1))[
        :, None
    ]
    assert far.any() and (four.logits[..., far] == -10).all() and (four.logits[..., ~far] > -10).any()


def test_other_parts_are_encoded_and_only_the_last_few_are_kept(counting: Counting) -> None:
    for count, x in enumerate((4, 20, 40, 60, 76), start=1):
        near = [[x, 8], [x + 1, 9], [x - 1, 9], [x, 10]]
        hint = np.full((1, 48, 64), -5, np.float32)
        counting.model.segment(counting.view, points=near, hint=hint, zoom="auto")
        assert len(counting.sizes) == count
    assert len(counting.view.derived["near"]) == 4


def test_prompts_beside_it_are_answered_as_ever(counting: Counting) -> None:
    points = np.array([FOUR, [[5, 5], [70, 50], [5, 50], [70, 5]]])
    hint = np.full((2, 48, 64), -5, np.float32)
    plain = counting.model.segment(counting.view, points=points, hint=hint)
    both = counting.model.segment(counting.view, points=points, hint=hint, zoom="auto")
    assert len(counting.sizes) == 1
    assert np.array_equal(both.logits[1], plain.logits[1]) and both.scores[1] == plain.scores[1]
    assert not np.array_equal(both.logits[0], plain.logits[0])


def test_without_its_picture_there_is_one_look(counting: Counting, tmp_path: Path) -> None:
    counting.view.save(tmp_path / "view")
    stored = Embedding.load(tmp_path / "view")
    looked = counting.model.segment(stored, points=FOUR, zoom="auto")
    assert counting.sizes == []
    assert np.array_equal(looked.logits, counting.model.segment(stored, points=FOUR).logits)


@pytest.mark.parametrize(("hw", "window"), [((64, 64), (16, 8, 48, 40)), ((48, 90), (60, 20, 90, 48))])
def test_a_slope_is_the_same_slope_on_the_part(hw: tuple[int, int], window: zoom.Window) -> None:
    frame = Frame.fit(hw, 128, multiple=32)
    near = Frame.fit((window[3] - window[1], window[2] - window[0]), 128, multiple=32)

    def ramp(frame: Frame, x0: int, y0: int) -> Array:
        grid = tuple(side // 2 for side in frame.canvas_hw)
        x = x0 + (np.arange(grid[1]) + 0.5) * 2 * frame.image_hw[1] / frame.scaled_hw[1]
        y = y0 + (np.arange(grid[0]) + 0.5) * 2 * frame.image_hw[0] / frame.scaled_hw[0]
        return (x[None] - 2 * y[:, None]).astype(np.float32)

    wanted = ramp(near, *window[:2])
    carried = zoom.carried(ramp(frame, 0, 0), frame, near, window, grid=(wanted.shape[0], wanted.shape[1]))
    inner = (slice(8, near.scaled_hw[0] // 2 - 8), slice(8, near.scaled_hw[1] // 2 - 8))
    np.testing.assert_allclose(carried[0][inner], wanted[inner], atol=1e-3)
