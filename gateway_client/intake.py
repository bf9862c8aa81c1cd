"""Check what a caller hands in: engine, pool, connection, session, file; refuse what a commit could be lost by.

One room for all of it (DESIGN §9). Beginning a transaction, and what makes its commit durable, is `sqlite.py`'s and
`postgres.py`'s; nothing here writes a row.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import AsyncAdaptedQueuePool, Connection, Engine, NullPool, QueuePool, event

from gateway_client import columns, schema
from gateway_client.connections import (
    NOT_COMMITTED,
    autocommit_of,
    begins_by_itself,
    in_transaction,
    sqlite3_of,
    watch,
)
from gateway_client.errors import ConfigurationError, InvalidInput, StoreUnavailable

if TYPE_CHECKING:  # who only reads loads no ORM
    from sqlalchemy.orm import Session

TABLES = (*columns.TABLES, schema.TABLE)

# Engines --------------------------------------------------------------------------------------------------------------

POOLS = (QueuePool, AsyncAdaptedQueuePool, NullPool)
"""What SQLAlchemy documents as handing a connection to one user at a time. A subclass may do anything."""

DRIVERS = {"sqlite": ("pysqlite", "aiosqlite"), "postgresql": ("psycopg",)}
"""Drivers that tell whether a connection is in a transaction."""


def check_engine(engine: Engine) -> None:
    """Refuse an engine whose driver is another one, or whose pool may hand one connection to two users."""
    name, driver, pool = engine.dialect.name, engine.dialect.driver, type(engine.pool)
    if driver not in DRIVERS.get(name, ()):
        raise ConfigurationError(
            f"engines of {name}+{driver} are not supported: use sqlite, sqlite+aiosqlite or postgresql+psycopg"
        )
    if pool not in POOLS:
        memory = "; a database in memory forgets what was sent: use a file" if name == "sqlite" else ""
        raise ConfigurationError(
            f"the engine's pool, {pool.__name__}, may hand one connection to several users at once, so that one would "
            "commit or undo what another writes: make the engine with poolclass=QueuePool (for an AsyncEngine "
            f"AsyncAdaptedQueuePool) or NullPool{memory}"
        )


# Connections ----------------------------------------------------------------------------------------------------------


def check_begun(connection: Connection) -> None:
    """Refuse a session that is in no transaction after a statement: each of them commits by itself."""
    if not in_transaction(connection.connection.driver_connection):
        raise ConfigurationError(_AUTOCOMMIT)


def check_options(connection: Connection) -> None:
    """Refuse options that lead our statements, and only some of them, to other tables."""
    if connection.get_execution_options().get("schema_translate_map"):
        raise ConfigurationError(
            "an engine or a session with schema_translate_map is not supported: name the schema of our tables in its "
            "search_path. Nothing more was sent."
        )


def other_database(theirs: str, ours: str) -> ConfigurationError:
    """Say that a connection is of another database than the client's."""
    return ConfigurationError(
        f"this connection is of another database ({theirs}) than the client's ({ours}), or it finds other tables by "
        "our names there: by another search_path, by TEMP tables. If the store was made anew or put back, restart what "
        "uses it, and reconcile every day since then. Nothing more was sent."
    )


def _refuse_autocommit(driver: Any) -> None:
    """Refuse a connection that its driver says to be in autocommit: psycopg's, and sqlite3's since Python 3.12."""
    if autocommit_of(driver) is True:
        raise ConfigurationError(_AUTOCOMMIT)


_AUTOCOMMIT = (
    "this engine or session commits each statement by itself (AUTOCOMMIT): make it without `isolation_level` and "
    "`autocommit`. Nothing more was sent."
)


# PostgreSQL: all of our tables, by their numbers, as this session finds them (its search_path, its TEMP tables).
POSTGRES_IDENTITY = "ARRAY[{}]".format(
    ", ".join(
        (
            "current_database()::text",
            "(SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())::text",
            *(f"to_regclass('{name}')::oid::text" for name in TABLES),
        )
    )
)

_NAMES = ", ".join(f"'{name}'" for name in TABLES)
_SHADOWS = f"SELECT 1 FROM sqlite_temp_master WHERE lower(name) IN ({_NAMES}) OR lower(tbl_name) IN ({_NAMES})"  # noqa: S608


def sqlite_identity(connection: Connection, *, alone: bool = False) -> tuple[int, int]:
    """Which file the connection writes to, once it has been checked. `alone`: with no other file attached."""
    driver = connection.connection.driver_connection
    _refuse_autocommit(driver)
    if getattr(sqlite3_of(driver), "isolation_level", "") is None and not in_transaction(driver):
        raise ConfigurationError(_AUTOCOMMIT)  # it begins nothing, and no listener of the engine does
    schemas: Sequence[Any] = connection.exec_driver_sql("PRAGMA database_list").all()
    files = {name: file for _, name, file in schemas}
    path = files["main"]
    if not path:
        raise ConfigurationError("a database in memory forgets what was sent: use a file, sqlite:///paycli.db")
    if "temp" in files and connection.exec_driver_sql(_SHADOWS).first() is not None:
        raise ConfigurationError(
            "a TEMP table or trigger of this connection stands before our tables: what is written would be lost with "
            "it. Nothing more was sent."
        )
    if alone and files.keys() - {"main", "temp"}:
        raise ConfigurationError(
            "the session has other databases attached: in WAL mode SQLite commits each file by itself, so an order in "
            "one and its charge in another could part. Nothing more was sent."
        )
    return check_file(path)


# Files ----------------------------------------------------------------------------------------------------------------

MOUNTS = Path("/proc/self/mountinfo")  # of Linux
_OCTAL = re.compile(r"\\([0-7]{3})")  # a space is \040


def check_file(path: str) -> tuple[int, int]:
    """Refuse a file that has two names, here or in another container; its device and number. SQLite resolved links."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise StoreUnavailable(f"{path} is gone: it was moved or removed while it was open") from None
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be looked at: {error.strerror}") from None
    if found.st_nlink > 1:
        raise ConfigurationError(
            f"{path} has {found.st_nlink} names (hard links). {_TWO_LOGS}: remove the others. Nothing more was sent."
        )
    if _is_mounted(path):
        raise ConfigurationError(
            f"{path} is mounted by itself, so it has another name elsewhere. {_TWO_LOGS}: mount its folder instead. "
            "Nothing more was sent."
        )
    for name in (path, f"{path}-wal", f"{path}-shm"):
        _check_owner(name)
    return found.st_dev, found.st_ino


def _check_owner(path: str) -> None:
    """Refuse a file that another user than this process's may write: he could change what was charged."""
    try:
        found = os.lstat(path)  # SQLite resolved links: one in the log's place leads to another file
    except OSError:
        return  # the log is not there yet
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}: run as its "
            "owner, or `chown` the store's files. Nothing more was sent."
        )
    if found.st_mode & 0o022:
        raise ConfigurationError(
            f"{path} has mode {found.st_mode & 0o7777:04o}, so others on this machine can change what was charged: "
            f"`chmod 600 {path}`. Nothing more was sent."
        )


_TWO_LOGS = (
    "SQLite keeps a file's log beside the name that it was opened by, so two names are two logs, and one does not see "
    "what was committed by the other"
)


@functools.lru_cache(maxsize=64)
def _is_mounted(path: str) -> bool:
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False  # another system than Linux
    return is_mount_point(path, mounts)


def is_mount_point(path: str, mounts: str) -> bool:
    """Whether something is mounted at this very path, by the text of /proc/self/mountinfo."""
    real = os.path.realpath(path)
    listed = (line.split(" ") for line in mounts.split("\n"))
    return any(unescaped(fields[4]) == real for fields in listed if len(fields) > 4)


def unescaped(path: str) -> str:
    """A path as the lists of mounts write it, in plain text."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), path)


# Sessions -------------------------------------------------------------------------------------------------------------


def session_of(given: Any) -> Session:
    """The Session that was handed to `prepare`: itself, or the current one of a scoped_session."""
    from sqlalchemy.orm import Session, scoped_session

    session = given() if isinstance(given, scoped_session) else given
    if not isinstance(session, Session):
        raise _no_session("a Session of SQLAlchemy (for AsyncClient: an AsyncSession)", given)
    return session


def async_session_of(given: Any) -> Any:
    """As session_of, for AsyncSession and async_scoped_session."""
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

    session = given() if isinstance(given, async_scoped_session) else given
    if not isinstance(session, AsyncSession):
        raise _no_session("an AsyncSession of SQLAlchemy (for Client: a Session)", given)
    return session


def _no_session(needed: str, given: object) -> InvalidInput:
    return InvalidInput(
        "session",
        f"must be {needed}, not {type(given).__name__}. Django's ORM and others have none: call `charge` after their "
        "commit. Nothing was written.",
    )


def check_session(session: Session) -> Connection:
    """The connection of the caller's session, whose engine and options have been checked; its commit will be seen."""
    if session.twophase:
        raise ConfigurationError("a two-phase session is not supported: its rows stay locked when its end is lost")
    connection = session.connection()
    check_engine(connection.engine)
    check_options(connection)
    _refuse_autocommit(connection.connection.driver_connection)
    watch(connection.engine)
    if _JOINED not in session.info:
        event.listen(session, "after_commit", _committed)
    session.info[_JOINED] = connection
    return connection


_JOINED = "charge_once_joined"  # in `Session.info`: the connection that a `prepare` was written through


def _committed(session: Session) -> None:
    """Look at a commit of the caller's; one of a savepoint, or within an outer transaction, is none yet."""
    connection = session.info.get(_JOINED)
    if connection is None or connection.closed or connection.in_transaction():
        return
    session.info[_JOINED] = None
    driver = connection.connection.driver_connection
    if in_transaction(driver) and not begins_by_itself(driver):
        raise StoreUnavailable(NOT_COMMITTED)
