"""Views of a training picture for the object head: whole, mirrored or a crop, with the boxes of what is in them.

A view lies on one of three canvases, so that views can be stacked. Which cells belong to which object is kept on
the stride-4 grid; cells of things that nobody can be asked to find (void, crowds, specks) are ignored.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samlet.data import IGNORE
from samlet.train.pictures import Picture

CANVASES = ((384, 512), (512, 384), (512, 512))
STRIDE = 4  # of the map of ids
SMALLEST, LARGEST = 6.0, 0.9  # shorter side of a box in canvas pixels; share of the canvas
VISIBLE = 0.3  # a crop must leave so much of an object, or its rest is ignored


@dataclass(frozen=True)
class View:
    """One picture as the encoder will see it.

    Attributes:
        pixels: (H, W, 3) RGB on the canvas, 127 on padding.
        scaled_hw: The part of the canvas that is picture, from its top left.
        ids: (H/4, W/4): k + 1 where object k is, 0 where nobody labelled anything, IGNORE where nothing is known.
        boxes: (K, 4) x0, y0, x1, y1 of the objects, canvas pixels, the far edge outside.
    """

    pixels: NDArray[np.uint8]
    scaled_hw: tuple[int, int]
    ids: NDArray[np.uint16]
    boxes: NDArray[np.float32]


def canvas_of(picture: Picture) -> tuple[int, int]:
    """The smallest canvas that holds the picture with its longer side at 512 pixels."""
    h, w = picture.pixels.shape[:2]
    if max(h, w) / min(h, w) >= 512 / 390:
        return CANVASES[0] if w > h else CANVASES[1]
    return CANVASES[2]


def make_view(picture: Picture, kind: int, rng: np.random.Generator) -> View:
    """Cut, scale and mirror a picture.

    Args:
        picture: The picture with its regions; one annotator is drawn.
        kind: 0 is the whole picture as it is; odd kinds are mirrored; kinds from 2 on are crops of
            50 to 90 % of each side, in light colour changes.
        rng: Decides the crop and the annotator.
    """
    ids = picture.regions[0 if kind == 0 else int(rng.integers(len(picture.regions)))]
    pixels = picture.pixels
    whole = {int(k): int(n) for k, n in zip(*np.unique(ids, return_counts=True), strict=True)}
    if kind >= 2:
        share = rng.uniform(0.5, 0.9)
        h, w = (max(8, round(side * share)) for side in ids.shape)
        y, x = (int(rng.integers(full - cut + 1)) for full, cut in zip(ids.shape, (h, w), strict=True))
        pixels, ids = pixels[y : y + h, x : x + w], ids[y : y + h, x : x + w]
        gain, shift = rng.uniform(0.8, 1.25), rng.uniform(-15, 15)
        pixels = np.clip((pixels.astype(np.float32) - 127) * gain + 127 + shift, 0, 255).astype(np.uint8)
    if kind % 2:
        pixels, ids = pixels[:, ::-1], ids[:, ::-1]
    return _on_canvas(np.ascontiguousarray(pixels), np.ascontiguousarray(ids), canvas_of(picture), whole)


def _on_canvas(
    pixels: NDArray[np.uint8], ids: NDArray[np.uint16], hw: tuple[int, int], whole: dict[int, int]
) -> View:
    height, width = ids.shape
    scale = min(hw[0] / height, hw[1] / width)
    size = (min(hw[1], max(8, round(width * scale))), min(hw[0], max(8, round(height * scale))))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.full((*hw, 3), 127, np.uint8)
    labels = np.full(hw, IGNORE, np.uint16)
    canvas[: size[1], : size[0]] = cv2.resize(pixels, size, interpolation=how)
    labels[: size[1], : size[0]] = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
    table = np.full(IGNORE + 1, IGNORE, np.uint16)
    table[0] = 0
    boxes: list[tuple[int, int, int, int]] = []
    seen, counts = np.unique(ids, return_counts=True)
    for key, count in zip(seen.tolist(), counts.tolist(), strict=True):
        if key in (0, IGNORE) or count < VISIBLE * whole[key]:
            continue
        x0, y0, w, h = cv2.boundingRect((labels == key).astype(np.uint8))
        if min(w, h) >= SMALLEST and w * h <= LARGEST * hw[0] * hw[1]:
            boxes.append((x0, y0, x0 + w, y0 + h))
            table[key] = len(boxes)
    grid = table[labels[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]]
    return View(canvas, (size[1], size[0]), grid, np.array(boxes, np.float32).reshape(-1, 4))
