"""OpenVINO beside ONNX Runtime on the built-in weights, and what happens to what it keeps on disk."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samlet import backends
from samlet.errors import BackendError, MissingExtraError, ModelError, OutputError

pytestmark = pytest.mark.openvino
if importlib.util.find_spec("openvino") is None:
    pytest.skip("needs openvino", allow_module_level=True)

import samlet
from samlet import packed, registry
from samlet.backends.openvino import OpenVinoBackend
from samlet.geometry import mask_iou

PROMPTS = {
    "one click": {"points": [220, 150]},
    "clicks, one of them background": {"points": [[220, 150], [20, 20]], "labels": [1, 0]},
    "boxes": {"boxes": [[60, 40, 380, 280], [10, 10, 200, 200]]},
    "click and box, three candidates": {
        "points": [[[220, 150]]],
        "boxes": [[60, 40, 380, 280]],
        "multimask": True,
    },
}


@pytest.fixture(scope="module")
def models():
    return samlet.load(threads=1), samlet.load(backend="openvino", threads=1)


@pytest.fixture(scope="module", params=["coffee", "astronaut"])
def views(request, models, sample):
    return [model.embed(sample(request.param)) for model in models]


def test_embeddings_agree(views):
    onnx, openvino = (view.arrays["image_embeddings"] for view in views)
    assert np.abs(onnx - openvino).max() <= 1e-4 * onnx.std()


@pytest.mark.parametrize("kind", PROMPTS)
def test_masks_agree(models, views, kind):
    onnx, openvino = (m.segment(v, **PROMPTS[kind]) for m, v in zip(models, views, strict=True))
    assert np.abs(onnx.logits - openvino.logits).max() <= 1e-3
    assert np.abs(onnx.scores - openvino.scores).max() <= 1e-3
    shape = onnx.masks.shape[-2:]
    for a, b in zip(onnx.masks.reshape(-1, *shape), openvino.masks.reshape(-1, *shape), strict=True):
        assert mask_iou(a, b) >= 0.999


def test_objects_agree(models, views):
    (boxes, scores), (others, more) = (
        m.session.objects(v, at_most=20) for m, v in zip(models, views, strict=True)
    )
    np.testing.assert_allclose(boxes, others, atol=0.05)
    np.testing.assert_allclose(scores, more, atol=1e-3)


def test_bfloat16_is_close(models, views, sample):
    view = samlet.load(backend="openvino:bf16", threads=1).embed(views[0].image)
    wanted, got = (v.arrays["image_embeddings"] for v in (views[0], view))
    assert np.abs(wanted - got).mean() <= 0.02 * wanted.std()
    prompt = {"boxes": [60, 40, 380, 280]}
    masks = [models[0].segment(v, **prompt).masks[0] for v in (views[0], view)]
    assert mask_iou(*masks) >= 0.97


def test_compiled_forms_are_kept_and_may_be_damaged_or_deleted(tmp_path, monkeypatch, sample):
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path))
    wanted = samlet.load(backend="openvino", threads=1).embed(sample("coffee"))
    blobs = sorted(tmp_path.rglob("*.blob"))
    assert blobs
    again = samlet.load(backend="openvino", threads=1).embed(sample("coffee"))
    np.testing.assert_array_equal(again.arrays["image_embeddings"], wanted.arrays["image_embeddings"])
    for blob in blobs:
        blob.chmod(0o644)
        blob.write_bytes(b"nonsense")
    again = samlet.load(backend="openvino", threads=1).embed(sample("coffee"))
    np.testing.assert_array_equal(again.arrays["image_embeddings"], wanted.arrays["image_embeddings"])


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="could not make the folder"):
        samlet.load(backend="openvino")


def test_the_int8_form_must_have_been_made():
    with pytest.raises(ModelError, match="run samlet quantize"):
        _encoder("int8")


def _encoder(precision):
    graph = packed.pack_model(registry.resolve("nano"))["encoder"]
    return OpenVinoBackend(precision=precision).open("encoder", graph, weights={}, threads=1)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "missing: image"),
        ({"image": np.zeros((1, 3, 64, 64))}, "expected float32 .* got float64"),
        ({"image": np.zeros((1, 4, 64, 64), np.float32)}, r"shape \(1, 3, \?, \?\) .* got float32"),
        ({"image": np.zeros((3, 64, 64), np.float32)}, "got float32 of shape"),
    ],
)
def test_wrong_feeds(feeds, message):
    with pytest.raises(BackendError, match=message):
        _encoder("f32").run(feeds)


def test_a_runtime_that_fails(monkeypatch):
    graph = _encoder("f32")

    class Failing:
        def infer(self, feeds):
            raise RuntimeError("Exception from src/x.cpp:1:\nno memory")

    monkeypatch.setattr(graph, "_request", Failing())
    with pytest.raises(BackendError, match="expected OpenVINO to run nano_encoder, but it failed") as caught:
        graph.run({"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert "\n" not in str(caught.value)


def test_a_broken_graph(tmp_path: Path):
    graph = packed.pack_model(registry.resolve("nano"))["encoder"]
    (tmp_path / "nano_encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match="expected OpenVINO to open the graph nano_encoder"):
        OpenVinoBackend().open(
            "encoder", replace(graph, packed=tmp_path / "nano_encoder.weights"), weights={}
        )
    with pytest.raises(BackendError, match="expected packed weights for nano_encoder, got none"):
        OpenVinoBackend().open("encoder", replace(graph, packed=None), weights={})


@pytest.mark.parametrize("name", ["openvino:f33", "openvino:cpu,gpu", "openvino:f32,bf16", "openvino:npu"])
def test_wrong_options(name):
    with pytest.raises(BackendError, match="name one of"):
        backends.create(name)


def test_options():
    assert backends.create("openvino:bf16,cpu").name == backends.create("openvino").name == "openvino"


def test_without_openvino(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'samlet\[openvino\]'"):
        backends.create("openvino")
