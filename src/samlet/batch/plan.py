"""The plan: the pictures of the inputs go into the ledger, and a second listing is compared with the first.

All comparing is done by SQLite in temporary tables, so that memory does not grow with the number of pictures.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from samlet.batch.ledger import Ledger
from samlet.batch.prompts import prompts
from samlet.batch.sources import Listed, listed
from samlet.errors import InputError

SHARD = 64
"""Pictures of a shard: what a kill costs at most for each worker, and how many rows lie in one file."""

_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Planned:
    """What a listing brought.

    Attributes:
        new: Pictures that the plan did not have.
        changed: Pictures whose bytes or prompts are not those of the last run; they are done again.
        twice: Pictures that came twice and are taken once.
        unasked: Pictures without a prompt, if there are prompts; they get no masks.
        unknown: Names in the file of prompts that no picture has.
    """

    new: int
    changed: int
    twice: int
    unasked: int = 0
    unknown: int = 0


def plan(
    ledger: Ledger, inputs: Sequence[str], *, prompts_path: str | None = None, shard: int | None = None
) -> Planned:
    """List the inputs and put into the ledger what it does not have yet.

    Pictures are numbered in the order of their names, new ones after those that are there; what changed is to be
    done again. Numbers never change.

    Args:
        ledger: The ledger.
        inputs: What `sources.listed` takes.
        prompts_path: A file of prompts.
        shard: Pictures of a shard, if the ledger is new; None for `SHARD`.

    Returns:
        What it brought.

    Raises:
        InputError: An input or a prompt cannot be used, two pictures have one name, or pictures of the plan are not
            among the inputs.
        OutputError: The ledger cannot be written.
    """
    size = int(ledger.fact("shard") or shard or SHARD)
    with ledger.transaction() as db:
        db.execute("PRAGMA temp_store = FILE")
        for table in ("listed", "asked"):
            db.execute(f"DROP TABLE IF EXISTS temp.{table}")
        db.execute(
            "CREATE TEMP TABLE listed (name TEXT PRIMARY KEY, source TEXT, stamp TEXT, objects TEXT, "
            "twice INTEGER NOT NULL DEFAULT 0, clash TEXT) WITHOUT ROWID"
        )
        for rows in _batches(
            (one.name, json.dumps(one.source), one.stamp) for one in _checked(listed(inputs))
        ):
            db.executemany(
                "INSERT INTO listed (name, source, stamp) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "twice = twice + 1, clash = CASE WHEN source = excluded.source THEN clash ELSE excluded.source END",
                rows,
            )
        _refuse_clash(db)
        unasked, unknown = _ask(db, prompts_path) if prompts_path is not None else (0, 0)
        known, planned, there, different = _compared(db)
        if known < planned:
            _refuse_gone(db)
        changed = _changed(db) if different else 0
        new = _append(db, size) if known < there else 0
        twice = db.execute("SELECT coalesce(sum(twice), 0) FROM listed").fetchone()[0]
        db.execute("INSERT OR REPLACE INTO facts VALUES ('shard', ?)", (str(size),))
        if new or changed:
            db.execute("DELETE FROM facts WHERE name = 'finished'")
    return Planned(new, changed, int(twice), unasked, unknown)


def _checked(found: Iterable[Listed]) -> Iterator[Listed]:
    for one in found:
        # SQLite's and JSON's strings are Unicode; what a file system calls by other bytes keeps them as escapes.
        clean = one.name.encode("utf-8", "backslashreplace").decode()
        yield one._replace(name=clean.replace("\0", "\\0"))


def _batches(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    rest = iter(rows)
    while batch := list(itertools.islice(rest, _ROWS)):
        yield batch


def _refuse_clash(db: Any) -> None:
    row = db.execute("SELECT name, source, clash FROM listed WHERE clash IS NOT NULL LIMIT 1").fetchone()
    if row is not None:
        paths = [json.loads(text)["path"] for text in row[1:]]
        raise InputError(
            f"expected pictures of different names, got {row[0]!r:.200} twice ({paths[0]} and {paths[1]}); give the "
            "folder above them, or one output folder each"
        )


def _ask(db: Any, path: str) -> tuple[int, int]:
    """Give each picture its objects; count pictures that have none, and names that no picture has."""
    db.execute("CREATE TEMP TABLE asked (name TEXT, object TEXT)")
    for rows in _batches((name, json.dumps(one)) for name, one in prompts(path)):
        db.executemany("INSERT INTO asked VALUES (?, ?)", rows)
    db.execute("CREATE INDEX temp.asked_names ON asked (name)")
    db.execute(
        "UPDATE listed SET objects = (SELECT '[' || group_concat(object, ',') || ']' FROM "
        "(SELECT object FROM asked WHERE asked.name = listed.name ORDER BY asked.rowid))"
    )
    unasked, count = db.execute("SELECT count(*) - count(objects), count(*) FROM listed").fetchone()
    if unasked == count:
        theirs = db.execute("SELECT name FROM asked LIMIT 1").fetchone()[0]
        ours = db.execute("SELECT name FROM listed LIMIT 1").fetchone()[0]
        raise InputError(
            f"{path}: expected names of the pictures, such as {ours!r:.100}, got {theirs!r:.100}; write them as "
            "they are below the input folder"
        )
    db.execute("UPDATE listed SET objects = '[]' WHERE objects IS NULL")
    unknown = db.execute(
        "SELECT count(DISTINCT name) FROM asked WHERE name NOT IN (SELECT name FROM listed)"
    ).fetchone()[0]
    return int(unasked), int(unknown)


_DIFFERENT = "(items.stamp != listed.stamp OR items.objects IS NOT listed.objects)"


def _compared(db: Any) -> tuple[int, int, int, int]:
    """Walk once through plan and listing: usually that says that nothing has changed, and all further walks are spared.

    Returns:
        How many pictures of the plan are listed, how many the plan has, how many are listed, and how many of the first
        differ in any way.
    """
    known, different = db.execute(
        f"SELECT count(*), coalesce(sum({_DIFFERENT} OR items.source != listed.source), 0) "
        "FROM items JOIN listed USING (name)"
    ).fetchone()
    planned, there = (
        db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("items", "listed")
    )
    return int(known), int(planned), int(there), int(different)


def _refuse_gone(db: Any) -> None:
    gone, example = db.execute(
        "SELECT count(*), min(name) FROM items WHERE NOT EXISTS (SELECT 1 FROM listed WHERE listed.name = items.name)"
    ).fetchone()
    if gone:
        raise InputError(
            f"expected the pictures that this output was begun with, but {gone} of them are not among the inputs, such "
            f"as {example!r:.200}; name all the inputs, or none to go on with the plan as it is, or another --output"
        )


def _changed(db: Any) -> int:
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS touched (shard INTEGER PRIMARY KEY)",
    )
    db.execute("DELETE FROM touched")
    db.execute(
        f"INSERT OR IGNORE INTO touched SELECT shard FROM items JOIN listed USING (name) WHERE {_DIFFERENT}"
    )
    count = db.execute(f"SELECT count(*) FROM items JOIN listed USING (name) WHERE {_DIFFERENT}").fetchone()[
        0
    ]
    db.execute(
        "UPDATE items SET stamp = listed.stamp, source = listed.source, objects = listed.objects FROM listed "
        f"WHERE items.name = listed.name AND ({_DIFFERENT} OR items.source != listed.source)"
    )
    db.execute(
        "UPDATE items SET state = 0, masks = 0, reason = '', recipe = NULL WHERE shard IN (SELECT shard FROM touched)"
    )
    db.execute("UPDATE shards SET state = 0 WHERE number IN (SELECT shard FROM touched)")
    return int(count)


def _append(db: Any, size: int) -> int:
    number, shard = db.execute(
        "SELECT (SELECT coalesce(max(number) + 1, 0) FROM items), (SELECT coalesce(max(number) + 1, 0) FROM shards)"
    ).fetchone()
    db.execute(
        "INSERT INTO items (number, name, source, stamp, objects, shard) "
        "SELECT :number + place, name, source, stamp, objects, :shard + place / :size FROM ("
        "  SELECT *, row_number() OVER (ORDER BY name) - 1 AS place FROM listed"
        "  WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.name = listed.name))",
        {"number": number, "shard": shard, "size": size},
    )
    db.execute(
        "INSERT INTO shards (number, first, last) SELECT shard, min(number), max(number) FROM items "
        "WHERE shard >= ? GROUP BY shard",
        (shard,),
    )
    return int(db.execute("SELECT count(*) FROM items WHERE number >= ?", (number,)).fetchone()[0])
