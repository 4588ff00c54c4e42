"""How much a faster way of running nano changes its masks: beside plain nano, and beside the truth.

    python -m benchmarks.agreement ../shared/data/bench/voc2007_seg_val --every 6 --ways padded openvino:bf16

Each object of a set is prompted with its box and, apart from that, with one click in its middle, as `samlet evaluate`
does. Each row gives the mean IoU with the truth, how far that is from plain nano's, the mean IoU between the masks of
the two, and the median processor time of one embedding on one thread. "padded" is SAM's square instead of nano's own
shape; everything else is the name of a backend.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import samlet
from samlet.evaluate.baselines import tight_box
from samlet.evaluate.datasets import Dataset
from samlet.evaluate.metrics import iou
from samlet.evaluate.protocols import clicks_prompt, first_click
from samlet.geometry import mask_iou

OBJECTS = 24  # of a picture: crowded ones must not take the whole time


def load(way):
    """Load nano in the way of that name."""
    if way in ("plain", "padded"):
        return samlet.load("nano", shape="padded" if way == "padded" else "auto", threads=1)
    return samlet.load("nano", backend=way, threads=1)


def measure(dataset, models):
    """Give for each way, prompt and object the IoU with the truth and with plain nano's mask; and seconds."""
    found = {(way, kind): [] for way in models for kind in ("box", "click")}
    seconds = {way: [] for way in models}
    for sample in dataset.samples(broken=[]):
        truths = [region.mask & ~sample.ignore for region in sample.regions[:OBJECTS]]
        truths = [truth for truth in truths if truth.any()]
        if not truths:
            continue
        image = sample.load_image()
        points, labels = clicks_prompt([[first_click(truth)] for truth in truths])
        prompts = {"box": {"boxes": [tight_box(truth) for truth in truths]}}
        prompts["click"] = {"points": points, "labels": labels}
        plain = {}
        for way, model in models.items():
            started = time.process_time()
            view = model.embed(image)
            seconds[way].append(time.process_time() - started)
            for kind, prompt in prompts.items():
                masks = model.segment(view, **prompt).masks
                plain.setdefault(kind, masks)
                found[way, kind] += [
                    (iou(mask, truth, ignore=sample.ignore), mask_iou(mask, same))
                    for mask, truth, same in zip(masks, truths, plain[kind], strict=True)
                ]
    return found, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--ways", nargs="+", default=["padded"])
    parser.add_argument("--every", type=int, default=1)
    args = parser.parse_args()
    models = {way: load(way) for way in ("plain", *args.ways)}
    print(
        "| set | objects | way | box | change | same | click | change | same | embed, ms |\n|" + "---|" * 10
    )
    for path in args.sets:
        dataset = Dataset.open(path).select(every=args.every)
        found, seconds = measure(dataset, models)
        first = {kind: np.mean(found["plain", kind], axis=0)[0] for kind in ("box", "click")}
        for way in models:
            cells = []
            for kind in ("box", "click"):
                truth, same = np.mean(found[way, kind], axis=0)
                cells += [f"{truth:.4f}", f"{truth - first[kind]:+.4f}", f"{same:.4f}"]
            milliseconds = f"{1e3 * np.median(seconds[way]):.0f}"
            row = [path.name, str(len(found[way, "box"])), way, *cells, milliseconds]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
