"""PASCAL VOC: JPEGImages with SegmentationObject (a PNG of ids, 255 is the border) and Annotations (XML with boxes)."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from samlet.data.dataset import Spec
from samlet.data.documents import read_lines, read_xml
from samlet.data.folders import boxes_of_ids, read_ids, sample_of_ids
from samlet.data.places import SUFFIXES
from samlet.data.sample import Boxed, Broken, Item, Sample, checked_box
from samlet.errors import InputError
from samlet.limits import Limits

_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def open_layout(spec: Spec) -> "Voc":
    """List the pictures that have masks, or boxes too if those are wanted.

    Args:
        spec: The folder with JPEGImages; its part is a list of ImageSets/Segmentation (or Main), such as "val".

    Raises:
        InputError: There is no such folder or list.
    """
    folder = spec.path / "JPEGImages"
    if not folder.is_dir():
        raise InputError(
            f"expected a folder JPEGImages/ in {spec.path}, found none; give the folder above it"
        )
    pictures = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    masks = {path.stem: path for path in (spec.path / "SegmentationObject").glob("*.png")}
    chosen = sorted(pictures) if spec.part is None else _list(spec.path, spec.part)
    if not spec.boxes and spec.part is None:
        chosen = [name for name in chosen if name in masks]
    marks = spec.path / "Annotations"
    items = [
        Item(name, pictures.get(name, folder / f"{name}.jpg"), masks.get(name), marks / f"{name}.xml")
        for name in chosen
    ]
    return Voc(tuple(items), spec.path)


@dataclass(frozen=True, slots=True)
class Voc:
    """Pictures with masks, boxes, or both; the key of an item is its XML file."""

    items: tuple[Item, ...]
    root: Path

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the regions of one picture, named by the map of classes if there is one."""
        if item.mask_path is None:
            raise InputError(
                f"expected a mask {item.name}.png in {self.root / 'SegmentationObject'}, found none; draw it, or use "
                "samlet annotate"
            )
        id_map, ignored = read_ids(item.mask_path, limits)
        sample = sample_of_ids(item, id_map, ignored)
        classes = self.root / "SegmentationClass" / f"{item.name}.png"
        if not classes.exists():
            return sample
        kinds, _ = read_ids(classes, limits)
        if kinds.shape != id_map.shape:
            raise InputError(f"expected {classes} to have the size of {item.mask_path}; replace one of them")
        labels = {}
        for region in sample.regions:
            number = int(np.bincount(kinds[region.mask]).argmax())
            labels[region.id] = _CLASSES[number - 1] if 1 <= number <= len(_CLASSES) else "object"
        return sample_of_ids(item, id_map, ignored, labels)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes of the XML file, or those around the regions if there is none."""
        if not item.key.exists():
            return boxes_of_ids(self.read(item, limits))
        boxes, broken = [], []
        for number, one in enumerate(read_xml(item.key).iter("object"), start=1):
            try:
                boxes.append((one.findtext("name") or "object", _box(one)))
            except InputError as error:
                broken.append(Broken(f"{item.name}, object {number}", str(error)))
        return Boxed(tuple(boxes), tuple(broken))

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]


def _box(one: Element) -> tuple[float, float, float, float]:
    found = [one.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(text is None for text in found):
        raise InputError("expected a bndbox with xmin, ymin, xmax and ymax, found none; draw it again")
    try:
        x0, y0, x1, y1 = (float(text or "nan") for text in found)
    except ValueError:
        raise InputError(f"expected numbers in a bndbox, got {found!s:.60}; draw it again") from None
    return checked_box((x0 - 1, y0 - 1, x1, y1))  # VOC counts pixels from 1, the last one included


def _list(root: Path, part: str) -> list[str]:
    for folder in ("Segmentation", "Main"):
        path = root / "ImageSets" / folder / f"{Path(part).name}.txt"
        if path.exists():
            return [line.split()[0] for line in read_lines(path) if line.strip()]
    raise InputError(f"expected a list {part}.txt in {root / 'ImageSets'}, found none; give the name of one")
