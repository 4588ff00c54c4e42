"""What all codecs ask of their input, and how they write numbers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.rle import checked_mask

Label = TypeVar("Label", str, int)
Item = TypeVar("Item")


def sized_mask(mask: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Give a mask as bool, or refuse one of another size than the picture's."""
    inside = checked_mask(mask)
    if inside.shape != image_hw:
        raise InputError(
            f"expected masks of the picture's size {image_hw[0]} x {image_hw[1]}, got one of "
            f"{inside.shape[0]} x {inside.shape[1]}; pass the size the masks were made for"
        )
    return inside


def labelled(
    masks: Iterable[Item], labels: Sequence[Label] | None, default: Label
) -> Iterator[tuple[Item, Label]]:
    """Give masks with their labels, or refuse another number of labels."""
    count = 0
    for mask in masks:
        if labels is not None and count >= len(labels):
            raise InputError(
                f"expected one label for each mask, got only {len(labels)}; pass as many labels as masks"
            )
        yield mask, default if labels is None else labels[count]
        count += 1
    check_count("labels", labels, count)


def check_count(name: str, values: Sequence[Any] | NDArray[Any] | None, count: int) -> None:
    """Refuse another number of values than of masks."""
    if values is not None and len(values) != count:
        raise InputError(
            f"expected one of {name} for each of {count} masks, got {len(values)}; pass as many as masks"
        )


def score_of(scores: Sequence[float] | NDArray[np.float32], index: int) -> float:
    """Give one mask's score with six digits, or refuse too few scores."""
    if index >= len(scores):
        raise InputError(
            f"expected one score for each mask, got only {len(scores)}; pass as many scores as masks"
        )
    return round(float(scores[index]), 6)


def numbers(values: NDArray[np.float64]) -> list[float]:
    """Write coordinates for JSON."""
    # Corners lie on whole numbers; integers keep the JSON a third smaller.
    return [int(value) if value == int(value) else round(float(value), 3) for value in values.tolist()]
