"""What people arrive with: official files by path, on the command line and in Python, without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import samlet
from samlet.checkpoint import parse, to_pt, to_safetensors
from samlet.cli import main
from samlet.errors import CheckpointError
from tests.random_weights import arrays_of, write_official

BLOCK_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "pickle5"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from samlet.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(scope="module")
def mobile_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official("mobile_sam", tmp_path_factory.mktemp("weights") / "mobile_sam.pt")


def test_the_command_line_takes_the_file_without_torch(mobile_sam: Path, sample, tmp_path: Path) -> None:
    words = ["segment", str(sample("coffee")), "--box", "60,40,380,280", "--model", str(mobile_sam)]
    words += ["--format", "mask,coco", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_TORCH, *words], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"coffee.mask.png", "coffee.coco.json"}


def test_every_form_of_the_file_gives_the_same_masks(mobile_sam: Path, sample, tmp_path: Path) -> None:
    arrays = parse(mobile_sam.read_bytes(), origin="x").arrays
    lean = {name: array for name, array in arrays.items() if ".head." not in name and "norm_head" not in name}
    (tmp_path / "lean.safetensors").write_bytes(to_safetensors(lean))
    wrapped = {f"module.{name}": array for name, array in arrays.items()}
    (tmp_path / "wrapped.pth").write_bytes(to_pt(wrapped, "state_dict"))
    answers = []
    for path in (mobile_sam, tmp_path / "lean.safetensors", tmp_path / "wrapped.pth"):
        model = samlet.load(path)
        masks = model.segment(sample("coffee"), points=[[220, 150]], multimask=True)
        assert masks.logits.shape == (1, 3, 256, 256)
        answers.append(masks.logits)
    assert answers[0].std() > 0
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_one_weight_too_few_or_too_many(mobile_sam: Path, tmp_path: Path) -> None:
    arrays = dict(parse(mobile_sam.read_bytes(), origin="x").arrays)
    arrays["image_encoder.extra.weight"] = np.zeros(1, np.float32)
    del arrays["mask_decoder.iou_token.weight"]
    path = tmp_path / "changed.pt"
    path.write_bytes(to_pt(arrays, "official"))
    with pytest.raises(CheckpointError) as caught:
        samlet.load(path)
    assert "mask_decoder.iou_token.weight" in str(caught.value)
    assert "image_encoder.extra.weight" in str(caught.value)


def test_fastsam_by_path(sample, tmp_path: Path) -> None:
    model = samlet.load(write_official("fastsam_s", tmp_path / "FastSAM-s.pt"))
    view = model.embed(sample("coffee"))
    boxes = np.array([[60, 40, 380, 280], [10, 10, 100, 100], [200, 100, 300, 250]])
    masks = model.segment(view, boxes=boxes)
    assert masks.masks.shape == (3, *view.frame.image_hw)


def test_convert_there_and_back_through_the_command_line(mobile_sam: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "m.safetensors", tmp_path / "m.pt"
    assert main(["convert", str(mobile_sam), str(there)]) == 0
    assert main(["convert", str(there), str(back), "--layout", "official"]) == 0
    before, after = (parse(path.read_bytes(), origin="x").arrays for path in (mobile_sam, back))
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


def test_the_random_file_has_the_official_names() -> None:
    names = arrays_of("mobile_sam")
    assert len(names) == 439
    assert sum(array.nbytes for array in names.values()) == 40_561_032
