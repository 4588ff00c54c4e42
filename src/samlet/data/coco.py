"""COCO's and LVIS's instances: one JSON file for all pictures, read as a whole when the set is opened."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from samlet.data.dataset import Spec
from samlet.data.documents import read_json
from samlet.data.sample import (
    Boxed,
    Broken,
    Item,
    Marked,
    Sample,
    boxes_of,
    checked_box,
    checked_rings,
    checked_rle,
    sample_of,
)
from samlet.errors import InputError
from samlet.image import image_size
from samlet.limits import Limits

_LOOKED_AT = 50  # pictures that are looked for to find their folder


def open_layout(spec: Spec) -> "Coco":
    """Read the file.

    Args:
        spec: The JSON file; its part is the folder of the pictures, which is otherwise looked for near the file.

    Raises:
        InputError: It is no such file.
    """
    data = read_json(spec.path)
    try:
        rows = [*data["images"]], [*data["annotations"]], [*(data.get("categories") or [])]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"expected a COCO file with images and annotations at {spec.path}, but it cannot be used "
            f"({type(error).__name__}: {error!s:.80}); export it again"
        ) from None
    strays: list[Broken] = []
    images = _by_id(rows[0], "image", strays)
    names = {key: str(one.get("name") or key) for key, one in _by_id(rows[2], "category", strays).items()}
    marks: dict[Any, list[dict[str, Any]]] = {number: [] for number in images}
    for place, one in enumerate(rows[1], start=1):
        owner = one.get("image_id") if isinstance(one, dict) else None
        if isinstance(owner, int | str) and owner in marks:
            marks[owner].append(one)
        else:
            called = one.get("id", place) if isinstance(one, dict) else place
            strays.append(
                Broken(f"annotation {called}", "expected an image_id of the images, found none such")
            )
    paths = {number: _file_name(image) for number, image in images.items()}
    folder = _folder(spec, list(paths.values()))
    items = [Item(name, folder / name, spec.path, number, file_name=name) for number, name in paths.items()]
    return Coco(tuple(sorted(items, key=lambda item: item.name)), folder, images, names, marks, tuple(strays))


@dataclass(frozen=True, slots=True)
class Coco:
    """Pictures and their annotations, by the picture's id.

    Attributes:
        items: The pictures.
        folder: Where they are.
        images: What the file says of each.
        names: Of the categories.
        marks: The annotations of each picture.
        strays: Rows of the file that belong to no picture.
    """

    items: tuple[Item, ...]
    folder: Path
    images: dict[Any, dict[str, Any]] = field(repr=False)
    names: dict[Any, str] = field(repr=False)
    marks: dict[Any, list[dict[str, Any]]] = field(repr=False)
    strays: tuple[Broken, ...] = ()

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the objects of one picture."""
        hw, objects, broken = self._objects(item, limits, shapes=True)
        return sample_of(item, hw, objects, broken, limits=limits)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes of one picture."""
        _, objects, broken = self._objects(item, limits, shapes=False)
        return boxes_of(objects, broken)

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]

    def _objects(
        self, item: Item, limits: Limits, *, shapes: bool
    ) -> tuple[tuple[int, int], list[Marked], list[Broken]]:
        _inside(item)
        image = self.images[item.key]
        sized = all(isinstance(image.get(side), int) for side in ("height", "width"))
        hw = (image["height"], image["width"]) if sized else image_size(item.image_path, limits=limits)
        return hw, *objects_of(self.marks[item.key], hw, item, names=self.names, shapes=shapes)


def objects_of(
    rows: Sequence[dict[str, Any]],
    hw: tuple[int, int],
    item: Item,
    *,
    names: dict[Any, str],
    shapes: bool = True,
) -> tuple[list[Marked], list[Broken]]:
    """Read annotations in COCO's form; each that cannot be used is named and left out.

    Args:
        rows: The annotations of one picture.
        hw: The picture's size.
        item: The picture.
        names: Of categories, by id.
        shapes: Whether masks are wanted; otherwise boxes are.
    """
    objects, broken = [], []
    for place, row in enumerate(rows, start=1):
        try:
            number = row.get("id", place)
            label = names.get(row.get("category_id"), "object")
            segmentation: Any = row.get("segmentation")
            box: Any = row.get("bbox")
            crowd = bool(row.get("iscrowd"))
            if segmentation and (shapes or box is None):
                rle = isinstance(segmentation, dict)
                shape = checked_rle(segmentation, hw) if rle else checked_rings(segmentation)
                objects.append(Marked(_number(number, place), label, shape, crowd=crowd))
            else:
                x, y, width, height = box
                corners = checked_box((x, y, x + width, y + height))
                objects.append(Marked(_number(number, place), label, box_xyxy=corners, crowd=crowd))
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            called = row.get("id", place) if isinstance(row, dict) else place
            reason = (
                str(error) if isinstance(error, InputError) else "expected a polygon, run lengths or a box"
            )
            broken.append(Broken(f"{item.name}, annotation {called}", reason))
    return objects, broken


def _by_id(rows: list[Any], what: str, strays: list[Broken]) -> dict[Any, dict[str, Any]]:
    """Give rows by their id; one without an id is a stray."""
    found = {}
    for place, row in enumerate(rows, start=1):
        if isinstance(row, dict) and isinstance(row.get("id"), int | str):
            found[row["id"]] = row
        else:
            strays.append(Broken(f"{what} {place} of the file", f"expected an id, got {row!s:.60}"))
    return found


def _number(value: Any, place: int) -> int:
    return value if isinstance(value, int) else place


def _file_name(image: dict[str, Any]) -> str:
    """Name a picture; LVIS has but the address it was at, of which the last two parts are split and file."""
    name = image.get("file_name")
    if name is None:
        name = "/".join(str(image.get("coco_url") or f"image {image['id']} without a name").split("/")[-2:])
    return str(name).replace("\\", "/")


def _inside(item: Item) -> None:
    parts = PurePosixPath(item.file_name).parts
    if item.file_name.startswith("/") or ".." in parts:
        raise InputError(
            f"expected a picture below the folder, got {item.file_name!r:.120}; correct the file"
        )


def _folder(spec: Spec, names: list[str]) -> Path:
    """Find the folder of the pictures: the one that is named, or the first near the file that has one of them."""
    beside = spec.path.parent
    if spec.part is not None:
        part = Path(spec.part)
        return part if part.is_dir() or part.is_absolute() else beside / part
    split = spec.path.stem.rpartition("_")[2]
    above = beside.parent
    places = [beside, beside / "images", beside / split, above, above / "images", above / split]
    places += [above / "images" / split]
    for place in places:
        if any(os.path.exists(place / name) for name in names[:_LOOKED_AT] if ".." not in name):
            return place
    return beside
