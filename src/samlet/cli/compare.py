"""`samlet compare`: several models on one picture, on this machine, in one table."""

import argparse
import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output, points
from samlet.cli import run as shared
from samlet.errors import InputError

if TYPE_CHECKING:
    from samlet.compare.contestants import Contest
    from samlet.compare.measure import Plan, Scores
    from samlet.compare.report import Comparison
    from samlet.evaluate.datasets import Dataset
    from samlet.image import Image

_DESCRIPTION = """\
Measure several models on one picture: parameters, file size, time of encoder and decoder, everything mode, peak
memory, and their masks side by side. With --data also how well they agree with what people marked, with --reference
with another model.
"""
_EPILOG = """\
Every model runs in a process of its own and all take turns. cat.jpg becomes cat.compare.md, cat.compare.json and
cat.compare.png in the output folder; files of an earlier run are replaced. Without a prompt the middle of the picture
is clicked. The last line is the command that measures the same again.

  samlet compare cat.jpg --models nano,mobile_sam.pt,FastSAM-s.pt --reference mobile_sam.pt
"""
_SUFFIXES = (".compare.md", ".compare.json", ".compare.png")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "compare",
        help="compare models on a picture of yours: cost, masks, agreement",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("picture", metavar="PHOTO", help="the picture")
    points.add_prompt_arguments(parser)
    group = parser.add_argument_group("models")
    group.add_argument(
        "--models",
        required=True,
        metavar="NAME[,NAME...]",
        help="names from `samlet models`, or weights files: .pt, .pth, .safetensors",
    )
    group.add_argument(
        "--reference", metavar="NAME", help="also compare all answers with this model's; it is compared too"
    )
    group.add_argument(
        "--threads",
        type=functools.partial(shared.whole, option="--threads", most=4096, advice="leave it out for all"),
        metavar="N",
        help="threads of each model (default: all cores)",
    )
    shared.add_runtime(group)
    group = parser.add_argument_group("measurements")
    group.add_argument(
        "--everything",
        default="objects,grid16",
        metavar="KIND[,KIND...]",
        help="kinds of everything mode: objects, grid16, hierarchical32 (any number), or none (default: %(default)s); "
        "FastSAM always takes its regions",
    )
    group.add_argument(
        "--rounds",
        type=functools.partial(shared.whole, option="--rounds", most=50),
        default=5,
        metavar="N",
        help="how often encoder and decoder are timed (default: %(default)s)",
    )
    group.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SET",
        help="pictures with masks, as for `samlet evaluate --on`; may come several times; needs "
        "pip install 'samlet[eval]'",
    )
    part = group.add_mutually_exclusive_group()
    part.add_argument("--limit", type=int, metavar="N", help="only the first N pictures of each set")
    part.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th picture of a set")
    group = parser.add_argument_group("results")
    shared.add_output(group, json="print the comparison as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare, print and write.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        SamletError: The picture, the prompt, a model, a set or the output folder cannot be used.
    """
    from samlet.compare.contestants import Setup, contest
    from samlet.compare.measure import Plan
    from samlet.image import Image
    from samlet.prompt import Prompt

    output.check_folder(args.output)
    image = Image.load(args.picture)
    prompt = _prompt(args, image)
    checked = Prompt.make(image_hw=image.hw, **prompt)
    plan = Plan(prompt, _kinds(args.everything), args.rounds)
    models = _models(args)
    datasets = _datasets(args)
    setup = Setup(args.backend, args.shape, args.threads)
    with contest(models, setup) as contestants, _progress(quiet=args.quiet or args.json) as say:
        found = _measured(args, contestants, image, plan, checked=checked, datasets=datasets, say=say)
    _write(args, found)
    return 0


def command_line(args: argparse.Namespace, prompt: dict[str, Any]) -> str:
    """Give the command that measures the same again, without where its results go.

    Args:
        args: Parsed words of the command.
        prompt: What the models were asked.
    """
    words = ["samlet", "compare", args.picture, "--models", args.models]
    words += ["--reference", args.reference] if args.reference else []
    for (x, y), label in zip(prompt.get("points", ()), prompt.get("labels", ()), strict=True):
        words += ["--point" if label else "--not-point", f"{x:g},{y:g}"]
    for corners in prompt.get("boxes", ()):
        words += ["--box", ",".join(f"{corner:g}" for corner in corners)]
    words += ["--everything", args.everything, "--rounds", str(args.rounds)]
    for path in args.data:
        words += ["--data", path]
    defaults = {"limit": None, "every": 1, "threads": None, "backend": "onnx", "shape": "auto"}
    for option, default in defaults.items():
        value = getattr(args, option)
        words += [f"--{option}", str(value)] if value != default else []
    return shlex.join(words)


def _measured(  # noqa: PLR0913  each is a part of the work
    args: argparse.Namespace,
    contestants: "Contest",
    image: "Image",
    plan: "Plan",
    *,
    checked: Any,
    datasets: "list[Dataset]",
    say: Callable[[str], None],
) -> "Comparison":
    from samlet import __version__
    from samlet.compare import measure
    from samlet.compare.report import Comparison

    reference = contestants.named(args.reference) if args.reference else None
    costs = measure.photo(contestants, image, plan, say=say)
    scores: list[Scores] = []
    if reference is not None:
        boxes = measure.usual_boxes(image)
        if len(boxes):
            say("agreement on the picture")
            scores.append(measure.photo_agreement(contestants, reference, boxes, image))
    for dataset in datasets:
        scores += measure.on_set(contestants, dataset, reference=reference, say=say)
    return Comparison(
        picture=Path(args.picture).name,
        image=image,
        prompt=checked,
        costs=costs,
        scores=scores,
        command=command_line(args, dict(plan.prompt)),
        version=__version__,
        threads=args.threads,
    )


def _prompt(args: argparse.Namespace, image: "Image") -> dict[str, Any]:
    """Take the prompt that was typed, else a click in the middle of the picture."""
    if args.clicks or args.boxes:
        return points.prompt_arguments(args)
    return {"points": [[float(image.width // 2), float(image.height // 2)]], "labels": [1]}


def _kinds(text: str) -> tuple[str, ...]:
    if text.strip() == "none":
        return ()
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _models(args: argparse.Namespace) -> list[str]:
    names = [part.strip() for part in args.models.split(",") if part.strip()]
    if not names:
        raise InputError(
            f"expected models after --models, got {args.models!r:.80}; separate several by commas"
        )
    return [*names, args.reference] if args.reference else names


def _datasets(args: argparse.Namespace) -> "list[Dataset]":
    if not args.data:
        return []
    from samlet.evaluate.clicks import opencv
    from samlet.evaluate.datasets import Dataset

    opencv()  # missing: say so before anything is measured
    return [Dataset.open(path).select(every=args.every, limit=args.limit) for path in args.data]


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done, if a person is looking."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("loading") as status:
        yield lambda text: status.update(escape(output.one_line(text)))


def _write(args: argparse.Namespace, found: "Comparison") -> None:
    from samlet.compare import report

    stem = Path(args.picture).stem
    markdown, data, sheet = (stem + suffix for suffix in _SUFFIXES)
    record = report.to_dict(found)
    try:
        written = output.write(
            args.output,
            {
                sheet: report.sheet_png(found),
                markdown: report.to_markdown(found, sheet=sheet).encode("utf-8", "backslashreplace"),
                data: (json.dumps(record, indent=1) + "\n").encode(),
            },
        )
    finally:  # a full disk must not cost the figures
        if args.json:
            print(json.dumps(record), flush=True)
        elif not args.quiet:
            _print(found)
    if not args.quiet and not args.json:
        print(f"written: {shared.places(written)}", flush=True)
        print(found.command, flush=True)


def _print(found: "Comparison") -> None:
    from rich.console import Console

    from samlet.compare import report

    console = Console()
    for table in report.to_tables(found):
        console.print(table)
    for remark in report.remarks(found):
        console.print(output.one_line(remark), markup=False, highlight=False, style="dim")
