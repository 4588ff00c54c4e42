"""Fast and exact everything mode beside each other: do they find the same masks, at what cost?

    python benchmarks/everything_modes.py samples/coffee.jpg samples/chelsea.jpg samples/astronaut.jpg

Each mode runs in a process of its own, so that each has its own peak memory; seconds are of processor time on one
thread, so that they hold on a busy machine. A mask is found again if the other mode has one of IoU 0.9 or more.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

import samlet
from samlet.everything import Grid, GridEngine
from samlet.geometry import mask_iou
from samlet.image import Image
from samlet.rle import rle_to_mask

# nano rates its own masks lower than SAM does, so SAM's thresholds of 0.88 and 0.95 leave nothing.
GRID = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.6}


def measure(path: str, mode: str, model: str, side: int) -> dict[str, Any]:
    """Run one mode once, and give its masks and what it cost."""
    engine = GridEngine(samlet.load(model, threads=1).session, Grid(side, **GRID), mode=mode)
    image = Image.load(path)
    started = time.process_time()
    engine.initialize(image, score_floor=0.2, stability_floor=0.6)
    decoded = time.process_time()
    masks = engine.generate()
    return {
        "initialize": decoded - started,
        "generate": time.process_time() - decoded,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rles": masks.to_rle(),
    }


def compare(fast: list[Any], exact: list[Any]) -> tuple[float, float, float, float]:
    """Shares of exact masks found again in fast ones and the other way round, and the IoU of the best pairs."""
    a, b = ([rle_to_mask(rle) for rle in rles] for rles in (fast, exact))
    overlaps = np.array([[mask_iou(one, other) for other in b] for one in a]).reshape(len(a), len(b))
    if not overlaps.size:
        return (0.0, 0.0, 0.0, 0.0)
    best = overlaps.max(axis=0)
    paired = best[best >= 0.9]
    return (
        float((best >= 0.9).mean()),
        float((overlaps.max(axis=1) >= 0.9).mean()),
        float(paired.mean()) if len(paired) else 0.0,
        float(paired.min()) if len(paired) else 0.0,
    )


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--side", type=int, default=32, help="points along each side")
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(measure(options.pictures[0], options.mode, options.model, options.side)))
        return
    print("| picture | masks fast, exact | exact found again | fast found again | IoU mean, least |", end="")
    print(" initialize s | generate s | peak MiB |\n|" + "---|" * 8)
    for picture in options.pictures:
        runs = {}
        for mode in ("fast", "exact"):
            command = [sys.executable, __file__, picture, "--mode", mode]
            command += ["--model", options.model, "--side", str(options.side)]
            runs[mode] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        fast, exact = runs["fast"], runs["exact"]
        again, back, mean, least = compare(fast["rles"], exact["rles"])
        costs = [f"{fast[key]:.2f}, {exact[key]:.2f}" for key in ("initialize", "generate")]
        print(f"| {picture} | {len(fast['rles'])}, {len(exact['rles'])} | {again:.3f} | {back:.3f} ", end="")
        print(f"| {mean:.4f}, {least:.3f} | {' | '.join(costs)} ", end="")
        print(f"| {fast['peak_mib']:.0f}, {exact['peak_mib']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
