"""Regions that are there already, ranked by words: `pick`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.image import Image
from samlet.masks import Masks, StoredMasks
from samlet.regions import NOTHING, Crop, Regions, Scorer, TextPick, by_text
from samlet.text.labelled import labelled, read_texts, words


def pick(  # noqa: PLR0913  what is asked and four ways to ask it, each with its own keyword
    masks: Masks,
    image: Image | None,
    texts: str | Sequence[str],
    scorer: Scorer,
    *,
    at_most: int | None = 1,
    threshold: float | None = None,
    crop: Crop = "masked",
    wider: bool = False,
) -> StoredMasks:
    """Choose among masks by words.

    With several texts each region belongs to the one that fits it best, so that no mask comes twice. A scorer
    ranks whatever it is shown: without a threshold something is found for nearly every text, also for what is not
    in the picture.

    Args:
        masks: All regions of a picture, as everything mode or FastSAM finds them; those of
            `samlet.regions.MIN_TEXT_AREA` pixels or fewer take no part.
        image: Their picture; None takes the one the masks carry.
        texts: A phrase, or several.
        scorer: Says how well a phrase fits a crop: `load_clip()`, or any function.
        at_most: Most masks for each text; None gives all that reach the threshold.
        threshold: Lowest score in the scorer's own numbers (for CLIP a hundred times the cosine).
        crop: What the scorer sees of a region: "masked" the region alone on white, "box" its box with all pixels,
            "whole" the picture with everything outside the box white, see `samlet.regions.crops`.
        wider: Whether to take, for each text, the largest region that holds nearly all of the best one: the dog
            instead of its head. Texts do not compete then, and `at_most` must be 1.

    Returns:
        The masks of the first text, best first, then those of the second; none at all is an answer, too. Their
        facts are "text" (N,) str, "text_score" (N,) the scorer's number, and "text_share" (N,), the softmax of
        that text's scores over all regions. `masks.to_coco(labels=masks.facts["text"])` names them in a file.

    Raises:
        PromptError: A text is empty or comes twice.
        InputError: There is no picture or it has another size, the masks have several candidates, or a number
            makes no sense.

    Example:
        >>> masks = StoredMasks.of([{"size": [20, 20], "counts": [0, 400]}], [0.5], (20, 20))
        >>> red = Image.load(np.full((20, 20, 3), (200, 0, 0), np.uint8))
        >>> found = pick(masks, red, ["red", "blue"], lambda crops, text: [float(text == "red") for _ in crops])
        >>> found.facts["text"].tolist(), found.facts["text_score"].tolist()
        (['red'], [1.0])
    """
    asked = read_texts(texts)
    picture = image if image is not None else masks.image
    if picture is None:
        raise InputError("expected a picture to show the scorer, got none with these masks; pass it as image")
    if at_most is not None and (at_most < 1 or (wider and at_most != 1)):
        raise InputError(
            f"expected at_most of at least 1, and exactly 1 with wider, got {at_most}; use None for all"
        )
    if wider and at_most is None:
        raise InputError("expected at_most=1 with wider, got None; ask for one mask a text")
    regions = Regions.of(masks)
    picks = [by_text(regions, picture, text, scorer, crop=crop, wider=wider) for text in asked]
    scores = np.array([one.scores for one in picks]).reshape(len(asked), len(regions))
    shares = np.array([_softmax(row) for row in scores]).reshape(scores.shape)
    pairs = [
        (number, row)
        for number, rows in enumerate(_rows(picks, scores, at_most=at_most, wider=wider))
        for row in rows
        if threshold is None or scores[number, row] >= threshold
    ]
    numbers, chosen = np.array(pairs, np.int64).reshape(-1, 2).T
    facts = {
        "text": words([asked[number] for number in numbers]),
        "text_score": scores[numbers, chosen].astype(np.float32),
        "text_share": shares[numbers, chosen].astype(np.float32),
    }
    return labelled(masks[chosen], facts, image=picture)


def _rows(
    picks: list[TextPick], scores: NDArray[np.float64], *, at_most: int | None, wider: bool
) -> list[NDArray[np.int64]]:
    """Give the regions of each text, best first."""
    if wider:
        return [np.array([one.chosen] if one.chosen != NOTHING else [], np.int64) for one in picks]
    owner = scores.argmax(axis=0) if scores.size else np.zeros(scores.shape[1], np.int64)
    rows = []
    for number, own in enumerate(scores):
        order = np.argsort(-own, kind="stable")
        mine = order[(owner[order] == number) & (own[order] > -np.inf)]
        rows.append(mine[:at_most])
    return rows


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the scores, 0 where a region took no part."""
    if not np.isfinite(scores).any():
        return np.zeros(len(scores))
    powers = np.exp(scores - scores[np.isfinite(scores)].max())
    return np.asarray(powers / powers.sum(), np.float64)
