"""labelme's files: a JSON beside each picture, with polygons, rectangles, circles and masks."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    sample_of,
)
from samlet.errors import InputError
from samlet.image import image_size
from samlet.limits import Limits
from samlet.rle import mask_to_rle

_CORNERS_OF_CIRCLE = 64


def open_layout(spec: Spec) -> "Labelme":
    """List the JSON files.

    Args:
        spec: The folder; with a part, the folder of the pictures.

    Raises:
        InputError: It cannot be listed.
    """
    if not spec.path.is_dir():
        raise InputError(f"expected a folder of labelme's files, got {spec.path}; give the folder")
    part = Path(spec.part) if spec.part is not None else spec.path
    folder = part if part.is_absolute() or part.is_dir() else spec.path / part
    items = [
        Item(path.stem, folder / f"{path.stem}.jpg", path, folder)
        for path in sorted(spec.path.glob("*.json"))
    ]
    return Labelme(tuple(_with_picture(item) for item in items))


def _with_picture(item: Item) -> Item:
    """Find the picture by the file's name if there is one, so that most files need not be read to be listed."""
    for ending in (".jpg", ".jpeg", ".png", ".JPG", ".bmp", ".tif", ".tiff", ".webp"):
        path = item.key / f"{item.name}{ending}"
        if path.exists():
            return Item(item.name, path, item.mask_path, item.key)
    try:
        name = str(read_json(item.mask_path)["imagePath"]) if item.mask_path else ""
    except (InputError, KeyError):
        return item
    # A path into another folder names a picture that was moved here along with the file, or one we do not reach for.
    return Item(item.name, item.key / PurePosixPath(name.replace("\\", "/")).name, item.mask_path, item.key)


@dataclass(frozen=True, slots=True)
class Labelme:
    """Pictures with a JSON file each."""

    items: tuple[Item, ...]

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the objects of one picture; points and lines have no area and are passed over."""
        hw, objects, broken = _objects(item, limits)
        return sample_of(item, hw, objects, broken, limits=limits)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes of one picture."""
        return boxes_of(*_objects(item, limits)[1:])

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]


def _objects(item: Item, limits: Limits) -> tuple[tuple[int, int], list[Marked], list[Broken]]:
    if item.mask_path is None:
        raise InputError(f"expected a labelme file for {item.name}, found none; add it")
    data = read_json(item.mask_path)
    hw = image_size(item.image_path, limits=limits)
    groups: dict[Any, list[NDArray[np.float64]]] = {}
    labels: dict[Any, str] = {}
    objects, broken = [], []
    for number, shape in enumerate(data["shapes"], start=1):
        try:
            label, kind = str(shape.get("label") or "object"), shape.get("shape_type") or "polygon"
            if kind == "mask":
                objects.append(Marked(number, label, mask_to_rle(_painted(shape, hw, limits))))
            elif (ring := _ring(shape["points"], kind)) is not None:
                rings = checked_rings([ring])
                group = shape.get("group_id")
                key = ("alone", number) if group is None else (label, group)
                groups.setdefault(key, []).extend(rings)
                labels[key] = label
        except (InputError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reason = (
                str(error) if isinstance(error, InputError) else "expected a label and points; draw it again"
            )
            broken.append(Broken(f"{item.name}, shape {number}", reason))
    objects += [
        Marked(len(objects) + place, labels[key], tuple(together))
        for place, (key, together) in enumerate(groups.items(), start=1)
    ]
    return hw, objects, broken


def _ring(points: Any, kind: str) -> NDArray[np.float64] | None:
    """Give the outline of a shape; None for what has no area."""
    if kind == "polygon":
        return np.asarray(points, np.float64)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        x0, y0, x1, y1 = checked_box((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if kind == "circle":
        centre, edge = np.asarray(points, np.float64)
        turn = np.linspace(0, 2 * np.pi, _CORNERS_OF_CIRCLE, endpoint=False)
        return np.asarray(centre + np.linalg.norm(edge - centre) * np.stack([np.cos(turn), np.sin(turn)], 1))
    return None


def _painted(shape: dict[str, Any], hw: tuple[int, int], limits: Limits) -> NDArray[np.bool_]:
    """Place a mask that labelme keeps as a PNG of its box."""
    import PIL.Image

    (x0, y0), (x1, y1) = (map(int, point) for point in shape["points"])
    data = base64.b64decode(shape["mask"], validate=True)
    found = image_size(data, limits=limits, name="a mask")
    if found != (y1 - y0 + 1, x1 - x0 + 1) or x0 < 0 or y0 < 0 or x1 >= hw[1] or y1 >= hw[0]:
        raise InputError(
            f"expected a mask that fits its box, got one of {found[1]} x {found[0]}; draw it again"
        )
    mask = np.zeros(hw, np.bool_)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            mask[y0 : y1 + 1, x0 : x1 + 1] = np.asarray(picture.convert("L")) > 0
    except (OSError, SyntaxError):
        raise InputError(
            "expected a mask as a PNG, got something that does not read; draw it again"
        ) from None
    return mask
