"""SAM's everything mode, grid by grid: samlet beside the reference generator, on the same MobileSAM weights.

    python -m benchmarks.everything_and_reference --photo samples/coffee.jpg --side 32
    python -m benchmarks.everything_and_reference --photo samples/coffee.jpg --side 32 --nms 0.7

Weights are random but the same; masks are cut at the median of the logits, where most are neither empty nor full, and
the stability score moves that threshold by a tenth of their spread, so that many survive. Each runs in a process of
its own, so that each has its own peak memory: with --nms 1 much of it is the answer itself, full-size masks, with
--nms 0.7, which leaves few of them, it is the work. The ratio is of wall-clock seconds, model loading left out.
"exact" must give the reference's records: same number, same order, same boxes.
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

SETTINGS = {"pred_iou_thresh": -1.0, "stability_score_thresh": 0.7}


def reference(weights, grid, threshold):
    """Generate with the original code; it must be in evaluation mode after its weights are loaded."""
    from tests import torchvision_stub

    torchvision_stub.install()
    warnings.simplefilter("ignore")
    import torchvision.ops.boxes
    from mobile_sam import SamAutomaticMaskGenerator, sam_model_registry

    torchvision.ops.boxes._assert_has_ops = lambda: None  # it looks for a library that the stub stands in for
    sam = sam_model_registry["vit_t"](checkpoint=str(weights))
    sam.eval()
    sam.mask_threshold = threshold
    return SamAutomaticMaskGenerator(sam, **grid).generate


def exact(weights, grid, threshold):
    """Generate with the drop-in."""
    from samlet.compat.segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint=str(weights))
    sam.mask_threshold = threshold
    return SamAutomaticMaskGenerator(sam, **grid).generate


def fast(weights, grid, threshold):
    """Generate with samlet's own interface."""
    import samlet
    from samlet.everything import Grid, GridEngine
    from samlet.image import Image

    engine = GridEngine(samlet.load(weights).session, Grid(**grid), mask_threshold=threshold)

    def generate(pixels):
        engine.initialize(Image.load(pixels))
        return [{"bbox": box} for box in engine.generate().boxes_xyxy.tolist()]

    return generate


def cuts(weights, photo):
    """Find where to cut masks, and how far to move that threshold."""
    import samlet

    height, width = np.asarray(PILImage.open(photo)).shape[:2]
    logits = samlet.load(weights).segment(photo, points=[width / 2, height / 2], multimask=True).logits
    return [str(np.median(logits)), str(logits.std() / 10)]


def child(kind, weights, photo, grid, threshold):
    """Run one of them once and print what it took."""
    pixels = np.asarray(PILImage.open(photo).convert("RGB"))
    generate = {"reference": reference, "exact": exact, "fast": fast}[kind](weights, grid, threshold)
    started = time.perf_counter()
    records = generate(pixels)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "boxes": [record["bbox"] for record in records]}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument(
        "--nms", type=float, default=1.0, help="box overlap allowed; 1 keeps all, SAM's own is 0.7"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, weights, threshold, offset = args.child
        grid = {"points_per_side": args.side, "stability_score_offset": float(offset), **SETTINGS}
        grid["box_nms_thresh"] = args.nms
        child(kind, Path(weights), args.photo, grid, float(threshold))
        return
    from tests.random_mobile_sam import save

    with tempfile.TemporaryDirectory() as folder:
        weights = save(Path(folder) / "mobile_sam.pt")
        where = cuts(weights, args.photo)
        found = {}
        for kind in ("reference", "exact", "fast"):
            words = [
                "--photo",
                str(args.photo),
                "--side",
                str(args.side),
                "--nms",
                str(args.nms),
                "--child",
                kind,
                str(weights),
                *where,
            ]
            command = [sys.executable, "-m", "benchmarks.everything_and_reference", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[kind] = json.loads(done.stdout.splitlines()[-1])
    if args.json:
        print(json.dumps(found))
        return
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
