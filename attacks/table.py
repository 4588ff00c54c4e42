"""What a hostile file is, and the tables they are collected in."""

from collections.abc import Callable
from dataclasses import dataclass

CANARY = "samlet-attack-was-here"
"""Name of the file that appears in the current folder if an attack had its way."""

COMMAND = f"echo > {CANARY}"
"""A command for any shell that makes the canary."""

CODE = f"open({CANARY!r}, 'w').close()"
"""Python code that makes the canary."""


@dataclass(frozen=True)
class Attack:
    """One hostile file.

    Attributes:
        name: Name of the function that makes it.
        kind: "pickle", "archive", "safetensors" or "onnx".
        would: What it does to a reader that lets it.
        make: Gives its bytes.
        reason: What samlet says about it, a part of the sentence.
        fires: Whether Python's own reader of pickles makes the canary when it reads this file.
    """

    name: str
    kind: str
    would: str
    make: Callable[[], bytes]
    reason: str
    fires: bool


Make = Callable[[], bytes]


def collect(
    kind: str, table: list[Attack], *, fires: bool = False
) -> Callable[[str], Callable[[Make], Make]]:
    """Give a decorator that puts functions into a table; their docstrings say what the files would do.

    Args:
        kind: Of all files of the table.
        table: Where to put them.
        fires: As in `Attack`.

    Returns:
        The decorator; it takes the reason for which the file must be refused.
    """

    def expecting(reason: str) -> Callable[[Make], Make]:
        def decorate(make: Make) -> Make:
            table.append(Attack(make.__name__, kind, (make.__doc__ or "").strip(), make, reason, fires))
            return make

        return decorate

    return expecting
