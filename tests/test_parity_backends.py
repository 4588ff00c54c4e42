"""ONNX Runtime against eager torch on the built-in weights, for every kind of prompt; graphs against networks."""

import importlib.util
import os

import numpy as np
import pytest

pytestmark = pytest.mark.torch
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import torch

import samlet
from samlet import store
from samlet.backends.base import GraphFile
from samlet.backends.torch import builders
from samlet.geometry import mask_iou
from samlet.nets.deploy import deploy_


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


CHEAP = (
    "nano_encoder", "nano_decoder", "sam_decoder", "sam_decoder_image", "sam_decoder_prompts",
    "tiny_vit_5m_encoder", "yolo_seg_s_rm16",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@pytest.mark.timeout(900)
def test_committed_graphs_are_those_of_the_networks():
    """With SAMLET_PARITY=all every graph is exported again; ViT-H takes minutes and 12 GB."""
    pytest.importorskip("onnxscript", reason="needs the exporter (samlet[export])")
    from samlet.export.graphs import GRAPHS, build, builders, contract, spec_of, to_text

    for stem in builders if os.environ.get("SAMLET_PARITY") == "all" else CHEAP:
        exported = build(stem, spec_of(builders[stem]))
        committed = (GRAPHS / f"{stem}.onnx").read_bytes()
        assert committed == exported.model.SerializeToString(deterministic=True), f"{stem}: run `make graphs`"
        assert (GRAPHS / f"{stem}.json").read_text() == to_text(contract(exported))


@pytest.mark.parametrize("stem", sorted(builders))
def test_every_committed_description_is_that_of_its_network(stem):
    """The names and shapes of all graphs, the large ones too: on the meta device they cost nothing."""
    builder = builders[stem]
    with torch.device("meta"):
        module = builder.build()
    onnx, description = store.read_graph(f"{stem}.onnx")
    graph = GraphFile.parse(stem, onnx, description)
    trained = {builder.prefix + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert graph.checkpoint == trained
    recipes = deploy_(module)
    deployed = {builder.prefix + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert graph.initializers == {name: deployed[name] for name in graph.initializers}
    left_out = deployed.keys() - graph.initializers.keys()
    left_out -= graph.unused if builder.part else set()  # what one half of a decoder leaves to the other
    assert all(name.endswith("_token_to_image.k_proj.bias") for name in left_out)
    assert graph.recipes.keys() == {builder.prefix + name for name in recipes}
    assert not graph.unused & graph.initializers.keys()
