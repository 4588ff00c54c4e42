"""The zip archive around a torch file: where its entries lie, and nothing else.

torch stores its entries as they are, so nothing is ever decompressed here and no file can swell. What zip readers
disagree about (two directories, two entries of one name, a local header that says something else, bytes between
entries) is refused, because files that look different to different readers are how scanners are passed.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from samlet.checkpoint.refusal import RefusedError, shown
from samlet.limits import ModelFileLimits

MAGIC = b"PK\x03\x04"
_DIRECTORY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_ENCRYPTED, _SIZES_FOLLOW = 0x0001, 0x0008
_PATCHED = 0x2061  # encryption, patch data, strong encryption, masked headers
_LONGEST_DESCRIPTOR = 24
_LONGEST_NAME = 400


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored entry: its bytes are data[start:start + size]."""

    name: str
    header: int
    start: int
    size: int
    crc: int

    def read(self, data: memoryview) -> memoryview:
        """Give the entry's bytes, after their checksum was found right.

        Raises:
            RefusedError: The checksum differs.
        """
        found = data[self.start : self.start + self.size]
        if zlib.crc32(found) != self.crc:
            raise RefusedError(f"the checksum of its part {shown(self.name)} is wrong, so it is damaged")
        return found


@dataclass(frozen=True, slots=True)
class _Record:
    """One line of the directory."""

    flags: int
    method: int
    crc: int
    stored: int
    size: int
    mode: int
    header: int
    name: bytes


def entries(data: memoryview, limits: ModelFileLimits) -> dict[str, Entry]:
    """Read the directory of an archive whose entries are stored, and check it against the entries themselves.

    Raises:
        RefusedError: The archive is not one that torch writes.
    """
    start, size, count = _directory(data)
    if count > limits.max_entries:
        raise RefusedError(f"it has {count:,} entries, more than {limits.max_entries:,}")
    found: dict[str, Entry] = {}
    for record in _records(data[start : start + size], count):
        entry = _entry(data[:start], record)
        if entry.name in found:
            raise RefusedError(f"its entry {shown(entry.name)} comes twice")
        found[entry.name] = entry
    end = 0
    for entry in sorted(found.values(), key=lambda entry: entry.header):
        # Behind an entry there may be a descriptor that repeats its sizes, and nothing more.
        slack = _LONGEST_DESCRIPTOR if end else 0
        if not end <= entry.header <= end + slack:
            raise RefusedError("its entries overlap, or there are bytes between them")
        end = entry.start + entry.size
    if not end <= start <= end + _LONGEST_DESCRIPTOR:
        raise RefusedError("there are bytes between its entries and its directory")
    return found


def _directory(data: memoryview) -> tuple[int, int, int]:
    """Find the directory through the record at the very end: its start, its size, its number of entries."""
    at = len(data) - _END.size
    if at < 0 or bytes(data[at : at + 4]) != b"PK\x05\x06":
        raise RefusedError(
            "it begins as a zip archive and does not end as one, so it is cut short or has a tail"
        )
    _, disk, first, here, count, size, start, comment = _END.unpack(data[at:])
    if disk or first or here != count or comment:
        raise RefusedError("its zip directory is spread over several disks or carries a comment")
    if at >= _LOCATOR.size and bytes(data[at - _LOCATOR.size :][:4]) == b"PK\x06\x07":
        at = _check_wide(data, at - _LOCATOR.size, (count, size, start))
    if start + size != at:
        raise RefusedError("its zip directory is not where it says it is")
    return start, size, count


def _check_wide(data: memoryview, locator: int, expected: tuple[int, int, int]) -> int:
    """Hold the 64-bit record, which torch always writes, against the plain one; return where it begins."""
    _, disk, at, disks = _LOCATOR.unpack(data[locator : locator + _LOCATOR.size])
    if disk or disks != 1 or at + _END64.size != locator:
        raise RefusedError("its 64-bit zip directory is not where it says it is")
    magic, length, _, _, disk, first, here, count, size, start = _END64.unpack(data[at:locator])
    if magic != b"PK\x06\x06" or length != _END64.size - 12 or disk or first or here != count:
        raise RefusedError("its 64-bit zip directory is damaged")
    if (count, size, start) != expected:
        raise RefusedError("its two zip directories contradict each other")
    return int(at)


def _records(directory: memoryview, count: int) -> Iterator[_Record]:
    at = 0
    for _ in range(count):
        if at + _DIRECTORY.size > len(directory) or bytes(directory[at : at + 4]) != b"PK\x01\x02":
            raise RefusedError("its zip directory is damaged")
        _, _, _, flags, method, _, _, crc, *rest = _DIRECTORY.unpack(directory[at : at + _DIRECTORY.size])
        stored, size, name_length, extra, comment, disk, _, attributes, header = rest
        at += _DIRECTORY.size
        if extra or comment or disk:  # nothing that torch writes below 4 GiB
            raise RefusedError("its zip directory has extra fields or comments")
        name = bytes(directory[at : at + name_length])
        at += name_length
        yield _Record(flags, method, crc, stored, size, attributes >> 16, header, name)
    if at != len(directory):
        raise RefusedError("its zip directory holds more than its entries")


def _entry(data: memoryview, record: _Record) -> Entry:
    """Check one line of the directory against the header in front of the entry's bytes."""
    name = _name(record.name)
    if record.flags & (_ENCRYPTED | _PATCHED):
        raise RefusedError(f"its entry {shown(name)} is encrypted or a patch")
    if record.method or record.stored != record.size:
        raise RefusedError(
            f"its entry {shown(name)} is compressed, which torch never does", "save it again with torch.save"
        )
    if record.mode >> 12 not in (0, 0o10):  # neither unset nor a regular file
        raise RefusedError(f"its entry {shown(name)} is a link or another special file")
    at = record.header
    if at + _LOCAL.size > len(data) or bytes(data[at : at + 4]) != MAGIC:
        raise RefusedError(f"its entry {shown(name)} is not where the directory says")
    _, _, flags, method, _, _, crc, stored, size, name_length, extra = _LOCAL.unpack(
        data[at : at + _LOCAL.size]
    )
    told = (crc, stored, size)
    expected = (record.crc, record.size, record.size)
    later = bool(flags & _SIZES_FOLLOW) and told == (0, 0, 0)
    start = at + _LOCAL.size
    same_name = data[start : start + name_length] == record.name
    if (flags, method) != (record.flags, 0) or not same_name or not (later or told == expected):
        raise RefusedError(f"its entry {shown(name)} says something else than the directory")
    start += name_length + extra
    if start + record.size > len(data):
        raise RefusedError(f"its entry {shown(name)} reaches beyond the entries")
    return Entry(name, at, start, record.size, record.crc)


def _name(raw: bytes) -> str:
    """Accept plain relative names with forward slashes only; nothing is ever written under them."""
    text = raw.decode("utf-8", "replace")
    plain = text.isprintable() and not set(text) & set("\\:\ufffd")
    if not plain or len(raw) > _LONGEST_NAME or any(not part.strip(". ") for part in text.split("/")):
        raise RefusedError(f"its entry {shown(text)} has a name that leads elsewhere or cannot be read")
    return text
