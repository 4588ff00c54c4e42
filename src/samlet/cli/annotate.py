"""`samlet annotate`: boxes of a whole data set become masks, with a figure of how far each can be trusted."""

import argparse
import functools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.batch.recipe import ANNOTATIONS, Recipe
from samlet.cli import batch as batches
from samlet.cli import output
from samlet.cli import run as shared
from samlet.errors import InputError, PartialFailureError

if TYPE_CHECKING:
    from samlet.batch.boxes import Find, Gathered

FORMATS = ("coco", *ANNOTATIONS, "labels", "parquet")
_SAME = {"yolo": "yolo", "labelme": "labelme", "voc": "voc"}  # whatever else comes in goes out as COCO
_DESCRIPTION = """\
Turn the boxes of a data set into masks: boxes in, masks out, in the same format or another.

  samlet annotate yolo:my-set --output labels
  samlet annotate coco:boxes.json@photos --format yolo,coco --output labels
  samlet annotate photos/ --find "a dog" --detector IDEA-Research/grounding-dino-tiny --output labels

Every mask has a score, a stability and an agreement with its box. quality.csv lists them; review.html shows the 200
most in doubt, each with a small picture. Whatever stops the run, the same command goes on where it was.
"""
_DATA = """\
DATA is KIND:PATH, such as yolo:FOLDER, coco:FILE@PICTURES, voc:FOLDER, labelme:FOLDER or csv:FILE
(docs/how-to/data-sets.md), or a path whose kind is guessed. With --detector it is whatever samlet batch takes.
"""
_RESULTS = """\
  coco     coco.json, run lengths, with the figures beside the score
  yolo     yolo/NAME.txt and classes.txt       labelme  labelme/NAME.json, to be put beside the pictures
  voc      voc/SegmentationObject/NAME.png and voc/Annotations/NAME.xml
  labels   labels/NAME.png, a map of labels    parquet  parquet/, a row a picture (needs samlet[data])
records/ has a line of JSON a picture in any case. left_out.jsonl lists marks that could not be used.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "annotate",
        help="turn the boxes of a whole data set into masks, and see which to look at",
        description=_DESCRIPTION,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("boxes", _DATA)
    group.add_argument("data", metavar="DATA", help="pictures with boxes")
    group.add_argument(
        "--find",
        dest="texts",
        action="append",
        metavar="TEXT",
        help="with --detector: what to look for; repeat it",
    )
    group.add_argument(
        "--detector",
        metavar="NAME",
        help="a GroundingDINO or OWLv2 (docs/how-to/text-prompts.md) that finds the boxes",
    )
    group.add_argument("--download", action="store_true", help="let transformers download the detector")
    group.add_argument(
        "--threshold",
        type=functools.partial(shared.number, option="--threshold", least=0, most=1),
        default=0.25,
        metavar="T",
        help="lowest score of a detection (default: 0.25)",
    )
    group = parser.add_argument_group("what is done with each")
    shared.add_model(group)
    group.add_argument("--zoom", choices=("off", "auto"), default="auto", help="look twice at small boxes")
    group = parser.add_argument_group("results", _RESULTS)
    group.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where results and ledger go"
    )
    group.add_argument(
        "--format",
        dest="formats",
        type=functools.partial(output.formats, known=FORMATS),
        metavar="NAME[,NAME...]",
        help=f"{', '.join(FORMATS)} (default: that of the data; else coco)",
    )
    group.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors (and --json)")
    batches.add_engine(parser.add_argument_group("who works"))
    group = parser.add_argument_group("going on")
    group.add_argument("--retry-failed", action="store_true", help="try pictures again that failed before")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Turn boxes into masks.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        PartialFailureError: Some pictures or marks could not be used.
        SamletError: Something is wrong that would hit all pictures.
    """
    from samlet import batch
    from samlet.atomic import not_written
    from samlet.batch import boxes
    from samlet.data.dataset import named_kind

    engine = batches.engine_of(args)
    find = _find(args)
    kind = "" if find is not None else _kind(args.data)
    formats = args.formats or (_SAME.get(kind, "coco"),)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(args.output, error) from error
    gathered = boxes.gather(args.data, args.output, find=find)
    if not gathered.boxes:
        reason = f"; {gathered.left_out[0].name}: {gathered.left_out[0].reason}" if gathered.left_out else ""
        raise InputError(f"expected boxes in {args.data!r:.200}, found none{reason:.300}")
    _refuse_twins(gathered, formats)
    recipe = Recipe(
        model=args.model, decoder=args.decoder, backend=args.backend, shape=args.shape, prompted=True, zoom=args.zoom,
        formats=("jsonl", *formats), rated=True, classes=_classes(args.data, kind, list(gathered.labels), args.texts),
    )  # fmt: skip
    with batches.progress(quiet=args.quiet) as telling:
        summary = batch.run(
            [args.data if find is not None or named_kind(args.data) else f"{kind}:{args.data}"],
            args.output,
            recipe=recipe,
            prompts=str(args.output / boxes.PROMPTS),
            engine=engine,
            threads=args.threads,
            shard=args.shard,
            retry=args.retry_failed,
            progress=telling,
        )
    counts = summary.counts
    if args.json:
        print(json.dumps({
            "pictures": counts.all, "done": counts.done, "failed": counts.failed, "boxes": gathered.boxes,
            "masks": counts.masks, "left_out": len(gathered.left_out), "worked_on": summary.worked_on,
            "output": str(args.output),
        }), flush=True)  # fmt: skip
    elif not args.quiet:
        where = output.one_line(str(args.output))
        print(f"{gathered.boxes:,} boxes in {counts.done:,} pictures: {counts.masks:,} masks -> {where}")
        print(f"what to look at first: {output.one_line(str(args.output / 'review.html'))}", file=sys.stderr)
    if counts.failed or gathered.left_out:
        raise PartialFailureError(
            f"expected masks for all boxes, but {counts.failed} pictures failed (failures.jsonl) and "
            f"{len(gathered.left_out)} pictures or marks were left out (left_out.jsonl); both are in {args.output}"
        )
    return 0


def _kind(words: str) -> str:
    from samlet.data.dataset import parsed

    return parsed(words).kind


def _find(args: argparse.Namespace) -> "Find | None":
    """Make a finder of boxes of the detector, if one is named."""
    if bool(args.detector) != bool(args.texts):
        raise InputError(
            "expected --detector together with --find, got one of them alone; give both or neither"
        )
    if args.detector is None:
        return None
    import numpy as np

    from samlet import text
    from samlet.text.labelled import read_texts

    texts = read_texts(args.texts)
    detector = text.load_detector(args.detector, local_files_only=not args.download)

    def find(image: Any) -> list[tuple[str, list[float]]]:
        found = detector.detect(image, texts, threshold=args.threshold)
        return list(zip(found.texts, np.asarray(found.boxes, float).reshape(-1, 4).tolist(), strict=True))

    return find


def _refuse_twins(gathered: "Gathered", formats: tuple[str, ...]) -> None:
    """Files of annotations go by the picture's name without its ending: two pictures must not share it."""
    if not set(formats) & set(ANNOTATIONS):
        return
    stems = Counter(name.rpartition(".")[0] or name for name in gathered.names)
    stem, count = stems.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"expected pictures whose names differ before the ending, got {count} called {stem!r:.100}; rename them, "
            "or use --format coco"
        )


def _classes(data: str, kind: str, labels: list[str], texts: list[str] | None) -> tuple[str, ...]:
    """Order the labels as YOLO's numbers go: as the data set had them, or by their first box."""
    if texts:
        return tuple(dict.fromkeys([*texts, *labels]))
    if kind == "yolo":
        from samlet.data import Dataset

        names: tuple[str, ...] = getattr(Dataset.open(data, boxes=True).layout, "names", ())
        if not names and all(label.isdecimal() and len(label) < 5 for label in labels):
            return tuple(str(number) for number in range(max(map(int, labels)) + 1))
        return tuple(dict.fromkeys([*names, *labels]))
    return tuple(labels)
