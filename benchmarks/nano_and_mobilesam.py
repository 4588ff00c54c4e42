"""One picture, one click, warm: samlet's `nano` beside MobileSAM's reference code in PyTorch, in one process.

    pip install 'samlet[torch]' && pip install --no-deps torchvision==0.28.0 timm==1.0.31 mobilesam-mirror==1.0.0
    python benchmarks/nano_and_mobilesam.py --photo samples/coffee.jpg --rounds 7

The reference has random weights, which changes no timing. Both get the same picture array and the same click, use
the same number of threads, and take turns; the figures are medians of the rounds, the ratio is the median of the
rounds' ratios.
"""

import argparse
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from tests import torchvision_stub

import samlet


def clock(action):
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def reference(pixels, click):
    """(encode, decode) of the original predictor."""
    torchvision_stub.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam import SamPredictor, sam_model_registry
    model = sam_model_registry["vit_t"]()
    model.eval()
    predictor = SamPredictor(model)
    points, labels = np.array([click]), np.array([1])
    return (
        lambda: predictor.set_image(pixels),
        lambda: predictor.predict(point_coords=points, point_labels=labels, multimask_output=False),
    )


def ours(pixels, click, threads):
    """(encode, decode) of samlet; decode includes the mask at picture size, as the reference's does."""
    model = samlet.load("nano", threads=threads)
    view = {}

    def encode():
        view["now"] = model.embed(pixels)

    def decode():
        return model.segment(view["now"], points=[click]).masks

    return encode, decode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with PILImage.open(args.photo) as file:
        pixels = np.asarray(file.convert("RGB"))
    click = [pixels.shape[1] / 2, pixels.shape[0] / 2]
    runs = {
        "mobile_sam (torch)": reference(pixels, click),
        "samlet nano (onnx)": ours(pixels, click, args.threads),
    }
    for encode, decode in runs.values():  # warm-up
        encode()
        decode()
    times = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, (encode, decode) in runs.items():
            times[name].append((clock(encode), clock(decode)))
    print(
        f"picture {pixels.shape[1]} x {pixels.shape[0]}, {args.threads} threads, {args.rounds} rounds, medians in ms"
    )
    print("| | embed | one click to full-size mask | both | spread of both |\n|---|---|---|---|---|")
    for name, rows in times.items():
        both = [a + b for a, b in rows]
        embed, prompt = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"| {name} | {embed:.0f} | {prompt:.0f} | {statistics.median(both):.0f} | {min(both):.0f}-{max(both):.0f} |"
        )
    ratios = [(sum(a) / sum(b)) for a, b in zip(*times.values(), strict=True)]
    print(
        f"\nreference / samlet: {statistics.median(ratios):.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
