"""Files appear whole or not at all.

Lowest layer beside `errors`, so that every room that writes (codecs, embedding, store) uses the same few
lines.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from samlet.errors import OutputError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than the file system allows; choose another folder",
    errno.ENOENT: "its folder does not exist; create the folder first",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another path",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.EACCES: "permission was refused; choose a folder you may write to",
    errno.EPERM: "permission was refused; choose a folder you may write to",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
}


def atomic_write(path: str | Path, data: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part of it.

    The data go to a temporary file in the same folder, are flushed to the disk, and the temporary file is
    then renamed onto the target. Whatever goes wrong before the rename, the temporary file is removed and an
    existing target stays as it was. A symbolic link at `path` is replaced, not followed.

    Args:
        path: The target; its folder must exist (making folders is the caller's decision).
        data: The whole content; text is written as UTF-8 with the newlines it has.

    Returns:
        The target as a `Path`.

    Raises:
        OutputError: The disk is full, the folder is missing or not writable, or the target is a folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atomic_write(Path(folder) / "note.txt", "two words").read_text()
        'two words'
    """
    target = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    if "\0" in str(target):
        raise OutputError(
            f"expected a file name to write to, got {str(target)!r} with a NUL in it; choose another name"
        )
    temporary = target.with_name(f".samlet-{secrets.token_hex(8)}.tmp") if target.name else target
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _write_and_flush(temporary, content)
        os.replace(temporary, target)
    except OSError as error:
        raise not_written(target, error) from error
    finally:
        # Also on Ctrl-C: after a successful rename there is nothing left to remove.
        with contextlib.suppress(OSError):
            temporary.unlink()
    flush_folder(target.parent)
    return target


@contextlib.contextmanager
def atomic_stream(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file too large for memory, part by part, under the promise of `atomic_write`.

    The target appears when the block ends well; if it raises, nothing has changed.

    Args:
        path: The target; its folder must exist.

    Yields:
        A binary stream to write to.

    Raises:
        OutputError: The disk is full, the folder is missing or not writable, or the target is a folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_stream(Path(folder) / "note.txt") as stream:
        ...         _ = stream.write(b"two "), stream.write(b"words")
        ...     (Path(folder) / "note.txt").read_text()
        'two words'
    """
    target = Path(path)
    temporary = target.with_name(f".samlet-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise not_written(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    flush_folder(target.parent)


def not_written(target: str | Path, error: OSError) -> OutputError:
    """Say in one sentence why something could not be written, and what to do.

    Args:
        target: What was to be written.
        error: What the system said.
    """
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; choose another path")
    return OutputError(f"could not write {str(target)!r}: {reason}")


def _write_and_flush(path: Path, content: bytes) -> None:
    # Mode 0o666 lets the umask decide, as for any other file (mkstemp would leave the result unreadable to
    # others).
    binary = getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Flush a folder: a rename in it survives a power cut only then. Windows cannot open folders, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
