"""`samlet segment`: pictures and a prompt become masks in files."""

import argparse
import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output, pictures, points
from samlet.errors import InputError, ModelError, OutputError, PartialFailureError, SamletError

if TYPE_CHECKING:
    from samlet.image import Image
    from samlet.masks import Masks
    from samlet.model import Model

_DESCRIPTION = """\
Cut out what the prompt points at, in each picture, and write the results as files.
"""
_EPILOG = """\
Every picture gets the same prompt. Of a folder, the pictures in it are taken. Files are named after the
picture and the format: cat.jpg becomes cat.overlay.png, cat.mask.png, cat.cutout.png, cat.coco.json,
cat.polygons.json, cat.json for labelme and cat.txt for yolo. Several objects are numbered (cat.mask-1.png),
candidates of --multimask are lettered from the best (cat.mask-a.png, cat.mask-1a.png; data formats hold the
best), and a second picture called cat becomes cat-2. Files of an earlier run are replaced. With several
pictures a bad one is reported and the others go on; the exit code is then 6.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "segment",
        help="cut objects out of pictures with clicks and boxes",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("pictures", nargs="+", metavar="PHOTO", help="pictures, or folders of pictures")
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders too")
    points.add_prompt_arguments(parser)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--multimask",
        action="store_true",
        help="three candidates for each object, best first, instead of one mask",
    )
    group.add_argument(
        "--model",
        default="nano",
        metavar="NAME",
        help="a name from `samlet models`, or a weights file: .pt, .pth, .safetensors (default: %(default)s)",
    )
    group.add_argument(
        "--decoder",
        metavar="FILE",
        help="SAM's prompt encoder and mask decoder, if the model's file holds the encoder alone",
    )
    group.add_argument(
        "--zoom",
        choices=("off", "auto"),
        default="auto",
        help="auto: look twice at small boxes, one more encoding each (default: %(default)s)",
    )
    group.add_argument(
        "--threads", type=_threads, metavar="N", help="threads to compute with (default: all cores)"
    )
    group = parser.add_argument_group("results")
    group.add_argument(
        "--format",
        dest="formats",
        type=output.formats,
        default=("overlay",),
        metavar="NAME[,NAME...]",
        help=f"what to write: {', '.join(output.FORMATS)} (default: overlay)",
    )
    group.add_argument(
        "--output",
        type=_folder,
        default=Path("samlet-out"),
        metavar="DIR",
        help="where to write; made if it does not exist (default: %(default)s)",
    )
    group.add_argument(
        "--label",
        default="object",
        metavar="NAME",
        help="name of the objects in coco, polygons and labelme files",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object a picture, for machines")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors (and --json)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment the pictures.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The only picture failed, or the prompt, the model or the output folder cannot be used.
        PartialFailureError: Some of several pictures failed.
    """
    asked = points.prompt_arguments(args)
    if not args.label.strip() or not args.label.isprintable():
        raise InputError(f"expected a name after --label, got {args.label!r:.80}; give a word, such as dog")
    output.check_folder(args.output)
    found, twice = pictures.find(args.pictures, recursive=args.recursive, output=args.output)
    for again in () if args.quiet else twice:
        _note(f"{again}: comes twice and is taken once")
    job = _Job(args, asked, output.Names(args.output, [path for path in found if isinstance(path, str)]))
    failed = 0
    with _progress(len(found), quiet=args.quiet) as advance:
        for path in found:
            try:
                if isinstance(path, InputError):
                    raise path
                _report(job.work(path), args)
            except SamletError as error:
                if len(found) == 1 or _is_hopeless(error):
                    raise
                failed += 1
                _complain(path, error)
            advance()
    if failed:
        raise PartialFailureError(
            f"expected masks for {len(found)} pictures, but {failed} of them failed; see the sentences above"
        )
    return 0


@dataclass(frozen=True)
class _Done:
    """What came out for one picture."""

    path: str
    image: "Image"
    asked: dict[str, Any]
    answers: list["Masks"]
    files: list[Path]
    empty: list[str]
    embed_ms: float
    segment_ms: float


class _Job:
    """The steps for one picture, and what all of them share: names, and the model once it is needed."""

    def __init__(self, args: argparse.Namespace, asked: dict[str, Any], names: output.Names) -> None:
        self._args, self._asked, self._names = args, asked, names
        self._model: Model | None = None

    def work(self, path: str) -> _Done:
        from samlet.image import Image
        from samlet.prompt import Prompt

        args = self._args
        image = Image.load(path)
        # The prompt first: a wrong one should not cost an encoding.
        objects = len(Prompt.make(image_hw=image.hw, **self._asked))
        named = self._names.claim(
            Path(path).stem,
            lambda stem: output.file_names(
                stem, args.formats, objects=objects, candidates=3 if args.multimask else 1
            ),
        )
        model = self._loaded()
        start = time.perf_counter()
        view = model.embed(image)
        middle = time.perf_counter()
        masks = model.segment(view, **self._asked, multimask=args.multimask, zoom=args.zoom)
        end = time.perf_counter()
        answers = _ranked(masks)
        files = output.contents(image, answers, named, picture=path, folder=args.output, label=args.label)
        return _Done(
            path=path,
            image=image,
            asked=self._asked,
            answers=answers,
            files=output.write(args.output, files),
            empty=[name for name, content in files.items() if content is None],
            embed_ms=1000 * (middle - start),
            segment_ms=1000 * (end - middle),
        )

    def _loaded(self) -> "Model":
        if self._model is None:
            from samlet import model

            self._model = model.load(
                self._args.model, decoder=self._args.decoder, threads=self._args.threads
            )
        return self._model


def _ranked(masks: "Masks") -> list["Masks"]:
    """Give the best candidates of all objects, then the second best, and so on."""
    if not masks.is_multimask:
        return [masks]
    import numpy as np

    from samlet.masks import Masks

    rows = np.arange(len(masks))
    return [
        Masks(
            logits=masks.logits[rows, chosen],
            scores=masks.scores[rows, chosen],
            frame=masks.frame,
            upscale=masks.upscale,
            threshold=masks.threshold,
            image=masks.image,
            prompt=masks.prompt,
        )
        for chosen in np.argsort(-masks.scores, axis=1, kind="stable").T
    ]


def _report(done: _Done, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(_record(done)), flush=True)
    elif not args.quiet:
        print("\n".join(_lines(done)), flush=True)
    for name in () if args.quiet else done.empty:
        _note(f"{output.one_line(name)}: not written, because its mask is empty")


def _record(done: _Done) -> dict[str, Any]:
    """Describe one picture for machines."""
    objects = []
    for index in range(len(done.answers[0])):
        for letter, answer in zip(output.LETTERS, done.answers, strict=False):
            one = answer[index]
            record = {
                "object": index + 1,
                "score": _number(float(one.scores[0]), 4),
                "area": int(one.areas[0]),
                "bbox_xyxy": one.boxes_xyxy[0].tolist(),
                "rle": one.to_rle()[0],
            }
            objects.append({**record, "candidate": letter} if len(done.answers) > 1 else record)
    return {
        "image": done.path,
        "width": done.image.width,
        "height": done.image.height,
        "prompt": done.asked,
        "objects": objects,
        "files": [str(path) for path in done.files],
        "times_ms": {"embed": round(done.embed_ms, 1), "segment": round(done.segment_ms, 1)},
    }


def _lines(done: _Done) -> list[str]:
    """Describe one picture for people: one line, and one more for each of several masks."""
    count, several = len(done.answers[0]), len(done.answers) > 1
    seen = [
        ((str(index + 1) if count > 1 else "") + letter, _seen(answer[index]))
        for index in range(count)
        for letter, answer in zip(output.LETTERS if several else [""], done.answers, strict=False)
    ]
    what = seen[0][1] if len(seen) == 1 else f"{len(seen)} masks"
    names = [str(path) for path in done.files]
    where = ", ".join(names) if len(names) < 4 else f"{len(names)} files in {done.files[0].parent}"
    times = f"embed {done.embed_ms:.0f} ms, segment {done.segment_ms:.0f} ms"
    rest = [f"  {name}: {text}" for name, text in seen] if len(seen) > 1 else []
    return [f"{output.one_line(done.path)}: {what} -> {output.one_line(where) or 'no file'} ({times})", *rest]


def _seen(one: "Masks") -> str:
    height, width = one.frame.image_hw
    score, area = float(one.scores[0]), int(one.areas[0])
    if not area:
        return f"nothing found, score {score:.2f}"
    x0, y0, x1, y1 = one.boxes_xyxy[0].tolist()
    share = 100 * area / (height * width)
    percent = f"{share:.1f} %" if share >= 0.1 else "less than 0.1 %"
    return f"score {score:.2f}, {percent} of the picture, box {x0},{y0},{x1},{y1}"


@contextmanager
def _progress(count: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error, if a person is looking and there is something to wait for."""
    if quiet or count < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Only lines that go to the same terminal may be moved above the bar; a pipe must get its lines itself.
    bar = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    )
    with bar:
        task = bar.add_task("", total=count)
        yield lambda: bar.advance(task)


def _is_hopeless(error: SamletError) -> bool:
    """Whether the other pictures would fail too: a broken model, a full disk, but not a name too long."""
    if isinstance(error, OutputError):
        return getattr(error.__cause__, "errno", None) not in (errno.ENAMETOOLONG, errno.EISDIR)
    return isinstance(error, ModelError)


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 4096 or len(text) > 9:
        raise InputError(
            f"expected a whole number from 1 to 4096 after --threads, got {text!r:.80}; leave it out for all"
        )
    return int(text)


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise InputError(f"expected a folder after --output, got {text!r:.80}; give its name")
    return Path(os.path.expanduser(text))


def _number(value: float, digits: int) -> float | None:
    """Round for JSON, which knows neither NaN nor infinity."""
    return round(value, digits) if math.isfinite(value) else None


def _complain(path: str | InputError, error: SamletError) -> None:
    """Report one of several pictures, by name: a wrong prompt is not wrong for all of them."""
    text = output.one_line(str(error))
    if isinstance(path, str) and output.one_line(path) not in text:
        text = f"{output.one_line(path)}: {text}"
    print(f"samlet: error: {text}", file=sys.stderr, flush=True)


def _note(text: str) -> None:
    print(f"samlet: note: {output.one_line(text)}", file=sys.stderr, flush=True)
