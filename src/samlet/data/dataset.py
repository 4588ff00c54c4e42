"""One data set, however it lies on the disk: its pictures are listed, and each is read when it is asked for."""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from samlet.data.sample import Boxed, Broken, Item, Sample
from samlet.errors import InputError
from samlet.limits import DEFAULT_LIMITS, Limits

_MODULES = {
    "masks": "folders", "binary": "folders", "coco": "coco", "lvis": "coco", "sa1b": "sa1b", "voc": "voc",
    "yolo": "yolo", "labelme": "labelme", "davis": "davis", "bsds": "bsds", "csv": "tables",
}  # fmt: skip
_Read = TypeVar("_Read")
KINDS = tuple(_MODULES)
"""Names of the layouts, as they go before a path: "coco:annotations.json"."""

_NAMED = re.compile(rf"({'|'.join(KINDS)}):(.+)", re.DOTALL)


class Spec(NamedTuple):
    """Words that name a data set, taken apart.

    Attributes:
        kind: One of `KINDS`.
        path: The folder or file.
        part: What stands after "@": the split, or the folder of the other half; None if nothing does.
        human: Which of several people's marks of a picture to read, from 1.
        boxes: Whether pictures with boxes alone are wanted too.
    """

    kind: str
    path: Path
    part: str | None = None
    human: int = 1
    boxes: bool = False


class Layout(Protocol):
    """One way in which data sets lie on the disk."""

    @property
    def items(self) -> tuple[Item, ...]:
        """The pictures, listed without reading any, in the order of their names."""

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the marks of one picture.

        Raises:
            InputError: They cannot be used.
        """

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes of one picture, or those around its regions.

        Raises:
            InputError: They cannot be used.
        """

    def segmentations(self, item: Item) -> list[Item]:
        """List the segmentations of a picture, each as an item; most layouts have one."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of pictures with marks, in the order of their file names.

    Attributes:
        name: What it is called in reports.
        root: The folder or file.
        items: The pictures, with or without marks.
        kind: One of `KINDS`.
        layout: What reads them.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    kind: str
    layout: Layout = field(repr=False, compare=False)

    @classmethod
    def open(cls, words: str | Path, *, human: int = 1, boxes: bool = False) -> "Dataset":
        """List the pictures of a data set without decoding any.

        Args:
            words: A path, whose kind is then guessed, or KIND:PATH, or KIND:PATH@PART; docs/how-to/data-sets.md has the
                kinds, and what PART means to each.
            human: Which of several human segmentations of a picture to read, from 1. A picture with fewer has
                no mask then.
            boxes: List pictures that have boxes alone too, where a layout tells them apart.

        Raises:
            InputError: There is no such data set, or no picture in it.
            MissingExtraError: A package is missing that the layout needs.

        Example:
            ``Dataset.open("coco:instances_val2017.json@val2017")``
        """
        spec = parsed(words, human=human, boxes=boxes)
        layout: Layout = importlib.import_module(f"samlet.data.{_MODULES[spec.kind]}").open_layout(spec)
        if not layout.items:
            raise InputError(
                f"expected pictures in {spec.path} ({spec.kind}), found none; give another path or kind"
            )
        stem = spec.path.resolve()
        name = stem.name if stem.is_dir() else stem.stem
        return cls(name, spec.path, layout.items, spec.kind, layout)

    def __len__(self) -> int:
        """Give the number of pictures."""
        return len(self.items)

    @property
    def broken(self) -> tuple[Broken, ...]:
        """What was broken already in listing, and belongs to no picture: rows of a COCO file."""
        found: tuple[Broken, ...] = getattr(self.layout, "strays", ())
        return found

    def select(self, *, every: int = 1, limit: int | None = None) -> "Dataset":
        """Keep every k-th picture in file order, beginning with the first, and of those the first ``limit``.

        Raises:
            InputError: ``every`` or ``limit`` is below 1.
        """
        if every < 1 or (limit is not None and limit < 1):
            raise InputError(
                f"expected every and limit of 1 or more, got {every} and {limit}; "
                "leave them out to take every picture"
            )
        return replace(self, items=self.items[::every][:limit])

    def read(self, item: Item, *, limits: Limits = DEFAULT_LIMITS) -> Sample:
        """Read the marks of one picture.

        Raises:
            InputError: The marks are missing or broken, or there are only boxes.
            LimitError: The mask has more pixels than the limits allow.
        """
        return self._guarded(self.layout.read, item, limits)

    def boxes(self, item: Item, *, limits: Limits = DEFAULT_LIMITS) -> Boxed:
        """Read the boxes of one picture; where there are none, those around its regions.

        Raises:
            InputError: The marks are missing or broken.
        """
        return self._guarded(self.layout.boxes, item, limits)

    def segmentations(self, item: Item) -> list[Item]:
        """List the segmentations of a picture, each as an item of its own; more than one in BSDS only."""
        return self.layout.segmentations(item)

    def samples(self, *, broken: list[Broken]) -> Iterator[Sample]:
        """Read one picture's mask after the other; what cannot be read is appended to ``broken`` instead.

        Example:
            ``for sample in Dataset.open("bench/pets24").samples(broken=[]): ...``
        """
        broken += self.broken
        for item in self.items:
            try:
                sample = self.read(item)
            except InputError as error:
                broken.append(Broken(item.name, str(error)))
            else:
                broken += sample.broken
                yield sample

    @staticmethod
    def _guarded(read: Callable[[Item, Limits], _Read], item: Item, limits: Limits) -> _Read:
        """Read, and say in a sentence what is wrong with a file that holds something else than it should."""
        try:
            return read(item, limits)
        except (
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"expected the marks of {item.name}, got something else ({reason:.120}); write them again"
            ) from error


def named_kind(words: str | Path) -> str | None:
    """Give the kind that words name; None if they are but a path.

    Example:
        >>> named_kind("coco:a.json"), named_kind("a.json")
        ('coco', None)
    """
    found = _NAMED.fullmatch(str(words))
    return None if found is None else found[1]


def parsed(words: str | Path, *, human: int = 1, boxes: bool = False) -> Spec:
    """Take apart the words that name a data set, and guess the kind if they do not say it.

    Raises:
        InputError: There is nothing at the path.
    """
    found = _NAMED.fullmatch(str(words))
    text = str(words) if found is None else found[2]
    path, part = Path(text), None
    if not path.exists() and "@" in text:
        before, _, after = text.rpartition("@")
        path, part = Path(before), after or None
    if not path.exists():
        raise InputError(
            f"expected a data set, but there is nothing at {str(path)!r:.200}; correct the path (KIND:PATH, where KIND "
            f"is one of {', '.join(KINDS)})"
        )
    return Spec(found[1] if found else guessed(path), path, part, human, boxes)


def guessed(path: Path) -> str:
    """Guess the kind of a data set by what lies there; a folder that looks like nothing is taken for "masks"."""
    if path.is_file():
        return {".tar": "sa1b", ".csv": "csv"}.get(path.suffix.lower(), "coco")
    has = {entry.name for entry in path.iterdir()}
    if "images" in has and ("masks" in has or "labels" not in has):
        return "bsds" if "groundTruth" in has else "masks"
    if "images" in has or "data.yaml" in has:
        return "yolo"
    if "JPEGImages" in has:
        return "davis" if any(entry.is_dir() for entry in (path / "JPEGImages").iterdir()) else "voc"
    if {"groundTruth", "data", "BSDS500"} & has:
        return "bsds"
    tables = [name for name in has if name.endswith(".json")]
    if any(name.startswith("sa_") for name in has if name.endswith((".json", ".tar"))):
        return "sa1b"
    return "labelme" if tables else "masks"
