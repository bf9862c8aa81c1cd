"""Do the works of one group in one transaction: what they only write waits, and is written for all of them together.

A work that reads has a savepoint of its own from then on. What is not as it was foreseen undoes the whole group, and
each of its works is done again alone (`db.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway_client.columns import TABLES
from gateway_client.group_commit import Job
from gateway_client.record import Row
from gateway_client.row_writes import Write, write_rows
from gateway_client.transaction import Transaction


class Unforeseen(Exception):
    """A row is not as a work that has not read it took it to be."""


class Writes:
    """What the works of a group write and do not read back, by kind: of each kind all rows are one statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[tuple[Write, frozenset[str], bool], list[Row]] = {}
        self.failed = False  # so what several works have written is there in part

    def add(self, write: Write, rows: Sequence[Row], *, found: bool) -> None:
        """Let rows wait. `found`: each of them must be there to be updated."""
        for row in rows:
            self._waiting.setdefault((write, frozenset(row), found), []).append(row)

    def execute(self) -> None:
        """Execute what waits, parents first. Raises Unforeseen."""
        waiting, self._waiting, self.failed = self._waiting, {}, True
        for (write, _, found), rows in sorted(waiting.items(), key=lambda item: TABLES.index(item[0][0].table.name)):
            written = write_rows(self._connection, write, rows)
            if found and written != len(rows):
                raise Unforeseen
        self.failed = False

    def begin_savepoint(self) -> None:
        """Execute what waits, so that the next work can read it, and mark where that work begins."""
        self.execute()
        self._connection.exec_driver_sql("SAVEPOINT one_work")

    def undo(self) -> None:
        """Undo all since the mark."""
        self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_work")


class Work:
    """One work of a group. Until it reads, what it writes waits; from then on it has a savepoint."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._mine: list[tuple[Write, Sequence[Row], bool]] = []
        self.reads = False

    def write(self, write: Write, rows: Sequence[Row], *, found: bool = False) -> bool:
        """Let rows wait for the others of the group. Returns False when this work has to write them itself."""
        if not self.reads:
            self._mine.append((write, rows, found))
        return not self.reads

    def begin_reading(self) -> None:
        """See all that was written before. Raises Unforeseen when some of it is this work's own, and still waits."""
        if self._mine:
            raise Unforeseen
        if not self.reads:
            self._writes.begin_savepoint()
            self.reads = True

    def end(self) -> None:
        """Hand over what waits: the work has done all that it had to."""
        for write, rows, found in self._mine:
            self._writes.add(write, rows, found=found)


def do_together(
    connection: Connection,
    jobs: Sequence[Job[Any]],
    transaction: Callable[[Job[Any], Work | None, object], Transaction],
) -> None:
    """Do jobs whose intents are locked, each as if it were alone; those that cannot are left to be done alone.

    Raises Unforeseen, or what the database says to what all have written: then none of them is done.
    """
    writes = Writes(connection)
    known = _read_ahead(jobs, transaction)
    for job in jobs:
        work = Work(writes)
        try:
            job.found = job.work(transaction(job, work, known.get(job.intent_id)))
            work.end()
        except Exception as error:
            if writes.failed or (isinstance(error, DBAPIError) and error.connection_invalidated):
                raise
            if work.reads:
                writes.undo()
            refused = isinstance(error, DBAPIError | Unforeseen)
            job.end(alone=refused, error=None if refused else error)
    writes.execute()


def _read_ahead(
    jobs: Sequence[Job[Any]], transaction: Callable[[Job[Any], Work | None, object], Transaction]
) -> dict[str | None, object]:
    """Read by one statement what several works would read; not where two of them are about one intent."""
    works = Counter(job.intent_id for job in jobs)
    asked: dict[Any, list[Job[Any]]] = {}
    for job in jobs:
        if job.ahead is not None and works[job.intent_id] == 1:
            asked.setdefault(job.ahead, []).append(job)
    known: dict[str | None, object] = {}
    for read, of in asked.items():
        known |= read(transaction(of[0], None, None), [job.intent_id for job in of])
    return known
