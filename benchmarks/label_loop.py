"""The label loop on nuclei: which pictures a person labels first, and how many clicks a model needs on others.

    python -m benchmarks.label_loop split ../shared/data/train/dsb2018 loop
    samlet finetune --data loop/labelled --out loop/run ...
    python -m benchmarks.label_loop clicks nano loop/run/model.safetensors --on ../shared/data/bench/dsb2018_30

`split` takes 20 pictures to label and 24 others to choose settings by, evenly spread over the set. `clicks` simulates a
person (the protocol "clicks" of `samlet evaluate`) who stops at an IoU of 0.85 or after 20 clicks.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Literal

import numpy as np

from samlet import backends, registry
from samlet.data import Dataset, Sample
from samlet.evaluate.metrics import iou
from samlet.evaluate.protocols import Scene, correct
from samlet.model import Model
from samlet.session import Session

LABELLED, CHOSEN_BY = 20, 24
THRESHOLD, CAP = 0.85, 20


def split(source: Path, target: Path) -> None:
    """Copy two parts of a set: every tenth picture, and every eighth of the others."""
    items = Dataset.open(source).items
    labelled = items[:: len(items) // LABELLED][:LABELLED]
    others = [item for item in items if item not in labelled]
    for name, part in (("labelled", labelled), ("chosen_by", others[4::8][:CHOSEN_BY])):
        for item in part:
            for folder, path in (("images", item.image_path), ("masks", item.mask_path)):
                (target / name / folder).mkdir(parents=True, exist_ok=True)
                if path is not None:
                    shutil.copy(path, target / name / folder / path.name)
        print(f"{target / name}: {len(part)} pictures")


def clicks_of(
    model: Model, sample: Sample, per_picture: int | None, *, zoom: Literal["off", "auto"] = "off"
) -> list[tuple[int, bool, float]]:
    """Count the clicks on some objects of a picture: how many, whether they were enough, and the first one's IoU."""
    image = sample.load_image()
    view = model.embed(image)
    count = len(sample.regions)
    some = sorted(
        set(np.linspace(0, count - 1, min(per_picture or count, count)).round().astype(int).tolist())
    )
    found = []
    for index in some:
        truth = sample.regions[index].mask & ~sample.ignore
        if truth.any():
            scene = Scene(image=image, view=view, truths=truth[None], ignore=sample.ignore)
            values: list[float] = []
            for round_ in correct(model, scene, clicks=CAP, zoom=zoom):
                values.append(iou(round_.masks[0], truth, ignore=sample.ignore))
                if values[-1] >= THRESHOLD:
                    break
            reached = values[-1] >= THRESHOLD
            found.append((len(values) if reached else CAP, reached, values[0]))
    return found


def clicks(
    names: list[str], on: str, per_picture: int | None, *, zoom: Literal["off", "auto"] = "off"
) -> None:
    """Print a row for each model; the interval is of the mean over pictures, resampled."""
    print(
        "| model | clicks to 0.85 (cap 20) | 95 % interval | not reached | IoU of the first click | objects | s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in names:
        model = Model(Session(registry.resolve(name), backends.create("onnx"), threads=1))
        start = time.process_time()
        pictures = [
            clicks_of(model, sample, per_picture, zoom=zoom) for sample in Dataset.open(on).samples(broken=[])
        ]
        pictures = [one for one in pictures if one]
        rows = np.array([row for one in pictures for row in one], float)
        sums = np.array([[sum(row[0] for row in one), len(one)] for one in pictures], float)
        drawn = sums[np.random.default_rng(0).integers(0, len(sums), (2000, len(sums)))].sum(1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        mean, reached, first = rows.mean(0)
        print(
            f"| {name} | {mean:.2f} | {low:.2f} - {high:.2f} | {1 - reached:.1%} | {first:.3f} | {len(rows)} | "
            f"{time.process_time() - start:.0f} |",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("split")
    one.add_argument("source", type=Path)
    one.add_argument("target", type=Path)
    one = commands.add_parser("clicks")
    one.add_argument("models", nargs="+")
    one.add_argument("--on", required=True)
    one.add_argument("--per-picture", type=int, help="only so many objects of each picture, evenly spread")
    one.add_argument(
        "--zoom", choices=("off", "auto"), default="auto", help="look from near at small objects"
    )
    args = parser.parse_args()
    if args.command == "split":
        split(args.source, args.target)
    else:
        clicks(args.models, args.on, args.per_picture, zoom=args.zoom)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
