"""Masks lifted into space: geometry against hand-made numbers, the whole way against a scene whose truth is known."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from samlet.cli import main
from samlet.errors import InputError
from samlet.geometry import Frame, mask_iou
from samlet.image import Image
from samlet.masks import Masks
from samlet.multiview import Camera, Settings, Voxels, lift, load_cameras, scene_bounds, to_ply
from samlet.multiview.prompting import clicks_of
from samlet.multiview.voxels import render, sample
from tests import multiview_scene as scene

CAMERAS = scene.cameras()
VIEWS = [scene.rendered(camera) for camera in CAMERAS]
IMAGES = [Image.load(pixels) for pixels, _ in VIEWS]
TRUTH = [labels == 1 for _, labels in VIEWS]


class Perfect:
    """A model that answers with the true region that most of the box is about; it never sees the cameras."""

    def __init__(self, *, blunders: tuple[int, ...] = ()) -> None:
        self.asked: list[tuple[int, dict[str, Any]]] = []
        self._blunders = blunders

    def embed(self, image: Image) -> Any:
        return next(index for index, one in enumerate(IMAGES) if one is image)

    def segment(self, view: Any, **asked: Any) -> Masks:
        self.asked.append((view, asked))
        labels = VIEWS[view][1]
        if view in self._blunders:
            inside = labels == 0
        elif "boxes" in asked and np.asarray(asked["boxes"]).size == 4:
            x0, y0, x1, y1 = (int(value) for value in np.asarray(asked["boxes"]).ravel())
            counts = np.bincount(labels[y0:y1, x0:x1].ravel(), minlength=3)
            inside = labels == (1 + int(counts[1:].argmax()))
        else:
            (x, y) = np.asarray(asked["points"]).reshape(-1, 2)[0]
            inside = labels == labels[int(y), int(x)]
        logits = np.where(inside, 8.0, -8.0).astype(np.float32)[None]
        return Masks(logits, np.ones(1, np.float32), Frame.fit(labels.shape, labels.shape[0]))


def click_on(view: int, label: int = 1) -> list[float]:
    y, x = (int(np.median(axis)) for axis in np.nonzero(VIEWS[view][1] == label))
    return [x + 0.5, y + 0.5]


def lifted(model: Any, **more: Any) -> Any:
    settings = {"view": 0, "points": [click_on(0)], "voxels": Voxels(np.zeros(3), 1.4, 48)}
    return lift(model, CAMERAS, IMAGES, **{**settings, "settings": Settings(stride=2, passes=1), **more})


def test_a_click_becomes_masks_everywhere_and_in_space() -> None:
    told: list[tuple[int, int]] = []
    found = lifted(Perfect(), progress=lambda done, total: told.append((done, total)))
    assert all(mask_iou(mask, truth) == 1 for mask, truth in zip(found.masks, TRUTH, strict=True))
    assert found.trusted.all() and found.scores.tolist() == [1] * 8
    assert told[-1] == (15, 15) and [done for done, _ in told] == list(range(1, 16))
    centre, radius = scene.RED
    points = found.voxels.points()
    inside = np.linalg.norm(points - centre, axis=1) <= radius
    solid = found.solid.ravel()
    assert (solid & inside).sum() / inside.sum() > 0.97  # a hull holds the body
    assert (
        solid & inside
    ).sum() / solid.sum() > 0.55  # and, from a ring of cameras, something above and below it


def test_the_silhouette_of_a_camera_that_was_not_there() -> None:
    found = lifted(Perfect())
    other = scene.cameras(5, height=1.2)[2]
    pixels, labels = scene.rendered(other)
    assert mask_iou(found.silhouette(other), labels == 1) > 0.75
    assert not found.silhouette(replace(other, to_world=other.to_world @ np.diag([-1.0, 1, -1, 1]))).any()
    IMAGES.append(image := Image.load(pixels))
    VIEWS.append((pixels, labels))
    try:
        mask, score = found.ask(Perfect(), other, image)
    finally:
        IMAGES.pop(), VIEWS.pop()
    assert mask_iou(mask, labels == 1) == 1 and score == 1


def test_a_view_that_contradicts_the_others_has_no_say() -> None:
    model = Perfect(blunders=(3,))
    found = lifted(model)
    assert found.trusted.tolist() == [index != 3 for index in range(8)]
    assert all(mask_iou(found.masks[view], TRUTH[view]) == 1 for view in range(8) if view != 3)
    assert mask_iou(found.silhouette(CAMERAS[3]), TRUTH[3]) > 0.75


def test_nearest_views_come_first_and_clicks_only_while_the_hull_is_a_cone() -> None:
    model = Perfect()
    lifted(model, settings=Settings(stride=2, passes=0))
    order = list(dict.fromkeys(view for view, _ in model.asked))
    assert order[0] == 0 and order[1] in (1, 7) and sorted(order) == list(range(8))
    ways = [sorted(asked.keys() - {"labels"}) for _, asked in model.asked]
    assert ways == [["points"]] + [["boxes", "points"], ["points"]] * 2 + [["boxes"]] * 5
    for view, asked in model.asked[1:5]:
        x, y = asked["points"][0][0]
        assert TRUTH[view][int(y), int(x)], "the click is on the object, though only a cone was known"


def test_the_hint_of_a_second_look_is_the_object() -> None:
    model = Perfect()
    lifted(model)
    view, asked = next((view, asked) for view, asked in model.asked[::-1] if "hint" in asked)
    assert asked["hint"].shape == (96, 96) and mask_iou(asked["hint"] > 0, TRUTH[view]) > 0.75


def test_projecting_and_looking_along_rays_agree() -> None:
    camera = CAMERAS[3]
    place, rays = camera.rays()
    xy, depth = camera.project(place + 3 * rays.reshape(-1, 3))
    expected = np.stack(np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5), axis=2).reshape(-1, 2)
    assert np.allclose(xy, expected) and (depth > 0).all()
    assert (camera.project(place - rays[0])[1] < 0).all()


def test_sampling_outside_and_behind() -> None:
    camera = Camera("", (10, 20), (10.0, 10.0), (10.0, 5.0), np.eye(4))
    picture = np.arange(200, dtype=np.float32).reshape(10, 20) + 1
    places = np.array([[0.0, 0, -1], [0, 0, 1], [5, 0, -1], [-0.95, 0.45, -1]])
    assert sample(picture, camera, places).tolist() == [5 * 20 + 10 + 1, 0, 0, 1]
    assert sample(np.stack([picture] * 3, axis=2), camera, places).shape == (4, 3)


def test_looking_at_one_voxel() -> None:
    voxels = Voxels(np.zeros(3), 1.0, 4)
    field = np.zeros((4, 4, 4), np.float32)
    field[2, 2, 2] = 0.9  # centre at +0.25
    camera = Camera("", (40, 40), (80.0, 80.0), (20.0, 20.0), np.array(np.eye(4)) + np.eye(4, k=3) * 0)
    pose = np.eye(4)
    pose[2, 3] = 4
    camera = replace(camera, to_world=pose)
    best, first, length = render(field, voxels, camera, stride=2, above=0.5)
    row, column = np.nonzero(length > 0)
    assert best.max() == np.float32(0.9) and set(length[row, column]) <= {1.0, 2.0}
    assert (column * 2 >= 20).all() and (row * 2 < 20).all()  # x to the right, y up
    assert 3.4 < first[row, column].min() <= 4.0 and not np.isfinite(first[0, 0])


def test_clicks_keep_apart() -> None:
    certainty = np.zeros((20, 20), np.float32)
    certainty[2:18, 2:18] = 1
    certainty[5, 5] = 3
    clicks = clicks_of(certainty, np.where(certainty > 0, 2.0, np.inf).astype(np.float32), count=3, stride=1)
    assert clicks[0] == [5.5, 5.5] and len(clicks) == 3
    assert all(math.dist(a, b) > 3 for i, a in enumerate(clicks) for b in clicks[:i])
    assert (
        clicks_of(np.zeros((4, 4), np.float32), np.full((4, 4), np.inf, np.float32), count=3, stride=1) == []
    )


def test_points_on_the_surface(tmp_path: Path) -> None:
    found = lifted(Perfect())
    data = to_ply(found, CAMERAS, IMAGES)
    header, _, body = data.partition(b"end_header\n")
    count = int(header.partition(b"element vertex ")[2].split()[0])
    rows = np.frombuffer(body, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))
    assert len(rows) == count and 0 < count < found.solid.sum()
    distance = np.linalg.norm(rows["xyz"] - scene.RED[0], axis=1)
    assert distance.min() > scene.RED[1] - 3 * found.voxels.side
    seen = rows["rgb"][rows["rgb"].std(axis=1) > 0]
    assert len(seen) > count / 2 and (seen[:, 0] > seen[:, 2]).mean() > 0.95  # the red one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": 8}, "a view from 0 to 7, got 8"),
        ({"view": -1}, "a view from 0"),
        (
            {"settings": None, "voxels": None, "points": None, "boxes": [[1, 1, 5, 5], [2, 2, 6, 6]]},
            "one object",
        ),
    ],
)
def test_what_lift_refuses(change: dict[str, Any], message: str) -> None:
    class Two(Perfect):
        def segment(self, view: Any, **asked: Any) -> Masks:
            logits = np.ones((len(asked["boxes"]), 96, 96), np.float32)
            return Masks(logits, np.ones(len(logits), np.float32), Frame.fit((96, 96), 96))

    with pytest.raises(InputError, match=message):
        lifted(Two(), **change)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Settings(keep=0.0), "keep above 0"),
        (lambda: Settings(stride=0), "stride from 1"),
        (lambda: Voxels(np.zeros(3), 1.0, 1), "2 to 512"),
        (lambda: Voxels(np.zeros(2), 1.0, 8), "centre of a cube"),
        (lambda: Camera("a", (2, 2), (1.0, 1.0), (1.0, 1.0), 2 * np.eye(4)), "stretches"),
        (lambda: Camera("a", (2, 2), (0.0, 1.0), (1.0, 1.0), np.eye(4)), "focal lengths above 0"),
        (lambda: scene_bounds([CAMERAS[0], CAMERAS[0]]), "parallel"),
        (lambda: lift(Perfect(), CAMERAS, IMAGES[:3], view=0, points=[1, 1]), "a picture for each"),
        (
            lambda: lift(
                Perfect(), CAMERAS[:2], [IMAGES[0], Image.load(np.zeros((4, 4, 3), np.uint8))], view=0
            ),
            "4 x 4",
        ),
    ],
)
def test_what_else_is_refused(made: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made()


def test_reading_cameras(tmp_path: Path) -> None:
    path = scene.write(tmp_path, CAMERAS)
    cameras, paths = load_cameras(path)
    assert [one.name for one in paths] == [camera.name for camera in CAMERAS]
    for read, made in zip(cameras, CAMERAS, strict=True):
        assert np.allclose(read.to_world, made.to_world) and np.allclose(read.focal_xy, made.focal_xy)
        assert read.centre_xy == (48.0, 48.0) and read.image_hw == (96, 96)
    data = json.loads(path.read_text())
    data["frames"][0] |= {"fl_x": 50, "cx": 40, "w": 96, "h": 96}
    path.write_text(json.dumps(data))
    first = load_cameras(path)[0][0]
    assert first.focal_xy == (50.0, 50.0) and first.centre_xy == (40.0, 48.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.clear(), "2 to"),
        (lambda data: data["frames"][0].pop("transform_matrix"), "KeyError"),
        (lambda data: data["frames"][0].update(transform_matrix=[[1]]), "4 x 4"),
        (lambda data: data["frames"][0].update(file_path="../../etc/passwd"), "beside or below it"),
        (lambda data: data["frames"][0].update(file_path="gone.png"), "beside or below it"),
        (lambda data: data.pop("camera_angle_x"), "camera_angle_x"),
    ],
)
def test_cameras_that_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = scene.write(tmp_path, CAMERAS[:2])
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        load_cameras(path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"NeRF's transforms\.json"):
        load_cameras(path)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nano itself: one box, masks of every view."""
    path = scene.write(tmp_path, CAMERAS)
    monkeypatch.chdir(tmp_path)
    y, x = np.nonzero(TRUTH[2])
    box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
    words = ["multiview", str(path), "--view", "2", "--box", box, "--voxels", "32", "--passes", "1", "--json"]
    assert main([*words, "--output", "out"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["prompted_view"] == 2 and len(summary["views"]) == 8 and summary["voxels"] > 50
    overlaps = []
    for camera, truth in zip(CAMERAS, TRUTH, strict=True):
        with PillowImage.open(f"out/{camera.name.removesuffix('.png')}.mask.png") as opened:
            overlaps.append(mask_iou(np.asarray(opened) > 0, truth))
    assert (
        overlaps[2] > 0.9 and np.median(overlaps) > 0.8
    )  # where the spheres overlap, nano takes them for one thing
    assert (
        Path("out/masks.ply").read_bytes().startswith(b"ply\n")
        and Path("out/views.png").stat().st_size > 1000
    )
    assert main(["multiview", str(path), "--output", "out"]) == 2
    assert main(["multiview", str(path), "--box", "1,1,9,9", "--box", "2,2,9,9", "--output", "out"]) == 2
    assert "run samlet once for each" in capsys.readouterr().err
