"""Prompts of many pictures in one file: CSV, JSON lines or COCO boxes; read line by line where the format allows."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samlet.errors import InputError

_NAMES = ("name", "file_name", "image")
_BOX = ("x0", "y0", "x1", "y1")
_FORM = (
    "a .csv with a header of name and x0,y0,x1,y1 or x,y (and label), a .jsonl with name and box or points, or "
    "COCO's .json"
)

Asked = tuple[str, dict[str, Any]]
"""Name of a picture and one object in it: "box", "points" with "labels", or both, and perhaps "name"."""


def prompts(path: str) -> Iterator[Asked]:
    """Read a file of prompts.

    Args:
        path: `.csv`, `.jsonl` or COCO's `.json`; see docs/how-to/a-million-pictures.md.

    Yields:
        The name of a picture, and one object in it.

    Raises:
        InputError: The file cannot be read, or a line of it is no prompt; the message names the line.
    """
    readers = {".csv": _csv, ".jsonl": _lines, ".json": _coco}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise InputError(f"expected {_FORM}, got {path!r:.200}; rename or convert it")
    count = 0
    try:
        for asked in reader(path):
            count += 1
            yield asked
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: expected {_FORM}, but reading it failed ({reason}); check the file"
        ) from error
    if not count:
        raise InputError(f"{path}: expected prompts, got none; {_FORM}")


def _csv(path: str) -> Iterator[Asked]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            found: dict[str, Any] = {}
            if all(row.get(name) for name in _BOX):
                found["box"] = [row[name] for name in _BOX]
            if row.get("x") and row.get("y"):
                found["points"] = [[row["x"], row["y"]]]
            if row.get("label"):
                found["name"] = row["label"]
            yield _name(row, where), _object(found, where)


def _lines(path: str) -> Iterator[Asked]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            row = _parsed(line, where)
            name = _name(row, where)
            objects = row.get("objects", [row])
            if not isinstance(objects, list):
                raise InputError(
                    f"{where}: expected a list of objects, got {type(objects).__name__}; see the how-to"
                )
            for one in objects:
                if not isinstance(one, dict):
                    raise InputError(
                        f"{where}: expected an object with box or points, got {one!r:.80}; correct it"
                    )
                given = {key: one[key] for key in ("box", "points", "labels") if one.get(key) is not None}
                if one.get("label"):
                    given["name"] = one["label"]
                yield name, _object(given, where)


def _coco(path: str) -> Iterator[Asked]:
    data = _parsed(Path(path).read_text("utf-8"), path)
    try:
        names = {image["id"]: str(image["file_name"]) for image in data["images"]}
        categories = {one["id"]: str(one["name"]) for one in data.get("categories", [])}
        for number, one in enumerate(data["annotations"], start=1):
            where = f"{path}, annotation {number}"
            x, y, width, height = _numbers(one["bbox"], where, count=4)
            given: dict[str, Any] = {"box": [x, y, x + width, y + height]}
            if one.get("category_id") in categories:
                given["name"] = categories[one["category_id"]]
            yield names[one["image_id"]], _object(given, where)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: expected COCO's images with file_name and annotations with bbox, got something else "
            f"({type(error).__name__}: {error}); correct the file"
        ) from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError: no JSON, or a whole number of thousands of digits
        raise InputError(f"{where}: expected JSON, got something else ({error}); correct it") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}; correct it")
    return row


def _name(row: dict[str, Any], where: str) -> str:
    for key in _NAMES:
        if isinstance(row.get(key), str) and row[key]:
            return str(row[key])
    raise InputError(f"{where}: expected the name of a picture ({', '.join(_NAMES)}), got none; add it")


def _object(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Check one object as far as that is possible without its picture."""
    made: dict[str, Any] = {}
    if "box" in given:
        made["box"] = _numbers(given["box"], where, count=4)
    if "points" in given:
        points = given["points"]
        if not isinstance(points, list) or not points:
            raise InputError(f"{where}: expected points as [[x, y], ...], got {points!r:.80}; correct it")
        if not isinstance(points[0], list):
            points = [points]
        made["points"] = [_numbers(point, where, count=2) for point in points]
        labels = given.get("labels", [1] * len(points))
        if (
            not isinstance(labels, list)
            or len(labels) != len(points)
            or any(one not in (0, 1) for one in labels)
        ):
            raise InputError(
                f"{where}: expected a label of 0 or 1 for each point, got {labels!r:.80}; correct it"
            )
        made["labels"] = [int(one) for one in labels]
    if not made:
        raise InputError(f"{where}: expected a box or points, got neither; {_FORM}")
    if "name" in given:
        made["name"] = str(given["name"])
    return made


def _numbers(values: Any, where: str, *, count: int) -> list[float]:
    try:
        # A text would give its letters: "1234" is no box.
        numbers = [float(value) for value in values] if isinstance(values, list) else []
    except (TypeError, ValueError, OverflowError):  # the last: a whole number above 1e308
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError(f"{where}: expected {count} numbers, got {values!r:.80}; correct it")
    return numbers
