"""PostgreSQL, or an engine that speaks it, as a store: durable commits of a primary; what is refused, in which words.

Nothing is kept in a database session: each transaction says what it needs, so a transaction-mode pooler may stand
between. Transactions are SERIALIZABLE, and done again when the database asks for it; what must not happen twice is
forbidden by unique keys and locked rows besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, Pool, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from gateway_client import connections, intake, schema, sqlite
from gateway_client.actor import DATABASE_USER
from gateway_client.database_url import check_parameters, hosts_of, wrong
from gateway_client.errors import ConfigurationError, StoreUnavailable

LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, CONNECT_TIMEOUT_S = 5, 30, 10
DEADLINE_S: float | None = 60  # of one transaction, when whoever is there does not even answer

UTF8 = "UTF8"  # what a database must keep, and a connection speak: what people write has any character

OPTIONS: Mapping[str, Any] = {
    # Prepared statements belong to a session, which behind a pooler is another one each time.
    "connect_args": {"prepare_threshold": None, "connect_timeout": CONNECT_TIMEOUT_S, "client_encoding": UTF8},
}
ASYNC_DRIVER = "postgresql+psycopg"
ISOLATION: str | None = "SERIALIZABLE"
# In `Session.info`:
TIMELINE = "charge_once_timeline"  # the history that the database is on; a promoted standby has another
CLOCK = "charge_once_clock"  # the database has a clock of its own
WARNINGS = "charge_once_warnings"  # what the server has said on this connection since somebody looked

_DURABLE = ("on", "local", "remote_write", "remote_apply")
# An engine that lacks a setting says nothing of it; WAL names begin with the timeline.
_TIMEOUTS = f"""
set_config('lock_timeout', '{LOCK_TIMEOUT_S}s', true), set_config('statement_timeout', '{STATEMENT_TIMEOUT_S}s', true)
"""
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
    known = _parameters()
    for name, values in _NO_STORE.items():
        if name in url.query and (not values or url.query[name] in values):
            raise wrong(f"has the parameter {name}, which leads to no primary that takes rows: leave it out")
    return check_parameters(url, known).set(drivername="postgresql+psycopg")


def _parameters() -> Sequence[str]:
    """The names of the parameters that libpq knows."""
    try:
        from psycopg.pq import Conninfo
    except ImportError:
        raise ConfigurationError("PostgreSQL needs psycopg: pip install 'charge-once[postgres]'") from None
    return [option.keyword.decode() for option in Conninfo.get_defaults()]


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


def begin(connection: Connection, *, write: bool) -> dict[str, Any]:
    """Say how long a transaction may wait, and check that its commit will be durable, on a primary."""
    asked = f"{_TIMEOUTS}, {intake.POSTGRES_IDENTITY}, {_DURABILITY}, {_USER}"  # one round trip
    *_, found, fsync, commit, replica, user, history = _told(connection, asked)
    info: dict[str, Any] = _checked(connection, fsync, commit, replica, user, history) if write else {}
    return {**info, CLOCK: True, intake.IDENTITY: found}


def identity(connection: Connection) -> object:
    """Which tables the caller's own transaction finds by our names."""
    return connection.exec_driver_sql(f"SELECT {intake.POSTGRES_IDENTITY}").scalar_one()


def join(connection: Connection) -> dict[str, Any]:
    """Check that the caller's own transaction is durable; what `prepare` then does is done `patient`ly."""
    return _checked(connection, *_told(connection, f"{_DURABILITY}, {_USER}"))


@contextmanager
def patient(connection: Connection) -> Iterator[None]:
    """Within it the caller's transaction waits as long as ours do, then as before; an error's savepoint undoes it."""
    before = connection.exec_driver_sql(
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    ).one()
    connection.exec_driver_sql(f"SELECT {_TIMEOUTS}")
    yield
    connection.execute(
        text("SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :statement, true)"),
        {"lock": before[0], "statement": before[1]},
    )


def _told(connection: Connection, asked: str) -> Sequence[Any]:
    """What was asked, and the timeline."""
    if WARNINGS not in connection.info:  # once for each connection to the server
        connection.info["charge_once_tells"] = _tells(connection)
        connection.info[WARNINGS] = _heard(connection)
    history = _TIMELINE if connection.info["charge_once_tells"] else "NULL"
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


def _checked(
    connection: Connection, fsync: str, commit: str, replica: bool, user: str, history: str | None
) -> dict[str, Any]:
    if replica:
        raise StoreUnavailable("the database is a replica: what it reads may be old. Connect to the primary")
    if fsync == "off" or commit not in (None, *_DURABLE):
        raise StoreUnavailable(
            f"the database is not durable: fsync={fsync} and synchronous_commit={commit}, needed are on and on"
        )
    return {TIMELINE: history, DATABASE_USER: user, CLOCK: True, WARNINGS: connection.info[WARNINGS]}


def _heard(connection: Connection) -> list[str]:
    """The warnings of a connection, as they come."""
    said: list[str] = []

    def hear(notice: Any) -> None:
        if notice.severity_nonlocalized == "WARNING":
            said.append(notice.message_primary)

    connection.connection.driver_connection.add_notice_handler(hear)  # type: ignore[union-attr]
    return said


def before_commit(info: dict[Any, Any]) -> None:
    """What was said until now is not about the commit."""
    info.get(WARNINGS, []).clear()


def after_commit(info: dict[Any, Any]) -> None:
    """A commit that was warned about is not one: its standby may not have it. Doing it again would not show that."""
    if info.get(WARNINGS):
        raise StoreUnavailable(
            "the database did not confirm the commit, which may be lost when its standby takes over "
            "(somebody, or a timeout, ended the wait for synchronous replication)"
        )


def timeline(connection: Connection) -> str | None:
    """The history that the database is on; None where it does not tell: a replica, another engine."""
    found = connection.exec_driver_sql("SELECT " + _TIMELINE).scalar() if _tells(connection) else None
    return None if found is None else str(found)


_AGAIN = ("40001", "40P01", "23505", "42P07")  # serialization, deadlock; a row or a table that another made first
_EXPLANATIONS = {
    "55P03": f"a row stayed locked for {LOCK_TIMEOUT_S} s: another transaction is open on it, perhaps one with a "
    "`prepare` that is not committed yet",
    "57014": f"a statement took longer than {STATEMENT_TIMEOUT_S} s",
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "53": "it is out of resources",
    "57P": "it is shutting down or starting up",
    "08": "the connection was lost",
    "25006": "it is read-only (a replica?)",
    "25001": connections.AMID,
    "25P02": connections.AMID,
    "25P": "it ended a transaction that took too long",
    "0A000": "it cannot run serializable transactions: a replica, or not a PostgreSQL",
    "28": "it refused the user or password of PAYCLI_DATABASE_URL",
    "3D000": "there is no such database",
    "42501": "this user may not use its tables",
    "40": "it was too busy with other transactions on the same rows",
    "58": "its disk reported an error",
    "XX": "it reported an internal error, or damaged data",
}


# What refuses a new connection has no code, only words; those of PostgreSQL, of poolers and of libpq.
_REFUSALS = {  # in this order: "too many connections for role", "the database system is shutting down"
    "too many": _EXPLANATIONS["53300"],
    "connection slots": _EXPLANATIONS["53300"],
    "system is": _EXPLANATIONS["57P"],
    "authentication failed": _EXPLANATIONS["28"],
    "no password supplied": "it asks for a password, and PAYCLI_DATABASE_URL has none",
    "no pg_hba.conf entry": "its pg_hba.conf lets nobody in from here with that user and database",
    "role ": "it has no such user",
    "database ": _EXPLANATIONS["3D000"],
    "resolve": "its host has no address",
    "refused": "nothing answers at its address",
    "unreachable": "nothing answers at its address",
    "not support ssl": "it has no TLS, and sslmode asks for it",
    "session is read-only": _EXPLANATIONS["25006"],
    "timeout": "it does not answer",
}


def explained(error: DBAPIError) -> str | None:
    """Why the database refuses, in words for the person who must act; None for a bug of ours."""
    state = getattr(error.orig, "sqlstate", None) or ""
    known = next((why for code, why in _EXPLANATIONS.items() if state.startswith(code)), None)
    if known is not None or (state and not lost(error)):
        return known
    said = str(error.orig).lower()
    if lost(error):
        return "the connection was lost, or it stopped answering"
    return next((why for words, why in _REFUSALS.items() if words in said), "it cannot be reached")


def lacks_tables(error: DBAPIError) -> bool:
    """Whether what is missing is our tables."""
    return getattr(error.orig, "sqlstate", None) == "42P01"


# What libpq, psycopg and the server say of a value that no other try mends; it names its parameter, or "" is in it.
_REFUSED_VALUES = {
    r'invalid "?(\w+)"? value: ': "",
    r'invalid integer value ".*" for connection option "(\w+)"': "",
    r'invalid value for parameter "(\w+)"': "",
    r"bad value for (\w+):": "",
    r"weak (sslmode) ": "",
    r"invalid command-line argument|unrecognized configuration parameter": "options",
    r"could not parse network address|host names with \d+ hostaddr values": "hostaddr",
    r"definition of service|service file": "service",
    r"root certificate file": "sslrootcert",
    r"certificate file|certificate present": "sslcert",
    r"private key file": "sslkey",
}


def wrong_setting(error: DBAPIError) -> str | None:
    """Which parameter of its URL has a value that is refused, so that another try would not help; or None."""
    if getattr(error.orig, "sqlstate", None):  # a statement's: connecting has no code
        return None
    for pattern, name in _REFUSED_VALUES.items():
        found = re.search(pattern, str(error.orig))
        if found is not None:
            named = name or found[1]
            where = named if named in _parameters() else "options"  # a server's own setting is given there
            return f"has a value of the parameter {where} that is refused (or the environment has one, by libpq's PG…)"
    return None


def passes(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is done again."""
    return getattr(error.orig, "sqlstate", None) in _AGAIN


def lost(error: DBAPIError) -> bool:
    """Whether the connection is gone."""
    return error.connection_invalidated
