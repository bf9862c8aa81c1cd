"""PostgreSQL, or an engine that speaks it, as a store: durable commits of a primary; what is refused, in which words.

Nothing is kept in a database session: each transaction says what it needs, so a transaction-mode pooler may stand
between. Transactions are READ COMMITTED: who decides about an intent locks it first, by its number and then by its
rows, so that one sees all that the other has committed. What must not happen twice is forbidden by unique keys besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, Pool, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from gateway_client import intake, schema, sqlite
from gateway_client import postgres_errors as errors
from gateway_client.database_url import check_parameters, hosts_of, wrong
from gateway_client.errors import ConfigurationError, StoreUnavailable
from gateway_client.postgres_errors import (
    LOCK_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    parameters,
)
from gateway_client.transaction import Opened

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_GROUP_MS = 100  # of a group's transaction: a work that waits for somebody's lock is done alone
DEADLINE_S: float | None = 60  # of one transaction, when whoever is there does not even answer

UTF8 = "UTF8"  # what a database must keep, and a connection speak: what people write has any character

OPTIONS: Mapping[str, Any] = {
    # Prepared statements belong to a session, which behind a pooler is another one each time.
    "connect_args": {"prepare_threshold": None, "connect_timeout": CONNECT_TIMEOUT_S, "client_encoding": UTF8},
}
ASYNC_DRIVER = "postgresql+psycopg"
ISOLATION: str | None = "READ COMMITTED"
ISOLATION_READING: str | None = "REPEATABLE READ"  # all that is read is of one moment
# In the info of a connection to the server:
WARNINGS = "charge_once_warnings"  # what it has said since somebody looked
TELLS = "charge_once_tells"  # whether it tells its timeline

_DURABLE = ("on", "local", "remote_write", "remote_apply")
# An engine that lacks a setting says nothing of it; WAL names begin with the timeline.
_DURABILITY = "current_setting('fsync', true), current_setting('synchronous_commit', true), pg_is_in_recovery()"
_USER = "session_user::text"  # who logged in, whatever SET ROLE says
_TIMELINE = "CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END"
_CAN_TELL = "SELECT count(*) FROM pg_catalog.pg_proc WHERE proname = 'pg_walfile_name'"


# Parameters that libpq knows, and the values of them (none: any) by which no store can be written.
_NO_STORE = {"replication": (), "target_session_attrs": ("read-only", "standby", "prefer-standby")}


def checked(url: URL) -> URL:
    """A URL for psycopg, or ConfigurationError."""
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise wrong("names another driver: use psycopg, as in postgresql+psycopg://user@host/database")
    if not url.database:
        raise wrong("names no database: postgresql+psycopg://user@host/database")
    known = parameters()
    for name, values in _NO_STORE.items():
        if name in url.query and (not values or url.query[name] in values):
            raise wrong(f"has the parameter {name}, which leads to no primary that takes rows: leave it out")
    return check_parameters(url, known).set(drivername="postgresql+psycopg")


def place(url: URL) -> str:
    """Where the store is, for people: no user, no password, nor what may be the end of one."""
    found = f"{url.database} on {hosts_of(url)}"
    return "the database" if "@" in found else found


def same(ours: URL, theirs: URL) -> bool:
    """Whether two URLs are of one database, as far as URLs tell."""
    return _address(ours) == _address(theirs)


def _address(url: URL) -> tuple[object, ...]:
    return url.database, hosts_of(url if url.port or "port" in url.query else url.set(port=5432))


def create_place(url: URL) -> None:
    """A database is made by whoever runs the server."""


_watched: WeakSet[Pool] = WeakSet()


def watch(engine: Engine) -> None:
    """Refuse each new connection by which not every character can be kept, before SQLAlchemy asks it anything."""
    if engine.pool not in _watched:
        _watched.add(engine.pool)
        event.listen(engine, "connect", partial(_check_encoding, engine.url), insert=True)


def _check_encoding(url: URL, connection: Any, record: Any) -> None:
    told = record.driver_connection.info.parameter_status
    kept, spoken = told("server_encoding") or UTF8, told("client_encoding") or UTF8  # some poolers do not tell
    if (kept, spoken) == (UTF8, UTF8):
        return
    connection.close()
    if kept != UTF8:
        raise ConfigurationError(
            f"the database {place(url)} keeps text as {kept}, and needed is UTF8: not every reason and description "
            "could be kept. Make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0 and name it in "
            "PAYCLI_DATABASE_URL. Nothing was written or sent."
        )
    raise ConfigurationError(
        f"this connection to the database {place(url)} speaks {spoken}, and needed is UTF8: take client_encoding out "
        "of PAYCLI_DATABASE_URL, or of the engine's options. Nothing was written or sent."
    )


def copy(connection: Connection, path: Path) -> None:
    """Copy every committed row into a new SQLite file, as of one moment."""
    from gateway_client.tables import Base

    target = create_engine(URL.create("sqlite", database=str(path)))
    try:
        with connection.begin(), target.begin() as made:
            schema.upgrade(made)
            for copied in Base.metadata.sorted_tables:
                for rows in connection.execute(copied.select()).mappings().partitions(1000):
                    made.execute(copied.insert(), [dict(row) for row in rows])
    except DBAPIError as error:
        why = explained(error) or sqlite.explained(error)
        raise StoreUnavailable(f"the store cannot be copied to {path.parent}: {why}") from None
    finally:
        target.dispose()


def begin(connection: Connection, *, write: bool, owned: bool, patient: bool, lock: str | None) -> Opened:
    """Say how long a transaction may wait, lock the intent that it decides about, and check that its commit will be
    durable, on a primary: one round trip.

    `owned`: nobody but us has had the connection, so what was read once is so.
    """
    asked = _timeouts(f"{LOCK_TIMEOUT_S}s" if patient else f"{LOCK_TIMEOUT_GROUP_MS}ms")
    if lock is not None:
        asked += f", pg_advisory_xact_lock({_number(lock)})"
    known: Opened | None = connection.info.get(CHECKED) if owned and write else None
    if known is not None:
        (*_, history) = _told(connection, asked)
        return replace(known, timeline=history)
    asked += f", {intake.POSTGRES_IDENTITY}, {_DURABILITY}, {_USER}"
    *_, found, fsync, commit, replica, user, history = _told(connection, asked)
    if not write:
        return Opened(identity=found, own_clock=True)
    opened = replace(_checked(connection, fsync, commit, replica, user, history), identity=found)
    if owned and None not in found:  # its tables are there
        connection.info[CHECKED] = opened
    return opened


CHECKED = "charge_once_checked"  # in the info of a connection of ours: what was found when its durability was read back


def _timeouts(lock: str) -> str:
    return (
        f"set_config('lock_timeout', '{lock}', true), set_config('statement_timeout', '{STATEMENT_TIMEOUT_S}s', true)"
    )


def try_lock(connection: Connection, intent_ids: Sequence[str]) -> Sequence[str]:
    """Lock those intents that nobody else has, waiting for none; in one round trip."""
    if not intent_ids:
        return ()
    asked = ", ".join(f"pg_try_advisory_xact_lock({_number(intent_id)})" for intent_id in intent_ids)
    found = connection.exec_driver_sql("SELECT " + asked).one()
    return [intent_id for intent_id, locked in zip(intent_ids, found, strict=True) if locked]


def lock(connection: Connection, *intent_ids: str) -> None:
    """Let one transaction after the other decide about intents, be there rows of them or none yet."""
    connection.exec_driver_sql(_lock(intent_ids))


def _lock(intent_ids: Iterable[str]) -> str:
    return "SELECT " + ", ".join(f"pg_advisory_xact_lock({_number(intent_id)})" for intent_id in intent_ids)


def _number(intent_id: str) -> int:
    """The number by which the database locks an intent: two that share one wait for each other, and no more."""
    return int.from_bytes(hashlib.sha256(f"charge-once {intent_id}".encode()).digest()[:8], signed=True)


def identity(connection: Connection) -> object:
    """Which tables the caller's own transaction finds by our names."""
    return connection.exec_driver_sql(f"SELECT {intake.POSTGRES_IDENTITY}").scalar_one()


def join(connection: Connection) -> Opened:
    """Check that the caller's own transaction is durable; what `prepare` then does is done `patient`ly."""
    return _checked(connection, *_told(connection, f"{_DURABILITY}, {_USER}"))


@contextmanager
def patient(connection: Connection) -> Iterator[None]:
    """Within it the caller's transaction waits as long as ours do, then as before; an error's savepoint undoes it."""
    before = connection.exec_driver_sql(
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    ).one()
    connection.exec_driver_sql(f"SELECT {_timeouts(f'{LOCK_TIMEOUT_S}s')}")
    yield
    connection.execute(
        text("SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :statement, true)"),
        {"lock": before[0], "statement": before[1]},
    )


def _told(connection: Connection, asked: str) -> Sequence[Any]:
    """What was asked, and the timeline."""
    if WARNINGS not in connection.info:  # once for each connection to the server
        connection.info[TELLS] = _tells(connection)
        connection.info[WARNINGS] = _heard(connection)
    history = _TIMELINE if connection.info[TELLS] else "NULL"
    return connection.exec_driver_sql(f"SELECT {asked}, {history}").one()


def _tells(connection: Connection) -> bool:
    """Whether the engine tells its timeline: some have no such function, some refuse it."""
    if not connection.exec_driver_sql(_CAN_TELL).scalar():
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("SELECT " + _TIMELINE)
    except DBAPIError as error:
        if not str(getattr(error.orig, "sqlstate", None)).startswith(("0A", "42")):
            raise
        return False
    return True


def _checked(connection: Connection, fsync: str, commit: str, replica: bool, user: str, history: str | None) -> Opened:
    if replica:
        raise StoreUnavailable("the database is a replica: what it reads may be old. Connect to the primary")
    if fsync == "off" or commit not in (None, *_DURABLE):
        raise StoreUnavailable(
            f"the database is not durable: fsync={fsync} and synchronous_commit={commit}, needed are on and on"
        )
    return Opened(own_clock=True, timeline=history, database_user=user, warnings=connection.info[WARNINGS])


def _heard(connection: Connection) -> list[str]:
    """The warnings of a connection, as they come."""
    said: list[str] = []

    def hear(notice: Any) -> None:
        if notice.severity_nonlocalized == "WARNING":
            said.append(notice.message_primary)

    connection.connection.driver_connection.add_notice_handler(hear)  # type: ignore[union-attr]
    return said


def before_commit(opened: Opened) -> None:
    """What was said until now is not about the commit."""
    opened.warnings.clear()


def after_commit(opened: Opened) -> None:
    """A commit that was warned about is not one: its standby may not have it. Doing it again would not show that."""
    if opened.warnings:
        raise StoreUnavailable(
            "the database did not confirm the commit, which may be lost when its standby takes over "
            "(somebody, or a timeout, ended the wait for synchronous replication)"
        )


def timeline(connection: Connection) -> str | None:
    """The history that the database is on; None where it does not tell: a replica, another engine."""
    found = connection.exec_driver_sql("SELECT " + _TIMELINE).scalar() if _tells(connection) else None
    return None if found is None else str(found)


# A backend is this whole module.
explained, lacks_tables, passes, waits = errors.explained, errors.lacks_tables, errors.passes, errors.waits
wrong_setting, lost = errors.wrong_setting, errors.lost
