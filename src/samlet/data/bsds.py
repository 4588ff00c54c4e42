"""BSDS500: data/images/SPLIT/ID.jpg with data/groundTruth/SPLIT/ID.mat, every person's segmentation in it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.data.dataset import Spec
from samlet.data.documents import MAX_XML
from samlet.data.folders import boxes_of_ids, sample_of_ids
from samlet.data.sample import Boxed, Item, Sample
from samlet.errors import InputError, MissingExtraError
from samlet.limits import Limits

_SPLITS = ("train", "val", "test")


def open_layout(spec: Spec) -> "Bsds":
    """List the pictures.

    Args:
        spec: BSR, BSDS500, or its folder data; its part is a split (default: all).

    Raises:
        InputError: There is no such folder or split.
        MissingExtraError: scipy is not installed.
    """
    try:
        import scipy.io  # noqa: F401  said at once, not at the first picture
    except ImportError:
        raise MissingExtraError(
            "expected scipy for the .mat files of BSDS500, but it is not installed; pip install 'samlet[mat]'"
        ) from None
    roots = [spec.path, spec.path / "data", spec.path / "BSDS500" / "data"]
    root = next((path for path in roots if (path / "groundTruth").is_dir()), None)
    if root is None:
        raise InputError(
            f"expected a folder groundTruth/ in {spec.path} or its data/, found none; give BSDS500's folder"
        )
    splits = _SPLITS if spec.part is None else (spec.part,)
    if spec.part is not None and not (root / "groundTruth" / spec.part).is_dir():
        raise InputError(f"expected a split (train, val, test) after @, got {spec.part!r:.40}; name one")
    items = []
    for split in splits:
        for picture in sorted((root / "images" / split).glob("*.jpg")):
            marks = root / "groundTruth" / split / f"{picture.stem}.mat"
            items.append(
                Item(
                    picture.stem,
                    picture,
                    marks if marks.exists() else None,
                    spec.human,
                    f"{split}/{picture.name}",
                )
            )
    return Bsds(tuple(items))


@dataclass(frozen=True, slots=True)
class Bsds:
    """Pictures with several people's segmentations; the key of an item is the person's number, from 1."""

    items: tuple[Item, ...]

    def read(self, item: Item, limits: Limits) -> Sample:
        """Read one person's segmentation; every pixel belongs to a region."""
        people = _people(item, limits)
        if item.key > len(people):
            raise InputError(
                f"expected a person {item.key} for {item.name}, found {len(people)}; ask for another"
            )
        return sample_of_ids(item, people[item.key - 1][0], None)

    def boundaries(self, item: Item, limits: Limits) -> list[NDArray[np.bool_]]:
        """Read every person's boundary map, as the official benchmark compares with: bool (H, W) each."""
        return [lines for _, lines in _people(item, limits)]

    def boxes(self, item: Item, limits: Limits) -> Boxed:
        """Read the boxes around the regions."""
        return boxes_of_ids(self.read(item, limits))

    def segmentations(self, item: Item) -> list[Item]:
        """List every person's segmentation."""
        try:
            count = len(_people(item, Limits()))
        except InputError:
            return [item]
        return [replace(item, name=f"{item.name}_h{number}", key=number) for number in range(1, count + 1)]


def _people(item: Item, limits: Limits) -> list[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
    """Read segmentation and boundaries of each person."""
    path = item.mask_path
    if path is None:
        raise InputError(f"expected a {item.name}.mat in groundTruth/, found none; add it")
    found = _mat(path)
    try:
        cells = np.asarray(found["groundTruth"]).ravel()
        people = []
        for cell in cells:
            one = cell[0, 0]
            ids, lines = np.asarray(one["Segmentation"]), np.asarray(one["Boundaries"])
            if (
                ids.ndim != 2
                or ids.shape != lines.shape
                or ids.dtype.kind not in "ui"
                or ids.size > limits.max_pixels
            ):
                raise ValueError("maps of one size")
            people.append((ids.astype(np.int32), lines > 0))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"expected groundTruth with Segmentation and Boundaries in {path}, got something else "
            f"({type(error).__name__}: {error!s:.80}); get the file again"
        ) from None
    if not people:
        raise InputError(f"expected at least one person's marks in {path}, found none; get the file again")
    return people


def _mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        if path.stat().st_size > MAX_XML:
            raise InputError(f"expected at most {MAX_XML:,} bytes in {path}; get the file again")
        found: dict[str, Any] = loadmat(path, variable_names=["groundTruth"])
    except InputError:
        raise
    except Exception as error:  # scipy's reader raises almost anything on damaged bytes
        raise InputError(
            f"expected a .mat file at {path}, got one that does not read ({type(error).__name__}); get it again"
        ) from None
    return found
