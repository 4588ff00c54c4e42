"""Large JPEGs decoded as drafts beside decoded whole: time, memory, and how far masks agree.

    python -m benchmarks.draft --photo samples/coffee.jpg --rounds 5
    python -m benchmarks.draft --agreement SET --every 12          # a folder of pictures with masks, as evaluate takes

Pictures are enlarged to 12, 24 and 50 megapixels, get grain as a sensor gives it (a standard deviation of 6 of 255) and
are written with quality 90. For times, ways take turns in one process: decoding and making smaller for a network of
that side, and nano's whole answer to one click, mask at full size; peaks are those of processes of their own. For the
agreement, at 12 and 24 megapixels, objects of a set are prompted with their boxes and with clicks in their middles.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

import samlet
from benchmarks.worker import peak_mib
from samlet.draft import Draft
from samlet.geometry import Frame, mask_iou
from samlet.image import Image

MPIXEL = (12, 24, 50)
OBJECTS = 8
JOBS = ("to 512 px", "to 1024 px", "nano, file to mask")


def enlarged(pixels, mpixel):
    """A JPEG of so many megapixels, in the shape of the picture."""
    height, width = pixels.shape[:2]
    scale = (mpixel * 0.995e6 / (height * width)) ** 0.5  # a little less: 50 million is a bound
    big = PILImage.fromarray(pixels).resize(
        (round(width * scale), round(height * scale)), PILImage.Resampling.BICUBIC
    )
    grain = np.random.default_rng(0).standard_normal((big.height, big.width, 1), np.float32)
    noisy = np.clip(np.asarray(big) + 6 * grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def shrink(path, side, way):
    """Decode, and make smaller as for a network of that side."""
    picture = Draft.load(path, side=side) if way == "draft" else Image.load(path)
    return picture.resized(Frame.fit(picture.hw, side).scaled_hw)


def answer(model, path, way):
    """nano's mask of the middle, at full size."""
    view = model.embed(path, decode=way)
    height, width = view.frame.image_hw
    return model.segment(view, points=[width / 2, height / 2]).masks[0]


def work(model, name, path, way):
    """Do one of the jobs."""
    if name.startswith("nano"):
        answer(model, path, way)
    else:
        shrink(path, int(name.split()[1]), way)


def times(photo, rounds):
    """Print medians with the least and the most, and peaks."""
    model = samlet.load("nano", threads=2)
    with tempfile.TemporaryDirectory() as folder:
        print(
            "| Mpixel | | whole, ms | draft, ms | whole, MiB | draft, MiB |\n|---:|---|---:|---:|---:|---:|"
        )
        for mpixel in MPIXEL:
            path = Path(folder) / f"{mpixel}.jpg"
            path.write_bytes(enlarged(np.asarray(PILImage.open(photo).convert("RGB")), mpixel))
            for name in JOBS:
                found = {"whole": [], "draft": []}
                for _ in range(rounds):
                    for way, row in found.items():
                        started = time.perf_counter()
                        work(model, name, path, way)
                        row.append((time.perf_counter() - started) * 1e3)
                cells = [
                    f"{statistics.median(row):.0f} ({min(row):.0f} to {max(row):.0f})"
                    for row in found.values()
                ]
                for way in found:
                    words = [sys.executable, "-m", "benchmarks.draft", "--peak", way, name, str(path)]
                    done = subprocess.run(words, check=True, capture_output=True, text=True)
                    cells.append(f"{float(done.stdout):.0f}")
                print(f"| {mpixel} | {name} | " + " | ".join(cells) + " |", flush=True)


def agreement(folder, every):
    """Print the mean IoU of masks from drafts with those from whole pictures."""
    from samlet.evaluate.baselines import tight_box
    from samlet.evaluate.datasets import Dataset
    from samlet.evaluate.protocols import clicks_prompt, first_click

    model = samlet.load("nano", threads=2)
    found = {(mpixel, kind): [] for mpixel in MPIXEL[:2] for kind in ("box", "click")}
    for sample in Dataset.open(folder).select(every=every).samples(broken=[]):
        pixels = sample.load_image().pixels
        truths = [region.mask for region in sample.regions[:OBJECTS] if region.mask.any()]
        if not truths:
            continue
        boxes = np.array([tight_box(truth) for truth in truths], float)
        clicks, _ = clicks_prompt([[first_click(truth)] for truth in truths])
        for mpixel in MPIXEL[:2]:
            data = enlarged(pixels, mpixel)
            views = [model.embed(data, decode=way) for way in ("whole", "draft")]
            scale = np.array(views[0].frame.image_hw[::-1]) / pixels.shape[1::-1]
            for kind, prompt in (
                ("box", {"boxes": boxes * np.tile(scale, 2)}),
                ("click", {"points": np.asarray(clicks) * scale}),
            ):
                pair = (model.segment(view, **prompt).iter_masks() for view in views)
                found[mpixel, kind] += [mask_iou(one, other) for one, other in zip(*pair, strict=True)]
    for (mpixel, kind), row in found.items():
        below = np.mean(np.array(row) < 0.9)
        print(f"| {mpixel} | {kind} | {len(row)} | {np.mean(row):.4f} | {np.median(row):.4f} | {below:.3f} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agreement", type=Path, metavar="SET")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        way, name, path = args.peak
        work(samlet.load("nano", threads=2) if name.startswith("nano") else None, name, path, way)
        print(peak_mib())
    if args.photo:
        times(args.photo, args.rounds)
    if args.agreement:
        print("| Mpixel | prompt | objects | mean IoU | median | below 0.9 |\n|---:|---|---:|---:|---:|---:|")
        agreement(args.agreement, args.every)


if __name__ == "__main__":
    main()
