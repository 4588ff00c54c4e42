"""A CSV of boxes: a line each, with the name of the picture, x0, y0, x1, y1 (or xmin, ...) and perhaps a label."""

import csv
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from samlet.data.dataset import Spec
from samlet.data.documents import read_lines
from samlet.data.sample import Boxed, BoxXyxy, Broken, Item, Sample, checked_box
from samlet.errors import InputError
from samlet.limits import Limits

_MAX_TABLE = 2**30
_PICTURE = ("name", "file_name", "filename", "image", "image_path", "path")
_LABEL = ("label", "class", "category", "class_name")
_SIDES = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"))

Row = tuple[int, str, BoxXyxy | str]
"""Line, label, and the box, or why there is none."""


def open_layout(spec: Spec) -> "Table":
    """Read the table.

    Args:
        spec: The CSV with a header; its part is the folder of the pictures (default: the CSV's).

    Raises:
        InputError: It has no such columns.
    """
    rows = csv.DictReader(read_lines(spec.path, _MAX_TABLE))
    columns = [name.strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    picture = next((name for name in _PICTURE if name in columns), None)
    sides = next((four for four in _SIDES if set(four) <= set(columns)), None)
    if picture is None or sides is None:
        raise InputError(
            f"expected a header with name and x0,y0,x1,y1 in {spec.path}, got {', '.join(columns)[:120]}; add them"
        )
    label = next((name for name in _LABEL if name in columns), "")
    found: dict[str, list[Row]] = {}
    for row in rows:
        box: BoxXyxy | str
        try:
            box = checked_box([row[side] for side in sides])
        except InputError as error:
            box = str(error)
        name = str(row[picture] or "").replace("\\", "/")
        found.setdefault(name, []).append((rows.line_num, row.get(label) or "object", box))
    part = spec.path.parent if spec.part is None else Path(spec.part)
    folder = part if part.is_absolute() or part.is_dir() else spec.path.parent / part
    items = tuple(Item(name, folder / name, spec.path, name, name) for name in sorted(found))
    return Table(items, found)


@dataclass(frozen=True, slots=True)
class Table:
    """Pictures with boxes; there are no masks."""

    items: tuple[Item, ...]
    rows: dict[str, list[Row]] = field(repr=False)

    def read(self, item: Item, limits: Limits) -> Sample:
        """Refuse: a table has no masks."""
        del limits
        raise InputError(
            f"expected masks of {item.name}, found a table of boxes; make them with samlet annotate"
        )

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Give the boxes of one picture."""
        del limits
        if not item.name or item.name.startswith("/") or ".." in PurePosixPath(item.name).parts:
            raise InputError(
                f"expected a picture below the folder, got {item.name!r:.120}; correct the table"
            )
        rows = self.rows[item.key]
        broken = tuple(
            Broken(f"{item.name}, line {line}", box) for line, _, box in rows if isinstance(box, str)
        )
        return Boxed(tuple((label, box) for _, label, box in rows if not isinstance(box, str)), broken)

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]
