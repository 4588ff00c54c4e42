"""Scenes whose masks are known: each thing has a prototype of its own, positive inside its shape.

They stand in for a trained network, of which none ships: a backend gives the arrays that a network would give for
the scene, whatever picture it is shown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.backends.base import Array
from samlet.card import Card
from samlet.geometry import Frame
from samlet.image import Image
from samlet.model import Model
from samlet.session import Session

HW = (120, 256)
"""Size of the usual picture: at the card's side of 256 it is not scaled, and has 4 rows of padding on each side."""

CARD = Card.from_dict(
    {
        "name": "fake_fastsam",
        "family": "fastsam",
        "title": "a scene",
        "licence": "none",
        "weights_licence": "none",
        "paper": "none",
        "side": 256,
        "pad": 32,
        "mean": [0.0, 0.0, 0.0],
        "std": [255.0, 255.0, 255.0],
        "mask_grid": 64,
        "graphs": {"network": "yolo_seg_s_rm16.onnx"},
        "settings": {"conf": 0.4, "iou": 0.9, "max_det": 300},
        "files": [],
    },
    origin="test",
)
OBJECT_AWARE = replace(CARD, family="object_aware", name="fake_object_aware")


@dataclass(frozen=True)
class Thing:
    """A rectangle or an ellipse that fills its box (picture pixels), found with a score.

    With `seen`, the network's box is that one instead.
    """

    box: tuple[float, float, float, float]
    score: float = 0.9
    round: bool = False
    seen: tuple[float, float, float, float] | None = None

    def mask(self, hw: tuple[int, int] = HW) -> NDArray[np.bool_]:
        """The thing's own pixels, not cut by the box seen."""
        y, x = (np.arange(side) + 0.5 for side in hw)
        return inside(self, x[None], y[:, None])


def inside(thing: Thing, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = thing.box
    if thing.round:
        u, v = (2 * x - x0 - x1) / (x1 - x0), (2 * y - y0 - y1) / (y1 - y0)
        return np.asarray(u**2 + v**2 < 1)
    return np.asarray((x > x0) & (x < x1) & (y > y0) & (y < y1))


def network(things: Sequence[Thing], frame: Frame) -> dict[str, Array]:
    """Give what a network would find: candidates (1, 37, A) among which noise of score 0, and protos (1, 32, h, w)."""
    height, width = (side // 4 for side in frame.canvas_hw)
    candidates = np.zeros((1, 37, max(8, 2 * len(things))), np.float32)
    candidates[0, :4] = 5
    protos = np.zeros((1, 32, height, width), np.float32)
    x, y = 4 * (np.arange(width)[None] + 0.5), 4 * (np.arange(height)[:, None] + 0.5)
    at = frame.to_image_points(np.stack(np.broadcast_arrays(x, y), axis=-1))
    for number, thing in enumerate(things):
        x0, y0, x1, y1 = frame.to_model_boxes(thing.seen or thing.box)
        row = candidates[0, :, 2 * number]
        row[:5] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, thing.score
        if number < 32:  # beyond that only boxes are looked at
            row[5 + number] = 1
            protos[0, number] = np.where(_cells(thing, at[..., 0], at[..., 1]), 1, -1)
    return {"candidates": candidates, "protos": protos}


def _cells(thing: Thing, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """Cells (h, w) whose centres lie in a thing, and for a rectangle the four that touch its corners from outside.

    With those, interpolation between cells keeps the corners, which it would round off; the thing's box cuts off
    what they add.
    """
    if thing.round:
        return inside(thing, x, y)
    columns = (x[0] > thing.box[0]) & (x[0] < thing.box[2])
    rows = (y[:, 0] > thing.box[1]) & (y[:, 0] < thing.box[3])
    beside, above = (np.convolve(line, (1, 1, 1), "same").astype(bool) & ~line for line in (columns, rows))
    return np.asarray((rows[:, None] & columns) | (above[:, None] & beside))


class SceneBackend:
    """Gives the arrays of a scene, which may depend on what the network is fed."""

    name = "scene"
    needs_files = False

    def __init__(self, run: Callable[[Mapping[str, Array]], dict[str, Array]]) -> None:
        self.fed: list[Array] = []
        self._run = run

    inputs = ("image",)
    outputs = ("candidates", "protos")

    def open(self, role: str, graph: Any, *, weights: Any, threads: Any = None) -> "SceneBackend":
        assert role == "network"
        return self

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.fed.append(feeds["image"])
        return self._run(feeds)


def model_of(
    things: Sequence[Thing], hw: tuple[int, int] = HW, card: Card = CARD
) -> tuple[Model, SceneBackend]:
    """A model that finds these things in every picture of that size, at whatever side it is asked for."""

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        canvas_hw = feeds["image"].shape[2:]
        sides = (side for side in range(32, 2048, 32))
        frames = (Frame.letterbox(hw, side, multiple=32) for side in sides)
        return network(things, next(frame for frame in frames if frame.canvas_hw == canvas_hw))

    backend = SceneBackend(run)
    return Model(Session(card, backend)), backend


def picture(hw: tuple[int, int] = HW, seed: int = 0) -> Image:
    return Image.load(np.random.default_rng(seed).integers(0, 255, (*hw, 3), np.uint8))
