"""The index of a folder of things computed ahead: written last, so that a folder without one is not finished."""

import json
from pathlib import Path
from typing import Any

from samlet.atomic import atomic_write
from samlet.errors import InputError

_INDEX = "index.json"


def is_finished(folder: Path) -> bool:
    """Tell whether everything has been written."""
    return (folder / _INDEX).exists()


def forget_index(folder: Path) -> None:
    """Make a folder unfinished before anything in it is written."""
    (folder / _INDEX).unlink(missing_ok=True)


def write_index(folder: Path, *, digest: str, shelves: list[dict[str, Any]]) -> None:
    """Say that a folder is finished.

    Args:
        folder: Where everything has been written.
        digest: Says which encoder it is of.
        shelves: What lies in it.
    """
    atomic_write(folder / _INDEX, json.dumps({"digest": digest, "shelves": shelves}).encode())


def read_index(folder: Path, *, digest: str, what: str) -> list[dict[str, Any]]:
    """Give what `write_index` was told.

    Args:
        folder: Which.
        digest: Says which encoder it must be of.
        what: What lies in it, for errors: "views", "features".

    Raises:
        InputError: It is not finished, or of another model.
    """
    try:
        index = json.loads((folder / _INDEX).read_text())
    except (OSError, ValueError):
        raise InputError(
            f"expected a finished cache of {what} in {folder}, found none; write it first"
        ) from None
    if index["digest"] != digest:
        raise InputError(f"expected {what} of this model in {folder}, got another's; delete the folder")
    shelves: list[dict[str, Any]] = index["shelves"]
    return shelves
