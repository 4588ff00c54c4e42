"""What is done with every picture of a batch: all that decides the results, and nothing else."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from samlet.errors import InputError

FORMATS = ("jsonl", "coco", "parquet", "tar", "labels")
"""What a batch can write."""

ANNOTATIONS = ("yolo", "labelme", "voc")
"""What it can write for each picture of a data set besides, whose labels are known when it begins."""

WAYS = ("auto", "objects", "grid", "hierarchical", "regions")
"""How everything is found, as `Model.everything` names it."""

_ZOOMS = ("off", "auto")
_SHAPES = ("auto", "padded", "fit")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done with every picture; two runs with equal recipes give equal results.

    Attributes:
        model: A name from `samlet models`, or the path of a file.
        decoder: File with SAM's prompt encoder and mask decoder, for an encoder that comes without.
        backend: The runtime: "onnx", or what `samlet.backends` names; "fake" draws shapes without a network, for
            trials of everything around the model.
        shape: "padded" for SAM's padded square, "fit" for no more than the picture fills, "auto" for what the model
            was trained with.
        prompted: Whether each picture's own prompts are answered; otherwise everything in it is found.
        by: How everything is found.
        grid: Clicks of "grid" and "hierarchical", such as "32x32".
        at_most: Most masks of a picture when everything is found, the best; None for no bound of ours.
        min_score: Masks below it are left out when everything is found, 0 to 1.
        zoom: "auto" looks twice at small boxes.
        formats: What is written, of `FORMATS` and `ANNOTATIONS`.
        rated: Whether masks of boxes come with figures of their quality, a table and a page for review; needs records,
            so the format "jsonl" or "coco".
        classes: Names of objects in the order of YOLO's numbers.
        model_digest: What the model's card says decides its answers; filled in by `run`.
        version: samlet's version; filled in by `run`.

    Raises:
        InputError: A value is none of those allowed.

    Example:
        >>> Recipe(formats=("coco",)).digest() == Recipe(formats=("coco",)).digest()
        True
    """

    model: str = "nano"
    decoder: str | None = None
    backend: str = "onnx"
    shape: Literal["auto", "padded", "fit"] = "auto"
    prompted: bool = False
    by: str = "auto"
    grid: str | None = None
    at_most: int | None = None
    min_score: float = 0.0
    zoom: Literal["off", "auto"] = "auto"
    formats: tuple[str, ...] = ("jsonl",)
    rated: bool = False
    classes: tuple[str, ...] = ()
    model_digest: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        """Check what could only fail late."""
        known = FORMATS + ANNOTATIONS
        if not self.formats or any(name not in known for name in self.formats):
            raise InputError(f"expected formats of {', '.join(known)}, got {self.formats}; name some of them")
        if self.rated and not {"jsonl", "coco"} & set(self.formats):
            raise InputError(
                f"expected jsonl or coco among the formats of a rated batch, got {self.formats}; add one"
            )
        if self.by not in WAYS or self.zoom not in _ZOOMS:
            raise InputError(
                f"expected by of {', '.join(WAYS)} and zoom of {', '.join(_ZOOMS)}, got {self.by!r:.40} and "
                f"{self.zoom!r:.40}; name one of them"
            )
        if self.shape not in _SHAPES:
            raise InputError(
                f"expected a shape of {', '.join(_SHAPES)}, got {self.shape!r:.40}; name one of them"
            )
        if self.grid is not None and not re.fullmatch(r"\d{1,4}(x\d{1,4})?", self.grid):
            raise InputError(f"expected a grid such as 32x32, got {self.grid!r:.40}; correct it")
        if self.at_most is not None and not 1 <= self.at_most <= 4096:
            raise InputError(f"expected at_most from 1 to 4096, got {self.at_most!r:.40}; correct it")
        if not 0 <= self.min_score <= 1:
            raise InputError(f"expected min_score from 0 to 1, got {self.min_score!r:.40}; correct it")

    def to_json(self) -> str:
        """Write it as JSON, always the same for the same recipe."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: JSON.
        """
        values: dict[str, Any] = json.loads(text)
        values["classes"] = tuple(values.get("classes", ()))  # outputs of earlier versions have none
        return cls(**{**values, "formats": tuple(values["formats"])})

    def digest(self) -> str:
        """Name the recipe by its content: SHA-256 in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def differences(self, other: Self) -> list[str]:
        """List what another recipe has otherwise, as "name: mine, not theirs".

        Args:
            other: The other recipe.

        Example:
            >>> Recipe().differences(Recipe(model="mobile_sam"))
            ["model: 'nano', not 'mobile_sam'"]
        """
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [
            f"{name}: {_short(mine[name])}, not {_short(theirs[name])}"
            for name in mine
            if mine[name] != theirs[name]
        ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
