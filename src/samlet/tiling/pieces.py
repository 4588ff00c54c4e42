"""Masks of a large picture while they are put together, as parallel columns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.runs import Runs

WHOLE = -1
"""Tile number of a mask that the look at the whole picture found."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """N masks in the picture's own coordinates.

    Attributes:
        runs: The masks.
        scores: (N,) float64.
        tile: (N,) int64, the tile each was found in, or `WHOLE`.
        cut: (N, 4) bool: does the mask end at its tile's left, top, right, bottom side, inside the picture?
        facts: Numbers known of every mask, (N,) float64 each.
        count: (N,) int64, of how many tiles' masks each is made.
        view: (N, 4) int64, the part of the picture that was looked at when each was found.
        boxes: (N, 4) int64 bounding boxes with exclusive ends.
        areas: (N,) int64 pixels.
    """

    runs: tuple[Runs, ...]
    scores: NDArray[np.float64]
    tile: NDArray[np.int64]
    cut: NDArray[np.bool_]
    facts: dict[str, NDArray[np.float64]]
    count: NDArray[np.int64]
    view: NDArray[np.int64]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        runs: Sequence[Runs],
        scores: NDArray[Any],
        *,
        tile: int,
        view: NDArray[np.int64],
        cut: NDArray[np.bool_] | None = None,
        facts: dict[str, NDArray[np.float64]] | None = None,
    ) -> "Pieces":
        """Measure masks that were found together."""
        count = len(runs)
        return cls(
            runs=tuple(runs),
            scores=np.asarray(scores, np.float64),
            tile=np.full(count, tile, np.int64),
            cut=np.zeros((count, 4), np.bool_) if cut is None else cut,
            facts=dict(facts or {}),
            count=np.ones(count, np.int64),
            view=np.tile(view, (count, 1)),
            boxes=np.array([one.box for one in runs], np.int64).reshape(-1, 4),
            areas=np.array([one.area for one in runs], np.int64),
        )

    def __len__(self) -> int:
        """Count the masks."""
        return len(self.runs)

    @property
    def is_cut(self) -> NDArray[np.bool_]:
        """Whether each mask still ends at a seam, (N,)."""
        return np.asarray(self.cut.any(axis=1))

    def take(self, rows: NDArray[Any]) -> "Pieces":
        """Give some of the masks, by numbers or by a bool array."""
        picked = np.arange(len(self))[rows]
        return replace(
            self,
            runs=tuple(self.runs[row] for row in picked.tolist()),
            facts={name: values[picked] for name, values in self.facts.items()},
            **{name: getattr(self, name)[picked] for name in _COLUMNS},
        )


_COLUMNS = ("scores", "tile", "cut", "count", "view", "boxes", "areas")


def chained(parts: Sequence[Pieces]) -> Pieces:
    """Put masks behind each other; of the facts those stay that all parts have.

    Args:
        parts: At least one.
    """
    known = [set(part.facts) for part in parts if len(part)]
    names = sorted(set.intersection(*known)) if known else []
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    facts = {name: np.concatenate([part.facts[name] for part in parts if len(part)]) for name in names}
    return Pieces(runs=tuple(one for part in parts for one in part.runs), facts=facts, **columns)
