"""SQLite as a store: a file of its owner alone, whose commits are synced. What is refused of it, and in which words."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from gateway_client import intake
from gateway_client.connections import in_transaction
from gateway_client.database_url import wrong
from gateway_client.errors import ConfigurationError, StoreUnavailable
from gateway_client.transaction import Opened

LOCK_TIMEOUT_S = 5  # how long a transaction waits for another one before it gives up
TURN_MS = 2  # how long it waits at once
SWITCH_TRIES_MAX, SWITCH_PAUSE_S = 100, 0.02  # only while a store is new
VERSION_MIN = (3, 33)  # the first with UPDATE ... FROM
OFF, FULL = 0, 2  # PRAGMA synchronous: nothing, or every commit, is synced
_DURABLE = ("wal", FULL)

Files = tuple[tuple[int, int] | None, ...]

OPTIONS: Mapping[str, Any] = {"connect_args": {"timeout": LOCK_TIMEOUT_S}}
ASYNC_DRIVER = "sqlite+aiosqlite"
ISOLATION: str | None = None  # a file has one writer at a time
ISOLATION_READING: str | None = None
DEADLINE_S: float | None = None  # nobody is waited for but the disk


def checked(url: URL) -> URL:
    """A URL of a file on disk, or ConfigurationError. Relative paths are of the current folder."""
    if url.drivername not in ("sqlite", "sqlite+pysqlite", ASYNC_DRIVER):
        raise wrong("names another driver: use Python's own, as in sqlite:///paycli.db")
    if not url.database or url.database == ":memory:" or url.query.get("mode") == "memory":
        raise wrong("is of a database in memory, which forgets what was sent: use a file, sqlite:///paycli.db")
    if url.database.startswith("file:"):
        raise wrong("must name the database's file by its path, such as sqlite:////var/lib/paycli.db")
    if url.query:
        raise wrong(f"has a parameter that a file cannot have: {min(url.query)}")
    _check_path(url.database)
    return url.set(drivername="sqlite")


def _check_path(path: str) -> None:
    """Refuse what is there and no file. A missing one is for whoever opens it to say."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.endswith("/"):
            raise wrong("names a folder: name a file in it, sqlite:///folder/paycli.db") from None
        return
    except OSError as error:
        raise wrong(f"names {Path(path).absolute()}, which cannot be looked at: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise wrong(f"names {Path(path).absolute()}, which is a folder or a device: name a file, sqlite:///paycli.db")


def place(url: URL) -> str:
    """Where the store is, for people."""
    return str(Path(url.database).absolute()) if url.database else "the database"


def same(ours: URL, theirs: URL) -> bool:
    """Whether two URLs may be of one database: by its identity a file tells, which may have links."""
    return True


def create_place(url: URL) -> None:
    """Create the file with mode 0600: SQLite would use the umask, and its -wal and -shm copy the file's mode."""
    path = url.database
    if not path:
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o600))
        folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut could take the new file's name away with its rows
        finally:
            os.close(folder)
    except FileExistsError:
        if not Path(path).exists():  # SQLite would make what the link names, by the umask
            raise ConfigurationError(
                f"{Path(path).absolute()} is a symbolic link to a file that is not there: nothing is created through a "
                "link. Remove it, or name the file itself. Nothing was sent."
            ) from None
    except OSError as error:
        raise StoreUnavailable(f"cannot create {Path(path).absolute()}: {error.strerror}") from None


def watch(engine: Engine) -> None:
    """Refuse a library that lacks what `row_writes.py` needs; a connection is checked in each transaction."""
    if sqlite3.sqlite_version_info < VERSION_MIN:
        raise ConfigurationError(
            f"this Python has SQLite {sqlite3.sqlite_version}, needed is {VERSION_MIN[0]}.{VERSION_MIN[1]} or newer "
            "(of 2020): use another Python, or PostgreSQL. Nothing was written or sent."
        )


def copy(connection: Connection, path: Path) -> None:
    """Copy every committed row into a new file, while others go on writing."""
    ours = cast("sqlite3.Connection", connection.connection.driver_connection)
    with closing(sqlite3.connect(path)) as made:
        try:
            ours.backup(made)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store cannot be copied to {path.parent}: {error}") from None


def begin(connection: Connection, *, write: bool, owned: bool, patient: bool, lock: str | None) -> Opened:
    """Start a transaction on a connection whose file and durability have been checked.

    `owned`: nobody but us has had the connection, so what was set and read back once is so.
    """
    known = connection.info.get(CHECKED) if owned else None
    found = intake.sqlite_identity(connection) if known is None else intake.check_file(known)
    if not write:  # changes nothing, not even the journal of a file that is not ours; all that is read is of one moment
        if not _in_transaction(connection):
            connection.exec_driver_sql("BEGIN")
        return Opened(identity=found)
    if _in_transaction(connection):  # the caller's engine begins by itself
        require_durable(connection)
    else:
        if known is None:
            check_durable(connection)
        # IMMEDIATE: a transaction that begins by reading could not be sure to become a writer later.
        if owned:
            _take_turn(connection)
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    files = _check_files(connection)
    if owned:
        connection.info[CHECKED] = files[0]
    return Opened(identity=found, files=files)


def _take_turn(connection: Connection) -> None:
    """Take the write lock, asked for every other millisecond.

    SQLite by itself asks ever more seldom, in the end ten times a second: beside a process that commits all the time
    the lock is free for a moment only, and would be found so by luck.
    """
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    turns = max(1, int(LOCK_TIMEOUT_S * 1000 / TURN_MS))
    driver.execute(f"PRAGMA busy_timeout = {TURN_MS}")
    try:
        for turn in range(1, turns + 1):
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if turn == turns or not _is_busy(error):
                    raise
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT_S * 1000)}")


def _is_busy(error: OperationalError) -> bool:
    """Whether another connection has the file: it writes, or recovers what a process that died has left behind."""
    return str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY")


def try_lock(connection: Connection, intent_ids: Sequence[str]) -> Sequence[str]:
    """Lock those intents that nobody else has: a file has one writer at a time, so all of them."""
    return intent_ids


def lock(connection: Connection, *intent_ids: str) -> None:
    """A file has one writer at a time."""


# In the info of a connection: of ours, the path of its file, once durability was read back; its file, and what is open.
CHECKED, FILES = "charge_once_checked", "charge_once_files"


def _check_files(connection: Connection) -> tuple[str, Files]:
    """Compare the file and its log with those that this connection has open, in a transaction; what it has open."""
    path, seen = connection.info.get(FILES) or (_path(connection), None)
    if seen is None:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # one of the caller's may be idle yet
    found = _files(path)
    if seen is None:  # its first transaction has opened the log by now
        connection.info[FILES] = path, found
    elif found != seen:
        raise _other_files(path, "Nothing more was sent.")
    return path, found


def _path(connection: Connection) -> str:
    """The file's path, as SQLite has resolved it."""
    files = {name: str(file) for _, name, file in connection.exec_driver_sql("PRAGMA database_list")}
    return files["main"]


def _files(path: str) -> Files:
    """Device and inode of the file and of its log; None: it is gone."""
    found: list[tuple[int, int] | None] = []
    for name in (path, f"{path}-wal"):
        try:
            stat = os.stat(name)
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_dev, stat.st_ino))
    return tuple(found)


def _other_files(path: str, then: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{path} or its log {path}-wal is another one than this process has open: a backup was put back, the log was "
        "removed, or this process copied or opened the file by itself, which drops SQLite's locks. What was committed "
        "since then may be lost",
        f"{then} Stop and restart what uses it, then reconcile every day since then. Copy a store with VACUUM INTO, "
        "from another process.",
    )


def _in_transaction(connection: Connection) -> bool:
    return in_transaction(connection.connection.driver_connection)


def identity(connection: Connection) -> object:
    """Which file the caller's own transaction is of, and no other."""
    return intake.sqlite_identity(connection, alone=True)


def join(connection: Connection) -> Opened:
    """Check that the caller's own transaction is durable; take its write lock."""
    require_durable(connection)  # inside a transaction the settings can be read, not changed
    if not _in_transaction(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    return Opened(files=_check_files(connection))


def patient(connection: Connection) -> AbstractContextManager[None]:
    """How long the caller's transaction waits was said when it began."""
    return nullcontext()


def before_commit(opened: Opened) -> None:
    """Nothing is said about a commit."""


def after_commit(opened: Opened) -> None:
    """Make sure that the commit is in the file and log that the next process will open."""
    assert opened.files is not None, "a transaction that writes has looked at its files"
    path, seen = opened.files
    if _files(path) != seen:
        raise _other_files(path, "The commit is perhaps in none of them, and nothing more was sent.")


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


def explained(error: DBAPIError) -> str | None:
    """Why the database refuses, in words for the person who must act; None for a bug of ours."""
    if error.connection_invalidated:
        return "its connection was closed by somebody else"
    name = getattr(error.orig, "sqlite_errorname", "") or _name_of(error.orig)
    known = next((why for code, why in _EXPLANATIONS.items() if name.startswith(code)), None)
    return known or (str(error.orig) if isinstance(error.orig, sqlite3.OperationalError) else None)


def lacks_tables(error: DBAPIError) -> bool:
    """Whether what is missing is our tables."""
    return "no such table" in str(error.orig)


def wrong_setting(error: DBAPIError) -> str | None:
    """What of its URL the database refuses: nothing, all of it was read before."""
    return None


def passes(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is done again: SQLite has waited by itself."""
    return False


def waits(error: DBAPIError) -> bool:
    """Whether another transaction's lock was not waited for as long as it may be."""
    return False


def _name_of(error: BaseException | None) -> str:
    cause = getattr(error, "__cause__", None)
    return getattr(cause, "sqlite_errorname", "") or ""
