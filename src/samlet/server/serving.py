"""Running the application as `samlet serve` does: bounds on connections that no ASGI application can set itself."""

import asyncio
import logging
import socket
import struct
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from samlet.errors import InputError
from samlet.limits import ServerLimits
from samlet.server.settings import Settings
from samlet.server.tls import Identity

_REFUSAL = (
    b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
)
_KEEP_ALIVE_SECONDS = 15
_STOP_SECONDS = 20
_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BLOCK = 8 * 2**20


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with an end to its patience: for slow heads, endless heads, and answers nobody reads."""

    limits: ServerLimits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, or refuse one connection too many."""
        super().connection_made(transport)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._idle_bytes = 0  # since the request or its body last moved on
        self._in_head = True
        if len(self.connections) > self.limits.max_connections:
            self._refuse(
                b"503 Service Unavailable", b"too many connections; try again soon", b"retry-after: 2\r\n"
            )
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop("_head_timer")
        self._stop("_write_timer")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes without moving anything on."""
        if self.transport.is_closing():
            return
        self._idle_bytes += len(data)
        if self._in_head and self._head_timer is None:
            self._wait_for_head()
        super().data_received(data)
        if self._idle_bytes > self.limits.max_head_bytes and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large", b"the head of the request is too long", b"")

    def on_message_begin(self) -> None:
        """Begin another request."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the clock: from here on the application watches the body."""
        self._stop("_head_timer")
        self._in_head = False
        self._idle_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the body moves on."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._idle_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the clock for a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self._cut)

    def resume_writing(self) -> None:
        """Stop that clock."""
        self._stop("_write_timer")
        super().resume_writing()

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if self._in_head and not self.transport.is_closing():
            self.transport.close()

    def _cut(self) -> None:
        """Close at once; without the option the kernel would keep what it holds for a client that reads nothing."""
        held = self.transport.get_extra_info("socket")
        if held is not None:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _stop(self, name: str) -> None:
        timer = getattr(self, name, None)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    def _refuse(self, status: bytes, sentence: bytes, headers: bytes) -> None:
        body = b'{"error":"%b"}' % sentence
        self.transport.write(_REFUSAL % (status, len(body), headers, body))
        self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """Take the address before anything is loaded, so that a port in use is said at once.

    Args:
        host: Name or address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        InputError: It cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise InputError(
            f"expected to listen on {host!r:.80}, port {port}, but that is not possible ({reason}); choose another"
        ) from None


def server(
    app: FastAPI,
    settings: Settings,
    *,
    identity: Identity | None = None,
    log_level: int = logging.WARNING,
) -> uvicorn.Server:
    """Make a server that is ready to run on a bound socket: `server(app, settings).run(sockets=[bind(...)])`.

    Args:
        app: What `create_app` made.
        settings: The same settings.
        identity: Certificate to speak TLS with; None speaks plain HTTP.
        log_level: Of uvicorn's own messages.
    """
    _give_back_memory()
    protocol: Any = type("Protocol", (PatientProtocol,), {"limits": settings.limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level=log_level,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ssl_certfile=None if identity is None else identity.certificate,
        ssl_keyfile=None if identity is None else str(identity.key),
    )
    return uvicorn.Server(config)


def _give_back_memory() -> None:
    """Have large blocks given back to the system as soon as they are free, on Linux.

    glibc raises the size from which it does so up to 32 MiB by itself; Pillow's blocks of 16 MiB then stay in each
    worker's arena, and after one large picture for every worker the server looks as if it leaked. Setting the size
    switches that off. Smaller blocks, such as a click's masks, are still used again without asking the system.
    """
    import ctypes

    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    except (OSError, AttributeError, TypeError):  # another libc, or another system
        return
