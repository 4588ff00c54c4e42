"""Workers as processes of this computer: `python -m samlet.batch.local_worker`, a line of JSON each way."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import samlet
from samlet.batch.engine import Job, raised
from samlet.batch.record import Report, Task
from samlet.errors import BackendError, InputError

_AHEAD = 2  # shards a worker has at a time, so that it never waits for the driver
_STILLBORN = 3
_CHUNK = 1 << 16


class Local:
    """As many processes as asked for; one that dies is replaced, and gets its shards again."""

    def __init__(self, workers: int | None = None) -> None:
        """Choose the number of processes.

        Args:
            workers: How many; None for one a core.

        Raises:
            InputError: Fewer than one.
        """
        if workers is not None and workers < 1:
            raise InputError(f"expected at least 1 worker, got {workers}; leave it out for one a core")
        self.workers = workers or cores()

    def reports(self, job: Job, tasks: Iterator[Task]) -> Generator[Report, None, None]:
        """Have the tasks done; see `Engine.reports`.

        Args:
            job: What every worker has to know.
            tasks: The shards.
        """
        with contextlib.closing(_Pool(self.workers, job)) as pool:
            yield from pool.reports(tasks)


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Processes, and what each of them has to do."""

    def __init__(self, count: int, job: Job) -> None:
        self._job = job
        self._selector = selectors.DefaultSelector()
        self._workers = [_Process(job) for _ in range(count)]
        self._left: list[Task] = []
        self._stillborn = 0

    def reports(self, tasks: Iterator[Task]) -> Iterator[Report]:
        for worker in self._workers:
            self._fill(worker, tasks)
        while any(worker.tasks for worker in self._workers):
            for key, _ in self._selector.select():
                busy: _Process = key.data
                lines = busy.lines()
                if lines is None:
                    self._bury(busy)
                for line in lines or []:
                    yield self._understood(line, busy)
                self._fill(busy, tasks)

    def close(self) -> None:
        """Stop at once: whatever is half done will be done again."""
        for worker in self._workers:
            worker.kill()
        self._selector.close()

    def _fill(self, worker: "_Process", tasks: Iterator[Task]) -> None:
        while len(worker.tasks) < _AHEAD:
            task = self._left.pop() if self._left else next(tasks, None)
            if task is None:
                return
            if not worker.is_running:
                worker.start()
                self._selector.register(worker.descriptor, selectors.EVENT_READ, worker)
            worker.tasks[task.shard] = task
            worker.send(task)

    def _bury(self, worker: "_Process") -> None:
        """Take back the shards of a process that died."""
        self._stillborn = 0 if worker.was_ready else self._stillborn + 1
        self._selector.unregister(worker.descriptor)
        code = worker.kill()
        self._left += worker.tasks.values()
        worker.tasks.clear()
        if self._stillborn >= _STILLBORN:
            raise BackendError(
                f"expected workers to start, but {self._stillborn} died before they were ready (exit code {code}); "
                "read what they wrote above, or try --workers 1"
            )

    def _understood(self, line: str, worker: "_Process") -> Report:
        message = json.loads(line)
        if "fatal" in message:
            raise raised(message)
        report = Report.from_json(line)
        self._stillborn = 0
        worker.was_ready = True
        worker.tasks.pop(report.shard, None)
        return report


class _Process:
    """One worker process, if it runs, and the tasks it was given."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self.tasks: dict[int, Task] = {}
        self.was_ready = False

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def descriptor(self) -> int:
        if self._process is None or self._process.stdout is None:
            raise BackendError("expected a worker that runs, got none; this is a fault in samlet")
        return self._process.stdout.fileno()

    def start(self) -> None:
        job = self._job
        words = [job.recipe.to_json(), str(job.folder), str(job.threads or 0), job.life]
        # The workers find this very samlet, however the driver was started.
        path = os.pathsep.join(
            filter(None, [str(Path(samlet.__file__).parent.parent), os.environ.get("PYTHONPATH")])
        )
        self._rest, self.was_ready = b"", False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "samlet.batch.local_worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
        )

    def send(self, task: Task) -> None:
        with contextlib.suppress(
            OSError
        ):  # it just died: the end of its output says so, and the task is not lost
            if self._process is not None and self._process.stdin is not None:
                rest = memoryview(task.to_json().encode() + b"\n")
                while rest:
                    rest = rest[self._process.stdin.write(rest) or 0 :]

    def lines(self) -> list[str] | None:
        """Give the whole lines that have come; None at the end."""
        data = os.read(self.descriptor, _CHUNK)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        ready = [line.decode() for line in lines]
        if "ready" in ready:
            self.was_ready = True
            ready.remove("ready")
        return ready

    def kill(self) -> int | None:
        if self._process is None:
            return None
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        code = self._process.wait()
        self._process = None
        return code
