"""The backends: weights bound in memory, wrong feeds named before the runtime sees them."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samlet import backends
from samlet.backends import base
from samlet.backends.base import GraphFile
from samlet.backends.fake import FakeBackend
from samlet.backends.onnx import OnnxBackend
from samlet.errors import BackendError, CheckpointError, ModelError

# y = x @ weight + bias with x (n, 3), both initializers external; made once with onnx.helper, opset 17.
AFFINE = base64.b64decode(
    "CAg63AEKFwoBeAoGd2VpZ2h0EgJ4dyIGTWF0TXVsChIKAnh3CgRiaWFzEgF5IgNBZGQSBmFmZmluZSo+CAMIAhABQgZ3ZWlnaHRqEQoI"
    "bG9jYXRpb24SBXcuYmluagsKBm9mZnNldBIBMGoMCgZsZW5ndGgSAjI0cAEqOQgCEAFCBGJpYXNqEQoIbG9jYXRpb24SBXcuYmluagsK"
    "Bm9mZnNldBIBMGoLCgZsZW5ndGgSAThwAVoUCgF4Eg8KDQgBEgkKAxIBbgoCCANiFAoBeRIPCg0IARIJCgMSAW4KAggCQgQKABAR"
)
GRAPH = GraphFile("affine", AFFINE, ("x",), ("y",), {"weight": (3, 2), "bias": (2,)}, 17)
WEIGHTS = {"weight": np.arange(6, dtype=np.float32).reshape(3, 2), "bias": np.array([10, 20], np.float32)}
X = np.array([[1, 2, 3], [0, 0, 1]], np.float32)


def test_weights_are_bound_in_memory() -> None:
    graph = OnnxBackend().open("decoder", GRAPH, weights={**WEIGHTS, "other": X}, threads=1)
    assert (graph.inputs, graph.outputs) == (("x",), ("y",))
    np.testing.assert_allclose(graph.run({"x": X})["y"], X @ WEIGHTS["weight"] + WEIGHTS["bias"])


def test_weights_outlive_their_owner() -> None:
    """The session borrows the arrays' memory: losing the last name for them must not free it."""
    weights = {name: array.copy() for name, array in WEIGHTS.items()}
    graph = OnnxBackend().open("decoder", GRAPH, weights=weights, threads=1)
    weights.clear()
    junk = [np.full((3, 2), 7, np.float32) for _ in range(1000)]
    np.testing.assert_allclose(graph.run({"x": X})["y"], X @ WEIGHTS["weight"] + WEIGHTS["bias"])
    assert len(junk) == 1000


def test_weights_need_not_be_contiguous() -> None:
    turned = {**WEIGHTS, "weight": np.asfortranarray(WEIGHTS["weight"])}
    graph = OnnxBackend().open("decoder", GRAPH, weights=turned, threads=1)
    np.testing.assert_allclose(graph.run({"x": X})["y"], X @ WEIGHTS["weight"] + WEIGHTS["bias"])


def test_many_threads_share_a_graph() -> None:
    graph = OnnxBackend().open("decoder", GRAPH, weights=WEIGHTS, threads=1)
    inputs = [np.full((1 + i % 5, 3), i, np.float32) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: graph.run({"x": x})["y"], inputs))
    for x, y in zip(inputs, results, strict=True):
        np.testing.assert_allclose(y, x @ WEIGHTS["weight"] + WEIGHTS["bias"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "missing: bias, weight, unexpected: none"),
        ({"weight": WEIGHTS["weight"], "b": X}, "missing: bias, unexpected: b;"),
        ({**WEIGHTS, "weight": WEIGHTS["weight"].T}, r"weight is \(2, 3\) instead of \(3, 2\)"),
        ({**WEIGHTS, "bias": np.zeros((1, 2), np.float32)}, r"bias is \(1, 2\) instead of \(2,\)"),
        ({str(i): X for i in range(9)}, "unexpected: 0, 1, 2, 3, 4 and 4 more"),
    ],
)
def test_weights_that_do_not_fit(weights: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        OnnxBackend().open("decoder", GRAPH, weights=weights)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "missing: x, unknown: none"),
        ({"x": X, "z": X}, "missing: none, unknown: z"),
        ({"z": X}, "missing: x, unknown: z"),
        ({"x": X[0]}, r"float32 of shape \(n, 3\) for the input x of affine, got float32 of shape \(3,\)"),
        ({"x": X[:, :2]}, r"got float32 of shape \(2, 2\)"),
        ({"x": X.astype(np.float64)}, "got float64"),
        ({"x": X.astype(np.int64)}, "got int64"),
    ],
)
def test_wrong_feeds(feeds: dict[str, np.ndarray], message: str) -> None:
    graph = OnnxBackend().open("decoder", GRAPH, weights=WEIGHTS, threads=1)
    with pytest.raises(BackendError, match=message):
        graph.run(feeds)


@pytest.mark.parametrize("content", [b"", b"no graph", AFFINE[: len(AFFINE) // 2]])
def test_a_broken_graph(content: bytes) -> None:
    broken = GraphFile("affine", content, ("x",), ("y",), GRAPH.initializers, 17)
    with pytest.raises(BackendError, match="open the decoder graph affine") as caught:
        OnnxBackend().open("decoder", broken, weights=WEIGHTS)
    assert "\n" not in str(caught.value)


def test_an_external_file_is_never_opened() -> None:
    """Weights that the description forgets must fail, not be read from the file that the graph names."""
    forgetful = GraphFile("affine", AFFINE, ("x",), ("y",), {"weight": (3, 2)}, 17)
    with pytest.raises(BackendError, match="refused"):
        OnnxBackend().open("decoder", forgetful, weights=WEIGHTS)


DESCRIPTION = {
    "inputs": ["x"],
    "outputs": ["y"],
    "initializers": {"weight": [3, 2], "bias": [2]},
    "opset": 17,
    "checkpoint": {"weight": [3, 2], "bias": [2], "bias.counter": []},
    "unused": ["bias.counter"],
    "recipes": {},
}


def test_description() -> None:
    expected = replace(
        GRAPH,
        checkpoint={"weight": (3, 2), "bias": (2,), "bias.counter": ()},
        unused=frozenset({"bias.counter"}),
    )
    assert GraphFile.parse("affine", AFFINE, json.dumps(DESCRIPTION).encode()) == expected


@pytest.mark.parametrize(
    "description",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        json.dumps({**DESCRIPTION, "more": 1}).encode(),
        json.dumps({**DESCRIPTION, "inputs": []}).encode(),
        json.dumps({**DESCRIPTION, "outputs": [1]}).encode(),
        json.dumps({**DESCRIPTION, "inputs": None}).encode(),
        json.dumps({**DESCRIPTION, "initializers": []}).encode(),
        json.dumps({**DESCRIPTION, "initializers": {"a": ["b"]}}).encode(),
        json.dumps({**DESCRIPTION, "opset": "new"}).encode(),
        json.dumps({**DESCRIPTION, "recipes": []}).encode(),
        json.dumps({**DESCRIPTION, "checkpoint": {"weight": 3}}).encode(),
    ],
)
def test_broken_descriptions(description: bytes) -> None:
    with pytest.raises(CheckpointError, match="graph affine"):
        GraphFile.parse("affine", AFFINE, description)


def test_names() -> None:
    assert backends.create("onnx").name == "onnx"
    for unknown in ("tensorrt", "", "onnx:int4"):
        with pytest.raises(ModelError, match="onnx, openvino, torch"):
            backends.create(unknown)


def decoder_feeds(points: Any, labels: Any) -> dict[str, np.ndarray]:
    count = len(points)
    return {
        "image_embeddings": np.zeros((1, 4, 8, 8), np.float32),
        "point_coords": np.array(points, np.float32),
        "point_labels": np.array(labels, np.float32),
        "mask_input": np.zeros((count, 1, 32, 32), np.float32),
        "has_mask_input": np.zeros(count, np.float32),
    }


def test_the_fake_is_predictable() -> None:
    graph = FakeBackend(stride=8, channels=4).open("decoder")
    click = graph.run(decoder_feeds([[[32, 32], [0, 0]]], [[1, -1]]))
    assert (click["low_res_masks"].shape, click["iou_predictions"].shape) == ((1, 4, 32, 32), (1, 4))
    assert click["low_res_masks"][0, 0, 16, 16] > 0 > click["low_res_masks"][0, 0, 0, 0]
    box = graph.run(decoder_feeds([[[8, 8], [40, 24]]], [[2, 3]]))["low_res_masks"][0, 0] > 0
    assert np.argwhere(box).min(axis=0).tolist() == [4, 4]
    assert np.argwhere(box).max(axis=0).tolist() == [11, 19]
    cut = graph.run(decoder_feeds([[[32, 32], [44, 32], [0, 0]]], [[1, 0, -1]]))
    assert cut["low_res_masks"][0, 0, 16, 21] < 0 < click["low_res_masks"][0, 0, 16, 20]
    nothing = graph.run(decoder_feeds([[[32, 32], [0, 0]]], [[0, -1]]))
    assert (nothing["low_res_masks"] < 0).all()


def test_the_fake_encoder_averages_cells() -> None:
    graph = FakeBackend(stride=8, channels=4).open("encoder")
    image = np.arange(3 * 16 * 24, dtype=np.float32).reshape(1, 3, 16, 24)
    found = graph.run({"image": image})["image_embeddings"]
    assert found.shape == (1, 4, 2, 3)
    assert found[0, 1, 1, 2] == pytest.approx(image[0, 1, 8:, 16:].mean())
    with pytest.raises(BackendError, match="unknown: picture"):
        graph.run({"picture": image})


def test_one_line() -> None:
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : first\nsecond")
    assert base.one_line(error) == "first"
    assert base.one_line(RuntimeError()) == "RuntimeError"


@pytest.mark.torch
class TestTorch:
    """The reference backend, on a network of its own."""

    @pytest.fixture
    def affine(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        torch = pytest.importorskip("torch")
        from samlet.backends import torch as backend

        class Affine(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(3, 2))
                self.bias = torch.nn.Parameter(torch.zeros(2))

            def forward(self, x: Any) -> Any:
                return x @ self.weight + self.bias

        monkeypatch.setattr(backend.Builder, "build", lambda self: Affine())
        monkeypatch.setitem(backend.builders, "affine", backend.Builder("", request.param, ("y",), 1))

    @pytest.mark.parametrize("affine", ["", "decoder."], indirect=True)
    def test_agrees_with_onnx(self, affine: None) -> None:
        from samlet.backends import torch as backend

        prefix = backend.builders["affine"].prefix
        weights = {prefix + name: array for name, array in WEIGHTS.items()}
        graph = backends.create("torch").open("decoder", GRAPH, weights=weights)
        expected = OnnxBackend().open("decoder", GRAPH, weights=WEIGHTS, threads=1).run({"x": X})["y"]
        np.testing.assert_allclose(graph.run({"x": X})["y"], expected, rtol=1e-6)

    @pytest.mark.parametrize("affine", [""], indirect=True)
    def test_errors(self, affine: None) -> None:
        backend = backends.create("torch")
        with pytest.raises(
            CheckpointError, match=r"missing or of another shape: weight, bias .*unexpected: w"
        ):
            backend.open("decoder", GRAPH, weights={"w": X})
        with pytest.raises(BackendError, match="use the onnx backend"):
            backend.open("decoder", GraphFile("other", b"", ("x",), ("y",), {}, 17), weights={})
        graph = backend.open("decoder", GRAPH, weights=WEIGHTS)
        with pytest.raises(BackendError, match="unknown: z"):
            graph.run({"z": X})
        with pytest.raises(BackendError, match="PyTorch to run affine"):
            graph.run({"x": X[:, :2]})


def test_threads_of_one_session_do_not_spin_into_the_next() -> None:
    graph: Any = OnnxBackend().open("decoder", GRAPH, weights=WEIGHTS, threads=1)
    options = graph._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
