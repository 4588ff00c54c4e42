"""YOLO's labels: a text file a picture, a line an object: class and polygon, or class and box, in shares of 0 to 1."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samlet.data.dataset import Spec
from samlet.data.documents import read_lines
from samlet.data.places import in_folder
from samlet.data.sample import Boxed, Broken, Item, Marked, Sample, boxes_of, checked_box, sample_of
from samlet.errors import InputError
from samlet.image import image_size
from samlet.limits import Limits

_NAMES = ("classes.txt", "obj.names", "labels/classes.txt")


def open_layout(spec: Spec) -> "Yolo":
    """List pictures and their label files.

    Args:
        spec: The folder with images/ and labels/, or one folder of both; its part is a folder below images/, such as
            "val".

    Raises:
        InputError: There is no such folder.
    """
    images, labels = spec.path / "images", spec.path / "labels"
    if not images.is_dir():
        images = labels = spec.path
    elif not labels.is_dir():
        labels = images
    before = f"{spec.part.strip('/')}/" if spec.part else ""
    if not (images / before).is_dir():
        raise InputError(f"expected a folder {images / before}, found none; give another part after @")
    items = []
    for name in sorted(one.name for one in in_folder(str(images / before), before)):
        text = (labels / name).with_suffix(".txt")
        items.append(
            Item(name.rpartition(".")[0], images / name, text if text.exists() else None, file_name=name)
        )
    return Yolo(tuple(items), _class_names(spec.path))


@dataclass(frozen=True, slots=True)
class Yolo:
    """Pictures with a label file each; one without has no objects, as Ultralytics has it.

    Attributes:
        items: The pictures.
        names: Of the classes; those beyond are called by their number.
    """

    items: tuple[Item, ...]
    names: tuple[str, ...]

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the polygons of one picture; lines with a box are named as broken."""
        hw = image_size(item.image_path, limits=limits)
        return sample_of(item, hw, *self._objects(item, hw), limits=limits)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes of one picture, and those around its polygons."""
        return boxes_of(*self._objects(item, image_size(item.image_path, limits=limits)))

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]

    def _objects(self, item: Item, hw: tuple[int, int]) -> tuple[list[Marked], list[Broken]]:
        objects, broken = [], []
        for number, line in enumerate([] if item.mask_path is None else read_lines(item.mask_path), start=1):
            if line.strip():
                try:
                    objects.append(self._object(number, line.split(), hw))
                except InputError as error:
                    broken.append(Broken(f"{item.name}, line {number}", str(error)))
        return objects, broken

    def _object(self, number: int, words: list[str], hw: tuple[int, int]) -> Marked:
        try:
            kind, shares = int(words[0]), np.array(words[1:], np.float64)
        except ValueError:  # falls through to the sentence below
            kind, shares = -1, np.zeros(0)
        if (
            kind < 0
            or len(shares) < 4
            or len(shares) == 5
            or len(shares) % 2
            or not np.isfinite(shares).all()
        ):
            raise InputError(
                f"expected a class with a box or a polygon, got {' '.join(words)[:60]}; correct the line"
            )
        # A little beyond the picture is a matter of rounding; far beyond, it is not in shares.
        if shares.min() < -0.1 or shares.max() > 1.1:
            raise InputError(
                f"expected shares from 0 to 1, got {shares.min():g} to {shares.max():g}; divide by the size"
            )
        label = self.names[kind] if kind < len(self.names) else str(kind)
        size = np.array([hw[1], hw[0]], np.float64)
        if len(shares) == 4:
            middle, half = shares[:2] * size, shares[2:] * size / 2
            return Marked(number, label, box_xyxy=checked_box([*(middle - half), *(middle + half)]))
        return Marked(number, label, (shares.reshape(-1, 2) * size,))


def _class_names(root: Path) -> tuple[str, ...]:
    for name in _NAMES:
        if (root / name).is_file():
            return tuple(line.strip() for line in read_lines(root / name) if line.strip())
    for path in (root / "data.yaml", root / "dataset.yaml"):
        if path.is_file():
            return _names_of_yaml(path)
    return ()


def _names_of_yaml(path: Path) -> tuple[str, ...]:
    """Read the names of a YAML file if a reader for it is installed; classes are called by number otherwise."""
    try:
        import yaml
    except ImportError:
        return ()
    try:
        data = yaml.safe_load("\n".join(read_lines(path)))
    except yaml.YAMLError as error:
        raise InputError(f"expected YAML at {path}, got something else; correct it") from error
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    return tuple(map(str, names)) if isinstance(names, list) else ()
