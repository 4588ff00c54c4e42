"""What the protocols of ``samlet evaluate`` share: sets, the model, progress and the report on the terminal."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from samlet.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from samlet.evaluate.datasets import Dataset
    from samlet.evaluate.report import Run
    from samlet.model import Model

_Result = TypeVar("_Result")


def datasets_of(args: argparse.Namespace) -> "list[Dataset]":
    """Open the sets that were named, and of each the pictures that were asked for."""
    from samlet.evaluate.datasets import Dataset

    paths = names_of(args.on, "--on")
    return [Dataset.open(path).select(every=args.every, limit=args.limit) for path in paths]


def names_of(text: str, option: str) -> tuple[str, ...]:
    """Split a list at its commas and drop repetitions."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError(
            f"expected one or more names after {option}, got {text!r}; separate several by commas"
        )
    return names


@contextmanager
def progress(
    name: str, total: int, note_of: Callable[[_Result], str], *, quiet: bool
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
    ) as bar:
        task = bar.add_task(escape(name), total=total, note="")

        def advance(result: _Result) -> None:
            speed = bar.tasks[0].speed
            parts = (f"{speed:.2f} pictures/s" if speed else "", note_of(result))
            bar.update(task, advance=1, note=", ".join(part for part in parts if part))

        yield advance


def show(head: "Run", figures: "Sequence[RenderableType]", words: str) -> None:
    """Print the command, tables, and the protocol in words."""
    from rich.console import Console

    console = Console()
    title = f"{head.model}  {head.digest[:12]}  {head.command}"
    console.print(title, markup=False, highlight=False, soft_wrap=True)  # one line, to be copied
    for part in figures:
        console.print(part)
    console.print(words, markup=False, highlight=False, style="dim")


def load(args: argparse.Namespace, name: str, size: int | None) -> "Model":
    """Load the model, on another size of canvas if one is asked for."""
    from samlet import backends, registry
    from samlet.model import Model
    from samlet.session import Session

    card = registry.resolve(name).shaped(args.shape)
    if size is not None:
        card = card.resized(size)
    return Model(Session(card, backends.create(args.backend), threads=args.threads))
