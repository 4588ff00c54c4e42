"""Workers as actors of Ray Data: on this computer, or on a cluster whose nodes all see the same files."""

import itertools
import json
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from samlet.batch.engine import Job, raised, told
from samlet.batch.recipe import Recipe
from samlet.batch.record import Report, Task
from samlet.batch.worker import Worker
from samlet.errors import BackendError, InputError, MissingExtraError, SamletError

_ROUND = 4096  # shards handed to Ray at a time: the driver's memory does not grow with the batch


class Ray:
    """A pool of actors; Ray replaces those that die, and adds and removes them between the two bounds."""

    def __init__(
        self,
        *,
        address: str | None = None,
        workers: tuple[int, int] | None = None,
        gpus: float = 0.0,
        cpus: float = 1.0,
    ) -> None:
        """Choose where and how many.

        Args:
            address: A cluster's, such as "auto" or "ray://head:10001"; None starts Ray on this computer.
            workers: Fewest and most actors; None for one up to one a core of the cluster.
            gpus: GPUs that one actor takes, such as 0.25.
            cpus: Cores that one actor takes.

        Raises:
            InputError: A number makes no sense.
        """
        if gpus < 0 or cpus <= 0 or (workers is not None and not 1 <= workers[0] <= workers[1]):
            raise InputError(
                f"expected gpus from 0, cpus above 0 and workers from 1, the fewest first, got {gpus}, {cpus} and "
                f"{workers}; correct them"
            )
        self._address, self._workers, self._gpus, self._cpus = address, workers, gpus, cpus

    def reports(self, job: Job, tasks: Iterator[Task]) -> Generator[Report, None, None]:
        """Have the tasks done; see `Engine.reports`.

        Args:
            job: What every worker has to know.
            tasks: The shards.

        Raises:
            MissingExtraError: Ray is not installed.
            BackendError: Ray failed.
        """
        # Nobody has asked for statistics about them to be sent anywhere.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtraError(
                "expected Ray Data, but it is not installed; pip install 'samlet[ray]'"
            ) from error
        ours = not ray.is_initialized()
        try:
            if ours:
                _start(self._address)
            while chunk := list(itertools.islice(tasks, _ROUND)):
                yield from self._round(job, chunk)
        except (ray.exceptions.RayError, ConnectionError) as error:
            reason = " ".join(str(error).split())[-300:]
            raise BackendError(
                f"expected Ray to do the work, but it failed ({reason}); what is done stays done: run it again"
            ) from error
        finally:
            if ours:
                ray.shutdown()

    def _round(self, job: Job, tasks: list[Task]) -> Iterator[Report]:
        import ray

        cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        fewest, most = self._workers or (1, max(1, int(cluster.get("CPU", 1) / self._cpus)))
        most = min(most, len(tasks))
        rows = ray.data.from_items(
            [{"task": task.to_json()} for task in tasks], override_num_blocks=len(tasks)
        ).map_batches(
            _Actor,
            fn_constructor_args=(job.recipe.to_json(), str(job.folder), job.threads, job.life),
            batch_size=1,
            batch_format="numpy",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(min_size=min(fewest, most), max_size=most),
            num_cpus=self._cpus,
            num_gpus=self._gpus or None,
        )
        for row in rows.iter_rows():
            message = json.loads(str(row["report"]))
            if "fatal" in message:
                raise raised(message)
            yield Report.from_json(str(row["report"]))


def _start(address: str | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    # On this computer: loopback and no dashboard, whose jobs interface runs whatever it is sent.
    where: dict[str, Any] = {"include_dashboard": False} if address is None else {"address": address}
    try:
        ray.init(**where, **quiet)
    except Exception as error:  # a computer that is too busy to start it in time gives a bare Exception
        reason = " ".join(str(error).split())[-300:]
        raise BackendError(
            f"expected Ray to start, but it did not ({reason}); what is done stays done: run it again, or give the "
            "address of a cluster"
        ) from error
    logging.getLogger("ray.data").setLevel(
        logging.WARNING
    )  # it tells of each step; the ledger's progress is enough
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False


class _Actor:
    """The same worker, inside an actor."""

    def __init__(self, recipe: str, folder: str, threads: int | None, life: str) -> None:
        self._worker = Worker(Recipe.from_json(recipe), threads=threads)
        self._folder, self._life = Path(folder), life

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        reports = []
        for text in batch["task"]:
            try:
                reports.append(
                    self._worker.work(Task.from_json(str(text)), self._folder, life=self._life).to_json()
                )
            except SamletError as error:
                reports.append(json.dumps(told(error)))
        return {"report": np.array(reports)}
