"""Zip archives that look different to different readers, swell, or lead elsewhere."""

import struct
import zlib

from attacks.assembly import START, STOP, Zip, called, name, text, torch_file, weights
from attacks.table import COMMAND, Attack, collect

ARCHIVES: list[Attack] = []
_archive = collect("archive", ARCHIVES)
_EVIL = START + called(name("os", "system"), text(COMMAND)) + STOP


@_archive("its entry 'archive/data/1' is compressed, which torch never does")
def zip_bomb() -> bytes:
    """Swell from kilobytes to a gigabyte on decompression."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(squeeze.compress(bytes(2**20)) for _ in range(64)) + squeeze.flush()
    return torch_file(weights()).add("archive/data/1", packed, method=8, size=2**30).bytes()


@_archive("its entry 'archive/data.pkl' comes twice")
def entry_that_comes_twice() -> bytes:
    """Show a harmless pickle to a scanner and another of the same name to the reader."""
    return torch_file(weights()).add("archive/data.pkl", _EVIL).bytes()


@_archive("it is a zip archive, but not one that torch.save wrote")
def two_roots() -> bytes:
    """Hold two torch files in one archive."""
    archive = torch_file(weights())
    return archive.add("evil/data.pkl", _EVIL).add("evil/version", b"3\n").bytes()


@_archive("its pickle is not of protocol 2 to 5")
def archive_within_an_archive() -> bytes:
    """Put a whole torch file in the place of the pickle."""
    return torch_file(torch_file(_EVIL).bytes()).bytes()


@_archive("its entry 'archive/../../../evil' has a name that leads elsewhere or cannot be read")
def name_of_a_parent_folder() -> bytes:
    """Lead out of the folder that somebody unpacks it in."""
    return torch_file(weights()).add("archive/../../../evil", b"x").bytes()


@_archive("its entry '/etc/data.pkl' has a name that leads elsewhere or cannot be read")
def absolute_name() -> bytes:
    """Lead to a fixed place."""
    return torch_file(weights(), root="/etc").bytes()


@_archive("a name that leads elsewhere")
def name_with_backslashes() -> bytes:
    """Lead elsewhere on Windows."""
    return torch_file(weights()).add("archive/..\\..\\evil", b"x").bytes()


@_archive("its entry 'archive/data/1' is a link or another special file")
def symbolic_link() -> bytes:
    """Be a link to a file outside."""
    return torch_file(weights()).add("archive/data/1", b"/etc/passwd", mode=0o120777).bytes()


@_archive("its entry 'archive/data.pkl' is encrypted or a patch")
def encrypted_entry() -> bytes:
    """Keep the pickle from scanners by encryption."""
    return Zip().add("archive/data.pkl", weights(), flags=1).bytes()


@_archive("the checksum of its part 'archive/data.pkl' is wrong, so it is damaged")
def wrong_checksum() -> bytes:
    """Make scanners stop at a checksum that torch does not look at."""
    return Zip().add("archive/data.pkl", _EVIL, crc=1).add("archive/version", b"3\n").bytes()


@_archive("its entry 'archive/data.pkl' says something else than the directory")
def header_that_contradicts() -> bytes:
    """Say one size in the directory and another in front of the entry."""
    return Zip().add("archive/data.pkl", weights(), local_size=7).bytes()


@_archive("its entries overlap")
def entries_that_overlap() -> bytes:
    """Let one entry lie within the other, so that the same bytes are counted twice."""
    archive, inner = torch_file(weights()), Zip().add("archive/data/1", bytes(16))
    at = len(archive.body) + 30 + len("archive/data/2")
    archive.add("archive/data/2", inner.body)
    body = archive.body
    archive.add("archive/data/1", bytes(16), header=at)
    archive.body = body
    return archive.bytes()


@_archive("its entry 'archive/data.pkl' reaches beyond the entries")
def entry_beyond_the_end() -> bytes:
    """Claim an entry longer than the file."""
    return Zip().add("archive/data.pkl", weights(), size=2**31, local_size=2**31).bytes()


@_archive("there are bytes between its entries and its directory")
def bytes_between_entries() -> bytes:
    """Hide something where only some readers look."""
    return torch_file(weights()).bytes(between=_EVIL * 3)


@_archive("it begins as a zip archive and does not end as one, so it is cut short or has a tail")
def tail_behind_the_archive() -> bytes:
    """Be a zip archive for one reader and something else for another."""
    return torch_file(weights()).bytes() + _EVIL


@_archive("its two zip directories contradict each other")
def wide_directory_that_lies() -> bytes:
    """Point the 64-bit directory to another place than the plain one."""
    archive = torch_file(weights())
    at = len(archive.body) + len(archive.directory)
    fields = (44, 30, 45, 0, 0, archive.count, archive.count, len(archive.directory), 2**62)
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", *fields) + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    return archive.bytes(wide=wide)


@_archive("it has 65,535 entries, more than 20,000")
def many_entries() -> bytes:
    """Claim 65,535 entries."""
    archive = Zip()
    archive.body = b"PK\3\4"
    archive.directory = struct.pack("<4s6H3I5H2I", b"PK\1\2", *[0] * 16) * 65_535
    return archive.bytes(count=65_535)


@_archive("it is a TorchScript program, which samlet does not run")
def torchscript_program() -> bytes:
    """Be a program for torch's own interpreter rather than weights."""
    code = b"def forward(self, x):\n  return x\n"
    return torch_file(weights()).add("archive/code/net.py", code).bytes()


@_archive("its numbers are not little-endian")
def big_endian_numbers() -> bytes:
    """Swap the bytes of every number behind the back of the checks."""
    archive = Zip().add("a/data.pkl", weights()).add("a/byteorder", b"big")
    return archive.add("a/data/0", struct.pack(">4f", 1, 2, 3, 4)).bytes()
