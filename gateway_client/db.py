"""Engines and transactions: one function of a Session is one durable transaction, on whatever database it is.

`Database` and `AsyncDatabase` run such functions, done again when the database asks for it; what they do is `store/`.
What is particular to a database is `sqlite.py` and `postgres.py`; what a caller hands in is checked in `intake.py`.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Engine, NullPool, Pool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from gateway_client import connections, intake, schema, sqlite
from gateway_client.actor import ACTOR, DATABASE_USER, actor
from gateway_client.backends import backend_of, engine_options, explained, parsed
from gateway_client.deadline import Deadline, guard
from gateway_client.errors import ConfigurationError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

_loops: WeakKeyDictionary[Pool, asyncio.AbstractEventLoop] = WeakKeyDictionary()  # in which each was used first
_first_use = threading.Lock()

TRIES_MAX = 30  # of one transaction that others stand in the way of
TRIES_LOST_MAX = 2  # of one whose connection was lost
JOIN_TRIES_MAX = 3  # in the caller's transaction: READ COMMITTED finds at the second what stood in the first's way
PAUSE_S, PAUSE_S_MAX = 0.01, 0.2  # before the second try; it grows


@dataclass
class _Fate:
    """How far one try of a transaction came."""

    committing: bool = False


class _Common:
    """What the databases of both clients decide alike."""

    _engine: Any

    def __init__(self, url: URL, *, owned: bool) -> None:
        self.url, self._owned = url, owned
        self._backend = backend_of(url)
        # Set on each connection once we have it: cancelled amid that, a connection of an engine's option is nobody's.
        isolation = self._backend.ISOLATION
        self._options: dict[str, Any] = {} if isolation is None else {"isolation_level": isolation}
        self._inherited: list[object] = []
        self._identity: object = None  # which file, or which tables, since they were opened
        engine = getattr(self._engine, "sync_engine", self._engine)
        intake.check_engine(engine)
        connections.watch(engine)
        if self._backend.DEADLINE_S is not None:
            guard(engine)
        self._backend.watch(engine)
        actor()  # our name is asked for now, before any transaction: the list of names may be slow

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return self._backend.place(self.url)

    def join(self, session: Session) -> None:
        """Check that the caller's own transaction is of our tables and durable; take its write lock."""
        connection = intake.check_session(session)
        theirs = connection.engine.url
        if self._backend is not backend_of(theirs) or not self._backend.same(self.url, theirs):
            raise intake.other_database(backend_of(theirs).place(theirs), self.place)
        with explained(self.url):
            self._check_identity(self._backend.identity(connection), theirs)
            session.info.update(_named(self._backend.join(connection)))
        intake.check_begun(connection)

    def _whole(self, work: Callable[[Session], T], write: bool, fate: _Fate) -> Callable[[Session], T]:
        """One try of a transaction, from its first statement to its commit, for both kinds of driver."""

        def whole(session: Session) -> T:
            connection = session.connection()
            taken = connections.Taken(connection)
            try:
                intake.check_options(connection)
                found = self._backend.begin(connection, write=write)
                session.info.update(_named(found) if write else found)
                self._check_identity(session.info[intake.IDENTITY], connection.engine.url)
                result = work(session)
                if write:
                    self._backend.before_commit(session.info)
                    fate.committing = True
                    taken.commit(session)
                    self._backend.after_commit(session.info)
            except DBAPIError:
                taken.check_alone()
                raise
            return result

        return whole

    def _check_identity(self, found: object, url: URL) -> None:
        """Refuse other tables than those that were opened."""
        if self._identity not in (None, found):
            raise intake.other_database(self._backend.place(url), self.place)

    def _pause_s(self, error: DBAPIError, tries: int, *, ended: bool, repeatable: bool) -> float | None:
        """How long to wait before a transaction is done again; None: it is not.

        `ended`: its commit was on its way, so it may be done. What is repeatable then reads by its keys what is there.
        """
        if self._backend.passes(error):
            return min(PAUSE_S * tries, PAUSE_S_MAX) * random.uniform(0.5, 1.5) if tries < TRIES_MAX else None  # noqa: S311
        if error.connection_invalidated and (repeatable or not ended) and tries <= TRIES_LOST_MAX:
            return PAUSE_S
        return None


class Database(_Common):
    """A database for the sync client."""

    def __init__(self, database: str | Engine) -> None:
        owned = isinstance(database, str)
        if isinstance(database, str):
            try:
                url = parsed(database)
            finally:
                del database  # a crash reporter sends local variables
            self._engine = create_engine(url, **engine_options(url))
        elif isinstance(database, Engine):
            self._engine = database
        else:
            raise ConfigurationError("database must be a URL or an Engine (for AsyncClient: a URL or an AsyncEngine)")
        super().__init__(self._engine.url, owned=owned)

    def transact(self, work: Callable[[Session], T], *, write: bool = True, repeatable: bool = True) -> T:
        """Run `work` in one durable transaction, again if the database asks for it. Raises StoreUnavailable.

        `repeatable`: done twice it is as if it was done once, so that a commit nobody has confirmed is tried again.
        """
        tries = 0
        with explained(self.url):
            while True:
                tries, fate = tries + 1, _Fate()
                try:
                    with (
                        Deadline(self._backend.DEADLINE_S),
                        connections.ours(),
                        self._engine.connect() as connection,
                        Session(connection.execution_options(**self._options), expire_on_commit=False) as session,
                    ):
                        return self._whole(work, write, fate)(session)
                except DBAPIError as error:
                    pause_s = self._pause_s(error, tries, ended=fate.committing, repeatable=repeatable)
                    if pause_s is None:
                        raise
                time.sleep(pause_s)

    def create(self) -> None:
        """Create the file (readable by its owner only) and the tables; tables of another version are refused."""
        if self._owned:
            self._backend.create_place(self.url)
        # Looked at first: the caller may hold the write lock, with an order that `prepare` is about to join.
        found = self.transact(_identity, write=False)
        if found is None:
            self.transact(_upgrade)
            found = self.transact(_identity, write=False)
        self._identity = found

    def upgrade(self) -> schema.Upgraded:
        """Create the file and the tables, or bring the tables of an older program to this one's version."""
        if self._owned:
            self._backend.create_place(self.url)
        found = self.transact(lambda session: schema.version_of(session.connection()), write=False)
        return self.transact(_upgrade, write=found != schema.VERSIONS[-1])

    def copy_to(self, path: Path) -> Database:
        """Copy every committed row into a new file (readable by its owner only), while others go on writing."""
        url = URL.create("sqlite", database=str(path))
        sqlite.create_place(url)
        with explained(self.url), self._engine.connect() as connection:
            self._backend.copy(connection.execution_options(**self._options), path)
        return Database(url.render_as_string())

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.pool)  # kept: closing them would end the parent's locks and sessions
        self._engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._owned:
            self._engine.dispose()


class AsyncDatabase(_Common):
    """A database for the async client: the same functions of a Session, run through `run_sync`."""

    def __init__(self, database: str | AsyncEngine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

        owned = isinstance(database, str)
        if isinstance(database, str):
            try:
                url = parsed(database)
            finally:
                del database
            url = url.set(drivername=backend_of(url).ASYNC_DRIVER)
            self._engine = create_async_engine(url, **engine_options(url))
        elif isinstance(database, AsyncEngine):
            self._engine = database
        else:
            raise ConfigurationError("database must be a URL or an AsyncEngine")
        super().__init__(self._engine.url, owned=owned)

    def check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse a caller's engine whose connections belong to another event loop, by another client's first call."""
        pool = self._engine.pool
        if self._owned or isinstance(pool, NullPool):  # that one keeps no connection: each is opened where it is used
            return
        with _first_use:
            first = _loops.setdefault(pool, loop)
        if first is not loop:
            raise UsageError(
                "this AsyncEngine belongs to another event loop, that of the first call of another AsyncClient: make "
                "one engine for each loop, or one with poolclass=NullPool; or await its dispose() where the other loop "
                "ends. Nothing was written or sent."
            )

    async def transact(self, work: Callable[[Session], T], *, write: bool = True, repeatable: bool = True) -> T:
        """As Database.transact. When the task is cancelled, it ends once the transaction has: no lock is left behind.

        So the transaction is a task of its own, which is cancelled once: cancelled again, it could not end in order.
        """
        task = asyncio.create_task(self._transact(work, write, repeatable))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelling():  # at its end a loop cancels all of its tasks, this one, too
                task.cancel()
            await _ended(task)
            raise
        finally:
            del task  # with its own exception, and all that hangs on that

    async def _transact(self, work: Callable[[Session], T], write: bool, repeatable: bool) -> T:
        from sqlalchemy.ext.asyncio import AsyncSession

        tries = 0
        with explained(self.url):
            while True:
                tries, fate = tries + 1, _Fate()
                try:
                    with Deadline(self._backend.DEADLINE_S), connections.ours():
                        async with self._engine.connect() as connection:
                            await connection.execution_options(**self._options)
                            async with AsyncSession(connection, expire_on_commit=False) as session:
                                return await session.run_sync(self._whole(work, write, fate))
                except DBAPIError as error:
                    if _is_cancelled():  # a driver may tell of a broken connection instead
                        raise asyncio.CancelledError from error
                    pause_s = self._pause_s(error, tries, ended=fate.committing, repeatable=repeatable)
                    if pause_s is None:
                        raise
                await asyncio.sleep(pause_s)

    async def create(self) -> None:
        """As Database.create."""
        if self._owned:
            self._backend.create_place(self.url)
        found = await self.transact(_identity, write=False)
        if found is None:
            await self.transact(_upgrade)
            found = await self.transact(_identity, write=False)
        self._identity = found

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.sync_engine.pool)
        self._engine.sync_engine.dispose(close=False)

    async def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._owned:
            await self._engine.dispose()


def joined(session: Session, work: Callable[[Session], T]) -> T:
    """Do `work` in the caller's own transaction, which can go on when it fails: all of it is undone to a savepoint."""
    connection = session.connection()
    backend = backend_of(connection.engine.url)
    with explained(connection.engine.url):
        for tries in range(1, JOIN_TRIES_MAX + 1):
            try:
                with connection.begin_nested(), backend.patient(connection):
                    return work(session)
            except DBAPIError as error:
                if not backend.passes(error):
                    raise
                if tries == JOIN_TRIES_MAX:
                    raise StoreUnavailable(
                        "another transaction wrote the same rows at the same moment",
                        "Nothing was sent: roll this one back and do it again.",
                    ) from error
    raise AssertionError("unreachable")


def _is_cancelled() -> bool:
    """Whether somebody has asked this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a task, whoever asks us to end meanwhile: its deadlines and timeouts bound it."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # told to nobody: whoever waited was cancelled


def _named(info: dict[str, Any]) -> dict[str, Any]:
    """Add who does it to what a transaction knows."""
    return {**info, ACTOR: actor(info.get(DATABASE_USER))}


def _identity(session: Session) -> object:
    """Which tables are ours; None when there are none."""
    return session.info[intake.IDENTITY] if schema.check(session.connection()) else None


def _upgrade(session: Session) -> schema.Upgraded:
    return schema.upgrade(session.connection())
