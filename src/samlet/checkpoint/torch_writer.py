"""Writes torch's zip form: a pickle spelled instruction by instruction, and the numbers beside it, all stored."""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from samlet.checkpoint.elements import Array, Kind, raw_bytes, row_major
from samlet.checkpoint.vocabulary import STORAGES
from samlet.errors import InputError

Nested = dict[str, Array | dict[str, Array]]
"""Arrays by name, or dicts of arrays by name."""

KindOf = Callable[[str, Array], Kind]
Content = bytes | memoryview

_ROOT = "archive"
_ALIGNMENT = 64  # torch maps storages from the disk, and wants them so
_FLAGS = 0x0800  # names are UTF-8
_DATE = 0x0021  # 1 January 1980, the first day of zip archives
_LARGEST = 2**32 - 1
_CLASSES = {kind.name: name for name, kind in STORAGES.items()}


def torch_zip(tree: Nested, kind_of: KindOf) -> bytes:
    """Write a tree of arrays as torch would.

    Args:
        tree: What the file shall hold.
        kind_of: Says what an array's numbers are.

    Raises:
        InputError: The file would be 4 GiB or longer, where zip archives need another form.
    """
    flat = list(_flat(tree))
    entries: list[tuple[str, Callable[[], Content]]] = [
        ("data.pkl", lambda: _pickle(tree, kind_of)),
        ("byteorder", lambda: b"little"),
        *((f"data/{i}", _bytes_of(array, kind_of(name, array))) for i, (name, array) in enumerate(flat)),
        ("version", lambda: b"3\n"),
    ]
    pieces: list[Content] = []
    directory: list[bytes] = []
    end = 0
    for name, content in entries:
        header, line, data = _entry(f"{_ROOT}/{name}".encode(), content(), end)
        pieces += [header, data]
        directory.append(line)
        end += len(header) + len(data)
    index = b"".join(directory)
    if end + len(index) > _LARGEST:
        raise InputError("expected less than 4 GiB for a .pt file; convert to .safetensors")
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), len(index), end, 0)
    return b"".join((*pieces, index, tail))


def _entry(name: bytes, content: Content, at: int) -> tuple[bytes, bytes, Content]:
    """Give an entry's header, its line in the directory, and its content."""
    if at + len(content) > _LARGEST:
        raise InputError("expected less than 4 GiB for a .pt file; convert to .safetensors")
    # Padding as torch does it: an extra field of the header that ends where the content shall begin.
    padding = -(at + 30 + len(name) + 4) % _ALIGNMENT
    extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    size = len(content)
    facts = (_FLAGS, 0, 0, _DATE, zlib.crc32(content), size, size, len(name))
    header = struct.pack("<4s5H3I2H", b"PK\3\4", 0, *facts, len(extra)) + name + extra
    line = struct.pack("<4s6H3I5H2I", b"PK\1\2", 0, 0, *facts, 0, 0, 0, 0, 0, at) + name
    return header, line, content


def _bytes_of(array: Array, kind: Kind) -> Callable[[], Content]:
    # One at a time: the largest network has 2.6 GB.
    return lambda: raw_bytes(array, kind)


def _flat(tree: Nested) -> Iterator[tuple[str, Array]]:
    for name, value in tree.items():
        yield from value.items() if isinstance(value, dict) else ((name, value),)


def _pickle(tree: Nested, kind_of: KindOf) -> bytes:
    numbers = iter(range(2**31))

    def tensor(name: str, array: Array) -> bytes:
        storage = _CLASSES[kind_of(name, array).name]
        persistent = (
            b"(" + _text("storage") + _global("torch", storage) + _text(str(next(numbers))) + _text("cpu")
        ) + (_integer(array.size) + b"tQ")
        hooks = _global("collections", "OrderedDict") + b")R"
        place = b"K\0" + _tuple(array.shape) + _tuple(row_major(array.shape))
        return (
            _global("torch._utils", "_rebuild_tensor_v2")
            + b"("
            + persistent
            + place
            + b"\x89"
            + hooks
            + b"tR"
        )

    def mapping(arrays: Mapping[str, Array]) -> bytes:
        items = [_text(name) + tensor(name, array) for name, array in arrays.items()]
        return b"}(" + b"".join(items) + b"u"

    items = [
        _text(name) + (mapping(value) if isinstance(value, dict) else tensor(name, value))
        for name, value in tree.items()
    ]
    return b"\x80\x02}(" + b"".join(items) + b"u."


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_integer(value) for value in values) + b"t"
