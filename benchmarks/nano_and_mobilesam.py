"""One picture, one click, warm: samlet beside MobileSAM's reference code in PyTorch, in one process.

    pip install 'samlet[torch]' && pip install --no-deps torchvision==0.28.0 timm==1.0.31 mobilesam-mirror==1.0.0
    python benchmarks/nano_and_mobilesam.py --photo samples/coffee.jpg --rounds 7

The reference has random weights, which changes no timing. samlet runs `nano`, and MobileSAM from a file that the
reference's weights were saved to; last comes the time from a fresh process to that file being loaded. All get the same
picture array and the same click, use the same number of threads, and take turns; the figures are medians of the
rounds, the ratio is the median of the rounds' ratios.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
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


def reference(pixels, click, weights):
    """(encode, decode) of the original predictor."""
    torchvision_stub.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam import SamPredictor, sam_model_registry
    model = sam_model_registry["vit_t"]()
    torch.save(model.state_dict(), weights)
    model.eval()
    predictor = SamPredictor(model)
    points, labels = np.array([click]), np.array([1])
    return (
        lambda: predictor.set_image(pixels),
        lambda: predictor.predict(point_coords=points, point_labels=labels, multimask_output=False),
    )


def ours(name, pixels, click, threads):
    """(encode, decode) of samlet; decode includes the mask at picture size, as the reference's does."""
    model = samlet.load(name, threads=threads)
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
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "mobile_sam.pt"
        runs = {
            "mobile_sam (torch)": reference(pixels, click, weights),
            "samlet, the same file (onnx)": ours(weights, pixels, click, args.threads),
            "samlet nano (onnx)": ours("nano", pixels, click, args.threads),
        }
        loads = [cold(weights) for _ in range(args.rounds)]
    report(runs, args, pixels)
    print(f"import samlet and load the file in a fresh process: {statistics.median(loads):.2f} s")


def cold(weights):
    """Seconds from the start of a fresh process's first line to a loaded model."""
    clock_it = "import time; t = time.perf_counter(); import samlet; samlet.load({!r}); print(time.perf_counter() - t)"
    code = clock_it.format(str(weights))
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def report(runs, args, pixels):
    """Let them take turns, and print the table."""
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
    first, *others = times.items()
    for name, rows in others:
        ratios = [sum(a) / sum(b) for a, b in zip(first[1], rows, strict=True)]
        print(
            f"\n{first[0]} / {name}: {statistics.median(ratios):.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
