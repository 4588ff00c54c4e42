"""MobileSAM's decoder on prompts of one picture: samlet beside the reference code, on the same random weights.

    python -m benchmarks.decoder --photo samples/coffee.jpg --prompts 1 4 16 64
    python -m benchmarks.decoder --photo samples/coffee.jpg --prompts 64 --at-once 1 2 4 8 16 32
    python -m benchmarks.decoder --photo samples/coffee.jpg --cpu        # a busy machine: processor time of one thread

Clicks are random; all ask for three masks, "one mask" for one. The models take turns; figures are milliseconds a
prompt, medians with the least and the most, and ratios are medians of the rounds' ratios. The reference decodes on its
own grid only, as samlet does here.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from tests import random_mobile_sam

import samlet
from samlet.backends.onnx import OnnxBackend
from samlet.model import Model
from samlet.session import Session


def reference(weights, pixels):
    """The original prompt encoder and mask decoder."""
    from mobile_sam import SamPredictor, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint=str(weights))
    sam.eval()
    predictor = SamPredictor(sam)
    predictor.set_image(pixels)

    def decode(points):
        scaled = predictor.transform.apply_coords_torch(torch.tensor(points), pixels.shape[:2]).float()
        with torch.no_grad():
            sparse, dense = sam.prompt_encoder(
                points=(scaled, torch.ones(len(points), 1, dtype=torch.int)), boxes=None, masks=None
            )
            sam.mask_decoder(
                image_embeddings=predictor.features, image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
            )  # fmt: skip

    return decode


def ours(model, pixels, *, multimask=True):
    """samlet on ONNX Runtime."""
    view = model.embed(pixels)

    def decode(points):
        model.segment(view, points=points, labels=np.ones((len(points), 1), int), multimask=multimask)

    return decode


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--at-once", type=int, nargs="+", default=[], help="one mask, so many prompts decoded at a time"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="processor time of one thread instead of the clock"
    )
    args = parser.parse_args()
    threads, clock = (1, time.process_time) if args.cpu else (2, time.perf_counter)
    torch.set_num_threads(threads)
    pixels = np.asarray(PILImage.open(args.photo).convert("RGB"))
    with tempfile.TemporaryDirectory() as folder:
        weights = random_mobile_sam.save(Path(folder) / "mobile_sam.pt")
        mobile, nano = samlet.load(weights, threads=threads), samlet.load("nano", threads=threads)
        runs = {
            "mobile_sam (torch)": reference(weights, pixels),
            "samlet, three masks": ours(mobile, pixels),
            "samlet, one mask": ours(mobile, pixels, multimask=False),
            "samlet nano, three masks": ours(nano, pixels),
        }
        for size in args.at_once:
            session = Session(mobile.card, OnnxBackend(), threads=threads, chunk=size)
            runs[f"samlet, one mask, {size} at a time"] = ours(Model(session), pixels, multimask=False)
        random = np.random.default_rng(0)
        print("| prompts | | ms a prompt | least, most | ratio |\n|---|---|---|---|---|")
        for count in args.prompts:
            times = {name: [] for name in runs}
            for number in range(args.rounds + 1):
                points = random.uniform(0, 1, (count, 1, 2)) * (pixels.shape[1], pixels.shape[0])
                for name, decode in runs.items():
                    started = clock()
                    decode(points)
                    if number:  # the first round warms up
                        times[name].append((clock() - started) * 1000 / count)
            first = times["mobile_sam (torch)"]
            for name, row in times.items():
                ratio = statistics.median(a / b for a, b in zip(first, row, strict=True))
                least, most = min(row), max(row)
                print(
                    f"| {count} | {name} | {statistics.median(row):.1f} | {least:.1f}, {most:.1f} | {ratio:.1f} |"
                )


if __name__ == "__main__":
    main()
