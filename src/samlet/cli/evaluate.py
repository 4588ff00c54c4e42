"""``samlet evaluate``: measures a model on folders of pictures with masks."""

import argparse
import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from samlet.cli.run import add_runtime, whole
from samlet.errors import InputError, PartialFailureError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from samlet.card import Card
    from samlet.evaluate.datasets import Dataset
    from samlet.evaluate.proposals import ProposalResult
    from samlet.evaluate.protocols import Plan, SetResult
    from samlet.evaluate.report import Run
    from samlet.model import Model

_PROTOCOLS = "box,click,clicks"
_PROPOSALS = "proposals"
_Result = TypeVar("_Result")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser; ``run`` is its default ``run``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on pictures with masks",
        description="Measure a model on folders SET with SET/images/NAME.jpg and SET/masks/NAME.png "
        "(region ids; 255 or 65535 is ignored). Needs pip install 'samlet[eval]'.",
    )
    parser.add_argument("model", help="name of a model, or path of a model trained with samlet")
    parser.add_argument("--on", required=True, metavar="PATH[,PATH...]", help="folders of sets")
    parser.add_argument(
        "--protocol",
        default=_PROTOCOLS,
        metavar="NAME[,NAME...]",
        help=f"some of %(default)s (default: all), or {_PROPOSALS}: average recall of everything in a picture",
    )
    parser.add_argument(
        "--everything",
        metavar="NAME[,NAME...]",
        help="ways to find everything: grid32, grid16-nms70, grid32-card, hierarchical32, objects, objects320-box, "
        f"objects@nano, instances; with --protocol {_PROPOSALS} (default: what suits the model)",
    )
    parser.add_argument(
        "--clicks",
        type=int,
        default=20,
        metavar="N",
        help="corrective clicks and cap of NoC, 1 to 20 (default: 20)",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--limit", type=int, metavar="N", help="only the first N pictures of each set")
    part.add_argument(
        "--every", type=int, default=1, metavar="K", help="only each K-th picture, from the first"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="longest side of the picture in the network"
    )
    parser.add_argument(
        "--threads",
        type=functools.partial(whole, option="--threads", most=4096, advice="leave it out for all"),
        metavar="N",
        help="threads to compute with (default: all cores); with 1, processor time is what the work itself costs",
    )
    add_runtime(parser)
    parser.add_argument("--zoom", choices=("off", "auto"), default="off", help="look twice at small boxes")
    parser.add_argument(
        "--no-grabcut", action="store_true", help="leave out the one baseline that takes long"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write report.html, .md, .json and pictures here"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write.

    Returns:
        0, or the code of a partial failure if a set had no object that could be measured.

    Raises:
        SamletError: The arguments, the model or the output folder cannot be used.
    """
    from samlet import __version__
    from samlet.evaluate import report
    from samlet.evaluate.clicks import opencv
    from samlet.evaluate.protocols import Plan

    protocols = _names(args.protocol, "--protocol")
    if _asks_for_proposals(protocols, args.everything):
        return _run_proposals(args)
    plan = Plan(
        protocols=protocols,
        clicks=args.clicks,
        grabcut=not args.no_grabcut,
        zoom=args.zoom,
    )
    datasets = _datasets(args)
    opencv()  # missing: say so before the model is loaded
    if args.output is not None:
        report.make_folder(args.output)
    model = _load(args, args.model, args.size)
    results = _measure(model, datasets, plan, quiet=args.json)
    head = report.Run(
        model=model.card.name, digest=model.card.digest, command=command_line(args), version=__version__
    )
    try:
        if args.output is not None:
            _write(args.output, model, head, results)
    finally:  # a full disk must not cost the figures, nor a closed pipe the files
        if args.json:
            print(json.dumps(report.to_dict(head, results, objects=False), indent=1, ensure_ascii=False))
        else:
            _print(head, report.to_tables(results), report.to_words(results))
    return 0 if all(result.objects for result in results) else PartialFailureError.exit_code


def command_line(args: argparse.Namespace) -> str:
    """Give the command that measures the same again, without where its report goes."""
    words = ["samlet", "evaluate", args.model, "--on", args.on, "--protocol", args.protocol]
    proposals = args.everything is not None
    words += ["--everything", args.everything] if proposals else ["--clicks", str(args.clicks)]
    if args.limit is not None:
        words += ["--limit", str(args.limit)]
    if args.every != 1:
        words += ["--every", str(args.every)]
    if args.size is not None:
        words += ["--size", str(args.size)]
    if args.threads is not None:
        words += ["--threads", str(args.threads)]
    for option, default in (("backend", "onnx"), ("shape", "auto")):
        if (chosen := getattr(args, option)) != default:
            words += [f"--{option}", chosen]
    if args.zoom != "off" and not proposals:
        words += ["--zoom", args.zoom]
    if args.no_grabcut and not proposals:
        words.append("--no-grabcut")
    return shlex.join(words)


def _asks_for_proposals(protocols: Sequence[str], everything: str | None) -> bool:
    """Tell whether the protocol is that of proposals, which goes alone."""
    asked = _PROPOSALS in protocols
    if asked and len(protocols) > 1:
        raise InputError(
            f"expected the protocol {_PROPOSALS} alone, got {', '.join(protocols)}; run the others in another command"
        )
    if everything is not None and not asked:
        raise InputError(
            f"expected --everything with --protocol {_PROPOSALS}, got {', '.join(protocols)}; add it, or leave "
            "--everything out"
        )
    return asked


def _run_proposals(args: argparse.Namespace) -> int:
    """Measure ways to find everything; prints, writes and returns as `run` does."""
    from samlet import __version__
    from samlet.evaluate import finders, proposals, report
    from samlet.evaluate import proposals_report as words

    datasets = _datasets(args)
    proposals.coco()  # missing: say so before the model is loaded
    if args.output is not None:
        report.make_folder(args.output)
    model = _load(args, args.model, args.size)
    # Filled in, so that the command in the report stays what it was when the default changes.
    args.everything = finders.usual(model.session) if args.everything is None else args.everything
    chosen = [
        finders.finder(name, model.session, load=lambda name: _load(args, name, None).session)
        for name in _names(args.everything, "--everything")
    ]
    results = []
    for dataset in datasets:
        with _progress(dataset, _proposal_note, quiet=args.json) as on_picture:
            results.append(proposals.evaluate_proposals(chosen, dataset, on_picture=on_picture))
    head = report.Run(
        model=model.card.name, digest=model.card.digest, command=command_line(args), version=__version__
    )
    try:
        if args.output is not None:
            print(f"report: {words.write(args.output, head, results)[0]}", file=sys.stderr)
    finally:
        if args.json:
            print(json.dumps(words.to_dict(head, results, pictures=False), indent=1, ensure_ascii=False))
        else:
            _print(head, words.to_tables(results), words.to_words(results))
    return 0 if all(result.truths for result in results) else PartialFailureError.exit_code


def _proposal_note(result: "ProposalResult") -> str:
    """Give recall so far, for the progress bar."""
    return ", ".join(
        f"{one.finder.name} AR@100 {one.tally('mask').recall[0, 1]:.3f}"
        for one in result.finders
        if one.pictures
    )


def _datasets(args: argparse.Namespace) -> "list[Dataset]":
    from samlet.evaluate.datasets import Dataset

    paths = _names(args.on, "--on")
    return [Dataset.open(path).select(every=args.every, limit=args.limit) for path in paths]


def _names(text: str, option: str) -> tuple[str, ...]:
    """Split a list at its commas and drop repetitions."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError(
            f"expected one or more names after {option}, got {text!r}; separate several by commas"
        )
    return names


def _measure(
    model: "Model", datasets: "Sequence[Dataset]", plan: "Plan", *, quiet: bool
) -> "list[SetResult]":
    from samlet.evaluate.protocols import evaluate_set

    column = plan.columns[0]

    def note(result: "SetResult") -> str:
        values = result.values(column.key)
        return f"{column.title} {sum(values) / len(values):.3f}" if values else ""

    results = []
    for dataset in datasets:
        with _progress(dataset, note, quiet=quiet) as on_picture:
            results.append(evaluate_set(model, dataset, plan=plan, on_picture=on_picture))
    return results


@contextmanager
def _progress(
    dataset: "Dataset", note_of: Callable[[_Result], str], *, quiet: bool
) -> Iterator[Callable[[_Result], None] | None]:
    """Show pictures done, pictures a second and the figure so far on standard error, if a person is looking."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task(escape(dataset.name), total=len(dataset), note="")

        def show(result: _Result) -> None:
            speed = progress.tasks[0].speed
            parts = (f"{speed:.2f} pictures/s" if speed else "", note_of(result))
            progress.update(task, advance=1, note=", ".join(part for part in parts if part))

        yield show


def _write(folder: Path, model: "Model", head: "Run", results: "Sequence[SetResult]") -> None:
    from samlet.evaluate import cases, report

    # Numbered, because two sets in different places may share a name.
    pictures = [
        cases.draw(model, result, stem=f"{index}_{result.dataset.name}")
        for index, result in enumerate(results, 1)
    ]
    written = report.write(folder, head, results, cases=pictures)
    print(f"report: {written[0]}", file=sys.stderr)


def _print(head: "Run", figures: "Sequence[RenderableType]", words: str) -> None:
    from rich.console import Console

    console = Console()
    title = f"{head.model}  {head.digest[:12]}  {head.command}"
    console.print(title, markup=False, highlight=False, soft_wrap=True)  # one line, to be copied
    for part in figures:
        console.print(part)
    console.print(words, markup=False, highlight=False, style="dim")


def _load(args: argparse.Namespace, name: str, size: int | None) -> "Model":
    """Load the model, on another size of canvas if one is asked for."""
    from samlet import backends, registry
    from samlet.model import Model
    from samlet.session import Session

    card = registry.resolve(name).shaped(args.shape)
    if size is not None:
        card = resized(card, size)
    return Model(Session(card, backends.create(args.backend), threads=args.threads))


def resized(card: "Card", side: int) -> "Card":
    """Give a card whose pictures have another longest side in the network; its digest differs too.

    Raises:
        InputError: The side is not a multiple of what the network's strides need.
    """
    return card.resized(side)
