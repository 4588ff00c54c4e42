"""What every test lives under: no network."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from samlet.store import cache_folder

# Files that samlet works out are kept for the whole run, apart from those of whoever runs the tests; it is set here and
# not in a fixture, so that child processes have it too.
_WEB_RUNTIME = cache_folder() / "web"
_CACHE = tempfile.TemporaryDirectory(prefix="samlet-tests-")
os.environ["SAMLET_CACHE"] = _CACHE.name
if (
    _WEB_RUNTIME.is_dir()
):  # onnxruntime-web was fetched, not worked out: tests of the page find it where it was put
    (Path(_CACHE.name) / "web").symlink_to(_WEB_RUNTIME)

pytest_plugins = ["tests.web_page"]

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class NetworkUseError(AssertionError):
    """A test reached for the network."""


def _refuse_outside(address: Any) -> None:
    if isinstance(address, tuple) and address and address[0] not in _LOOPBACK:
        raise NetworkUseError(f"expected a test without network, got a connection to {address!r}; use a fake")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test talk to this machine only; a local (AF_UNIX) socket has a plain path for an address."""
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
    getaddrinfo = socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_outside(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_outside(address)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: bytes, *args: Any) -> int:
        _refuse_outside(args[-1])
        return sendto(self, data, *args)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None:
            _refuse_outside((host.decode() if isinstance(host, bytes) else host,))
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket.socket, "sendto", guarded_sendto)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
    yield


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    """Give the path of a sample photograph of the project by its name: "coffee", "chelsea" or "astronaut"."""
    folder = Path(__file__).parent.parent / "samples"
    return lambda name: next(folder.glob(f"{name}.[jp][pn]g"))
