"""A scene of two spheres on a floor, rendered with numpy from cameras around it, with exact masks."""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from samlet.multiview import Camera

RED, BLUE = (np.array([0.0, 0.0, 0.3]), 0.5), (np.array([1.0, 0.6, 0.0]), 0.35)


def cameras(count: int = 8, *, side: int = 96, distance: float = 4.0, height: float = 1.6) -> list[Camera]:
    """Stand on a ring around the origin and look at it."""
    made = []
    for index in range(count):
        angle = 2 * math.pi * index / count + 0.2
        place = np.array([distance * math.cos(angle), distance * math.sin(angle), height])
        back = place / np.linalg.norm(place)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, place
        made.append(
            Camera(
                f"view_{index:02d}.png", (side, side), (1.4 * side, 1.4 * side), (side / 2, side / 2), pose
            )
        )
    return made


def rendered(camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give the picture (H, W, 3) and what each pixel shows (H, W): 0 ground, 1 the red sphere, 2 the blue one."""
    place, rays = camera.rays()
    pixels = np.full((*rays.shape[:2], 3), 235, np.uint8)
    nearest, labels = np.full(rays.shape[:2], np.inf), np.zeros(rays.shape[:2], np.int64)
    for label, ((centre, radius), colour) in enumerate(
        ((RED, (200, 40, 40)), (BLUE, (40, 60, 200))), start=1
    ):
        across = rays @ (place - centre)
        inside = across**2 - (((place - centre) ** 2).sum() - radius**2)
        depth = np.where(inside > 0, -across - np.sqrt(np.maximum(inside, 0)), np.inf)
        hit = (depth < nearest) & (depth > 0)
        normal = (place + depth[..., None] * rays - centre) / radius
        light = np.clip(0.6 + 0.4 * np.where(hit[..., None], normal, 0)[..., 2], 0, 1)
        pixels[hit] = (np.array(colour) * light[hit][:, None]).astype(np.uint8)
        labels[hit], nearest[hit] = label, depth[hit]
    return pixels, labels


def write(folder: Path, made: list[Camera]) -> Path:
    """Write the scene as transforms.json with its pictures."""
    frames = []
    for camera in made:
        PillowImage.fromarray(rendered(camera)[0]).save(folder / camera.name)
        frames.append(
            {"file_path": camera.name.removesuffix(".png"), "transform_matrix": camera.to_world.tolist()}
        )
    width = made[0].image_hw[1]
    data = {"camera_angle_x": 2 * math.atan(0.5 * width / made[0].focal_xy[0]), "frames": frames}
    path = folder / "transforms.json"
    path.write_text(json.dumps(data))
    return path
