"""A quick figure for choices during training: mean IoU on held-out pictures.

On the stride-4 grid, one annotator, at most three objects a picture, chessboard-central clicks; `samlet evaluate`
measures at full size. Never compare the two.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samlet.data import IGNORE
from samlet.train.forward import Forward
from samlet.train.losses import grid_iou
from samlet.train.pictures import Picture
from samlet.train.sampling import corrective_click

CLICKS = 10


@torch.no_grad()
def validate(
    forward: Forward, pictures: list[Picture], *, size: int = 384, square: bool = False
) -> dict[str, float]:
    """Mean IoU by prompt: "box", "click1", "best3" (of three after one click), "click3", "click5", "click10".

    Args:
        forward: The network, with the weights to look at.
        pictures: Held-out ones.
        size: Longer side of the canvas.
        square: Whether the canvas is a square, as SAM's, or as small as the picture allows.
    """
    found: dict[str, list[float]] = {}
    for index, picture in enumerate(pictures):
        for name, values in _answers(forward, picture, index, size, square=square).items():
            found.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _canvas(
    picture: Picture, size: int, *, square: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint16]]:
    """The whole picture on its canvas, where it lies, and its regions (IGNORE on padding)."""
    h, w = picture.pixels.shape[:2]
    scale = size / max(h, w)
    new = (max(4, round(w * scale)), max(4, round(h * scale)))
    canvas = (size, size) if square else (-(-new[1] // 32) * 32, -(-new[0] // 32) * 32)
    pixels, inside = np.zeros((*canvas, 3), np.uint8), np.zeros(canvas, np.bool_)
    ids = np.full(canvas, IGNORE, np.uint16)
    pixels[: new[1], : new[0]] = cv2.resize(picture.pixels, new, interpolation=cv2.INTER_AREA)
    inside[: new[1], : new[0]] = True
    ids[: new[1], : new[0]] = cv2.resize(picture.regions[0], new, interpolation=cv2.INTER_NEAREST)
    return pixels, inside, ids


def _answers(
    forward: Forward, picture: Picture, index: int, size: int, *, square: bool
) -> dict[str, list[float]]:
    pixels, inside, ids = _canvas(picture, size, square=square)
    keys, counts = np.unique(ids, return_counts=True)
    keys = keys[(keys != 0) & (keys != IGNORE) & (counts >= 64)]
    keys = np.random.default_rng(index).permutation(keys)[:3]
    if not len(keys):
        return {}
    device, grid = forward.device, (ids.shape[1] // 4, ids.shape[0] // 4)
    shares = [cv2.resize((ids == k).astype(np.uint8) * 255, grid, interpolation=cv2.INTER_AREA) for k in keys]
    target = torch.from_numpy(np.stack(shares)).float().to(device) / 255  # (N, h, w)
    known = cv2.resize((ids != IGNORE).astype(np.uint8), grid, interpolation=cv2.INTER_NEAREST)
    valid = torch.from_numpy(known).float().to(device).expand_as(target)
    n = len(keys)
    embedding = forward.encode(pixels[None], inside[None]).expand(n, -1, -1, -1)
    nothing, has = target.new_zeros(n, 1, *target.shape[1:]), target.new_zeros(n)
    boxes = torch.stack([_box(ids == k) for k in keys]).to(device)
    _, masks = forward.decode(embedding, boxes, boxes.new_tensor([[2.0, 3.0]] * n), nothing, has)
    out = {"box": grid_iou(masks[:, 0], target, valid).tolist()}
    dice = torch.Generator().manual_seed(index)
    coords, labels = target.new_zeros(n, 0, 2), target.new_zeros(n, 0)
    previous = nothing - 1
    for click in range(1, CLICKS + 1):
        xy, label = corrective_click(previous[:, 0], target, valid, dice)
        coords, labels = torch.cat([coords, xy.to(device)], 1), torch.cat([labels, label.to(device)], 1)
        _, masks = forward.decode(embedding, coords, labels, previous, has + float(click > 1))
        previous = masks[:, :1]
        if click == 1:
            three = grid_iou(masks[:, 1:], target.unsqueeze(1), valid.unsqueeze(1))
            out["best3"] = three.amax(1).tolist()
        if click in (1, 3, 5, CLICKS):
            out[f"click{click}"] = grid_iou(previous[:, 0], target, valid).tolist()
    return out


def _box(mask: NDArray[np.bool_]) -> Tensor:
    ys, xs = np.nonzero(mask)
    return torch.tensor([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]], dtype=torch.float32)
