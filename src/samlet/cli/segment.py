"""`samlet segment`: pictures and a prompt become masks in files."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output, points
from samlet.cli import run as shared
from samlet.errors import InputError

if TYPE_CHECKING:
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
    shared.add_pictures(parser)
    points.add_prompt_arguments(parser)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--multimask",
        action="store_true",
        help="three candidates for each object, best first, instead of one mask",
    )
    shared.add_model(group)
    group.add_argument(
        "--zoom",
        choices=("off", "auto"),
        default="auto",
        help="auto: look again at small boxes, and at small objects with four clicks or more, one more encoding each "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--decode",
        choices=("whole", "draft"),
        default="whole",
        help="draft: decode large JPEGs at a part of their size, for mask and data formats only; small boxes are then "
        "looked at once, and edges move slightly (default: %(default)s)",
    )
    group = shared.add_results(parser, output.FORMATS)
    group.add_argument(
        "--label",
        default="object",
        metavar="NAME",
        help="name of the objects in coco, polygons and labelme files",
    )
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
    drawn = [name for name in args.formats if name in ("overlay", "cutout")]
    if args.decode == "draft" and drawn:
        raise InputError(
            f"expected formats without the picture in them (mask, {', '.join(output.DATA)}) for --decode draft, got "
            f"{drawn[0]}; choose others with --format, or leave --decode out"
        )
    found, names = shared.find(args)
    job = _Job(args, asked, names)
    return shared.each(found, lambda path, _: _report(job.work(path), args), quiet=args.quiet)


@dataclass(frozen=True)
class _Done:
    """What came out for one picture."""

    path: str
    hw: tuple[int, int]
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
        from samlet.draft import Draft
        from samlet.image import Image
        from samlet.prompt import Prompt

        args = self._args
        drafted = args.decode == "draft"
        image = Draft.load(path, side=self._loaded().card.side) if drafted else Image.load(path)
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
        view = model.session.embed(image)
        middle = time.perf_counter()
        masks = model.segment(view, **self._asked, multimask=args.multimask, zoom=args.zoom)
        end = time.perf_counter()
        answers = _ranked(masks)
        pixels = None if isinstance(image, Draft) else image
        files = output.contents(pixels, answers, named, picture=path, folder=args.output, label=args.label)
        return _Done(
            path=path,
            hw=image.hw,
            asked=self._asked,
            answers=answers,
            files=output.write(args.output, files),
            empty=[name for name, content in files.items() if content is None],
            embed_ms=1000 * (middle - start),
            segment_ms=1000 * (end - middle),
        )

    def _loaded(self) -> "Model":
        if self._model is None:
            self._model = shared.load_model(self._args)
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
    shared.report(args, lambda: _record(done), lambda: _lines(done))
    for name in () if args.quiet else done.empty:
        shared.note(f"{name}: not written, because its mask is empty")


def _record(done: _Done) -> dict[str, Any]:
    """Describe one picture for machines."""
    objects = []
    for index in range(len(done.answers[0])):
        for letter, answer in zip(output.LETTERS, done.answers, strict=False):
            one = answer[index]
            record = {
                "object": index + 1,
                "score": shared.rounded(float(one.scores[0]), 4),
                "area": int(one.areas[0]),
                "bbox_xyxy": one.boxes_xyxy[0].tolist(),
                "rle": one.to_rle()[0],
            }
            objects.append({**record, "candidate": letter} if len(done.answers) > 1 else record)
    return {
        "image": done.path,
        "width": done.hw[1],
        "height": done.hw[0],
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
    times = f"embed {done.embed_ms:.0f} ms, segment {done.segment_ms:.0f} ms"
    rest = [f"  {name}: {text}" for name, text in seen] if len(seen) > 1 else []
    return [f"{output.one_line(done.path)}: {what} -> {shared.places(done.files)} ({times})", *rest]


def _seen(one: "Masks") -> str:
    score, area = float(one.scores[0]), int(one.areas[0])
    if not area:
        return f"nothing found, score {score:.2f}"
    x0, y0, x1, y1 = one.boxes_xyxy[0].tolist()
    return (
        f"score {score:.2f}, {shared.share(area, one.frame.image_hw)} of the picture, box {x0},{y0},{x1},{y1}"
    )
