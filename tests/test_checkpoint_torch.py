"""What torch itself writes is read number for number, in both of its forms, and torch reads what we write."""

import collections
import io
import json
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import numpy as np
from torch import nn

from samlet.checkpoint import LAYOUTS, canonical, identify, parse, to_pt
from samlet.checkpoint.tree import NESTED
from samlet.errors import CheckpointError

FORMS: dict[str, dict[str, Any]] = {
    "zip": {},
    "zip-4": {"pickle_protocol": 4},
    "zip-5": {"pickle_protocol": 5},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy-4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def saved(value: Any, form: str = "zip") -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **FORMS[form])
    return stream.getvalue()


def assert_same(array: np.ndarray, tensor: Any) -> None:
    """Compare bit for bit; floating numbers as float32."""
    expected = tensor.detach()
    expected = expected.float() if expected.is_floating_point() else expected
    assert array.shape == tuple(expected.shape)
    assert array.flags.c_contiguous and array.flags.aligned
    assert array.dtype == expected.numpy().dtype
    assert array.tobytes() == expected.contiguous().numpy().tobytes()


def kinds() -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "double": torch.randn(2, 3).double(),
        "beyond": torch.tensor([1e300, float("nan"), -float("inf")]).double(),
        "long": torch.arange(-2, 3),
        "int": torch.arange(4).int(),
        "short": torch.arange(3).short(),
        "char": torch.arange(-3, 3).char(),
        "byte": torch.arange(3).byte(),
        "bool": torch.tensor([[True, False], [False, False]]),
        "scalar": torch.tensor(3),
        "half scalar": torch.tensor(0.5).half(),
        "truth": torch.tensor(True),
        "empty": torch.zeros(0, 4),
        "parameter": nn.Parameter(torch.randn(2)),
        "transposed": torch.randn(6, 5).t(),
        "transposed half": torch.randn(6, 5).half().t(),
        "window": torch.randn(4, 4)[1:3, 1:],
        "every other": torch.randn(9)[1::2],
        "channels last": torch.randn(1, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }


def test_every_kind_and_layout(form: str) -> None:
    tensors = kinds()
    found = parse(saved(collections.OrderedDict(tensors), form), origin="x")
    assert found.form == form.partition("-")[0]
    assert list(found.arrays) == list(tensors)
    for name, tensor in tensors.items():
        assert_same(found.arrays[name], tensor)


def test_shared_storages(form: str) -> None:
    flat = torch.randn(12)
    tensors = {"all": flat, "head": flat[:4].view(2, 2), "tail": flat[8:], "again": flat}
    found = parse(saved(tensors, form), origin="x").arrays
    for name, tensor in tensors.items():
        assert_same(found[name], tensor)


def test_arrays_are_views_of_the_file() -> None:
    """Nothing is copied that need not be: a network of 2.6 GB is in memory once."""
    data = saved({"a": torch.randn(1000), "n": torch.arange(5)})
    whole = np.frombuffer(data, np.uint8)
    for array in parse(data, origin="x").arrays.values():
        assert np.shares_memory(array, whole)
        assert not array.flags.writeable


def test_wrappers_and_what_stands_beside(form: str) -> None:
    weights = {"a.weight": torch.randn(2), "a.bias": torch.randn(1)}
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]}
    extra = {"epoch": 3, "date": "today", "optimizer": optimizer, "scheduler": None, "best": 0.5}
    found = parse(saved({"model": weights, **extra}, form), origin="x")
    assert list(found.arrays) == [f"model{NESTED}a.weight", f"model{NESTED}a.bias"]
    assert found.metadata == {"epoch": "3", "date": '"today"', "best": "0.5"}
    assert list(canonical(found, origin="x")) == list(weights)


def test_a_state_dict_as_modules_give_it(form: str) -> None:
    """It carries version numbers as an attribute of its OrderedDict."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    found = parse(saved(net.state_dict(), form), origin="x").arrays
    assert list(found) == list(net.state_dict())
    for name, tensor in net.state_dict().items():
        assert_same(found[name], tensor)


def test_numpy_scalars_beside_the_weights(form: str) -> None:
    found = parse(saved({"a": torch.ones(1), "best_fitness": np.float64(0.25)}, form), origin="x")
    assert found.metadata == {"best_fitness": "0.25"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": torch.ones(2, 3).expand(4, 2, 3)}, "claims more numbers than its storage holds"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "torch.ComplexFloatStorage"),
        ({"a": torch.ones(2).to_sparse()}, "_rebuild_sparse_tensor"),
        ([torch.ones(2)], "no dict of tensors"),
        (torch.ones(2), "no dict of tensors"),
        ({"a": 1}, "no tensors by name"),
        ({"a/b": torch.ones(2)}, "name that no network uses"),
        ({1: torch.ones(2)}, "name that no network uses"),
        ({"a": torch.ones(1), "b": {3, 2.5}}, "a key of type float"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_network_has(value: Any, reason: str, form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(value, form)
    with pytest.raises(CheckpointError, match=reason):
        parse(data, origin="x")


# Whole detectors, pickled with their classes

CLASSES = {
    "ultralytics.nn.tasks": ("SegmentationModel",),
    "ultralytics.nn.modules.conv": ("Conv",),
    "ultralytics.nn.modules.head": ("Segment", "Detect"),
    "ultralytics.yolo.utils": (),
    "ultralytics.yolo.utils.loss": ("Loss",),
}


@pytest.fixture
def ultralytics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Give a function that builds a detector of classes of another library; afterwards they are gone."""
    modules = {"ultralytics": types.ModuleType("ultralytics")}
    for path, names in CLASSES.items():
        for parent in range(1, path.count(".") + 1):
            name = path.rsplit(".", parent)[0]
            modules.setdefault(name, types.ModuleType(name))
        modules[path] = types.ModuleType(path)
        for name in names:
            body = {"__module__": path, "__qualname__": name, "forward": _method(path, name)}
            setattr(modules[path], name, type(name, (nn.Module,), body))
    body = {"__module__": "ultralytics.yolo.utils", "__qualname__": "IterableSimpleNamespace"}
    space: Any = type("IterableSimpleNamespace", (types.SimpleNamespace,), body)
    modules["ultralytics.yolo.utils"].IterableSimpleNamespace = space  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the legacy form looks for the source code of classes
        yield lambda: _detector(modules, space)


def _method(path: str, name: str) -> Callable[..., None]:
    def forward(self: Any) -> None:
        raise AssertionError("nothing of a file may run")

    forward.__module__, forward.__qualname__ = path, f"{name}.forward"
    return forward


def _detector(modules: dict[str, Any], space: Any) -> Any:
    torch.manual_seed(5)

    def conv(c_in: int, c_out: int, kernel: int) -> Any:
        made = modules["ultralytics.nn.modules.conv"].Conv()
        made.conv, made.bn = nn.Conv2d(c_in, c_out, kernel, bias=False), nn.BatchNorm2d(c_out, eps=1e-3)
        made.act = nn.SiLU(inplace=True)
        return made

    head = modules["ultralytics.nn.modules.head"].Segment()
    head.nc, head.reg_max, head.nm = 1, 16, 32
    head.cv2 = nn.ModuleList(
        nn.Sequential(conv(8, 8, 3), conv(8, 8, 3), nn.Conv2d(8, 64, 1)) for _ in range(3)
    )
    head.dfl = nn.Module()
    head.dfl.conv = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
    head.proto = nn.Module()
    head.proto.upsample = nn.ConvTranspose2d(8, 8, 2, 2)
    head.anchors = torch.empty(0)
    head.detect = modules["ultralytics.nn.modules.head"].Detect.forward
    model = modules["ultralytics.nn.tasks"].SegmentationModel()
    model.model = nn.Sequential(
        conv(3, 32, 3), nn.Upsample(scale_factor=2), *(nn.Identity() for _ in range(20))
    )
    model.model.add_module("22", head)
    model.yaml = {"nc": 1, "backbone": [[-1, 1, "Conv", [64, 3, 2]]], "path": Path("/home/me/x.yaml")}
    model.names = {0: "object"}
    model.stride = torch.tensor([8.0, 16.0, 32.0])
    model.args = space(task="segment", device=torch.device("cpu"), amp=True, kind=torch.float16)
    model.criterion = modules["ultralytics.yolo.utils.loss"].Loss()
    model.criterion.hyp, model.criterion.range = model.args, slice(0, 3)
    model.register_buffer("cache", torch.ones(3), persistent=False)
    return model.half()


@pytest.mark.parametrize("place", ["model", "ema", "alone"])
def test_a_pickled_detector(ultralytics: Callable[[], Any], form: str, place: str, monkeypatch: Any) -> None:
    model = ultralytics()
    parts = {"epoch": -1, "best_fitness": None, "model": model, "ema": None, "train_args": {"lr": 0.01}}
    if place == "ema":
        parts |= {"ema": model, "model": nn.Linear(1, 1)}
    data = saved(model if place == "alone" else parts, form)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    found = parse(data, origin="x")
    state = model.state_dict()
    assert list(found.arrays) == list(state)
    for name, tensor in state.items():
        assert_same(found.arrays[name], tensor)
    facts = {name: json.loads(text) for name, text in found.metadata.items()}
    assert facts["names"] == {"0": "object"}
    assert (facts["nc"], facts["reg_max"], facts["stride"]) == (1, 16, [8.0, 16.0, 32.0])
    assert facts["yaml"] == {**model.yaml, "path": "/home/me/x.yaml"}
    assert ("epoch" in facts) is (place != "alone")
    assert identify(canonical(found, origin="x")) == ("yolo_seg_s", False, 16)
    assert not [name for name in sys.modules if name.startswith("ultralytics")]


def test_a_fused_detector(ultralytics: Callable[[], Any]) -> None:
    """Exports have their norms folded: convolutions with a bias and no norm."""
    model = ultralytics()
    first = model.model[0]
    first.conv = nn.utils.fuse_conv_bn_eval(first.conv.float().eval(), first.bn.float().eval()).half()
    del first.bn
    found = parse(saved({"model": model}), origin="x").arrays
    assert [name for name in found if name.startswith("model.0.")] == [
        "model.0.conv.weight",
        "model.0.conv.bias",
    ]


# What we write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_reads_what_we_write(layout: str, tmp_path: Path) -> None:
    tensors = {
        "image_encoder.patch_embed.seq.0.c.weight": torch.randn(2, 3, 1, 1),
        "image_encoder.n": torch.tensor(7),
        "prompt_encoder.x": torch.randn(3).half(),
        "prompt_encoder.t": torch.tensor([True, False]),
        "mask_decoder.y": torch.randn(2, 2),
        "mask_decoder.empty": torch.zeros(0, 3),
    }
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    path = tmp_path / "x.pt"
    path.write_bytes(to_pt(arrays, layout))
    for mapped in (False, True):
        tree = torch.load(path, weights_only=True, mmap=mapped)
        ours = parse(path.read_bytes(), origin="x").arrays
        theirs = {
            (f"{key}{NESTED}{inner}" if inner else key): tensor
            for key, value in tree.items()
            for inner, tensor in (value.items() if isinstance(value, dict) else [("", value)])
        }
        assert list(theirs) == list(ours)
        for name, tensor in theirs.items():
            assert_same(ours[name], tensor)
            kept = [n for n in tensors if n.endswith(name.rpartition(NESTED)[2])]
            assert any(torch.equal(tensors[n], tensor) and tensors[n].dtype == tensor.dtype for n in kept)
