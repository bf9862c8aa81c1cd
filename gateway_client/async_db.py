"""The transactions of the async client: whole ones in a thread, or on the AsyncEngine that the caller has handed in.

`ThreadedDatabase` is a Database whose groups a thread of its own commits: one hop for a whole transaction, not one for
each statement. `AsyncEngineDatabase` runs the same functions of a Transaction through SQLAlchemy's greenlets.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy import NullPool, Pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from gateway_client import connections
from gateway_client.backends import explained
from gateway_client.db import Common, Database, Ended, tables_found, upgrade_tables
from gateway_client.deadline import Deadline
from gateway_client.errors import ConfigurationError, UsageError
from gateway_client.group_commit import Job, Waiting, led
from gateway_client.transaction import Ahead, Opened, Transaction, machine_time

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
Work = Callable[[Transaction], T]

_loops: WeakKeyDictionary[Pool, asyncio.AbstractEventLoop] = WeakKeyDictionary()  # in which each was used first
_first_use = threading.Lock()

THREADS_MAX = 8  # one leads the groups; the others read, and wait for what stands in the way of a single work


class AsyncDatabase(Protocol):
    """A database for the async client."""

    @property
    def place(self) -> str: ...
    async def transact(
        self,
        work: Work[T],
        *,
        time: Callable[[], datetime] = machine_time,
        write: bool = True,
        repeatable: bool = True,
        intent_id: str | None = None,
        ahead: Ahead | None = None,
    ) -> T: ...
    async def create(self) -> None: ...
    def check_loop(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def join(self, session: Session) -> Opened: ...
    def copy_to(self, path: Path) -> Database: ...
    def after_fork(self) -> None: ...
    async def close(self) -> None: ...


def async_database(database: str | AsyncEngine) -> AsyncDatabase:
    """Open the database of an AsyncClient. Raises ConfigurationError."""
    from sqlalchemy.ext.asyncio import AsyncEngine

    try:
        if isinstance(database, str):
            return ThreadedDatabase(database)
        if isinstance(database, AsyncEngine):
            return AsyncEngineDatabase(database)
        raise ConfigurationError("database must be a URL or an AsyncEngine")
    finally:
        del database  # a crash reporter sends local variables


class ThreadedDatabase:
    """The database of a URL, whose transactions are done whole by threads."""

    def __init__(self, database: str) -> None:
        try:
            self._database = Database(database)
        finally:
            del database
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS_MAX, "charge-once database")
        self._lock = threading.Lock()
        self._leading = False

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return self._database.place

    def check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Threads belong to no loop."""

    def join(self, session: Session) -> Opened:
        """As Database.join."""
        return self._database.join(session)

    async def transact(
        self,
        work: Work[T],
        *,
        time: Callable[[], datetime] = machine_time,
        write: bool = True,
        repeatable: bool = True,
        intent_id: str | None = None,
        ahead: Ahead | None = None,
    ) -> T:
        """As Database.transact. A task that is cancelled ends once its transaction has: no lock is left behind."""
        if not write:
            return await self._in_thread(lambda: self._database.transact(work, time=time, write=False))
        committed = asyncio.get_running_loop().create_future()
        job: _Awaited[T] = _Awaited(work, repeatable, intent_id, time, ahead, committed=committed)
        self._database.group.waiting.add(job)
        self._lead()
        try:
            await asyncio.shield(job.committed)
        except asyncio.CancelledError:
            if not self._database.group.waiting.withdraw(job):
                await _ended(job.committed)
            raise
        with explained(self._database.url):
            if not job.alone:
                return job.result()
        return await self._in_thread(lambda: self._alone(job))

    def _alone(self, job: Job[T]) -> T:
        with explained(self._database.url):
            return self._database.alone(job)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """What a call in a thread returns. When the task is cancelled, it ends once the call has."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await _ended(future)
            raise

    def _lead(self) -> None:
        """Have a thread commit what waits, unless one is about to."""
        with self._lock:
            if self._leading:
                return
            self._leading = True
        self._threads.submit(self._commit_groups)

    def _commit_groups(self) -> None:
        while True:
            with self._lock:
                if not self._database.group.waiting:
                    self._leading = False
                    return
            with suppress(BaseException):  # its jobs were told of it, and the next ones wait for this thread
                self._database.group.lead(_tell)

    def copy_to(self, path: Path) -> Database:
        """As Database.copy_to."""
        return self._database.copy_to(path)

    async def create(self) -> None:
        """As Database.create."""
        await self._in_thread(self._database.create)

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections and threads, and open our own."""
        self._database.after_fork()
        self._begin_anew()

    async def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False)
        self._database.close()


class _Awaited(Job[T]):
    """A job that a task of a loop waits for."""

    def __init__(self, *job: Any, committed: asyncio.Future[None]) -> None:
        super().__init__(*job)
        self.committed = committed


def _tell(jobs: Sequence[_Awaited[Any]]) -> None:
    """Wake the tasks whose jobs have ended: all that wait in one loop at once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for job in jobs:
        by_loop.setdefault(job.committed.get_loop(), []).append(job.committed)
    for loop, futures in by_loop.items():
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_wake, futures)


def _wake(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class AsyncEngineDatabase(Common):
    """The database of an AsyncEngine of the caller's, with its driver, its pool and its listeners."""

    def __init__(self, database: AsyncEngine) -> None:
        self._engine = database
        super().__init__(self._engine.url, owned=False)
        self._waiting, self._writer = Waiting(), asyncio.Lock()

    def check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse an engine whose connections belong to another event loop, by another client's first call."""
        pool = self._engine.pool
        if isinstance(pool, NullPool):  # that one keeps no connection: each is opened where it is used
            return
        with _first_use:
            first = _loops.setdefault(pool, loop)
        if first is not loop:
            raise UsageError(
                "this AsyncEngine belongs to another event loop, that of the first call of another AsyncClient: make "
                "one engine for each loop, or one with poolclass=NullPool; or await its dispose() where the other loop "
                "ends. Nothing was written or sent."
            )

    async def transact(
        self,
        work: Work[T],
        *,
        time: Callable[[], datetime] = machine_time,
        write: bool = True,
        repeatable: bool = True,
        intent_id: str | None = None,
        ahead: Ahead | None = None,
    ) -> T:
        """As Database.transact. When the task is cancelled, it ends once the transaction has: no lock is left behind.

        So the transaction is a task of its own, which is cancelled once: cancelled again, it could not end in order.
        """
        task = asyncio.create_task(self._transact(Job(work, repeatable, intent_id, time, ahead), write=write))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelling():  # at its end a loop cancels all of its tasks, this one, too
                task.cancel()
            await _ended(task)
            raise
        finally:
            del task  # with its own exception, and all that hangs on that

    async def _transact(self, job: Job[T], *, write: bool) -> T:
        tries = 0
        with explained(self.url):
            if write:
                await self._in_group(job)
                if not job.alone:
                    return job.result()
            while True:
                tries += 1
                ended = await self._try([job], write=write, patient=True)
                if ended is None:
                    return cast("T", job.found)
                pause_s = self._pause_s(ended, tries, job)
                if pause_s is None:
                    raise ended.error
                await asyncio.sleep(pause_s)

    async def _in_group(self, job: Job[Any]) -> None:
        """Return once the job has ended, by this task's transaction or by that of another one."""
        self._waiting.add(job)
        try:
            async with self._writer:
                if not job.ended:
                    await self._lead()
        finally:
            self._waiting.withdraw(job)  # of a task that was cancelled while it waited

    async def _lead(self) -> None:
        jobs = self._waiting.take()
        with led(jobs):
            ended = await self._try(jobs, write=True, patient=False)
            self.end(jobs, ended)
        if ended is not None and not isinstance(ended.error, Exception):
            raise ended.error

    async def _try(self, jobs: Sequence[Job[Any]], *, write: bool, patient: bool) -> Ended | None:
        """One transaction; None when it is committed. Raises CancelledError of this task."""

        def whole(connection: Any) -> None:
            self._do(connection, jobs, write=write, patient=patient)

        try:
            with Deadline(self._backend.DEADLINE_S), connections.ours():
                async with self._engine.connect() as connection:
                    await connection.execution_options(**self._options(write=write))
                    await connection.run_sync(whole)
        except Ended as error:
            ended = error
        except BaseException as error:
            ended = Ended(error, committing=False)
        else:
            return None
        if isinstance(ended.error, DBAPIError) and _is_cancelled():
            # A driver may tell of a broken connection instead.
            return Ended(asyncio.CancelledError(), committing=ended.committing)
        return ended

    def copy_to(self, path: Path) -> Database:
        """Refuse: the store's URL tells how to open it, an AsyncEngine does not."""
        raise UsageError("a dry run copies the store, which an AsyncClient does by a URL only. Nothing was asked.")

    async def create(self) -> None:
        """As Database.create, in a place that the caller has made."""
        found = await self.transact(tables_found, write=False)
        if found is None:
            await self.transact(upgrade_tables)
            found = await self.transact(tables_found, write=False)
        self._identity = found

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.sync_engine.pool)
        self._engine.sync_engine.dispose(close=False)

    async def close(self) -> None:
        """Leave the connections open: the engine is the caller's."""


def _is_cancelled() -> bool:
    """Whether somebody has asked this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ended(task: asyncio.Future[Any]) -> None:
    """Wait for the end of a task, whoever asks us to end meanwhile: its deadlines and timeouts bound it."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # told to nobody: whoever waited was cancelled
