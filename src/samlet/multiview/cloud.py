"""The mask in space as a cloud of coloured points that every viewer opens (PLY)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samlet.image import Image
from samlet.multiview.cameras import Camera
from samlet.multiview.lift import Lift
from samlet.multiview.voxels import render, sample


def to_ply(lifted: Lift, cameras: Sequence[Camera], images: Sequence[Image]) -> bytes:
    """Write the surface of the mask in space as a binary PLY: a point with a colour for each voxel of it.

    A voxel has the mean colour of the views that see it, and grey if none does.

    Args:
        lifted: The masks.
        cameras: The views' cameras.
        images: Their pictures.

    Returns:
        The bytes of the file.
    """
    solid = lifted.solid
    numbers = np.flatnonzero(_surface(solid))
    points = lifted.voxels.points(numbers)
    colours = _colours(lifted, cameras, images, points)
    row = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows = np.zeros(len(points), row)
    rows["xyz"], rows["rgb"] = points, colours
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header",
    ]
    return "\n".join(header).encode() + b"\n" + rows.tobytes()


def _surface(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find solid voxels with a side that is free."""
    padded = np.pad(solid, 1)
    inner = solid.copy()
    for axis in range(3):
        for shift in (-1, 1):
            inner &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
    return solid & ~inner


def _colours(
    lifted: Lift, cameras: Sequence[Camera], images: Sequence[Image], points: NDArray[np.float64]
) -> NDArray[np.uint8]:
    total, count = np.zeros((len(points), 3)), np.zeros(len(points))
    stride, near = lifted.settings.stride, 2 * lifted.voxels.side
    for camera, image in zip(cameras, images, strict=True):
        _, first, _ = render(
            lifted.votes, lifted.voxels, camera, stride=stride, above=lifted.settings.keep - 1e-6
        )
        distance = np.linalg.norm(points - camera.place, axis=1)
        # 0 stands for "outside of the picture", which is nearer than anything and so never seen.
        seen = distance <= sample(np.where(np.isfinite(first), first, 0), camera, points) + near
        total[seen] += sample(image.pixels.astype(np.float32), camera, points)[seen]
        count += seen
    mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], 128)
    return np.round(mean).astype(np.uint8)
