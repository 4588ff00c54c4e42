"""People's own labelled pictures, in any layout that `samlet.data` reads, made into what the trainer crops from.

Objects become one map of ids; where two overlap the smaller one is on top.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samlet import components
from samlet.data import IGNORE, Broken, Dataset, Sample
from samlet.errors import InputError
from samlet.train.pictures import Picture


def read_own(
    words: str | Path,
    *,
    images: str | Path | None = None,
    max_side: int = 1024,
    broken: list[Broken] | None = None,
) -> list[Picture]:
    """Read labelled pictures.

    Args:
        words: What `samlet.data.Dataset.open` takes. Where the mask of a picture has nothing but black and white, each
            connected white piece is an object.
        images: Folder of the pictures, where it is not the data set's own; the same as "@" and the folder in `words`.
        max_side: Pictures whose longer side is above it are shrunk.
        broken: Takes the pictures and marks that cannot be used, with the reason; they are left out.

    Raises:
        InputError: Nothing of this kind is there, or no picture has an object.
    """
    dataset = Dataset.open(words if images is None else f"{words}@{images}")
    bad = [*dataset.broken]
    pictures: list[Picture] = []
    for item in dataset.items:
        try:
            sample = dataset.read(item)
            bad += sample.broken
            ids = _ids(sample)
            if not ((ids > 0) & (ids != IGNORE)).any():
                raise InputError("expected a labelled object, found none; leave the picture out")
            pictures.append(_picture(item.name, np.array(sample.load_image().pixels), ids, max_side))
        except InputError as error:
            bad.append(Broken(item.name, str(error)))
    if broken is not None:
        broken += bad
    if not pictures:
        raise InputError(
            f"expected labelled objects in {words}, found none that can be used; check the files"
        )
    return pictures


def _ids(sample: Sample) -> NDArray[np.uint16]:
    if not len(sample.regions) and sample.ignore.any():  # black and white: the white is what is meant
        return components.label(sample.ignore)[0].astype(np.uint16)
    return sample.id_map()


def _picture(name: str, pixels: NDArray[np.uint8], ids: NDArray[np.uint16], max_side: int) -> Picture:
    scale = max_side / max(ids.shape)
    if scale < 1:
        size = max(1, round(ids.shape[1] * scale)), max(1, round(ids.shape[0] * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        ids = np.asarray(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST), np.uint16)
    return Picture(name, "own", pixels, [ids])
