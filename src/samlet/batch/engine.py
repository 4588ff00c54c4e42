"""What the driver asks of an engine: hand tasks to workers, give back their reports in any order."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from samlet.batch.recipe import Recipe
from samlet.batch.record import Report, Task
from samlet.errors import BackendError, InputError, ModelError, OutputError, SamletError


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker has to know.

    Attributes:
        recipe: What is done with every picture.
        folder: The output folder, absolute.
        threads: Threads of each worker's model; None lets the runtime decide.
        life: Names this run of the driver, so that workers know who died with it and who did not.
    """

    recipe: Recipe
    folder: Path
    threads: int | None
    life: str = ""


class Engine(Protocol):
    """Schedules shards; knows neither the ledger nor the files."""

    def reports(self, job: Job, tasks: Iterator[Task]) -> Generator[Report, None, None]:
        """Have the tasks done.

        Args:
            job: What every worker has to know.
            tasks: Shards; they are drawn as workers become free.

        Yields:
            A report for each task, in any order; a worker that dies costs nothing but time.

        Raises:
            SamletError: Something is wrong that would hit all pictures.
        """


_BRANCHES = (OutputError, InputError, BackendError, ModelError)


def told(error: SamletError) -> dict[str, str]:
    """Describe an error so that it can travel between processes.

    Args:
        error: What stopped a worker.

    Example:
        >>> told(OutputError("the disk is full"))
        {'fatal': 'the disk is full', 'kind': 'OutputError'}
    """
    kind = next((branch.__name__ for branch in _BRANCHES if isinstance(error, branch)), "SamletError")
    return {"fatal": str(error), "kind": kind}


def raised(message: dict[str, str]) -> SamletError:
    """Make the error again that `told` described.

    Args:
        message: What it gave.

    Example:
        >>> raised({"fatal": "no", "kind": "OutputError"})
        OutputError('no')
    """
    kind = next((branch for branch in _BRANCHES if branch.__name__ == message["kind"]), SamletError)
    return kind(message["fatal"])
