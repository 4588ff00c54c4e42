"""An HTTP/1.1 client of a hundred lines on asyncio, cheap enough to load a server from the same two cores."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

SECONDS = 120.0


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Connection:
    """One keep-alive connection; opened again when the server closed it."""

    port: int
    _streams: Any = field(default=None, repr=False)

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Reply:
        started = time.perf_counter()
        fresh = self._streams is None
        try:
            status, headers, answer = await asyncio.wait_for(self._ask(method, path, body, kind), SECONDS)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            if fresh:
                raise
            # A kept connection may have been closed while it idled.
            status, headers, answer = await asyncio.wait_for(self._ask(method, path, body, kind), SECONDS)
        if headers.get("connection") == "close":
            await self.close()
        return Reply(status, headers, answer, time.perf_counter() - started)

    async def post(self, path: str, value: Any) -> Reply:
        return await self.ask("POST", path, json.dumps(value).encode())

    async def close(self) -> None:
        if self._streams is not None:
            writer, self._streams = self._streams[1], None
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass

    async def _ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nContent-Type: {kind}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await reader.readline(), 16):
                parts.append(await reader.readexactly(size))
                await reader.readexactly(2)
            await reader.readexactly(2)
            answer = b"".join(parts)
        else:
            answer = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, answer
