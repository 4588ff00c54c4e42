"""Clients that send too much, too slowly, too often, or leave: refused or dropped, and nothing is left behind."""

import asyncio
import gc
import http.client
import io
import json
import os
import re
import socket
import struct
import threading
import time
import weakref
import zlib

import pytest

pytest.importorskip("fastapi")
from samlet.backends.fake import decoded
from samlet.limits import Limits, ServerLimits
from samlet.server.pool import Pool
from samlet.server.refusals import UnavailableError
from samlet.server.settings import Settings
from tests.server_running import Client, fake_model, form, picture_bytes, running

TIGHT = ServerLimits(
    picture=Limits(max_bytes=60_000, max_prompts=256, formats=("JPEG", "PNG", "WEBP", "BMP")),
    max_body_bytes=100_000,
    max_json_bytes=20_000,
    max_bodies_bytes=250_000,
    max_head_bytes=8_000,
    max_connections=30,
    head_seconds=0.4,
    idle_seconds=0.4,
    body_seconds=1.5,
    write_seconds=0.5,
)


@pytest.fixture(scope="module")
def port():
    with running(settings=Settings(workers=2, limits=TIGHT)) as port:
        yield port


def raw(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes; a reset counts as closed."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def settled(check, seconds: float = 20.0) -> bool:
    """Wait until something becomes true, as long as it takes within reason."""
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(check())


def gauge(port: int, name: str) -> float:
    client = Client(port)
    text = client.get("/metrics").body.decode()
    client.close()
    found = re.search(rf"^{name} (\S+)$", text, re.M)
    assert found is not None
    return float(found[1])


# --- too much --------------------------------------------------------------------------------------------------------


def test_a_body_without_length_is_counted_as_it_comes(port):
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", "Transfer-Encoding: chunked"))
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        try:
            for _ in range(400):  # 6.5 MB, of which 0.1 is allowed
                connection.sendall(chunk)
        except ConnectionError:
            pass
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["100001", "99999999999999999999", "-1", "1e3", "0x10"])
def test_a_length_that_is_none_or_too_large(port, length):
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", f"Content-Length: {length}"))
        status = int(read_all(connection).split()[1])
        assert status in (400, 413)


def test_a_refusal_reaches_a_client_that_still_sends(port):
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", "Content-Length: 3000000"))
        connection.sendall(b"x" * 3_000_000)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer.lower()
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]


def test_json_has_a_smaller_bound_than_pictures(port):
    client = Client(port)
    name = client.embed(picture_bytes())
    prompt = {"points": [[1, 1]] * 3000}
    assert client.post(f"/v1/embeddings/{name}/segment", prompt).status == 413
    client.close()


def test_many_tiny_chunks_are_one_body(port):
    picture = picture_bytes()
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", "Transfer-Encoding: chunked"))
        pieces = b"".join(b"1\r\n%b\r\n" % picture[i : i + 1] for i in range(len(picture)))
        connection.sendall(pieces + b"0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")


def test_a_form_of_many_parts_is_refused(port):
    client = Client(port)
    body, headers = form({f"p{i}": b"" for i in range(1000)}, files=())
    assert client.send("POST", "/v1/embeddings", body, headers).status == 400
    client.close()


def test_a_part_with_many_headers_is_refused(port):
    client = Client(port)
    lines = b"".join(b"X-%d: y\r\n" % i for i in range(1000))
    body = b'--XX\r\nContent-Disposition: form-data; name="image"\r\n' + lines + b"\r\nx\r\n--XX--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=XX"}
    assert client.send("POST", "/v1/embeddings", body, headers).status == 400
    client.close()


def test_an_endless_head_is_cut_off(port):
    with raw(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for i in range(200):
                connection.sendall(b"X-%d: %b\r\n" % (i, b"y" * 1000))
        except ConnectionError:
            pass
        answer = read_all(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


def test_endless_trailers_are_cut_off(port):
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", "Transfer-Encoding: chunked"))
        connection.sendall(b"1\r\nx\r\n0\r\n")
        closed = False
        try:
            for i in range(2000):
                connection.sendall(b"X-%d: %b\r\n" % (i, b"y" * 1000))
        except ConnectionError:
            closed = True
        assert closed or not read_all(connection).startswith(b"HTTP/1.1 2")


def test_uploads_share_a_bound(port):
    """Three bodies of 90 kB do not fit into 250 kB; the third is told to come back, and then there is room again."""
    held = []
    for _ in range(2):
        connection = raw(port)
        connection.sendall(
            head("/v1/embeddings", "Content-Type: image/png", "Content-Length: 90001") + b"x" * 90_000
        )
        held.append(connection)
    try:
        assert settled(lambda: gauge(port, "samlet_bodies_bytes") >= 180_000, seconds=2) or not held
        client = Client(port)
        answer = client.send("POST", "/v1/embeddings", b"x" * 90_000, {"Content-Type": "image/png"})
        assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
        client.close()
    finally:
        for connection in held:
            connection.close()
    assert settled(lambda: gauge(port, "samlet_bodies_bytes") == 0)


def test_too_many_connections_are_told_to_come_back(port):
    held = [raw(port) for _ in range(30)]
    try:
        with raw(port) as one_more:
            answer = read_all(one_more)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after" in answer
    finally:
        for connection in held:
            connection.close()
    client = Client(port)
    assert settled(lambda: client.get("/health").status == 200)
    client.close()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large and has almost nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", ihdr)
        + chunk(b"IDAT", zlib.compress(b"\0" * 999))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(14_000, 14_000), (60_000, 1), (2**31 - 1, 2**31 - 1)])
def test_pictures_that_would_burst_are_refused_from_their_header(port, size):
    client = Client(port)
    answer = client.send("POST", "/v1/embeddings", bomb(*size), {"Content-Type": "image/png"})
    assert answer.status in (413, 415), answer.body
    client.close()


def test_masks_of_one_answer_are_bounded():
    limits = ServerLimits(max_mask_pixels=48 * 64 * 4)
    with running(settings=Settings(workers=2, limits=limits)) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        path = f"/v1/embeddings/{name}/segment"
        assert client.post(path, {"boxes": [[0, 0, 9, 9]] * 4}).status == 200
        assert client.post(path, {"boxes": [[0, 0, 9, 9]] * 5}).status == 413
        assert client.post(path, {"points": [[[1, 1]], [[2, 2]]], "multimask": True}).status == 413
        client.close()


# --- too slow --------------------------------------------------------------------------------------------------------


def test_slow_heads_are_cut_off_and_others_are_served_meanwhile(port):
    slow = [raw(port) for _ in range(10)]
    for connection in slow:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nX-")
    client = Client(port)
    assert client.get("/health").status == 200
    for connection in slow:
        assert read_all(connection) == b""
        connection.close()
    client.close()


def test_a_connection_that_says_nothing_is_closed(port):
    with raw(port) as connection:
        assert read_all(connection) == b""


def test_a_body_that_stops_is_refused(port):
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", "Content-Length: 5000") + b"x")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_is_refused(port):
    """Each byte comes in time, the whole does not."""
    with raw(port) as connection:
        connection.sendall(head("/v1/embeddings", "Content-Type: image/png", "Content-Length: 5000"))
        connection.settimeout(0.1)
        answer, deadline = b"", time.monotonic() + 20
        while not answer and time.monotonic() < deadline:
            try:
                connection.sendall(b"x")
                answer = connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_answer_nobody_reads_is_given_up():
    with running(settings=Settings(workers=2, limits=TIGHT)) as port:
        client = Client(port)
        name = client.embed(picture_bytes((512, 512)))
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        request = f"GET /v1/embeddings/{name}/array HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        connection.sendall(request)
        connection.settimeout(30)
        # Not a byte is read until the server has given up: then the rest of 4 MB never comes.
        assert settled(lambda: _is_cut(connection))
        connection.close()
        client.close()


def _is_cut(connection: socket.socket) -> bool:
    """Whether the other side has reset the connection; looks without reading."""
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return (
        error != 0
        or struct.unpack("B", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0] != 1
    )


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_clients_that_leave_in_the_middle_leave_nothing(port, tmp_path, monkeypatch):
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for i in range(60):
        with raw(port) as connection:
            connection.sendall(
                head(
                    "/v1/embeddings",
                    "Content-Type: multipart/form-data; boundary=XX",
                    "Content-Length: 50000",
                )
                + b'--XX\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
                + b"x" * (i * 500)
            )
    assert settled(lambda: gauge(port, "samlet_bodies_bytes") == 0)
    assert settled(lambda: len(os.listdir("/proc/self/fd")) <= files + 2)
    assert threading.active_count() <= threads + 2


class Gate:
    """A decoder that waits until it is let through, and counts who came."""

    def __init__(self) -> None:
        self.open, self.came = threading.Event(), 0

    def __call__(self, feeds):
        self.came += 1
        assert self.open.wait(30)
        return decoded(feeds, 8)


def ask(port: int, name: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", f"/v1/embeddings/{name}/segment", json.dumps({"points": [[20, 20]]}))
    return connection


def test_a_full_queue_says_so_and_the_loop_stays_free():
    gate = Gate()
    with running({"nano": fake_model(functions={"decoder": gate})}, Settings(workers=2, queue=3)) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        asked = [ask(port, name) for _ in range(5)]
        assert settled(lambda: gauge(port, "samlet_queue_waiting") == 3)
        refused = client.post(f"/v1/embeddings/{name}/segment", {"points": [[20, 20]]})
        assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
        assert "queue" in refused.json()["error"]
        assert client.get("/health").status == 200 and client.get(f"/v1/embeddings/{name}").status == 200
        gate.open.set()
        assert [connection.getresponse().status for connection in asked] == [200] * 5
        for connection in asked:
            connection.close()
        client.close()


def test_waiting_has_an_end():
    gate = Gate()
    limits = ServerLimits(wait_seconds=0.3)
    with running(
        {"nano": fake_model(functions={"decoder": gate})}, Settings(workers=1, limits=limits)
    ) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        first = ask(port, name)
        assert settled(lambda: gate.came == 1)
        second = client.post(f"/v1/embeddings/{name}/segment", {"points": [[20, 20]]})
        assert second.status == 503 and int(second.headers["Retry-After"]) >= 1
        gate.open.set()
        assert first.getresponse().status == 200
        first.close()
        client.close()


def test_work_for_a_client_that_left_is_dropped():
    gate = Gate()
    with running({"nano": fake_model(functions={"decoder": gate})}, Settings(workers=1)) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        first = ask(port, name)
        assert settled(lambda: gate.came == 1)
        leaving = [ask(port, name) for _ in range(5)]
        assert settled(lambda: gauge(port, "samlet_queue_waiting") == 5)
        for connection in leaving:
            connection.close()
        assert settled(lambda: gauge(port, "samlet_queue_waiting") == 0)
        gate.open.set()
        assert first.getresponse().status == 200
        first.close()
        client.close()
    assert gate.came == 1


def test_a_worker_takes_the_next_request_while_the_loop_is_busy():
    async def both() -> tuple[int, int]:
        pool = Pool(workers=1, queue=2, wait_seconds=30)
        let, second_ran = threading.Event(), threading.Event()
        first = asyncio.ensure_future(pool.run(lambda: let.wait(30) and 1))
        second = asyncio.ensure_future(pool.run(lambda: second_ran.set() or 2))
        await asyncio.sleep(0)
        assert (pool.running, pool.waiting) == (1, 1)
        let.set()
        assert second_ran.wait(30), "the next request waited for the event loop"
        found = await first, await second
        await pool.stop()
        return found

    assert asyncio.run(both()) == (1, 2)


def test_long_work_leaves_a_worker_free_and_what_waits_is_refused_at_the_end():
    async def run() -> None:
        pool = Pool(workers=2, queue=4, wait_seconds=30)
        gate = threading.Event()
        long = [asyncio.ensure_future(pool.run(lambda: gate.wait(30), long=True)) for _ in range(2)]
        await asyncio.sleep(0)
        assert (pool.running, pool.waiting) == (1, 1)
        assert await pool.run(lambda: "click") == "click"
        stopping = asyncio.ensure_future(pool.stop())
        with pytest.raises(UnavailableError, match="stopping"):
            await long[1]
        gate.set()
        assert await long[0] is True
        await stopping
        with pytest.raises(UnavailableError, match="stopping"):
            await pool.run(lambda: None)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(KeyError("x"), KeyError), (StopIteration(), RuntimeError), (MemoryError(), MemoryError)],
)
def test_whatever_work_raises_reaches_its_request(raised, seen):
    def work():
        raise raised

    async def run() -> None:
        pool = Pool(workers=1, queue=2, wait_seconds=30)
        with pytest.raises(seen):
            await pool.run(work)
        assert pool.running == 0 and await pool.run(lambda: 1) == 1
        await pool.stop()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_nobody_waits_for_is_let_go_at_once():
    class Body:
        pass

    async def run() -> bool:
        pool = Pool(workers=1, queue=2, wait_seconds=30)
        gate = threading.Event()
        first = asyncio.ensure_future(pool.run(lambda: gate.wait(30)))
        body = Body()
        held = weakref.ref(body)
        left = asyncio.ensure_future(pool.run(lambda kept=body: kept))
        del body
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        del left
        gc.collect()
        gone = held() is None and pool.waiting == 0
        gate.set()
        await first
        await pool.stop()
        return gone

    assert asyncio.run(run())


def test_everything_ends_when_its_client_leaves():
    gate = Gate()
    with running({"nano": fake_model(functions={"decoder": gate})}, Settings(workers=2)) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        gate.open.set()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", f"/v1/embeddings/{name}/everything", json.dumps({"grid": "64x64"}))
        response = connection.getresponse()
        assert b"progress" in response.readline()
        gate.open.clear()
        connection.close()
        response.close()
        came = gate.came
        gate.open.set()
        assert settled(lambda: gauge(port, "samlet_workers_busy") == 0)
        # 4,096 clicks at 32 a time are 128 steps; it ends after a few, not after all of them.
        assert gate.came < came + 100
        client.close()


def test_stopping_finishes_what_is_being_worked_on():
    gate, answers = Gate(), []

    def late(connection: http.client.HTTPConnection) -> None:
        answers.append(connection.getresponse().status)
        connection.close()

    with running({"nano": fake_model(functions={"decoder": gate})}, Settings(workers=2)) as port:
        client = Client(port)
        name = client.embed(picture_bytes())
        connection = ask(port, name)
        assert settled(lambda: gate.came == 1)
        reader = threading.Thread(target=late, args=(connection,))
        reader.start()
        threading.Timer(0.3, gate.open.set).start()
        client.close()
    reader.join(timeout=30)
    assert answers == [200]


# --- at the same time ------------------------------------------------------------------------------------------------


def test_answers_are_never_mixed():
    """Clients on pictures of their own click at the same time; each gets what a serial run gives."""
    model = fake_model()
    clients, clicks = 8, 25
    pictures = [picture_bytes((48 + i, 64), seed=i) for i in range(clients)]
    views = [model.embed(picture) for picture in pictures]
    wrong: list[tuple[int, int]] = []

    def work(port: int, number: int) -> None:
        client = Client(port)
        name = client.embed(pictures[number])
        for i in range(clicks):
            x, y = (7 * i + number) % 60, (5 * i + 3 * number) % 40
            masks = client.post(f"/v1/embeddings/{name}/segment", {"points": [[x, y]]}).json()["masks"]
            expected = model.segment(views[number], points=[x, y])
            if masks[0]["rle"] != expected.to_rle()[0]:
                wrong.append((number, i))
        client.close()

    with running({"nano": model}, Settings(workers=2)) as port:
        threads = [threading.Thread(target=work, args=(port, number)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_the_page_is_served_with_its_types_and_nothing_else(tmp_path, monkeypatch):
    from samlet.server import app as application
    from samlet.server.page import Page

    folder = tmp_path / "web"
    (folder / "runtime").mkdir(parents=True)
    for name, data in {
        "index.html": b"<p>", "app.js": b"1", "runtime/ort.mjs": b"2", "runtime/ort.wasm": b"\0asm",
        "decoder.onnx": b"3", "secret.py": b"4", "runtime.json": b"{}",
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    (tmp_path / "outside.js").write_bytes(b"5")
    (folder / "link.js").symlink_to(tmp_path / "outside.js")
    monkeypatch.setattr(application, "Page", lambda: Page(folder))
    with running() as port:
        client = Client(port)
        types = {
            "/": "text/html", "/app.js": "text/javascript", "/web/app.js": "text/javascript",
            "/web/runtime/ort.mjs": "text/javascript", "/web/runtime/ort.wasm": "application/wasm",
            "/runtime/ort.wasm": "application/wasm", "/web/decoder.onnx": "application/octet-stream",
        }  # fmt: skip
        for path, kind in types.items():
            answer = client.get(path)
            assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind), path
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
            assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
            again = client.get(path, {"If-None-Match": answer.headers["ETag"]})
            assert again.status == 304
        for path in (
            "/secret.py", "/web/secret.py", "/web/../app.py", "/web/%2e%2e/app.py", "/web/..%2f..%2fapp.js",
            "/../outside.js", "/%2e%2e/outside.js", "/web//etc/passwd", "//etc/passwd", "/web/link.js",
            "/web/runtime", "/web/app.js%00", "/web/\\..\\outside.js", "/app.js/", "/web/...//app.js",
        ):  # fmt: skip
            assert client.get(path).status in (404, 400), path
        client.close()


def test_there_is_no_page_where_none_was_installed(tmp_path, monkeypatch):
    from samlet.server import app as application
    from samlet.server.page import Page

    monkeypatch.setattr(application, "Page", lambda: Page(tmp_path / "nothing"))
    with running() as port:
        client = Client(port)
        assert client.get("/").status == 404
        client.close()


def test_the_picture_is_never_on_a_disk(monkeypatch, tmp_path):
    """Uploads above any threshold stay in memory: a temporary file would survive a crash."""
    import tempfile

    def refuse(*args, **kwargs):
        raise AssertionError("a temporary file was made")

    with running() as port:
        for name in ("NamedTemporaryFile", "TemporaryFile", "mkstemp"):
            monkeypatch.setattr(tempfile, name, refuse)
        client = Client(port)
        stream = io.BytesIO()
        from PIL import Image as PILImage

        PILImage.effect_noise((1500, 1500), 60).save(stream, "PNG")
        assert len(stream.getvalue()) > 2_000_000
        body, headers = form({"image": stream.getvalue()})
        assert client.send("POST", "/v1/embeddings", body, headers).status == 201
        client.close()
