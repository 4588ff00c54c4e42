"""Whatever server and network do: the right file under its name, or one sentence and nothing under its name."""

import errno
import hashlib
import io
import logging
import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from samlet import store
from samlet.card import CardFile
from samlet.errors import ChecksumError, InputError, ModelError, OutputError
from samlet.store import download, web
from tests.bad_server import BadServer

CONTENT = random.Random(1).randbytes(300_000)
SETTINGS = (
    "SAMLET_CACHE", "SAMLET_MIRROR", "SAMLET_OFFLINE", "HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the pauses instead of sleeping."""
    taken: list[float] = []
    monkeypatch.setattr(download, "_sleep", taken.append)
    return taken


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer(CONTENT) as started:
        started.rest = 0.0
        yield started


def wanted(url: str, content: bytes = CONTENT, *, size: int | None = None, repo: str = "") -> CardFile:
    digest = hashlib.sha256(content).hexdigest()
    return CardFile("weights", None, url, digest, len(content) if size is None else size, repo)


def final(file: CardFile, cache: Path) -> Path:
    return cache / "files" / file.sha256 / file.file_name


def part(file: CardFile, cache: Path) -> Path:
    return cache / "partial" / f"{file.sha256}.part"


def leave(file: CardFile, cache: Path, data: bytes) -> None:
    """Leave a partial file behind, as an earlier run would."""
    part(file, cache).parent.mkdir(parents=True)
    part(file, cache).write_bytes(data)


# How the server behaves, and how many requests it takes.
@pytest.mark.parametrize("size", [None, 0], ids=["size known", "size unknown"])
@pytest.mark.parametrize(
    ("how", "requests"),
    [("good", 1), ("slow", 1), ("drop", 5), ("stubborn", 1), ("chunked", 1), ("busy", 3), ("moved", 2)],
)
def test_the_file_arrives(server: BadServer, cache: Path, how: str, requests: int, size: int | None) -> None:
    file = wanted(server.url(how), size=size)
    path = store.fetch(file)
    assert path == final(file, cache)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == requests
    assert [entry.name for entry in (cache / "partial").iterdir()] == [f"{file.sha256}.lock"]
    assert store.fetch(file) == path
    assert len(server.asked) == requests, "what is here is not asked for again"


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("404", ModelError, r"/404/model\.pt: 404 Not Found\)"),
        ("401", ModelError, "401 Unauthorized"),
        ("403", ModelError, "403 Forbidden"),
        ("500", ModelError, "500 Internal Server Error"),
        ("204", ModelError, "it answers 204"),
        ("loop", ModelError, "redirects more than 5 times"),
        ("elsewhere", ModelError, r"redirects to 'http://192\.0\.2\.1/model\.pt', which is not HTTPS"),
        ("to_file", ModelError, "redirects to 'file:///etc/hostname', which is not HTTPS"),
        ("zipped", ModelError, r"compressed \(gzip\)"),
        ("login", ModelError, r"sends a web page \(a login or a proxy\?\)"),
        ("longer", ChecksumError, "expected 300,000 bytes, it announces 300,010"),
        ("shorter", ChecksumError, "expected 300,000 bytes, it announces 299,990"),
        ("wrong", ChecksumError, "expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}, so it was deleted"),
    ],
)
def test_the_file_does_not_arrive(
    server: BadServer, cache: Path, how: str, error: type[Exception], message: str
) -> None:
    file = wanted(server.url(how))
    with pytest.raises(error, match=message) as caught:
        store.fetch(file)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.startswith(
        "expected to download the model file model.pt (0.3 MB), but it failed (http://127.0.0.1:"
    )
    assert text.endswith(
        f"; download {file.url} (300,000 bytes, sha256 {file.sha256}) elsewhere and put it at {cache}/by_hand/model.pt"
    )
    assert "\n" not in text
    assert not final(file, cache).exists()
    assert not part(file, cache).exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("longer", "connection broke after 300,000 of 300,010 bytes"),
        ("shorter", "expected sha256 .*, found"),
        ("wrong", "expected sha256 .*, found"),
    ],
)
def test_lies_about_a_file_of_unknown_size(server: BadServer, cache: Path, how: str, message: str) -> None:
    file = wanted(server.url(how), size=0)
    with pytest.raises(ModelError, match=message):
        store.fetch(file)
    assert not final(file, cache).exists()


def test_a_server_that_goes_silent_is_left_and_the_rest_fetched_elsewhere(
    server: BadServer, cache: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    monkeypatch.setattr(web, "TIMEOUT", 0.1)
    server.every = 1000
    file = wanted(server.url("stall"))
    with pytest.raises(ModelError, match=r"no answer within 0\.1 s"):
        store.fetch(file)
    assert naps == list(download.PAUSES)
    assert part(file, cache).stat().st_size == 1000 * (1 + len(download.PAUSES))
    again = replace(file, url=server.url("good"))
    assert store.fetch(again).read_bytes() == CONTENT
    assert server.asked[-1][1]["Range"] == "bytes=6000-"


def test_a_trickle_is_no_download(
    server: BadServer, cache: Path, monkeypatch: pytest.MonkeyPatch, naps: list[float]
) -> None:
    monkeypatch.setattr(download, "_WINDOW", 0.02)
    monkeypatch.setattr(download, "_SLOWEST", 10**9)
    server.every, server.rest = 10_000, 0.03
    with pytest.raises(ModelError, match="slower than 1000000000 bytes a second"):
        store.fetch(wanted(server.url("slow")))
    assert len(naps) == len(download.PAUSES)


def test_a_server_that_always_starts_again_is_given_up(
    server: BadServer, cache: Path, naps: list[float]
) -> None:
    file = wanted(server.url("dropping_stubborn"))
    with pytest.raises(ModelError, match="connection broke after 65,536 of 300,000 bytes"):
        store.fetch(file)
    assert len(server.asked) == 2 + len(download.PAUSES)


@pytest.mark.parametrize("start", [1, 299_999])
def test_goes_on_where_it_stopped(server: BadServer, cache: Path, start: int) -> None:
    file = wanted(server.url("good"))
    leave(file, cache, CONTENT[:start])
    assert store.fetch(file).read_bytes() == CONTENT
    assert server.asked[0][1]["Range"] == f"bytes={start}-"
    assert server.sent == len(CONTENT) - start


def test_a_complete_partial_file_needs_no_network(server: BadServer, cache: Path) -> None:
    file = wanted(server.url("good"))
    leave(file, cache, CONTENT)
    assert store.fetch(file).read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize(
    "left", [b"x" * 1000, CONTENT + b"x", b"x" * len(CONTENT)], ids=["wrong", "long", "all wrong"]
)
@pytest.mark.parametrize("size", [None, 0], ids=["size known", "size unknown"])
def test_a_bad_partial_file_is_started_again(
    server: BadServer, cache: Path, left: bytes, size: int | None
) -> None:
    file = wanted(server.url("good"), size=size)
    leave(file, cache, left)
    assert store.fetch(file).read_bytes() == CONTENT
    assert "Range" not in server.asked[-1][1]


def test_ranges_are_ignored_cleanly(server: BadServer, cache: Path) -> None:
    file = wanted(server.url("stubborn"))
    leave(file, cache, CONTENT[:1000])
    assert store.fetch(file).read_bytes() == CONTENT


def test_another_part_than_asked_for(server: BadServer, cache: Path) -> None:
    file = wanted(server.url("other_part"))
    leave(file, cache, CONTENT[:1000])
    with pytest.raises(ModelError, match="another part of the file than asked for"):
        store.fetch(file)
    assert part(file, cache).read_bytes() == CONTENT[:1000]


def test_the_version_is_asked_for(server: BadServer, cache: Path) -> None:
    """If-Range: a server whose file has changed sends it from the start instead of a piece that does not fit."""
    file = wanted(server.url("etag"))
    assert store.fetch(file).read_bytes() == CONTENT
    assert "If-Range" not in server.asked[0][1]
    assert {headers["If-Range"] for _, headers in server.asked[1:]} == {'"one"'}
    server.asked.clear()
    other = wanted(server.url("changed", "other.pt"), CONTENT[::-1])
    leave(other, cache / "second", b"")  # another folder, so that nothing is shared with the first
    (cache / "partial" / f"{other.sha256}.part").write_bytes(b"of the version before")
    (cache / "partial" / f"{other.sha256}.json").write_text(f'{{"url": "{other.url}", "etag": "\\"one\\""}}')
    server.content = CONTENT[::-1]
    assert store.fetch(other).read_bytes() == CONTENT[::-1]
    assert [headers["If-Range"] for _, headers in server.asked] == ['"one"']


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [("7", 7.0), ("0", 0.5), ("soon", 0.5), (formatdate(0), 0.5), ("-3", 0.5)],
)
def test_a_busy_server_is_asked_later(
    server: BadServer, naps: list[float], retry_after: str, pause: float
) -> None:
    server.retry_after, server.busy = retry_after, 1
    store.fetch(wanted(server.url("busy")))
    assert naps == [pause]


def test_a_server_that_is_busy_for_an_hour(server: BadServer, naps: list[float]) -> None:
    server.retry_after = "3600"
    with pytest.raises(ModelError, match="503 Service Unavailable, asks to wait 3600 s"):
        store.fetch(wanted(server.url("busy")))
    assert naps == []


def test_nobody_listens(naps: list[float]) -> None:
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ModelError, match="Connection refused"):
            store.fetch(wanted(f"http://127.0.0.1:{bound.getsockname()[1]}/model.pt"))
    assert naps == []


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match=r"https://example\.org/model\.pt: its name cannot be resolved"):
        store.fetch(wanted("https://example.org/model.pt"))


def test_a_full_disk_keeps_what_is_here(
    server: BadServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room again, the download goes on."""
    file = wanted(server.url("good"))
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 150_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def small_disk(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Full(self, mode) if "a" in mode else opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", small_disk)
    with pytest.raises(
        OutputError, match=r"could not write .*\.part \(No space left on device\); free some space"
    ):
        store.fetch(file)
    kept = part(file, cache).stat().st_size
    assert 0 < kept <= 150_000
    monkeypatch.undo()
    monkeypatch.setenv("SAMLET_CACHE", str(cache))
    assert store.fetch(file).read_bytes() == CONTENT
    assert server.asked[-1][1]["Range"] == f"bytes={kept}-"


def test_a_cache_that_is_a_file(server: BadServer, cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(OutputError, match=r"expected to lock .*; set SAMLET_CACHE"):
        store.fetch(wanted(server.url("good")))


class TestMirror:
    def test_it_is_asked_first(
        self, server: BadServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("SAMLET_MIRROR", server.url("good", "models/"))
        file = wanted(server.url("404"))
        assert store.fetch(file).read_bytes() == CONTENT
        assert [path for path, _ in server.asked] == [f"/good/models/{file.sha256}/model.pt"]
        assert caplog.records == []

    @pytest.mark.parametrize(("how", "reason"), [("404", "404 Not Found"), ("wrong", "expected sha256")])
    def test_the_address_is_asked_next(
        self,
        server: BadServer,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        how: str,
        reason: str,
    ) -> None:
        monkeypatch.setenv("SAMLET_MIRROR", server.url(how, "models"))
        assert store.fetch(wanted(server.url("good"))).read_bytes() == CONTENT
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert reason in caplog.text

    def test_both_are_named_if_neither_helps(
        self, server: BadServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SAMLET_MIRROR", server.url("wrong", "models"))
        with pytest.raises(
            ChecksumError, match=r"/wrong/models/\w{64}/model\.pt: .*; http.*/404/model\.pt: 404"
        ):
            store.fetch(wanted(server.url("404")))

    @pytest.mark.parametrize(
        "mirror",
        [
            "http://192.0.2.1/m",
            "ftp://example.org",
            "example.org",
            "https://me:secret@example.org",
            "https://",
        ],
    )
    def test_it_must_be_https(self, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
        monkeypatch.setenv("SAMLET_MIRROR", mirror)
        with pytest.raises(
            InputError, match="expected an https:// address without user name in SAMLET_MIRROR"
        ):
            store.fetch(wanted("https://example.org/model.pt"))


def test_a_local_server_does_not_see_it(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store.fetch(wanted(server.url("moved")))
    assert "hf_secret" not in str(server.asked)


def test_the_proxy_of_the_environment(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(web, "_is_loopback", lambda host: True)  # the proxy is what must be asked
    assert store.fetch(wanted("http://somewhere.invalid/good/model.pt")).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["http://somewhere.invalid/good/model.pt"]


def test_1000_flipped_bits_in_transit(
    server: BadServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server flips one bit each time; nothing wrong ever gets a name."""
    content = CONTENT[:2000]
    file = wanted(server.url("good"), content)
    rng = random.Random(3)
    caught = 0
    for bit in rng.sample(range(8 * len(content)), 1000):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        server.content = bytes(damaged)
        with pytest.raises(ChecksumError, match="so it was deleted"):
            store.fetch(file)
        assert not final(file, cache).exists()
        caught += 1
    assert caught == 1000
    server.content = content
    assert store.fetch(file).read_bytes() == content


def test_progress(
    server: BadServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, int]] = []
    store.fetch(wanted(server.url("drop")), progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    store.fetch(wanted(server.url("drop")))
    assert screen.getvalue() == "", "it is here already"
    server.content = b"another"
    with caplog.at_level(logging.INFO, "samlet.store"):
        store.fetch(wanted(server.url("good", "third.pt"), b"another"))
        assert "third.pt" in screen.getvalue() and caplog.records == []
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        server.content = b"one more"
        store.fetch(wanted(server.url("good", "fourth.pt"), b"one more"))
    assert sys.stderr.getvalue() == ""
    assert [record.getMessage() for record in caplog.records] == ["downloading fourth.pt (0.0 MB)"]


def test_a_file_that_only_git_knows(server: BadServer, cache: Path) -> None:
    digest = hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()
    file = CardFile("decoder", None, server.url("good"), "", 0, git_sha1=digest)
    assert store.fetch(file) == cache / "files" / f"git-{digest}" / "model.pt"
    assert store.read_verified(file) == CONTENT
    other = replace(file, git_sha1="0" * 40)
    with pytest.raises(ChecksumError, match=f"expected git digest {'0' * 40}, found {digest}"):
        store.fetch(other)


@pytest.mark.parametrize(
    "url", ["https://example.org/..", "https://example.org/a%2fb", "https://example.org/"]
)
def test_a_name_that_leads_elsewhere(url: str) -> None:
    with pytest.raises(ModelError, match="an address that ends in a plain file name"):
        store.fetch(wanted(url))
