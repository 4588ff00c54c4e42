"""Which models exist: the cards in the package, their aliases, and files that carry a card themselves."""

from difflib import get_close_matches
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from samlet import store
from samlet.card import Card
from samlet.errors import CheckpointError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from samlet.backends.base import GraphFile

CARD_KEY = "samlet.card"
"""Metadata key under which a trained safetensors file carries its card (`Card.to_json`)."""


@cache
def cards() -> "Mapping[str, Card]":
    """Give the cards of the package by name, in alphabetical order.

    Raises:
        CheckpointError: A card in the package is broken.

    Example:
        >>> "nano" in cards()
        True
    """
    found: dict[str, Card] = {}
    folder = package_files("samlet") / "cards"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            card = Card.from_toml(entry.read_text("utf-8"), origin=entry.name)
            found[card.name] = card
    return MappingProxyType(found)


def resolve(name_or_path: str | Path) -> Card:
    """Find the card for a model's name, an alias, or the path of a safetensors file trained with samlet.

    Raises:
        UnknownModelError: There is no such model; the message lists those that exist.
        ModelError: The path cannot be read.
        CheckpointError: The file carries no card, or a broken one.

    Example:
        >>> resolve("nano").family
        'sam'
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".safetensors"):
        return _from_file(Path(name_or_path))
    by_name = {alias: card for card in cards().values() for alias in (*card.aliases, card.name)}
    wanted = name_or_path.strip().lower()
    if wanted in by_name:
        return by_name[wanted]
    close = get_close_matches(wanted, by_name, n=1)
    advice = (
        f"did you mean {close[0]}?" if close else "name one of them or give the path of a .safetensors file"
    )
    raise UnknownModelError(
        f"expected the name of a model ({', '.join(cards())}), got {name_or_path!r:.80}; {advice}"
    )


def read_weights(card: Card, graphs: "Sequence[GraphFile]") -> "dict[str, NDArray[Any]]":
    """Read all weights of a model, by official name, and check that they are those of its graphs.

    Args:
        card: The model.
        graphs: Its graphs; together they say which weights the files must hold.

    Raises:
        ModelError: A file is missing and cannot be had.
        ChecksumError: A file is not the one the card names.
        CheckpointError: A file is broken, or its weights are not those of the graphs.
    """
    return store.read_weights(card)


def _from_file(path: Path) -> Card:
    """Read the card that a trained file carries; the digest is that of the file as it lies there now."""
    file, data = store.describe(path)
    text = store.parse_metadata(data, origin=str(path)).get(CARD_KEY)
    if text is None:
        raise CheckpointError(
            f"expected a model card in the metadata of {path}, but it has none; "
            "give a file written by samlet's trainer or the name of a built-in model"
        )
    return Card.from_json(text, origin=str(path)).with_files(file)
