"""Draw a run's `metrics.jsonl` as a PNG: losses, running overlaps, and the held-out figures.

python -m samlet.train.curves runs/nano            # writes runs/nano/curves.png
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samlet.errors import InputError, MissingExtraError

# Rows hold these too, but they are no curves.
FACTS = frozenset(("step", "minutes", "wall", "pictures_per_s", "share", "canvas", "norm", "lr", "held_out"))


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
    losses, overlaps = _names(running, losses=True), _names(running, losses=False)
    panels = [
        ("loss (running mean)", running, losses, ""),
        ("training pictures, current weights (running mean)", running, overlaps, ""),
        ("held-out pictures, averaged weights", held_out, _names(held_out, losses=False), "o"),
        ("held-out pictures, averaged weights", held_out, _names(held_out, losses=True), "o"),
    ]
    panels = [panel for panel in panels if panel[2]] or panels[:1]
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axis, (title, rows, names, marker) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for name in names:
            points = [(r["minutes"], r[name]) for r in rows if name in r]
            axis.plot([x for x, _ in points], [y for _, y in points], marker=marker, label=name)
        axis.set(title=title, xlabel="minutes")
        if not any(map(_is_loss, names)):
            axis.set(ylabel="overlap or recall", ylim=(0, 1))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def _names(rows: Iterable[Mapping[str, Any]], *, losses: bool) -> list[str]:
    """Columns of one kind, in the order in which they first come; recall by set would be too many."""
    every = dict.fromkeys(key for row in rows for key in row if key not in FACTS and " " not in key)
    return [name for name in every if _is_loss(name) == losses]


def _is_loss(name: str) -> bool:
    return name.startswith("loss") or name == "mse"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="draw the curves of a training run")
    parser.add_argument("folder", type=Path)
    print(draw(parser.parse_args().folder))
