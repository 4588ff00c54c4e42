"""What the commands that work on pictures share: options, the way through the pictures, and how they speak."""

import argparse
import errno
import functools
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samlet.cli import output, pictures
from samlet.errors import InputError, ModelError, OutputError, PartialFailureError, SamletError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from samlet.model import Model


AFTERWARDS = """\
Nothing found is no error. Of a folder, the pictures in it are taken. cat.jpg becomes cat.overlay.png and so on; a
second picture called cat becomes cat-2. Files of an earlier run are replaced. With several pictures a bad one is
reported and the others go on; the exit code is then 6.
"""
"""What commands that find things say about pictures and files at the end of their help."""


class HelpFormatter(argparse.HelpFormatter):
    """Fills paragraphs to the width of the terminal, and leaves lines alone that begin with a space."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = []
        for block in text.strip("\n").split("\n\n"):
            lines = block.split("\n")
            kept = [line for line in lines if line.startswith(" ")]
            head = " ".join(line.strip() for line in lines if not line.startswith(" "))
            filled = textwrap.fill(
                head,
                width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            blocks.append("\n".join(part for part in (filled, *(indent + line for line in kept)) if part))
        return "\n\n".join(blocks)


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add the pictures and --recursive to a command.

    Args:
        parser: The parser of the command.
    """
    parser.add_argument("pictures", nargs="+", metavar="PHOTO", help="pictures, or folders of pictures")
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders too")


def add_model(group: "argparse._ArgumentGroup") -> None:
    """Add --model, --decoder, --threads, --backend and --shape to a group of options.

    Args:
        group: Where they are listed.
    """
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
        "--threads",
        type=functools.partial(whole, option="--threads", most=4096, advice="leave it out for all"),
        metavar="N",
        help="threads to compute with (default: all cores)",
    )
    add_runtime(group)


def add_runtime(group: "argparse._ActionsContainer") -> None:
    """Add --backend and --shape to a command.

    Args:
        group: Where they are listed.
    """
    group.add_argument(
        "--backend",
        default="onnx",
        metavar="NAME",
        help="onnx, openvino, openvino:bf16, openvino:int8, torch or torch:DEVICE (default: %(default)s)",
    )
    group.add_argument(
        "--shape",
        choices=("auto", "padded", "fit"),
        default="auto",
        help="SAM's padded square, or no more than the picture fills; auto: what the model was trained with",
    )


def add_size(group: "argparse._ActionsContainer") -> None:
    """Add --size to a command that is in a hurry.

    Args:
        group: Where it is listed.
    """
    group.add_argument(
        "--size",
        type=functools.partial(whole, option="--size", most=8192),
        metavar="PIXELS",
        help="longest side of pictures in the network, a multiple of its stride; for nano, 256 is three times as fast "
        "as its own 512, and less exact",
    )


def add_results(
    parser: argparse.ArgumentParser, known: Sequence[str], *, notes: str = ""
) -> "argparse._ArgumentGroup":
    """Add --format, --output, --json and --quiet to a command, in a group of their own.

    Args:
        parser: The parser of the command.
        known: The formats.
        notes: What else to say about them.

    Returns:
        The group.
    """
    group = parser.add_argument_group("results", notes or None)
    group.add_argument(
        "--format",
        dest="formats",
        type=functools.partial(output.formats, known=tuple(known)),
        default=("overlay",),
        metavar="NAME[,NAME...]",
        help=f"what to write: {', '.join(known)} (default: overlay)",
    )
    add_output(group, json="print one JSON object a picture, for machines")
    return group


def add_output(group: "argparse._ArgumentGroup", *, json: str) -> None:
    """Add --output, --json and --quiet.

    Args:
        group: Where they belong.
        json: What --json prints.
    """
    group.add_argument(
        "--output",
        type=_folder,
        default=Path("samlet-out"),
        metavar="DIR",
        help="where to write; made if it does not exist (default: %(default)s)",
    )
    group.add_argument("--json", action="store_true", help=json)
    group.add_argument("--quiet", action="store_true", help="print nothing but errors (and --json)")


def whole(text: str, *, option: str, most: int, least: int = 1, advice: str = "correct it") -> int:
    """Read a whole number.

    Args:
        text: What was typed.
        option: After which option.
        most: Largest number.
        least: Smallest number.
        advice: What to do if it is none.

    Raises:
        InputError: It is no whole number, or out of range.

    Example:
        >>> whole("12", option="--threads", most=99)
        12
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise InputError(
            f"expected a whole number from {least} to {most} after {option}, got {text!r:.80}; {advice}"
        )
    return int(text)


def number(text: str, *, option: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Read a number.

    Args:
        text: What was typed.
        option: After which option.
        least: Smallest number.
        most: Largest number.

    Raises:
        InputError: It is none, or out of range.

    Example:
        >>> number("0.5", option="--min-score", least=0, most=1)
        0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and least <= value <= most):
        bounds = f" from {least:g} to {most:g}" if math.isfinite(least) and math.isfinite(most) else ""
        raise InputError(f"expected a number{bounds} after {option}, got {text!r:.80}; correct it")
    return value


def load_model(args: argparse.Namespace) -> "Model":
    """Load the model that the options of `add_model` ask for.

    Args:
        args: Parsed words of a command with `add_model`, and perhaps `add_size`.

    Raises:
        ModelError: There is no such model, or it cannot be used.
        InputError: It cannot have that size.
    """
    from samlet import model

    chosen: dict[str, Any] = {} if getattr(args, "size", None) is None else {"size": args.size}
    loaded: Model = model.load(
        args.model,
        decoder=args.decoder,
        threads=args.threads,
        backend=args.backend,
        shape=args.shape,
        **chosen,
    )
    return loaded


def find(args: argparse.Namespace) -> tuple[list[str | InputError], output.Names]:
    """List the pictures of a command, and note those that come twice.

    Args:
        args: Parsed words of a command with `add_pictures` and `add_results`.

    Returns:
        What `pictures.find` gives, and the names of files that are still free.

    Raises:
        OutputError: The output folder is a file.
    """
    output.check_folder(args.output)
    found, twice = pictures.find(args.pictures, recursive=args.recursive, output=args.output)
    for again in () if args.quiet else twice:
        note(f"{again}: comes twice and is taken once")
    return found, output.Names(args.output, [path for path in found if isinstance(path, str)])


class Meter:
    """Where the work is told how far it is; this one keeps it to itself, because nobody is looking."""

    def picture(self, masks: int | None = None) -> None:
        """Count one more picture.

        Args:
            masks: How many masks were found in it; None if it failed or if nobody wants to know.
        """

    def steps(self, done: int, total: int) -> None:
        """Tell how far the work on the picture is.

        Args:
            done: Steps done.
            total: Steps in all.
        """


class _Bar(Meter):
    """Two bars: pictures, and what is being done with the one at hand."""

    def __init__(self, bar: "Progress", count: int, steps: str) -> None:
        self._bar, self._start, self._pictures, self._masks = bar, time.perf_counter(), 0, 0
        self._all: TaskID = bar.add_task("pictures", total=count, note="", visible=count > 1)
        self._one: TaskID = bar.add_task(steps, total=None, note="", visible=False)

    def picture(self, masks: int | None = None) -> None:
        self._pictures += 1
        self._masks += masks or 0
        seconds = max(time.perf_counter() - self._start, 1e-9)
        rate = f"{self._pictures / seconds:.2f} pictures/s"
        if self._masks:
            rate += f", {self._masks / seconds:.0f} masks/s"
        self._bar.update(self._all, advance=1, note=rate)
        self._bar.update(self._one, visible=False)

    def steps(self, done: int, total: int) -> None:
        self._bar.update(self._one, completed=done, total=total, visible=done < total)


@contextmanager
def progress(count: int, *, quiet: bool, steps: str = "") -> Iterator[Meter]:
    """Show bars on standard error, if a person is looking and there is something to wait for.

    Args:
        count: Number of pictures.
        quiet: Whether to show nothing.
        steps: What `Meter.steps` counts, if it is used; then a single picture is worth a bar, too.

    Yields:
        What to tell.
    """
    if quiet or (count < 2 and not steps) or not sys.stderr.isatty():
        yield Meter()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    # Only lines that go to the same terminal may be moved above the bar; a pipe must get its lines itself.
    bar = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    )
    with bar:
        yield _Bar(bar, count, steps)


def each(
    found: Sequence[str | InputError],
    work: Callable[[str, Meter], int | None],
    *,
    quiet: bool,
    steps: str = "",
) -> int:
    """Work on the pictures one after the other; a bad one of several is reported, and the others go on.

    Args:
        found: What `find` gave.
        work: Does everything for one picture, and may return how many masks it found.
        quiet: Whether to show no progress.
        steps: What the work counts on its meter, if anything.

    Returns:
        0.

    Raises:
        SamletError: The only picture failed, or something is wrong that would hit all of them.
        PartialFailureError: Some of several pictures failed.
    """
    failed = 0
    with progress(len(found), quiet=quiet, steps=steps) as meter:
        for path in found:
            masks: int | None = None
            try:
                if isinstance(path, InputError):
                    raise path
                masks = work(path, meter)
            except SamletError as error:
                if len(found) == 1 or _is_hopeless(error):
                    raise
                failed += 1
                _complain(path, error)
            meter.picture(masks)
    if failed:
        raise PartialFailureError(
            f"expected masks for {len(found)} pictures, but {failed} of them failed; see the sentences above"
        )
    return 0


def report(
    args: argparse.Namespace, record: Callable[[], dict[str, Any]], lines: Callable[[], list[str]]
) -> None:
    """Print what came out for one picture, for machines or for people.

    Args:
        args: Parsed words of a command with `add_results`.
        record: Gives it for machines.
        lines: Gives it for people.
    """
    if args.json:
        print(json.dumps(record()), flush=True)
    elif not args.quiet:
        print("\n".join(lines()), flush=True)


def note(text: str) -> None:
    """Tell people something that is no error.

    Args:
        text: One sentence.
    """
    print(f"samlet: note: {output.one_line(text)}", file=sys.stderr, flush=True)


def rounded(value: float, digits: int) -> float | None:
    """Round for JSON, which knows neither NaN nor infinity.

    Args:
        value: Any number.
        digits: Digits after the point.

    Example:
        >>> rounded(0.123456, 4), rounded(math.nan, 4)
        (0.1235, None)
    """
    return round(value, digits) if math.isfinite(value) else None


def share(area: int, image_hw: Sequence[int]) -> str:
    """Say how much of a picture an area covers.

    Args:
        area: Pixels.
        image_hw: Size of the picture.

    Example:
        >>> share(1, (100, 1000)), share(500, (10, 100))
        ('less than 0.1 %', '50.0 %')
    """
    part = 100 * area / (image_hw[0] * image_hw[1])
    return f"{part:.1f} %" if part >= 0.1 else "less than 0.1 %"


def places(files: Sequence[Path]) -> str:
    """Say where files are: their names, or how many in which folder.

    Args:
        files: Paths of the files.

    Example:
        >>> places([])
        'no file'
    """
    names = [str(path) for path in files]
    text = ", ".join(names) if len(names) < 4 else f"{len(names)} files in {files[0].parent}"
    return output.one_line(text) or "no file"


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise InputError(f"expected a folder after --output, got {text!r:.80}; give its name")
    return Path(os.path.expanduser(text))


def _is_hopeless(error: SamletError) -> bool:
    """Whether the other pictures would fail too: a broken model, a full disk, but not a name too long."""
    if isinstance(error, OutputError):
        return getattr(error.__cause__, "errno", None) not in (errno.ENAMETOOLONG, errno.EISDIR)
    return isinstance(error, ModelError)


def _complain(path: str | InputError, error: SamletError) -> None:
    """Report one of several pictures, by name: a wrong prompt is not wrong for all of them."""
    text = output.one_line(str(error))
    if isinstance(path, str) and output.one_line(path) not in text:
        text = f"{output.one_line(path)}: {text}"
    print(f"samlet: error: {text}", file=sys.stderr, flush=True)
