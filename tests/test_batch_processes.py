"""A batch in processes of its own: killed at random, stopped by Ctrl-C, out of disk, on Ray.

The large runs are `python -m tests.batch_kills`; docs/how-to/a-million-pictures.md has their results.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samlet.batch import Recipe
from samlet.batch.engine import Job
from samlet.batch.local import Local
from samlet.batch.record import Item, Task
from samlet.errors import BackendError
from tests import batch_kills

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for processes to kill")
RECORDS = ("coco", "tar")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    batch_kills.make_inputs(folder, 64, bad=0.05)
    batch_kills.unbroken(folder, shard=8, formats=RECORDS)
    return folder


@pytest.fixture
def output(inputs: Path, tmp_path: Path) -> Path:
    return tmp_path / "output"


def wait_until(happened: object, process: "subprocess.Popen[bytes]", *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)


def test_killed_at_random_it_ends_as_if_unbroken(inputs: Path) -> None:
    result = batch_kills.supervise(
        inputs, kills=3, engine="local", seed=3, longest=1.5, shard=8, formats=RECORDS
    )
    assert result["wrong"] == [] and result["kills"] >= 3


def test_what_a_comparison_would_find(inputs: Path, output: Path) -> None:
    shutil.copytree(inputs / "reference", output)
    assert batch_kills.differences(inputs / "reference", output) == []
    shard = output / "records/shard-000000.jsonl"
    shard.write_bytes(shard.read_bytes() * 2)
    (output / "tars/.samlet-left.tmp").write_bytes(b"")
    with sqlite3.connect(output / "ledger.sqlite") as database:
        database.execute("UPDATE items SET state = 0 WHERE number = 5")
    database.close()
    found = batch_kills.differences(inputs / "reference", output)
    kinds = {text.partition(":")[0] for text in found} | {text[:9] for text in found}
    assert {"only in one of them", "different bytes", "different row", "not ended", "2 records"} <= kinds


def test_a_full_disk_stops_it_and_room_lets_it_go_on(inputs: Path, output: Path) -> None:
    """A bound on the size of files stands for the full disk; the real one needs a mount (`--full-disk`)."""
    import resource

    def cramped() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    stopped = batch_kills.start(
        inputs, output, formats=RECORDS, shard=8, preexec_fn=cramped, stderr=subprocess.PIPE
    )
    _, said = stopped.communicate()
    assert stopped.returncode == 7 and b"could not write" in said
    assert batch_kills.start(inputs, output, formats=RECORDS, shard=8).wait() == 0
    assert batch_kills.differences(inputs / "reference", output) == []


def test_ctrl_c_stops_it_with_130_and_leaves_no_process(inputs: Path, output: Path) -> None:
    many = output.parent / "many"  # so many that it cannot be through before the signal comes
    many.mkdir()
    good = max((inputs / "pictures").rglob("*.*"), key=lambda path: path.stat().st_size)
    for number in range(400):
        (many / f"{number}{good.suffix}").write_bytes(good.read_bytes())
    words = [
        "batch",
        str(many),
        "--output",
        str(output),
        "--workers",
        "1",
        "--threads",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(batch_kills.ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-m", "samlet", *words, "--shard", "1", "--at-most", "1"],
        env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            # What starts in the background of a script ignores Ctrl-C, and its children do too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_until(lambda: list(output.glob("records/*.jsonl")), process)
    workers = batch_kills.children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the driver and its workers
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"stopped by Ctrl-C" in said and b"Traceback" not in said
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_worker_outlives_its_driver_by_a_moment_only(inputs: Path, output: Path) -> None:
    driver = batch_kills.start(inputs, output, formats=RECORDS, shard=8, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(output.glob("records/*.jsonl")), driver)
    workers = batch_kills.children(driver.pid)
    assert batch_kills.kill(driver.pid)
    driver.wait()
    end = time.monotonic() + 30
    while any(_runs(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.01)
    assert workers and not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    task = Task(0, [Item(0, "a.png", {"path": "a.png"})])
    with pytest.raises(BackendError, match=r"died before they were ready \(exit code 1\)"):
        list(Local(1).reports(Job(Recipe(), tmp_path, None), iter([task])))


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_on_ray_it_gives_the_same(inputs: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray Data is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    quiet = batch_kills.start(
        inputs,
        output,
        engine="ray",
        formats=RECORDS,
        shard=8,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    _, said = quiet.communicate(timeout=200)
    assert quiet.returncode == 0, said.decode()[-2000:]
    assert batch_kills.differences(inputs / "reference", output) == []
    assert json.loads((output / "coco.json").read_bytes())["images"]
