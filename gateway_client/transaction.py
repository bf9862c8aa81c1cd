"""Transaction: what a function of the store works in: its statements, its time, who does it, what is told of it.

A database makes one for each work (`db.py`); a test's store makes its own. Nothing here begins or commits anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import CursorResult, Executable, func, select

from gateway_client.row_writes import Update, Write, write_rows
from gateway_client.telemetry import Record

_CLOCK = select(func.clock_timestamp())


def machine_time() -> datetime:
    """Read this machine's clock, for those who ask no provider."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Opened:
    """What a backend knows of a transaction that it has begun and checked."""

    identity: object = None  # which file, or which tables of which database, it works on
    own_clock: bool = False  # the database has a clock of its own
    timeline: str | None = None  # PostgreSQL's history; a promoted standby has another
    database_user: str | None = None  # as whom the server knows us; none with a file
    warnings: list[str] = field(default_factory=list)  # what the server has said on this connection since it was read
    files: tuple[str, object] | None = None  # SQLite's file, and what this connection has open


class Shared(Protocol):
    """A transaction that several works have together, as one of them sees it (`group_transaction.py`)."""

    def write(self, write: Write, rows: Sequence[Mapping[str, Any]], *, found: bool = False) -> bool: ...
    def begin_reading(self) -> None: ...


class Executes(Protocol):
    """A connection, as far as a transaction needs it."""

    def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]: ...


class Transaction:
    """One transaction of a store, for one work in it."""

    __slots__ = (
        *("_connection", "_lock", "_now", "_shared", "_time"),
        *("actor", "ahead", "identity", "own_clock", "records", "timeline"),
    )

    def __init__(
        self,
        connection: Any,
        opened: Opened,
        *,
        actor: str,
        time: Callable[[], datetime],
        lock: Callable[..., None],
        shared: Shared | None = None,
        ahead: object = None,
    ) -> None:
        self._connection, self._time, self._lock, self._shared = connection, time, lock, shared
        self.ahead = ahead  # what was read for several works together, if this one is one of them
        self._now: datetime | None = None
        self.actor = actor  # who does what is written
        self.identity, self.own_clock, self.timeline = opened.identity, opened.own_clock, opened.timeline
        self.records: list[Record] = []  # what is told once it is committed

    @property
    def connection(self) -> Any:
        """The connection that the transaction is on."""
        self._begin_reading()
        return self._connection

    @property
    def now(self) -> datetime:
        """The provider's time, read once, when it is first asked for: after the transaction has its first lock."""
        if self._now is None:
            self._now = self._time()
        return self._now

    def clock(self) -> datetime:
        """Read the one clock of leases, holds and key lives: the database's; a file has ours, set by the provider's."""
        if not self.own_clock:
            return self.now
        told: datetime = self.execute(_CLOCK).scalar_one()
        return told

    def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Execute one statement of Core, past the ORM."""
        self._begin_reading()
        found: CursorResult[Any] = self._connection.execute(statement, values)
        return found

    def write(self, write: Write, *rows: Mapping[str, Any]) -> None:
        """Insert rows, or update them, and read nothing back: in a group this waits for those of the other works."""
        if self._shared is None or not self._shared.write(write, rows):
            write_rows(self._connection, write, rows)

    def write_found(self, update: Update, row: Mapping[str, Any]) -> bool:
        """Update one row, if it is as it is said to be. Returns whether it was.

        In a group it is taken to be; when it is not, all of the group is undone, and each of its works done alone.
        """
        if self._shared is not None and self._shared.write(update, (row,), found=True):
            return True
        return write_rows(self._connection, update, (row,)) == 1

    def _begin_reading(self) -> None:
        if self._shared is not None:
            self._shared.begin_reading()

    def lock(self, intent_ids: Iterable[str]) -> None:
        """Lock intents that the transaction was not begun for, everybody in one order.

        What was read of them before may not be so any more. A file has one writer, so there is nothing to lock.
        """
        ordered = sorted(set(intent_ids))
        if ordered:
            self._begin_reading()
            self._lock(self._connection, *ordered)


Ahead = Callable[[Transaction, Sequence[str]], Mapping[str, object]]
"""Reads, for several works together, what each of them would read of its intent; an intent left out is read alone."""
