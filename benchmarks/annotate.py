"""`samlet annotate` beside the bare encoder and decoder: 1,000 boxes on 200 pictures.

    python -m benchmarks.annotate ../shared/data/train/coco_mini

Bare is the model alone on pictures that lie decoded in memory: embed each, and answer its boxes in one batch, logits
only. Annotate is the whole command's work in one process with as many threads: listing, reading, decoding, masks of
full size, run lengths, figures of quality, files, the ledger, the page for review, and the load of the model.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from samlet import batch, load
from samlet.batch.engine import Job
from samlet.batch.record import Report, Task
from samlet.batch.worker import Worker
from samlet.data import Dataset
from samlet.image import Image

BOXES, PICTURES = 1000, 200


class Here:
    """An engine in this process, so that both sides have the same threads and no start of workers."""

    def reports(self, job: Job, tasks: Iterator[Task]) -> Generator[Report, None, None]:
        worker = Worker(job.recipe, threads=job.threads)
        for task in tasks:
            yield worker.work(task, job.folder, life=job.life)


def chosen(source: Path) -> list[tuple[Path, list[tuple[float, float, float, float]]]]:
    """Take 200 pictures with 1,000 boxes between them: those with the most, five each on average."""
    dataset = Dataset.open(source)
    found = [
        (item.image_path.resolve(), [box for _, box in dataset.boxes(item).boxes]) for item in dataset.items
    ]
    found = sorted((one for one in found if one[1]), key=lambda one: -len(one[1]))[:PICTURES]
    left, made = BOXES, []
    for place, (path, boxes) in enumerate(found):
        share = -(-left // (len(found) - place))
        made.append((path, boxes[: max(1, share)]))
        left -= len(made[-1][1])
    return made


def bare(pictures: list[tuple[Image, list[tuple[float, float, float, float]]]], threads: int) -> float:
    """Seconds of the encoder and the decoder alone."""
    model = load("nano", threads=threads)
    model.segment(model.embed(pictures[0][0]), boxes=pictures[0][1])
    start = time.perf_counter()
    for image, boxes in pictures:
        _ = model.segment(model.embed(image), boxes=boxes).logits
    return time.perf_counter() - start


def annotate(
    pictures: list[tuple[Path, list[tuple[float, float, float, float]]]], formats: tuple[str, ...]
) -> float:
    """Seconds of the whole."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        lines = []
        for path, boxes in pictures:
            (root / "photos" / path.name).symlink_to(path)
            lines.append(
                json.dumps({"name": path.name, "objects": [{"box": box, "label": "x"} for box in boxes]})
            )
        (root / "boxes.jsonl").write_text("\n".join(lines))
        recipe = batch.Recipe(
            prompted=True, zoom="off", formats=("jsonl", *formats), rated=True, classes=("x",)
        )
        start = time.perf_counter()
        summary = batch.run(
            [str(root / "photos")],
            root / "out",
            recipe=recipe,
            prompts=str(root / "boxes.jsonl"),
            engine=Here(),
            threads=1,
        )
        seconds = time.perf_counter() - start
        assert summary.counts.failed == 0 and summary.counts.masks == sum(len(boxes) for _, boxes in pictures)
        return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="a set with at least 200 pictures and 1,000 objects")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--format", default="coco", help="comma-separated")
    args = parser.parse_args()
    pictures = chosen(args.source)
    loaded = [(Image.load(path), boxes) for path, boxes in pictures]
    count = sum(len(boxes) for _, boxes in pictures)
    print(
        f"{len(pictures)} pictures, {count} boxes, nano, one thread, best of {args.rounds} rounds taking turns"
    )
    best = {"bare": float("inf"), "annotate": float("inf")}
    for _ in range(args.rounds):
        best["bare"] = min(best["bare"], bare(loaded, 1))
        best["annotate"] = min(best["annotate"], annotate(pictures, tuple(args.format.split(","))))
    print(
        f"bare {best['bare']:.1f} s, annotate {best['annotate']:.1f} s: {best['annotate'] / best['bare']:.2f} times"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
