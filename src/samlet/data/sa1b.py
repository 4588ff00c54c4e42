"""SA-1B: `sa_1.jpg` beside `sa_1.json` with run lengths, in a folder and below it, or in tars that stay packed."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from samlet.data import places
from samlet.data.coco import objects_of
from samlet.data.dataset import Spec
from samlet.data.documents import parse_json
from samlet.data.sample import Boxed, Broken, Item, Marked, Sample, boxes_of, sample_of
from samlet.errors import InputError
from samlet.limits import Limits

_ENDINGS = (".jpg", ".jpeg", ".png", ".json")


def open_layout(spec: Spec) -> "Sa1b":
    """List pictures and their files of marks; of tars the headers alone are read.

    Args:
        spec: A folder of pairs or of tars, or one tar.

    Raises:
        InputError: A tar cannot be read.
    """
    if spec.path.is_file():
        return Sa1b(_paired(_tar(spec.path)))
    found: list[places.Listed] = []
    for folder, inner, names in os.walk(spec.path):
        inner.sort()
        for name in names:
            path = Path(folder) / name
            if name.lower().endswith(".tar"):
                found += _tar(path)
            elif name.lower().endswith(_ENDINGS):
                found.append(places.Listed(path.relative_to(spec.path).as_posix(), {"path": str(path)}, ""))
    return Sa1b(_paired(found))


@dataclass(frozen=True, slots=True)
class Sa1b:
    """Pairs of picture and marks; the key of an item is where its marks are."""

    items: tuple[Item, ...]

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the objects of one picture."""
        hw, objects, broken = _objects(item, shapes=True)
        return sample_of(item, hw, objects, broken, limits=limits)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes of one picture."""
        del limits
        return boxes_of(*_objects(item, shapes=False)[1:])

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]


def _objects(item: Item, *, shapes: bool) -> tuple[tuple[int, int], list[Marked], list[Broken]]:
    if item.key is None:
        raise InputError(
            f"expected a {item.name}.json beside the picture, found none; add it or remove the picture"
        )
    data = parse_json(places.read(item.key), f"{item.name}.json")
    image = data["image"]
    hw = int(image["height"]), int(image["width"])
    return hw, *objects_of(data["annotations"], hw, item, names={}, shapes=shapes)


def _tar(path: Path) -> list[places.Listed]:
    return list(places.in_tar(str(path), f"{path.name}/", suffixes=_ENDINGS))


def _paired(found: list[places.Listed]) -> tuple[Item, ...]:
    marks: dict[str, dict[str, Any]] = {}
    pictures = []
    for one in found:
        stem, ending = os.path.splitext(one.name)
        if ending.lower() == ".json":
            marks[stem] = one.source
        else:
            pictures.append((stem, one))
    items = []
    for stem, one in sorted(pictures, key=lambda pair: pair[0]):
        packed = "offset" in one.source
        path = Path(one.source["path"])
        shown = path / PurePosixPath(one.name).name if packed else path
        items.append(Item(stem, shown, None, marks.get(stem), one.name, one.source if packed else None))
    return tuple(items)
