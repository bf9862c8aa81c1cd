"""Engines and transactions: one function of a Transaction is one durable piece of work, on whatever database it is.

`Database` runs such functions for the sync client, in groups (`group_commit.py`), and again when the database asks for
it; `async_db.py` does so for the async client; what they do is `store/`. What is particular to a database is
`sqlite.py` and `postgres.py`; what a caller hands in is checked in `intake.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from gateway_client import connections, intake, schema, sqlite
from gateway_client.actor import actor
from gateway_client.backends import backend_of, engine_options, explained, parsed
from gateway_client.deadline import Deadline, guard
from gateway_client.errors import ConfigurationError, StoreUnavailable
from gateway_client.group_commit import Group, Job
from gateway_client.group_transaction import do_together
from gateway_client.transaction import Ahead, Opened, Shared, Transaction, machine_time

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

TRIES_MAX = 30  # of one transaction that others stand in the way of
TRIES_LOST_MAX = 2  # of one whose connection was lost
JOIN_TRIES_MAX = 3  # in the caller's transaction: READ COMMITTED finds at the second what stood in the first's way
PAUSE_S, PAUSE_S_MAX = 0.01, 0.2  # before the second try; it grows


class Ended(Exception):
    """How a transaction ended that was not committed for sure.

    `committing`: its commit was on its way, so it may be done.
    """

    def __init__(self, error: BaseException, *, committing: bool) -> None:
        super().__init__()
        self.error, self.committing = error, committing


class Common:
    """What the databases of both clients decide alike."""

    _engine: Any

    def __init__(self, url: URL, *, owned: bool) -> None:
        self.url, self._owned = url, owned
        self._backend = backend_of(url)
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

    def join(self, session: Session) -> Opened:
        """Check that the caller's own transaction is of our tables and durable; take its write lock."""
        connection = intake.check_session(session)
        theirs = connection.engine.url
        if self._backend is not backend_of(theirs) or not self._backend.same(self.url, theirs):
            raise intake.other_database(backend_of(theirs).place(theirs), self.place)
        with explained(self.url):
            self._check_identity(self._backend.identity(connection), theirs)
            opened = self._backend.join(connection)
        intake.check_begun(connection)
        return opened

    def _options(self, *, write: bool) -> dict[str, Any]:
        """Execution options of a connection that we have: cancelled amid an engine's option, it would be nobody's."""
        isolation = self._backend.ISOLATION if write else self._backend.ISOLATION_READING
        return {} if isolation is None else {"isolation_level": isolation}

    def _do(self, connection: Connection, jobs: Sequence[Job[Any]], *, write: bool, patient: bool) -> None:
        """One transaction from its first statement to its commit, for both kinds of driver. Raises Ended.

        `patient`: it waits for another transaction's lock as long as any may.
        """
        taken: connections.Taken | None = None
        committing = False
        try:
            connection.begin()  # the listeners of a caller's engine hear of it, and may begin in their own way
            taken = connections.Taken(connection)
            intake.check_options(connection)
            only = jobs[0] if len(jobs) == 1 else None
            lock = None if only is None else only.intent_id
            opened = self._backend.begin(connection, write=write, owned=self._owned, patient=patient, lock=lock)
            self._check_identity(opened.identity, connection.engine.url)
            transaction = partial(self._transaction, connection, opened, actor(opened.database_user))
            if only is not None:
                only.found = only.work(transaction(only))
            else:
                self._do_together(connection, jobs, transaction)
            if write:
                self._backend.before_commit(opened)
                committing = True
                taken.commit(connection)
                self._backend.after_commit(opened)
        except BaseException as error:
            if isinstance(error, DBAPIError) and taken is not None:
                try:
                    taken.check_alone()
                except ConfigurationError as shared:
                    raise Ended(shared, committing=committing) from error
            raise Ended(error, committing=committing) from error

    def _do_together(
        self, connection: Connection, jobs: Sequence[Job[Any]], transaction: Callable[..., Transaction]
    ) -> None:
        """Do those of several works whose intents nobody else decides about; the others wait alone, outside of it."""
        wanted = sorted({job.intent_id for job in jobs if job.intent_id is not None})
        locked = {None, *self._backend.try_lock(connection, wanted)}
        for job in jobs:
            if job.intent_id not in locked:
                job.end(alone=True)
        do_together(connection, [job for job in jobs if job.intent_id in locked], transaction)

    def _transaction(
        self,
        connection: Connection,
        opened: Opened,
        who: str,
        job: Job[Any],
        shared: Shared | None = None,
        ahead: object = None,
    ) -> Transaction:
        return Transaction(
            connection, opened, actor=who, time=job.time, lock=self._backend.lock, shared=shared, ahead=ahead
        )

    def end(self, jobs: Sequence[Job[Any]], ended: Ended | None) -> None:
        """Tell the jobs of a group how their transaction ended.

        What was surely not committed is done again, each work alone; so is what reads by its keys what is there.
        """
        for job in jobs:
            if ended is None:
                job.ended = True
            elif job.ended or (len(jobs) > 1 and not ended.committing):
                job.end(alone=True)  # one that had failed by itself, too: perhaps by what another of them wrote
            elif self._may_repeat(ended, job) or self._was_impatient(ended):
                job.end(alone=True)
            elif isinstance(ended.error, Exception):
                job.end(error=ended.error)
            else:
                job.end(error=StoreUnavailable("the commit was interrupted: it may be done", "Look before you go on."))

    def _may_repeat(self, ended: Ended, job: Job[Any]) -> bool:
        """Whether a transaction may be done again after this, if it has not been too often."""
        error = ended.error
        if not isinstance(error, DBAPIError):
            return False
        return self._backend.passes(error) or (
            error.connection_invalidated and (job.repeatable or not ended.committing)
        )

    def _was_impatient(self, ended: Ended) -> bool:
        return isinstance(ended.error, DBAPIError) and self._backend.waits(ended.error)

    def _pause_s(self, ended: Ended, tries: int, job: Job[Any]) -> float | None:
        """How long to wait before a transaction is done again; None: it is not."""
        if not self._may_repeat(ended, job):
            return None
        if self._backend.passes(cast("DBAPIError", ended.error)):
            return min(PAUSE_S * tries, PAUSE_S_MAX) * random.uniform(0.5, 1.5) if tries < TRIES_MAX else None  # noqa: S311
        return PAUSE_S if tries <= TRIES_LOST_MAX else None

    def _check_identity(self, found: object, url: URL) -> None:
        """Refuse other tables than those that were opened."""
        if self._identity not in (None, found):
            raise intake.other_database(self._backend.place(url), self.place)


class Database(Common):
    """A database for the sync client, and for the threads of the async one."""

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
        self.group = Group(self._commit)

    def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        time: Callable[[], datetime] = machine_time,
        write: bool = True,
        repeatable: bool = True,
        intent_id: str | None = None,
        ahead: Ahead | None = None,
    ) -> T:
        """Run `work` in one durable transaction, again if the database asks for it. Raises StoreUnavailable.

        `time`: what it takes for the provider's time.
        `repeatable`: done twice it is as if it was done once, so that a commit nobody has confirmed is tried again.
        `intent_id`: the intent that it decides about; of others that decide about it, one after the other does.
        `ahead`: reads what it would read of that, for several such works together.
        """
        job = Job(work, repeatable, intent_id, time, ahead)
        with explained(self.url):
            if write:
                self.group.run(job)
                if not job.alone:
                    return job.result()
            return self.alone(job, write=write)

    def _commit(self, jobs: Sequence[Job[Any]]) -> None:
        """One try of the works of a group, which wait for no lock of another transaction's for long."""
        ended = self._try(jobs, write=True, patient=False)
        self.end(jobs, ended)
        if ended is not None and not isinstance(ended.error, Exception):
            raise ended.error  # it was this thread that was interrupted

    def alone(self, job: Job[T], *, write: bool = True) -> T:
        """Do one work in a transaction of its own, as often as it may be done. Raises what ended it."""
        tries = 0
        while True:
            tries += 1
            ended = self._try([job], write=write, patient=True)
            if ended is None:
                return cast("T", job.found)
            pause_s = self._pause_s(ended, tries, job)
            if pause_s is None:
                raise ended.error
            time.sleep(pause_s)

    def _try(self, jobs: Sequence[Job[Any]], *, write: bool, patient: bool) -> Ended | None:
        """One transaction; None when it is committed."""
        try:
            with (
                Deadline(self._backend.DEADLINE_S),
                connections.ours(),
                self._engine.connect() as connection,
            ):
                connection.execution_options(**self._options(write=write))
                self._do(connection, jobs, write=write, patient=patient)
        except Ended as ended:
            return ended
        except BaseException as error:
            return Ended(error, committing=False)
        return None

    def create(self) -> None:
        """Create the file (readable by its owner only) and the tables; tables of another version are refused."""
        if self._owned:
            self._backend.create_place(self.url)
        # Looked at first: the caller may hold the write lock, with an order that `prepare` is about to join.
        found = self.transact(tables_found, write=False)
        if found is None:
            with explained(self.url):  # apart from any group: whoever leads one tells all of its works
                self.alone(Job(upgrade_tables))
            found = self.transact(tables_found, write=False)
        self._identity = found

    def upgrade(self) -> schema.Upgraded:
        """Create the file and the tables, or bring the tables of an older program to this one's version."""
        if self._owned:
            self._backend.create_place(self.url)
        found = self.transact(lambda tx: schema.version_of(tx.connection), write=False)
        return self.transact(upgrade_tables, write=found != schema.VERSIONS[-1])

    def copy_to(self, path: Path) -> Database:
        """Copy every committed row into a new file (readable by its owner only), while others go on writing."""
        url = URL.create("sqlite", database=str(path))
        sqlite.create_place(url)
        with explained(self.url), self._engine.connect() as connection:
            self._backend.copy(connection.execution_options(**self._options(write=False)), path)
        return Database(url.render_as_string())

    def after_fork(self) -> None:
        """In a child process: forget the parent's connections without touching them, and open our own."""
        self._inherited.append(self._engine.pool)  # kept: closing them would end the parent's locks and sessions
        self._engine.dispose(close=False)
        self.group = Group(self._commit)

    def close(self) -> None:
        """Close the connections, unless the engine is the caller's."""
        if self._owned:
            self._engine.dispose()


def joined(
    session: Session, opened: Opened, time: Callable[[], datetime], work: Callable[[Transaction], T], intent_id: str
) -> T:
    """Do `work` in the caller's own transaction, which can go on when it fails: all of it is undone to a savepoint."""
    connection = session.connection()
    backend = backend_of(connection.engine.url)
    with explained(connection.engine.url):
        for tries in range(1, JOIN_TRIES_MAX + 1):
            try:
                with connection.begin_nested(), backend.patient(connection):
                    backend.lock(connection, intent_id)
                    who = actor(opened.database_user)
                    return work(Transaction(connection, opened, actor=who, time=time, lock=backend.lock))
            except DBAPIError as error:
                if not backend.passes(error):
                    raise
                if tries == JOIN_TRIES_MAX:
                    raise StoreUnavailable(
                        "another transaction wrote the same rows at the same moment",
                        "Nothing was sent: roll this one back and do it again.",
                    ) from error
    raise AssertionError("unreachable")


def tables_found(tx: Transaction) -> object:
    """Which tables are ours; None when there are none."""
    return tx.identity if schema.check(tx.connection) else None


def upgrade_tables(tx: Transaction) -> schema.Upgraded:
    """Make our tables, or bring them to this program's version."""
    return schema.upgrade(tx.connection)
