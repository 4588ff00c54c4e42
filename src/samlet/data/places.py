"""Where pictures are: files, members of tars, rows of parquet files; listed from headers, read one at a time."""

import functools
import glob
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from samlet.errors import ImageError, InputError, LimitError, MissingExtraError
from samlet.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    import pyarrow.parquet

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of what counts as a picture in folders and tars; a file that is named is taken whatever it is called."""

_KEYS = ("name", "file_name", "__key__", "key", "id")
_PICTURES = ("image", "jpg", "png", "bytes", "image_bytes", "path")


class Listed(NamedTuple):
    """One picture found: its name, where its bytes are, and a stamp that changes when they do."""

    name: str
    source: dict[str, Any]
    stamp: str


def listed(inputs: Sequence[str], *, alone: bool = True) -> Iterator[Listed]:
    """List the pictures that the words of a command stand for, without keeping them in memory.

    A folder stands for the pictures in it and below it; a pattern (`*`, `?`, `[]`, `**`) for the files it matches;
    a `.txt` file for the paths in it, one a line, seen from its folder; a `.tar` for its pictures (WebDataset); a
    `.parquet` for its rows. A picture of the only input is named by its path in it, `a/b.jpg`; with several inputs
    the input's own name goes before.

    Args:
        inputs: Folders, patterns, lists, tars, parquet files, pictures.
        alone: Whether these are all there are: a picture of the only input is named by its path in it.

    Yields:
        The pictures, in no order.

    Raises:
        InputError: An input is not there, cannot be read, or holds no pictures.
    """
    for text in inputs:
        count = 0
        for one in _expanded(text, alone=alone and len(inputs) == 1):
            count += 1
            yield one
        if not count:
            raise InputError(
                f"expected pictures in {text!r:.200}, found none; name a folder, pattern, list, .tar or .parquet "
                "that holds some"
            )


def read(source: dict[str, Any]) -> bytes:
    """Read the bytes of a picture.

    Args:
        source: What `listed` gave.

    Raises:
        ImageError: They are gone or cannot be read.
        LimitError: They are more than `Limits.max_file_bytes`.
    """
    path, most = str(source["path"]), DEFAULT_LIMITS.max_file_bytes
    try:
        if "row" in source:
            return _row(source)
        with open(path, "rb") as file:
            size = source.get("size", os.fstat(file.fileno()).st_size)
            if size > most:
                raise LimitError(
                    f"{path}: expected a picture of at most {most} bytes, got {size}; save it smaller"
                )
            file.seek(source.get("offset", 0))
            data = file.read(size)
    except OSError as error:
        raise ImageError(
            f"{path}: expected a readable picture, but reading it failed ({error.strerror or error}); "
            "check path and rights"
        ) from error
    if len(data) < size:
        raise ImageError(f"{path}: expected {size} bytes, got {len(data)}; the file was cut off")
    return data


def _expanded(text: str, *, alone: bool) -> Iterator[Listed]:
    if os.path.isdir(text):
        top = os.path.abspath(text)
        yield from in_folder(top, "" if alone else os.path.basename(top) + "/")
    elif os.path.isfile(text):
        yield from _of_file(text, alone=alone)
    elif glob.has_magic(text):
        for path in glob.iglob(text, recursive=True):
            if os.path.isfile(path):
                yield from _of_file(path, alone=False)
    else:
        raise InputError(f"expected a file, folder or pattern, but there is no {text!r:.200}; check the path")


def _of_file(path: str, *, alone: bool) -> Iterator[Listed]:
    suffix = os.path.splitext(path)[1].lower()
    before = "" if alone else Path(path).as_posix() + "/"
    if suffix == ".tar":
        yield from in_tar(path, before)
    elif suffix in (".tgz", ".gz", ".zst", ".bz2", ".xz", ".zip"):
        raise InputError(
            f"{path}: expected an uncompressed .tar, whose members can be read one by one, got {suffix}; unpack it"
        )
    elif suffix == ".parquet":
        yield from in_parquet(path, before)
    elif suffix == ".txt":
        yield from in_list(path)
    else:
        yield at_path(path, Path(path).as_posix())


def at_path(path: str, name: str) -> Listed:
    """Describe one file, whether it is there or not.

    Args:
        path: Of the file.
        name: What it is called.
    """
    source = {"path": os.path.abspath(path)}
    return Listed(name, source, stamp(source))


def stamp(source: dict[str, Any]) -> str:
    """Give what changes when the bytes at a place do.

    Args:
        source: Of a file, or of a part of one.
    """
    try:
        found = os.stat(source["path"])
    except OSError:
        return "gone"  # planned all the same: reading it fails, and its record says so
    return f"{source.get('size', found.st_size)}:{found.st_mtime_ns}"


def in_folder(top: str, before: str) -> Iterator[Listed]:
    """List the pictures in a folder and below it; what begins with a dot is passed over.

    Args:
        top: The folder.
        before: Goes before the names.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        with os.scandir(top) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from in_folder(entry.path, f"{before}{entry.name}/")
                elif entry.name.lower().endswith(SUFFIXES):
                    yield at_path(entry.path, before + entry.name)
    except OSError as error:
        raise InputError(
            f"{top}: expected a folder that can be read, but listing it failed ({error.strerror or error}); "
            "check its rights"
        ) from error


def in_list(path: str) -> Iterator[Listed]:
    """List the pictures that a text file names, one a line, seen from its folder.

    Args:
        path: Of the text file.

    Raises:
        InputError: It is no text.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                if (name := line.strip()) and not name.startswith("#"):
                    yield at_path(os.path.join(os.path.dirname(path), name), Path(name).as_posix())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected a list of paths, one a line, in UTF-8, got something else ({error}); check the file"
        ) from error


def in_tar(path: str, before: str, *, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Listed]:
    """List the members of an uncompressed tar that are pictures, from its headers.

    Args:
        path: Of the tar.
        before: Goes before the names.
        suffixes: Endings of what is listed.

    Raises:
        InputError: It is no uncompressed tar.
    """
    try:
        when = os.stat(path).st_mtime_ns
        with tarfile.open(path, "r:") as tar:  # headers only: the data are skipped
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # or it remembers every header
                if member.isreg() and member.name.lower().endswith(suffixes):
                    source = {
                        "path": os.path.abspath(path),
                        "offset": member.offset_data,
                        "size": member.size,
                    }
                    yield Listed(before + member.name, source, f"{member.size}:{when}")
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"{path}: expected an uncompressed tar, got something that does not read ({error}); pack it again"
        ) from error


def in_parquet(path: str, before: str, *, numbered: bool = False) -> Iterator[Listed]:
    """List the rows of a parquet file that has a column of pictures.

    Args:
        path: Of the parquet file.
        before: Goes before the names.
        numbered: Name rows by their number even where a column names them.

    Raises:
        InputError: It is no parquet file, or none with pictures.
        MissingExtraError: pyarrow is not installed.
    """
    table = _opened(path)
    names = table.schema_arrow.names
    picture = next((name for name in _PICTURES if name in names), None)
    if picture is None:
        raise InputError(
            f"{path}: expected a column with pictures ({', '.join(_PICTURES)}), got {', '.join(names)[:200]}; "
            "rename the one that holds them"
        )
    key = None if numbered else next((name for name in _KEYS if name in names), None)
    when, row = os.stat(path).st_mtime_ns, 0
    for group in range(table.num_row_groups):
        keys = [] if key is None else table.read_row_group(group, columns=[key]).column(key).to_pylist()
        for index in range(table.metadata.row_group(group).num_rows):
            name = str(keys[index]) if key is not None else f"{row:09d}"
            source = {"path": os.path.abspath(path), "group": group, "row": index, "column": picture}
            yield Listed(before + name, source, str(when))
            row += 1


def _row(source: dict[str, Any]) -> bytes:
    values = _group(source["path"], source["group"], source["column"])
    value = values[source["row"]].as_py()
    if isinstance(value, dict):  # the way of Hugging Face's data sets
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return read({"path": os.path.join(os.path.dirname(source["path"]), value)})
    if not isinstance(value, bytes) or not value:
        raise ImageError(
            f"{source['path']}: expected the bytes of a picture in row {source['row']} of group {source['group']}, "
            "got none; fill the row"
        )
    return value


@functools.lru_cache(maxsize=1)
def _group(path: str, group: int, column: str) -> Any:
    """Read one column of a row group; rows of a shard follow each other, so the last group is the next one's too."""
    return _opened(path).read_row_group(group, columns=[column]).column(column)


def _opened(path: str) -> "pyarrow.parquet.ParquetFile":
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "expected pyarrow for parquet files, but it is not installed; pip install 'samlet[data]'"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{path}: expected a parquet file, got something that does not read as one; write it again"
        ) from error
