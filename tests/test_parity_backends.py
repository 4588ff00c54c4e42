"""ONNX Runtime against eager torch on the built-in weights, for every kind of prompt; graphs against networks."""

import importlib.util

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import samlet
from samlet.geometry import mask_iou


@pytest.fixture(scope="module")
def models():
    return samlet.load(backend="onnx"), samlet.load(backend="torch")


@pytest.fixture(scope="module", params=["coffee", "chelsea", "astronaut"])
def views(request, models, sample):
    photo = sample(request.param)
    return [model.embed(photo) for model in models]


PROMPTS = {
    "one click": {"points": [220, 150]},
    "three clicks, one of them background": {
        "points": [[220, 150], [200, 120], [20, 20]],
        "labels": [1, 1, 0],
    },
    "box": {"boxes": [60, 40, 380, 280]},
    "four boxes": {"boxes": [[60, 40, 380, 280], [10, 10, 200, 200], [150, 100, 300, 290], [5, 5, 440, 290]]},
    "click and box": {"points": [[[220, 150]]], "boxes": [[60, 40, 380, 280]]},
    "batch of prompts of different length": {
        "points": [[[220, 150]], [[100, 90], [300, 200]]],
        "labels": [[1], [1, 0]],
    },
    "three candidates": {"points": [220, 150], "multimask": True},
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_onnx_equals_torch(models, views, kind):
    ours, reference = (m.segment(v, **PROMPTS[kind]) for m, v in zip(models, views, strict=True))
    assert np.abs(ours.logits - reference.logits).max() <= 1e-3
    assert np.abs(ours.scores - reference.scores).max() <= 1e-3
    shape = ours.masks.shape[-2:]
    for a, b in zip(ours.masks.reshape(-1, *shape), reference.masks.reshape(-1, *shape), strict=True):
        assert mask_iou(a, b) >= 0.999


def test_refinement_with_a_hint_is_equal_too(models, views):
    first = [m.segment(v, points=[220, 150]) for m, v in zip(models, views, strict=True)]
    again = [
        m.segment(v, points=[[220, 150], [60, 60]], labels=[1, 0], hint=first[0].hint)
        for m, v in zip(models, views, strict=True)
    ]
    assert np.abs(again[0].logits - again[1].logits).max() <= 1e-3
    assert np.abs(again[0].logits - first[0].logits).max() > 0.1  # the hint and the click do something


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@pytest.mark.timeout(600)
def test_committed_graphs_are_those_of_the_networks():
    pytest.importorskip("onnxscript", reason="needs the exporter (samlet[export])")
    import json

    from samlet.export.graphs import GRAPHS, build, contract, specs

    for stem, spec in specs().items():
        exported = build(spec)
        committed = (GRAPHS / f"{stem}.onnx").read_bytes()
        assert committed == exported.model.SerializeToString(deterministic=True), f"{stem}: run `make graphs`"
        assert json.loads((GRAPHS / f"{stem}.json").read_text()) == contract(exported)
