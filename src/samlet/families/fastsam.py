"""FastSAM (Zhao et al. 2023, arXiv 2306.12156): one pass finds every instance, prompts choose among them.

    embedding = session.embed(image)                               candidates (M, 37) and protos (32, h, w)
    rules = samlet.instances.rules_of(card, conf=0.25)             card's settings with changes
    instances(embedding, card, rules) -> StoredMasks               all instances at the picture's size, best first
    answer(embedding, prompt, card, multimask=False) -> StoredMasks    one mask a prompt

The embedding keeps the candidates above a low floor, so that thresholds change without another run. Where the
reference crashes or guesses, this does not: nothing found is an empty answer, several boxes may cover the whole
picture, the rules hold for every picture of a batch, NMS has no time limit, and each prompt has its own answer.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.card import Card
from samlet.embedding import Embedding
from samlet.errors import BackendError, EmbeddingError, InputError, PromptError
from samlet.families.base import Feeds, Outputs
from samlet.geometry import Frame
from samlet.image import Image
from samlet.instances import (
    BOX_AND_SCORE,
    InstanceRules,
    detect,
    letterboxed,
    mask_codes,
    promising,
    rules_of,
)
from samlet.masks import Masks, StoredMasks
from samlet.prompt import Prompt
from samlet.regions import NOTHING, Regions, by_boxes, by_boxes_and_points, by_points, paint
from samlet.rle import Rle, mask_to_rle

ROLES = ("network",)
_COEFFICIENTS = 32


def feed(image: Image, card: Card) -> tuple[Feeds, Frame]:
    """Scale a picture to the card's side, put it in the middle of a grey canvas and normalise it.

    Args:
        image: The picture.
        card: `side`; `pad` is "square" or the multiple to which the canvas is padded; settings `swap_channels`
            and `antialias`, see `samlet.instances.letterboxed`.

    Returns:
        {"image": (1, 3, H, W) float32}, H and W being the canvas, and the frame.
    """
    frame = Frame.letterbox(image.hw, card.side, multiple=None if card.pad == "square" else int(card.pad))
    return {"image": letterboxed(image, card, frame)}, frame


def embedding_arrays(outputs: Outputs, card: Card) -> Feeds:
    """Keep what any threshold could want of the network's output.

    Returns:
        {"candidates": (M, 5 + 32), best first, "protos": (32, h, w)}, float32.

    Raises:
        BackendError: The network gave something else, or numbers that are not finite.
    """
    candidates, protos = outputs["candidates"], outputs["protos"]
    width = BOX_AND_SCORE + _COEFFICIENTS
    fits = candidates.ndim == 3 and candidates.shape[:2] == (1, width)
    fits = fits and protos.ndim == 4 and protos.shape[:2] == (1, _COEFFICIENTS)
    if not fits or not (np.isfinite(candidates).all() and np.isfinite(protos).all()):
        raise BackendError(
            f"expected finite candidates (1, {width}, A) and protos (1, {_COEFFICIENTS}, h, w) from "
            f"{card.name}, got shapes {candidates.shape} and {protos.shape}; install the model again"
        )
    return {
        "candidates": promising(candidates, card),
        "protos": np.ascontiguousarray(protos[0], np.float32),
    }


def instances(embedding: Embedding, card: Card, rules: InstanceRules | None = None) -> StoredMasks:
    """Give everything that the network found.

    Args:
        embedding: What `embed` made of the picture.
        card: The model.
        rules: Thresholds, from `samlet.instances.rules_of`; None takes the card's.

    Returns:
        Masks at the picture's size, best score first, possibly none; `facts["box_xyxy"]` (N, 4) float32 are the
        network's own boxes in picture pixels, to which each mask is cut.

    Raises:
        InputError: The card's settings are no rules.
        EmbeddingError: The arrays are not this family's.
    """
    rules = rules_of(card) if rules is None else rules
    known = embedding.derived.get("instances")
    if known is not None and known[0] == rules:
        found: StoredMasks = known[1]
        return found
    rows, protos = _arrays(embedding, card)
    frame = embedding.frame
    chosen = detect(rows, frame.canvas_hw, rules, full_frame=True)
    found = StoredMasks.of(
        mask_codes(chosen, protos, frame, rules),
        chosen.scores,
        frame.image_hw,
        image=embedding.image,
        facts={"box_xyxy": chosen.picture_boxes(frame)},
    )
    embedding.derived["instances"] = (rules, found)
    return found


def answer(embedding: Embedding, prompt: Prompt, card: Card, *, multimask: bool) -> Masks:
    """Choose among the instances, for each prompt on its own; see `samlet.regions` for the rules.

    Args:
        embedding: What `embed` made of the picture.
        prompt: N prompts in picture pixels: points, a box, or both.
        card: The model.
        multimask: Must be False.

    Returns:
        N stored masks in prompt order, with the score of the best instance that is part of each; a prompt that no
        instance fits has an empty mask with score 0.

    Raises:
        InputError: Three candidates were asked for.
        PromptError: The prompt has a mask hint.
        EmbeddingError: The arrays are not this family's.
    """
    if multimask:
        raise InputError(
            f"expected one mask a prompt from {card.name}, which chooses among regions and has no candidates, got "
            "multimask=True; leave it out"
        )
    if prompt.hint is not None:
        raise PromptError(
            f"expected points or boxes for {card.name}, got a mask hint, which it cannot use; leave it out"
        )
    found = instances(embedding, card)
    return choose(found, prompt)


def choose(found: StoredMasks, prompt: Prompt) -> StoredMasks:
    """Answer prompts from masks that are there already.

    Args:
        found: Instances of one picture.
        prompt: N prompts in its pixels; a hint is not looked at.

    Returns:
        N masks in prompt order; see `answer`.
    """
    regions = Regions.of(found)
    if prompt.boxes is None:
        return _painted(found, regions, prompt)
    if prompt.points is None or prompt.labels is None:
        chosen, _ = by_boxes(regions, _grown(prompt.boxes, regions.image_hw))
    else:
        boxes = _grown(prompt.boxes, regions.image_hw)
        chosen = by_boxes_and_points(regions, boxes, list(prompt.points), list(prompt.labels))
    height, width = regions.image_hw
    empty = Rle(size=[height, width], counts=[height * width])
    return _answered(
        found,
        [empty if row == NOTHING else found.rles[row] for row in chosen],
        [0.0 if row == NOTHING else float(found.scores[row]) for row in chosen],
    )


def _painted(found: StoredMasks, regions: Regions, prompt: Prompt) -> StoredMasks:
    points, labels = prompt.points, prompt.labels
    picks = by_points(regions, [] if points is None else list(points), [] if labels is None else list(labels))
    rles = [mask_to_rle(paint(regions, pick)) for pick in picks]
    scores = [float(found.scores[pick.chosen[pick.adds]].max(initial=0)) for pick in picks]
    empty = [len(rle["counts"]) == 1 for rle in rles]  # a fully cut out answer is nothing
    return _answered(found, rles, [0.0 if no else score for no, score in zip(empty, scores, strict=True)])


def _answered(found: StoredMasks, rles: list[Rle], scores: list[float]) -> StoredMasks:
    return StoredMasks.of(rles, np.array(scores, np.float32), found.frame.image_hw, image=found.image)


def _grown(boxes: ArrayLike, image_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Make boxes thinner than a pixel, which are good prompts elsewhere, as wide as the pixels they touch."""
    array = np.array(boxes, np.float64)
    whole = np.rint(array)
    thin = np.tile(whole[:, 2:] <= whole[:, :2], 2)
    outward = np.concatenate((np.floor(array[:, :2]), np.ceil(array[:, 2:])), axis=1)
    return np.where(thin, outward, array)


def _arrays(embedding: Embedding, card: Card) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, protos = embedding.arrays.get("candidates"), embedding.arrays.get("protos")
    if rows is None or protos is None or rows.shape[1:] != (BOX_AND_SCORE + len(protos),):
        raise EmbeddingError(
            f"expected an embedding with candidates and protos for {card.name}, got "
            f"{', '.join(embedding.arrays) or 'nothing'}; embed the picture again"
        )
    return rows, protos
