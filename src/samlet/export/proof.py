"""The proof that exported files answer as samlet does: they are opened by their own runtime and asked the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet import backends
from samlet.card import Card
from samlet.embedding import Embedding
from samlet.errors import BackendError
from samlet.families import sam
from samlet.geometry import Frame, mask_iou
from samlet.image import Image
from samlet.masks import Masks
from samlet.prompt import Prompt
from samlet.session import Session
from samlet.upscale import enlarge

Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], Sequence[Array]]
"""Runs an exported network: arrays by input name to the outputs in their order."""

SAME = 1e-3
"""Largest difference that rounding in another order explains, as a part of the logits' spread."""

ALIKE = 0.9
"""Least mean IoU of masks that come from rounded weights or from a picture scaled by another way."""

_SIZE_HW = (405, 720)  # 16:9, so that there is padding, and no multiple of anything
_CLICKS = ((300, 210), (560, 120))
_BOXES = ((170, 85, 430, 335), (500, 60, 640, 190))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far exported files answer as samlet does.

    Attributes:
        difference: Largest difference of low-res logits (of outputs, for a detector), as a part of their spread;
            None if they need not be equal, because weights are rounded or pictures scaled in another way.
        iou: Mean IoU with samlet's own masks, enlarged in the same way; None for a detector, which has none.
        cases: Prompts that were compared.
    """

    difference: float | None
    iou: float | None
    cases: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What exported files say about one prompt.

    Attributes:
        masks: (T, H, W) at picture size, in the order of the graph.
        low_res: (T, h, w) logits.
    """

    masks: NDArray[np.bool_]
    low_res: NDArray[np.float32]


def drawn_picture() -> NDArray[np.uint8]:
    """Draw two plain objects on a shaded ground: (405, 720, 3) RGB."""
    y, x = np.mgrid[: _SIZE_HW[0], : _SIZE_HW[1]].astype(np.float32)
    picture = np.stack([90 + 0.08 * x, 120 + 0.1 * y, 140 - 0.05 * x], axis=-1)
    large = ((x - 300) / 125) ** 2 + ((y - 210) / 120) ** 2 < 1
    small = (abs(x - 570) < 65) & (abs(y - 125) < 60)
    picture[large] = (200, 60, 50)
    picture[small] = (240, 220, 60)
    texture = 6 * np.sin(x / 3) * np.cos(y / 5)
    return np.clip(picture + texture[..., None], 0, 255).astype(np.uint8)


def prompts() -> list[Prompt]:
    """Give clicks, two clicks on one object, and boxes, each a prompt of its own."""
    clicks = [Prompt.make(image_hw=_SIZE_HW, points=[click]) for click in _CLICKS]
    pair = Prompt.make(image_hw=_SIZE_HW, points=list(_CLICKS), labels=[1, 0])
    return [*clicks, pair, *(Prompt.make(image_hw=_SIZE_HW, boxes=[box]) for box in _BOXES)]


def own_session(card: Card) -> Session:
    """Open the model as samlet itself runs it."""
    return Session(card, backends.create("onnx"))


def chosen(session: Session, view: Embedding, prompt: Prompt, *, single: bool) -> Masks:
    """Give samlet's answer in the order of the contract: four tokens, or one mask by SAM's rule."""
    if not single:
        first = session.segment(view, prompt)
        rest = session.segment(view, prompt, multimask=True)
        scores = np.concatenate([first.scores[:, None], rest.scores], axis=1)
        return replace(
            first, logits=np.concatenate([first.logits[:, None], rest.logits], axis=1), scores=scores
        )
    # SAM's rule counts tokens, of which a box has as many as a click with its padding.
    few = prompt.points is None or prompt.points.shape[1] == 1
    return session.segment(view, prompt, multimask=True).best() if few else session.segment(view, prompt)


def compare(
    card: Card,
    answer: Callable[[Image, Prompt], Answer],
    *,
    single: bool,
    like: Card | None,
    asked: Sequence[Prompt] = (),
) -> Agreement:
    """Ask exported files and samlet the same, and measure how far they agree.

    Args:
        card: The model.
        answer: Asks the exported files.
        single: Whether they give one mask a prompt.
        like: The card whose answers they must equal but for rounding, the model's own or one with another canvas; None
            if their weights are rounded or they scale pictures in another way.
        asked: The prompts; none for all of `prompts`.

    Raises:
        BackendError: They differ by more than that.
    """
    picture = Image.load(drawn_picture())
    own = own_session(card)
    twin = own if like is None or like == card else own_session(like)
    views = own.embed(picture), twin.embed(picture)
    gaps, ious = [], []
    asked = asked or prompts()
    for prompt in asked:
        want, got = chosen(own, views[0], prompt, single=single), answer(picture, prompt)
        masks = masks_of(want.logits.reshape(-1, *want.logits.shape[-2:]), views[0].frame)
        ious += [mask_iou(mine, theirs) for mine, theirs in zip(masks, got.masks, strict=True)]
        if like is not None:
            equal = want if twin is own else chosen(twin, views[1], prompt, single=single)
            gaps.append(gap([got.low_res], [equal.logits.reshape(got.low_res.shape)]))
    found = Agreement(max(gaps, default=None), float(np.mean(ious)), len(asked))
    check(found)
    return found


def compare_own(
    card: Card, encode: Run, decode: Run, *, canvas: Card, exact: bool, tokens: int | None = None
) -> Agreement:
    """Compare exported files that keep samlet's own contract: a normalised canvas in, four tokens of logits out.

    Args:
        card: The model.
        encode: Runs the encoder.
        decode: Runs the decoder.
        canvas: The card whose canvas they take.
        exact: Whether they must differ by rounding alone.
        tokens: How many points a prompt must have, padding and corners of boxes included; None for any number.

    Raises:
        BackendError: They differ by more than they may.
    """
    embedded: dict[str, Array] = {}

    def answer(image: Image, prompt: Prompt) -> Answer:
        feed, frame = sam.feed(image, canvas)
        if not embedded:
            embedded["now"] = encode(feed)[0]
        _, low_res = decode(sam_feeds(embedded["now"], frame, prompt))
        return Answer(masks_of(low_res[0], frame), low_res[0])

    asked = [prompt for prompt in prompts() if tokens in (None, _tokens(prompt))]
    return compare(card, answer, single=False, like=canvas if exact else None, asked=asked)


def _tokens(prompt: Prompt) -> int:
    return 2 if prompt.points is None else prompt.points.shape[1] + 1


def masks_of(logits: NDArray[np.float32], frame: Frame) -> NDArray[np.bool_]:
    """Enlarge (T, h, w) low-res logits in two steps, as SAM does, and cut at 0: (T, H, W)."""
    return np.stack([enlarge(each, frame, "exact") > 0 for each in logits])


def check(found: Agreement) -> None:
    """Refuse files that answer differently.

    Raises:
        BackendError: They do.
    """
    failed = []
    if found.difference is not None and found.difference > SAME:
        failed.append(f"they differ by {found.difference:.2g} of their spread")
    if found.iou is not None and found.iou < ALIKE:
        failed.append(f"their masks agree to an IoU of {found.iou:.3f}")
    if failed:
        raise BackendError(
            f"expected the exported files to answer as samlet does, but {' and '.join(failed)}; nothing was written: "
            "take --weights float32, or report this"
        )


def gap(got: Sequence[Array], want: Sequence[Array]) -> float:
    """Measure the largest difference of arrays, as a part of the spread of those that are right."""
    gaps = [float(np.abs(a - b).max() / max(float(b.std()), 1e-12)) for a, b in zip(got, want, strict=True)]
    return max(gaps) if np.isfinite(gaps).all() else float("inf")


def sam_feeds(embedding: Array, frame: Frame, prompt: Prompt) -> dict[str, Array]:
    """Make the decoder's feeds as SAM's clients do: one prompt, coordinates in the frame, a padding point at the end.

    Args:
        embedding: What the encoder gave.
        frame: From picture pixels to the contract's frame.
        prompt: One prompt.
    """
    coords: list[Array] = []
    labels: list[Array] = []
    if prompt.points is not None and prompt.labels is not None:
        coords.append(frame.to_model_points(prompt.points))
        labels.append(prompt.labels)
    if prompt.boxes is not None:
        coords.append(frame.to_model_boxes(prompt.boxes).reshape(1, 2, 2))
        labels.append(np.array([[2, 3]]))
    else:
        coords.append(np.zeros((1, 1, 2)))
        labels.append(np.array([[-1]]))
    return {
        "image_embeddings": embedding,
        "point_coords": np.concatenate(coords, axis=1).astype(np.float32),
        "point_labels": np.concatenate(labels, axis=1).astype(np.float32),
        "mask_input": np.zeros((1, 1, 4 * embedding.shape[2], 4 * embedding.shape[3]), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }


def picture_feed(image: Image, card: Card, frame: Frame, *, raw: bool) -> dict[str, Array]:
    """Make the encoder's feed: RGB 0 to 255 as (H, W, 3) float32, or what samlet feeds its own.

    Args:
        image: The picture.
        card: The model.
        frame: The contract's.
        raw: Whether the encoder prepares the picture itself.
    """
    if raw:
        return {"input_image": image.resized(frame.scaled_hw).astype(np.float32)}
    return dict(sam.feed(image, replace(card, pad="square"))[0])
