"""What a data set says of one picture: its regions as masks, or its objects as boxes; nothing is decoded before use."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from samlet.data import places
from samlet.errors import ImageError, InputError, LimitError
from samlet.image import Image
from samlet.limits import DEFAULT_LIMITS, Limits
from samlet.polygons import polygon_to_mask
from samlet.rle import rle_area, rle_to_bbox, rle_to_mask

IGNORE = 65535
"""What `Sample.id_map` gives pixels that nobody decided about."""

BoxXyxy = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """One labelled region of a picture.

    Attributes:
        id: The number of the region in its file, 1 or more.
        mask: True where the region is, bool (H, W).
        label: What it is, as the data set calls it; "object" where it does not say.
    """

    id: int
    mask: NDArray[np.bool_]
    label: str = "object"


class LabelledRegions(Sequence[Region]):
    """The regions of a map of ids; each mask is made when it is asked for and not kept.

    A crowded picture has hundreds of regions, whose masks would take a hundred times the space of the map.
    """

    def __init__(
        self, id_map: NDArray[np.int32], *, ids: Sequence[int], labels: Mapping[int, str] | None = None
    ) -> None:
        """Wrap a map.

        Args:
            id_map: Region ids, (H, W).
            ids: The ids that are regions, in the order to give them out.
            labels: What regions are, by id.
        """
        self.id_map = id_map  # (H, W)
        self.ids = tuple(ids)
        self.labels = dict(labels or {})

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
            return LabelledRegions(self.id_map, ids=self.ids[index], labels=self.labels)
        number = self.ids[index]
        return Region(number, self.id_map == number, self.labels.get(number, "object"))


@dataclass(frozen=True, slots=True)
class Marked:
    """One object as a file of annotations has it.

    Attributes:
        id: Its number in the file, or its place there from 1.
        label: What it is.
        shape: Run lengths (COCO's dict), or rings of x, y, x, y, ... in picture pixels; None if it has only a box.
        box_xyxy: In picture pixels; None if it has only a shape.
        crowd: Whether it stands for many objects that nobody told apart.
    """

    id: int
    label: str
    shape: Mapping[str, Any] | tuple[NDArray[np.float64], ...] | None = None
    box_xyxy: BoxXyxy | None = None
    crowd: bool = False

    def mask(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Fill the shape.

        Args:
            hw: Size of the picture.

        Returns:
            (H, W) bool.
        """
        if isinstance(self.shape, Mapping):
            return rle_to_mask(self.shape)
        return polygon_to_mask(self.shape or (), hw)

    def box(self) -> BoxXyxy:
        """Give its own box, or the one around its shape."""
        if self.box_xyxy is not None:
            return self.box_xyxy
        if isinstance(self.shape, Mapping):
            x, y, width, height = rle_to_bbox(self.shape)
            return float(x), float(y), float(x + width), float(y + height)
        points = np.concatenate(self.shape or (np.zeros((1, 2)),))
        (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
        return x0, y0, x1, y1


class MarkedRegions(Sequence[Region]):
    """The regions of a list of objects, which may overlap; each mask is made when it is asked for and not kept."""

    def __init__(self, objects: Sequence[Marked], hw: tuple[int, int]) -> None:
        """Wrap the objects.

        Args:
            objects: Each with a shape.
            hw: Size of the picture.
        """
        self.objects, self.hw = tuple(objects), hw

    def __len__(self) -> int:
        """Give the number of regions."""
        return len(self.objects)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> "MarkedRegions": ...
    def __getitem__(self, index: int | slice) -> "Region | MarkedRegions":
        """Make one region, or narrow the sequence."""
        if isinstance(index, slice):
            return MarkedRegions(self.objects[index], self.hw)
        one = self.objects[index]
        return Region(one.id, one.mask(self.hw), one.label)


@dataclass(frozen=True, slots=True)
class Broken:
    """A picture or a mark in one that could not be used, and why, in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a set, not read yet.

    Attributes:
        name: What it is called in reports.
        image_path: Its file; of a picture in a tar, the tar's path with the member's name below it.
        mask_path: The file that says what is in it; None if it has none.
        key: What its layout finds its marks by.
        file_name: Its path below the folder of pictures, with its ending, "/" between parts.
        at: Where its bytes are, if they are not the whole file `image_path`; see `samlet.data.places.read`.
    """

    name: str
    image_path: Path
    mask_path: Path | None
    key: Any = None
    file_name: str = ""
    at: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Fill in the name of the file."""
        if not self.file_name:
            object.__setattr__(self, "file_name", self.image_path.name)

    @property
    def source(self) -> dict[str, Any]:
        """Where its bytes are; `samlet.data.places.read` understands it."""
        return {"path": str(self.image_path.absolute())} if self.at is None else self.at

    def load_image(self, *, limits: Limits = DEFAULT_LIMITS) -> Image:
        """Decode the picture.

        Raises:
            ImageError: The picture is missing or broken.
            LimitError: The picture is larger than the limits allow.
        """
        if self.at is None:
            return Image.load(self.image_path, limits=limits)
        return Image.load(places.read(self.at), limits=limits, name=self.file_name)


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with what people marked in it.

    Attributes:
        image_path: The picture's file, not read yet.
        name: The item's.
        regions: The labelled regions, by rising id or in the order of the file; they may overlap.
        ignore: True where nobody decided what the pixel belongs to, bool (H, W).
        at: Where the picture's bytes are, if they are not the whole file; see `Item`.
        broken: Marks of this picture that could not be used.
    """

    image_path: Path
    name: str
    regions: Sequence[Region]
    ignore: NDArray[np.bool_]
    at: dict[str, Any] | None = None
    broken: tuple[Broken, ...] = ()

    def load_image(self, *, limits: Limits = DEFAULT_LIMITS) -> Image:
        """Decode the picture and check that it has the size of its mask.

        Raises:
            ImageError: The picture is broken, or its size differs from the mask's.
            LimitError: The picture is larger than the limits allow.
        """
        image = Item(self.name, self.image_path, None, at=self.at).load_image(limits=limits)
        if image.hw != self.ignore.shape:
            raise ImageError(
                f"expected a picture of the size of its mask, {_size(self.ignore.shape)}, but "
                f"{self.image_path} is {_size(image.hw)}; put the right mask beside it"
            )
        return image

    def id_map(self) -> NDArray[np.uint16]:
        """Lay the regions over each other in one map, the largest first, so that small ones stay visible.

        Returns:
            (H, W); 0 nothing, `IGNORE` where nobody decided, else the number of a region. A map of ids keeps its
            numbers; objects of a list are counted from 1, the largest first, and those after `IGNORE` - 1 are left out.

        Example:
            >>> ones = np.ones((1, 2), bool)
            >>> Sample(Path("a.png"), "a", [Region(1, ones), Region(9, ones & [True, False])], ~ones).id_map().tolist()
            [[2, 1]]
        """
        if isinstance(self.regions, LabelledRegions):
            ids = self.regions.id_map.astype(np.uint16)
            ids[self.ignore] = IGNORE
            return ids
        ids = np.zeros(self.ignore.shape, np.uint16)
        ids[self.ignore] = IGNORE
        areas = np.array([np.count_nonzero(region.mask) for region in self.regions], np.int64)
        for number, index in enumerate(np.argsort(-areas, kind="stable")[: IGNORE - 1].tolist(), start=1):
            ids[self.regions[index].mask] = number
        return ids


@dataclass(frozen=True, slots=True)
class Boxed:
    """The boxes of one picture.

    Attributes:
        boxes: Label and (x0, y0, x1, y1) of each, in picture pixels.
        broken: Marks that could not be used.
    """

    boxes: tuple[tuple[str, BoxXyxy], ...]
    broken: tuple[Broken, ...] = field(default=())


def sample_of(
    item: Item, hw: tuple[int, int], objects: Iterable[Marked], broken: Sequence[Broken], *, limits: Limits
) -> Sample:
    """Make a sample of objects; crowds are ignored pixels, and what has no shape is named as broken.

    Args:
        item: The picture.
        hw: Its size.
        objects: What is marked in it.
        broken: Marks that could not be read.
        limits: `max_pixels` bounds the picture.

    Raises:
        LimitError: The picture is too large.
    """
    if hw[0] * hw[1] > limits.max_pixels:
        raise LimitError(
            f"expected a picture of at most {limits.max_pixels} pixels, but {item.name} has {hw[0] * hw[1]}; make "
            "picture and marks smaller"
        )
    ignore, regions, bad = np.zeros(hw, np.bool_), [], list(broken)
    for one in objects:
        if one.shape is None:
            bad.append(
                Broken(
                    f"{item.name}, {one.id}",
                    "expected a mask, found only a box; draw it, or use samlet annotate",
                )
            )
        elif one.crowd:
            ignore |= one.mask(hw)
        else:
            regions.append(one)
    return Sample(item.image_path, item.name, MarkedRegions(regions, hw), ignore, item.at, tuple(bad))


def boxes_of(objects: Iterable[Marked], broken: Sequence[Broken] = ()) -> Boxed:
    """Take the boxes of objects; crowds are left out.

    Args:
        objects: What is marked in a picture.
        broken: Marks that could not be read.
    """
    return Boxed(tuple((one.label, one.box()) for one in objects if not one.crowd), tuple(broken))


def checked_rings(rings: Any) -> tuple[NDArray[np.float64], ...]:
    """Check the polygons of one object.

    Args:
        rings: Of x, y, x, y, ... or of (x, y) pairs.

    Returns:
        (K, 2) each, K at least 3.

    Raises:
        InputError: A ring is none.
    """
    made = []
    for ring in rings:
        try:
            points = np.asarray(ring, np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            points = np.zeros((0, 2))
        if len(points) < 3 or not np.isfinite(points).all():
            raise InputError(f"expected a polygon of 3 or more points, got {str(ring)[:60]}; draw it again")
        made.append(points)
    if not made:
        raise InputError("expected a polygon, got none; draw it again")
    return tuple(made)


def checked_rle(code: Any, hw: tuple[int, int]) -> Mapping[str, Any]:
    """Check the run lengths of one object without decoding them.

    Args:
        code: COCO's dict.
        hw: Size of the picture.

    Raises:
        InputError: They are malformed, or of another size.
    """
    rle_area(code)
    if tuple(code["size"]) != hw:
        raise InputError(
            f"expected run lengths of {_size(hw)}, the picture's size, got {_size(tuple(code['size']))}; "
            "export the file again"
        )
    checked: Mapping[str, Any] = code
    return checked


def checked_box(box: Any) -> BoxXyxy:
    """Check a box.

    Args:
        box: x0, y0, x1, y1.

    Raises:
        InputError: It is not four finite numbers, or it is empty.
    """
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = float("nan")
    if not (np.isfinite((x0, y0, x1, y1)).all() and x0 < x1 and y0 < y1):
        raise InputError(f"expected a box with x0 < x1 and y0 < y1, got {str(box)[:60]}; correct it")
    return x0, y0, x1, y1


def _size(hw: tuple[int, ...]) -> str:
    return f"{hw[1]} x {hw[0]}"
