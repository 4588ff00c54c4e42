"""The program of one local worker: tasks come as lines on standard input, reports go as lines to standard output."""

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path

from samlet.batch.engine import told
from samlet.batch.recipe import Recipe
from samlet.batch.record import Task
from samlet.batch.worker import Worker
from samlet.errors import SamletError


def main(recipe: str, folder: str, threads: str, life: str) -> None:
    """Work until standard input ends, which is when the driver is gone.

    Args:
        recipe: JSON of the recipe.
        folder: The output folder.
        threads: Threads of the model, 0 for the runtime's choice.
        life: Names this run of the driver.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which stops its workers
    # Whatever a library prints must not get between the reports.
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    worker = Worker(Recipe.from_json(recipe), threads=int(threads) or None)
    try:
        print("ready", file=reports, flush=True)
        while True:
            try:
                report = worker.work(Task.from_json(tasks.get()), Path(folder), life=life).to_json()
            except SamletError as error:
                report = json.dumps(told(error))
            print(report, file=reports, flush=True)
    except BrokenPipeError:
        os._exit(0)


def _listen(tasks: "queue.SimpleQueue[str]") -> None:
    """Take tasks as they come, and leave at once when the driver is gone: its successor does this shard again."""
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
