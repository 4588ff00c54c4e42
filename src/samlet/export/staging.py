"""Files of an export appear together or not at all: they are made in a folder beside, checked there, then moved."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from samlet.atomic import flush_folder
from samlet.errors import InputError, OutputError


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder on the same disk as the target; it is gone afterwards.

    Args:
        folder: Where the files will be; it need not exist.

    Raises:
        OutputError: No folder can be made there, or a file has that name.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(
            f"expected a folder after --output, got the file {str(folder)!r}; choose another name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = Path(tempfile.mkdtemp(prefix=".samlet-", dir=folder))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _failed(folder, error) from error
    try:
        yield inside
    except OSError as error:
        raise _failed(folder, error) from error
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def publish(files: Sequence[Path], folder: Path) -> list[Path]:
    """Flush files to the disk and move them to their place; one of the same name there is replaced.

    Args:
        files: Files or folders of the staging folder, the one that names the others last.
        folder: Where they go.

    Returns:
        Their paths there.

    Raises:
        InputError: A folder is to be replaced that does not look like one of ours.
    """
    moved = []
    for path in files:
        target = folder / path.name
        if target.is_dir():
            if not path.is_dir():
                raise InputError(f"expected no folder called {target.name} in {folder}; remove it")
            shutil.rmtree(target)
        for part in (path, *path.rglob("*")) if path.is_dir() else (path,):
            if part.is_file():
                with part.open("rb") as stream:
                    os.fsync(stream.fileno())
        os.replace(path, target)
        moved.append(target)
    flush_folder(folder)
    return moved


def _failed(folder: Path, error: Exception) -> OutputError:
    return OutputError(
        f"expected to write the export to {str(folder)!r}, but it failed "
        f"({getattr(error, 'strerror', None) or error}); free some space or choose another folder"
    )
