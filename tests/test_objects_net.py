"""The object head: decoding by hand, shapes, the exported graph equal to the network, and nano otherwise as it was."""

import hashlib
import importlib.util

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None or importlib.util.find_spec("cv2") is None:
    pytest.skip("needs torch and OpenCV (samlet[train])", allow_module_level=True)

import torch

import samlet
from samlet import checkpoint, registry, store
from samlet.backends.base import GraphFile
from samlet.backends.onnx import OnnxBackend
from samlet.backends.torch import TorchBackend
from samlet.geometry import box_iou
from samlet.nets.nano import pack
from samlet.nets.objects import STRIDES, ObjectHead, centres, decode

# The published nano 0.1 without its object head: names, shapes and bytes, in the order of the names.
REST = "98cb8e7a0abdb5b1196028d7d4b70f42b8b9dade292f25455af28c32689e449b"


def test_decoding_by_hand():
    assert centres(2, 3, 8, torch.zeros(())).tolist() == [
        [4, 4],
        [12, 4],
        [20, 4],
        [4, 12],
        [12, 12],
        [20, 12],
    ]
    answer = torch.zeros(1, 6, 2, 3)
    answer[0, :4, 1, 2] = torch.tensor([2.0, 0.5, 1.0, 4.0]).log()
    boxes = decode(answer, 8)
    assert boxes.shape == (1, 6, 4)
    assert torch.allclose(boxes[0, 0], torch.tensor([-4.0, -4.0, 12.0, 12.0]))
    assert torch.allclose(boxes[0, 5], torch.tensor([20 - 16.0, 12 - 4.0, 20 + 8.0, 12 + 32.0]))


def test_answers_lie_on_the_canvas_in_the_order_of_the_grids():
    torch.manual_seed(0)
    head = ObjectHead().eval()
    tokens, eight, four = torch.randn(2, 256, 4, 6), torch.randn(2, 64, 8, 12), torch.randn(2, 32, 16, 24)
    with torch.no_grad():
        boxes, scores = head(pack(tokens, eight, four))
        direct, _ = head.propose(tokens, eight)
        levels = head.levels(tokens, eight)
    count = sum(64 * 96 // s**2 for s in STRIDES)
    assert boxes.shape == (2, count, 4) and scores.shape == (2, count)
    assert torch.equal(boxes, direct)  # the stride-4 detail is not read
    assert boxes.min() >= 0 and boxes[..., 0::2].max() <= 96 and boxes[..., 1::2].max() <= 64
    assert 0 < scores.min() and scores.max() < 1
    assert [tuple(a.shape) for a in levels] == [(2, 6, 8, 12), (2, 6, 4, 6), (2, 6, 2, 3)]
    parameters = sum(p.numel() for p in head.parameters())
    assert parameters < 1_200_000


def graph_file():
    onnx, description = store.read_graph("nano_objects.onnx")
    return GraphFile.parse("nano_objects", onnx, description)


@pytest.mark.parametrize("hw", [(4, 4), (48, 64), (12, 8)])
def test_the_graph_answers_as_the_network_does(hw):
    torch.manual_seed(1)
    network = ObjectHead().eval()
    weights = {f"objects.{k}": v.numpy() for k, v in network.state_dict().items()}
    feeds = {"image_embeddings": np.random.default_rng(0).normal(size=(1, 256, *hw)).astype(np.float32)}
    file = graph_file()
    by_onnx = OnnxBackend().open("objects", file, weights=weights).run(feeds)
    by_torch = TorchBackend().open("objects", file, weights=weights).run(feeds)
    assert by_onnx["boxes"].shape == by_torch["boxes"].shape
    assert np.abs(by_onnx["boxes"] - by_torch["boxes"]).max() < 1e-2
    assert np.abs(by_onnx["scores"] - by_torch["scores"]).max() < 1e-5


def test_the_rest_of_nano_is_what_it_was():
    (file,) = registry.resolve("nano").files
    arrays = checkpoint.parse(store.read_verified(file), origin="nano").arrays
    digest = hashlib.sha256()
    for name in sorted(name for name in arrays if not name.startswith("objects.")):
        half = np.ascontiguousarray(arrays[name], np.float16)
        digest.update(f"{name} {half.shape}".encode() + half.tobytes())
    assert digest.hexdigest() == REST
    assert any(name.startswith("objects.") for name in arrays)


@pytest.mark.parametrize(
    ("name", "box"),
    [("coffee", (173, 18, 403, 232)), ("astronaut", (283, 343, 490, 512)), ("chelsea", (0, 0, 400, 300))],
)
def test_the_shipped_head_finds_what_one_sees_first(sample, name, box):
    """Boxes of the cup, the helmet and the cat, drawn by hand."""
    model = samlet.load()
    boxes, scores = model.session.objects(model.embed(sample(name)), at_most=10)
    assert len(boxes) == 10 and (np.diff(scores) <= 0).all()
    assert box_iou(boxes, [box]).max() > 0.75
