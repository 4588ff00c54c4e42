"""A server on the fake backend behind a real socket, and a client that sends what it is told, byte by byte."""

import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image as PILImage

from samlet.backends.fake import FakeBackend
from samlet.model import Model
from samlet.registry import resolve
from samlet.server.app import create_app
from samlet.server.serving import bind, server
from samlet.server.settings import Settings
from samlet.server.tls import Identity
from samlet.session import Session

TOKEN = "a-token-of-the-tests"


def fake_model(name: str = "nano", functions: Mapping[str, Any] | None = None) -> Model:
    return Model(Session(resolve(name), FakeBackend(functions)))


def picture_bytes(hw: tuple[int, int] = (48, 64), *, seed: int = 0, form: str = "PNG") -> bytes:
    """A small picture with a tint of its own, so that its embedding differs from every other's."""
    rng = np.random.default_rng(seed)
    pixels = np.full((*hw, 3), rng.integers(30, 220, 3), np.uint8)
    pixels[hw[0] // 4 : hw[0] // 2, hw[1] // 4 : hw[1] // 2] = rng.integers(0, 255, 3)
    stream = io.BytesIO()
    PILImage.fromarray(pixels).save(stream, form)
    return stream.getvalue()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to a server on this machine."""

    def __init__(self, port: int, *, headers: Mapping[str, str] | None = None) -> None:
        self.port, self._headers = port, dict(headers or {})
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        self._connection.request(method, path, body=body, headers={**self._headers, **(headers or {})})
        answer = Answer(self._connection.getresponse())
        if answer.headers.get("connection", "").lower() == "close":
            self._connection.close()
        return answer

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        body = json.dumps(value).encode()
        return self.send("POST", path, body, {"Content-Type": "application/json", **(headers or {})})

    def embed(self, picture: bytes, query: str = "") -> str:
        answer = self.send("POST", f"/v1/embeddings{query}", picture, {"Content-Type": "image/png"})
        assert answer.status == 201, answer.body
        return str(answer.json()["id"])

    def close(self) -> None:
        self._connection.close()


def form(parts: Mapping[str, bytes], *, files: tuple[str, ...] = ("image",)) -> tuple[bytes, dict[str, str]]:
    """A multipart form as browsers write it."""
    lines = []
    for name, value in parts.items():
        more = '; filename="photo.png"\r\nContent-Type: image/png' if name in files else ""
        lines.append(
            b'--XX\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n' % (name.encode(), more.encode())
        )
        lines.append(value + b"\r\n")
    return b"".join(lines) + b"--XX--\r\n", {"Content-Type": "multipart/form-data; boundary=XX"}


@contextmanager
def running(
    models: Mapping[str, Model] | None = None,
    settings: Settings | None = None,
    *,
    identity: Identity | None = None,
    **readers: Any,
) -> Iterator[int]:
    """Run a server in a thread; gives its port, and stops it as SIGTERM would."""
    settings = settings or Settings(workers=2)
    app = create_app(models or {"nano": fake_model()}, settings, **readers)
    listening = bind("127.0.0.1", 0)
    runner = server(app, settings, identity=identity)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listening]}, name="server")
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not runner.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert runner.started
        yield listening.getsockname()[1]
    finally:
        runner.should_exit = True
        thread.join(timeout=30)
        listening.close()
        assert not thread.is_alive()
