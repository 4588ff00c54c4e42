"""Training the object head: views, targets and losses by hand, recall by hand, and an exact resume."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image as PILImage

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("cv2") is None:
    pytest.skip("needs torch and OpenCV (samlet[train])", allow_module_level=True)

import torch

from samlet.errors import CheckpointError, InputError
from samlet.nets.objects import ObjectHead
from samlet.train.feature_cache import Shelf, deep_half, read_cache
from samlet.train.object_targets import (
    NOBODY,
    UNLABELLED,
    centreness,
    make_targets,
    object_loss,
    owners,
    pair_iou,
    places,
)
from samlet.train.object_views import canvas_of, make_view
from samlet.train.pictures import IGNORE, Picture
from samlet.train.proposals import Recall, hits, scales_of
from samlet.train.recipes.objects import Loader, ObjectTask, Place, Recipe, features, in_one_piece, run


def picture(ids, group="discs"):
    ids = np.asarray(ids, np.uint16)
    pixels = np.zeros((*ids.shape, 3), np.uint8)
    pixels[..., 0] = np.where(ids == 0, 40, 200)
    return Picture(f"{group}/a", group, pixels, [ids])


def with_box(x0, y0, x1, y1, hw=(150, 200), key=1):
    ids = np.zeros(hw, np.uint16)
    ids[y0:y1, x0:x1] = key
    return ids


def test_whole_and_mirrored_views_keep_the_box_on_its_object():
    one = picture(with_box(20, 30, 70, 90))
    whole = make_view(one, 0, np.random.default_rng(0))
    assert whole.scaled_hw == (384, 512) and whole.pixels.shape == (384, 512, 3)
    assert np.allclose(whole.boxes, [np.array([20, 30, 70, 90]) * 2.56], atol=2)
    mirrored = make_view(one, 1, np.random.default_rng(0))
    x0, y0, x1, y1 = whole.boxes[0]
    assert np.allclose(mirrored.boxes, [[512 - x1, y0, 512 - x0, y1]], atol=2)
    for view in (whole, mirrored):
        ys, xs = np.nonzero(view.ids == 1)
        found = [4 * xs.min(), 4 * ys.min(), 4 * xs.max() + 4, 4 * ys.max() + 4]
        assert np.abs(np.array(found) - view.boxes[0]).max() <= 4
        assert (view.pixels[view.ids.repeat(4, 0).repeat(4, 1) == 1, 0] > 120).mean() > 0.95


def test_canvases_fit_the_picture():
    shapes = {(300, 400): (384, 512), (400, 300): (512, 384), (400, 400): (512, 512), (390, 400): (512, 512)}
    for hw, canvas in shapes.items():
        assert canvas_of(picture(np.zeros(hw))) == canvas
        view = make_view(picture(np.ones(hw)), 0, np.random.default_rng(0))
        assert view.pixels.shape[:2] == canvas
        assert view.scaled_hw[0] <= canvas[0] and view.scaled_hw[1] <= canvas[1]


def test_what_nobody_can_find_is_ignored():
    ids = with_box(20, 30, 70, 90)
    ids[0, 0:2] = 2  # a speck
    ids[140:] = IGNORE
    view = make_view(picture(ids), 0, np.random.default_rng(0))
    assert len(view.boxes) == 1
    assert view.ids[0, 0] == IGNORE and view.ids[-1, 0] == IGNORE and view.ids[0, 60] == 0
    everything = make_view(picture(np.ones((150, 200))), 0, np.random.default_rng(0))
    assert len(everything.boxes) == 0 and (everything.ids == IGNORE).all()


def test_crops_ignore_objects_of_which_little_is_left():
    ids = with_box(0, 0, 200, 150)
    ids[:, :190] = 0  # a stripe at the right edge
    seen = set()
    for seed in range(30):
        view = make_view(picture(ids), 2, np.random.default_rng(seed))
        seen.add((len(view.boxes), bool((view.ids == 1).any())))
    assert seen == {(0, False), (1, True)}


def test_owners_by_hand():
    ids = np.zeros((32, 32), np.uint16)  # a canvas of 128 x 128
    ids[4:12, 4:12] = 1  # 16..48: for the grid of stride 8 only
    ids[16:, 0:32] = 2  # 64..128 high, 128 wide: for strides 16 (and not 8, 32)
    ids[0:2, 20:32] = IGNORE
    boxes = np.array([[16, 16, 48, 48], [0, 64, 128, 128]], np.float32)
    middle, level = places((128, 128))
    owner = owners(ids, boxes)
    by_place = {
        (int(lv), float(x), float(y)): int(o) for (x, y), lv, o in zip(middle, level, owner, strict=True)
    }
    assert by_place[0, 20.0, 20.0] == 0 and by_place[0, 44.0, 44.0] == 0
    assert by_place[0, 12.0, 20.0] == UNLABELLED
    assert by_place[0, 100.0, 4.0] == NOBODY  # ignored
    assert by_place[0, 60.0, 100.0] == NOBODY  # too large for this grid
    assert by_place[1, 8.0, 72.0] == 1 and by_place[1, 120.0, 120.0] == 1
    assert by_place[1, 40.0, 40.0] == NOBODY
    assert by_place[2, 112.0, 112.0] == NOBODY
    assert (owner == 0).sum() == 16 and (owner == 1).sum() == 4 * 8


def test_the_middle_of_a_ring_answers_for_it_and_its_hole_is_no_background():
    ids = np.zeros((32, 32), np.uint16)
    ids[4:20, 4:20] = 1
    ids[6:18, 6:18] = 0
    middle, level = places((128, 128))
    owner = owners(ids, np.array([[16, 16, 80, 80]], np.float32))
    hole = (np.abs(middle - 48).max(1) < 20) & (level == 0)
    near = (np.abs(middle - 48).max(1) < 6) & (level == 0)
    assert (owner[near] == 0).all() and near.sum() == 4
    assert (owner[hole & ~near] == NOBODY).all()


def test_targets_weigh_objects_alike():
    ids = np.zeros((2, 32, 32), np.uint16)
    ids[0, 4:8, 4:8], ids[0, 12:28, 12:28] = 1, 2
    boxes = [np.array([[16, 16, 32, 32], [48, 48, 112, 112]], np.float32), np.zeros((0, 4), np.float32)]
    targets = make_targets(ids, boxes, np.array([0.5, 1.0], np.float32))
    assert set(map(tuple, targets.boxes.tolist())) == set(map(tuple, boxes[0].tolist()))
    small = targets.boxes[:, 0] == 16
    assert small.sum() == 4 and (~small).sum() == 64 + 16
    # sqrt(places) each: the large object has 20 times the places and not 20 times the weight
    assert float(targets.weight[~small].sum() / targets.weight[small].sum()) == pytest.approx(20**0.5)
    assert sorted(set(targets.unlabelled[0].tolist())) == [0, 0.5]
    assert set(targets.unlabelled[1].tolist()) == {1.0}


def test_centreness_and_overlap_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 20]]).expand(3, 4)
    points = torch.tensor([[5.0, 10], [1, 10], [0, 3]])
    assert torch.allclose(centreness(points, boxes), torch.tensor([1.0, (1 / 9) ** 0.5, 0]))
    a, b = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[1.0, 0, 3, 2], [3, 0, 4, 1]])
    iou, giou = pair_iou(a, b)
    assert torch.allclose(iou, torch.tensor([1 / 3, 0.0])) and torch.allclose(
        giou, torch.tensor([1 / 3, -0.5])
    )


def test_unlabelled_places_cost_nothing_unless_told():
    torch.manual_seed(0)
    answers = [torch.randn(1, 6, 128 // s, 128 // s).requires_grad_() for s in (8, 16, 32)]
    ids = np.zeros((1, 32, 32), np.uint16)
    targets = make_targets(ids, [np.zeros((0, 4), np.float32)], np.ones(1, np.float32))
    for weight, touched in ((0.0, False), (1.0, True)):
        losses = object_loss(answers, targets, background=weight)
        sum(losses.values()).backward()
        assert bool(answers[0].grad.abs().sum() > 0) == touched
        assert float(answers[0].grad[:, :5].abs().sum()) == 0  # boxes and centre-ness are never pushed


def test_recall_by_hand():
    overlap = np.array([[0.6, 0.55], [0.7, 0.0], [0.0, 0.96]])
    assert (
        hits(overlap, 0.5) == 2
    )  # the first takes object 0 (so the second finds it taken), the third object 1
    assert hits(overlap[:2], 0.5) == 1 and hits(overlap, 0.65) == 2 and hits(overlap, 0.8) == 1
    recall = Recall((1, 3))
    recall.add(overlap)
    # best one: object 0 at .5, .55, .6; all three: both at .5 to .7, and object 1 up to .95
    assert recall.figures() == pytest.approx({"AR@1": 3 / 20, "AR@3": (5 + 10) / 20})


def test_pieces_of_one_id():
    two = with_box(0, 0, 40, 40)
    two[100:140, 100:140] = 1
    assert in_one_piece(picture(with_box(0, 0, 40, 40), "ecssd831"))
    assert not in_one_piece(picture(two, "ecssd831"))
    assert in_one_piece(picture(two, "discs"))


def test_cached_features_are_the_embedding():
    from samlet.nets.nano import pack, unpack

    torch.manual_seed(0)
    packed = (
        pack(torch.randn(1, 256, 4, 6), torch.randn(1, 64, 8, 12), torch.randn(1, 32, 16, 24)).half().float()
    )
    tokens, detail = scales_of(deep_half(packed.numpy())[None], torch.device("cpu"))
    assert torch.equal(tokens, unpack(packed)[0]) and torch.equal(detail, unpack(packed)[1])


@pytest.fixture(scope="module")
def shelf():
    """Two synthetic views whose features say where the objects are."""
    rng = np.random.default_rng(0)
    ids = np.zeros((2, 32, 32), np.uint16)
    ids[0, 4:16, 6:20], ids[1, 16:30, 2:12] = 1, 1
    boxes = [np.array([[24, 16, 80, 64]], np.float32), np.array([[8, 64, 48, 120]], np.float32)]
    features = rng.normal(0, 0.3, (2, 512, 8, 8)).astype(np.float16)
    features[:, :200] += ids[:, None, 2::4, 2::4]
    return Shelf((128, 128), features, ids, boxes, ["discs", "discs"])


def test_the_loss_falls_on_two_pictures(shelf):
    torch.manual_seed(0)
    recipe = Recipe(steps=40, warmup=5, batch=2)
    loader = Loader([shelf], seed=1, batch=2)
    task = ObjectTask(recipe, ObjectHead(), torch.device("cpu"), loader, [])
    seen = []
    for step in range(40):
        loss, numbers = task.loss(loader.make(step), step, 0)
        task.optimiser.zero_grad()
        loss.backward()
        task.optimiser.step()
        seen.append(numbers)
    assert np.mean([s["iou"] for s in seen[-5:]]) > np.mean([s["iou"] for s in seen[:5]]) + 0.15
    assert np.mean([s["loss_box"] for s in seen[-5:]]) < 0.75 * np.mean([s["loss_box"] for s in seen[:5]])


def test_a_batch_depends_on_seed_and_step_alone(shelf):
    loader = Loader([shelf], seed=3, batch=4)
    first, other = loader.make(7), loader.make(8)
    again = Loader([shelf], seed=3, batch=4).make(7)
    assert np.array_equal(first.features, again.features)
    assert torch.equal(first.targets.positive, again.targets.positive)
    assert not np.array_equal(first.features, other.features)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (root / "discs" / name).mkdir(parents=True)
    for i in range(3):
        one = picture(with_box(20 + 10 * i, 30, 70 + 10 * i, 90, hw=(96, 128)))
        PILImage.fromarray(one.pixels).save(root / "discs" / "images" / f"{i}.png")
        PILImage.fromarray(one.regions[0].astype(np.uint8)).save(root / "discs" / "masks" / f"{i}.png")
    return root


def test_a_resumed_run_is_the_unbroken_one(data, tmp_path, capsys):
    recipe = Recipe(steps=4, batch=2, warmup=1)
    cache = tmp_path / "cache"
    run(recipe, Place(data, tmp_path / "whole", cache, threads=1))
    run(recipe, Place(data, tmp_path / "broken", cache, threads=1), stop=2)
    run(recipe, Place(data, tmp_path / "broken", cache, threads=1), resume=True)
    whole, broken = ((tmp_path / n / "state.safetensors").read_bytes() for n in ("whole", "broken"))
    from safetensors.numpy import load

    ours, theirs = load(whole), load(broken)
    assert ours.keys() == theirs.keys() and len(ours) > 100
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
    rows = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [2, 2, 4, 4] and "held_out" in rows[-1]
    assert "3 views to train on" in capsys.readouterr().out


def test_a_cache_of_another_encoder_and_an_unfinished_one_are_refused(data, tmp_path):
    place = Place(data, tmp_path, threads=1)
    features(place, seed=1)
    with pytest.raises(InputError, match="another"):
        read_cache(tmp_path / "cache" / "train", digest="0" * 64)
    (tmp_path / "cache" / "train" / "index.json").write_text("{")
    with pytest.raises(InputError, match="finished cache"):
        read_cache(tmp_path / "cache" / "train", digest="0" * 64)


def test_no_pictures_and_a_foreign_state_are_one_sentence(data, tmp_path):
    with pytest.raises(InputError, match="expected folders"):
        run(Recipe(steps=1), Place(tmp_path / "nothing", tmp_path / "out"))
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "state.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="training state"):
        run(Recipe(steps=1), Place(data, tmp_path / "out", threads=1), resume=True)
