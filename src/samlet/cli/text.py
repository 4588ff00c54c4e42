"""`samlet text`: what words name becomes masks in files."""

import argparse
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import findings, output
from samlet.cli import run as shared
from samlet.errors import InputError, ModelError

if TYPE_CHECKING:
    from samlet.masks import StoredMasks
    from samlet.model import Model

_DESCRIPTION = """\
Find what words name in each picture, and write the masks as files.
"""
_HOW = """\
samlet ships no model that reads; bring one, as docs/how-to/text-prompts.md says.

With a CLIP, everything in the picture is found first, and the regions that fit the words best are chosen. Something is
found for nearly every text; only --threshold says no. Without --clip and --detector, the CLIP in the cache's folder
by_hand is taken.

With a detector, and the packages transformers and torch, boxes are found by text and the model cuts them out.
"""
_RESULTS = """\
mask and cutout are one file a mask, the others one a picture. coco, polygons, labelme, geojson and csv name each mask
by its text; yolo numbers the texts from 0, in the order of --find.
"""
_EXAMPLES = """\
examples:
  samlet text photo.jpg --find "a dog" --find "a bench" \\
      --clip vision_model.onnx text_model.onnx tokenizer.json
  samlet text holiday/ --find "a dog" --format coco,overlay \\
      --detector IDEA-Research/grounding-dino-tiny
  samlet text photo.jpg --find "a dog" --threshold 24 --at-most all

"""
_LISTED = 20  # masks that people get a line for


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "text",
        help="find in pictures what words name, with a CLIP or a detector of yours",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + shared.AFTERWARDS,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    shared.add_pictures(parser)
    group = parser.add_argument_group("words", _HOW)
    group.add_argument(
        "--find",
        dest="texts",
        action="append",
        required=True,
        metavar="TEXT",
        help='what to look for, such as "a dog"; may come several times',
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--clip",
        nargs=3,
        metavar=("IMAGE.onnx", "TEXT.onnx", "TOKENIZER.json"),
        help="the three files of a CLIP (pip install 'samlet[text]', no torch)",
    )
    either.add_argument(
        "--detector",
        metavar="NAME",
        help="a GroundingDINO or OWLv2: a folder, or a repository in the Hugging Face cache",
    )
    group.add_argument(
        "--download",
        action="store_true",
        help="let transformers download the detector; samlet cannot compare its digests",
    )
    group.add_argument(
        "--at-most",
        type=_at_most,
        default=argparse.SUPPRESS,
        metavar="N",
        help="most masks for each text, or all (default: 1 with a CLIP, all with a detector)",
    )
    group.add_argument(
        "--threshold",
        type=functools.partial(shared.number, option="--threshold"),
        metavar="T",
        help="lowest score of a text: for a detector 0 to 1 (default 0.25); for a CLIP a hundred times the cosine, "
        "about 25 to 35 for good matches (default: none)",
    )
    shared.add_model(parser.add_argument_group("model"))
    shared.add_results(parser, findings.FORMATS, notes=_RESULTS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find what the words name in the pictures.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The only picture failed, or the options, a model or the output folder cannot be used.
        PartialFailureError: Some of several pictures failed.
    """
    texts = _check(args)
    found, names = shared.find(args)
    job = _Job(args, texts, names)

    def work(path: str, _: shared.Meter) -> int:
        done = job.work(path)
        shared.report(args, lambda: _record(done, texts), lambda: _lines(done, texts))
        for name in () if args.quiet else done.empty:
            shared.note(f"{name}: not written, because nothing was found to show in it")
        return len(done.found.masks)

    return shared.each(found, work, quiet=args.quiet)


def _check(args: argparse.Namespace) -> list[str]:
    """Read the texts, and refuse options that would do nothing, before anything is loaded."""
    from samlet.text.labelled import read_texts

    if args.download and args.detector is None:
        raise InputError(
            "expected --download with --detector, got it alone; name the detector or leave it out"
        )
    if args.detector is not None and args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(
            f"expected --threshold from 0 to 1 with --detector, got {args.threshold:g}; 0.25 is the default"
        )
    return read_texts(args.texts)


def _at_most(text: str) -> int | None:
    if text == "all":
        return None
    return shared.whole(text, option="--at-most", most=4096, advice="or give the word all")


@dataclass(frozen=True)
class _Done:
    """What came out for one picture."""

    found: findings.Findings
    files: list[Path]
    empty: list[str]
    times_ms: dict[str, float]


class _Job:
    """The steps for one picture, and what all of them share: names, and the models once they are needed."""

    def __init__(self, args: argparse.Namespace, texts: list[str], names: output.Names) -> None:
        self._args, self._texts, self._names = args, texts, names
        self._model: Model | None = None
        self._reads: dict[str, Any] = {}

    def work(self, path: str) -> _Done:
        from samlet.image import Image

        args = self._args
        image = Image.load(path)
        model = self._loaded()
        start = time.perf_counter()
        masks = self._masks(model, image)
        middle = time.perf_counter()
        labels = [str(text) for text in masks.facts["text"]]
        found = findings.Findings(path, image, masks, labels, [self._texts.index(text) for text in labels])
        named = self._names.claim(
            Path(path).stem, lambda stem: findings.file_names(stem, args.formats, count=len(masks))
        )
        files = findings.contents(found, named, args.output)
        return _Done(
            found=found,
            files=output.write(args.output, files),
            empty=[name for name, content in files.items() if content is None],
            times_ms={"find": 1000 * (middle - start), "write": 1000 * (time.perf_counter() - middle)},
        )

    def _loaded(self) -> "Model":
        if self._model is None:
            self._reads = _reader(self._args)  # first: it is what is missing more often
            self._model = shared.load_model(self._args)
        return self._model

    def _masks(self, model: "Model", image: Any) -> "StoredMasks":
        from samlet.uses.plain import stored

        args = self._args
        by_boxes = "detector" in self._reads
        bound = args.at_most if "at_most" in args else None if by_boxes else 1
        masks = stored(model.text(image, self._texts, **self._reads, at_most=bound, threshold=args.threshold))
        return _first_of_each(masks, bound) if by_boxes and bound is not None else masks


def _first_of_each(masks: "StoredMasks", count: int) -> "StoredMasks":
    """Keep so many masks of each text, those that come first."""
    seen: dict[str, int] = {}
    rows = []
    for row, text in enumerate(masks.facts["text"].tolist()):
        seen[text] = seen.get(text, 0) + 1
        if seen[text] <= count:
            rows.append(row)
    return masks[rows]


def _reader(args: argparse.Namespace) -> dict[str, Any]:
    """Load what reads the texts, as an argument for `Model.text`."""
    from samlet import text

    try:
        if args.detector is not None:
            return {"detector": text.load_detector(args.detector, local_files_only=not args.download)}
        if args.clip is not None:
            return {"scorer": text.load_clip(*args.clip, threads=args.threads)}
        return {"scorer": text.default_scorer()}
    except ModelError as error:
        said, _, advice = str(error).partition(", or pass ")  # which is for people who write programs
        if args.detector is None:
            advice = advice and ", or name a CLIP's files with --clip or a detector with --detector"
        else:
            advice = ", or add --download" if "local_files_only" in advice and not args.download else ""
        raise type(error)(said + advice) from error


def _record(done: _Done, texts: list[str]) -> dict[str, Any]:
    """Describe one picture for machines."""
    masks = findings.records(done.found)
    for mask in masks:
        mask["facts"].pop("text")  # it stands beside them
    return {
        "image": done.found.path,
        "width": done.found.image.width,
        "height": done.found.image.height,
        "texts": texts,
        "masks": masks,
        "files": [str(path) for path in done.files],
        "times_ms": {name: round(value, 1) for name, value in done.times_ms.items()},
    }


def _lines(done: _Done, texts: list[str]) -> list[str]:
    """Describe one picture for people: one line, one for each mask, and one for each text that found nothing."""
    masks = done.found.masks
    count = len(masks)
    what = "nothing found" if not count else "1 mask" if count == 1 else f"{count} masks"
    times = ", ".join(f"{name} {value:.0f} ms" for name, value in done.times_ms.items())
    lines = [f"{output.one_line(done.found.path)}: {what} -> {shared.places(done.files)} ({times})"]
    sure = masks.facts.get("text_score", masks.facts.get("box_score"))
    for row, text in enumerate((done.found.labels or [])[:_LISTED]):
        box = ",".join(map(str, masks.boxes_xyxy[row].tolist()))
        known = "" if sure is None else f"text score {float(sure[row]):.2f}, "
        part = shared.share(int(masks.areas[row]), masks.frame.image_hw)
        lines.append(f"  {row + 1} {output.one_line(text)}: {known}{part} of the picture, box {box}")
    if count > _LISTED:
        lines.append(f"  and {count - _LISTED} more")
    lines += [
        f"  {output.one_line(text)}: nothing" for text in texts if text not in (done.found.labels or [])
    ]
    return lines
