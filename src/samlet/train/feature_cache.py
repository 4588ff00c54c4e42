"""What a frozen encoder made of every view of every training picture, on disk in half precision.

The encoder is most of the cost of a step of the object head, and it never changes: it runs once for each view.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samlet.families.sam import on_canvas
from samlet.geometry import Frame
from samlet.session import Session
from samlet.train.cache_index import forget_index, read_index, write_index
from samlet.train.object_views import CANVASES, STRIDE, View, canvas_of, make_view
from samlet.train.pictures import Picture

CHANNELS = 512  # 256 token channels and 4 x 64 of the stride-8 detail; the stride-4 detail is left out


@dataclass(frozen=True)
class Shelf:
    """All views on one canvas; row r of each array is one view.

    Attributes:
        hw: The canvas.
        features: (N, 512, H/16, W/16) float16.
        ids: (N, H/4, W/4) uint16, as `View.ids`.
        boxes: One (K, 4) float32 a view.
        groups: Name of the set that each view is from.
    """

    hw: tuple[int, int]
    features: NDArray[np.float16]
    ids: NDArray[np.uint16]
    boxes: list[NDArray[np.float32]]
    groups: list[str]

    def __len__(self) -> int:
        """Give the number of views."""
        return len(self.groups)


def deep_half(embedding: NDArray[np.float32]) -> NDArray[np.float16]:
    """The tokens and the stride-8 detail of a packed embedding (1, 256, h, w): (512, h/2, w/2)."""
    _, channels, h, w = embedding.shape
    deep = embedding[0].reshape(channels, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(deep.reshape(4 * channels, h // 2, w // 2)[:CHANNELS]).astype(np.float16)


def write_cache(
    folder: Path,
    session: Session,
    pictures: list[Picture],
    *,
    views: Mapping[str, int] | None,
    seed: int,
    digest: str,
) -> None:
    """Encode every view and leave the cache in `folder`; the index comes last, so a broken cache has none.

    Args:
        folder: Made if missing.
        session: The model whose encoder is used.
        pictures: What to look at.
        views: Views of each picture by name of its set, those of other sets are left out; None is one of each.
        seed: The j-th view of the i-th picture depends on (seed, i, j) alone.
        digest: Says which encoder it is; kept in the index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forget_index(folder)
    wanted = [
        (i, j)
        for i, picture in enumerate(pictures)
        for j in range(1 if views is None else views.get(picture.group, 0))
    ]
    wanted.sort(key=lambda pair: (CANVASES.index(canvas_of(pictures[pair[0]])), pair[1]))
    shelves, began, done = [], time.monotonic(), 0
    for hw in CANVASES:
        rows = [(i, j) for i, j in wanted if canvas_of(pictures[i]) == hw]
        if not rows:
            continue
        stem = f"{hw[0]}x{hw[1]}"
        shape = (len(rows), CHANNELS, hw[0] // 16, hw[1] // 16)
        features = np.lib.format.open_memmap(folder / f"{stem}_features.npy", "w+", np.float16, shape)
        ids = np.zeros((len(rows), hw[0] // STRIDE, hw[1] // STRIDE), np.uint16)
        boxes: list[NDArray[np.float32]] = []
        for row, view in enumerate(_made(pictures, rows, seed)):
            frame = Frame(view.scaled_hw, view.scaled_hw, hw)
            feeds = {
                "image": on_canvas(view.pixels[: frame.scaled_hw[0], : frame.scaled_hw[1]], hw, session.card)
            }
            features[row] = deep_half(session.encode(feeds, frame).arrays["image_embeddings"])
            ids[row] = view.ids
            boxes.append(view.boxes)
            done += 1
            if done % 200 == 0:
                left = (time.monotonic() - began) / done * (len(wanted) - done) / 60
                print(f"{done} of {len(wanted)} views encoded, about {left:.1f} minutes left", flush=True)
        features.flush()
        np.savez(
            folder / f"{stem}_labels.npz",
            ids=ids,
            boxes=np.concatenate(boxes),
            counts=[len(b) for b in boxes],
        )
        names = [pictures[i].name for i, _ in rows]
        shelves.append({"hw": hw, "names": names, "views": [j for _, j in rows]})
    write_index(folder, digest=digest, shelves=shelves)


def _made(pictures: list[Picture], rows: list[tuple[int, int]], seed: int) -> Iterator[View]:
    """Views in order, cut by a thread a few ahead of the encoder."""

    def cut(pair: tuple[int, int]) -> View:
        return make_view(pictures[pair[0]], pair[1], np.random.default_rng((seed, *pair)))

    with ThreadPoolExecutor(1) as pool:
        for start in range(0, len(rows), 32):
            yield from pool.map(cut, rows[start : start + 32])


def read_cache(folder: Path, *, digest: str) -> list[Shelf]:
    """Open a cache; the features stay on disk until they are read.

    Args:
        folder: What `write_cache` left.
        digest: Says which encoder it must be of.

    Raises:
        InputError: There is no finished cache, or it is of another model.
    """
    shelves = []
    for entry in read_index(folder, digest=digest, what="features"):
        stem = "{}x{}".format(*entry["hw"])
        with np.load(folder / f"{stem}_labels.npz") as labels:
            boxes = np.split(labels["boxes"], np.cumsum(labels["counts"])[:-1])
            ids = labels["ids"]
        features = np.load(folder / f"{stem}_features.npy", mmap_mode="r")
        groups = [name.split("/")[0] for name in entry["names"]]
        shelves.append(Shelf(tuple(entry["hw"]), features, ids, boxes, groups))
    return shelves


def groups_of(shelves: Iterable[Shelf]) -> dict[str, int]:
    """Number of views of each set."""
    found: dict[str, int] = {}
    for shelf in shelves:
        for group in shelf.groups:
            found[group] = found.get(group, 0) + 1
    return found
