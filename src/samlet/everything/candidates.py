"""The masks that everything mode still considers: parallel arrays, filtered and joined by rows."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet.everything.bits import Bits
from samlet.everything.pack import Packed

Shape = Packed | Bits | NDArray[np.integer[Any]]
"""Packed logits of a crop (fast mode) or the run lengths of the picture-sized mask (exact mode)."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """N masks with what is known of them.

    Attributes:
        scores: (N,) the network's own estimates.
        stability: (N,) stability scores.
        points: (N, 2) the clicks, in picture pixels.
        boxes: (N, 4) x0, y0, x1, y1 in picture pixels.
        crops: (N,) number of the crop that the mask was found in.
        shapes: The masks themselves.
    """

    scores: NDArray[np.float32]
    stability: NDArray[np.float32]
    points: NDArray[np.float64]
    boxes: NDArray[np.float64]
    crops: NDArray[np.int64]
    shapes: tuple[Shape, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[Any]) -> Self:
        """Keep some, in the order given; `rows` holds numbers or one bool for each."""
        picked = np.arange(len(self))[rows]
        arrays = {name: getattr(self, name)[picked] for name in _ARRAYS}
        return type(self)(**arrays, shapes=tuple(self.shapes[row] for row in picked))

    @classmethod
    def join(cls, parts: Sequence["Candidates"]) -> Self:
        """Put candidates behind each other; no parts give none."""
        parts = [nothing(), *parts]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        return cls(**arrays, shapes=tuple(shape for part in parts for shape in part.shapes))


_ARRAYS = tuple(field.name for field in fields(Candidates) if field.name != "shapes")


def nothing() -> Candidates:
    """Give no candidates, with arrays of the right type: what is joined to them keeps its type."""
    return Candidates(
        scores=np.zeros(0, np.float32),
        stability=np.zeros(0, np.float32),
        points=np.zeros((0, 2), np.float64),
        boxes=np.zeros((0, 4), np.float64),
        crops=np.zeros(0, np.int64),
        shapes=(),
    )
