"""Databases on disk as tests need them: one charge by either client on any database, raw SQL beside it, faulty engines.

Nothing here knows what the library should make of them.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session  # noqa: F401 - loads the dialects' parts before any test changes `sqlite3`

from gateway_client import Charge, PaymentIntent, Sandbox
from tests.oracle_world import StillClock, async_client_of, client_of

KINDS = ("sync", "async")


def charge_by(kind: str, sandbox: Sandbox, database: Any, intent: PaymentIntent, clock: StillClock) -> Charge:
    """One charge by a client of its own. `database` is a URL, or a function that makes an engine from a driver name."""
    if kind == "sync":
        engine = database("sqlite") if callable(database) else database
        try:
            with client_of(sandbox, clock, engine) as client:
                return client.charge(intent)
        finally:
            if isinstance(engine, Engine):
                engine.dispose()

    async def run() -> Charge:
        engine = database("sqlite+aiosqlite") if callable(database) else database
        try:
            async with async_client_of(sandbox, clock, engine) as client:
                return await client.charge(intent)
        finally:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
            await drivers_ended()

    return asyncio.run(run())


async def drivers_ended() -> None:
    """aiosqlite's threads speak to the loop once more after a failed connect: wait, within bounds, until they have."""
    for _ in range(200):
        if not any("_connection_worker_thread" in thread.name for thread in threading.enumerate()):
            return
        await asyncio.sleep(0.005)


def sql(path: Path, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    """A hand on the database from outside."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=2)) as connection:
        return connection.execute(statement, values).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else's write transaction is open meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def engine_of(url: str, *pragmas: str, listen: str = "connect", **options: Any) -> Callable[[str], Any]:
    """Makes a caller's own engine, whose connections begin with these PRAGMAs; for both kinds of driver."""

    def make(driver: str) -> Any:
        from sqlalchemy import create_engine

        if driver == "sqlite":
            engine = create_engine(url, **options)
            listening = engine
        else:
            engine = create_async_engine(url.replace("sqlite:", driver + ":", 1), **options)  # type: ignore[assignment]
            listening = engine.sync_engine  # type: ignore[attr-defined]

        def prepare(connection: Any, *more: object) -> None:
            cursor = connection.cursor()
            for pragma in pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        if pragmas:
            event.listen(listening, listen, prepare)
        return engine

    return make


def rewriting(make: Callable[[str], Any], old: str, new: str) -> Callable[[str], Any]:
    """An engine that says something weaker than it is told, at every statement."""

    def remake(driver: str) -> Any:
        engine = make(driver)

        def rewrite(conn: Any, cursor: Any, statement: str, parameters: Any, *more: object) -> tuple[str, Any]:
            return statement.replace(old, new), parameters

        event.listen(getattr(engine, "sync_engine", engine), "before_cursor_execute", rewrite, retval=True)
        return engine

    return remake
