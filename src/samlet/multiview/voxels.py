"""A cube of voxels, and how it looks from a camera."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError
from samlet.multiview.cameras import Camera


@dataclass(frozen=True, eq=False)
class Voxels:
    """A cube cut into `count`³ voxels.

    Attributes:
        centre: Of the cube, in the world (3,).
        half: Half of its side, in units of the world.
        count: Voxels along a side.

    Example:
        >>> Voxels(np.zeros(3), 1.0, 2).points()[0].tolist()
        [-0.5, -0.5, -0.5]
    """

    centre: NDArray[np.float64]
    half: float
    count: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        centre = np.asarray(self.centre, np.float64)
        if centre.shape != (3,) or not np.isfinite(centre).all() or not 0 < self.half < np.inf:
            raise InputError(
                f"expected the centre of a cube and half its side, got {self.centre} and {self.half}; correct them"
            )
        if not 2 <= self.count <= 512:
            raise InputError(f"expected 2 to 512 voxels along a side, got {self.count}; choose 96 or 128")
        object.__setattr__(self, "centre", centre)

    @property
    def side(self) -> float:
        """Side of one voxel, in units of the world."""
        return 2 * self.half / self.count

    def points(self, chosen: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Give the centres of voxels.

        Args:
            chosen: (N,) numbers of voxels, x fastest last: number = (x * count + y) * count + z; None for all.

        Returns:
            (N, 3) in the world.
        """
        numbers = np.arange(self.count**3) if chosen is None else chosen
        xyz = np.stack(np.unravel_index(numbers, (self.count,) * 3), axis=1)
        return self.centre - self.half + (xyz + 0.5) * self.side


def render(
    field: NDArray[np.float32], voxels: Voxels, camera: Camera, *, stride: int, above: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Look at a field of voxels along rays through the picture.

    Args:
        field: (count, count, count) a value for each voxel.
        voxels: Where they are.
        camera: From where.
        stride: Picture pixels between rays, in both directions.
        above: Voxels above this value count as solid.

    Returns:
        Three maps (h, w), h and w the picture's size over the stride, rounded up: the largest value along each ray,
        the distance along the ray at which it meets the first solid voxel (inf where it meets none), and the length
        of the ray inside of solid voxels, in voxels.
    """
    place, directions = camera.rays(stride)
    h, w = directions.shape[:2]
    rays = directions.reshape(-1, 3)
    toward = float(np.linalg.norm(voxels.centre - place))
    reach = np.sqrt(3) * voxels.half
    steps = np.arange(max(toward - reach, voxels.side), toward + reach, voxels.side)
    best = np.full(len(rays), -np.inf, np.float32)
    first = np.full(len(rays), np.inf, np.float32)
    length = np.zeros(len(rays), np.float32)
    start = (place - voxels.centre + voxels.half) / voxels.side
    along = (rays / voxels.side).astype(np.float32)
    for distance in steps:
        index = (start + along * distance).astype(np.int32)
        inside = ((index >= 0) & (index < voxels.count)).all(axis=1)
        if not inside.any():
            continue
        x, y, z = index[inside].T
        value = field[x, y, z]
        best[inside] = np.maximum(best[inside], value)
        solid = np.flatnonzero(inside)[value > above]
        first[solid] = np.minimum(first[solid], distance)
        length[solid] += 1
    best[~np.isfinite(best)] = 0
    return best.reshape(h, w), first.reshape(h, w), length.reshape(h, w)


def sample(picture: NDArray[np.float32], camera: Camera, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Look up points of the world in a picture or map of a camera.

    Args:
        picture: (h, w) or (h, w, C), the camera's picture or a smaller one of the same view.
        camera: The camera.
        points: (N, 3) in the world.

    Returns:
        (N,) or (N, C): the value of the cell that each point falls into; 0 outside of the picture and behind the
        camera.
    """
    h, w = picture.shape[:2]
    xy, depth = camera.project(points)
    column = np.where(depth > 1e-9, xy[:, 0] * (w / camera.image_hw[1]), -1)
    row = xy[:, 1] * (h / camera.image_hw[0])
    seen = np.flatnonzero((column >= 0) & (row >= 0) & (column < w) & (row < h))
    values = np.zeros((len(points), *picture.shape[2:]), np.float32)
    values[seen] = picture[row[seen].astype(np.int32), column[seen].astype(np.int32)]
    return values
