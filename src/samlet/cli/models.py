"""`samlet models`: which models there are, what they may be used for, and how well they do."""

import argparse
import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from samlet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samlet.card import Card

_INDENT = 18
_NOT_PUBLISHED = "not published"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "models",
        help="list the models, or describe some with their licences and measured quality",
        description="List the models that --model takes, or describe those that are named, with their licences "
        "and measured quality.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="describe this model")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table of all cards, or the cards that were named.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        UnknownModelError: There is no model of that name.
        CheckpointError: A card of the package is broken.
    """
    from samlet.registry import cards, resolve

    chosen = [resolve(name) for name in args.names] or list(cards().values())
    if args.json:
        print("\n".join(json.dumps(_record(card)) for card in chosen))
    elif args.names:
        print("\n\n".join(_entry(card) for card in chosen))
    else:
        print(_table(chosen))
    return 0


def _record(card: "Card") -> dict[str, object]:
    state = _state(card)
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "family": card.family,
        "title": card.title,
        "bytes": _size(card),
        "licence": card.licence,
        "weights_licence": card.weights_licence,
        "paper": card.paper,
        "quality": dict(card.quality),
        "notes": card.notes,
        "available": state == "yes",
        "state": state,
        "files": [
            {
                "role": file.role,
                "name": file.file_name,
                "url": file.url,
                "bytes": file.size,
                "sha256": file.sha256,
            }
            for file in card.files
        ],
    }


def _table(cards: "Sequence[Card]") -> str:
    """Lay all cards out with one line each; a terminal gets lines that fit, a pipe gets whole ones."""
    rows = [("name", "family", "size", "here", "what it is")]
    rows += [
        (card.name, card.family, _readable_size(card), "yes" if _state(card) == "yes" else "no", card.title)
        for card in cards
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    room = shutil.get_terminal_size((100, 24)).columns - sum(widths) - 2 * len(widths)
    lines = []
    for row in rows:
        title = (
            textwrap.shorten(row[-1], max(20, room), placeholder=" ...") if sys.stdout.isatty() else row[-1]
        )
        cells = [
            cell.rjust(w) if i == 2 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, title]))
    return "\n".join(
        [_bold(lines[0]), *lines[1:], "", "samlet models NAME tells more, samlet fetch NAME downloads."]
    )


def _entry(card: "Card") -> str:
    """Lay one card out as a block: its texts are too long for the columns of a table."""
    rows = [
        ("title", card.title),
        ("family", card.family),
        ("also called", ", ".join(card.aliases)),
        ("size", f"{_readable_size(card)} of weights" if _size(card) else _NOT_PUBLISHED),
        ("available here", _state(card)),
        ("licence", card.licence),
        ("weights licence", card.weights_licence),
        ("paper", card.paper),
        *(("from" if not index else "", file.url or "") for index, file in enumerate(card.files)),
        *(
            ("quality" if not index else "", f"{value:g}  {key}")
            for index, (key, value) in enumerate(card.quality.items())
        ),
        ("notes", card.notes),
    ]
    width = max(60, min(110, shutil.get_terminal_size((100, 24)).columns))
    blocks = [
        textwrap.fill(
            text,
            width,
            initial_indent=f"  {title:<{_INDENT - 2}}",
            subsequent_indent=" " * _INDENT,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for title, text in rows
        if text
    ]
    return "\n".join([_bold(card.name), *blocks])


def _state(card: "Card") -> str:
    """Say whether the files are there, by name and size; `load` checks their digests."""
    from samlet import store

    for file in card.files:
        try:
            size = store.locate(file).stat().st_size
        except ModelError:
            by_hand = not (file.sha256 or file.git_sha1)
            return (
                f"no, {file.file_name} has to be put there by hand"
                if by_hand
                else "no, its weights have to be downloaded"
            )
        except OSError:
            return "no, its weights are missing"
        if file.size and size != file.size:
            return "no, its weights are damaged"
    return "yes"


def _size(card: "Card") -> int:
    """Add up what is published of the sizes, in bytes; 0 if any file's size is not."""
    return sum(file.size for file in card.files) if all(file.size for file in card.files) else 0


def _readable_size(card: "Card") -> str:
    return f"{_size(card) / 1e6:,.1f} MB" if _size(card) else "?"


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
