"""Training pictures in memory, and the crops, flips and prompts that a step is made of.

Every random number comes from (seed, step, index), so a resumed run sees what an unbroken one would have.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samlet.data import IGNORE, Broken, Dataset, Item, Sample
from samlet.errors import InputError

cv2.setNumThreads(1)  # one loader thread beside the network's; OpenCV's own pool would fight for the cores

# How often a picture of a set is drawn, relative to the others: everyday objects first, textures and parts last.
SET_WEIGHTS = {
    "coco_mini": 1.8, "coco_train50": 1.8, "voc2007_seg_train": 1.5, "voc2012_tiny": 1.3, "voc2012_animals": 1.3,
    "bsds500_trainval": 0.9, "ecssd831": 0.8, "davis2016": 0.8, "pets": 0.6, "pennfudan170": 0.5,
    "food_plates": 0.5, "ccp": 0.4, "labelmefacade": 0.4, "dsb2018": 0.3, "camvid": 0.3, "cwfid": 0.2,
    "carrotweed": 0.2, "neu_seg": 0.2, "magtile": 0.2, "crackforest": 0.1,
}  # fmt: skip
DEV_SETS = (
    "voc2007_seg_train",
    "coco_mini",
    "ecssd831",
)  # every fifth picture of these is held out for choices
ANNOTATORS = 3  # BSDS500 comes with three segmentations of each picture; every one is used
CLICK_COLUMNS = 3  # columns of a first prompt: up to three clicks, or a box and a click


@dataclass
class Picture:
    """One picture with its region maps, shrunk to at most `max_side`."""

    name: str
    group: str
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    regions: list[NDArray[np.uint16]]  # one (H, W) id map per annotator; 0 unlabelled, IGNORE ignored


def is_dev(group: str, index: int) -> bool:
    """Whether the `index`-th picture (in name order) of a set belongs to the fixed held-out part."""
    return group in DEV_SETS and index % 5 == 0


def _shrunk(sample: Sample, group: str, others: list[Sample], max_side: int) -> Picture:
    """Decode a picture and bring it and its region maps to at most `max_side`."""
    pixels = sample.load_image().pixels
    regions = [each.id_map() for each in (sample, *others)]
    scale = max_side / max(pixels.shape[:2])
    if scale < 1:
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        regions = [
            np.asarray(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST), np.uint16) for ids in regions
        ]
    return Picture(f"{group}/{sample.name}", group, pixels, regions)


def _read_set(folder: Path, *, dev: bool) -> list[list[tuple[Dataset, Item]]]:
    """List the chosen part of a set: for each picture its item once for each person who marked it."""
    marked = [Dataset.open(folder, human=human) for human in range(1, ANNOTATORS + 1)]
    chosen = []
    for index in range(len(marked[0])):
        if is_dev(folder.name, index) == dev:
            by_mask = {str(d.items[index].mask_path): (d, d.items[index]) for d in reversed(marked)}
            without_mask = by_mask.pop("None", (marked[0], marked[0].items[index]))
            chosen.append([by_mask[path] for path in sorted(by_mask)] or [without_mask])
    return chosen


def read_sets(
    root: Path, *, dev: bool, max_side: int, limit: int | None = None, broken: list[Broken] | None = None
) -> list[Picture]:
    """Read all pictures below `root` into memory.

    Args:
        root: Folder of sets, each as `samlet.data.folders` describes.
        dev: Read the held-out part instead of the training part.
        max_side: Pictures whose longer side is above it are shrunk.
        limit: Read only so many, evenly spread.
        broken: Takes the pictures that cannot be used, with the reason; they are left out.

    Raises:
        InputError: There is no set below `root`.
    """
    folders = sorted(p for p in root.iterdir() if (p / "images").is_dir()) if root.is_dir() else []
    if not folders:
        raise InputError(
            f"expected folders <set>/images and <set>/masks below {root}, found none; pass the data root"
        )
    found = [(folder.name, people) for folder in folders for people in _read_set(folder, dev=dev)]
    if limit is not None:
        found = found[:: max(1, len(found) // limit)][:limit]

    def read(entry: tuple[str, list[tuple[Dataset, Item]]]) -> Picture | Broken:
        group, people = entry
        try:
            first, *others = [dataset.read(item) for dataset, item in people]
            return _shrunk(first, group, others, max_side)
        except InputError as error:
            return Broken(f"{group}/{people[0][1].name}", str(error))

    with ThreadPoolExecutor(2) as pool:
        every = list(pool.map(read, found))
    if broken is not None:
        broken += [each for each in every if isinstance(each, Broken)]
    return [each for each in every if isinstance(each, Picture)]


@dataclass
class Crop:
    """What one picture contributes to a step: arrays on the canvas and on its stride-4 grid."""

    pixels: NDArray[np.uint8]  # (H, W, 3)
    inside: NDArray[np.bool_]  # (H, W) False on padding
    targets: NDArray[np.float32]  # (P, H/4, W/4) in [0, 1]: the share of each cell that the object covers
    valid: NDArray[np.float32]  # (H/4, W/4) in [0, 1]: the share of each cell that is labelled
    coords: NDArray[np.float32]  # (P, CLICK_COLUMNS, 2)
    labels: NDArray[np.float32]  # (P, CLICK_COLUMNS)


def _window(
    rng: np.random.Generator, ids: NDArray[np.uint16], hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """A crop window (y, x, h, w) of the canvas's shape; it may reach past the picture's bottom right."""
    height, width = ids.shape
    aspect = hw[1] / hw[0]
    whole_h = max(height, width / aspect)  # smallest canvas-shaped window that holds the whole picture
    fit_h = min(height, width / aspect)  # largest one inside it
    kind = rng.random()
    if kind < 0.3:
        return 0, 0, max(1, round(whole_h)), max(1, round(whole_h * aspect))
    keys = np.unique(ids)
    keys = keys[(keys != 0) & (keys != IGNORE)]
    if kind < 0.6 and len(keys):  # look closely at one object, as zoomed prompts will
        ys, xs = np.nonzero(ids == rng.choice(keys))
        extent = max(ys.max() - ys.min() + 1, (xs.max() - xs.min() + 1) / aspect)
        h = float(np.clip(extent / rng.uniform(0.25, 0.75), min(96, fit_h), fit_h))
        cy, cx = (ys.min() + ys.max()) / 2, (xs.min() + xs.max()) / 2
        y, x = cy - h / 2 + rng.normal(0, 0.1) * h, cx - h * aspect / 2 + rng.normal(0, 0.1) * h * aspect
    else:
        h = fit_h * rng.uniform(0.45, 1.0)
        y, x = rng.uniform(0, height - h), rng.uniform(0, width - h * aspect)
    w = h * aspect
    y, x = np.clip(y, 0, max(0.0, height - h)), np.clip(x, 0, max(0.0, width - w))
    return int(y), int(x), max(8, round(h)), max(8, round(w))


def recolour(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light brightness, contrast and saturation changes; one picture in six becomes gray."""
    table = np.arange(256, dtype=np.float32)
    gain, shift = rng.uniform(0.75, 1.3), rng.uniform(-20, 20)
    out: NDArray[np.uint8] = np.clip((table - 127) * gain + 127 + shift, 0, 255).astype(np.uint8)[pixels]
    if rng.random() < 0.5:
        gray = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        keep = 0.0 if rng.random() < 1 / 3 else rng.uniform(0.5, 1.4)
        out = np.asarray(cv2.addWeighted(out, keep, gray, 1 - keep, 0), np.uint8)
    return out


def interior(mask: NDArray[np.uint8]) -> tuple[int, int]:
    """(y, x) of the most interior pixel of a non-empty uint8 mask; the border of the array counts as an edge."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(y), int(x)


def _click(rng: np.random.Generator, mask: NDArray[np.uint8], *, central: bool) -> tuple[float, float]:
    """(x, y) in canvas pixels inside a non-empty canvas mask."""
    if central:
        small = cv2.resize(mask, (mask.shape[1] // 4, mask.shape[0] // 4), interpolation=cv2.INTER_AREA)
        core = (small > 127).astype(np.uint8)
        if core.any():
            y, x = interior(core)
            return 4 * x + rng.uniform(0, 3), 4 * y + rng.uniform(0, 3)
    ys, xs = np.nonzero(mask)
    i = int(rng.integers(len(ys)))
    return float(xs[i]), float(ys[i])


def _first_prompt(
    rng: np.random.Generator, mask: NDArray[np.uint8], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A first prompt: 47 % jittered box (a tenth of them with a click), 43 % one click, 10 % two or three."""
    coords = np.zeros((CLICK_COLUMNS, 2), np.float32)
    labels = np.full(CLICK_COLUMNS, -1, np.float32)
    kind = rng.random()
    if kind < 0.47:
        ys, xs = np.nonzero(mask)
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        jitter = rng.normal(0, 0.06, 4) * [x1 - x0, y1 - y0, x1 - x0, y1 - y0] * (rng.random() < 0.8)
        box = np.array([x0, y0, x1, y1]) + np.clip(jitter, -20, 20)
        h, w = mask.shape
        coords[0] = np.clip(box[:2], 0, [w - 2, h - 2])
        coords[1] = np.maximum(np.clip(box[2:], 0, [w, h]), coords[0] + 2)
        labels[:2] = 2, 3
        if rng.random() < 0.1:
            coords[2], labels[2] = _click(rng, mask, central=rng.random() < 0.5), 1
        return coords, labels
    coords[0], labels[0] = _click(rng, mask, central=rng.random() < 0.6), 1
    if kind >= 0.9:
        outside = ((mask == 0) & valid).astype(np.uint8)
        for i in range(1, int(rng.integers(2, CLICK_COLUMNS + 1))):
            background = rng.random() < 0.4 and bool(outside.any())
            coords[i] = _click(rng, outside if background else mask, central=False)
            labels[i] = 0 if background else 1
    return coords, labels


def make_crop(picture: Picture, rng: np.random.Generator, hw: tuple[int, int], prompts: int) -> Crop | None:
    """Cut, scale, flip and colour one picture and choose its prompts; None if no object is large enough."""
    ids = picture.regions[int(rng.integers(len(picture.regions)))]
    y, x, h, w = _window(rng, ids, hw)
    cut, cut_ids = picture.pixels[y : y + h, x : x + w], ids[y : y + h, x : x + w]
    scale = hw[0] / h
    size = (min(hw[1], max(4, round(cut.shape[1] * scale))), min(hw[0], max(4, round(cut.shape[0] * scale))))
    pixels = np.full((*hw, 3), 127, np.uint8)
    canvas_ids = np.full(hw, IGNORE, np.uint16)
    inside = np.zeros(hw, np.bool_)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels[: size[1], : size[0]] = cv2.resize(recolour(rng, cut), size, interpolation=how)
    canvas_ids[: size[1], : size[0]] = cv2.resize(cut_ids, size, interpolation=cv2.INTER_NEAREST)
    inside[: size[1], : size[0]] = True
    if rng.random() < 0.5:  # mirror the picture, not its padding
        for array in (pixels, canvas_ids):
            array[: size[1], : size[0]] = array[: size[1], : size[0]][:, ::-1].copy()
    keys, counts = np.unique(canvas_ids, return_counts=True)
    share = counts / (hw[0] * hw[1])
    keys = keys[(keys != 0) & (keys != IGNORE) & (share >= 0.002) & (share <= 0.95)]
    if not len(keys):
        return None
    chosen = rng.permutation(keys)
    chosen = np.concatenate([chosen, rng.choice(keys, prompts)])[:prompts]
    valid = canvas_ids != IGNORE
    grid = (hw[1] // 4, hw[0] // 4)
    targets, coords, labels = [], [], []
    for key in chosen:
        mask = (canvas_ids == key).astype(np.uint8) * 255
        targets.append(cv2.resize(mask, grid, interpolation=cv2.INTER_AREA))
        c, lab = _first_prompt(rng, mask, valid)
        coords.append(c)
        labels.append(lab)
    covered = cv2.resize(valid.astype(np.uint8) * 255, grid, interpolation=cv2.INTER_AREA)
    return Crop(
        pixels,
        inside,
        np.stack(targets).astype(np.float32) / np.float32(255),
        covered.astype(np.float32) / np.float32(255),
        np.stack(coords),
        np.stack(labels),
    )


@dataclass
class Batch:
    """One step's arrays; see `Crop` for shapes, stacked over B pictures."""

    step: int
    pixels: NDArray[np.uint8]  # (B, H, W, 3)
    inside: NDArray[np.bool_]
    targets: NDArray[np.float32]
    valid: NDArray[np.float32]
    coords: NDArray[np.float32]
    labels: NDArray[np.float32]


def canvas_for(rng: np.random.Generator, size: int, *, spread: bool = True) -> tuple[int, int]:
    """Canvas (h, w) with longer side about `size`: square, 4:3 or 3:4, sides multiples of 32."""
    if (
        spread and rng.random() < 0.25
    ):  # never much above the planned size: early, cheap steps must stay cheap
        size = int(rng.choice([s for s in range(224, 544, 32) if s <= size + 64] or [size]))
    short = max(32, round(size * 0.75 / 32) * 32)
    return [(size, size), (short, size), (size, short)][int(rng.choice(3, p=[0.4, 0.35, 0.25]))]


class Loader:
    """Makes batches; each depends on nothing but the seed and its number."""

    def __init__(self, pictures: list[Picture], *, seed: int, batch: int, prompts: int) -> None:
        self.pictures, self.seed, self.batch, self.prompts = pictures, seed, batch, prompts
        weights = np.array([SET_WEIGHTS.get(p.group, 0.5) for p in pictures])
        self.probability = weights / weights.sum()

    def make(self, step: int, size: int, *, part: int = 0, square: bool = False) -> Batch:
        """The batch of a part of a step.

        Args:
            step: Of the run.
            size: Longer side of the canvas.
            part: Of the step.
            square: Whether the canvas is size x size, as SAM's; else it varies around it.
        """
        rng = np.random.default_rng((self.seed, step, part) if part else (self.seed, step))
        hw = (size, size) if square else canvas_for(rng, size)
        crops: list[Crop] = []
        while len(crops) < self.batch:
            picture = self.pictures[int(rng.choice(len(self.pictures), p=self.probability))]
            crop = make_crop(picture, rng, hw, self.prompts)
            if crop is not None:
                crops.append(crop)
        stacked = {
            k: np.stack([getattr(c, k) for c in crops])
            for k in ("pixels", "inside", "targets", "valid", "coords", "labels")
        }
        return Batch(step, **stacked)
