"""`samlet batch`: masks of very many pictures, which survive whatever stops the run."""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.batch.recipe import FORMATS, WAYS, Recipe
from samlet.cli import output
from samlet.cli import run as shared
from samlet.errors import InputError, PartialFailureError

if TYPE_CHECKING:
    from samlet.batch import Summary
    from samlet.batch.engine import Engine
    from samlet.batch.ledger import Counts

_DESCRIPTION = """\
Make masks of very many pictures: of everything in them, or of each picture's own prompts. A ledger in the output folder
knows what is done. Whatever stops the run, the same command goes on where it was, and the results are those of an
unbroken run.
"""
_INPUTS = """\
INPUT is a folder (with all below it), a pattern in quotes ('shards/*.tar'), a .txt with a path a line, a WebDataset
.tar, a .parquet with a column image or path, a picture, or a data set such as coco:FILE. No INPUT goes
on with the plan that is there.
"""
_RESULTS = """\
One file for each shard of pictures, except where it says otherwise:
  jsonl    records/: one line of JSON a picture, masks as COCO run lengths
  coco     coco.json, one file for all, put together at the end
  parquet  parquet/: one row a picture (needs samlet[data])
  tar      tars/: WebDataset, record and map of labels a picture
  labels   labels/NAME.png: a map of labels a picture
Pictures that failed are listed in failures.jsonl, with the reason.
"""
_EPILOG = """\
examples:
  samlet batch photos/ --output masks
  samlet batch 'shards/*.tar' --format parquet --workers 8 --output masks
  samlet batch photos/ --prompts boxes.csv --format coco --output masks
  samlet batch photos/ --engine ray --address auto --gpus 0.25 --output /shared/masks

exit codes: 0 all done, 6 done but some pictures failed, 130 stopped by Ctrl-C; others as of every command
"""
_EVERY = 30.0  # seconds between lines of progress where no terminal is


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "batch",
        help="masks of very many pictures, on one computer or a cluster",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=shared.HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="where the pictures are")
    group = parser.add_argument_group("pictures", _INPUTS)
    group.add_argument(
        "--prompts",
        metavar="FILE",
        help="prompts of each picture: .csv, .jsonl or COCO's .json (default: everything)",
    )
    _add_recipe(parser.add_argument_group("what is done with each"))
    group = parser.add_argument_group("results", _RESULTS)
    group.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where results and ledger go"
    )
    group.add_argument(
        "--format",
        dest="formats",
        type=functools.partial(output.formats, known=FORMATS),
        default=("jsonl",),
        metavar="NAME[,NAME...]",
        help=f"{', '.join(FORMATS)} (default: jsonl)",
    )
    group.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors (and --json)")
    add_engine(parser.add_argument_group("who works"))
    group = parser.add_argument_group("going on")
    group.add_argument("--retry-failed", action="store_true", help="try pictures again that failed before")
    group.add_argument(
        "--mix",
        action="store_true",
        help="go on with another model or other settings than those of what is done",
    )
    parser.set_defaults(run=run)


def _add_recipe(group: "argparse._ArgumentGroup") -> None:
    shared.add_model(group)
    group.add_argument("--by", choices=WAYS, default="auto", help="how everything is found (default: auto)")
    group.add_argument("--grid", metavar="32x32", help="clicks along the sides, by grid and hierarchical")
    group.add_argument(
        "--at-most",
        type=functools.partial(shared.whole, option="--at-most", most=4096),
        metavar="N",
        help="the best so many masks of a picture",
    )
    group.add_argument(
        "--min-score",
        type=functools.partial(shared.number, option="--min-score", least=0, most=1),
        default=0.0,
        metavar="S",
        help="lowest score of a mask, 0 to 1",
    )
    group.add_argument("--zoom", choices=("off", "auto"), default="auto", help="look twice at small boxes")


def add_engine(group: "argparse._ArgumentGroup") -> None:
    """Add the options that say who works.

    Args:
        group: Where they are listed.
    """
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="(default: %(default)s)")
    group.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="workers (default: one a core); with ray also fewest:most, such as 1:64",
    )
    group.add_argument(
        "--shard",
        type=functools.partial(shared.whole, option="--shard", most=100_000),
        metavar="N",
        help="pictures of a shard, for a new output (default: 64)",
    )
    group.add_argument(
        "--address", metavar="ADDRESS", help="with ray: of a cluster, such as auto (default: starts Ray)"
    )
    for name, what in (("--gpus", "GPUs"), ("--cpus", "cores")):
        group.add_argument(
            name,
            type=functools.partial(shared.number, option=name, least=0, most=64),
            metavar="N",
            help=f"with ray: {what} that one worker takes, such as 0.25",
        )


def run(args: argparse.Namespace) -> int:
    """Work on a batch.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        PartialFailureError: Some pictures failed.
        SamletError: Something is wrong that would hit all pictures.
    """
    from samlet import batch

    engine = engine_of(args)
    with progress(quiet=args.quiet) as telling:
        summary = batch.run(
            args.inputs,
            args.output,
            recipe=_recipe(args),
            prompts=args.prompts,
            engine=engine,
            threads=args.threads,
            shard=args.shard,
            mix=args.mix,
            retry=args.retry_failed,
            progress=telling,
        )
    for text in () if args.quiet else _notes(summary):
        shared.note(text)
    counts = summary.counts
    if args.json:
        print(json.dumps(_facts(summary, args)), flush=True)
    elif not args.quiet:
        print(f"{counts.done:,} pictures done, {counts.masks:,} masks -> {output.one_line(str(args.output))}")
    if counts.failed:
        raise PartialFailureError(
            f"expected masks for {counts.all} pictures, but {counts.failed} of them failed; "
            f"{args.output / 'failures.jsonl'} says why"
        )
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    is_prompted = args.prompts is not None
    if not args.inputs and not is_prompted:
        from samlet.batch.driver import last_recipe

        last = last_recipe(args.output)
        is_prompted = last is not None and last.prompted
    return Recipe(
        model=args.model,
        decoder=args.decoder,
        backend=args.backend,
        shape=args.shape,
        prompted=is_prompted,
        by=args.by,
        grid=args.grid,
        at_most=args.at_most,
        min_score=args.min_score,
        zoom=args.zoom,
        formats=args.formats,
    )


def engine_of(args: argparse.Namespace) -> "Engine":
    """Make the engine that the options of `add_engine` ask for.

    Raises:
        InputError: They do not fit together.
    """
    if args.engine == "ray":
        from samlet.batch.ray import Ray

        return Ray(
            address=args.address,
            workers=args.workers,
            gpus=args.gpus or 0.0,
            cpus=1.0 if args.cpus is None else args.cpus,
        )
    from samlet.batch.local import Local

    for name in ("address", "gpus", "cpus"):
        if getattr(args, name) is not None:
            raise InputError(f"expected --{name} with --engine ray, got it with local; leave one out")
    if args.workers is not None and args.workers[0] != args.workers[1]:
        raise InputError("expected one number after --workers with --engine local, got two; give one")
    return Local(None if args.workers is None else args.workers[0])


def _workers(text: str) -> tuple[int, int]:
    parts = text.split(":")
    read = functools.partial(shared.whole, option="--workers", most=100_000, advice="give 8, or 1:64 for ray")
    if len(parts) > 2:
        read(text)
    numbers = [read(part) for part in parts]
    return numbers[0], numbers[-1]


def _notes(summary: "Summary") -> Iterator[str]:
    planned = summary.planned
    if summary.lost:
        yield f"files of {summary.lost} shards had disappeared; their pictures were done again"
    if planned is None:
        return
    if planned.changed:
        yield f"{planned.changed} pictures or their prompts have changed; they were done again with their shards"
    if planned.twice:
        yield f"{planned.twice} pictures came twice and were taken once"
    if planned.unasked:
        yield f"{planned.unasked} pictures have no prompt and get no masks"
    if planned.unknown:
        yield f"{planned.unknown} names with prompts are no pictures of the inputs"


def _facts(summary: "Summary", args: argparse.Namespace) -> dict[str, Any]:
    counts = summary.counts
    return {
        "pictures": counts.all,
        "done": counts.done,
        "failed": counts.failed,
        "pending": counts.pending,
        "masks": counts.masks,
        "worked_on": summary.worked_on,
        "output": str(args.output),
    }


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[["Counts"], None] | None]:
    """Show how far it is: a bar on a terminal, else a line every half a minute."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _Lines()


def _bar() -> Iterator[Callable[["Counts"], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        pictures = bar.add_task("pictures", total=None, note="")
        first: list[tuple[float, int]] = []

        def tell(counts: "Counts") -> None:
            done = counts.all - counts.pending
            first.append((time.perf_counter(), done))
            del first[1:]
            seconds = max(time.perf_counter() - first[0][0], 1e-9)
            note = f"{(done - first[0][1]) / seconds:.1f} pictures/s, {counts.failed} failed"
            bar.update(pictures, completed=done, total=counts.all, note=note)

        yield tell


class _Lines:
    """Progress for logs."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None
        self._said = 0.0

    def __call__(self, counts: "Counts") -> None:
        now, done = time.perf_counter(), counts.all - counts.pending
        if self._start is None:
            self._start, self._said = (now, done), now
        elif now - self._said >= _EVERY:
            self._said = now
            rate = max(done - self._start[1], 1) / (now - self._start[0])
            print(f"samlet: {done:,} of {counts.all:,} pictures, {counts.failed:,} failed, {rate:.1f} pictures/s, "
                  f"{spoken(counts.pending / rate)} left", file=sys.stderr, flush=True)  # fmt: skip


def spoken(seconds: float) -> str:
    """Say how long something takes.

    Args:
        seconds: How long.

    Example:
        >>> spoken(59), spoken(7200), spoken(200_000)
        ('59 s', '2 h 0 min', '2 days 7 h')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"
