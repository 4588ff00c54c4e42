"""Fill a store of teacher embeddings with several processes; what is there already is not made again.

The work is cut into shards of pictures. `embed_shard` (in `teacher_store`) makes one of them and needs nothing else,
so that a scheduler for many machines can call it in place of the local pool below.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from samlet import registry
from samlet.backends.onnx import OnnxBackend
from samlet.card import Card
from samlet.errors import InputError, TrainingError
from samlet.session import Session
from samlet.train.sources import Source, open_source
from samlet.train.teacher_store import Facts, TeacherStore, embed_shard

STALE_SECONDS = 3600


@dataclass(frozen=True)
class Job:
    """What a process needs to know, all of it plain text and numbers.

    Attributes:
        teacher: Name or path.
        size: Its longest side, if it is not the card's.
        images: What `open_source` takes.
        folder: The store.
        kind: "float16" or "int8".
        views: Of each picture.
        seed: Of the views.
        threads: Of one process; None lets the runtime decide.
    """

    teacher: str
    images: tuple[str, ...]
    folder: str
    size: int | None = None
    kind: str = "float16"
    views: int = 1
    seed: int = 1
    threads: int | None = None

    def card(self) -> Card:
        """The teacher's card."""
        card = registry.resolve(self.teacher)
        return card if self.size is None else card.resized(self.size)

    def facts(self) -> Facts:
        """What the store shares."""
        return Facts.of(self.card(), kind=self.kind, views=self.views, seed=self.seed)


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        done: Pictures embedded by this call.
        total: Pictures that this call has to embed.
        skipped: Pictures that were there already.
        broken: Reason by key, of pictures that cannot be read.
        seconds: Since the beginning.
    """

    done: int
    total: int
    skipped: int
    broken: dict[str, str]
    seconds: float

    @property
    def speed(self) -> float:
        """Pictures a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds left at this speed."""
        return (self.total - self.done - len(self.broken)) / self.speed if self.speed else 0.0


class Worker:
    """One process's teacher and source, opened once."""

    def __init__(self, job: Job) -> None:
        self.job, self.facts = job, job.facts()
        self.source: Source = open_source(job.images)
        self.session = Session(job.card(), OnnxBackend(), threads=job.threads)

    def shard(self, keys: Sequence[str]) -> tuple[int, dict[str, str]]:
        """Embed some pictures into one shard; how many, and why others are not."""
        _, count, broken = embed_shard(
            keys, source=self.source, session=self.session, folder=self.job.folder, facts=self.facts
        )
        return count, broken


def embed(
    job: Job, *, per_shard: int = 256, processes: int = 1, limit: int | None = None
) -> Iterator[Progress]:
    """Embed all pictures that the store lacks, and say after each shard how far the work is.

    Args:
        job: Teacher, pictures and store.
        per_shard: Pictures of a shard: what a killed process loses at most.
        processes: At least 1; 1 works in this process.
        limit: Only so many pictures, evenly spread over the source.

    Raises:
        InputError: The store is another teacher's, there are no pictures, or a number is out of range.
        TrainingError: A process died.
    """
    if per_shard < 1 or processes < 1 or (limit is not None and limit < 1):
        raise InputError(
            f"expected at least one picture a shard, one process and one picture, got {per_shard}, {processes} and "
            f"{limit}; correct the options"
        )
    source, store = open_source(job.images), TeacherStore.open(job.folder, expect=job.facts())
    _sweep(Path(job.folder))
    wanted = list(source.keys)
    if limit is not None and limit < len(wanted):
        wanted = [wanted[i * len(wanted) // limit] for i in range(limit)]
    missing = store.missing(wanted)
    chunks = [missing[i : i + per_shard] for i in range(0, len(missing), per_shard)]
    began, done, broken = time.monotonic(), 0, dict[str, str]()
    skipped = len(wanted) - len(missing)
    yield Progress(0, len(missing), skipped, broken, 0.0)
    for count, unread in _made(job, chunks, processes):
        done += count
        broken |= unread
        yield Progress(done, len(missing), skipped, broken, time.monotonic() - began)


def _made(job: Job, chunks: Iterable[Sequence[str]], processes: int) -> Iterator[tuple[int, dict[str, str]]]:
    if processes == 1:
        worker = Worker(job)
        yield from map(worker.shard, chunks)
        return
    # Spawned, not forked: a runtime's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(job,)) as pool:
        waiting: set[Future[tuple[int, dict[str, str]]]] = {pool.submit(_one, chunk) for chunk in chunks}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenExecutor as error:
            raise TrainingError(
                f"expected every process to finish its shards, but one died ({error!s:.120}); run the command again, "
                "perhaps with fewer --processes: finished shards are kept"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written; a living one is done within the hour."""
    for path in folder.glob(".samlet-*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


_worker: Worker | None = None


def _begin(job: Job) -> None:
    global _worker
    _worker = Worker(job)


def _one(keys: Sequence[str]) -> tuple[int, dict[str, str]]:
    if _worker is None:
        raise RuntimeError("the process was not begun")
    return _worker.shard(keys)
