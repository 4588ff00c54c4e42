"""What the tests of the Ultralytics drop-in share: models without networks, and a picture with known regions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from samlet.backends.fake import FakeBackend
from samlet.model import Model
from samlet.registry import resolve
from samlet.session import Session

HW = (320, 640)
"""Size of the picture whose regions the fake FastSAM knows."""
REGIONS = {  # x0, y0, x1, y1 in that picture, score: a part lies within the left thing
    "left": ((0, 0, 320, 320), 0.9),
    "part": ((80, 80, 160, 160), 0.8),
    "right": ((400, 100, 600, 300), 0.7),
}


def fake_sam() -> Model:
    """Give a SAM whose encoder averages and whose decoder draws disks and boxes."""
    card = replace(resolve("nano"), side=128, mask_grid=64, embedding_channels=4)
    return Model(Session(card, FakeBackend(channels=4)))


class _Network:
    inputs, outputs = ("image",), ("candidates", "protos")

    def __init__(self, regions: Mapping[str, Any]) -> None:
        self._regions = regions
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.shapes.append(feeds["image"].shape)
        height, width = feeds["image"].shape[2:]
        candidates = np.zeros((1, 37, 8), np.float32)
        protos = np.full((1, 32, height // 4, width // 4), -8, np.float32)
        for index, (box, score) in enumerate(self._regions.values()):
            x0, y0, x1, y1 = np.array(box) * (width / HW[1])
            candidates[0, :5, index] = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score)
            candidates[0, 5 + index, index] = 1
            low, high = np.round(np.array([[x0, y0], [x1, y1]]) / 4).astype(int)
            protos[0, index, low[1] : high[1], low[0] : high[0]] = 8
        return {"candidates": candidates, "protos": protos}


class FastBackend:
    """Opens a network that finds the same regions in every picture; `network.shapes` tells its inputs."""

    name = "fake"
    needs_files = False

    def __init__(self, regions: Mapping[str, Any]) -> None:
        self.network = _Network(regions)

    def open(self, role: str, graph: Any = None, **_: Any) -> Any:
        assert role == "network"
        return self.network


def fake_fastsam(regions: Mapping[str, Any] = REGIONS) -> tuple[Model, _Network]:
    """Give a FastSAM that finds the regions named, and its network."""
    backend = FastBackend(regions)
    return Model(Session(resolve("fastsam_s"), backend)), backend.network


def picture(*, hw: tuple[int, int] = HW, seed: int = 0) -> np.ndarray:
    """Give an array (H, W, 3) in BGR order, all its channels different."""
    return np.random.default_rng(seed).integers(0, 255, (*hw, 3), np.uint8)
