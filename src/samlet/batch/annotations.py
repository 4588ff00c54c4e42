"""A file of annotations beside each picture, in the forms of YOLO, labelme and PASCAL VOC."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from samlet.atomic import atomic_write, not_written
from samlet.batch.record import DONE, Record
from samlet.batch.sink import label_name, labels_png
from samlet.codecs import to_labelme, to_yolo
from samlet.rle import rle_to_mask


def stem_of(record: Record) -> str:
    """Name the files of a picture: its path below the folder of pictures, without its ending.

    Example:
        >>> stem_of(Record(3, "a/b.jpg", DONE))
        'a/b'
    """
    name = label_name(record).removesuffix(".png")
    ending = PurePosixPath(record.name).suffix
    return name.removesuffix(ending) if ending else name


def write_yolo(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write `yolo/NAME.txt` for each picture that is done; a picture without objects has an empty file.

    Args:
        folder: The output folder.
        shard: Number of the shard; not needed here.
        records: One for each picture.

    Raises:
        OutputError: It cannot be written.
    """
    _write(folder / "yolo", shard, records, {".txt": _yolo})


def write_labelme(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write `labelme/NAME.json` for each picture that is done, to be put beside the pictures.

    Args:
        folder: The output folder.
        shard: Number of the shard; not needed here.
        records: One for each picture.

    Raises:
        OutputError: It cannot be written.
    """
    _write(folder / "labelme", shard, records, {".json": _labelme})


def write_voc(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write `voc/SegmentationObject/NAME.png` and `voc/Annotations/NAME.xml` for each picture that is done.

    Args:
        folder: The output folder.
        shard: Number of the shard; not needed here.
        records: One for each picture.

    Raises:
        OutputError: It cannot be written.
    """
    _write(folder / "voc" / "SegmentationObject", shard, records, {".png": labels_png})
    _write(folder / "voc" / "Annotations", shard, records, {".xml": _voc})


WRITERS: dict[str, Callable[[Path, int, Sequence[Record]], None]] = {
    "yolo": write_yolo,
    "labelme": write_labelme,
    "voc": write_voc,
}
"""What writes the pictures of a shard, by format."""


def _write(
    folder: Path, shard: int, records: Sequence[Record], files: dict[str, Callable[[Record], bytes | str]]
) -> None:
    del shard
    for record in records:
        for ending, made in files.items():
            path = folder / f"{stem_of(record)}{ending}"
            try:
                if record.state != DONE:  # of an earlier run that found the picture whole
                    path.unlink(missing_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise not_written(path, error) from error
            atomic_write(path, made(record))


def _masks(record: Record) -> list[NDArray[np.bool_]]:
    size = [record.height, record.width]
    return [rle_to_mask({"size": size, "counts": one["counts"]}) for one in record.masks]


def _yolo(record: Record) -> str:
    classes = [int(one.get("category", 0)) for one in record.masks]
    return to_yolo(_masks(record), (record.height, record.width), classes=classes)


def _labelme(record: Record) -> str:
    labels = [str(one["name"]) for one in record.masks]
    made = to_labelme(
        _masks(record),
        (record.height, record.width),
        file_name=PurePosixPath(record.name).name,
        labels=labels,
    )
    return json.dumps(made, indent=1)


def _voc(record: Record) -> bytes:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, **texts: object) -> None:
        for name, text in texts.items():
            ElementTree.SubElement(parent, name).text = _plain(str(text))

    add(root, filename=PurePosixPath(record.name).name)
    add(ElementTree.SubElement(root, "size"), width=record.width, height=record.height, depth=3)
    add(root, segmented=1)
    for one in record.masks:
        x, y, width, height = one["bbox"]
        found = ElementTree.SubElement(root, "object")
        add(found, name=one["name"])
        box = ElementTree.SubElement(found, "bndbox")
        add(
            box, xmin=x + 1, ymin=y + 1, xmax=x + width, ymax=y + height
        )  # counted from 1, the last one included
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8")
    return written + b"\n"


def _plain(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(one for one in text if one.isprintable())
