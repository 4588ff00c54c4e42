"""The files made of everything that was found in a picture: masks in many formats, and what one can do with them."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output
from samlet.cli import run as shared

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from samlet.image import Image
    from samlet.masks import StoredMasks
    from samlet.polygons import Polygon

_PICTURES = {"overlay": ".overlay.png", "labels": ".labels.png", "sheet": ".sheet.png"}
_TABLES = {"geojson": ".geojson", "csv": ".csv"}
_EACH = ("mask", "cutout")  # one file for each mask

FORMATS = ("overlay", *_EACH, *output.DATA, "labels", *_TABLES, "sheet")
"""What --format takes."""

USES = {
    "edges": (".edges.png",),
    "labels": (_PICTURES["labels"],),
    "proposals": (".proposals.json",),
    "salient": (".salient.png",),
    "anomalies": (".anomalies.png", ".anomalies.json"),
    "footprints": (".footprints.png", ".footprints.geojson"),
}
"""What --use takes, with the endings of the files."""

_ON_A_SHEET = 48


@dataclass(frozen=True)
class Findings:
    """What was found in one picture.

    Attributes:
        path: Path of the picture.
        image: The picture.
        masks: The masks, best first.
        labels: Name of each mask, if they have any.
        classes: Number of each mask's name, for YOLO.
    """

    path: str
    image: "Image"
    masks: "StoredMasks"
    labels: list[str] | None = None
    classes: list[int] | None = None


def file_names(stem: str, wanted: Sequence[str], *, count: int) -> dict[str, list[list[str]]]:
    """Name the files of one picture.

    Args:
        stem: First part of every name.
        wanted: Formats and uses.
        count: Number of masks; several are numbered from 1.

    Returns:
        For each format one list of names.

    Example:
        >>> file_names("cat", ["csv", "mask", "anomalies"], count=2)["mask"]
        [['cat.mask-1.png', 'cat.mask-2.png']]
    """
    endings: dict[str, Sequence[str]] = dict(USES)
    endings |= {name: [ending] for name, ending in (_PICTURES | _TABLES | output.DATA).items()}
    numbers = [f"-{number + 1}" for number in range(count)] if count > 1 else [""] * count
    endings |= {name: [f".{name}{number}.png" for number in numbers] for name in _EACH}
    return {name: [[stem + ending for ending in endings[name]]] for name in wanted}


def contents(found: Findings, named: dict[str, list[list[str]]], folder: Path) -> dict[str, bytes | None]:
    """Make the files of one picture in memory.

    Args:
        found: What was found.
        named: What `file_names` gave.
        folder: Where the files will be.

    Returns:
        Content by file name; None for what cannot exist if nothing was found.
    """
    files: dict[str, bytes | None] = {}
    for name, (names,) in named.items():
        if name in output.DATA:
            made: Iterable[bytes | None] = [_data(name, found, folder)]
        else:
            made = _WRITERS[name](found)
        files.update(zip(names, made, strict=True))
    return files


def records(found: Findings) -> list[dict[str, Any]]:
    """Describe the masks for machines.

    Args:
        found: What was found.

    Returns:
        For each mask its number from 1, score, area in pixels, box in picture pixels, COCO run lengths, and what
        else is known of it.
    """
    from samlet.rle import rle_to_string

    masks = found.masks
    listed = []
    for row, rle in enumerate(masks.rles):
        record: dict[str, Any] = {
            "mask": row + 1,
            "score": shared.rounded(float(masks.scores[row]), 4),
            "area": int(masks.areas[row]),
            "bbox_xyxy": masks.boxes_xyxy[row].tolist(),
            "facts": {name: _plain(values[row]) for name, values in masks.facts.items()},
            "rle": {"size": list(rle["size"]), "counts": rle_to_string(rle)},
        }
        listed.append(record if found.labels is None else {**record, "text": found.labels[row]})
    return listed


def _plain(value: Any) -> Any:
    """Give a fact, a number, a text or some numbers, as JSON has them."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list):
        return [_plain(part) for part in plain]
    return shared.rounded(plain, 4) if isinstance(plain, float) else plain


def _data(name: str, found: Findings, folder: Path) -> bytes:
    labels = ["object"] * len(found.masks) if found.labels is None else found.labels
    text = output.data(
        name, found.masks, picture=found.path, folder=folder, labels=labels, classes=found.classes
    )
    return text.encode()


def _overlay(found: Findings) -> Iterator[bytes]:
    from samlet import drawing

    yield _png(drawing.overlay(found.image, found.masks, prompt=found.masks.prompt))


def _masks(found: Findings) -> Iterator[bytes]:
    from samlet import codecs

    return (codecs.mask_to_png_bytes(mask) for mask in found.masks.iter_masks())


def _cutouts(found: Findings) -> Iterator[bytes | None]:
    from samlet import drawing

    for mask in found.masks.iter_masks():
        yield _png(drawing.cutout(found.image, mask)) if mask.any() else None


def _labels(found: Findings) -> Iterator[bytes]:
    from samlet import codecs, uses

    yield codecs.labels_to_png_bytes(uses.label_map(found.masks))


def _geojson(found: Findings) -> Iterator[bytes]:
    from samlet import codecs

    masks = found.masks
    yield _json(
        codecs.to_geojson(
            masks.rles,
            masks.frame.image_hw,
            file_name=os.path.basename(found.path),
            scores=masks.scores,
            labels=found.labels,
        )
    )


def _csv(found: Findings) -> Iterator[bytes]:
    from samlet import codecs

    masks = found.masks
    text = codecs.to_csv(
        masks.rles,
        masks.frame.image_hw,
        scores=masks.scores,
        stability=masks.facts.get("stability_score"),
        labels=found.labels,
        image=found.image,
    )
    yield text.encode()


def _sheet(found: Findings) -> Iterator[bytes | None]:
    from samlet import uses

    some = bool(found.masks.areas.any())
    yield (
        _png(uses.region_sheet(found.masks, found.image, top=_ON_A_SHEET, columns=8, first=1))
        if some
        else None
    )


def _edges(found: Findings) -> Iterator[bytes]:
    import numpy as np
    from PIL import Image as PillowImage

    from samlet import uses

    yield _png(PillowImage.fromarray(np.rint(255 * uses.edge_map(found.masks)).astype(np.uint8), "L"))


def _proposals(found: Findings) -> Iterator[bytes]:
    from samlet import uses

    ranked = uses.proposals(found.masks)
    listed = [
        {"bbox_xyxy": [int(edge) for edge in box], "score": round(float(score), 6), "mask": int(row) + 1}
        for box, score, row in zip(*ranked, strict=True)
    ]
    yield _json({**_head(found), "proposals": listed})


def _salient(found: Findings) -> Iterator[bytes | None]:
    from samlet import drawing, uses

    chosen = uses.salient(found.masks, found.image)
    yield _png(drawing.cutout(found.image, next(chosen.iter_masks()))) if chosen.areas.any() else None


def _anomalies(found: Findings) -> Iterator[bytes]:
    from samlet import drawing, uses

    odd = uses.anomalies(found.masks, found.image)
    yield _png(drawing.overlay(found.image, found.masks[odd.rows]))
    listed = [
        {
            "mask": int(row) + 1,
            "deviation": round(float(score), 3),
            "reason": reason,
            "bbox_xyxy": found.masks.boxes_xyxy[row].tolist(),
        }
        for row, score, reason in zip(odd.rows, odd.scores, odd.reasons, strict=True)
    ]
    yield _json({**_head(found), "anomalies": listed})


def _footprints(found: Findings) -> Iterator[bytes]:
    from samlet import drawing, uses
    from samlet.polygons import polygon_to_mask

    drawn = uses.footprints(found.masks)
    yield _png(
        drawing.overlay(
            found.image, (polygon_to_mask([outline], found.image.hw) for _, outline in drawn), alpha=0.3
        )
    )
    features = [
        {
            "type": "Feature",
            "id": row + 1,
            "geometry": {"type": "Polygon", "coordinates": [_closed(outline)]},
            "properties": {"mask": row + 1, "score": round(float(found.masks.scores[row]), 6)},
        }
        for row, outline in drawn
    ]
    place = {
        "file_name": os.path.basename(found.path),
        "height": found.image.height,
        "width": found.image.width,
    }
    yield _json(
        {
            "type": "FeatureCollection",
            "picture": {**place, "unit": "pixel", "y": "down"},
            "features": features,
        }
    )


_WRITERS: dict[str, Callable[[Findings], Iterable[bytes | None]]] = {
    "overlay": _overlay,
    "mask": _masks,
    "cutout": _cutouts,
    "labels": _labels,
    "geojson": _geojson,
    "csv": _csv,
    "sheet": _sheet,
    "edges": _edges,
    "proposals": _proposals,
    "salient": _salient,
    "anomalies": _anomalies,
    "footprints": _footprints,
}


def _head(found: Findings) -> dict[str, Any]:
    return {"image": os.path.basename(found.path), "width": found.image.width, "height": found.image.height}


def _closed(outline: "Polygon") -> list[list[float]]:
    """Give a ring as GeoJSON wants it: closed, and with the direction of `codecs.to_geojson`."""
    ring = outline.exterior
    x, y = ring.T
    turn = float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() + x[-1] * y[0] - x[0] * y[-1])
    points = [[round(float(value), 2) for value in point] for point in (ring if turn > 0 else ring[::-1])]
    return [*points, points[0]]


def _png(picture: "PillowImage.Image") -> bytes:
    from samlet import drawing

    return drawing.picture_encoder("picture.png")(picture)


def _json(content: dict[str, Any]) -> bytes:
    # One line and plain ASCII: names in an unknown encoding (surrogates) survive it.
    return (json.dumps(content) + "\n").encode()
