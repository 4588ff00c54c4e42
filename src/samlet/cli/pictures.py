"""Which pictures a command works on: files as they are named, folders by what lies in them."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from samlet.errors import ImageError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of the files that are taken from a folder; a file that is named is taken whatever it is called."""

# What an earlier run may have left in a folder that is input and output at once.
_OURS = re.compile(
    r"\.((overlay|mask|cutout)(-\d*[a-z]?)?|sheet|labels|edges|salient|anomalies|footprints|background|blur|recolour|"
    r"erase|compare)\.png",
    re.IGNORECASE,
)


def find(
    names: Sequence[str], *, recursive: bool = False, output: Path | None = None
) -> tuple[list[str | InputError], list[str]]:
    """List the pictures that files and folders stand for.

    Folders give the pictures in them, sorted by name, without hidden files and without what samlet writes
    into the output folder. A picture that comes twice is taken once.

    Args:
        names: Paths of pictures and folders.
        recursive: Whether to look into the folders of folders too.
        output: Where results go.

    Returns:
        Paths, with an error in the place of a folder that gives none, and the paths that came twice.
    """
    found: list[str | InputError] = []
    seen: set[str] = set()
    twice: list[str] = []
    for name in names:
        paths: list[str | InputError] = [name]
        if os.path.isdir(name):
            try:
                paths = list(_in_folder(name, recursive, output))
            except InputError as error:
                paths = [error]
        for path in paths:
            if isinstance(path, InputError):
                found.append(path)
            elif (place := os.path.abspath(path)) in seen:
                twice.append(path)
            else:
                seen.add(place)
                found.append(path)
    return found, twice


def _in_folder(folder: str, recursive: bool, output: Path | None) -> list[str]:
    results = os.path.realpath(output) if output is not None else None
    try:
        paths = [path for path in _walk(folder, recursive, results) if path.lower().endswith(SUFFIXES)]
    except OSError as error:
        raise ImageError(
            f"{folder}: expected a folder that can be read, but listing it failed "
            f"({error.strerror or error}); check its rights"
        ) from error
    if not paths:
        advice = "name another folder" if recursive else "name another folder or add --recursive"
        raise ImageError(
            f"{folder}: expected pictures ({', '.join(SUFFIXES)}) in the folder, found none; {advice}"
        )
    return paths


def _walk(folder: str, recursive: bool, results: str | None) -> Iterator[str]:
    """Give the files of a folder in the order of their names, then those of its folders."""
    inner: list[str] = []
    is_output = os.path.realpath(folder) == results
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or (is_output and _OURS.search(entry.name)):
            continue
        if entry.is_file():
            yield entry.path
        elif recursive and entry.is_dir(follow_symlinks=False) and os.path.realpath(entry.path) != results:
            inner.append(entry.path)
    for path in inner:
        yield from _walk(path, recursive, results)
