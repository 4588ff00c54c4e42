"""One picture to work on, and what became of it."""

import json
from dataclasses import dataclass, field
from typing import Any

DONE, FAILED = "done", "failed"

FIGURES = ("stability", "agreement", "doubt")
"""What a mask of a box may be rated by beside its score, each from 0 to 1; see `samlet.batch.quality`."""


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of the plan.

    Attributes:
        number: Its place in the plan; it never changes.
        name: What its records are called by; unique in the plan.
        source: Where its bytes are; `samlet.batch.sources.read` understands it.
        objects: What is asked for, if the recipe is prompted: for each object "box" (x0, y0, x1, y1), "points"
            with "labels", or both, in picture pixels, and optionally its "name".
    """

    number: int
    name: str
    source: dict[str, Any]
    objects: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one picture; every item ends with exactly one.

    Attributes:
        number: The item's.
        name: The item's.
        state: "done" or "failed".
        reason: Why it failed, one sentence; "" if it did not.
        width: Of the picture, in pixels; 0 if it could not be read.
        height: Of the picture, in pixels; 0 if it could not be read.
        sha256: Of the encoded picture, in hex; "" if there were no bytes.
        masks: For each mask "score", "area" in pixels, "bbox" (x, y, width, height), "counts" (COCO's compressed
            run lengths) and "name"; of a rated box also `FIGURES`, and "asked", the box.
    """

    number: int
    name: str
    state: str
    reason: str = ""
    width: int = 0
    height: int = 0
    sha256: str = ""
    masks: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Give it as a dict ready for `json.dumps`, always in the same order."""
        return {
            "number": self.number,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "width": self.width,
            "height": self.height,
            "sha256": self.sha256,
            "masks": self.masks,
        }

    def to_line(self) -> str:
        """Give it as one line of JSON, plain ASCII.

        Example:
            >>> Record(0, "a.jpg", FAILED, "no picture").to_line()[:49]
            '{"number": 0, "name": "a.jpg", "state": "failed",'
        """
        return json.dumps(self.to_dict())


@dataclass(frozen=True, slots=True)
class Task:
    """One shard of work: what a driver sends to a worker.

    Attributes:
        shard: Number of the shard.
        items: Its pictures, in the order of their numbers.
    """

    shard: int
    items: list[Item]

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        rows = [[item.number, item.name, item.source, item.objects] for item in self.items]
        return json.dumps({"shard": self.shard, "items": rows})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Read what `to_json` wrote.

        Args:
            text: JSON.
        """
        data = json.loads(text)
        return cls(data["shard"], [Item(*row) for row in data["items"]])


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells of a shard whose files are written.

    Attributes:
        shard: Number of the shard.
        rows: For each item its number, the number of masks, and the reason if it failed, else "".
    """

    shard: int
    rows: list[tuple[int, int, str]]

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps({"shard": self.shard, "rows": self.rows})

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read what `to_json` wrote.

        Args:
            text: JSON.
        """
        data = json.loads(text)
        return cls(data["shard"], [(number, masks, reason) for number, masks, reason in data["rows"]])
