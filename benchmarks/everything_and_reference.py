"""SAM's everything mode, grid by grid: samlet beside the reference generator, on the same MobileSAM weights.

    python -m benchmarks.everything_and_reference --photo samples/coffee.jpg --side 32

Weights are random but the same; thresholds are such that many masks survive. Each runs in a process of its own, so
that each has its own peak memory; the ratio is of wall-clock seconds, model loading left out. "exact" must give the
reference's records: same number, same order, same boxes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

SETTINGS = {"pred_iou_thresh": -1.0, "stability_score_thresh": 0.5, "box_nms_thresh": 0.9}


def reference(weights, pixels, side):
    """Generate with the original code; it must be in evaluation mode after its weights are loaded."""
    from tests import torchvision_stub

    torchvision_stub.install()
    warnings.simplefilter("ignore")
    from mobile_sam import SamAutomaticMaskGenerator, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint=str(weights))
    sam.eval()
    return SamAutomaticMaskGenerator(sam, points_per_side=side, **SETTINGS), pixels


def exact(weights, pixels, side):
    """Generate with the drop-in."""
    from samlet.compat.segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint=str(weights))
    return SamAutomaticMaskGenerator(sam, points_per_side=side, **SETTINGS), pixels


def fast(weights, pixels, side):
    """Generate with samlet's own interface."""
    import samlet
    from samlet.everything import Grid

    model, grid = samlet.load(weights), Grid(points_per_side=side, **SETTINGS)

    class Generator:
        def generate(self, image):
            masks = model.everything(image, grid=grid)
            return [{"bbox": box} for box in masks.boxes_xyxy.tolist()]

    return Generator(), pixels


def child(kind, weights, photo, side):
    """Run one of them once and print what it took."""
    pixels = np.asarray(PILImage.open(photo).convert("RGB"))
    generator, image = {"reference": reference, "exact": exact, "fast": fast}[kind](weights, pixels, side)
    started = time.perf_counter()
    records = generator.generate(image)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "boxes": [record["bbox"] for record in records]}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]), args.photo, args.side)
        return
    from tests.random_mobile_sam import save

    with tempfile.TemporaryDirectory() as folder:
        weights = save(Path(folder) / "mobile_sam.pt")
        found = {}
        for kind in ("reference", "exact", "fast"):
            words = ["--photo", str(args.photo), "--side", str(args.side), "--child", kind, str(weights)]
            command = [sys.executable, "-m", "benchmarks.everything_and_reference", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[kind] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"grid {args.side} x {args.side}, {args.photo.name}\n\n| | seconds | peak MiB | masks |\n|---|---|---|---|"
    )
    for kind, row in found.items():
        print(f"| {kind} | {row['seconds']:.1f} | {row['peak_mib']:.0f} | {len(row['boxes'])} |")
    first = found["reference"]
    for kind in ("exact", "fast"):
        row = found[kind]
        print(
            f"\n{kind}: {first['seconds'] / row['seconds']:.1f} times faster, "
            f"{row['peak_mib'] / first['peak_mib']:.2f} of the memory"
        )
    print(f"\nexact gives the reference's boxes in its order: {found['exact']['boxes'] == first['boxes']}")


if __name__ == "__main__":
    main()
