"""Fine-tuning: people's formats, adapters that leave no trace in the layout, and a tuned model that loads."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("cv2") is None:
    pytest.skip("needs torch and OpenCV (samlet[train])", allow_module_level=True)

import torch
from safetensors.numpy import load_file

from samlet import registry
from samlet.cli import main
from samlet.errors import InputError
from samlet.nets.nano import NanoEncoder
from samlet.rle import mask_to_compressed_rle, mask_to_rle
from samlet.train.adapters import add_adapters, merge
from samlet.train.own_data import read_own
from samlet.train.pictures import IGNORE
from samlet.train.recipes.finetune import Place, Recipe, run
from tests.distill_pictures import disc_picture, set_of
from tests.train_runs import curve

SQUARE = [2.0, 1.0, 8.0, 1.0, 8.0, 5.0, 2.0, 5.0]  # pixels 2..7 x 1..4


def picture_file(folder, name="a.png", hw=(8, 12)):
    folder.mkdir(parents=True, exist_ok=True)
    PILImage.new("RGB", hw[::-1], (9, 9, 9)).save(folder / name)
    return folder / name


def squares(hw=(8, 12)):
    mask = np.zeros(hw, np.bool_)
    mask[1:5, 2:8] = True
    return mask


def coco_of(segmentations, **more):
    return {
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [{"image_id": 7, "segmentation": s, **more} for s in segmentations],
    }


@pytest.mark.parametrize("form", ["polygon", "counts", "string"])
def test_coco_in_every_form(tmp_path, form):
    picture_file(tmp_path / "photos")
    segmentation = {
        "polygon": [SQUARE],
        "counts": mask_to_rle(squares()),
        "string": mask_to_compressed_rle(squares()),
    }[form]
    (tmp_path / "all.json").write_text(json.dumps(coco_of([segmentation])))
    (picture,) = read_own(tmp_path / "all.json", images=tmp_path / "photos")
    assert np.array_equal(picture.regions[0] == 1, squares())


def test_smaller_objects_lie_on_top_and_crowds_are_ignored(tmp_path):
    picture_file(tmp_path)
    large = [[0, 0, 12, 0, 12, 8, 0, 8]]
    crowd = np.zeros((8, 12), np.bool_)
    crowd[7] = True
    data = coco_of([[SQUARE], large])
    data["annotations"].append({"image_id": 7, "segmentation": mask_to_rle(crowd), "iscrowd": 1})
    (tmp_path / "all.json").write_text(json.dumps(data))
    ids = read_own(tmp_path / "all.json")[0].regions[0]
    assert (ids[squares()] == 2).all() and ids[0, 0] == 1
    data["annotations"] = [a for a in data["annotations"] if a["segmentation"] != large]
    (tmp_path / "all.json").write_text(json.dumps(data))
    assert (read_own(tmp_path / "all.json")[0].regions[0][7] == IGNORE).all()


def test_labelme_polygons_rectangles_and_groups(tmp_path):
    picture_file(tmp_path)
    shapes = [
        {
            "label": "x",
            "points": np.reshape(SQUARE, (4, 2)).tolist(),
            "shape_type": "polygon",
            "group_id": None,
        },
        {"label": "y", "points": [[9, 0], [11, 2]], "shape_type": "rectangle", "group_id": 3},
        {"label": "y", "points": [[9, 5], [11, 7]], "shape_type": "rectangle", "group_id": 3},
        {"label": "z", "points": [[0, 0]], "shape_type": "point"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "..\\photos\\a.png", "shapes": shapes}))
    ids = read_own(tmp_path)[0].regions[0]
    assert np.array_equal(ids == 1, squares())
    assert ids[0, 9] == ids[6, 10] == 2 and ids[3, 9] == 0 and ids.max() == 2


def test_masks_by_ids_and_in_black_and_white(tmp_path):
    root = set_of(tmp_path / "ids", 1)
    assert sorted(np.unique(read_own(root)[0].regions[0])) == [0, 1, 2]
    picture_file(tmp_path / "bw" / "images")
    (tmp_path / "bw" / "masks").mkdir()
    white = squares()
    white[6:, 10:] = True
    PILImage.fromarray(white.astype(np.uint8) * 255).save(tmp_path / "bw" / "masks" / "a.png")
    ids = read_own(tmp_path / "bw")[0].regions[0]
    assert sorted(np.unique(ids)) == [0, 1, 2] and np.array_equal(ids > 0, white)


def test_large_pictures_are_shrunk(tmp_path):
    root = set_of(tmp_path / "ids", 1)
    picture = read_own(root, max_side=32)[0]
    assert picture.pixels.shape == (24, 32, 3) and picture.regions[0].shape == (24, 32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("all.json", "{", "expected JSON at"),
        (
            "all.json",
            json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}),
            "none that can be used",
        ),
        (
            "all.json",
            json.dumps(coco_of([[SQUARE]]) | {"images": [{"id": 7, "file_name": "../a.png"}]}),
            "none that can",
        ),
        ("nothing.txt", "", "expected JSON at"),
    ],
)
def test_bad_labels_are_one_sentence(tmp_path, name, content, message):
    picture_file(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_own(tmp_path / name)


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    root = set_of(tmp_path / "ids", 2)
    (root / "masks" / "0.png").unlink()
    broken = []
    assert len(read_own(root, broken=broken)) == 1
    assert [each.name for each in broken] == ["0"]


def test_adapters_begin_as_nothing_and_merge_into_the_weights():
    torch.manual_seed(0)
    encoder = NanoEncoder().eval()
    names = list(encoder.state_dict())
    picture = torch.rand(1, 3, 32, 32)
    before = encoder(picture)
    trained = add_adapters(encoder, 2)
    assert torch.allclose(encoder(picture), before, atol=1e-5)
    assert {id(p) for p in encoder.parameters() if p.requires_grad} == {id(p) for p in trained}
    assert sum(p.numel() for p in trained) < 0.05 * sum(p.numel() for p in encoder.parameters())
    with torch.no_grad():
        for p in trained:
            p.add_(0.01)
    moved = encoder(picture)
    assert not torch.allclose(moved, before, atol=1e-3)
    merge(encoder)
    assert list(encoder.state_dict()) and sorted(encoder.state_dict()) == sorted(names)
    assert torch.allclose(encoder(picture), moved, atol=1e-5)
    for rank, message in ((0, "at least 1"), (10_000, "lower --rank")):
        with pytest.raises(InputError, match=message):
            add_adapters(NanoEncoder(), rank)


SMALL = Recipe(steps=3, batch=2, prompts=2, size=64, warmup=1, precision="fp32", average=0.0, lr=3e-3)


@pytest.mark.parametrize("part", ["decoder", "adapters", "all"])
def test_a_tuned_model_is_a_model(tmp_path, part):
    root = set_of(tmp_path / "discs", 10)
    path = run(replace(SMALL, part=part), Place("nano", root, tmp_path / "run"))
    base, tuned = load_file(registry_file("nano")), load_file(path)
    kept = {k for k in base if part == "decoder" or not k.startswith("objects.")}
    assert tuned.keys() == kept  # the object head stays if the encoder did
    moved = {k.split(".")[0] for k in kept if not np.array_equal(base[k], tuned[k])}
    assert moved == {"decoder"} | ({"encoder"} if part != "decoder" else set())
    assert (tmp_path / "run" / "before_after.png").stat().st_size > 1000
    picture = str(root / "images" / "1.png")
    assert (
        main(["segment", picture, "--model", str(path), "--box", "4,8,30,40", "--output", str(tmp_path)]) == 0
    )
    assert curve(tmp_path / "run")[-1]["held_out"]["box"] > 0


def registry_file(name):
    from samlet import store

    return store.locate(registry.resolve(name).files[0])


def test_tuning_on_one_kind_of_object_helps(tmp_path):
    """Rings, whose holes a box prompt fills, become rings."""
    root = tmp_path / "rings"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    y, x = np.mgrid[:64, :64]
    for i in range(12):
        pixels, _ = disc_picture(i, (64, 64))
        distance = np.hypot(y - 32, x - 30 - i % 5)
        ring = (distance < 24) & (distance > 12)
        pixels[distance < 24] = (200, 60, 60)
        PILImage.fromarray(pixels).save(root / "images" / f"{i:02d}.png")
        PILImage.fromarray(ring.astype(np.uint8)).save(root / "masks" / f"{i:02d}.png")
    recipe = replace(SMALL, steps=25, prompts=1, batch=4, corrected=0.0, average=0.5)
    run(recipe, Place("nano", root, tmp_path / "run", save_minutes=0.0))
    looks = [r["held_out"]["box"] for r in curve(tmp_path / "run") if "held_out" in r]
    assert looks[-1] > looks[0] + 0.05


def test_options_that_do_not_fit_are_one_sentence(tmp_path):
    root = set_of(tmp_path / "discs", 2)
    for changes, message in (({"part": "head"}, "expected a part"), ({"size": 50}, "multiple of 32")):
        with pytest.raises(InputError, match=message):
            run(replace(SMALL, **changes), Place("nano", root, tmp_path / "run"))
    words = ["finetune", "--data", str(root), "--out", str(tmp_path / "run")]
    assert main([*words, "--steps", "3", "--minutes", "1"]) == 2
    assert main([*words, "--model", "fastsam_s"]) == 2
