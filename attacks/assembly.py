"""Pickles instruction by instruction, and zip archives field by field, so that both can lie."""

import struct
import zlib
from collections.abc import Sequence

START, STOP = b"\x80\x02", b"."
MAGIC = 0x1950A86A20F9469CFC6C


def text(value: str) -> bytes:
    """Push a text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """Push a whole number."""
    return b"\x8a" + bytes((16,)) + value.to_bytes(16, "little", signed=True)


def numbers(*values: int) -> bytes:
    """Push a tuple of whole numbers."""
    return b"(" + b"".join(number(value) for value in values) + b"t"


def name(module: str, of: str) -> bytes:
    """Push what a name stands for."""
    return f"c{module}\n{of}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    """Push what a function returns."""
    return function + b"(" + b"".join(arguments) + b"tR"


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    """Push a storage."""
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(
    stored: bytes | None = None, *, offset: int = 0, size: Sequence[int] = (4,), stride: Sequence[int] = (1,)
) -> bytes:
    """Push a tensor."""
    hooks = called(name("collections", "OrderedDict"))
    what = (stored or storage(), number(offset), numbers(*size), numbers(*stride), b"\x89", hooks)
    return called(name("torch._utils", "_rebuild_tensor_v2"), *what)


def weights(*values: bytes) -> bytes:
    """Make a pickle of a dict: a good tensor, so that nothing else is wrong with it, and the given values."""
    items = [text("good"), tensor()]
    for index, value in enumerate(values):
        items += [text(f"bad{index}"), value]
    return START + b"}(" + b"".join(items) + b"u" + STOP


class Zip:
    """A zip archive whose fields can be set to anything."""

    def __init__(self) -> None:
        self.body, self.directory, self.count = b"", b"", 0

    def add(self, path: str, content: bytes, **lies: int) -> "Zip":
        """Add an entry.

        Args:
            path: Its name.
            content: Its bytes.
            lies: Other values than the right ones for flags, method, crc, size, mode, local_size, header.
        """
        raw = path.encode()
        size, crc = lies.get("size", len(content)), lies.get("crc", zlib.crc32(content))
        flags, method = lies.get("flags", 0), lies.get("method", 0)
        stored = len(content) if method else size
        at = lies.get("header", len(self.body))
        local = (0, flags, method, 0, 33, crc, stored, lies.get("local_size", size), len(raw), 0)
        self.body += struct.pack("<4s5H3I2H", b"PK\3\4", *local) + raw + content
        line = (
            0,
            0,
            flags,
            method,
            0,
            33,
            crc,
            stored,
            size,
            len(raw),
            0,
            0,
            0,
            0,
            lies.get("mode", 0) << 16,
            at,
        )
        self.directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", *line) + raw
        self.count += 1
        return self

    def bytes(self, *, between: bytes = b"", wide: bytes = b"", count: int | None = None) -> bytes:
        """Finish the archive.

        Args:
            between: Bytes between the entries and the directory.
            wide: A 64-bit directory record and its locator.
            count: Number of entries to claim.
        """
        count = self.count if count is None else count
        start = len(self.body) + len(between)
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(self.directory), start, 0)
        return self.body + between + self.directory + wide + end


def torch_file(pickle: bytes, root: str = "archive") -> Zip:
    """Put a pickle into an archive as torch writes it, with one storage of four numbers, 1 to 4."""
    archive = Zip().add(f"{root}/data.pkl", pickle).add(f"{root}/byteorder", b"little")
    return archive.add(f"{root}/data/0", struct.pack("<4f", 1, 2, 3, 4)).add(f"{root}/version", b"3\n")


def legacy_file(pickle: bytes, *, keys: Sequence[str] = (), tail: bytes = b"") -> bytes:
    """Put a pickle into torch's legacy form."""
    system = START + b"}" + text("little_endian") + b"\x88s" + STOP
    listed = START + b"](" + b"".join(text(key) for key in keys) + b"e" + STOP
    return START + number(MAGIC) + STOP + START + number(1001) + STOP + system + pickle + listed + tail
