"""What a database is like, for `paycli doctor`: asked for in transactions that can write nothing, each by itself.

What a good one must be is said where it is judged, in `cli/checks.py`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from gateway_client import postgres
from gateway_client.backends import backend_of, engine_options, explained, parsed
from gateway_client.columns import TABLES
from gateway_client.intake import unescaped
from gateway_client.sqlite import LOCK_TIMEOUT_S
from gateway_client.transaction import Transaction, machine_time

T = TypeVar("T")


class Reader:
    """A database that is only looked at. Every transaction has a connection of its own: a broken one is no matter."""

    def __init__(self, url: str) -> None:
        try:
            self.url = parsed(url)
        finally:
            del url  # a crash reporter sends local variables
        self._backend = backend_of(self.url)
        self._engine = _engine(self.url)
        self._backend.watch(self._engine)

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return self._backend.place(self.url)

    @property
    def path(self) -> Path | None:
        """The store's file; None when it is on a server."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction that writes nothing and waits for nobody long. Raises StoreUnavailable."""
        with explained(self.url), self._engine.connect() as connection:
            opened = self._backend.begin(connection, write=False, owned=False, patient=True, lock=None)
            return work(Transaction(connection, opened, actor="", time=machine_time, lock=self._backend.lock))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").absolute()
        return create_engine(url, creator=lambda: _sqlite_connection(path), poolclass=NullPool, hide_parameters=True)
    readonly = {"isolation_level": "READ COMMITTED", "postgresql_readonly": True}  # a replica answers that, too
    return create_engine(url, **engine_options(url), poolclass=NullPool, execution_options=readonly)


def _sqlite_connection(path: Path) -> sqlite3.Connection:
    """A connection that leaves the folder as it was.

    Of a file with a -wal beside it the last one to leave would write the one into the other, unless it may not write;
    of one without, who may not write would leave an empty -wal behind.
    """
    mode = "ro" if Path(f"{path}-wal").exists() else "rw"
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=LOCK_TIMEOUT_S)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA synchronous = FULL")  # of this connection, as those that write set it
    return connection


# SQLite ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """What makes a commit durable."""

    journal_mode: str
    synchronous: int


def sqlite_settings(tx: Transaction) -> SqliteSettings:
    """The settings of a file and of a connection to it."""
    ask = tx.connection.exec_driver_sql
    return SqliteSettings(str(ask("PRAGMA journal_mode").scalar()), int(ask("PRAGMA synchronous").scalar() or 0))


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system that a path is on."""

    point: str
    kind: str


def mount_of(path: Path, mounts: str) -> Mount | None:
    """The mount of a path, by the text of /proc/mounts; None when it has none."""
    real = Path(os.path.realpath(path))
    found = [
        Mount(point, fields[2])
        for fields in (line.split(" ") for line in mounts.splitlines())
        if len(fields) > 2
        for point in [unescaped(fields[1])]
        if Path(point) == real or Path(point) in real.parents
    ]
    # Of two on one point the later one hides the earlier.
    return max(reversed(found), key=lambda mount: len(Path(mount.point).parts), default=None)


# PostgreSQL -----------------------------------------------------------------------------------------------------------

_SETTINGS = text("SELECT name, setting, source FROM pg_settings WHERE name = ANY(:names)")
_RIGHTS = text(
    "SELECT t.name, r.word FROM unnest(CAST(:names AS text[])) AS t(name), unnest(CAST(:words AS text[])) AS r(word) "
    "WHERE to_regclass(t.name) IS NOT NULL AND NOT has_table_privilege(to_regclass(t.name)::oid, r.word) ORDER BY 1, 2"
)
_VERSIONS_SINCE = 150000
_VERSIONS = (
    "SELECT datcollversion, pg_database_collation_actual_version(oid) FROM pg_database "
    "WHERE datname = current_database()"
)
_COLLATED = text(
    "SELECT t.name || '.' || a.attname FROM unnest(CAST(:names AS text[])) AS t(name) "
    "JOIN pg_attribute AS a ON a.attrelid = to_regclass(t.name) JOIN pg_collation AS c ON c.oid = a.attcollation "
    "WHERE c.collname <> 'C' AND NOT a.attisdropped ORDER BY 1"
)
_MAY_CREATE = text("SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE')")
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_level")
RIGHTS = ("SELECT", "INSERT", "UPDATE")
_DELETES = ("paycli_run_agreed", "paycli_run_items", "paycli_run_parts")  # what runs no longer need of their own


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of PostgreSQL, as it is for this user and database, and who has set it."""

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Rights:
    """What this user lacks on our tables, and whether it could make tables."""

    missing: tuple[tuple[str, str], ...]
    schema: str | None
    may_create: bool


def version(tx: Transaction) -> tuple[str, int | None]:
    """The server in its own words, and its number (None: it has none)."""
    ask = tx.connection.exec_driver_sql
    number = ask("SELECT current_setting('server_version_num', true)").scalar()
    return str(ask("SELECT version()").scalar()), int(number) if number else None


def postgres_settings(tx: Transaction) -> Mapping[str, Setting]:
    """The settings that durability hangs on; an engine that lacks one does not name it."""
    rows = tx.connection.execute(_SETTINGS, {"names": list(DURABILITY)})
    return {name: Setting(value, source) for name, value, source in rows}


@dataclass(frozen=True, slots=True)
class Collations:
    """What the database sorts text by: the version that its indexes were made with, and that of the library now."""

    recorded: str | None
    actual: str | None
    ours: tuple[str, ...]  # columns of our tables that are not compared byte by byte


def collations(tx: Transaction) -> Collations:
    """Which collation the database has by default, then and now, and which of our columns hang on one."""
    connection = tx.connection
    known = int(connection.exec_driver_sql("SELECT current_setting('server_version_num', true)").scalar() or 0)
    recorded, actual = connection.exec_driver_sql(_VERSIONS).one() if known >= _VERSIONS_SINCE else (None, None)
    ours = connection.execute(_COLLATED, {"names": list(TABLES)}).scalars().all()
    return Collations(recorded, actual, tuple(ours))


def is_replica(tx: Transaction) -> bool:
    """Whether the server follows another one."""
    return bool(tx.connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar())


def timeline(tx: Transaction) -> str | None:
    """The history that the database is on; None when it does not tell."""
    return postgres.timeline(tx.connection)


def rights(tx: Transaction) -> Rights:
    """What this user may do."""
    connection = tx.connection
    missing = [tuple(row) for row in connection.execute(_RIGHTS, _asked(TABLES, RIGHTS))]
    missing += [tuple(row) for row in connection.execute(_RIGHTS, _asked(_DELETES, ("DELETE",)))]
    schema, may_create = connection.execute(_MAY_CREATE).one()
    return Rights(tuple(missing), schema, bool(may_create))


def _asked(names: Iterable[str], words: Iterable[str]) -> dict[str, Any]:
    return {"names": list(names), "words": list(words)}


def database_time(tx: Transaction) -> datetime:
    """The server's clock."""
    found = tx.connection.exec_driver_sql("SELECT clock_timestamp()").scalar()
    assert isinstance(found, datetime)
    return found
