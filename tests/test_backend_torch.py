"""PyTorch in low precision, compiled and in batches: on the CPU, where a GPU's mistakes would show too."""

import importlib.util

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import torch

import samlet
from samlet import backends
from samlet.backends.torch import TorchBackend
from samlet.errors import BackendError, InputError
from samlet.geometry import mask_iou
from samlet.nets.layers import attend
from tests.random_weights import write_official

BOX = {"boxes": [60, 40, 380, 280]}


@pytest.fixture(scope="module")
def photos(sample):
    return [sample(name) for name in ("coffee", "chelsea", "astronaut")]


@pytest.fixture(scope="module")
def plain():
    return samlet.load(backend="torch")


def test_bfloat16_gives_nearly_the_same_masks(plain, photos):
    low = samlet.load(backend="torch:bf16")
    for photo in photos:
        views = [model.embed(photo) for model in (plain, low)]
        wanted, got = (view.arrays["image_embeddings"] for view in views)
        assert got.dtype == np.float32
        assert np.isfinite(got).all()
        assert 0 < np.abs(wanted - got).mean() <= 0.02 * wanted.std()
        masks = [model.segment(view, **BOX) for model, view in zip((plain, low), views, strict=True)]
        assert masks[1].logits.dtype == masks[1].scores.dtype == np.float32
        assert mask_iou(masks[0].masks[0], masks[1].masks[0]) >= 0.95


def test_tiny_vit_stays_finite_and_close_in_bfloat16(tmp_path, photos):
    """Random weights: what is compared is arithmetic, not quality."""
    path = write_official("mobile_sam", tmp_path / "mobile_sam.pt")
    wanted, got = (
        samlet.load(path, backend=backend, shape="fit").embed(photos[0]).arrays["image_embeddings"]
        for backend in ("torch", "torch:bf16")
    )
    assert np.isfinite(got).all()
    assert np.abs(wanted - got).mean() <= 0.05 * wanted.std()


def test_what_leaves_the_range_is_said(monkeypatch):
    model = samlet.load(backend="torch:bf16")
    graph = model.session._encoder
    monkeypatch.setattr(graph, "_module", lambda image: image * float("inf"))
    with pytest.raises(BackendError, match=r"left the range of torch\.bfloat16; use bf16 or f32"):
        graph.run({"image": np.ones((1, 3, 32, 32), np.float32)})


def test_many_pictures_at_once(plain, photos, monkeypatch):
    """Pictures of one size share a call; answers are those of single calls, in order."""
    pictures = [photos[0], photos[1], photos[0], photos[2], photos[0]]
    wanted = {photo: plain.embed(photo).arrays["image_embeddings"] for photo in photos}
    graph = plain.session._encoder
    sizes = []
    run = type(graph).run

    def counted(self, feeds):
        sizes.extend(len(array) for name, array in feeds.items() if name == "image")
        return run(self, feeds)

    monkeypatch.setattr(type(graph), "run", counted)
    found = plain.embed_many(pictures, at_once=2)
    assert sorted(sizes) == [1, 2, 2]  # two of them share a canvas
    for photo, view in zip(pictures, found, strict=True):
        np.testing.assert_allclose(
            view.arrays["image_embeddings"], wanted[photo], atol=1e-4 * wanted[photo].std()
        )
        assert view.image.source == str(photo)
        assert plain.segment(view, **BOX).masks.shape[1:] == view.frame.image_hw
    sizes.clear()
    plain.embed_many(pictures, at_once=1)
    assert sizes == [1] * 5
    with pytest.raises(InputError, match="at_once of at least 1"):
        plain.embed_many(pictures, at_once=0)


def test_the_fused_attention_is_the_plain_one():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(3))
    bias = torch.randn(3, 5, 5, generator=generator)
    wanted = (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v, bias), wanted, rtol=1e-5, atol=1e-5)


def test_a_compiled_network_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda module: asked.append(module) or module)
    samlet.load(backend="torch:compile")
    assert len(asked) == 3  # encoder, decoder, objects


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch:cpu,meta2", "expected one device"),
        ("torch:f16,bf16", "expected one device, one precision"),
        ("torch:nowhere", "expected a device that PyTorch has here, got 'nowhere'"),
    ],
)
def test_wrong_options(name, message):
    with pytest.raises(BackendError, match=message):
        backends.create(name)
    with pytest.raises(BackendError, match="expected a precision"):
        TorchBackend(precision="f64")
