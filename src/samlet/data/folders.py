"""Folders of pictures beside folders of masks: ``SET/images/NAME.jpg`` with ``SET/masks/NAME.png``.

A mask is a single-channel PNG of region ids: 0 is background or unlabelled, 1..N are regions, and the largest
value of the file's depth (255 or 65535) is pixels to ignore. Palette files are read by their indices, not
their colours. Where a picture has several human segmentations (``NAME_h1.png``, ``NAME_h2.png``, ...) one is
read: the first unless the caller says otherwise. As "binary", whatever is not 0 is inside, and each connected piece
is a region.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samlet import components
from samlet.data.dataset import Spec
from samlet.data.places import SUFFIXES
from samlet.data.sample import Boxed, Item, LabelledRegions, Sample
from samlet.errors import ImageError, InputError, LimitError
from samlet.limits import DEFAULT_LIMITS, Limits

_HUMAN = re.compile(r"(?P<name>.+)_h(?P<human>[1-9][0-9]*)")
_IGNORE_OF_MODE = {"1": None, "L": 255, "P": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}


def open_layout(spec: Spec) -> "Folders":
    """List the pictures and masks of a folder without reading any.

    Args:
        spec: A folder with images/ and masks/, or a folder of pictures and, as its part, one of masks.

    Raises:
        InputError: A folder is missing or unreadable, or holds no picture.
    """
    if spec.part is None:
        pictures, masks = spec.path / "images", spec.path / "masks"
    else:
        pictures, masks = spec.path, Path(spec.part)
        if not masks.is_absolute() and not masks.is_dir():
            masks = spec.path / masks  # seen from the pictures, if not from here
    found = sorted(path for path in _files(pictures) if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(
            f"expected pictures (.jpg, .png) in {pictures}, found none; "
            "give the folder of a set with images/ and masks/"
        )
    there = [path for path in _files(masks) if path.suffix.lower() == ".png"]
    by_name: dict[str, Path] = {}
    for path in there:
        named = _HUMAN.fullmatch(path.stem)
        if named and int(named["human"]) == spec.human:
            by_name.setdefault(named["name"], path)
    # A mask with exactly the picture's name goes first, so that a picture may be called "dog_h1" itself.
    by_name |= {path.stem: path for path in there}
    items = tuple(Item(path.stem, path, by_name.get(path.stem)) for path in found)
    return Folders(items, masks, binary=spec.kind == "binary")


@dataclass(frozen=True, slots=True)
class Folders:
    """Pictures with a mask file each.

    Attributes:
        items: The pictures.
        masks: The folder of the masks.
        binary: Whether each connected piece of what is not 0 is a region.
    """

    items: tuple[Item, ...]
    masks: Path
    binary: bool = False

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the mask of one picture.

        Raises:
            ImageError: The mask is missing, broken, or not a single-channel PNG.
            LimitError: The mask has more pixels than the limits allow.
        """
        if item.mask_path is None:
            raise ImageError(
                f"expected a mask {item.name}.png in {self.masks} for {item.image_path.name}, "
                "found none; add it or take the picture away"
            )
        id_map, ignored_id = read_ids(item.mask_path, limits)
        if self.binary:
            id_map, ignored_id = components.label(id_map != 0)[0], None
        return sample_of_ids(item, id_map, ignored_id)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes around the regions of one picture."""
        return boxes_of_ids(self.read(item, limits))

    def segmentations(self, item: Item) -> list[Item]:
        """List NAME_h1, NAME_h2, ... in the order of their numbers; the item itself if its mask has no number."""
        if item.mask_path is None or item.mask_path.stem == item.name:
            return [item]
        numbered = {}
        for path in item.mask_path.parent.glob("*.png"):
            found = _HUMAN.fullmatch(path.stem)
            if found and found["name"] == item.name:
                numbered[int(found["human"])] = path
        return [replace(item, name=path.stem, mask_path=path) for _, path in sorted(numbered.items())]


def sample_of_ids(
    item: Item, id_map: NDArray[np.int32], ignored_id: int | None, labels: Mapping[int, str] | None = None
) -> Sample:
    """Make a sample of a map of ids.

    Args:
        item: The picture.
        id_map: (H, W); 0 is background.
        ignored_id: The id of pixels that do not count.
        labels: What regions are, by id.
    """
    ids = [number for number in np.unique(id_map).tolist() if number not in (0, ignored_id)]
    ignore = np.zeros(id_map.shape, np.bool_) if ignored_id is None else id_map == ignored_id
    return Sample(
        item.image_path, item.name, LabelledRegions(id_map, ids=ids, labels=labels), ignore, item.at
    )


def boxes_of_ids(sample: Sample) -> Boxed:
    """Give the boxes around the regions of a sample."""
    boxes = []
    for region in sample.regions:
        ys, xs = np.nonzero(region.mask)
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        boxes.append((region.label, box))
    return Boxed(tuple(boxes), sample.broken)


def read_ids(path: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[NDArray[np.int32], int | None]:
    """Read the ids of a mask file as they are stored.

    Args:
        path: A single-channel PNG.
        limits: `max_pixels` bounds it.

    Returns:
        (H, W) ids, and the id that means "ignore": the largest of the file's depth; None for one bit.

    Raises:
        ImageError: It cannot be read, or is no single-channel PNG.
        LimitError: It has too many pixels.
    """
    import PIL.Image  # the evaluation's command line is parsed without it

    try:
        with PIL.Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > limits.max_pixels:
                raise LimitError(
                    f"expected a mask of at most {limits.max_pixels} pixels, but {path} has "
                    f"{picture.width * picture.height}; make picture and mask smaller"
                )
            mode = picture.mode
            if mode not in _IGNORE_OF_MODE:
                raise ImageError(
                    f"expected a mask of one channel with region ids, but {path} has the mode {mode}; "
                    "store the ids as an 8-bit or 16-bit grayscale or palette PNG"
                )
            ids = np.asarray(picture).astype(np.int32)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(
            f"expected a mask as a PNG file, but {path} cannot be read ({reason}); replace it"
        ) from None
    return ids, _IGNORE_OF_MODE[mode]


def _files(folder: Path) -> list[Path]:
    """List the plain files of a folder by name."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(
            f"expected a folder {folder.name}/ in {folder.parent}, but it cannot be listed ({error.strerror}); "
            "give the folder of a set with images/ and masks/"
        ) from None
