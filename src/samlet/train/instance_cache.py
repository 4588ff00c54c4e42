"""What a frozen encoder made of views for all-instance segmentation, with their labels, on disk in half precision.

The encoder is most of the cost of a step and never changes: it runs once for each view. Its own object head then also
says where something is that nobody labelled, so that it will not be taken for background.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.families.sam import on_canvas
from samlet.geometry import Frame
from samlet.session import Session
from samlet.train.cache_index import forget_index, read_index, write_index
from samlet.train.instance_views import MOSAIC, STRIDE, WHOLE, ZOOMED, Album, Labels, View

CANVASES = {
    WHOLE: ((384, 512), (512, 384), (512, 512)),
    ZOOMED: ((320, 416), (416, 320), (384, 384)),
    MOSAIC: ((320, 416), (416, 320), (384, 384)),
}
"""Canvases by kind of view: wide, high, square. Whole pictures are as large as they will be in use."""
FLOOR = 0.5  # of the object head's scores: below it come its boxes of nothing in particular
_ARRAYS = ("boxes", "masks", "quality", "masked", "unknown", "trust")


@dataclass(frozen=True)
class Order:
    """One view to be made: picture, kind, canvas."""

    index: int
    kind: int
    hw: tuple[int, int]


@dataclass(frozen=True)
class Shelf:
    """All views on one canvas; row r of each is one view.

    Attributes:
        hw: The canvas.
        embeddings: (N, 256, H/8, W/8) float16, as nano's encoder packs them.
        labels: Of each view.
        groups: Name of the set that each view's (first) picture is from.
    """

    hw: tuple[int, int]
    embeddings: NDArray[np.float16]
    labels: list[Labels]
    groups: list[str]

    def __len__(self) -> int:
        """Give the number of views."""
        return len(self.groups)


def canvas_of(kind: int, picture_hw: tuple[int, int]) -> tuple[int, int]:
    """The canvas on which a picture wastes least."""
    h, w = picture_hw
    wide, high, square = CANVASES[kind]
    if max(h, w) / min(h, w) < 512 / 390:
        return square
    return wide if w > h else high


def write_cache(  # noqa: PLR0913  each decides what the cache holds
    folder: Path, session: Session, album: Album, orders: list[Order], *, boxes: int, seed: int, digest: str
) -> None:
    """Make and encode views and leave them in `folder`; the index comes last, so a broken cache has none.

    Args:
        folder: Made if missing.
        session: A model with an object head; its encoder is used.
        album: The pictures.
        orders: The views; the j-th depends on (seed, j) alone.
        boxes: Most boxes of the object head that are added to a view; 0 for none.
        seed: Of all random numbers.
        digest: Says which encoder it is; kept in the index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forget_index(folder)
    shelves, began, done = [], time.monotonic(), 0
    for hw in sorted({order.hw for order in orders}):
        rows = [j for j, order in enumerate(orders) if order.hw == hw]
        stem = f"{hw[0]}x{hw[1]}"
        shape = (len(rows), 256, hw[0] // 8, hw[1] // 8)
        embeddings = np.lib.format.open_memmap(folder / f"{stem}_embeddings.npy", "w+", np.float16, shape)
        labels: list[Labels] = []
        for row, view in enumerate(_made(album, orders, rows, seed)):
            made, own = _encoded(session, view, boxes)
            embeddings[row] = made[0]
            labels.append(own)
            done += 1
            if done % 100 == 0:
                left = (time.monotonic() - began) / done * (len(orders) - done) / 60
                print(f"{done} of {len(orders)} views encoded, about {left:.1f} minutes left", flush=True)
        embeddings.flush()
        np.savez(folder / f"{stem}_labels.npz", **_packed(labels))
        shelves.append({"hw": hw, "names": [album.pictures[orders[j].index].name for j in rows]})
    write_index(folder, digest=digest, shelves=shelves)


def _made(album: Album, orders: list[Order], rows: list[int], seed: int) -> Iterator[View]:
    """Views in order, cut by a thread a few ahead of the encoder."""

    def cut(j: int) -> View:
        order = orders[j]
        return album.view(order.index, order.kind, order.hw, np.random.default_rng((seed, j)))

    with ThreadPoolExecutor(1) as pool:
        for start in range(0, len(rows), 16):
            yield from pool.map(cut, rows[start : start + 16])


def _encoded(session: Session, view: View, boxes: int) -> tuple[NDArray[np.float32], Labels]:
    """What the encoder makes of a view, and its labels with what the object head finds elsewhere."""
    hw = view.pixels.shape[0], view.pixels.shape[1]
    embedding = session.encode({"image": on_canvas(view.pixels, hw, session.card)}, Frame(hw, hw, hw))
    labels = view.labels
    if boxes:
        found, scores = session.objects(embedding, at_most=boxes, iou=0.7, floor=FLOOR)
        labels = labels.with_boxes(np.asarray(found, np.float32), np.asarray(scores, np.float32))
    return embedding.arrays["image_embeddings"], labels


def _packed(labels: list[Labels]) -> dict[str, Any]:
    return {
        "counts": np.array([len(each.boxes) for each in labels]),
        "boxes": np.concatenate([each.boxes for each in labels]),
        "masks": np.packbits(np.concatenate([each.masks for each in labels]), axis=-1),
        "quality": np.concatenate([each.quality for each in labels]),
        "masked": np.concatenate([each.masked for each in labels]),
        "unknown": np.stack([each.unknown for each in labels]),
        "trust": np.array([each.trust for each in labels], np.float32),
    }


def read_cache(folder: Path, *, digest: str) -> list[Shelf]:
    """Open a cache; the embeddings stay on disk until they are read.

    Args:
        folder: What `write_cache` left.
        digest: Says which encoder it must be of.

    Raises:
        InputError: There is no finished cache, or it is of another model.
    """
    shelves = []
    for entry in read_index(folder, digest=digest, what="views"):
        stem = "{}x{}".format(*entry["hw"])
        with np.load(folder / f"{stem}_labels.npz") as stored:
            labels = _unpacked({name: stored[name] for name in ("counts", *_ARRAYS)}, tuple(entry["hw"]))
        embeddings = np.load(folder / f"{stem}_embeddings.npy", mmap_mode="r")
        groups = [name.split("/")[0] for name in entry["names"]]
        shelves.append(Shelf(tuple(entry["hw"]), embeddings, labels, groups))
    return shelves


def _unpacked(stored: dict[str, Any], hw: tuple[int, int]) -> list[Labels]:
    ends = np.cumsum(stored["counts"])[:-1].tolist()
    parts = {name: np.split(stored[name], ends) for name in ("boxes", "masks", "quality", "masked")}
    width = hw[1] // STRIDE
    return [
        Labels(
            parts["boxes"][row],
            np.unpackbits(np.asarray(parts["masks"][row], np.uint8), axis=-1, count=width).astype(np.bool_),
            parts["quality"][row],
            parts["masked"][row],
            stored["unknown"][row],
            float(stored["trust"][row]),
        )
        for row in range(len(stored["counts"]))
    ]
