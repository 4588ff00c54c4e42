"""FastSAM's everything mode beside its bare network: what all the rest costs, and its memory for very many masks.

    python -m benchmarks.fastsam_everything --photo samples/coffee.jpg --rounds 5
    python -m benchmarks.fastsam_everything --photo samples/coffee.jpg --size 3000x2000 --masks 1000 --rounds 1

The network is FastSAM's with random weights, which changes no timing. What it finds is replaced by a made-up scene of
so many instances, with boxes from 16 pixels to two thirds of the picture and smooth, ragged masks, since random weights
find nothing sensible. Everything is the picture in memory to run lengths of all masks at its size. Its network and its
rest are timed apart in each round, since they differ more from round to round than the rest is; figures are medians in
milliseconds.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Mapping
from unittest.mock import patch

import numpy as np

from samlet import backends
from samlet.backends.base import Array
from samlet.families import fastsam
from samlet.geometry import Frame, resize_bilinear
from samlet.image import Image
from samlet.instances import rules_of
from samlet.registry import resolve
from samlet.session import Session


def random_weights(_card: object, graphs: tuple[object, ...]) -> dict[str, Array]:
    """Weights of the network's shapes, scaled so that nothing overflows."""
    (graph,) = graphs
    rng = np.random.default_rng(0)
    made = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in graph.checkpoint.items()}
    for name, array in made.items():
        if name.endswith("running_var"):
            made[name] = np.ones_like(array)
        if name.endswith("dfl.conv.weight"):
            made[name] = np.arange(array.size, dtype=np.float32).reshape(array.shape)
    return made


def scene(frame: Frame, count: int, anchors: int) -> dict[str, Array]:
    """Candidates and prototypes of so many instances, none of which suppresses another."""
    rng = np.random.default_rng(0)
    height, width = frame.canvas_hw
    sides = np.exp(rng.uniform(np.log(16 / 1024), np.log(0.67), (count, 2))) * frame.scaled_hw[::-1]
    low = np.array(frame.offset_yx[::-1]) + rng.uniform(0, 1, (count, 2)) * (
        np.array(frame.scaled_hw[::-1]) - sides
    )
    candidates = np.zeros((1, 37, anchors), np.float32)
    candidates[0, :4] = 5
    candidates[0, :2, :count], candidates[0, 2:4, :count] = (low + sides / 2).T, sides.T
    candidates[0, 4, :count] = np.linspace(0.95, 0.5, count)
    candidates[0, 5, :count] = 1.0
    candidates[0, 6:, :count] = rng.normal(0, 0.5, (31, count))
    protos = np.ones((1, 32, height // 4, width // 4), np.float32)
    protos[0, 1:] = resize_bilinear(
        rng.normal(0, 1, (31, height // 64, width // 64)).astype(np.float32), (height // 4, width // 4)
    )
    return {"candidates": candidates, "protos": protos}


class SceneGraph:
    """Runs the network, and answers with the scene."""

    def __init__(self, graph: object, found: Mapping[str, Array]) -> None:
        self._graph, self._found = graph, found
        self.seconds = 0.0
        self.inputs, self.outputs = graph.inputs, graph.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Keep the time that the network takes."""
        started = time.perf_counter()
        self._graph.run(feeds)
        self.seconds = time.perf_counter() - started
        return dict(self._found)


class SceneBackend:
    """ONNX Runtime, whose graphs answer with the scene."""

    name, needs_files = "onnx", True

    def __init__(self, found: Mapping[str, Array]) -> None:
        self._inner, self._found = backends.create("onnx"), found
        self.graph: SceneGraph | None = None

    def open(self, role: str, graph: object, *, weights: object, threads: int | None = None) -> SceneGraph:
        """Open the network."""
        self.graph = SceneGraph(self._inner.open(role, graph, weights=weights, threads=threads), self._found)
        return self.graph


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", required=True)
    parser.add_argument("--model", default="fastsam_s")
    parser.add_argument("--size", default="1280x720", help="the photograph is made so large")
    parser.add_argument("--masks", type=int, nargs="+", default=[20, 60, 300])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    photo = np.asarray(Image.load(options.photo).pixels)
    image = Image.load(
        np.ascontiguousarray(
            photo[np.arange(height) * photo.shape[0] // height][:, np.arange(width) * photo.shape[1] // width]
        )
    )
    card = resolve(options.model)
    print(
        "| masks | the network | into the network | masks | the rest, share of the network | MiB at the peak |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    for count in options.masks:
        _, frame = fastsam.feed(image, card)
        anchors = sum((frame.canvas_hw[0] // s) * (frame.canvas_hw[1] // s) for s in (8, 16, 32))
        backend = SceneBackend(scene(frame, count, anchors))
        with patch("samlet.registry.read_weights", random_weights):
            session = Session(card, backend)
            session.embed(image)
        rules = rules_of(card, max_det=max(300, count), iou=1.0)
        rows = []
        for _ in range(options.rounds):
            started = time.perf_counter()
            embedding = session.embed(image)
            embedded = time.perf_counter()
            found = fastsam.instances(embedding, card, rules)
            done = time.perf_counter()
            network = backend.graph.seconds
            rows.append((network, embedded - started - network, done - embedded))
        assert len(found) == count, f"expected {count} masks, got {len(found)}"
        network, into, masks = (1e3 * statistics.median(column) for column in zip(*rows, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        share = (into + masks) / network
        print(
            f"| {count} | {network:.0f} | {into:.0f} | {masks:.0f} | {share:.3f} | {peak:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
