"""Clients that mean harm, at full size: what the small tests in tests/test_server_door.py do, by the thousand.

    python -m benchmarks.hostile_http            all of it; a few minutes, over loopback
    python -m benchmarks.hostile_http slowloris  one of: body chunks parts slowloris gone bombs

Each attack prints the statuses it got; after all of them the server has to answer, with the files, threads and memory
that it had before. Exit code 1 if anything else than 4xx or 503 was answered, or something was left behind.
"""

import asyncio
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable

from benchmarks.http_client import Connection
from benchmarks.serving_process import Served, picture, served

Statuses = Counter[int]
CLOSED = 0  # the server hung up without an answer


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


async def status(reader: asyncio.StreamReader) -> int:
    try:
        line = await asyncio.wait_for(reader.readline(), 100)
    except (ConnectionError, TimeoutError):
        return CLOSED
    return int(line.split()[1]) if line else CLOSED


async def sent(port: int, pieces: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> int:
    """Open a connection, send, and give the status that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.ensure_future(pieces(writer))
    told = asyncio.ensure_future(status(reader))
    await asyncio.wait((sending, told), return_when=asyncio.FIRST_COMPLETED)
    found = await told
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass
    return found


async def body(server: Served) -> Statuses:
    """100 MB without a length."""

    async def pieces(writer: asyncio.StreamWriter) -> None:
        writer.write(head("/v1/embeddings", "Content-Type: image/png", "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(1600):
            writer.write(chunk)
            await writer.drain()

    return Counter(await asyncio.gather(*(sent(server.port, pieces) for _ in range(4))))


async def chunks(server: Served) -> Statuses:
    """A million chunks of six bytes."""

    async def pieces(writer: asyncio.StreamWriter) -> None:
        writer.write(head("/v1/embeddings", "Content-Type: image/png", "Transfer-Encoding: chunked"))
        for _ in range(1000):
            writer.write(b"6\r\nxxxxxx\r\n" * 1000)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return Counter([await sent(server.port, pieces)])


async def parts(server: Served) -> Statuses:
    """Forms of 10,000 parts, and of one part with 10,000 headers."""
    many = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="p%d"\r\n\r\nx\r\n' % i for i in range(10_000)
    )
    headers = b"".join(b"X-%d: y\r\n" % i for i in range(10_000))
    tall = b'--XX\r\nContent-Disposition: form-data; name="image"\r\n' + headers + b"\r\nx\r\n"
    connection = Connection(server.port)
    found: Statuses = Counter()
    for data in (many, tall) * 10:
        reply = await connection.ask(
            "POST", "/v1/embeddings", data + b"--XX--\r\n", "multipart/form-data; boundary=XX"
        )
        found[reply.status] += 1
    await connection.close()
    return found


async def slowloris(server: Served) -> Statuses:
    """200 clients that send a letter a second, in heads and in bodies; others are served meanwhile."""

    async def head_pieces(writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /v1/embeddings HTTP/1.1\r\nX-A: ")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(1)

    async def body_pieces(writer: asyncio.StreamWriter) -> None:
        writer.write(head("/v1/embeddings", "Content-Type: image/png", "Content-Length: 100000"))
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(1)

    slow = [asyncio.ensure_future(sent(server.port, pieces)) for pieces in (head_pieces, body_pieces) * 100]
    await asyncio.sleep(3)
    connection = Connection(server.port)
    reply = await connection.ask("GET", "/health")
    print(f"  meanwhile /health took {reply.seconds * 1000:.0f} ms")
    await connection.close()
    return Counter(await asyncio.gather(*slow))


async def gone(server: Served) -> Statuses:
    """1,000 clients that leave in the middle of an upload, and 200 that leave after the request."""
    data = picture(0)
    found: Statuses = Counter()

    async def leave(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        whole = number % 6 == 0
        length = len(data) if whole else 400_000
        writer.write(head("/v1/embeddings", "Content-Type: image/png", f"Content-Length: {length}"))
        writer.write(data if whole else b"x" * (number * 97 % 390_000))
        try:
            await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()
        found[CLOSED] += 1

    for start in range(0, 1200, 50):
        await asyncio.gather(*(leave(start + i) for i in range(50)))
    return found


async def bombs(server: Served) -> Statuses:
    """Pictures that are large in their header only, and ones that are nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width: int, height: int, content: bytes) -> bytes:
        ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", ihdr)
            + chunk(b"IDAT", zlib.compress(content))
            + chunk(b"IEND", b"")
        )

    bad = [
        png(14_000, 14_000, b"\0" * 10_000_000),
        png(65_000, 65_000, b""),
        png(2**31 - 1, 2**31 - 1, b""),
        png(7000, 7000, b"\0" * 1000),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03" + b"\x01\x22\x00" * 3 + b"\xff\xd9",
        b"RIFF\xff\xff\xff\x7fWEBPVP8X" + b"\xff" * 30,
        b"BM" + b"\xff" * 60,
        b"GIF89a" + b"\xff" * 60,
        b"\x00" * 1000,
    ]
    connection = Connection(server.port)
    found: Statuses = Counter()
    for data in bad * 5:
        found[(await connection.ask("POST", "/v1/embeddings", data, "image/png")).status] += 1
    await connection.close()
    return found


async def held(connection: Connection, server: Served) -> int:
    """Resident bytes without what the cache holds: clients that leave after their upload have it embedded."""
    text = (await connection.ask("GET", "/metrics")).body.decode()
    cached = float(text.split("\nsamlet_cache_bytes ")[1].split()[0])
    return server.rss() - int(cached)


ATTACKS = {each.__name__: each for each in (body, chunks, parts, slowloris, gone, bombs)}


async def main() -> int:
    chosen = [ATTACKS[name] for name in sys.argv[1:]] or list(ATTACKS.values())
    failures = 0
    with served() as server:
        warm = Connection(server.port)
        others = [Connection(server.port) for _ in range(10)]  # at once, so that every worker has begun
        for number in range(3):
            await asyncio.gather(
                *(each.ask("POST", "/v1/embeddings", picture(number), "image/png") for each in others)
            )
        for each in others:
            await each.close()
        for attack in (body, parts, bombs):  # what memory is taken once and kept
            await attack(server)
        await asyncio.sleep(1)
        before = await held(warm, server), server.files(), server.threads()
        for attack in chosen:
            started = time.perf_counter()
            found = await attack(server)
            bad = [code for code in found if code not in (CLOSED, 503) and not 400 <= code < 500]
            failures += len(bad)
            print(
                f"{attack.__name__}: {dict(found)} in {time.perf_counter() - started:.0f} s, "
                f"RSS {server.rss() / 2**20:.0f} MiB{'  <- not 4xx or 503' if bad else ''}",
                flush=True,
            )
        for _ in range(100):  # what was dropped is let go of in time
            await asyncio.sleep(0.1)
            if server.files() <= before[1] and server.threads() <= before[2]:
                break
        after = await held(warm, server), server.files(), server.threads()
        reply = await warm.ask("GET", "/health")
        await warm.close()
    grown = 100 * (after[0] - before[0]) / before[0]
    print(
        f"afterwards: /health {reply.status}; files {before[1]} -> {after[1]}, threads {before[2]} -> {after[2]}, "
        f"RSS without the cached embeddings {before[0] / 2**20:.0f} -> {after[0] / 2**20:.0f} MiB ({grown:+.1f} %)"
    )
    failures += (reply.status != 200) + (after[1] > before[1]) + (after[2] > before[2])
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
