"""Masks of very many pictures: planned, resumable, on one computer or a cluster; whatever is killed, nothing is lost.

A `Recipe` says what is done with every picture. A `Ledger` (SQLite, written by the driver alone) knows the pictures
and what became of each. Pictures are worked on in shards: a `Worker` makes the records of one shard, writes them as
files that appear whole or not at all, and reports; only then the ledger calls the shard done. What was not reported is
done again, with the same result. `local` and `ray` only hand shards to workers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samlet.batch.driver import Summary, run
    from samlet.batch.recipe import Recipe
    from samlet.batch.record import Item, Record
    from samlet.batch.worker import Worker

__all__ = ["Item", "Recipe", "Record", "Summary", "Worker", "run"]

_PLACES = {
    "Item": "samlet.batch.record",
    "Recipe": "samlet.batch.recipe",
    "Record": "samlet.batch.record",
    "Summary": "samlet.batch.driver",
    "Worker": "samlet.batch.worker",
    "run": "samlet.batch.driver",
}


def __getattr__(name: str) -> object:
    """Import what is asked for at its first use: the command's help must not wait for numpy."""
    if name not in _PLACES:
        raise AttributeError(f"module 'samlet.batch' has no attribute {name!r}")
    value: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value
