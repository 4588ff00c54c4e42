"""`samlet quantize`: make the int8 form of a model's encoder, with one's own pictures."""

import argparse
import functools
import sys
from pathlib import Path

from samlet.cli.run import whole


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "quantize",
        help="make a model's encoder faster on CPUs by computing in 8 bits (needs samlet[nncf])",
        description="Calibrate an int8 form of a model's encoder with pictures like those it will see, and keep it in "
        "the cache for --backend openvino:int8. It takes minutes. How much accuracy it costs: docs/how-to/faster.md.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a name from `samlet models`, or a weights file")
    parser.add_argument(
        "--pictures", nargs="+", required=True, metavar="PHOTO", help="pictures, or folders of pictures"
    )
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders too")
    parser.add_argument(
        "--most",
        type=functools.partial(whole, option="--most", most=10_000),
        default=64,
        metavar="N",
        help="use the first N pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--decoder",
        metavar="FILE",
        help="the file with SAM's decoder, if the model's file holds the encoder alone",
    )
    parser.add_argument(
        "--shape",
        choices=("auto", "padded", "fit"),
        default="auto",
        help="the canvas that the model will be used with (default: auto)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make it, and say where it lies.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        InputError: There are no pictures.
        ModelError: There is no such model, it has no encoder, or the extra is missing.
        OutputError: The cache cannot be written.
    """
    from samlet.cli.pictures import find
    from samlet.export.int8 import quantize
    from samlet.registry import resolve

    found, _ = find(args.pictures, recursive=args.recursive)
    for picture in found:
        if not isinstance(picture, str):
            raise picture
    card = resolve(args.model, decoder=args.decoder).shaped(args.shape)
    place = quantize(card, [Path(str(picture)) for picture in found], most=args.most, progress=_say)
    print(f"{card.name}: {place}; use it with --backend openvino:int8")
    return 0


def _say(done: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\rlooked at {done} of {count} pictures", end="" if done < count else "\n", file=sys.stderr)
