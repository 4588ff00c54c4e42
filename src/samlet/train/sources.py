"""Where training pictures come from: a folder, a list, tars, parquet files or a data set; any picture at any time.

A picture has a key, which is the same on every machine: its path below the folder, its line in the list, its tar and
name in it, its parquet file and row. Nothing is unpacked: a tar is indexed once and then read at offsets.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from samlet.data import places
from samlet.data.dataset import Dataset, named_kind
from samlet.errors import InputError
from samlet.image import Image


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
            WebDataset tars (.tar), parquet files, or data sets by kind ("coco:annotations.json"); several of a kind, of
            one kind only.

    Raises:
        InputError: A path does not exist, the kinds are mixed, or there is no picture.
        MissingExtraError: A parquet file needs pyarrow.

    Example:
        >>> open_source(["samples"]).keys[0]  # doctest: +SKIP
        'cup.jpg'
    """
    missing = [path for path in paths if named_kind(path) is None and not Path(path).exists()]
    if missing or not paths:
        raise InputError(
            f"expected pictures at {missing[0] if missing else 'a path'}, found nothing there; correct the path"
        )
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise InputError(
            f"expected pictures of one kind, got {' and '.join(sorted(kinds))}; run the command once for each"
        )
    source = _Pictures(one for path in paths for one in _listed(path))
    if not source.keys:
        raise InputError(
            f"expected pictures in {', '.join(map(str, paths)):.200}, found none; give a folder, a list or tars"
        )
    return source


def _kind(path: str | Path) -> str:
    named = named_kind(path)
    return named or {".tar": "tar", ".parquet": "parquet"}.get(Path(path).suffix.lower(), "files")


def _listed(words: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give key and place of each picture."""
    if named_kind(words) is not None:
        yield from ((item.file_name, item.source) for item in Dataset.open(words, boxes=True).items)
        return
    path, kind = Path(words), _kind(words)
    if path.is_dir():
        found = places.in_folder(str(path), "")
    elif path.suffix.lower() == ".txt":
        found = places.in_list(str(path))
    elif kind == "tar":
        found = places.in_tar(str(path), f"{path.name}/")
    elif kind == "parquet":
        found = places.in_parquet(str(path), f"{path.name}/", numbered=True)
    else:
        found = iter([places.at_path(str(path), path.name)])
    yield from ((one.name, one.source) for one in found)


class _Pictures:
    """Pictures by key, each read from its place."""

    def __init__(self, found: Iterator[tuple[str, dict[str, Any]]]) -> None:
        self._at: dict[str, dict[str, Any]] = {}
        for key, source in found:
            if self._at.setdefault(key, source) != source:
                raise InputError(
                    f"expected each picture's name once, but {self._at[key]['path']} and {source['path']} are both "
                    f"{key!r}; give the folder above them"
                )
        self.keys = tuple(sorted(self._at))

    def read(self, key: str) -> Image:
        source = self._at.get(key)
        if source is None:
            raise InputError(
                f"expected the picture {key!r:.120} among those given, found {len(self._at):,} others; "
                "give the pictures that the embeddings were made of"
            )
        if source.keys() == {"path"}:  # not through memory: its bounds are those of files
            return Image.load(source["path"], name=key)
        return Image.load(places.read(source), name=key)
