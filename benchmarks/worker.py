"""One contestant in a process of its own: it reads orders from standard input, one JSON a line, and answers with times.

    python -m benchmarks.worker KIND WEIGHTS THREADS [DEVICE]

So each has its own memory, its own interpreter if need be, and they can take turns. Orders:

    {"do": "load"}                              build the model
    {"do": "picture", "path": P}                decode a picture once, outside any measurement
    {"do": "embed"}                             encode that picture
    {"do": "prompts", "count": N}               N clicks, one mask of picture size each, made and thrown away
    {"do": "boxes", "count": N}                 N boxes, likewise
    {"do": "file", "path": P}                   from an encoded file to a mask of picture size
    {"do": "memory"}                            peak resident memory so far, MiB

KIND@N decodes N prompts at a time instead of as many as it would.
"""

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

BATCH = 64  # prompts that the reference decodes at a time: its own default


class Samlet:
    """The library as people call it; KIND is samlet-BACKEND."""

    def __init__(self, kind, weights, threads, device):
        self.backend, _, chunk = kind.split("-", 1)[1].partition("@")
        self.weights, self.threads, self.chunk = weights, threads, int(chunk or 0)

    def build(self):
        import samlet

        self.model = samlet.load(self.weights, backend=self.backend, threads=self.threads)
        if self.chunk:
            from samlet import backends
            from samlet.model import Model
            from samlet.session import Session

            runtime = backends.create(self.backend)
            self.model = Model(Session(self.model.card, runtime, threads=self.threads, chunk=self.chunk))

    def picture(self, path):
        from PIL import Image

        with Image.open(path) as file:
            self.pixels = np.asarray(file.convert("RGB"))
        self.hw = self.pixels.shape[:2]

    def embed(self):
        self.view = self.model.embed(self.pixels)

    def prompts(self, points):
        consume(self.model.segment(self.view, points=points[:, None]))

    def boxes(self, boxes):
        consume(self.model.segment(self.view, boxes=boxes))

    def file(self, path):
        view = self.model.embed(path)
        height, width = view.frame.image_hw
        consume(self.model.segment(view, points=[[width / 2, height / 2]]))


def consume(masks):
    """Make every mask at picture size, one after the other."""
    for mask in masks.iter_masks():
        assert mask.dtype == bool


class Reference:
    """The original predictors in PyTorch: MobileSAM's package, or segment_anything's for ViT-B."""

    def __init__(self, kind, weights, threads, device):
        import torch
        from tests import torchvision_stub

        torchvision_stub.install()
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        self.torch, self.weights, self.device = torch, weights, device
        self.kind, _, batch = kind.partition("@")
        self.batch = int(batch or BATCH)

    def build(self):
        if self.kind == "segment_anything":
            from segment_anything import SamPredictor, sam_model_registry

            sam = sam_model_registry["vit_b"](checkpoint=self.weights)
        else:
            from mobile_sam import SamPredictor, sam_model_registry

            sam = sam_model_registry["vit_t"](checkpoint=self.weights)
        sam.eval()
        self.predictor = SamPredictor(sam.to(self.device))

    picture = Samlet.picture

    def embed(self):
        self.predictor.set_image(self.pixels)
        self._settle()

    def prompts(self, points):
        coords = self.predictor.transform.apply_coords(points, self.hw)
        coords = self.torch.as_tensor(coords, dtype=self.torch.float32, device=self.device)[:, None]
        labels = self.torch.ones(len(points), 1, dtype=self.torch.int, device=self.device)
        for start in range(0, len(points), self.batch):
            part = slice(start, start + self.batch)
            masks = (
                self.predictor.predict_torch(coords[part], labels[part], multimask_output=False)[0]
                .cpu()
                .numpy()
            )
        return masks[-1]

    def boxes(self, boxes):
        boxes = self.torch.as_tensor(
            self.predictor.transform.apply_boxes(boxes, self.hw), device=self.device
        ).float()
        for start in range(0, len(boxes), BATCH):
            part = boxes[start : start + BATCH]
            self.predictor.predict_torch(None, None, boxes=part, multimask_output=False)[0].cpu().numpy()

    def file(self, path):
        self.picture(path)
        self.embed()
        self.prompts(np.array([[self.hw[1] / 2, self.hw[0] / 2]]))

    def _settle(self):
        if self.device != "cpu":
            self.torch.cuda.synchronize()


class Ultralytics:
    """The package's own predictor, in an environment of its own: it is AGPL-3.0, and no dependency of samlet."""

    def __init__(self, kind, weights, threads, device):
        import tempfile

        import torch

        os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_CONFIG_DIR=tempfile.mkdtemp())
        from tests import torchvision_stub

        torchvision_stub.install()
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        self.weights, self.device = weights, device

    def build(self):
        import torchvision

        torchvision.extension._has_ops = lambda: True
        from ultralytics.models.sam import Predictor

        settings = {"task": "segment", "mode": "predict", "imgsz": 1024, "conf": 0.0, "model": self.weights}
        self.predictor = Predictor(
            overrides={**settings, "save": False, "verbose": False, "device": self.device}
        )

    def picture(self, path):
        Samlet.picture(self, path)
        self.bgr = np.ascontiguousarray(self.pixels[..., ::-1])

    def embed(self):
        self.predictor.reset_image()
        self.predictor.set_image(self.bgr)

    def prompts(self, points):
        for start in range(0, len(points), BATCH):
            part = points[start : start + BATCH]
            found = self.predictor(points=part[:, None].tolist(), labels=[[1]] * len(part))[0]
        return found.masks.data[-1].numpy() > 0

    def boxes(self, boxes):
        for start in range(0, len(boxes), BATCH):
            self.predictor(bboxes=boxes[start : start + BATCH].tolist())[0]

    file = Reference.file


class Exported:
    """samexporter's way: its encoder and decoder in ONNX Runtime, one prompt a call. WEIGHTS is their folder."""

    def __init__(self, kind, weights, threads, device):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.open = lambda name: onnxruntime.InferenceSession(
            str(Path(weights) / name), options, providers=["CPUExecutionProvider"]
        )

    def build(self):
        self.encoder, self.decoder = self.open("encoder.onnx"), self.open("decoder.onnx")

    picture = Samlet.picture

    def embed(self):
        from PIL import Image

        self.scale = 1024 / max(self.hw)
        size = [int(side * self.scale + 0.5) for side in self.hw[::-1]]
        small = np.asarray(Image.fromarray(self.pixels).resize(size, Image.Resampling.BILINEAR), np.float32)
        (entry,) = self.encoder.get_inputs()
        self.embedding = self.encoder.run(None, {entry.name: small})[0]

    def _ask(self, coords, labels):
        feeds = {
            "image_embeddings": self.embedding,
            "point_coords": np.asarray(coords, np.float32)[None] * np.float32(self.scale),
            "point_labels": np.array([labels], np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(self.hw, np.float32),
        }
        return self.decoder.run(None, feeds)[0] > 0

    def prompts(self, points):
        for point in points:
            mask = self._ask([point, (0, 0)], [1, -1])
        return mask

    def boxes(self, boxes):
        for box in boxes:
            self._ask(box.reshape(2, 2), [2, 3])

    file = Reference.file


def peak_mib():
    """Peak resident memory of this process; `ru_maxrss` would count what the parent held before the start too."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contestant(kind):
    if kind.startswith("samlet-"):
        return Samlet
    return {"ultralytics": Ultralytics, "samexporter": Exported}.get(kind, Reference)


def clicks(count, hw):
    """Clicks spread over a picture, always the same."""
    random = np.random.default_rng(count)
    return random.uniform(0.05, 0.95, (count, 2)) * [hw[1], hw[0]]


def rectangles(count, hw):
    """Boxes spread over a picture, always the same."""
    low = clicks(count, hw) * 0.8
    return np.concatenate([low, low + 0.15 * np.array(hw[::-1])], axis=1)


def obey(runner, order):
    """Do one thing; seconds."""
    what = order["do"]
    actions = {
        "load": runner.build,
        "picture": lambda: runner.picture(order["path"]),
        "embed": runner.embed,
        "file": lambda: runner.file(order["path"]),
    }
    if what == "prompts":
        points = clicks(order["count"], runner.hw)
        actions["prompts"] = lambda: runner.prompts(points)
    if what == "boxes":
        boxes = rectangles(order["count"], runner.hw)
        actions["boxes"] = lambda: runner.boxes(boxes)
    started = time.perf_counter()
    actions[what]()
    return time.perf_counter() - started


def main():
    kind, weights, threads, *device = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a package prints is no answer
    runner = contestant(kind)(kind, weights, int(threads), device[0] if device else "cpu")
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "memory":
            answer = {"mib": peak_mib()}
        else:
            answer = {"seconds": obey(runner, order)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
