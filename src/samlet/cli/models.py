"""`samlet models`: which models there are, what they may be used for, and how well they do."""

import argparse
import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from samlet.errors import ModelError

if TYPE_CHECKING:
    from samlet.card import Card

_INDENT = 18


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main parser.

    Args:
        commands: Where commands are registered.
    """
    parser = commands.add_parser(
        "models",
        help="list the models with their licences and measured quality",
        description="List the models that --model takes, with their licences and measured quality.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the cards.

    Args:
        args: Parsed words of the command.

    Returns:
        0.

    Raises:
        CheckpointError: A card of the package is broken.
    """
    from samlet.registry import cards

    for number, card in enumerate(cards().values()):
        if args.json:
            print(json.dumps(_record(card)))
        else:
            print(("\n" if number else "") + _entry(card))
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
    }


def _entry(card: "Card") -> str:
    """Lay one card out as a block: its texts are too long for the columns of a table."""
    rows = [
        ("title", card.title),
        ("family", card.family),
        ("also called", ", ".join(card.aliases)),
        ("size", f"{_size(card) / 1e6:.1f} MB of weights"),
        ("available here", _state(card)),
        ("licence", card.licence),
        ("weights licence", card.weights_licence),
        ("paper", card.paper),
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
            return "no, its weights have to be downloaded"
        except OSError:
            return "no, its weights are missing"
        if size != file.size:
            return "no, its weights are damaged"
    return "yes"


def _size(card: "Card") -> int:
    return sum(file.size for file in card.files)


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
