"""People's own labelled pictures: COCO, labelme, or a folder of masks, made into what the trainer crops from.

Objects become one map of ids; where two overlap the smaller one is on top.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError, SamletError
from samlet.evaluate.datasets import Broken, Dataset
from samlet.image import Image
from samlet.polygons import polygon_to_mask
from samlet.rle import rle_to_mask
from samlet.train.pictures import IGNORE, Picture

MAX_OBJECTS = IGNORE - 1


def read_own(
    path: str | Path,
    *,
    images: str | Path | None = None,
    max_side: int = 1024,
    broken: list[Broken] | None = None,
) -> list[Picture]:
    """Read labelled pictures.

    Args:
        path: A COCO file (.json); a folder with `images/` and `masks/`; or a folder of labelme files beside their
            pictures. A mask is a PNG of region ids (255, or 65535 in 16 bits, is ignored), or black and white, where
            each connected white piece is an object.
        images: Folder of a COCO file's pictures, if it is not the file's own.
        max_side: Pictures whose longer side is above it are shrunk.
        broken: Takes the pictures that cannot be used, with the reason; they are left out.

    Raises:
        InputError: Nothing of this kind is there, or no picture has an object.
    """
    path = Path(path)
    if path.suffix.lower() == ".json" and path.is_file():
        found = _coco(path, Path(images) if images is not None else path.parent)
    elif (path / "masks").is_dir():
        found = _masks(path)
    elif path.is_dir() and any(path.glob("*.json")):
        found = _labelme(path)
    else:
        raise InputError(
            f"expected a COCO file, a folder with images/ and masks/, or a folder of labelme files, got {path}; "
            "see samlet finetune --help"
        )
    pictures: list[Picture] = []
    for name, load in found:
        try:
            pixels, ids = load()
            if not ((ids > 0) & (ids != IGNORE)).any():
                raise InputError("expected a labelled object, found none; leave the picture out")
        except (SamletError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
            if broken is not None:
                broken.append(Broken(name, str(error) or type(error).__name__))
        else:
            pictures.append(_picture(name, pixels, ids, max_side))
    if not pictures:
        raise InputError(f"expected labelled objects in {path}, found none that can be used; check the files")
    return pictures


def _picture(name: str, pixels: NDArray[np.uint8], ids: NDArray[np.uint16], max_side: int) -> Picture:
    scale = max_side / max(ids.shape)
    if scale < 1:
        size = max(1, round(ids.shape[1] * scale)), max(1, round(ids.shape[0] * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        ids = np.asarray(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST), np.uint16)
    return Picture(name, "own", pixels, [ids])


class _Layers:
    """Masks of objects laid over each other, the largest first."""

    def __init__(self, hw: tuple[int, int]) -> None:
        self.hw = hw
        self.masks: list[NDArray[np.bool_]] = []
        self.ignore = np.zeros(hw, np.bool_)

    def polygons(self, rings: Sequence[Sequence[float]]) -> None:
        """Add an object of (x, y, x, y, ...) rings, in pixels."""
        points = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]
        self.masks.append(polygon_to_mask(points, self.hw))

    def ids(self) -> NDArray[np.uint16]:
        """The map."""
        ids = np.zeros(self.hw, np.uint16)
        ids[self.ignore] = IGNORE
        largest_first = sorted(self.masks, key=lambda mask: -int(mask.sum()))[:MAX_OBJECTS]
        for number, mask in enumerate(largest_first, start=1):
            ids[mask] = number
        return ids


def _pixels(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.load(path).pixels)


def _coco(path: Path, folder: Path) -> list[tuple[str, Any]]:
    try:
        data = json.loads(path.read_text("utf-8"))
        by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
        for annotation in data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        names = [(image["id"], str(image["file_name"])) for image in data["images"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected a COCO file with images and annotations at {path}, but it cannot be used ({error!r:.120}); "
            "export it again"
        ) from None

    def load(name: str, annotations: list[dict[str, Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"expected a picture below {folder}, got {name!r:.120}; correct the file")
        pixels = _pixels(folder / name)
        layers = _Layers(pixels.shape[:2])
        for each in annotations:
            segmentation = each["segmentation"]
            mask = None if isinstance(segmentation, list) else rle_to_mask(segmentation)
            if mask is not None and mask.shape != layers.hw:
                raise InputError(
                    f"expected run lengths of {layers.hw}, got {mask.shape}; export the file again"
                )
            if each.get("iscrowd") and mask is not None:
                layers.ignore |= mask
            elif mask is not None:
                layers.masks.append(mask)
            else:
                layers.polygons(segmentation)
        return pixels, layers.ids()

    return [
        (name, lambda name=name, key=key: load(name, by_image[key])) for key, name in sorted(names, key=str)
    ]


def _labelme(folder: Path) -> list[tuple[str, Any]]:
    def load(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        data = json.loads(path.read_text("utf-8"))
        picture = folder / Path(str(data["imagePath"]).replace("\\", "/")).name
        pixels = _pixels(picture)
        layers = _Layers(pixels.shape[:2])
        groups: dict[Any, list[Sequence[float]]] = {}
        for number, shape in enumerate(data["shapes"]):
            points = np.asarray(shape["points"], np.float64)
            if shape.get("shape_type", "polygon") == "rectangle":
                (x0, y0), (x1, y1) = points
                points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            elif shape.get("shape_type", "polygon") != "polygon":
                continue
            group = shape.get("group_id")
            groups.setdefault(("alone", number) if group is None else (shape["label"], group), []).append(
                points.reshape(-1).tolist()
            )
        for rings in groups.values():
            layers.polygons(rings)
        return pixels, layers.ids()

    return [(path.name, lambda path=path: load(path)) for path in sorted(folder.glob("*.json"))]


def _masks(folder: Path) -> list[tuple[str, Any]]:
    dataset = Dataset.open(folder)

    def load(item: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        sample = dataset.read(item)
        pixels = np.array(sample.load_image().pixels)
        ids = getattr(sample.regions, "id_map", np.zeros(pixels.shape[:2], np.int32)).astype(np.uint16)
        if not len(sample.regions) and sample.ignore.any():  # black and white: the white is what is meant
            return pixels, cv2.connectedComponents(sample.ignore.astype(np.uint8))[1].astype(np.uint16)
        ids[sample.ignore] = IGNORE
        return pixels, ids

    return [(item.name, lambda item=item: load(item)) for item in dataset.items]
