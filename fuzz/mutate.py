"""Ways to damage a file: blindly, word by word, and with the checksums made right again."""

import random
import re
import struct
import zlib
from collections.abc import Sequence

_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"|[\w.+-]+|[\[\]{}(),:=\n]')
NASTY = (
    b"null", b"true", b"-1", b"0", b"-0.0", b"2147483648", b"9223372036854775808", b"-9223372036854775809",
    b"1e400", b"-1e400", b"NaN", b"Infinity", b"nan", b"inf", b"1" * 400, b"1" * 5000, b"0x10", b"0x" + b"f" * 5000,
    b"1_000", b"1.5",
    b'""', b'"\\ud800"', b'"\\u0000"', b'"' + b"a" * 300 + b'"', b'"../../etc/passwd"', b'"1"', b"'", b"\"",
    b"[]", b"{}", b"[[]]", b"[" * 3000, b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000, b"[null]", b"[1,2]",
    b'{"points":[[1,2]]}', b"\xff\xfe", b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80", "ä½𝒳".encode(), b"\r", b"#",
    b"2020-01-01", b"a.b.c", b"[[a]]", b"\\",
)  # fmt: skip
"""Values that readers of text stumble over."""

_SIZES = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage bytes in one to eight places, as a broken disk, a cut line or a hand with a hex editor would.

    Args:
        data: A good file.
        others: More of its kind, to take pieces from.
        rng: Where chance comes from.
    """
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4, 8))):
        if not changed:
            break
        _hurt(changed, others, rng)
    return bytes(changed)


def _hurt(changed: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(changed))
    what = rng.randrange(10)
    if what <= 1:
        changed[at] ^= 1 << rng.randrange(8)
    elif what == 2:
        changed[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    elif what == 3:
        del changed[at : at + rng.choice((1, 2, 4, 16, 100))]
    elif what == 4:
        changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
    elif what == 5:
        form = rng.choice("<>") + rng.choice("HIQ")
        packed = struct.pack(form, rng.choice(_SIZES) & (256 ** struct.calcsize(form) - 1))
        changed[at : at + len(packed)] = packed
    elif what == 6:
        del changed[at:]
    elif what == 7:  # a piece twice
        piece = changed[at : at + rng.choice((4, 20, 200))]
        changed[at:at] = piece * rng.choice((1, 2, 50))
    elif what == 8:  # two pieces in the other order
        to = rng.randrange(len(changed))
        length = rng.choice((1, 4, 20))
        first, second = changed[at : at + length], changed[to : to + length]
        changed[at : at + len(first)], changed[to : to + len(second)] = (
            second[: len(first)],
            first[: len(second)],
        )
    else:
        other = rng.choice(others)
        start = rng.randrange(max(1, len(other)))
        changed[at : at + rng.choice((0, 8, 64))] = other[start : start + rng.choice((8, 64, 500))]


def reworded(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change words of a text, so that it mostly stays a text of its kind: other values, more, fewer, moved.

    Args:
        data: A good file.
        others: More of its kind, to take words from.
        rng: Where chance comes from.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = [match.span() for match in _WORD.finditer(data)]
        if not words:
            return data
        start, end = rng.choice(words)
        what = rng.randrange(8)
        if what <= 1:
            new = rng.choice(NASTY)
        elif what == 2 or what >= 6:
            new = _close(data[start:end], words, data, rng)
        elif what == 3:
            new = b""
        elif what == 4:
            new = data[start:end] * rng.choice((2, 3, 200))
        else:
            new = rng.choice(_WORD.findall(rng.choice(others)) or [b""])
        if rng.randrange(4) == 0:  # from one word to another
            end = max(end, rng.choice(words)[1])
        data = data[:start] + new + data[end:]
    return data


def _close(word: bytes, words: Sequence[tuple[int, int]], data: bytes, rng: random.Random) -> bytes:
    """A value like the one that stands there: of numbers a neighbour, of others a word of the same kind."""
    try:
        value = float(word)
    except ValueError:
        same = [data[start:end] for start, end in words if data[start:end][:1] == word[:1]]
        return rng.choice(same)
    if not value.is_integer() or abs(value) > 1e15:
        return repr(value * rng.choice((-1, 0.5, 2, 1e3))).encode()
    return str(int(value) + rng.choice((-1, 1, 2, 10, -2 * int(value), int(value)))).encode()


def png_repaired(data: bytes) -> bytes:
    """Make the lengths and checksums of a PNG's chunks right, so that a reader looks at what is in them."""
    if data[:4] != b"\x89PNG":
        return data
    out, at = bytearray(data[:8]), 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        at += 12 + length
    return bytes(out)


def riff_repaired(data: bytes) -> bytes:
    """Make the length in a WebP's head right."""
    return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:] if data[:4] == b"RIFF" else data


def header_repaired(data: bytes) -> bytes:
    """Make the length of a safetensors header right: it ends where the arrays begin, after the last brace."""
    end = data.rfind(b"}") + 1
    return len(data[8:end]).to_bytes(8, "little") + data[8:] if end > 8 else data
