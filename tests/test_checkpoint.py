"""Model files without torch: what is read, what it is called, which network it is, and how it is written."""

import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.assembly import torch_file, weights

from samlet.checkpoint import (
    LAYOUTS,
    Checkpoint,
    canonical,
    check_keys,
    halved,
    identify,
    parse,
    parse_metadata,
    to_pt,
    to_safetensors,
)
from samlet.errors import CheckpointError, InputError
from samlet.limits import ModelFileLimits

GOOD = torch_file(weights()).bytes()


def kinds() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "f4": rng.normal(size=(3, 4)).astype(np.float32),
        "f2": rng.normal(size=5).astype(np.float16),
        "f8": rng.normal(size=(2, 1)),
        "i8": np.arange(-3, 3),
        "i4": np.arange(3, dtype=np.int32),
        "i2": np.arange(3, dtype=np.int16),
        "i1": np.arange(-3, 3, dtype=np.int8),
        "u1": np.arange(3, dtype=np.uint8),
        "b1": np.array([[True], [False]]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "transposed": rng.normal(size=(3, 4)).astype(np.float32).T,
    }


@pytest.mark.parametrize("write", [to_safetensors, to_pt], ids=["safetensors", "pt"])
def test_what_is_written_is_read(write: Any) -> None:
    arrays = kinds()
    data = write(arrays)
    assert write(arrays) == data
    found = parse(data, origin="x").arrays
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        expected = array.astype(np.float32) if array.dtype.kind == "f" else array
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].flags.c_contiguous and found[name].flags.aligned


def test_safetensors_agrees_with_its_own_library() -> None:
    from safetensors.numpy import load, save

    arrays = {name: np.ascontiguousarray(array) for name, array in kinds().items()}
    theirs = load(to_safetensors(arrays, {"made": "here", "by": "ä"}))
    assert sorted(theirs) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(theirs[name], array)
    ours = parse(save(arrays, metadata={"made": "here"}), origin="x")
    assert (ours.form, ours.metadata) == ("safetensors", {"made": "here"})
    for name, array in arrays.items():
        np.testing.assert_allclose(ours.arrays[name], array, rtol=1e-6)


def test_bfloat16() -> None:
    """The upper halves of 1, -2 and infinity."""
    header = b'{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}'
    data = len(header).to_bytes(8, "little") + header + struct.pack("<3H", 0x3F80, 0xC000, 0x7F80)
    found = parse(data, origin="x").arrays["a"]
    assert (found.dtype, found.tolist()) == (np.float32, [1.0, -2.0, float("inf")])


def test_truth_values_are_zero_and_one() -> None:
    header = b'{"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}'
    found = parse(len(header).to_bytes(8, "little") + header + b"\0\1\7", origin="x").arrays["a"]
    assert found.tobytes() == b"\0\1\1"


def test_numbers_that_are_not_aligned_are_copied() -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   '
    for padding in range(4):
        text = header + b" " * padding
        data = len(text).to_bytes(8, "little") + text + struct.pack("<2f", 1, 2)
        found = parse(data, origin="x").arrays["a"]
        assert found.flags.aligned
        assert found.tolist() == [1, 2]


def test_metadata() -> None:
    data = to_safetensors({"a": np.ones(1, np.float32)}, {"card": "{}", "b": "c"})
    assert parse_metadata(data, origin="x") == parse(data, origin="x").metadata == {"b": "c", "card": "{}"}
    assert parse_metadata(to_safetensors({}), origin="x") == {}
    for other in (b"", b"\x80\x02.", GOOD, data[:20]):
        with pytest.raises(CheckpointError, match="in x, but it"):
            parse_metadata(other, origin="x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty; download it again"),
        (b"\x00", "neither a safetensors file nor one that torch wrote"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "pointer of Git LFS"),
        (b"\x1f\x8b\x08" + bytes(20), "compressed with gzip"),
        (bytes(257) + b"ustar" + bytes(300), "tar archive"),
        (b"\x80\x04N.", "a pickle, but not one that torch.save wrote"),
        (b"PK\x05\x06" + bytes(18), "empty zip archive"),
        (b"PK\x03\x04" + bytes(40), "does not end as one"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "neither a safetensors file"),
        (GOOD[:-1], "cut short or has a tail"),
        (GOOD[:200], "cut short or has a tail"),
    ],
)
def test_other_files(data: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=r"samlet can read in some/file\.pt, but ") as caught:
        parse(data, origin="some/file.pt")
    assert reason in str(caught.value)


def test_our_own_graphs_are_no_weights() -> None:
    graph = next((Path(sys.modules["samlet"].__path__[0]) / "graphs").glob("*.onnx"))
    with pytest.raises(CheckpointError, match="it is an ONNX graph"):
        parse(graph.read_bytes(), origin="x")


@pytest.mark.parametrize(
    "limit", ["max_bytes", "max_entries", "max_pickle_bytes", "max_opcodes", "max_tensors"]
)
def test_limits(limit: str) -> None:
    assert list(parse(GOOD, origin="x").arrays) == ["good"]
    with pytest.raises(CheckpointError):
        parse(GOOD, origin="x", limits=ModelFileLimits(**{limit: 0}))


def test_the_largest_published_layout_is_fast() -> None:
    """439 arrays of 40 MB, as mobile_sam.pt has them; measured as processor time, because machines are busy."""
    rng = np.random.default_rng(0)
    arrays = {f"image_encoder.block{index}.weight": rng.random(23_000, np.float32) for index in range(439)}
    data = to_pt(arrays)
    times = []
    for _ in range(5):
        start = time.process_time()
        found = parse(data, origin="x").arrays
        times.append(time.process_time() - start)
    assert len(found) == 439
    assert min(times) < 0.15


# Names


def named(*names: str) -> Checkpoint:
    return Checkpoint({name: np.full(1, i, np.float32) for i, name in enumerate(names)}, {}, "zip")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["image_encoder.a", "mask_decoder.b"], ["image_encoder.a", "mask_decoder.b"]),
        (["model/image_encoder.a"], ["image_encoder.a"]),
        (["state_dict/module.image_encoder.a"], ["image_encoder.a"]),
        (["module.model.0.conv.weight"], ["model.0.conv.weight"]),
        (["model/model.0.conv.weight"], ["model.0.conv.weight"]),
        (["PromtEncoder/a", "MaskDecoder/module.b"], ["prompt_encoder.a", "mask_decoder.b"]),
        (
            ["model/patch_embed.seq.0.c.weight", "model/layers.0.x", "model/head.bias"],
            [f"image_encoder.{name}" for name in ("patch_embed.seq.0.c.weight", "layers.0.x", "head.bias")],
        ),
        (
            ["pos_embed", "patch_embed.proj.weight"],
            ["image_encoder.pos_embed", "image_encoder.patch_embed.proj.weight"],
        ),
        (
            ["backbone.stages.0.op_list.0.conv.weight", "norm.bias"],
            ["image_encoder.backbone.stages.0.op_list.0.conv.weight", "image_encoder.norm.bias"],
        ),
        (
            [
                "image_encoder.l.attn.ab",
                "image_encoder.l.attn.attention_bias_idxs",
                "pixel_mean",
                "pixel_std",
                "x",
            ],
            ["x"],
        ),
        (
            ["encoder.a", "decoder.b", "slab", "pixel_means"],
            ["encoder.a", "decoder.b", "slab", "pixel_means"],
        ),
    ],
)
def test_canonical(names: list[str], expected: list[str]) -> None:
    found = canonical(named(*names), origin="x")
    assert list(found) == expected
    kept = [
        i for i, name in enumerate(names) if not name.endswith((".ab", "_idxs", "pixel_mean", "pixel_std"))
    ]
    assert [int(array[0]) for array in found.values()] == kept


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "module.a"], "a comes in two spellings"),
        (["model/a", "model/module.a"], "a comes in two spellings"),
        (["patch_embed.proj.weight", "image_encoder.patch_embed.proj.weight"], "two spellings"),
        (["model/a", "state_dict/a"], "expected one set of weights"),
        (["model/a", "b"], "expected one set of weights"),
        (["PromtEncoder/a"], "expected one set of weights"),
        (["net/a"], r"got \{'net': \.\.\.\}"),
    ],
)
def test_ambiguous_names(names: list[str], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        canonical(named(*names), origin="x")


# Which network


def zeros(**shapes: Any) -> dict[str, Any]:
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


def tiny_vit(widths: tuple[int, ...]) -> dict[str, Any]:
    arrays = {"image_encoder.patch_embed.seq.0.c.weight": np.zeros((2, 3))}
    arrays["image_encoder.patch_embed.seq.2.c.weight"] = np.zeros((widths[0], 3))
    for stage, width in enumerate(widths[1:]):
        arrays[f"image_encoder.layers.{stage}.downsample.conv1.c.weight"] = np.zeros((width, 3))
    return arrays


def efficientvit(depth: int) -> dict[str, Any]:
    names = [f"neck.middle.op_list.{i}.main.point_conv.conv.weight" for i in range(depth)]
    names.append("backbone.stages.0.op_list.0.conv.weight")
    return {f"image_encoder.{name}": np.zeros(1) for name in names}


def detector(width: int, reg_max: int, *, protos: bool, bins: int | None = None) -> dict[str, Any]:
    arrays = {"model.0.conv.weight": np.zeros((width, 3, 3, 3))}
    arrays |= {f"model.22.cv2.{level}.2.weight": np.zeros((4 * reg_max, 8, 1, 1)) for level in range(3)}
    arrays["model.22.dfl.conv.weight"] = np.zeros((1, bins or reg_max, 1, 1))
    return arrays | ({"model.22.proto.cv1.conv.weight": np.zeros(1)} if protos else {})


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (tiny_vit((64, 128, 160, 320)), ("tiny_vit_5m", False, None)),
        (tiny_vit((64, 128, 256, 448)), ("tiny_vit_11m", False, None)),
        (tiny_vit((96, 192, 384, 576)), ("tiny_vit_21m", False, None)),
        (tiny_vit((8, 16, 24, 32)), (None, False, None)),
        (tiny_vit((64,)), (None, False, None)),
        (zeros(image_encoder__pos_embed=(1, 2, 2, 768), mask_decoder__x=1), ("vit_b", True, None)),
        (zeros(image_encoder__pos_embed=(1, 2, 2, 1024)), ("vit_l", False, None)),
        (zeros(image_encoder__pos_embed=(1, 2, 2, 1280)), ("vit_h", False, None)),
        (zeros(image_encoder__pos_embed=()), (None, False, None)),
        (efficientvit(4), ("efficientvit_l0", False, None)),
        (efficientvit(8), ("efficientvit_l1", False, None)),
        (efficientvit(12), ("efficientvit_l2", False, None)),
        (efficientvit(5), (None, False, None)),
        (detector(32, 16, protos=True), ("yolo_seg_s", False, 16)),
        (detector(80, 26, protos=True), ("yolo_seg_x", False, 26)),
        (detector(80, 26, protos=False), ("object_aware_x", False, 26)),
        (detector(32, 16, protos=False), (None, False, 16)),
        (detector(80, 26, protos=True, bins=16), ("yolo_seg_x", False, None)),
        (zeros(prompt_encoder__x=1, mask_decoder__y=1), (None, True, None)),
        (zeros(encoder__x=1, decoder__y=1), (None, False, None)),
        ({}, (None, False, None)),
    ],
)
def test_identify(arrays: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert identify(arrays) == expected


# Strictness


def test_check_keys() -> None:
    expected = {"a": (2, 3), "b": (), "c": (1,)}
    arrays = zeros(a=(2, 3), b=(), c=(1,))
    check_keys(arrays, expected, origin="x")
    del arrays["c"]
    check_keys(arrays, expected, optional={"c"}, origin="x")
    with pytest.raises(
        CheckpointError, match=r"the 3 weights of the network in x, got 2 arrays \(missing 1: c\)"
    ):
        check_keys(arrays, expected, origin="x")
    arrays |= zeros(b=(1,), z=1, **{f"y{i}": 1 for i in range(9)})
    with pytest.raises(CheckpointError) as caught:
        check_keys(arrays, expected, origin="x")
    text = str(caught.value)
    assert "missing 1: c;" in text
    assert "unexpected 10: z, y0, y1, y2 and 6 more;" in text
    assert "of another shape 1: b 1 instead of scalar)" in text


# Layouts


SAM = {
    "image_encoder.patch_embed.seq.0.c.weight": np.ones(1, np.float32),
    "prompt_encoder.x": np.ones(2, np.float32),
    "mask_decoder.y": np.ones(3, np.float32),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_come_back(layout: str) -> None:
    found = canonical(parse(to_pt(SAM, layout), origin="x"), origin="x")
    kept = {
        name
        for name in SAM
        if layout in ("official", "model", "state_dict")
        or (layout == "encoder") is name.startswith("image_encoder.")
    }
    assert set(found) == kept
    for name in kept:
        np.testing.assert_array_equal(found[name], SAM[name])


def test_the_published_layouts() -> None:
    decoder = {name: array for name, array in SAM.items() if not name.startswith("image")}
    assert set(parse(to_pt(decoder), origin="x").arrays) == {"PromtEncoder/x", "MaskDecoder/y"}
    assert all(name.startswith("state_dict/") for name in parse(to_pt(efficientvit(4)), origin="x").arrays)
    tiny = to_pt(tiny_vit((64, 128, 160, 320)), "encoder")
    assert "model/patch_embed.seq.0.c.weight" in parse(tiny, origin="x").arrays
    sam = {
        "image_encoder.pos_embed": np.zeros((1, 2, 2, 768)),
        "image_encoder.patch_embed.proj.weight": np.ones(1),
    }
    assert set(parse(to_pt(sam, "encoder"), origin="x").arrays) == {"pos_embed", "patch_embed.proj.weight"}


def test_layouts_that_do_not_fit() -> None:
    for layout in ("encoder", "v2-decoder"):
        with pytest.raises(InputError, match="choose another layout"):
            to_pt({"model.0.conv.weight": np.ones(1)}, layout)
    with pytest.raises(InputError, match="expected a layout"):
        to_pt(SAM, "tar")
    with pytest.raises(InputError, match="expected numbers in a"):
        to_pt({"a": np.array(["x"])})


def test_halved() -> None:
    arrays = {"a": np.array([1.5, np.inf], np.float32), "n": np.array([70_000])}
    found = halved(arrays)
    assert (found["a"].dtype, found["n"].dtype) == (np.float16, np.int64)
    with pytest.raises(InputError, match="b goes beyond 65,504"):
        halved({"b": np.array([1e6], np.float32)})
