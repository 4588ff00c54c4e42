"""The trainer: prompts and losses by hand, ignored pixels, and a resumed run equal to an unbroken one."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch and OpenCV (samlet[train])", allow_module_level=True)

import torch
from torch import nn

from samlet import registry
from samlet.errors import CheckpointError, InputError
from samlet.nets.nano import Nano
from samlet.train.curves import draw, read_metrics
from samlet.train.engine import Plan, Run
from samlet.train.losses import grid_iou, mask_loss
from samlet.train.optim import WeightAverage, cosine
from samlet.train.pictures import (
    CLICK_COLUMNS,
    IGNORE,
    Loader,
    interior,
    is_dev,
    make_crop,
    read_sets,
)
from samlet.train.promptable import Promptable, load_network
from samlet.train.recipes import prompts
from samlet.train.recipes.prompts import Place, Recipe, nano_task, run
from samlet.train.sampling import corrective_click, depth
from samlet.train.state import load_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six pictures of two discs on a coloured ground, with an ignored stripe, in the layout of the data room."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (root / "discs" / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    for i in range(6):
        pixels = np.full((96, 128, 3), rng.integers(0, 120, 3), np.uint8)
        ids = np.zeros((96, 128), np.uint8)
        for k, cx in enumerate((35, 90), start=1):
            disc = (y - 45) ** 2 + (x - cx - rng.integers(-8, 8)) ** 2 < rng.integers(15, 25) ** 2
            pixels[disc] = rng.integers(150, 255, 3)
            ids[disc] = k
        ids[90:] = 255
        PILImage.fromarray(pixels).save(root / "discs" / "images" / f"{i}.png")
        PILImage.fromarray(ids).save(root / "discs" / "masks" / f"{i}.png")
    return root


def test_ignore_label_is_read_for_both_depths(tmp_path):
    (tmp_path / "s" / "images").mkdir(parents=True)
    (tmp_path / "s" / "masks").mkdir()
    PILImage.new("RGB", (4, 2)).save(tmp_path / "s" / "images" / "a.png")
    for raw, wanted in (
        (np.array([[0, 1, 255, 7]] * 2, np.uint8), [0, 1, IGNORE, 7]),
        (np.array([[0, 255, 65535, 300]] * 2, np.uint16), [0, 255, IGNORE, 300]),
    ):
        PILImage.fromarray(raw).save(tmp_path / "s" / "masks" / "a.png")
        (picture,) = read_sets(tmp_path, dev=False, max_side=512)
        assert picture.regions[0][0].tolist() == wanted


def test_every_annotator_counts_and_broken_pictures_are_named(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "s" / name).mkdir(parents=True)
    for stem in ("a", "b"):
        PILImage.new("RGB", (8, 4)).save(tmp_path / "s" / "images" / f"{stem}.png")
    for human in (1, 2, 3):
        PILImage.new("L", (8, 4), human).save(tmp_path / "s" / "masks" / f"a_h{human}.png")
    PILImage.new("L", (7, 4), 1).save(tmp_path / "s" / "masks" / "b.png")
    broken = []
    (picture,) = read_sets(tmp_path, dev=False, max_side=512, broken=broken)
    assert [int(r[0, 0]) for r in picture.regions] == [1, 2, 3]
    assert [b.name for b in broken] == ["s/b"]
    assert "size of its mask" in broken[0].reason


def test_held_out_part_is_disjoint_and_fixed():
    held = [i for i in range(20) if is_dev("coco_mini", i)]
    assert held == [0, 5, 10, 15]
    assert not any(is_dev("pets", i) for i in range(20))


def test_empty_root_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="expected folders <set>/images"):
        read_sets(tmp_path, dev=False, max_side=256)


def test_prompts_of_a_crop_lie_on_their_objects(data):
    pictures = read_sets(data, dev=False, max_side=512)
    seen = set()
    for seed in range(60):
        crop = make_crop(pictures[seed % 6], np.random.default_rng(seed), (96, 128), 4)
        if crop is None:
            continue
        assert crop.coords.shape == (4, CLICK_COLUMNS, 2) and crop.targets.shape == (4, 24, 32)
        assert crop.targets.min() >= 0 and crop.targets.max() <= 1
        for target, coords, labels in zip(crop.targets, crop.coords, crop.labels, strict=True):
            for (px, py), label in zip(coords, labels, strict=True):
                seen.add(int(label))
                cell = target[min(23, int(py) // 4), min(31, int(px) // 4)]
                if label == 1:
                    assert cell > 0
                if label == 0:
                    assert cell < 1
            if labels[0] == 2:
                assert (coords[1] > coords[0]).all()
    assert seen == {-1, 0, 1, 2, 3}


def test_a_batch_depends_on_nothing_but_seed_and_step(data):
    pictures = read_sets(data, dev=False, max_side=512)
    first = Loader(pictures, seed=3, batch=2, prompts=2).make(17, 128)
    again = Loader(pictures, seed=3, batch=2, prompts=2)
    again.make(16, 128)
    second = again.make(17, 128)
    other = again.make(18, 128)
    assert all(
        np.array_equal(getattr(first, k), getattr(second, k))
        for k in ("pixels", "targets", "coords", "labels")
    )
    assert not np.array_equal(first.coords, other.coords)


def test_depth_and_interior_by_hand():
    mask = torch.zeros(1, 1, 7, 9, dtype=torch.bool)
    mask[0, 0, 1:6, 2:7] = True
    assert depth(mask)[0, 0, 3].tolist() == [0, 0, 1, 2, 3, 2, 1, 0, 0]
    assert interior(mask[0, 0].numpy().astype(np.uint8)) == (3, 4)
    assert interior(np.ones((5, 5), np.uint8)) == (2, 2)  # the edge of the picture is an edge


@pytest.mark.parametrize(
    ("said", "truth", "valid", "label", "cell"),
    [
        ([], [4, 5], [], 1, (4, 5)),  # all missed: click on the object
        ([4, 5], [], [], 0, (4, 5)),  # nothing there: background click on the answer
        ([4, 5], [4, 5], [], -1, None),  # right already: padding
        ([], [4, 5], [4, 5], -1, None),  # the mistake lies on ignored cells
    ],
)
def test_corrective_click(said, truth, valid, label, cell):
    def block(at, value, rest):
        out = torch.full((1, 12, 12), rest)
        if at:
            out[0, at[0] - 2 : at[0] + 3, at[1] - 2 : at[1] + 3] = value
        return out

    xy, got = corrective_click(
        block(said, 4.0, -4.0),
        block(truth, 1.0, 0.0),
        block(valid, 0.0, 1.0),
        torch.Generator().manual_seed(0),
    )
    assert int(got) == label
    if cell is not None:
        assert abs(float(xy[0, 0, 0]) - (4 * cell[1] + 1.5)) <= 4
        assert abs(float(xy[0, 0, 1]) - (4 * cell[0] + 1.5)) <= 4


@pytest.mark.parametrize("kind", ["bce", "focal"])
def test_losses(kind):
    target = torch.zeros(1, 8, 8)
    target[0, 2:6, 2:6] = 1
    valid = torch.ones(1, 8, 8)
    good, bad = (target * 2 - 1) * 12, (1 - target * 2) * 12
    assert mask_loss(good, target, valid, kind=kind).item() < 0.01
    assert mask_loss(bad, target, valid, kind=kind).item() > 1.5
    wrong_where_ignored = good.clone()
    wrong_where_ignored[0, 0] = 12
    assert mask_loss(wrong_where_ignored, target, valid, kind=kind).item() > 0.1
    valid[0, 0] = 0
    assert mask_loss(wrong_where_ignored, target, valid, kind=kind).item() < 0.01
    assert grid_iou(wrong_where_ignored, target, valid).item() == 1
    assert grid_iou(bad, target, valid).item() == 0


def test_schedule_and_average():
    assert cosine(0) == 1 and cosine(1) == pytest.approx(0.02) and cosine(2) == pytest.approx(0.02)
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = WeightAverage(layer, 0.9)
    torch.nn.init.ones_(layer.weight)
    average.update()  # warm-up: keeps (1 + 1) / (10 + 1) of the old
    assert average.shadow["weight"].item() == pytest.approx(1 - 2 / 11)


TINY = Recipe(steps=4, batch=2, prompts=2, sizes=((1.0, 64),), precision="fp32", warmup=2)


def weights(folder):
    network = Nano()
    average = WeightAverage(network)
    optimiser = torch.optim.AdamW(network.parameters())
    with pytest.raises(CheckpointError):  # another optimiser layout: refused, never half loaded in silence
        load_state(folder / "recipe.json", network, optimiser, average)
    from safetensors.torch import load_file

    return load_file(folder / "state.safetensors")


def test_a_resumed_run_is_the_unbroken_one(data, tmp_path):
    run(TINY, Place(data, tmp_path / "whole"))
    run(TINY, Place(data, tmp_path / "parts"), stop=2)
    run(TINY, Place(data, tmp_path / "parts"), resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    log = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "loss" in row] == [2, 4]
    assert [row["step"] for row in log if "held_out" in row] in ([], [2, 4])
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_goes_on_from_a_model_and_leaves_its_encoder_alone(data, tmp_path):
    recipe = replace(TINY, part="decoder", average=0.5, corrected=0.5, rounds=6, lr=1e-3)
    run(recipe, Place(data, tmp_path, start="nano"))
    shipped = load_network(registry.resolve("nano"))
    before = {f"model.{key}": value for key, value in shipped.state_dict().items()}
    after = {key: value for key, value in weights(tmp_path).items() if key in before}
    assert len(after) == len(before)
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert moved and all(key.startswith("model.decoder.") for key in moved)
    assert json.loads((tmp_path / "recipe.json").read_text())["start"].startswith("nano ")


def test_a_model_of_another_architecture_is_no_start(data, tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "load_network", lambda card: Promptable(nn.Identity(), nn.Identity()))
    with pytest.raises(InputError, match="expected a model of nano's architecture to start from, got nano"):
        run(TINY, Place(data, tmp_path, start="nano"))
    assert not (tmp_path / "recipe.json").exists()


def test_training_lowers_the_loss(data, tmp_path):
    recipe = Recipe(
        steps=24, batch=2, prompts=3, sizes=((1.0, 64),), precision="fp32", warmup=4, corrected=0.0
    )
    torch.manual_seed(0)
    loader = Loader(read_sets(data, dev=False, max_side=512), seed=1, batch=2, prompts=3)
    task = nano_task(recipe, Nano(), loader, [], torch.device("cpu"))
    one_run = Run(task, Plan(steps=24, warmup=4, log_steps=4), tmp_path / "run", {})
    one_run.go()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib (samlet[train]); CI installs it")
    rows = [
        {"step": 1, "minutes": 0.1, "box": 0.3, "click": 0.2, "best3": 0.25, "corrected": 0.2},
        {"step": 2, "minutes": 0.2, "box": 0.6, "click": 0.4, "best3": 0.45, "corrected": 0.5},
        {
            "step": 2,
            "minutes": 0.2,
            "held_out": {"box": 0.5, "click1": 0.3, "best3": 0.4, "click3": 0.4, "click5": 0.5},
        },
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with PILImage.open(draw(tmp_path)) as picture:
        assert picture.size[0] > 800
        assert len(picture.convert("RGB").getcolors(100_000)) > 50  # lines, not a blank sheet


def test_no_run_no_curves(tmp_path):
    with pytest.raises(InputError, match=r"expected a run with metrics\.jsonl"):
        read_metrics(tmp_path)
