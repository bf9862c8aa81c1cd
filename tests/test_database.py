"""Opening a database, on real SQLite files: what is durable enough, who may read it, whose it is.

Not here: the tables (`test_tables.py`), databases that fail while they are used (`test_database_faults.py`).
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from gateway_client import AsyncClient, Client, ConfigurationError, StoreUnavailable, Stripe
from gateway_client.async_db import async_database
from gateway_client.db import Database
from gateway_client.transaction import Transaction
from tests.oracle_disk import KINDS, charge_by, engine_of, rewriting
from tests.oracle_world import (
    API_KEY,
    StillClock,
    async_client_of,
    client_of,
    database_url,
    intent_of,
    posts,
    sandbox_of,
)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# Durable or refused --------------------------------------------------------------------------------------------------


def test_connections_are_wal_and_full(tmp_path: Path) -> None:
    """F72: every connection of both clients commits with WAL and synchronous=FULL, as the database itself says."""
    pragmas = ("journal_mode", "synchronous", "busy_timeout")

    def read(tx: Transaction) -> list[object]:
        return [tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]

    async def run() -> list[object]:
        other = async_database(database_url(tmp_path))
        await other.create()
        found = await other.transact(read)
        await other.close()
        return found

    first = Database(database_url(tmp_path))
    first.create()
    assert first.transact(read) == ["wal", 2, 5000]
    assert asyncio.run(run()) == ["wal", 2, 5000]
    first.close()


def weak(folder: Path) -> dict[str, Callable[[str], Any]]:
    url = database_url(folder)
    return {
        "synchronous stays NORMAL": rewriting(engine_of(url), "synchronous = FULL", "synchronous = NORMAL"),
        "synchronous stays OFF": rewriting(engine_of(url), "synchronous = FULL", "synchronous = OFF"),
        "no WAL": rewriting(engine_of(url), "journal_mode = WAL", "journal_mode = DELETE"),
        # What such a connection has written may be nowhere but in memory, and it may have made the file itself.
        "synchronous was OFF": engine_of(url, "synchronous = OFF"),
        "synchronous was OFF, and WAL": engine_of(url, "synchronous = OFF", "journal_mode = WAL"),
        "a file system without WAL": engine_of(f"sqlite:///file:{folder / 'none.db'}?vfs=unix-none&uri=true"),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", weak(Path()))
def test_a_database_that_could_lose_commits_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    """F71, F72: what stays below WAL and FULL, however it is told, is refused before anything is written or sent."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    with pytest.raises(
        StoreUnavailable, match=r"not durable: journal_mode=\w+ and synchronous=\d, needed are wal and 2"
    ):
        charge_by(kind, sandbox, weak(tmp_path)[name], intent_of(), clock)
    assert sandbox.requests == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_that_weakens_its_connections_again_is_refused_or_corrected(kind: str, tmp_path: Path) -> None:
    """F72: a host that sets synchronous=NORMAL each time a connection leaves its pool does not weaken our commits."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    seen: list[object] = []

    def make(driver: str) -> Any:
        from sqlalchemy import event

        engine = engine_of(database_url(tmp_path), "synchronous = NORMAL", listen="checkout")(driver)

        def note(connection: Any) -> None:
            seen.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

        event.listen(getattr(engine, "sync_engine", engine), "commit", note)
        return engine

    try:
        charge_by(kind, sandbox, make, intent_of(), clock)
    except StoreUnavailable:
        assert posts(sandbox) == 0
    else:
        assert set(seen) == {2}


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "nonsense", "", "sqlite", "mysql://u:hunter2@h/d", "a:b:c"]
)
def test_a_url_that_cannot_keep_a_promise_is_refused(url: str) -> None:
    """No database in memory, no other product, no nonsense: a configuration error that repeats no password."""
    for open_it in (Database, async_database):
        with pytest.raises(ConfigurationError) as refused:
            open_it(url)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql+asyncpg://app:hunter2@db/app", "postgresql+psycopg://app:hunter2@db"])
def test_an_unusable_postgresql_url_is_refused(url: str) -> None:
    """Another driver, or no database, is refused in words, and without the password."""
    for open_it in (Database, async_database):
        with pytest.raises(ConfigurationError, match="postgresql\\+psycopg://user@host/database") as refused:
            open_it(url)
        assert "hunter2" not in str(refused.value)


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot update rows from a list: before a file is made, by a URL and by an engine of the caller's."""
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 32, 3))
    for database in (f"sqlite:///{tmp_path / 'store.db'}", create_engine(f"sqlite:///{tmp_path / 'store.db'}")):
        with pytest.raises(ConfigurationError, match=r"needed is 3\.33 or newer"):
            Database(database)
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_memory_is_refused_by_its_uri_too(tmp_path: Path) -> None:
    """The URI form of a database in memory is refused like the short one."""
    with pytest.raises(ConfigurationError, match="in memory"):
        Database("sqlite:///file:charges?mode=memory&cache=shared&uri=true")


# Whose it is ---------------------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.stat().st_mode) for path in folder.iterdir()}


def modes_while_open(kind: str, url: str, folder: Path) -> dict[str, str]:
    clock = StillClock()
    if kind == "sync":
        with client_of(sandbox_of(clock), clock, url) as client:
            client.charge(intent_of())
            return modes(folder)

    async def run() -> dict[str, str]:
        async with async_client_of(sandbox_of(clock), clock, url) as client:
            await client.charge(intent_of())
            return modes(folder)

    return asyncio.run(run())


OWNERS_ALONE = dict.fromkeys(("charges.db", "charges.db-wal", "charges.db-shm"), "-rw-------")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_owner_can_read_the_file(kind: str, tmp_path: Path, open_umask: None) -> None:
    """The file and its side files are the owner's alone, under a umask that would let everybody read them."""
    assert modes_while_open(kind, database_url(tmp_path), tmp_path) == OWNERS_ALONE


@pytest.mark.parametrize("kind", KINDS)
def test_a_uri_filename_opens_no_back_door(kind: str, tmp_path: Path, open_umask: None) -> None:
    """SQLite's `file:` form is refused, or its file is as private as any other."""
    try:
        found = modes_while_open(kind, f"sqlite:///file:{tmp_path / 'charges.db'}?uri=true", tmp_path)
    except ConfigurationError:
        found = modes(tmp_path)
    assert found in ({}, OWNERS_ALONE)


def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever made the file decided who reads it."""
    (tmp_path / "charges.db").touch(0o640)
    (tmp_path / "charges.db").chmod(0o640)
    Database(database_url(tmp_path)).create()
    assert modes(tmp_path)["charges.db"] == "-rw-r-----"


def test_engines_of_the_caller_stay_open(tmp_path: Path) -> None:
    """close() closes what we opened: the caller's engine keeps its pool and its connections."""
    clock = StillClock()
    engine = create_engine(database_url(tmp_path))
    with client_of(sandbox_of(clock), clock, engine) as client:
        client.charge(intent_of())
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    engine.dispose()

    async def run() -> int:
        theirs = create_async_engine(database_url(tmp_path).replace("sqlite:", "sqlite+aiosqlite:"))
        async with async_client_of(sandbox_of(clock), clock, theirs) as client:
            await client.charge(intent_of("order_43"))
        kept: int = theirs.pool.checkedin()  # type: ignore[attr-defined]
        await theirs.dispose()
        return kept

    assert asyncio.run(run()) == 1


def test_engines_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    """Client takes an Engine, AsyncClient an AsyncEngine; anything else is a configuration error that says so."""
    sync, on_loop = create_engine("sqlite://"), create_async_engine("sqlite+aiosqlite://")
    kinds: list[tuple[Any, object]] = [(Client, on_loop), (AsyncClient, sync), (Client, tmp_path), (AsyncClient, None)]
    for kind, wrong in kinds:
        with pytest.raises(ConfigurationError, match=r"database must be a URL or an (Async)?Engine"):
            kind(Stripe(API_KEY), database=wrong)
