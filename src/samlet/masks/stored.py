"""Masks that no longer have logits: everything mode and FastSAM keep them as run lengths, at picture size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.geometry import Frame
from samlet.image import Image
from samlet.masks.logits import Masks
from samlet.prompt import Prompt
from samlet.rle import Rle, rle_to_bbox_and_area, rle_to_mask, rle_to_string


@dataclass(frozen=True, eq=False, repr=False)
class StoredMasks(Masks):
    """N masks of one picture, each a run-length code: a few hundred bytes instead of 256 KiB of logits.

    It is a `Masks` in everything but the logits: `masks`, `boxes_xyxy`, every codec and drawing work alike.

    Attributes:
        rles: One plain run-length code for each mask.
        facts: What else is known of each mask, arrays with N rows by name; SAM's everything mode gives
            "stability_score" (N,), "point_coords" (N, 2) and "crop_box" (N, 4) xywh, in picture pixels.

    Example:
        >>> StoredMasks.of([{"size": [1, 2], "counts": [1, 1]}], [0.5], (1, 2)).masks.tolist()
        [[[False, True]]]
    """

    rles: tuple[Rle, ...] = ()
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rles: Sequence[Rle],
        scores: NDArray[Any] | Sequence[float],
        image_hw: tuple[int, int],
        *,
        image: Image | None = None,
        prompt: Prompt | None = None,
        facts: Mapping[str, NDArray[Any]] | None = None,
    ) -> Self:
        """Put run-length codes and what belongs to them together.

        Args:
            rles: N plain codes (`samlet.rle.mask_to_rle`) of the picture's size.
            scores: (N,) one score each.
            image_hw: Size of the picture.
            image: The picture, so that `draw` needs no argument.
            prompt: What was asked, drawn by `draw`.
            facts: Arrays with N rows by name.

        Raises:
            InputError: The parts differ in number, or a code is of another size.
        """
        height, width = image_hw
        wrong = [rle["size"] for rle in rles if tuple(rle["size"]) != (height, width)]
        short = [name for name, rows in (facts or {}).items() if len(rows) != len(rles)]
        if wrong or short:
            found = f"one of {wrong[0]}" if wrong else f"another number of {short[0]}"
            raise InputError(
                f"expected {len(rles)} run-length codes of {height} x {width} pixels with as many facts, "
                f"got {found}; pass masks of one picture"
            )
        return cls(
            # The base class wants a grid; nobody reads this one, `logits` is refused below.
            logits=np.zeros((len(rles), 1, 1), np.float32),
            scores=np.asarray(scores, np.float32),
            frame=Frame((height, width), (height, width), (height, width)),
            image=image,
            prompt=prompt,
            rles=tuple(rles),
            facts=dict(facts or {}),
        )

    def __getitem__(self, index: int | slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> Self:
        """Take some of the masks; see `Masks.__getitem__`."""
        chosen = np.asarray(index, np.int64) if isinstance(index, list | tuple) and not index else index
        picked: NDArray[np.int64] = np.atleast_1d(np.arange(len(self))[chosen])
        return replace(
            super().__getitem__(picked),
            rles=tuple(self.rles[row] for row in picked),
            facts={name: rows[picked] for name, rows in self.facts.items()},
        )

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Full-size masks (N, H, W), made at the first use and kept."""
        if "masks" not in self._made:
            self._keep("masks", np.array(list(self._decoded()), bool).reshape(-1, *self.frame.image_hw))
        return self._made["masks"]

    def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
        """Make the full-size masks one at a time: (H, W) each."""
        yield from self._made["masks"] if "masks" in self._made else self._decoded()

    def to_rle(self, *, compressed: bool = True) -> list[Rle]:
        """Give the codes that are stored; see `Masks.to_rle`."""
        if not compressed:
            return list(self.rles)
        return [Rle(size=list(rle["size"]), counts=rle_to_string(rle)) for rle in self.rles]

    def full_logits(self, index: int) -> NDArray[np.float32]:
        """Refuse: these masks have no logits.

        Raises:
            InputError: Always.
        """
        raise self._no_logits("full_logits")

    def stability(self, offset: float = 1.0) -> NDArray[np.float32]:
        """Give the stability score that was measured when the masks were made.

        Raises:
            InputError: None was measured.
        """
        if "stability_score" not in self.facts:
            raise self._no_logits("stability")
        return np.asarray(self.facts["stability_score"], np.float32)

    @property
    def hint(self) -> NDArray[np.float32]:
        """Refuse: these masks have no logits."""
        raise self._no_logits("hint")

    def _measure(self) -> None:
        """Boxes and areas straight from the run lengths, which is a thousandth of the work of decoding them."""
        if "areas" not in self._made:
            measured = [rle_to_bbox_and_area(rle) for rle in self.rles]
            xywh = np.array([box for box, _ in measured], np.int64).reshape(-1, 4)
            self._keep("boxes", np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1))
            self._keep("areas", np.array([area for _, area in measured], np.int64))

    def _decoded(self) -> Iterator[NDArray[np.bool_]]:
        return (rle_to_mask(rle) for rle in self.rles)

    def _no_logits(self, what: str) -> InputError:
        return InputError(
            f"expected masks with logits for {what}, got masks stored as run lengths; prompt the model with "
            "their boxes to get logits"
        )
