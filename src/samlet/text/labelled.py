"""Masks with words: run lengths whose facts say, row by row, which text each mask belongs to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.errors import PromptError
from samlet.image import Image
from samlet.masks import Masks, StoredMasks

MAX_TEXTS = 256
"""Most texts of one call."""


def read_texts(texts: object) -> list[str]:
    """Check one text or several.

    Returns:
        A list of them, without white space around them.

    Raises:
        PromptError: There is none, one is empty, one comes twice, or there are too many.

    Example:
        >>> read_texts(" a cat ")
        ['a cat']
    """
    given = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, list | tuple) else [None]
    read = [text.strip() for text in given if isinstance(text, str)]
    if not read or len(read) != len(given) or not all(read):
        raise PromptError(f"expected a phrase or a list of them, got {texts!r:.80}; give words")
    if len(set(read)) != len(read) or len(read) > MAX_TEXTS:
        raise PromptError(
            f"expected at most {MAX_TEXTS} different phrases, got {len(read)}, {len(set(read))} of them different; "
            "leave some out"
        )
    return read


def labelled(masks: Masks, facts: Mapping[str, NDArray[Any]], *, image: Image | None = None) -> StoredMasks:
    """Put facts beside masks, which become run lengths if they are logits.

    Args:
        masks: N masks, one each.
        facts: Arrays with N rows by name; they take the place of older ones of that name.
        image: The picture, for drawing, if the masks do not have it.

    Returns:
        The masks in their order; `stability()` still works.

    Raises:
        InputError: The prompts still have several candidates.
    """
    image = masks.image if masks.image is not None else image
    if isinstance(masks, StoredMasks):
        return replace(masks, image=image, facts={**masks.facts, **facts})
    return StoredMasks.of(
        masks.to_rle(compressed=False),
        masks.scores,
        masks.frame.image_hw,
        image=image,
        prompt=masks.prompt,
        facts={"stability_score": masks.stability(), **facts},
    )


def words(texts: list[str]) -> NDArray[np.str_]:
    """Make an array of texts, also of none; `masks.to_coco(labels=...)` and its like take it."""
    return np.array(texts, np.str_) if texts else np.zeros(0, "<U1")
