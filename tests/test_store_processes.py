"""Many processes want the same file at once, and some are killed: one intact file, downloaded once."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from samlet.errors import OutputError
from samlet.store import lock
from samlet.store.lock import held
from tests.bad_server import BadServer

CONTENT = random.Random(4).randbytes(2_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SOURCE = Path(__file__).parent.parent / "src"

# One process that forks all others is ready much sooner than 16 that import everything themselves. Who downloads
# leaves its number in a file, so that it can be found and killed; the first victim always is the one.
FORKS = """
import json, os, random, signal, sys, time
from pathlib import Path
from samlet import store
from samlet.card import CardFile
url, digest, size, seed, count, victims = json.loads(sys.argv[1])
file, rng = CardFile("weights", None, url, digest, size), random.Random(seed)
note = store.cache_folder().with_suffix(".holder")
def leave_number(done, total):
    if done:
        note.write_text(str(os.getpid()))
children = []
for _ in range(count):
    child = os.fork()
    if child == 0:
        try:
            ok = store.fetch(file, progress=leave_number).stat().st_size == size == len(store.read_verified(file))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            ok = False
        os._exit(0 if ok else 1)
    children.append(child)
alive = list(children)
while victims and not (note.exists() and note.read_text()):
    time.sleep(0.002)
for number in range(victims):
    time.sleep(rng.uniform(0, 0.05) if number else 0)
    holder = int(note.read_text() or 0)
    victim = holder if holder in alive and (not number or rng.random() < 0.7) else rng.choice(alive)
    os.kill(victim, signal.SIGKILL)
    alive.remove(victim)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer(CONTENT) as started:
        started.every, started.rest = 50_000, 0.01
        yield started


def run(server: BadServer, cache: Path, *, seed: int, victims: int, processes: int = 16) -> list[int]:
    """Let processes fetch, kill some in the middle, and watch that nothing wrong ever has the final name."""
    target = cache / "files" / DIGEST / "model.pt"
    arguments = json.dumps([server.url("slow"), DIGEST, len(CONTENT), seed, processes, victims])
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "SAMLET_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    for name in ("SAMLET_OFFLINE", "SAMLET_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        environment.pop(name, None)
    child = subprocess.Popen(
        [sys.executable, "-c", FORKS, arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while child.poll() is None:
        if target.exists():
            assert hashlib.sha256(target.read_bytes()).hexdigest() == DIGEST
        time.sleep(0.02)
    output, errors = child.communicate()
    assert child.returncode == 0, errors
    assert errors == ""
    assert target.read_bytes() == CONTENT
    assert [entry.name for entry in target.parent.iterdir()] == ["model.pt"]
    assert [entry.name for entry in (cache / "partial").iterdir()] == [f"{DIGEST}.lock"]
    codes: list[int] = json.loads(output)
    return codes


posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does")


@posix
def test_16_processes_download_once(server: BadServer, tmp_path: Path) -> None:
    assert run(server, tmp_path, seed=0, victims=0) == [0] * 16
    assert len(server.asked) == 1
    assert server.sent == len(CONTENT)


@posix
def test_16_processes_of_which_10_are_killed(server: BadServer, tmp_path: Path) -> None:
    for seed in range(4):
        server.asked.clear()
        codes = run(server, tmp_path / str(seed), seed=seed, victims=10)
        assert codes.count(0) >= 6, "whoever is not killed has the file"
        assert set(codes) <= {0, -signal.SIGKILL}
        assert any("Range" in headers for _, headers in server.asked), (
            "somebody went on where another had stopped"
        )


@posix
def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    code = f"""
import sys, time
from pathlib import Path
from samlet.store.lock import held
with held(Path({str(path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    got = threading.Event()

    def take() -> None:
        with held(path):
            got.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not got.wait(0.3)
    child.kill()
    child.communicate()
    waiting.join(5)
    assert got.is_set()
    assert path.exists(), "the file stays, the lock does not"


def test_threads_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samlet.store.lock._POLL", 0.001)
    monkeypatch.setattr("samlet.store.lock._SAY_AFTER", 0.0)
    inside, most, said = 0, 0, []

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with held(tmp_path / "a.lock", on_wait=lambda: said.append(1)):
                inside += 1
                most = max(most, inside)
                time.sleep(0.002)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
    assert said


@posix
def test_a_lock_file_that_is_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tidies the cache must not let two in: one would hold the deleted file, the other a new one."""
    monkeypatch.setattr("samlet.store.lock._POLL", 0.001)
    path, tried = tmp_path / "a.lock", []

    def tidied(descriptor: int) -> bool:
        if not tried:
            path.unlink()
        tried.append(descriptor)
        return real(descriptor)

    real = lock._try
    monkeypatch.setattr(lock, "_try", tidied)
    with held(path):
        assert len(tried) == 2
        with path.open() as stream, pytest.raises(BlockingIOError):
            lock._lock(stream.fileno())


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("samlet.store.lock._lock", unsupported)
    with pytest.raises(OutputError, match=r"No locks available.*on a local disk"):
        with held(tmp_path / "a.lock"):
            pass
