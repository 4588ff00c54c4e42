"""The ledger: which pictures there are, and what became of each. SQLite; one process writes it, the driver.

A picture is pending, done or failed; a shard is pending or done. A shard's files are on the disk before the ledger
calls it done, in one transaction with all of its pictures.
"""

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samlet.atomic import not_written
from samlet.batch.recipe import Recipe
from samlet.batch.record import Item, Report, Task
from samlet.errors import InputError, OutputError

_PENDING, _DONE, _FAILED = 0, 1, 2
_FORM = "1"
_PAGE = 256
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS recipes (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shards (
    number INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL, stamp TEXT NOT NULL,
    objects TEXT, shard INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0, masks INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', recipe INTEGER
);
CREATE INDEX IF NOT EXISTS failures ON items (number) WHERE state = 2;
CREATE INDEX IF NOT EXISTS waiting ON shards (number) WHERE state = 0;
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pictures are in which state, and their masks."""

    pending: int
    done: int
    failed: int
    masks: int

    @property
    def all(self) -> int:
        """Pictures in the plan."""
        return self.pending + self.done + self.failed


class Ledger:
    """The ledger of one output folder."""

    def __init__(self, path: Path) -> None:
        """Open it, or begin one.

        Args:
            path: The file; its folder exists.

        Raises:
            InputError: The file is no ledger of this version of samlet.
            OutputError: It cannot be written.
        """
        self._path = path
        with self._guard():
            # Autocommit: every transaction below is spelled out.
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.executescript(_TABLES)
            self.db.execute("PRAGMA cache_size = -16000")
        form = self.fact("form")
        if form is None:
            self.set_fact("form", _FORM)
        elif form != _FORM:
            self.db.close()
            raise InputError(
                f"expected a ledger of form {_FORM} in {str(path)!r}, got form {form[:20]!r}; go on with the samlet "
                "that began it, or choose another output folder"
            )

    def __enter__(self) -> Self:
        """Give itself; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of the block or nothing of it.

        Yields:
            The connection.

        Raises:
            OutputError: The disk is full or the file cannot be written.
        """
        with self._guard():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_FULL":
                raise not_written(self._path, OSError(errno.ENOSPC, "disk full")) from error
            raise OutputError(
                f"could not write the ledger {str(self._path)!r}: {error}; check the disk and the rights of the folder"
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"expected samlet's ledger in {str(self._path)!r}, got something else ({error}); choose another "
                "output folder"
            ) from error

    def fact(self, name: str) -> str | None:
        """Look up something noted about the whole batch.

        Args:
            name: Under which name.
        """
        with self._guard():
            row = self.db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Note something about the whole batch.

        Args:
            name: Under which name.
            value: What.
        """
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def adopt(self, recipe: Recipe, *, mix: bool = False) -> int:
        """Note which recipe the pictures to come are made by.

        Args:
            recipe: The recipe.
            mix: Whether results of different recipes may lie side by side.

        Returns:
            Its number.

        Raises:
            InputError: Results of another recipe are there and `mix` is false, or the formats differ.
        """
        last = self.recipe()
        if last is not None and last.digest() != recipe.digest():
            different = "; ".join(recipe.differences(last))
            if set(recipe.formats) != set(last.formats):
                raise InputError(
                    f"expected the formats that this output was begun with, got others ({different}); give "
                    f"--format {','.join(last.formats)}, or another --output"
                )
            if recipe.prompted != last.prompted:
                raise InputError(
                    "expected prompts for all pictures of an output or for none; give the same --prompts as before, "
                    "or another --output"
                )
            if not mix and self.counts().pending < self.counts().all:
                raise InputError(
                    f"expected the recipe that this output was begun with, got another ({different}); repeat the "
                    "old one, choose another --output, or add --mix to have both kinds of results in it"
                )
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO recipes (digest, json) VALUES (?, ?)",
                (recipe.digest(), recipe.to_json()),
            )
            number = db.execute("SELECT number FROM recipes WHERE digest = ?", (recipe.digest(),)).fetchone()[
                0
            ]
            db.execute("INSERT OR REPLACE INTO facts VALUES ('recipe', ?)", (str(number),))
        return int(number)

    def recipe(self) -> Recipe | None:
        """Give the recipe of the last run; None if there was none."""
        with self._guard():
            row = self.db.execute(
                "SELECT json FROM recipes WHERE number = (SELECT value FROM facts WHERE name = 'recipe')"
            ).fetchone()
        return None if row is None else Recipe.from_json(row[0])

    def counts(self) -> Counts:
        """Count the pictures by state, and the masks."""
        with self._guard():
            rows = self.db.execute("SELECT state, count(*), sum(masks) FROM items GROUP BY state").fetchall()
        number = {state: count for state, count, _ in rows}
        return Counts(
            number.get(_PENDING, 0),
            number.get(_DONE, 0),
            number.get(_FAILED, 0),
            sum(int(masks or 0) for state, _, masks in rows if state == _DONE),
        )

    def pending(self) -> Iterator[Task]:
        """Give the shards that are still to do, in order; the ledger may be written meanwhile.

        Yields:
            Shards with their pictures.
        """
        after = -1
        while True:
            with self._guard():
                page = self.db.execute(
                    "SELECT number FROM shards WHERE state = 0 AND number > ? ORDER BY number LIMIT ?",
                    (after, _PAGE),
                ).fetchall()
            for (number,) in page:
                yield self._task(number)
            if not page:
                return
            after = page[-1][0]

    def _task(self, shard: int) -> Task:
        with self._guard():
            rows = self.db.execute(
                "SELECT i.number, i.name, i.source, i.objects FROM shards s JOIN items i "
                "ON i.number BETWEEN s.first AND s.last WHERE s.number = ? ORDER BY i.number",
                (shard,),
            ).fetchall()
        return Task(
            shard,
            [
                Item(number, name, json.loads(source), None if objects is None else json.loads(objects))
                for number, name, source, objects in rows
            ],
        )

    def record(self, report: Report, recipe: int) -> None:
        """Note that the files of a shard are written, and what became of its pictures.

        Args:
            report: What the worker says.
            recipe: Number of the recipe.

        Raises:
            OutputError: The ledger cannot be written; the shard stays pending.
        """
        rows = [
            (_FAILED if reason else _DONE, masks, reason, recipe, number, report.shard)
            for number, masks, reason in report.rows
        ]
        with self.transaction() as db:
            db.executemany(
                "UPDATE items SET state = ?, masks = ?, reason = ?, recipe = ? WHERE number = ? AND shard = ?",
                rows,
            )
            db.execute("UPDATE shards SET state = 1 WHERE number = ?", (report.shard,))
            db.execute("DELETE FROM facts WHERE name = 'finished'")

    def done_shards(self) -> Iterator[int]:
        """Give the numbers of the shards that are done."""
        with self._guard():
            for (number,) in self.db.execute("SELECT number FROM shards WHERE state = 1 ORDER BY number"):
                yield int(number)

    def source(self, number: int) -> dict[str, Any]:
        """Give the place of a picture's bytes.

        Args:
            number: The picture's.
        """
        with self._guard():
            row = self.db.execute("SELECT source FROM items WHERE number = ?", (number,)).fetchone()
        found: dict[str, Any] = json.loads(row[0])
        return found

    def reopen(self, shards: Sequence[int]) -> None:
        """Have shards done again.

        Args:
            shards: Their numbers.
        """
        with self.transaction() as db:
            for number in shards:
                db.execute("UPDATE shards SET state = 0 WHERE number = ?", (number,))
                db.execute(
                    "UPDATE items SET state = 0, masks = 0, reason = '', recipe = NULL WHERE shard = ?",
                    (number,),
                )

    def reopen_failed(self) -> int:
        """Have the pictures that failed tried again, with their shards.

        Returns:
            How many failed.
        """
        with self._guard():
            rows = self.db.execute(
                "SELECT shard, count(*) FROM items WHERE state = 2 GROUP BY shard"
            ).fetchall()
        self.reopen([shard for shard, _ in rows])
        return sum(count for _, count in rows)

    def failures(self) -> Iterator[tuple[str, str]]:
        """Give name and reason of each picture that failed, in the order of the plan."""
        with self._guard():
            yield from self.db.execute("SELECT name, reason FROM items WHERE state = 2 ORDER BY number")

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Give number, name, state, masks and reason of every picture, in the order of the plan."""
        with self._guard():
            yield from self.db.execute("SELECT number, name, state, masks, reason FROM items ORDER BY number")
