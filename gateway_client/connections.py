"""Who has which connection of an engine, and whether it is in a transaction: a commit is believed when it was seen.

For `db.py` and `intake.py`; which engines and connections are refused is said there.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, Pool, event

from gateway_client.errors import ConfigurationError, StoreUnavailable


@dataclass
class _Use:
    """A driver's connection that is in use: by how many, and whether by two at once since it was free."""

    users: int = 0
    shared: bool = False


class _Uses:
    """Every connection in use that this process knows of, by its number: a child of a fork has none of its parent's."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = threading.Lock()
        self.of: dict[int, _Use] = {}


_uses = _Uses()
os.register_at_fork(after_in_child=_uses.forget)
_ours: ContextVar[bool] = ContextVar("charge_once_ours", default=False)
_USE = "charge_once_use"  # in the pool's record of a connection
_watched: WeakSet[Pool] = WeakSet()  # SQLAlchemy's `event.contains` takes a new object for a dead one at its address


def watch(engine: Engine) -> None:
    """Note who uses the connections of an engine; those that are closed amid a transaction are rolled back first."""
    if engine.pool not in _watched:
        _watched.add(engine.pool)
        event.listen(engine.pool, "checkout", _taken, insert=True)  # before a listener of the caller's begins
        for name in ("checkin", "detach"):
            event.listen(engine.pool, name, _given_back)
        event.listen(engine.pool, "close", _roll_back)


@contextmanager
def ours() -> Iterator[None]:
    """Within it, a connection that is somebody else's at the same time is refused, and closed, when the pool gives it.

    Closed, because whoever has it must hear of it: a rollback would undo what it wrote, in silence.
    """
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def _taken(_: object, record: Any, *of_the_pool: object) -> None:
    driver = record.driver_connection
    number = id(driver)
    if record.record_info.get(_USE) == number:
        return  # a pool that was made anew has its listeners twice
    record.record_info[_USE] = number
    with _uses.lock:
        use = _uses.of.setdefault(number, _Use())
        use.users += 1
        use.shared = use.shared or use.users > 1
    if not _ours.get():
        return
    if use.shared:
        raise ConfigurationError(_SHARED)
    if in_transaction(driver) and not begins_by_itself(driver):
        raise StoreUnavailable(AMID)


def _given_back(_: object, record: Any) -> None:
    number = record.record_info.pop(_USE, None)
    with _uses.lock:
        use = _uses.of.get(number)
        if use is not None:
            use.users -= 1
            if use.users == 0:
                del _uses.of[number]


def _roll_back(connection: Any, record: Any) -> None:
    """SQLite keeps a closed connection's lock for as long as a statement of it lives, in a traceback for one."""
    with suppress(Exception):  # it may be closed, or nobody may wait for it any more: then it is dropped as it is
        if hasattr(record.driver_connection, "in_transaction") and record.driver_connection.in_transaction:
            connection.rollback()


_SHARED = (
    "the engine handed one connection to two users at once, so that one would commit or undo what the other writes: "
    "its `creator` must make a connection for each call. Nothing more was sent."
)
AMID = "its connection came amid somebody else's transaction (a pool, or a pooler, hands on what was not ended)"


_NONE_LEFT = 4  # psycopg's status of a connection that is closed; 0 is idle, and between them are those of transactions


def in_transaction(driver: Any) -> bool:
    """Whether a driver's connection is in a transaction, as the driver itself has it from the database."""
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    if status is not None:
        return 0 < int(status) < _NONE_LEFT
    try:
        told = getattr(driver, "in_transaction", None)
    except ValueError:
        return False  # aiosqlite's words for a connection that is closed
    if told is None:
        raise ConfigurationError(
            f"a {type(driver).__name__} does not tell whether it is in a transaction: use a connection of the driver's "
            "own. Nothing more was sent."
        )
    return bool(told)


def sqlite3_of(driver: Any) -> Any:
    """The connection of `sqlite3` behind aiosqlite's, which does not show all of its settings; None: it is closed."""
    try:
        return getattr(driver, "_conn", driver)
    except ValueError:
        return None


def autocommit_of(driver: Any) -> object:
    """A driver's `autocommit`; None when it has none, or tells only the thread that opened the connection.

    Then it is found all the same: by how a connection comes, and by how its commit ends.
    """
    try:
        return getattr(sqlite3_of(driver), "autocommit", None)
    except sqlite3.ProgrammingError:  # Python 3.12, of aiosqlite's thread
        return None


def begins_by_itself(driver: Any) -> bool:
    """sqlite3's `autocommit=False` (Python 3.12): the driver begins the next transaction in the commit of the last."""
    return hasattr(sqlite3_of(driver), "in_transaction") and autocommit_of(driver) is False


class Taken:
    """A connection that one transaction of ours has for itself; its commit is believed when it was seen."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver = connection.connection.driver_connection
        self._use = _uses.of.get(id(self._driver))

    def check_alone(self) -> None:
        """Refuse it, and close it, when somebody else has had it since."""
        if self._use is not None and self._use.shared:
            self._close()
            raise ConfigurationError(_SHARED)

    def commit(self, connection: Connection) -> None:
        """Commit the transaction that we began: before it the connection must be in one, after it in none."""
        self.check_alone()
        if not in_transaction(self._driver):
            raise StoreUnavailable(
                "its transaction was ended before its commit: an engine, or a listener of it, that commits by itself"
            )
        if begins_by_itself(self._driver):  # its commit() would begin the next one: so the end is seen here
            self._connection.exec_driver_sql("COMMIT")
            self._check_ended()
            self._connection.exec_driver_sql("BEGIN")
            connection.commit()
        else:
            connection.commit()
            self._check_ended()
        self.check_alone()  # who had it meanwhile has ended our transaction, or his end was ours

    def _check_ended(self) -> None:
        if in_transaction(self._driver):
            self._close()
            raise StoreUnavailable(NOT_COMMITTED)

    def _close(self) -> None:
        """Close it at once: nothing is rolled back on a connection that may be another's."""
        if not self._connection.closed and not self._connection.invalidated:
            self._connection.invalidate()


NOT_COMMITTED = "a commit did not end its transaction, so nothing was committed (what does its connection do then?)"
