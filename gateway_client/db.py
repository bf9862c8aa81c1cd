"""Engines and transactions: one function of a Session is one durable transaction, on whatever database it is.

`Database` and `AsyncDatabase` run such functions, done again when the database asks for it; what they do is `store/`.
What is particular to a database is `sqlite.py` and `postgres.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from gateway_client import postgres, schema, sqlite
from gateway_client.deadline import Deadline, guard
from gateway_client.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

_QUIET: dict[str, Any] = {"hide_parameters": True}  # keys and bodies stay out of SQLAlchemy's log and messages
TRIES_MAX = 30  # of one transaction that others stand in the way of
TRIES_LOST_MAX = 2  # of one whose connection was lost
JOIN_TRIES_MAX = 3  # in the caller's transaction: READ COMMITTED finds at the second what stood in the first's way
PAUSE_S, PAUSE_S_MAX = 0.01, 0.2  # before the second try; it grows


class Backend(Protocol):
    """What `sqlite` and `postgres` have in common: these two modules are the backends."""

    OPTIONS: Mapping[str, Any]
    ASYNC_DRIVER: str
    ISOLATION: str | None
    DEADLINE_S: float | None

    def checked(self, url: URL) -> URL: ...
    def place(self, url: URL) -> str: ...
    def same(self, ours: URL, theirs: URL) -> bool: ...
    def create_place(self, url: URL) -> None: ...
    def copy(self, connection: Connection, path: Path) -> None: ...
    def begin(self, connection: Connection, *, write: bool) -> dict[str, Any]: ...
    def join(self, connection: Connection) -> dict[str, Any]: ...
    def patient(self, connection: Connection) -> AbstractContextManager[None]: ...
    def before_commit(self, info: dict[Any, Any]) -> None: ...
    def after_commit(self, info: dict[Any, Any]) -> None: ...
    def explained(self, error: DBAPIError) -> str | None: ...
    def lacks_tables(self, error: DBAPIError) -> bool: ...
    def passes(self, error: DBAPIError) -> bool: ...


def backend_of(url: URL) -> Backend:
    """The backend of a URL. Raises ConfigurationError."""
    match url.get_backend_name():
        case "sqlite":
            return sqlite
        case "postgresql":
            return postgres
    raise ConfigurationError(
        f"{url.get_backend_name()} databases are not supported; use SQLite (sqlite:///paycli.db) or PostgreSQL"
    )


def parsed(url: str) -> URL:
    """A URL of a database that is supported, with its driver. Raises ConfigurationError, which repeats no password."""
    try:
        made = make_url(url)
    except ArgumentError:
        raise ConfigurationError("PAYCLI_DATABASE_URL is not a database URL; for example sqlite:///paycli.db") from None
    return backend_of(made).checked(made)


class _Common:
    """What the databases of both clients decide alike."""

    _engine: Any

    def __init__(self, url: URL, *, owned: bool) -> None:
        self.url, self._owned = url, owned
        self._backend = backend_of(url)
        self._inherited: list[object] = []
        if self._backend.DEADLINE_S is not None:
            guard(getattr(self._engine, "sync_engine", self._engine))

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return self._backend.place(self.url)

    def join(self, session: Session) -> None:
        """Check that the caller's own transaction is of our database and durable; take its write lock."""
        theirs = session.connection().engine.url
        if self._backend is not backend_of(theirs) or not self._backend.same(self.url, theirs):
            other = backend_of(theirs).place(theirs)
            raise ConfigurationError(f"the session is of another database ({other}) than the client's ({self.place})")
        with explained(self.url):
            session.info.update(self._backend.join(session.connection()))

    def _whole(self, work: Callable[[Session], T], write: bool) -> Callable[[Session], T]:
        def whole(session: Session) -> T:
            session.info.update(self._backend.begin(session.connection(), write=write))
            return work(session)

        return whole

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
        if isinstance(database, str):
            url = parsed(database)
            self._engine = create_engine(url, **backend_of(url).OPTIONS, **_QUIET)
        elif isinstance(database, Engine):
            self._engine = database
        else:
            raise ConfigurationError("database must be a URL or an Engine (for AsyncClient: a URL or an AsyncEngine)")
        super().__init__(self._engine.url, owned=isinstance(database, str))
        self._serial = _serial(self._engine, self._backend)

    def transact(self, work: Callable[[Session], T], *, write: bool = True, repeatable: bool = True) -> T:
        """Run `work` in one durable transaction, again if the database asks for it. Raises StoreUnavailable.

        `repeatable`: done twice it is as if it was done once, so that a commit nobody has confirmed is tried again.
        """
        whole, tries = self._whole(work, write), 0
        with explained(self.url):
            while True:
                tries, ended = tries + 1, False
                try:
                    with (
                        Deadline(self._backend.DEADLINE_S),
                        Session(self._serial, expire_on_commit=False) as session,
                    ):
                        result = whole(session)
                        if write:
                            self._backend.before_commit(session.info)
                            ended = True
                            session.commit()
                            self._backend.after_commit(session.info)
                        return result
                except DBAPIError as error:
                    pause_s = self._pause_s(error, tries, ended=ended, repeatable=repeatable)
                    if pause_s is None:
                        raise
                time.sleep(pause_s)

    def create(self) -> None:
        """Create the file (readable by its owner only) and the tables; tables of another version are refused."""
        if self._owned:
            self._backend.create_place(self.url)
        # Looked at first: the caller may hold the write lock, with an order that `prepare` is about to join.
        if not self.transact(_has_tables, write=False):
            self.transact(_upgrade)

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
        with explained(self.url), self._serial.connect() as connection:
            self._backend.copy(connection, path)
        return Database(url.render_as_string())

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.pool)  # kept: closing them would end the parent's locks and sessions
        self._engine.dispose(close=False)
        self._serial = _serial(self._engine, self._backend)

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._owned:
            self._engine.dispose()


class AsyncDatabase(_Common):
    """A database for the async client: the same functions of a Session, run through `run_sync`."""

    def __init__(self, database: str | AsyncEngine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

        if isinstance(database, str):
            url = parsed(database)
            backend = backend_of(url)
            url = url.set(drivername=backend.ASYNC_DRIVER)
            self._engine = create_async_engine(url, **backend.OPTIONS, **_QUIET)
        elif isinstance(database, AsyncEngine):
            self._engine = database
        else:
            raise ConfigurationError("database must be a URL or an AsyncEngine")
        super().__init__(self._engine.url, owned=isinstance(database, str))
        self._serial = _serial(self._engine, self._backend)

    async def transact(self, work: Callable[[Session], T], *, write: bool = True, repeatable: bool = True) -> T:
        """As Database.transact."""
        from sqlalchemy.ext.asyncio import AsyncSession

        whole, tries, cancellations = self._whole(work, write), 0, _cancellations()
        with explained(self.url):
            while True:
                tries, ended = tries + 1, False
                try:
                    with Deadline(self._backend.DEADLINE_S):
                        async with AsyncSession(self._serial, expire_on_commit=False) as session:
                            result = await session.run_sync(whole)
                            if write:
                                self._backend.before_commit(session.info)
                                ended = True
                                await session.commit()
                                self._backend.after_commit(session.info)
                            return result
                except DBAPIError as error:
                    if _cancellations() > cancellations:  # a driver may tell of a broken connection instead
                        raise asyncio.CancelledError from error
                    pause_s = self._pause_s(error, tries, ended=ended, repeatable=repeatable)
                    if pause_s is None:
                        raise
                await asyncio.sleep(pause_s)

    async def create(self) -> None:
        """As Database.create."""
        if self._owned:
            self._backend.create_place(self.url)
        if not await self.transact(_has_tables, write=False):
            await self.transact(_upgrade)

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.sync_engine.pool)
        self._engine.sync_engine.dispose(close=False)
        self._serial = _serial(self._engine, self._backend)

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


def _cancellations() -> int:
    """How often somebody has asked this task to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _serial(engine: Any, backend: Backend) -> Any:
    """The engine, with the isolation that we need; it shares the pool of the one that was given."""
    return engine if backend.ISOLATION is None else engine.execution_options(isolation_level=backend.ISOLATION)


def _has_tables(session: Session) -> bool:
    return schema.check(session.connection())


def _upgrade(session: Session) -> schema.Upgraded:
    return schema.upgrade(session.connection())


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn a database's refusal into StoreUnavailable, in words for the person who must act."""
    backend = backend_of(url)
    try:
        yield
    except DBAPIError as error:
        where = backend.place(url)
        if backend.lacks_tables(error):
            raise ConfigurationError(f"{where} has no tables of ours: run `paycli init`. Nothing was sent.") from error
        why = backend.explained(error)
        if why is None:
            raise  # a broken constraint or a wrong statement is a bug of ours: never hidden behind "unavailable"
        raise StoreUnavailable(f"the database {where} cannot be used: {why}") from error
    except PoolTimeout as error:
        raise StoreUnavailable("every database connection of this process is in use") from error
