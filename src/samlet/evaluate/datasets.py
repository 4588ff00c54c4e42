"""Reads folders of photographs with masks: ``SET/images/NAME.jpg`` beside ``SET/masks/NAME.png``.

A mask is a single-channel PNG of region ids: 0 is background or unlabelled, 1..N are regions, and the largest
value of the file's depth (255 or 65535) is pixels to ignore. Palette files are read by their indices, not
their colours. Where a picture has several human segmentations (``NAME_h1.png``, ``NAME_h2.png``, ...) one is
read: the first unless the caller says otherwise.

Nothing is decoded before it is asked for, and this room imports no training framework, so that the evaluation
and the trainer read their data through the same door.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from samlet.errors import ImageError, InputError, LimitError
from samlet.image import Image
from samlet.limits import DEFAULT_LIMITS, Limits

_PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
_HUMAN = re.compile(r"(?P<name>.+)_h(?P<human>[1-9][0-9]*)")
_IGNORE_OF_MODE = {"1": None, "L": 255, "P": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}


@dataclass(frozen=True, slots=True)
class Region:
    """One labelled region of a picture.

    Attributes:
        id: The number of the region in the mask file, 1 or more.
        mask: True where the region is, bool (H, W).
    """

    id: int
    mask: NDArray[np.bool_]


class LabelledRegions(Sequence[Region]):
    """The regions of a map of ids; each mask is made when it is asked for and not kept.

    A crowded picture has hundreds of regions, whose masks would take a hundred times the space of the map.
    """

    def __init__(self, id_map: NDArray[np.int32], *, ids: Sequence[int]) -> None:
        """Wrap a map.

        Args:
            id_map: Region ids, (H, W).
            ids: The ids that are regions, in the order to give them out.
        """
        self.id_map = id_map  # (H, W)
        self.ids = tuple(ids)

    def __len__(self) -> int:
        """Give the number of regions."""
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> "LabelledRegions": ...
    def __getitem__(self, index: int | slice) -> "Region | LabelledRegions":
        """Make one region, or narrow the sequence."""
        if isinstance(index, slice):
            return LabelledRegions(self.id_map, ids=self.ids[index])
        return Region(id=self.ids[index], mask=self.id_map == self.ids[index])


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with what people marked in it.

    Attributes:
        image_path: The picture's file, not read yet.
        name: The file's name without its suffix.
        regions: The labelled regions, by rising id.
        ignore: True where nobody decided what the pixel belongs to, bool (H, W).
    """

    image_path: Path
    name: str
    regions: Sequence[Region]
    ignore: NDArray[np.bool_]

    def load_image(self, *, limits: Limits = DEFAULT_LIMITS) -> Image:
        """Decode the picture and check that it has the size of its mask.

        Raises:
            ImageError: The picture is broken, or its size differs from the mask's.
            LimitError: The picture is larger than the limits allow.
        """
        image = Image.load(self.image_path, limits=limits)
        if image.hw != self.ignore.shape:
            raise ImageError(
                f"expected a picture of the size of its mask, {_size(self.ignore.shape)}, but "
                f"{self.image_path} is {_size(image.hw)}; put the right mask beside it"
            )
        return image


@dataclass(frozen=True, slots=True)
class Item:
    """The files of one picture of a set; ``mask_path`` is None if the picture has no mask."""

    name: str
    image_path: Path
    mask_path: Path | None


@dataclass(frozen=True, slots=True)
class Broken:
    """A picture that could not be used, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of pictures with masks, in the order of their file names.

    Attributes:
        name: The folder's name.
        root: The folder.
        items: The pictures, with or without a mask.
    """

    name: str
    root: Path
    items: tuple[Item, ...]

    @classmethod
    def open(cls, root: str | Path, *, human: int = 1) -> "Dataset":
        """List the pictures and masks of a folder without reading any.

        Args:
            root: A folder with the sub-folders ``images`` and ``masks``.
            human: Which of several human segmentations of a picture to read, from 1. A picture with fewer has
                no mask then.

        Raises:
            InputError: The folder or one of the two sub-folders is missing or unreadable, or holds no
            picture.
        """
        root = Path(root)
        pictures = sorted(path for path in _files(root, "images") if path.suffix.lower() in _PICTURE_SUFFIXES)
        if not pictures:
            raise InputError(
                f"expected pictures (.jpg, .png) in {root / 'images'}, found none; "
                "give the folder of a set with images/ and masks/"
            )
        masks: dict[str, Path] = {}
        for path in _files(root, "masks"):
            if path.suffix.lower() != ".png":
                continue
            named = _HUMAN.fullmatch(path.stem)
            if named and int(named["human"]) == human:
                masks.setdefault(named["name"], path)
        # A mask with exactly the picture's name goes first, so that a picture may be called "dog_h1" itself.
        masks |= {path.stem: path for path in _files(root, "masks") if path.suffix.lower() == ".png"}
        items = tuple(Item(path.stem, path, masks.get(path.stem)) for path in pictures)
        return cls(name=root.resolve().name, root=root, items=items)

    def __len__(self) -> int:
        """Give the number of pictures."""
        return len(self.items)

    def select(self, *, every: int = 1, limit: int | None = None) -> "Dataset":
        """Keep every k-th picture in file order, beginning with the first, and of those the first ``limit``.

        Raises:
            InputError: ``every`` or ``limit`` is below 1.
        """
        if every < 1 or (limit is not None and limit < 1):
            raise InputError(
                f"expected every and limit of 1 or more, got {every} and {limit}; "
                "leave them out to take every picture"
            )
        return replace(self, items=self.items[::every][:limit])

    def read(self, item: Item, *, limits: Limits = DEFAULT_LIMITS) -> Sample:
        """Read the mask of one picture.

        Raises:
            ImageError: The mask is missing, broken, or not a single-channel PNG.
            LimitError: The mask has more pixels than the limits allow.
        """
        if item.mask_path is None:
            raise ImageError(
                f"expected a mask {item.name}.png in {self.root / 'masks'} for {item.image_path.name}, "
                "found none; add it or take the picture away"
            )
        id_map, ignored_id = _read_ids(item.mask_path, limits)
        ids = [id_ for id_ in np.unique(id_map).tolist() if id_ not in (0, ignored_id)]
        ignore = np.zeros(id_map.shape, np.bool_) if ignored_id is None else id_map == ignored_id
        return Sample(
            image_path=item.image_path,
            name=item.name,
            regions=LabelledRegions(id_map, ids=ids),
            ignore=ignore,
        )

    def samples(self, *, broken: list[Broken]) -> Iterator[Sample]:
        """Read one picture's mask after the other; what cannot be read is appended to ``broken`` instead.

        Example:
            ``for sample in Dataset.open("bench/pets24").samples(broken=[]): ...``
        """
        for item in self.items:
            try:
                sample = self.read(item)
            except InputError as error:
                broken.append(Broken(item.name, str(error)))
            else:
                yield sample


def _files(root: Path, folder: str) -> list[Path]:
    """List the plain files of a sub-folder by name."""
    try:
        return sorted(path for path in (root / folder).iterdir() if path.is_file())
    except OSError as error:
        raise InputError(
            f"expected a folder {folder}/ in {root}, but it cannot be listed ({error.strerror}); "
            "give the folder of a set with images/ and masks/"
        ) from None


def _read_ids(path: Path, limits: Limits) -> tuple[NDArray[np.int32], int | None]:
    """Read the ids of a mask file as they are stored, and the id that means "ignore"."""
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


def _size(hw: tuple[int, ...]) -> str:
    return f"{hw[1]} x {hw[0]}"
