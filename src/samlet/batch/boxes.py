"""The boxes of a data set as one file of prompts, of its own annotations or a detector's; what is broken is listed."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.atomic import atomic_stream, atomic_write, not_written
from samlet.batch import sources
from samlet.data import Broken, Dataset
from samlet.errors import InputError, SamletError

if TYPE_CHECKING:
    from samlet.image import Image

PROMPTS, LEFT_OUT, PART = "boxes.jsonl", "left_out.jsonl", "boxes.part.jsonl"

Find = Callable[["Image"], Sequence[tuple[str, Sequence[float]]]]
"""Finds the label and box of each object in a picture."""


@dataclass(slots=True)
class Gathered:
    """What was found.

    Attributes:
        pictures: How many were looked at.
        boxes: How many there are.
        labels: Of the boxes, each once, in the order of their first box.
        left_out: Pictures and marks that could not be used.
        names: Of the pictures with boxes, as `samlet.batch.sources.listed` calls them.
    """

    pictures: int = 0
    boxes: int = 0
    labels: dict[str, None] = field(default_factory=dict)
    left_out: list[Broken] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def gather(words: str, folder: Path, *, find: Find | None = None) -> Gathered:
    """Write the boxes of all pictures as `boxes.jsonl`, and what is left out as `left_out.jsonl`.

    Args:
        words: A data set with boxes, or, with `find`, whatever `samlet.batch.sources.listed` takes.
        folder: The output folder.
        find: A detector; None takes the data set's own boxes. Its answers are kept picture by picture, so that a run
            that was stopped does not ask it twice.

    Raises:
        InputError: There is no such data set.
        OutputError: A file cannot be written.
    """
    gathered = Gathered()
    rows = _own(words, gathered) if find is None else _found(words, folder / PART, find, gathered)
    with atomic_stream(folder / PROMPTS) as stream:
        for name, boxes in rows:
            gathered.pictures += 1
            if boxes:
                gathered.names.append(name)
                objects = [{"box": list(box), "label": label} for label, box in boxes]
                stream.write(json.dumps({"name": name, "objects": objects}).encode() + b"\n")
                gathered.boxes += len(boxes)
                gathered.labels |= {label: None for label, _ in boxes}
    with suppress(OSError):
        (folder / PART).unlink()
    lines = (json.dumps({"name": one.name, "reason": one.reason}) + "\n" for one in gathered.left_out)
    atomic_write(folder / LEFT_OUT, "".join(lines))
    return gathered


def _own(words: str, gathered: Gathered) -> Iterator[tuple[str, Sequence[tuple[str, Sequence[float]]]]]:
    dataset = Dataset.open(words, boxes=True)
    gathered.left_out += dataset.broken
    for item in dataset.items:
        try:
            found = dataset.boxes(item)
        except InputError as error:
            gathered.left_out.append(Broken(item.name, str(error)))
        else:
            gathered.left_out += found.broken
            yield item.file_name, found.boxes


def _found(
    words: str, part: Path, find: Find, gathered: Gathered
) -> Iterator[tuple[str, Sequence[tuple[str, Sequence[float]]]]]:
    from samlet.image import Image

    known = dict(_kept(part))
    try:
        with open(part, "a", encoding="utf-8") as kept:
            for one in sources.listed([words]):
                if one.name not in known:
                    try:
                        image = Image.load(sources.read(one.source), name=one.name)
                    except SamletError as error:
                        gathered.left_out.append(Broken(one.name, str(error)))
                        continue
                    known[one.name] = [[label, [float(value) for value in box]] for label, box in find(image)]
                    kept.write(json.dumps([one.name, known[one.name]]) + "\n")
                    kept.flush()
                yield one.name, [(label, box) for label, box in known[one.name]]
    except OSError as error:
        raise not_written(part, error) from error


def _kept(part: Path) -> Iterator[tuple[str, Any]]:
    """Read what a stopped run has found; its last line may be half a line, and is closed off."""
    with suppress(OSError):
        data = part.read_text("utf-8")
        whole = data[: data.rfind("\n") + 1]
        if whole != data:
            atomic_write(part, whole)
        for line in whole.splitlines():
            name, boxes = json.loads(line)
            yield name, boxes
