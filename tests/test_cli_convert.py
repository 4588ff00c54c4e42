"""`samlet convert`: official files to safetensors and back, what it says, and what it refuses."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks import ATTACKS, CANARY
from attacks.assembly import START, STOP, name, tensor, text, torch_file

from samlet.checkpoint import LAYOUTS, parse, to_pt, to_safetensors
from samlet.cli import convert
from samlet.cli.output import one_line
from samlet.errors import SamletError

Run = Callable[..., tuple[int, str, str]]

SAM = {
    "image_encoder.pos_embed": np.full((1, 2, 2, 768), 0.1, np.float32),
    "image_encoder.patch_embed.proj.weight": np.ones((3, 3), np.float32),
    "image_encoder.n": np.array(3),
    "prompt_encoder.x": np.ones(2, np.float32),
    "mask_decoder.y": np.ones(3, np.float32),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command alone, in an empty folder; the main parser turns errors into exit codes as here."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser(exit_on_error=False)
        convert.add_parser(parser.add_subparsers())
        try:
            args = parser.parse_args(["convert", *words])
            code = args.run(args)
        except SamletError as error:
            code = error.exit_code
            print(one_line(str(error)), file=sys.stderr)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def arrays_of(path: str) -> dict[str, Any]:
    return parse(Path(path).read_bytes(), origin=path).arrays


def same(found: dict[str, Any], expected: dict[str, Any], **tolerance: float) -> None:
    assert set(found) == set(expected)
    for name_, array in expected.items():
        np.testing.assert_allclose(found[name_], array, **tolerance)
        assert found[name_].dtype == array.dtype


def test_there_and_back(run: Run) -> None:
    official = to_pt(SAM)
    Path("sam.pth").write_bytes(official)
    code, out, err = run("sam.pth", "sam.safetensors")
    assert (code, err) == (0, "")
    assert out == (
        "sam.pth: vit_b and SAM's decoder, 5 arrays, 12,352 bytes as float32 -> sam.safetensors, "
        f"{Path('sam.safetensors').stat().st_size:,} bytes\n"
    )
    same(arrays_of("sam.safetensors"), SAM)
    assert run("sam.safetensors", "back.pt")[0] == 0
    same(arrays_of("back.pt"), SAM)
    assert run("back.pt", "sam.safetensors")[0] == 0  # replaces the first
    same(arrays_of("sam.safetensors"), SAM)
    assert sorted(path.name for path in Path().iterdir()) == ["back.pt", "sam.pth", "sam.safetensors"]


def test_the_name_of_the_source_does_not_matter(run: Run) -> None:
    Path("sam.bin").write_bytes(to_safetensors(SAM))
    assert run("sam.bin", "sam.PT")[0] == 0
    assert parse(Path("sam.PT").read_bytes(), origin="x").form == "zip"


@pytest.mark.parametrize(
    ("layout", "first"),
    [
        ("official", "image_encoder.pos_embed"),
        ("encoder", "pos_embed"),
        ("v2-decoder", "PromtEncoder/x"),
        ("model", "model/image_encoder.pos_embed"),
        ("state_dict", "state_dict/image_encoder.pos_embed"),
    ],
)
def test_layouts(run: Run, layout: str, first: str) -> None:
    Path("sam.safetensors").write_bytes(to_safetensors(SAM))
    code, _, err = run("sam.safetensors", "sam.pt", "--layout", layout)
    assert (code, err) == (0, "")
    assert first in arrays_of("sam.pt")


def test_the_layouts_are_those_of_the_writer() -> None:
    assert tuple(LAYOUTS) == convert._LAYOUTS


def test_half(run: Run) -> None:
    Path("sam.pt").write_bytes(to_pt(SAM))
    assert run("sam.pt", "half.safetensors", "--half")[0] == 0
    assert run("sam.pt", "half.pt", "--half")[0] == 0
    for path in ("half.safetensors", "half.pt"):
        assert Path(path).stat().st_size < 0.65 * Path("sam.pt").stat().st_size
        same(arrays_of(path), SAM, rtol=1e-3)
    Path("big.pt").write_bytes(to_pt({**SAM, "mask_decoder.y": np.full(1, 1e6, np.float32)}))
    code, out, err = run("big.pt", "no.pt", "--half")
    assert (code, out) == (2, "")
    assert "mask_decoder.y goes beyond 65,504; convert without --half" in err
    assert not Path("no.pt").exists()


def test_a_pickled_detector(run: Run) -> None:
    def module(*parts: tuple[str, bytes], names: bytes = b"") -> bytes:
        children = b"".join(text(child) + made for child, made in parts)
        made = name("ultralytics.nn.tasks", "SegmentationModel") + b")\x81}("
        return made + text("_modules") + b"}(" + children + b"u" + names + b"ub"

    def leaf(size: tuple[int, ...]) -> bytes:
        made = name("torch.nn.modules.conv", "Conv2d") + b")\x81}" + text("_parameters") + b"}"
        strides = (1,) * len(size)
        return made + text("weight") + tensor(size=size, stride=strides) + b"ssb"

    head = module(("dfl", module(("conv", leaf((1, 4, 1, 1))))))
    layers = module(("0", module(("conv", leaf((1, 3, 1, 1))))), ("22", head))
    facts = text("names") + b"}K\x00" + text("object") + b"s"
    tree = START + b"}" + text("model") + module(("model", layers), names=facts) + b"s" + STOP
    Path("FastSAM.pt").write_bytes(torch_file(tree).bytes())
    code, out, err = run("FastSAM.pt", "fast.safetensors")
    assert (code, err) == (0, "")
    assert out.startswith("FastSAM.pt: a network that samlet has no name for")
    found = parse(Path("fast.safetensors").read_bytes(), origin="x")
    assert set(found.arrays) == {"model.0.conv.weight", "model.22.dfl.conv.weight"}
    assert found.metadata == {"names": '{"0": "object"}'}
    code, _, err = run("fast.safetensors", "fast.pt")
    assert code == 0
    assert err == "samlet: note: a .pt file has no place for the metadata (names)\n"
    assert set(arrays_of("fast.pt")) == set(found.arrays)


def test_a_detector_says_that_it_is_no_module(run: Run) -> None:
    arrays = {f"model.22.cv2.{level}.2.weight": np.ones((64, 1), np.float32) for level in range(3)}
    arrays["model.22.dfl.conv.weight"] = np.ones((1, 16, 1, 1), np.float32)
    arrays["model.22.proto.cv1.conv.weight"] = np.ones(1, np.float32)
    arrays["model.0.conv.weight"] = np.ones((32, 3, 3, 3), np.float32)
    Path("fast.safetensors").write_bytes(to_safetensors(arrays))
    code, out, err = run("fast.safetensors", "fast.pt")
    assert code == 0
    assert "yolo_seg_s (reg_max 16), 6 arrays" in out
    assert err == "samlet: note: this .pt file is a plain state dict, not a pickled module\n"


def test_bad_words(run: Run) -> None:
    Path("sam.pt").write_bytes(to_pt(SAM))
    for words, code, sentence in (
        (("sam.pt", "sam.onnx"), 2, "ends with .safetensors, .pt or .pth, got 'sam.onnx'"),
        (("sam.pt", "sam"), 2, "ends with .safetensors"),
        (("sam.pt", "./sam.pt"), 2, "expected two files, got 'sam.pt' twice"),
        (("sam.pt", "x.safetensors", "--layout", "model"), 2, "a .pt or .pth file for --layout"),
        (("none.pt", "x.pt"), 3, "cannot be read (No such file or directory)"),
        (("a\0b", "x.pt"), 3, "cannot be read"),
        ((".", "x.pt"), 3, "cannot be read"),
        (("sam.pt", "nowhere/x.pt"), 7, "its folder does not exist"),
    ):
        found, out, err = run(*words)
        assert (found, out) == (code, ""), words
        assert sentence in err
    assert sorted(path.name for path in Path().iterdir()) == ["sam.pt"]


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.fires], ids=lambda each: each.name)
def test_hostile_files(run: Run, attack: Any) -> None:
    Path("model.pt").write_bytes(attack.make())
    code, out, err = run("model.pt", "model.safetensors")
    assert (code, out) == (3, "")
    assert attack.reason in err
    assert [path.name for path in Path().iterdir()] == ["model.pt"]
    assert not Path(CANARY).exists()


def test_the_command_imports_late() -> None:
    """Help must not wait for numpy."""
    code = (
        "import sys; import samlet.cli.convert; "
        "print({'numpy', 'torch', 'onnxruntime', 'safetensors', 'pickle'} & set(sys.modules))"
    )
    paths = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
