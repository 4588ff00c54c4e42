"""Where the work is done: a few threads with a bounded queue before them, so that the event loop never waits."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from samlet.server.refusals import QueueFullError, UnavailableError

Result = TypeVar("Result")
_WEIGHT = 0.1  # of the newest job in the moving average of what a job takes


@dataclass(slots=True, eq=False)
class _Job:
    """A function with who waits for it, and where."""

    work: Callable[[], Any]
    long: bool
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


class Pool:
    """Runs functions in threads, at most `workers` at a time; whoever finds the queue full is told so at once.

    A thread that is done takes the next job itself, without the event loop in between: on a machine whose cores are all
    busy with the network, the way over the loop and back leaves a core idle for milliseconds. One whose client leaves
    while it waits is taken out of the queue at once. One that runs cannot be stopped, and keeps its place until it is
    done.

    Attributes:
        workers: Jobs at a time.
        queue: Most jobs that wait.
        running: Jobs that run now.
    """

    def __init__(self, *, workers: int, queue: int, wait_seconds: float) -> None:
        """Start the threads lazily.

        Args:
            workers: Jobs at a time, at least 1.
            queue: Most jobs that wait.
            wait_seconds: Longest wait.
        """
        self.workers, self.queue, self.running = workers, queue, 0
        self._wait_seconds = wait_seconds
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="samlet-worker")
        self._waiting: deque[_Job] = deque()
        # Long jobs leave a worker for clicks, where there is more than one.
        self._most_long = max(1, workers - 1)
        self._running_long = 0
        self._seconds = 0.05  # moving average of a job
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Jobs that wait now."""
        return len(self._waiting)

    @property
    def retry_after(self) -> int:
        """Seconds after which it is worth to try again."""
        return max(1, math.ceil((self.waiting + self.running) * self._seconds / self.workers))

    async def run(self, work: Callable[[], Result], *, long: bool = False) -> Result:
        """Run a function in a thread when its turn comes.

        Args:
            work: The function.
            long: Whether it takes seconds; such jobs never take all workers.

        Raises:
            QueueFullError: The queue is full.
            UnavailableError: The turn did not come in time, or the server is stopping.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, long, loop, loop.create_future())
        self._submit(job)
        timer = loop.call_later(self._wait_seconds, self._give_up, job)
        try:
            return cast(Result, await job.future)
        finally:
            timer.cancel()
            self._withdraw(job)

    async def stop(self) -> None:
        """Wait for what runs, refuse what waits, and end the threads."""
        with self._lock:
            dropped, self._waiting = list(self._waiting), deque()
        for job in dropped:
            _tell(job, None, _stopping())
        await asyncio.to_thread(self._executor.shutdown, wait=True)

    def _submit(self, job: _Job) -> None:
        """Start a job if there is a thread for it, or queue it."""
        with self._lock:
            starts = self.running < self.workers and self._may_run(job)
            if starts:
                self._count(job, 1)
            elif len(self._waiting) < self.queue:
                self._waiting.append(job)
                return
        if not starts:
            raise QueueFullError(
                f"expected room in the queue, but {self.waiting} requests wait already; try again soon",
                self.retry_after,
            )
        try:
            self._executor.submit(self._work, job)
        except RuntimeError:
            with self._lock:
                self._count(job, -1)
            raise _stopping() from None

    def _work(self, job: _Job | None) -> None:
        """In a thread: do one job and then those that wait, until there are none."""
        while job is not None:
            result, error, started = None, None, time.perf_counter()
            try:
                result = job.work()
            except BaseException as raised:  # as a future does: whoever waits gets it
                error = raised
            done = job
            with self._lock:
                self._seconds += _WEIGHT * (time.perf_counter() - started - self._seconds)
                self._count(done, -1)
                job = next((each for each in self._waiting if self._may_run(each)), None)
                if job is not None:
                    self._waiting.remove(job)
                    self._count(job, 1)
            _tell(done, result, error)
            del done, result, error  # or the last answer stays until the next job

    def _may_run(self, job: _Job) -> bool:
        return not job.long or self._running_long < self._most_long

    def _count(self, job: _Job, change: int) -> None:
        self.running += change
        self._running_long += change * job.long

    def _withdraw(self, job: _Job) -> bool:
        """Take a job out of the queue; whether it was there."""
        with self._lock:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def _give_up(self, job: _Job) -> None:
        if self._withdraw(job) and not job.future.done():
            job.future.set_exception(
                UnavailableError(
                    "expected a turn in time, but others take too long; try again later", self.retry_after
                )
            )


def _tell(job: _Job, result: Any, error: BaseException | None) -> None:
    """Hand over what came of a job, from any thread."""

    def set_result() -> None:
        if job.future.done():  # nobody waits any more
            return
        if error is None:
            job.future.set_result(result)
        elif isinstance(error, StopIteration):  # which no future takes; its request would wait for ever
            job.future.set_exception(RuntimeError("a worker's function raised StopIteration"))
        else:
            job.future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        job.loop.call_soon_threadsafe(set_result)


def _stopping() -> UnavailableError:
    return UnavailableError("expected a running server, but it is stopping; try again later")
