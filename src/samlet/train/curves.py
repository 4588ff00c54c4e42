"""Draw a run's `metrics.jsonl` as a PNG: losses, running IoU, and the held-out figures.

python -m samlet.train.curves runs/nano            # writes runs/nano/curves.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

from samlet.errors import InputError, MissingExtraError

# What the recipes log: `prompts` IoU by kind of prompt; `objects` the IoU of boxes, and their average recall.
RUNNING = ("box", "click", "best3", "corrected", "iou")
HELD_OUT = ("box", "click1", "best3", "click3", "click5", "AR@10", "AR@100")


def read_metrics(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of running numbers and rows of held-out numbers of one run."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise InputError(
            f"expected a run with metrics.jsonl in {folder}, found none; pass the recipe's --out folder"
        )
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    held_out = [{**r["held_out"], "minutes": r["minutes"]} for r in rows if "held_out" in r]
    return [r for r in rows if "held_out" not in r], held_out


def draw(folder: Path) -> Path:
    """Write `curves.png` into the run's folder and return its path.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "this needs matplotlib; install it with pip install 'samlet[train]'"
        ) from None
    running, held_out = read_metrics(folder)
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in RUNNING:
        points = [(r["minutes"], r[name]) for r in running if name in r]
        if points:
            left.plot([x for x, _ in points], [y for _, y in points], label=name)
    left.set(
        title="training crops, current weights (running mean)",
        xlabel="minutes",
        ylabel="IoU",
        ylim=(0.2, 0.95),
    )
    for name in HELD_OUT:
        points = [(r["minutes"], r[name]) for r in held_out if name in r]
        if points:
            right.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    low = 0.0 if any("AR@10" in r for r in held_out) else 0.2
    right.set(title="held-out pictures, averaged weights", xlabel="minutes", ylim=(low, 0.95))
    for axis in (left, right):
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="draw the curves of a training run")
    parser.add_argument("folder", type=Path)
    print(draw(parser.parse_args().folder))
