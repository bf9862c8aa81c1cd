"""Engines and transactions: opening a database, checking that its commits are durable, saying what is wrong with it.

`Database` and `AsyncDatabase` run one function of a Session as one transaction. What such functions do is `store/`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from gateway_client.errors import ConfigurationError, StoreUnavailable
from gateway_client.tables import Base

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

LOCK_TIMEOUT_S = 5  # how long a transaction waits for another one before it gives up
SWITCH_TRIES_MAX, SWITCH_PAUSE_S = 100, 0.02  # only while a store is new
OFF, FULL = 0, 2  # PRAGMA synchronous: nothing, or every commit, is synced
_DURABLE = ("wal", FULL)
_QUIET: dict[str, Any] = {"hide_parameters": True}  # keys and bodies stay out of SQLAlchemy's log and messages


class Database:
    """A database for the sync client."""

    def __init__(self, database: str | Engine) -> None:
        if isinstance(database, str):
            self._engine = create_engine(checked_url(database), connect_args={"timeout": LOCK_TIMEOUT_S}, **_QUIET)
            self._owned = True
        elif isinstance(database, Engine):
            self._engine, self._owned = database, False
        else:
            raise ConfigurationError("database must be a URL or an Engine (for AsyncClient: a URL or an AsyncEngine)")
        self._inherited: list[object] = []

    def transact(self, work: Callable[[Session], T], *, write: bool = True) -> T:
        """Run `work` in one durable transaction. Raises StoreUnavailable; then nothing of it was kept."""
        with explained(self._engine.url.database), Session(self._engine, expire_on_commit=False) as session:
            begin(session.connection(), write=write)
            result = work(session)
            if write:
                session.commit()
            return result

    @property
    def path(self) -> str | None:
        """The database's file."""
        return self._engine.url.database

    def create(self) -> None:
        """Create the file (readable by its owner only) and the tables that are missing."""
        create_file(self._engine.url.database, owned=self._owned)
        # Looked at first: the caller may hold the write lock, with an order that `prepare` is about to join.
        if not self.transact(_has_tables, write=False):
            self.transact(_create_tables)

    def copy_to(self, path: Path) -> None:
        """Copy every committed row into a new file (readable by its owner only), while others go on writing."""
        create_file(str(path), owned=True)
        with explained(self._engine.url.database), self._engine.connect() as connection:
            ours = cast("sqlite3.Connection", connection.connection.driver_connection)
            with closing(sqlite3.connect(path)) as copy:
                try:
                    ours.backup(copy)
                except sqlite3.Error as error:
                    raise StoreUnavailable(f"the store cannot be copied to {path.parent}: {error}") from None

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.pool)  # kept: closing them would end the parent's locks and sessions
        self._engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._owned:
            self._engine.dispose()


class AsyncDatabase:
    """A database for the async client: the same functions of a Session, run through `run_sync`."""

    def __init__(self, database: str | AsyncEngine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

        if isinstance(database, str):
            url = make_url(checked_url(database)).set(drivername="sqlite+aiosqlite")
            self._engine = create_async_engine(url, connect_args={"timeout": LOCK_TIMEOUT_S}, **_QUIET)
            self._owned = True
        elif isinstance(database, AsyncEngine):
            self._engine, self._owned = database, False
        else:
            raise ConfigurationError("database must be a URL or an AsyncEngine")
        self._inherited: list[object] = []

    async def transact(self, work: Callable[[Session], T], *, write: bool = True) -> T:
        """Run `work` in one durable transaction. Raises StoreUnavailable; then nothing of it was kept."""
        from sqlalchemy.ext.asyncio import AsyncSession

        def whole(session: Session) -> T:
            begin(session.connection(), write=write)
            return work(session)

        with explained(self._engine.url.database):
            async with AsyncSession(self._engine, expire_on_commit=False) as session:
                result = await session.run_sync(whole)
                if write:
                    await session.commit()
                return result

    @property
    def path(self) -> str | None:
        """The database's file."""
        return self._engine.url.database

    async def create(self) -> None:
        """Create the file (readable by its owner only) and the tables that are missing."""
        create_file(self._engine.url.database, owned=self._owned)
        if not await self.transact(_has_tables, write=False):
            await self.transact(_create_tables)

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.sync_engine.pool)
        self._engine.sync_engine.dispose(close=False)

    async def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._owned:
            await self._engine.dispose()


def checked_url(url: str) -> str:
    """A URL of a database on disk, or ConfigurationError. Relative SQLite paths are of the current folder."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("PAYCLI_DATABASE_URL is not a database URL; for example sqlite:///paycli.db") from None
    if parsed.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"{parsed.get_backend_name()} databases are not supported yet; use SQLite: sqlite:///paycli.db"
        )
    if not parsed.database or parsed.database == ":memory:" or parsed.query.get("mode") == "memory":
        raise ConfigurationError("a database in memory forgets what was sent: use a file, sqlite:///paycli.db")
    if parsed.database.startswith("file:"):
        raise ConfigurationError(
            "PAYCLI_DATABASE_URL: name the database's file by its path, such as sqlite:////var/lib/paycli.db"
        )
    return parsed.set(drivername="sqlite").render_as_string(hide_password=False)


def database_path(url: str) -> Path:
    """The absolute path of a SQLite URL's file."""
    return Path(make_url(checked_url(url)).database or "").absolute()


def create_file(path: str | None, *, owned: bool) -> None:
    """Create a database file with mode 0600: SQLite would use the umask, and its -wal and -shm copy the file's mode."""
    if not owned or not path:
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut could take the new file's name away with its rows
        finally:
            os.close(folder)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailable(f"cannot create {Path(path).absolute()}: {error.strerror}") from None


def begin(connection: Connection, *, write: bool) -> None:
    """Start a transaction on a connection whose durability has been checked."""
    if connection.dialect.name != "sqlite":
        raise ConfigurationError("only SQLite is supported yet")
    if not write:  # changes nothing, not even the journal of a file that is not ours; all that is read is of one moment
        if not _in_transaction(connection):
            connection.exec_driver_sql("BEGIN")
        return
    if _in_transaction(connection):  # the caller's engine begins by itself
        require_durable(connection)
        return
    check_durable(connection)
    # IMMEDIATE: a transaction that begins by reading could not be sure to become a writer later.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _in_transaction(connection: Connection) -> bool:
    return bool(getattr(connection.connection.driver_connection, "in_transaction", False))


def begin_joined(session: Session, path: str | None) -> None:
    """Check that the caller's own transaction is of our database and durable; take its write lock."""
    connection = session.connection()
    theirs = connection.engine.url.database
    if not path or not theirs or Path(theirs).absolute() != Path(path).absolute():
        raise ConfigurationError(f"the session is of another database ({theirs}) than the client's ({path})")
    with explained(path):
        require_durable(connection)  # inside a transaction the settings can be read, not changed
        if not _in_transaction(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def check_durable(connection: Connection) -> None:
    """Set what makes a commit durable, and read it back: unread, a PRAGMA hides its error."""
    found = _durability(connection)
    if found[1] == OFF:  # what was written before may not have reached the disk, the head of the file for one
        require_durable(connection)
    if found != _DURABLE:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_S * 1000}")
        _switch_to_wal(connection)
        connection.exec_driver_sql("PRAGMA synchronous = FULL")
        # macOS: plain fsync stops short of the disk; no effect elsewhere
        connection.exec_driver_sql("PRAGMA fullfsync = 1")
        connection.exec_driver_sql("PRAGMA checkpoint_fullfsync = 1")
        require_durable(connection)


def _switch_to_wal(connection: Connection) -> None:
    """SQLite does not wait for other readers here, whatever its busy_timeout; a new store may have several."""
    for tries in range(SWITCH_TRIES_MAX):
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar()
        except OperationalError:
            if tries == SWITCH_TRIES_MAX - 1:
                raise
            time.sleep(SWITCH_PAUSE_S)
        else:
            return


def require_durable(connection: Connection) -> None:
    """Raise StoreUnavailable when a commit of this connection could be lost by a power cut."""
    journal, synchronous = _durability(connection)
    if journal != "wal" or not isinstance(synchronous, int) or synchronous < FULL:
        raise StoreUnavailable(
            f"the database is not durable: journal_mode={journal} and synchronous={synchronous}, needed are wal and "
            f"{FULL} (FULL). A file on a local disk has them"
        )


def _durability(connection: Connection) -> tuple[object, object]:
    journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    return journal, connection.exec_driver_sql("PRAGMA synchronous").scalar()


def has_tables(connection: Connection) -> bool:
    """True when the store's tables are there."""
    return set(inspect(connection).get_table_names()) >= set(Base.metadata.tables)


def _has_tables(session: Session) -> bool:
    return has_tables(session.connection())


def _create_tables(session: Session) -> None:
    Base.metadata.create_all(session.connection())


_EXPLANATIONS = {
    "SQLITE_BUSY": f"it stayed locked for {LOCK_TIMEOUT_S} s: another transaction is open on it, perhaps one with a "
    "`prepare` that is not committed yet",
    "SQLITE_LOCKED": "it is locked by another connection of this process",
    "SQLITE_READONLY": "it is read-only",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_CORRUPT": "its file is damaged: restore it from a backup, then reconcile before you charge",
    "SQLITE_NOTADB": "its file is not a SQLite database",
    "SQLITE_CANTOPEN": "its file cannot be opened (a read-only disk, or no right to its folder?)",
    "SQLITE_IOERR": "the disk reported an error (is it full?)",
    "SQLITE_PERM": "this user may not use it",
    "SQLITE_NOLFS": "the disk cannot hold it",
}


@contextmanager
def explained(path: str | None) -> Iterator[None]:
    """Turn a database's refusal into StoreUnavailable, in words for the person who must act."""
    try:
        yield
    except DBAPIError as error:
        name = getattr(error.orig, "sqlite_errorname", "") or _name_of(error.orig)
        known = next((why for code, why in _EXPLANATIONS.items() if name.startswith(code)), None)
        where = Path(path).absolute() if path else "the database"
        if known is None and "no such table" in str(error.orig):
            raise ConfigurationError(f"{where} has no tables of ours: run `paycli init`. Nothing was sent.") from error
        if known is None and not isinstance(error.orig, sqlite3.OperationalError):
            raise  # a broken constraint or a wrong statement is a bug of ours: never hidden behind "unavailable"
        raise StoreUnavailable(f"the database {where} cannot be used: {known or error.orig}") from error
    except PoolTimeout as error:
        raise StoreUnavailable("every database connection of this process is in use") from error


def _name_of(error: BaseException | None) -> str:
    cause = getattr(error, "__cause__", None)
    return getattr(cause, "sqlite_errorname", "") or ""
