"""Cameras whose places are known: how points in space and pixels of a picture belong together."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.errors import InputError

_MOST = 10_000
_FORM = "NeRF's transforms.json: frames with file_path and transform_matrix, and camera_angle_x or fl_x"


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera that looks along its negative z axis, x to the right and y up (OpenGL, Blender, NeRF).

    Attributes:
        name: Of its picture, for messages and files.
        image_hw: Size of its picture, in pixels.
        focal_xy: Focal lengths, in pixels.
        centre_xy: Principal point, in picture pixels.
        to_world: (4, 4) from camera coordinates to the world's, rotation and place.

    Example:
        >>> camera = Camera("a", (100, 200), (100.0, 100.0), (100.0, 50.0), np.eye(4))
        >>> xy, depth = camera.project(np.array([[0.0, 0.0, -2.0], [1.0, 1.0, -2.0]]))
        >>> xy.tolist(), depth.tolist()
        ([[100.0, 50.0], [150.0, 0.0]], [2.0, 2.0])
    """

    name: str
    image_hw: tuple[int, int]
    focal_xy: tuple[float, float]
    centre_xy: tuple[float, float]
    to_world: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check the numbers."""
        matrix = np.asarray(self.to_world, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise InputError(
                f"{self.name}: expected a camera matrix of 4 x 4 finite numbers, got shape {matrix.shape}; correct it"
            )
        rotation = matrix[:3, :3]
        if not np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-3):
            raise InputError(
                f"{self.name}: expected a camera matrix that turns and moves, got one that stretches; remove its scale"
            )
        if not (min(self.focal_xy) > 0 and np.isfinite([*self.focal_xy, *self.centre_xy]).all()):
            raise InputError(
                f"{self.name}: expected focal lengths above 0, got {self.focal_xy}; correct them"
            )
        object.__setattr__(self, "to_world", matrix)

    @property
    def place(self) -> NDArray[np.float64]:
        """Where the camera is in the world (3,)."""
        return self.to_world[:3, 3]

    @property
    def direction(self) -> NDArray[np.float64]:
        """Where it looks, a unit vector in the world (3,)."""
        return -self.to_world[:3, 2]

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find where points of the world are in the picture.

        Args:
            points: (N, 3) in the world.

        Returns:
            (N, 2) picture pixels, possibly outside of the picture, and (N,) distances along the view, which are not
            above 0 for points behind the camera (their pixels mean nothing).
        """
        rotation = self.to_world[:3, :3]
        inner = (np.asarray(points, np.float64) - self.place) @ rotation
        depth = -inner[:, 2]
        safe = np.where(depth > 1e-9, depth, np.inf)
        x = self.centre_xy[0] + self.focal_xy[0] * inner[:, 0] / safe
        y = self.centre_xy[1] - self.focal_xy[1] * inner[:, 1] / safe
        return np.stack([x, y], axis=1), depth

    def rays(self, stride: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give rays through the picture.

        Args:
            stride: Pixels between them; each goes through the middle of a square of so many.

        Returns:
            The camera's place (3,), and unit vectors (h, w, 3) in the world.
        """
        height, width = (-(-side // stride) for side in self.image_hw)
        x = ((np.arange(width) + 0.5) * stride - self.centre_xy[0]) / self.focal_xy[0]
        y = -((np.arange(height) + 0.5) * stride - self.centre_xy[1]) / self.focal_xy[1]
        inner = np.stack([*np.meshgrid(x, y), np.full((height, width), -1.0)], axis=2)
        world = inner @ self.to_world[:3, :3].T
        return self.place, world / np.linalg.norm(world, axis=2, keepdims=True)


def load_cameras(path: str | Path) -> tuple[list[Camera], list[Path]]:
    """Read cameras in the form of NeRF and instant-ngp.

    Args:
        path: `transforms.json`. Intrinsics are `fl_x`, `fl_y`, `cx`, `cy`, `w`, `h`, or `camera_angle_x`, for all
            frames or in each; lens distortion is not undone.

    Returns:
        The cameras, and the paths of their pictures, which lie beside or below the file.

    Raises:
        InputError: The file cannot be read or is of another form, or a picture is elsewhere or not there.
    """
    source = Path(path)
    try:
        data = json.loads(source.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{source}: expected {_FORM}, but reading it failed ({error}); check the file"
        ) from error
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not 2 <= len(frames) <= _MOST:
        raise InputError(f"{source}: expected {_FORM}, with 2 to {_MOST} frames; check the file")
    pairs = [_camera(frame, data, source) for frame in frames]
    return [camera for camera, _ in pairs], [picture for _, picture in pairs]


def _camera(frame: Any, data: dict[str, Any], source: Path) -> tuple[Camera, Path]:
    try:
        picture = _picture(str(frame["file_path"]), source)
        given = {**data, **frame}
        matrix = np.array(frame["transform_matrix"], np.float64)
        height, width = _size(picture, given)
        if "fl_x" in given:
            fx = float(given["fl_x"])
        else:
            fx = 0.5 * width / math.tan(0.5 * float(given["camera_angle_x"]))
        fy = float(given.get("fl_y", fx))
        centre = float(given.get("cx", width / 2)), float(given.get("cy", height / 2))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{source}: expected {_FORM}, got a frame without ({type(error).__name__}: {error}); correct it"
        ) from error
    return Camera(picture.name, (height, width), (fx, fy), centre, matrix), picture


def _picture(text: str, source: Path) -> Path:
    """Find a frame's picture; NeRF's own files leave the ending out."""
    folder = source.parent.resolve()
    for name in (text, f"{text}.png", f"{text}.jpg"):
        found = (folder / name).resolve()
        if found.is_relative_to(folder) and found.is_file():
            return found
    raise InputError(
        f"{source}: expected the picture {text!r:.200} beside or below it, found none there; move it"
    )


def _size(picture: Path, given: dict[str, Any]) -> tuple[int, int]:
    from PIL import Image as PillowImage

    if "w" in given and "h" in given:
        return int(given["h"]), int(given["w"])
    with PillowImage.open(picture) as opened:  # the header alone
        return opened.height, opened.width


def scene_bounds(cameras: Sequence[Camera]) -> tuple[NDArray[np.float64], float]:
    """Guess which part of the world cameras around something look at.

    Args:
        cameras: At least two that do not all look in one direction.

    Returns:
        The point nearest to all lines of sight (3,), and the half side of a cube around it that the narrowest view
        sees from its middle to its border.

    Raises:
        InputError: The lines of sight are parallel.

    Example:
        >>> turned = np.array([[0.0, 0, 1, 5], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
        >>> ahead = np.eye(4); ahead[2, 3] = 5
        >>> two = [Camera("", (100, 100), (100.0, 100.0), (50.0, 50.0), pose) for pose in (turned, ahead)]
        >>> centre, half = scene_bounds(two)
        >>> np.abs(centre).round(6).tolist(), round(half, 3)
        ([0.0, 0.0, 0.0], 2.5)
    """
    total, pulled = np.zeros((3, 3)), np.zeros(3)
    for camera in cameras:
        across = np.eye(3) - np.outer(camera.direction, camera.direction)
        total += across
        pulled += across @ camera.place
    if np.linalg.cond(total) > 1e8:
        raise InputError(
            "expected cameras that look from several sides, got parallel lines of sight; give the bounds of the scene"
        )
    centre: NDArray[np.float64] = np.linalg.solve(total, pulled).astype(np.float64)
    halves = []
    for camera in cameras:
        distance = float(np.linalg.norm(camera.place - centre))
        height, width = camera.image_hw
        halves.append(distance * min(0.5 * width / camera.focal_xy[0], 0.5 * height / camera.focal_xy[1]))
    return centre, float(min(halves))
