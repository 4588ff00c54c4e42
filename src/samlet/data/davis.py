"""DAVIS: JPEGImages/480p/SEQUENCE/00000.jpg with Annotations/480p/SEQUENCE/00000.png, of 2016 and of 2017."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samlet.data.dataset import Spec
from samlet.data.documents import read_lines
from samlet.data.folders import boxes_of_ids, read_ids, sample_of_ids
from samlet.data.sample import Boxed, Item, Sample
from samlet.errors import InputError
from samlet.limits import Limits


def open_layout(spec: Spec) -> "Davis":
    """List the frames of all sequences, or of a list of them.

    Args:
        spec: The folder with JPEGImages; its part is a list of ImageSets (of the latest year), or a sequence.

    Raises:
        InputError: There is no such folder, or no such list.
    """
    pictures = spec.path / "JPEGImages"
    sizes = sorted(path for path in pictures.iterdir() if path.is_dir()) if pictures.is_dir() else []
    if not sizes:
        raise InputError(
            f"expected JPEGImages/480p/ in {spec.path}, found none; give the folder above JPEGImages"
        )
    size = next((path for path in sizes if path.name == "480p"), sizes[0])
    wanted = None if spec.part is None else _sequences(spec.path, spec.part, size)
    items = []
    for picture in sorted(size.glob("*/*.jpg")):
        sequence = picture.parent.name
        if wanted is None or sequence in wanted:
            mask = spec.path / "Annotations" / size.name / sequence / f"{picture.stem}.png"
            name = f"{sequence}/{picture.stem}"
            items.append(Item(name, picture, mask if mask.exists() else None, sequence, f"{name}.jpg"))
    return Davis(tuple(items))


@dataclass(frozen=True, slots=True)
class Davis:
    """Frames with a mask each; the key of an item is its sequence."""

    items: tuple[Item, ...]

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read the objects of one frame; 2016's are black and white, and the white is the object."""
        if item.mask_path is None:
            raise InputError(f"expected a mask for the frame {item.name}, found none; add it to Annotations/")
        ids, ignored = read_ids(item.mask_path, limits)
        if not np.isin(ids, (0, 255)).all():
            return sample_of_ids(item, ids, ignored)
        return sample_of_ids(item, (ids > 0).astype(np.int32), None)

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes around the objects of one frame."""
        return boxes_of_ids(self.read(item, limits))

    def segmentations(self, item: Item) -> list[Item]:
        """Give the item itself."""
        return [item]


def _sequences(root: Path, part: str, size: Path) -> set[str]:
    if (size / part).is_dir():
        return {part}
    lists = sorted((root / "ImageSets").glob(f"*/{Path(part).name}.txt"))
    if not lists:
        raise InputError(
            f"expected a list {part}.txt below {root / 'ImageSets'}, or a sequence called so, found neither; name one"
        )
    found = set()
    for line in filter(str.strip, read_lines(lists[-1])):
        word = line.split()[0]  # 2016 lists frames, "/JPEGImages/480p/bear/00000.jpg ...", 2017 sequences
        found.add(Path(word).parent.name if "/" in word else word)
    return found
