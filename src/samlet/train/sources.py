"""Where training pictures come from: a folder, a list, WebDataset tars or parquet; any picture at any time.

A picture has a key, which is the same on every machine: its path below the folder, its line in the list, its tar and
name in it, its parquet file and row. Nothing is unpacked: a tar is indexed once and then read at offsets.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from samlet.errors import ImageError, InputError, MissingExtraError
from samlet.image import Image
from samlet.limits import DEFAULT_LIMITS

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
COLUMNS = ("image", "jpg", "png", "bytes", "image_bytes")
"""Columns of a parquet file in which pictures are looked for."""


class Source(Protocol):
    """Pictures by key.

    Attributes:
        keys: Of all pictures, sorted; they never change while the source is open.
    """

    keys: tuple[str, ...]

    def read(self, key: str) -> Image:
        """Read one picture; may be called from any thread.

        Raises:
            ImageError: It cannot be read.
        """


def open_source(paths: Sequence[str | Path]) -> Source:
    """Find the pictures.

    Args:
        paths: Folders (searched to the bottom), pictures, lists (.txt: one path a line, from the list's folder on),
            WebDataset tars (.tar), or parquet files; several of a kind, of one kind only.

    Raises:
        InputError: A path does not exist, the kinds are mixed, or there is no picture.
        MissingExtraError: A parquet file needs pyarrow.

    Example:
        >>> open_source(["samples"]).keys[0]  # doctest: +SKIP
        'cup.jpg'
    """
    found = [Path(path) for path in paths]
    missing = [path for path in found if not path.exists()]
    if missing or not found:
        raise InputError(
            f"expected pictures at {missing[0] if missing else 'a path'}, found nothing there; correct the path"
        )
    kinds = {_kind(path) for path in found}
    if len(kinds) > 1:
        raise InputError(
            f"expected pictures of one kind, got {' and '.join(sorted(kinds))}; run the command once for each"
        )
    kind = kinds.pop()
    source: Source = (
        _Tars(found) if kind == "tar" else _Parquet(found) if kind == "parquet" else _Files(found)
    )
    if not source.keys:
        raise InputError(
            f"expected pictures in {', '.join(map(str, found)):.200}, found none; give a folder, a list or tars"
        )
    return source


def _kind(path: Path) -> str:
    return {".tar": "tar", ".parquet": "parquet"}.get(path.suffix.lower(), "files")


class _Files:
    """Pictures that are files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._at: dict[str, Path] = {}
        for path in paths:
            if path.is_dir():
                for file in sorted(path.rglob("*")):
                    if file.suffix.lower() in SUFFIXES and file.is_file():
                        self._add(file.relative_to(path).as_posix(), file)
            elif path.suffix.lower() == ".txt":
                for line in path.read_text("utf-8").splitlines():
                    if line.strip():
                        self._add(line.strip(), path.parent / line.strip())
            else:
                self._add(path.name, path)
        self.keys = tuple(sorted(self._at))

    def _add(self, key: str, file: Path) -> None:
        if self._at.setdefault(key, file) != file:
            raise InputError(
                f"expected each picture's name once, but {self._at[key]} and {file} are both {key!r}; "
                "give the folder above them"
            )

    def read(self, key: str) -> Image:
        return Image.load(_known(self._at, key), name=key)


@dataclass(frozen=True)
class _Member:
    tar: Path
    offset: int
    size: int


class _Tars:
    """Members of uncompressed tars, as WebDataset and SA-1B come."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._at: dict[str, _Member] = {}
        for path in paths:
            try:
                with tarfile.open(path, "r:") as tar:
                    for info in tar:
                        if info.isfile() and PurePosixPath(info.name).suffix.lower() in SUFFIXES:
                            self._at[f"{path.name}/{info.name}"] = _Member(path, info.offset_data, info.size)
            except (tarfile.TarError, OSError) as error:
                raise InputError(
                    f"expected an uncompressed tar at {path}, but it cannot be read ({error}); write it again"
                ) from None
        self.keys = tuple(sorted(self._at))

    def read(self, key: str) -> Image:
        member = _known(self._at, key)
        if member.size > DEFAULT_LIMITS.max_file_bytes:
            raise ImageError(f"expected a picture in {key}, got {member.size:,} bytes; leave it out")
        with member.tar.open("rb") as stream:
            stream.seek(member.offset)
            return Image.load(stream.read(member.size), name=key)


class _Parquet:
    """Rows of parquet files: a column of bytes, or of the structs {"bytes", "path"} of Hugging Face."""

    def __init__(self, paths: Sequence[Path]) -> None:
        try:
            from pyarrow import ArrowInvalid
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise MissingExtraError(
                "this needs pyarrow; install it with pip install 'samlet[data]'"
            ) from None
        self._rows: dict[str, tuple[Path, str, int, int]] = {}
        for path in paths:
            try:
                file = ParquetFile(path)
            except (ArrowInvalid, OSError) as error:
                raise InputError(
                    f"expected a parquet file at {path}, but {error!s:.120}; write it again"
                ) from None
            columns = [name for name in COLUMNS if name in file.schema_arrow.names]
            if not columns:
                raise InputError(
                    f"expected a column of pictures ({', '.join(COLUMNS)}) in {path}, found "
                    f"{', '.join(file.schema_arrow.names):.120}; rename it"
                )
            number = 0
            for group in range(file.num_row_groups):
                for row in range(file.metadata.row_group(group).num_rows):
                    self._rows[f"{path.name}/{number:09d}"] = path, columns[0], group, row
                    number += 1
        self.keys = tuple(sorted(self._rows))
        self._open: tuple[Path, int, Any] | None = None

    def read(self, key: str) -> Image:
        path, column, group, row = _known(self._rows, key)
        held = self._open  # neighbours share a row group, which is decoded as a whole
        if held is None or held[:2] != (path, group):
            from pyarrow.parquet import ParquetFile

            held = path, group, ParquetFile(path).read_row_group(group, columns=[column])[column]
            self._open = held
        value = held[2][row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError(
                f"expected the bytes of a picture in {key}, got {type(data).__name__}; leave it out"
            )
        return Image.load(data, name=key)


def _known(at: "dict[str, Any]", key: str) -> Any:
    found = at.get(key)
    if found is None:
        raise InputError(
            f"expected the picture {key!r:.120} among those given, found {len(at):,} others; "
            "give the pictures that the embeddings were made of"
        )
    return found
