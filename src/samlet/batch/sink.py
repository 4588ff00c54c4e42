"""The files of a batch: for each shard one file of each format, whole or not at all, the same bytes every time."""

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from samlet.atomic import atomic_stream, atomic_write, not_written
from samlet.batch.record import DONE, FIGURES, Record
from samlet.codecs import label_map, labels_to_png_bytes
from samlet.errors import MissingExtraError
from samlet.rle import rle_to_mask

if TYPE_CHECKING:
    import pyarrow

FOLDERS = {"jsonl": "records", "coco": "records", "parquet": "parquet", "tar": "tars"}
"""Where the shard files of a format are; the others have one file a picture, in a folder of the format's name."""

_SUFFIXES = {"records": ".jsonl", "parquet": ".parquet", "tars": ".tar"}


def shard_path(folder: Path, format_name: str, shard: int) -> Path:
    """Name the file of a shard.

    Args:
        folder: The output folder.
        format_name: A key of `FOLDERS`.
        shard: Number of the shard.

    Example:
        >>> shard_path(Path("out"), "tar", 7).as_posix()
        'out/tars/shard-000007.tar'
    """
    inner = FOLDERS[format_name]
    return folder / inner / f"shard-{shard:06d}{_SUFFIXES[inner]}"


def prepare(folder: Path, formats: Iterable[str]) -> None:
    """Make the folders, and remove what killed workers left half-written.

    Args:
        folder: The output folder.
        formats: What will be written.

    Raises:
        OutputError: A folder cannot be made.
    """
    inner = {FOLDERS.get(name, name) for name in formats} | {"tries"}
    for name in sorted(inner):
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(folder / name, error) from error
    sweep(folder, formats)


def sweep(folder: Path, formats: Iterable[str]) -> None:
    """Remove what killed workers left half-written; no worker may be at work.

    Args:
        folder: The output folder.
        formats: What is written.
    """
    inner = {FOLDERS.get(name, name) for name in formats} | {"tries"}
    of_shards = {*FOLDERS.values(), "tries"}
    _sweep(folder, deep=False)
    for name in inner:
        _sweep(folder / name, deep=name not in of_shards)


def present(folder: Path, formats: Iterable[str]) -> Callable[[int], bool]:
    """Look which shard files are there.

    Args:
        folder: The output folder.
        formats: What was written; files of single pictures are not looked for.

    Returns:
        Says of a shard whether all of its files are there.
    """
    names = {
        inner: set(os.listdir(folder / inner))
        for inner in {FOLDERS[name] for name in formats if name in FOLDERS}
    }
    return lambda shard: all(
        f"shard-{shard:06d}{_SUFFIXES[inner]}" in there for inner, there in names.items()
    )


def write_records(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write the records of a shard as JSON lines.

    Args:
        folder: The output folder.
        shard: Number of the shard.
        records: One for each picture.

    Raises:
        OutputError: It cannot be written.
    """
    content = "".join(record.to_line() + "\n" for record in records)
    atomic_write(shard_path(folder, "jsonl", shard), content)


def write_parquet(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write the records of a shard as parquet: one row a picture, its masks as a list of structs.

    Args:
        folder: The output folder.
        shard: Number of the shard.
        records: One for each picture.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OutputError: It cannot be written.
    """
    schema = parquet_schema()
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([record.to_dict() for record in records], schema=schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    atomic_write(shard_path(folder, "parquet", shard), buffer.getvalue())


def parquet_schema() -> "pyarrow.Schema":
    """Give the columns of the parquet files.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(
            "expected pyarrow for parquet files, but it is not installed; pip install 'samlet[data]'"
        ) from error
    mask = pyarrow.struct(
        [
            ("score", pyarrow.float32()),
            ("area", pyarrow.int64()),
            ("bbox", pyarrow.list_(pyarrow.int32(), 4)),
            ("counts", pyarrow.string()),
            ("name", pyarrow.string()),
            *((figure, pyarrow.float32()) for figure in FIGURES),
        ]
    )
    texts = [(name, pyarrow.string()) for name in ("name", "state", "reason")]
    sizes = [(name, pyarrow.int32()) for name in ("width", "height")]
    return pyarrow.schema(
        [
            ("number", pyarrow.int64()),
            *texts,
            *sizes,
            ("sha256", pyarrow.string()),
            ("masks", pyarrow.list_(mask)),
        ]
    )


def write_tar(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write a shard as a WebDataset tar: for each picture its record and, if there are masks, a map of labels.

    Keys are the numbers of the pictures: names may hold dots, which WebDataset would cut at, and names that differ in
    their endings only would fall together.

    Args:
        folder: The output folder.
        shard: Number of the shard.
        records: One for each picture.

    Raises:
        OutputError: It cannot be written.
    """
    with (
        atomic_stream(shard_path(folder, "tar", shard)) as stream,
        tarfile.open(mode="w", fileobj=stream) as tar,
    ):
        for record in records:
            files = {"json": record.to_line().encode()}
            if record.state == DONE:
                files["labels.png"] = labels_png(record)
            for suffix, content in files.items():
                member = tarfile.TarInfo(
                    f"{record.number:09d}.{suffix}"
                )  # time and owner stay 0: same bytes each time
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_labels(folder: Path, shard: int, records: Sequence[Record]) -> None:
    """Write a map of labels for each picture that is done: `labels/NAME.png`.

    Args:
        folder: The output folder.
        shard: Number of the shard; not needed here.
        records: One for each picture.

    Raises:
        OutputError: It cannot be written.
    """
    del shard
    for record in records:
        path = folder / "labels" / label_name(record)
        if record.state != DONE:
            with contextlib.suppress(OSError):  # of an earlier run that found the picture whole
                path.unlink()
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(path.parent, error) from error
        atomic_write(path, labels_png(record))


def labels_png(record: Record) -> bytes:
    """Draw the masks of a record as a PNG of labels: 0 is background, i + 1 the i-th mask, small ones on top.

    Args:
        record: A picture that is done.
    """
    size = [record.height, record.width]
    masks = (rle_to_mask({"size": size, "counts": one["counts"]}) for one in record.masks)
    return labels_to_png_bytes(label_map(masks, size))


def label_name(record: Record) -> str:
    """Name the file of a picture's labels, below the folder whatever the picture is called.

    Args:
        record: The picture.

    Example:
        >>> label_name(Record(3, "a/b.jpg", DONE)), label_name(Record(3, "/../x.png", DONE))
        ('a/b.jpg.png', 'x.png.png')
        >>> label_name(Record(3, "x" * 300, DONE))
        '000000003.png'
    """
    parts = [
        part for part in PurePosixPath(record.name.replace("\\", "/")).parts if part not in ("/", "..", ".")
    ]
    is_plain = parts and all(len(part.encode()) <= 200 and part.isprintable() for part in parts)
    return "/".join(parts) + ".png" if is_plain else f"{record.number:09d}.png"


WRITERS: dict[str, Callable[[Path, int, Sequence[Record]], None]] = {
    "jsonl": write_records,
    "coco": write_records,
    "parquet": write_parquet,
    "tar": write_tar,
    "labels": write_labels,
}
"""What writes a shard, by format; COCO's one file is put together from the records at the end."""


def write_coco(folder: Path, shards: Iterable[int]) -> None:
    """Put all pictures that are done into one COCO file, `coco.json`, without holding them in memory.

    Args:
        folder: The output folder.
        shards: Numbers of all shards.

    Raises:
        OutputError: It cannot be written.
    """
    numbers = list(shards)
    categories: dict[str, int] = {}
    with atomic_stream(folder / "coco.json") as stream:

        def listing(name: str, rows: Iterator[dict[str, Any]]) -> None:
            stream.write(f'"{name}": ['.encode())
            for index, row in enumerate(rows):
                stream.write((",\n" if index else "\n").encode() + json.dumps(row).encode())
            stream.write(b"\n]")

        stream.write(b"{")
        listing("images", map(_image, done_records(folder, numbers)))
        stream.write(b",\n")
        listing("annotations", _annotations(done_records(folder, numbers), categories))
        stream.write(b",\n")
        listing("categories", ({"id": number, "name": name} for name, number in categories.items()))
        stream.write(b"}\n")


def write_failures(folder: Path, failures: Iterable[tuple[str, str]]) -> None:
    """List the pictures that failed in `failures.jsonl`; if there are none, there is no such file.

    Args:
        folder: The output folder.
        failures: Name and reason of each.

    Raises:
        OutputError: It cannot be written.
    """
    path, count = folder / "failures.jsonl", 0
    with atomic_stream(path) as stream:
        for name, reason in failures:
            stream.write(json.dumps({"name": name, "reason": reason}).encode() + b"\n")
            count += 1
    if not count:
        path.unlink()


def done_records(folder: Path, shards: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Read the records of the pictures that are done, one after the other.

    Args:
        folder: The output folder.
        shards: Numbers of the shards, which have records.
    """
    for shard in shards:
        with open(shard_path(folder, "jsonl", shard), encoding="utf-8") as lines:
            for line in lines:
                record: dict[str, Any] = json.loads(line)
                if record["state"] == DONE:
                    yield record


def _image(record: dict[str, Any]) -> dict[str, Any]:
    return {"id": record["number"] + 1, "file_name": record["name"], "height": record["height"],
            "width": record["width"]}  # fmt: skip


def _annotations(records: Iterator[dict[str, Any]], categories: dict[str, int]) -> Iterator[dict[str, Any]]:
    number = 0
    for record in records:
        for one in record["masks"]:
            number += 1
            yield {
                "id": number,
                "image_id": record["number"] + 1,
                "category_id": categories.setdefault(one["name"], len(categories) + 1),
                "segmentation": {"size": [record["height"], record["width"]], "counts": one["counts"]},
                "bbox": one["bbox"],
                "area": one["area"],
                "iscrowd": 0,
                "score": one["score"],
                **{figure: one[figure] for figure in FIGURES if figure in one},
            }


def _sweep(place: Path, *, deep: bool) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            if entry.name.startswith(".samlet-") and entry.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
            elif deep and entry.is_dir(follow_symlinks=False):
                _sweep(Path(entry.path), deep=True)
