"""A web server on this computer that misbehaves on request: the first part of the path says how."""

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BadServer(ThreadingHTTPServer):
    """Serves one content under any name; `url("drop", "x.pt")` gives the address where it drops connections.

    Attributes:
        content: What a good server would send.
        asked: Path and headers of every request, in order.
        sent: Bytes of content sent so far.
        every: Bytes after which "drop" drops and "slow" rests.
        rest: Seconds that "slow" rests.
        busy: Requests that "busy" still turns away, with `retry_after` for a header.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        self.every, self.rest = 64 * 1024, 0.02
        self.busy, self.retry_after = 2, "0"
        self.lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> "BadServer":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def url(self, how: str, name: str = "model.pt") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{how}/{name}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of this server leave in the middle; that is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    server: BadServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://somewhere.invalid")  # what a proxy gets to see
        with self.server.lock:
            self.server.asked.append((self.path, dict(self.headers)))
        how = path.split("/")[1]
        if how.isdigit():
            self.refuse(int(how))
        else:
            _WAYS.get(how, _Handler.good)(self)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def refuse(self, code: int, **headers: str) -> None:
        self.send_response(code)
        self.headed({"Content-Length": "0", **headers})

    def headed(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def begin(self, *, ranges: bool = True, length: int | None = None, **headers: str) -> bytes:
        """Send the head and give the content that belongs after it."""
        content, wanted = self.server.content, self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, headers.get("ETag"))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges and same else 0
        if start >= len(content) and start:
            self.refuse(416, Content_Range=f"bytes */{len(content)}")
            return b""
        self.send_response(206 if start else 200)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.headed({"Content-Length": str(length or len(content) - start), **headers})
        return content[start:]

    def write(self, data: bytes) -> None:
        with self.server.lock:
            self.server.sent += len(data)
        self.wfile.write(data)

    def good(self) -> None:
        self.write(self.begin())

    def etag(self) -> None:
        """Name its version and drop the first connection of it."""
        data = self.begin(ETag='"one"')
        self.write(data[: self.server.every])

    def changed(self) -> None:
        """Have another version than the one the client began with."""
        self.write(self.begin(ETag='"two"'))

    def slow(self) -> None:
        data = self.begin()
        for start in range(0, len(data), self.server.every):
            self.write(data[start : start + self.server.every])
            time.sleep(self.server.rest)

    def stall(self) -> None:
        """Send a little and then nothing, keeping the connection."""
        self.write(self.begin()[: self.server.every])
        self.connection.settimeout(5)
        self.rfile.read(1)  # until the client loses its patience

    def drop(self) -> None:
        self.write(self.begin()[: self.server.every])

    def stubborn(self) -> None:
        """Ignore ranges, but send all."""
        self.write(self.begin(ranges=False))

    def dropping_stubborn(self) -> None:
        """Ignore ranges, and drop a little later each time: some progress, but never an end."""
        self.write(self.begin(ranges=False)[: self.server.every])

    def longer(self) -> None:
        """Announce more than there is."""
        self.write(self.begin(length=len(self.server.content) + 10))

    def shorter(self) -> None:
        self.write(self.begin(length=len(self.server.content) - 10))

    def wrong(self) -> None:
        data = bytearray(self.begin())
        data[len(data) // 2] ^= 1
        self.write(bytes(data))

    def other_part(self) -> None:
        """Answer with another part of the file than asked for."""
        self.send_response(206)
        self.headed({"Content-Length": "10", "Content-Range": f"bytes 7-16/{len(self.server.content)}"})
        self.write(self.server.content[7:17])

    def chunked(self) -> None:
        self.send_response(200)
        self.headed({"Transfer-Encoding": "chunked"})
        for start in range(0, len(self.server.content), 5000):
            block = self.server.content[start : start + 5000]
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def turned_away(self) -> None:
        with self.server.lock:
            self.server.busy -= 1
            busy = self.server.busy >= 0
        if busy:
            self.refuse(503, Retry_After=self.server.retry_after)
        else:
            self.good()

    def loop(self) -> None:
        self.refuse(302, Location=self.path + "x")

    def moved(self) -> None:
        self.refuse(302, Location="/good/elsewhere.pt")

    def elsewhere(self) -> None:
        self.refuse(301, Location="http://192.0.2.1/model.pt")

    def to_file(self) -> None:
        self.refuse(302, Location="file:///etc/hostname")

    def zipped(self) -> None:
        data = gzip.compress(self.server.content)
        self.send_response(200)
        self.headed({"Content-Length": str(len(data)), "Content-Encoding": "gzip"})
        self.write(data)

    def login(self) -> None:
        page = b"<!doctype html><title>Please log in</title>"
        self.send_response(200)
        self.headed({"Content-Length": str(len(page)), "Content-Type": "text/html; charset=utf-8"})
        self.wfile.write(page)


_WAYS: dict[str, Callable[[_Handler], None]] = {
    name: way for name, way in vars(_Handler).items() if callable(way) and not name.startswith("_")
}
_WAYS["busy"] = _Handler.turned_away
