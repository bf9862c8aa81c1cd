"""What a caller may hand in as database and as session, each tried: it works as any other, or is refused in words.

The same table in words is in DESIGN §9. What two users share, and whose store it is, is `test_intake_stores.py`'s;
files are `test_intake_files.py`'s, tasks that are cancelled `test_cancelled.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import AssertionPool, AsyncAdaptedQueuePool, NullPool, QueuePool, SingletonThreadPool, StaticPool, text
from sqlalchemy.orm import Session

from gateway_client import ConfigurationError, State, StoreUnavailable
from tests import postgres
from tests.intake_kit import (
    DATABASES,
    KINDS,
    POSTGRES,
    SQLITE,
    Before,
    Make,
    Shop,
    begins,
    commits_by_itself,
    commits_nothing,
    second_store,
    two_schemas,
)

Right = tuple[type[Exception], str] | None
"""None: it is done, and on disk. Else the error and its words; then nothing was sent, and no row written."""

BY_ITSELF = (ConfigurationError, "commits each statement by itself")
SHARING = (ConfigurationError, "may hand one connection to several users at once.*QueuePool.*NullPool")
ELSEWHERE = (ConfigurationError, "other tables by our names there")
NOTHING = (StoreUnavailable, "nothing was committed")
MAPPED = (ConfigurationError, "schema_translate_map")
ANOTHER = (ConfigurationError, r"another database \(.*\) than the client's \(")
NO_ROLLBACK = {"skip_autocommit_rollback": True}
FOUND = (StoreUnavailable, "nothing was committed|amid somebody else's transaction")
ENDED = (StoreUnavailable, "ended before its commit")
KIND = (ConfigurationError, "must be a URL or an (Async)?Engine")
FILE, SERVER, SYNC = (SQLITE,), (POSTGRES,), ("sync",)


class Unknown(QueuePool):
    """A pool that might do anything."""


class UnknownAsync(AsyncAdaptedQueuePool):
    """Another one."""


def engine(shop: Shop) -> Any:
    return shop.engine()


def plain(**options: Any) -> Make:
    return lambda shop: shop.engine(**options)


def pool(sync: type, on_loop: type | None = None) -> Make:
    return lambda shop: shop.engine(poolclass=sync if shop.kind == "sync" else on_loop or sync)


def option(**options: Any) -> Make:
    return lambda shop: shop.engine().execution_options(**options)


def memory(shop: Shop) -> Any:
    """A database in memory by an address that looks like a file's."""
    return shop.engine(url=shop.url.set(database="file::memory:", query={"cache": "shared", "uri": "true"}))


def kept_to_its_thread(shop: Shop) -> Any:
    """A connection that tells its `autocommit` to no thread but aiosqlite's."""
    import aiosqlite

    return shop.created(lambda: aiosqlite.connect(shop.path, autocommit=True))


def other_kind(shop: Shop) -> Any:
    return shop.engine(kind="async" if shop.kind == "sync" else "sync")


@dataclass(frozen=True)
class Case:
    """One thing that is handed in as a database."""

    what: str
    make: Make
    right: Right = None
    on: tuple[str, ...] = DATABASES
    kinds: tuple[str, ...] = KINDS


ENGINES = [
    Case("a URL", lambda shop: postgres.shown(shop.url)),
    Case("an engine", engine),
    Case("QueuePool", pool(QueuePool, AsyncAdaptedQueuePool)),
    Case("NullPool", pool(NullPool)),
    Case("a creator", lambda shop: shop.created(shop.connect)),
    Case("a pool that asks first", plain(pool_pre_ping=True, pool_recycle=0)),
    Case("a pool that commits what is left", plain(pool_reset_on_return="commit")),
    Case("an engine that begins by itself", begins("BEGIN"), on=FILE),
    Case("an engine that begins with the lock", begins("BEGIN IMMEDIATE"), on=FILE),
    Case("READ COMMITTED", plain(isolation_level="READ COMMITTED"), on=SERVER),
    Case("AUTOCOMMIT, which we override", plain(isolation_level="AUTOCOMMIT"), on=SERVER),
    Case("AUTOCOMMIT", plain(isolation_level="AUTOCOMMIT"), BY_ITSELF, FILE),
    Case("AUTOCOMMIT, never rolled back", plain(isolation_level="AUTOCOMMIT", **NO_ROLLBACK), BY_ITSELF, FILE),
    Case("AUTOCOMMIT by an option", option(isolation_level="AUTOCOMMIT"), BY_ITSELF, FILE),
    Case("isolation_level None", plain(connect_args={"isolation_level": None}), BY_ITSELF, FILE),
    Case("StaticPool", pool(StaticPool), SHARING),
    Case("SingletonThreadPool", pool(SingletonThreadPool), SHARING, kinds=SYNC),
    Case("AssertionPool", pool(AssertionPool), SHARING),
    Case("a pool of the caller's own", pool(Unknown, UnknownAsync), SHARING),
    Case("a commit() that does nothing", commits_nothing, NOTHING),
    Case("a listener that commits", commits_by_itself, ENDED, SERVER),
    Case("a listener that commits", commits_by_itself, ENDED, FILE, kinds=("async",)),
    Case("schema_translate_map", option(schema_translate_map={None: "main"}), MAPPED),
    Case("connections of two schemas", two_schemas, ELSEWHERE, SERVER),
    Case("read-only", option(postgresql_readonly=True), (StoreUnavailable, "it is read-only"), SERVER),
    Case("memory", memory, (ConfigurationError, "in memory forgets"), FILE),
    Case("the other kind of engine", other_kind, KIND),
    Case("a session", lambda shop: Session(), KIND),
    Case("a path", lambda shop: shop.path, KIND),
]  # fmt: skip

if hasattr(sqlite3.Connection, "autocommit"):  # Python 3.12
    ENGINES += [
        Case("autocommit=True", plain(connect_args={"autocommit": True}), BY_ITSELF, FILE),
        Case("autocommit=False", plain(connect_args={"autocommit": False}), None, FILE),
        Case("autocommit=True, told to one thread only", kept_to_its_thread, FOUND, FILE, kinds=("async",)),
    ]


def each(cases: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("case", "database", "kind"),
        [
            pytest.param(case, database, kind, id=f"{case.what}, {database}, {kind}")
            for case in cases
            for database in case.on
            for kind in case.kinds
        ],
    )


@pytest.fixture
def shop(database: str, kind: str, tmp_path: Path) -> Iterator[Shop]:
    with Shop(database, kind, tmp_path) as made:
        yield made


@each(ENGINES)
def test_database(case: Case, shop: Shop) -> None:
    """P8, P14: a client charges once on what commits, and on what may lose a commit it sends nothing (S1, S2)."""
    if case.right is None:
        assert shop.charge(case.make(shop)) is State.SUCCEEDED
        assert (shop.posts, shop.states()) == (1, ["succeeded"])
        return
    error, words = case.right
    made = case.make(shop)
    with pytest.raises(error, match=words):
        shop.charge(made)
    assert (shop.posts, shop.states() in ([], ["prepared"])) == (0, True)
    assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED  # no lock is left behind
    assert (shop.posts, shop.states()) == (1, ["succeeded"])


# Sessions -------------------------------------------------------------------------------------------------------------


def nothing(session: Session) -> None:
    """The caller has done nothing yet."""


def says(*statements: str) -> Before:
    def before(session: Session) -> None:
        for statement in statements:
            session.execute(text(statement))

    return before


def with_options(**options: Any) -> Before:
    return lambda session: session.connection(execution_options=options)


def empty_schema(shop: Shop) -> None:
    """A schema that has a table of orders only."""
    shop.hand("CREATE SCHEMA empty")
    shop.hand("CREATE TABLE empty.orders (name TEXT)")


WIDE = "SET LOCAL search_path TO elsewhere, public"
SHADOW = "CREATE TEMP TABLE {} AS SELECT * FROM {}"
TRIGGER = "CREATE TEMP TRIGGER t AFTER INSERT ON main.pending_charges BEGIN DELETE FROM pending_charges; END"
ATTACHED = (ConfigurationError, "other databases attached")
TEMP = (ConfigurationError, "TEMP table or trigger")


@dataclass(frozen=True)
class Given:
    """One session that is handed to `prepare`."""

    what: str
    before: Before = nothing
    right: Right = None
    on: tuple[str, ...] = DATABASES
    kinds: tuple[str, ...] = KINDS
    make: Make = engine
    options: dict[str, Any] = field(default_factory=dict)
    plant: Callable[[Shop], object] = lambda shop: None


SESSIONS = [
    Given("a session"),
    Given("an order before it", says("INSERT INTO orders VALUES ('another')")),
    Given("in a savepoint", lambda session: session.begin_nested()),
    Given("NullPool", make=pool(NullPool)),
    Given("an engine that begins by itself", on=FILE, make=begins("BEGIN")),
    Given("a TEMP table of the caller's own", says("CREATE TEMP TABLE basket (name TEXT)")),
    Given("a search_path that finds our tables", says(WIDE), None, SERVER),
    Given("AUTOCOMMIT", nothing, BY_ITSELF, make=plain(isolation_level="AUTOCOMMIT")),
    Given("AUTOCOMMIT by the session", with_options(isolation_level="AUTOCOMMIT"), BY_ITSELF),
    Given("StaticPool", nothing, SHARING, make=pool(StaticPool)),
    Given("a pool of the caller's own", nothing, SHARING, make=pool(Unknown, UnknownAsync)),
    Given("schema_translate_map", with_options(schema_translate_map={None: "main"}), MAPPED),
    Given("TEMP pending_charges", says(SHADOW.format(*["pending_charges"] * 2)), TEMP, FILE),
    Given("TEMP Paycli_Sends", says(SHADOW.format(*["Paycli_Sends"] * 2)), TEMP, FILE),
    Given("TEMP pending_charges", says(SHADOW.format(*["pending_charges"] * 2)), ELSEWHERE, SERVER),
    Given("TEMP paycli_events", says(SHADOW.format(*["paycli_events"] * 2)), ELSEWHERE, SERVER),
    Given("a TEMP trigger", says(TRIGGER), TEMP, FILE),
    Given("an attached file", says("ATTACH DATABASE 'file::memory:' AS beside"), ATTACHED, FILE),
    Given("another schema", says("SET LOCAL search_path TO other, public"), ELSEWHERE, SERVER, plant=second_store),
    Given("a schema without our tables", says("SET LOCAL search_path TO empty"), ELSEWHERE, SERVER, plant=empty_schema),
    Given("another database", nothing, ANOTHER, make=lambda shop: shop.elsewhere()),
    Given("two phases", nothing, (ConfigurationError, "two-phase"), SERVER, options={"twophase": True}),
    Given("a commit() that does nothing", nothing, NOTHING, make=commits_nothing),
]  # fmt: skip


@each(SESSIONS)
def test_session(case: Given, shop: Shop) -> None:
    """P8, P14: `prepare` in the caller's transaction is on disk with his order, or it is refused and writes nothing."""
    case.plant(shop)
    engine = case.make(shop)
    if case.right is None:
        shop.prepare(engine, case.before, **case.options)
        assert (shop.states(), shop.orders() > 0) == (["prepared"], True)
        return
    error, words = case.right
    with pytest.raises(error, match=words):
        shop.prepare(engine, case.before, **case.options)
    assert shop.states() == []
