"""A batch from its inputs to its files: plan, hand out, note down, put together."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import samlet
from samlet import registry
from samlet.atomic import atomic_write, not_written
from samlet.batch import review, sink
from samlet.batch.engine import Engine, Job
from samlet.batch.ledger import Counts, Ledger
from samlet.batch.local import Local, cores
from samlet.batch.plan import Planned, plan
from samlet.batch.recipe import Recipe
from samlet.batch.record import Report
from samlet.errors import InputError, OutputError

LEDGER = "ledger.sqlite"
"""The ledger's name in the output folder."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a batch.

    Attributes:
        counts: Pictures by state, and masks, of the whole output.
        worked_on: Pictures that this run worked on.
        planned: What the listing brought; None if no inputs were named.
        lost: Shards whose files had disappeared and were done again.
    """

    counts: Counts
    worked_on: int
    planned: Planned | None
    lost: int


def run(  # noqa: PLR0913  what a batch is, each with its own keyword
    inputs: Sequence[str],
    output: str | Path,
    *,
    recipe: Recipe | None = None,
    prompts: str | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
    shard: int | None = None,
    mix: bool = False,
    retry: bool = False,
    progress: Callable[[Counts], None] | None = None,
) -> Summary:
    """Make masks of many pictures, or go on where a run stopped.

    Args:
        inputs: Folders, patterns, lists, tars, parquet files and pictures; none goes on with the plan that is there.
        output: The folder of the results and of the ledger; made if it does not exist.
        recipe: What is done with every picture; None goes on with the last one, or begins with `Recipe()`.
        prompts: A file of prompts, for a recipe that is prompted.
        engine: Who works; None for one process a core of this computer.
        threads: Threads of each worker's model; None shares the cores among local workers.
        shard: Pictures of a shard, for a new output.
        mix: Whether results of different recipes may lie side by side.
        retry: Whether pictures that failed are tried again.
        progress: Called at the beginning and after each shard.

    Returns:
        What became of it. Pictures that failed are no error here: look at `counts.failed`.

    Raises:
        InputError: Inputs, prompts or recipe cannot be used, or are not those that the output was begun with.
        OutputError: Something cannot be written, or another run is working on this output.
        ModelError: The model cannot be used.
        BackendError: Workers cannot be started.

    Example:
        >>> from samlet.batch import Recipe, run
        >>> summary = run(["photos"], "masks", recipe=Recipe(formats=("coco",)))  # doctest: +SKIP
    """
    folder = Path(output).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error) from error
    with _alone(folder), Ledger(folder / LEDGER) as ledger:
        chosen = _complete(recipe or ledger.recipe() or Recipe())
        _check(inputs, prompts, chosen, ledger)
        if "parquet" in chosen.formats:
            sink.parquet_schema()  # before the work, not after the first shard
        number = ledger.adopt(chosen, mix=mix)
        planned = plan(ledger, inputs, prompts_path=prompts, shard=shard) if inputs else None
        sink.prepare(folder, chosen.formats)
        lost = _reopen_lost(ledger, folder, chosen)
        if retry:
            ledger.reopen_failed()
        who = engine or Local()
        job = Job(chosen, folder, threads or _share(who), secrets.token_hex(8))
        # Closed whatever happens here: workers must not outlive a ledger that cannot be written.
        with closing(who.reports(job, ledger.pending())) as reports:
            worked_on = _work(ledger, number, reports, progress)
        if worked_on:
            sink.sweep(folder, chosen.formats)  # what workers left that died while this driver lived
        _finish(ledger, folder, chosen)
        return Summary(ledger.counts(), worked_on, planned, lost)


def last_recipe(output: str | Path) -> Recipe | None:
    """Look up what an output was made by.

    Args:
        output: The folder of the results.

    Returns:
        The recipe of its last run; None if there was none.

    Raises:
        InputError: Its ledger is none.
        OutputError: Its ledger cannot be opened.
    """
    path = Path(output) / LEDGER
    if not path.exists():
        return None
    with Ledger(path) as ledger:
        return ledger.recipe()


def _complete(recipe: Recipe) -> Recipe:
    card = registry.resolve(recipe.model, decoder=recipe.decoder).shaped(recipe.shape)
    return replace(recipe, model_digest=card.digest, version=samlet.__version__)


def _check(inputs: Sequence[str], prompts: str | None, recipe: Recipe, ledger: Ledger) -> None:
    if prompts is not None and not recipe.prompted:
        raise InputError(
            "expected a recipe that is prompted for a file of prompts; pass Recipe(prompted=True)"
        )
    if inputs and recipe.prompted and prompts is None:
        raise InputError("expected a file of prompts for a recipe that is prompted, got none; name it")
    if not inputs and prompts is not None:
        raise InputError("expected inputs along with a file of prompts, got none; name them")
    if not inputs and not ledger.counts().all:
        raise InputError(
            "expected pictures, got no inputs and an output without a plan; name folders or files"
        )


def _share(engine: Engine) -> int | None:
    return max(1, cores() // engine.workers) if isinstance(engine, Local) else None


def _reopen_lost(ledger: Ledger, folder: Path, recipe: Recipe) -> int:
    there = sink.present(folder, recipe.formats)
    lost = [shard for shard in ledger.done_shards() if not there(shard)]
    if lost:
        ledger.reopen(lost)
    return len(lost)


def _work(
    ledger: Ledger, recipe: int, reports: Iterator[Report], progress: Callable[[Counts], None] | None
) -> int:
    counts = ledger.counts()
    worked_on = 0
    if progress is not None:
        progress(counts)
    for report in reports:
        ledger.record(report, recipe)
        failed = sum(bool(reason) for _, _, reason in report.rows)
        masks = sum(count for _, count, _ in report.rows)
        worked_on += len(report.rows)
        counts = Counts(
            counts.pending - len(report.rows),
            counts.done + len(report.rows) - failed,
            counts.failed + failed,
            counts.masks + masks,
        )
        if progress is not None:
            progress(counts)
    return worked_on


def _finish(ledger: Ledger, folder: Path, recipe: Recipe) -> None:
    """Put together what is one file for all pictures, unless that was done and nothing has changed since."""
    wanted = ["coco.json"] if "coco" in recipe.formats else []
    wanted += [review.TABLE, review.PAGE] if recipe.rated else []
    is_there = all((folder / name).exists() for name in wanted)
    if ledger.fact("finished") is not None and is_there:
        return
    if "coco" in recipe.formats:
        sink.write_coco(folder, ledger.done_shards())
    if "yolo" in recipe.formats:
        atomic_write(folder / "yolo" / "classes.txt", "".join(f"{name}\n" for name in recipe.classes))
    if recipe.rated:
        records = sink.done_records(folder, list(ledger.done_shards()))
        review.write_review(folder, records, ledger.source)
    sink.write_failures(folder, ledger.failures())
    ledger.set_fact("finished", "yes")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second driver out; the system lets go of the lock when the first one dies, however it dies."""
    path = folder / "ledger.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise not_written(path, error) from error
    try:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise not_written(path, error) from error
                raise OutputError(
                    f"expected to be alone in {str(folder)!r}, but another run is working there; wait for it or stop it"
                ) from error
        yield
    finally:
        os.close(descriptor)
