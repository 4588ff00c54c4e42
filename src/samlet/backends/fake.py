"""A backend without networks, for tests of everything around them: fast, deterministic and easy to predict.

The default encoder averages the picture over the cells of its grid. The default decoder draws a signed
distance: to the box if there is one, else to a disk around the first foreground click; background clicks cut
disks out of it, and a hint is added to it. Both read all of their inputs, so a mix-up of pictures or prompts
shows. The default object head finds the four quarters of the canvas.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from samlet.backends.base import Array, Graph, GraphFile, check_names

RADIUS = 0.15
"""Radius of a click's disk, as a share of the longer side of the grid."""

Function = Callable[[Mapping[str, Array]], dict[str, Array]]

_INPUTS = {
    "encoder": ("image",),
    "decoder": ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input"),
    "objects": ("image_embeddings",),
}
_OUTPUTS = {
    "encoder": ("image_embeddings",),
    "decoder": ("iou_predictions", "low_res_masks"),
    "objects": ("boxes", "scores"),
}


class FakeBackend:
    """Runs plain functions in place of networks."""

    name = "fake"
    needs_files = False

    def __init__(
        self, functions: Mapping[str, Function] | None = None, *, stride: int = 8, channels: int = 256
    ) -> None:
        """Choose what to run.

        Args:
            functions: Function by role ("encoder", "decoder", "objects"); roles left out do what the module describes.
            stride: Canvas pixels per cell of the embedding, as in the card.
            channels: Channels of the embedding, as in the card.
        """
        self._functions: dict[str, Function] = {
            "encoder": lambda feeds: {"image_embeddings": pooled(feeds["image"], stride, channels)},
            "decoder": lambda feeds: decoded(feeds, stride),
            "objects": lambda feeds: quarters(feeds["image_embeddings"], stride),
            **(functions or {}),
        }

    def open(
        self,
        role: str,
        graph: GraphFile | None = None,
        *,
        weights: Mapping[str, Array] | None = None,
        threads: int | None = None,
    ) -> Graph:
        """Give the function for a role; graph, weights and threads are ignored."""
        return _FakeGraph(role, self._functions[role])


class _FakeGraph:
    """One function with the names it reads and gives."""

    def __init__(self, role: str, function: Function) -> None:
        self._role, self._function = role, function
        self.inputs, self.outputs = _INPUTS[role], _OUTPUTS[role]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Check the names as the real backends do, then call the function."""
        check_names(f"the fake {self._role}", self.inputs, feeds)
        return self._function(feeds)


def pooled(image: Array, stride: int, channels: int) -> NDArray[np.float32]:
    """Average a picture (1, 3, H, W) over cells: (1, channels, H/stride, W/stride), zeros after the third."""
    _, planes, height, width = image.shape
    cells = image.reshape(planes, height // stride, stride, width // stride, stride).mean(axis=(2, 4))
    grid = np.zeros((1, channels, *cells.shape[1:]), np.float32)
    grid[0, : min(planes, channels)] = cells[:channels]
    return grid


def decoded(feeds: Mapping[str, Array], stride: int) -> dict[str, Array]:
    """Draw four signed distances a prompt, in cells of the low-res grid, positive inside.

    Token 0 has the plain radius; tokens 1, 2, 3 are smaller, equal and larger.
    """
    embeddings = feeds["image_embeddings"]
    height, width = 4 * embeddings.shape[2], 4 * embeddings.shape[3]
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    points = feeds["point_coords"].astype(np.float32) * np.float32(4 / stride)
    radius = RADIUS * max(height, width)
    # The picture has a say, so that an answer computed on another picture's embedding differs.
    tint = np.float32(1 + 0.01 * np.tanh(float(embeddings[:, :3].mean())))
    masks, scores = [], []
    for xy, labels, hint, has in zip(
        points, feeds["point_labels"], feeds["mask_input"], feeds["has_mask_input"], strict=True
    ):
        base = _distance(xy, labels, x, y, radius)
        tokens = np.stack([base, base - radius / 4, base, base + radius / 4]) * tint + 0.1 * has * hint
        masks.append(tokens.astype(np.float32))
        scores.append(np.array([0.9, 0.6, 0.8, 0.7]) * (1 - 0.1 * float((labels == 0).mean())))
    return {"iou_predictions": np.array(scores, np.float32), "low_res_masks": np.stack(masks)}


def quarters(embeddings: Array, stride: int) -> dict[str, Array]:
    """Take the four quarters of the canvas for objects, with scores 0.9, 0.8, 0.7, 0.6 row by row."""
    y, x = embeddings.shape[2] * stride / 2, embeddings.shape[3] * stride / 2
    boxes = [(i * x, j * y, (i + 1) * x, (j + 1) * y) for j in (0, 1) for i in (0, 1)]
    return {"boxes": np.array([boxes], np.float32), "scores": np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)}


def _distance(
    xy: NDArray[np.float32], labels: Array, x: NDArray[np.float32], y: NDArray[np.float32], radius: float
) -> NDArray[np.float32]:
    """Signed distance of every cell centre to the prompt's shape, positive inside."""
    corner0, corner1, clicks = xy[labels == 2], xy[labels == 3], xy[labels == 1]
    if len(corner1):
        (x0, y0), (x1, y1) = corner0[0], corner1[0]
        inside = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
    elif len(clicks):
        inside = radius - np.hypot(x - clicks[0, 0], y - clicks[0, 1])
    else:
        inside = np.full_like(x, -radius)
    for centre in xy[labels == 0]:
        inside = np.minimum(inside, np.hypot(x - centre[0], y - centre[1]) - radius / 2)
    return np.asarray(inside, np.float32)
