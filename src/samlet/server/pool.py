"""Where the work is done: a few threads with a bounded queue before them, so that the event loop never waits."""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from samlet.server.refusals import QueueFullError, UnavailableError

Result = TypeVar("Result")
_WEIGHT = 0.1  # of the newest job in the moving average of what a job takes


class Pool:
    """Runs functions in threads, at most `workers` at a time; whoever finds the queue full is told so at once.

    Requests wait in the event loop, not in the threads' queue: one whose client leaves while it waits costs nothing
    more. One that runs cannot be stopped, and keeps its place until it is done.

    Attributes:
        workers: Jobs at a time.
        queue: Most jobs that wait.
        waiting: Jobs that wait now.
        running: Jobs that run now.
    """

    def __init__(self, *, workers: int, queue: int, wait_seconds: float) -> None:
        """Start the threads lazily.

        Args:
            workers: Jobs at a time, at least 1.
            queue: Most jobs that wait.
            wait_seconds: Longest wait.
        """
        self.workers, self.queue, self.waiting, self.running = workers, queue, 0, 0
        self._wait_seconds = wait_seconds
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="samlet-worker")
        self._turn = asyncio.Semaphore(workers)
        # Long jobs leave a worker for clicks, where there is more than one.
        self._long = asyncio.Semaphore(max(1, workers - 1))
        self._seconds = 0.05  # moving average of a job
        self._lock = threading.Lock()

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
            UnavailableError: The turn did not come in time.
        """
        if self.waiting >= self.queue and (self._turn.locked() or (long and self._long.locked())):
            raise QueueFullError(
                f"expected room in the queue, but {self.waiting} requests wait already; try again soon",
                self.retry_after,
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                if long:
                    await self._long.acquire()
                try:
                    await self._turn.acquire()
                except BaseException:
                    if long:
                        self._long.release()
                    raise
        except TimeoutError:
            raise UnavailableError(
                "expected a turn in time, but others take too long; try again later", self.retry_after
            ) from None
        finally:
            self.waiting -= 1
        return await self._started(work, long=long)

    async def stop(self) -> None:
        """Wait for what runs, and end the threads."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    async def _started(self, work: Callable[[], Result], *, long: bool) -> Result:
        loop = asyncio.get_running_loop()
        self.running += 1

        def release() -> None:
            self.running -= 1
            self._turn.release()
            if long:
                self._long.release()

        def done(_: "Future[Result]") -> None:
            try:
                loop.call_soon_threadsafe(release)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

        try:
            future = self._executor.submit(self._timed, work)
        except RuntimeError:
            release()
            raise UnavailableError("expected a running server, but it is stopping; try again later") from None
        # Not on the asyncio future: that one is done when its request is cancelled, the thread is not.
        future.add_done_callback(done)
        return await asyncio.wrap_future(future)

    def _timed(self, work: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        try:
            return work()
        finally:
            with self._lock:
                self._seconds += _WEIGHT * (time.perf_counter() - started - self._seconds)
