"""Whatever a caller may hand in, made to measure: engines, sessions and files, of either database and either driver.

What each of them should come to is told in `test_intake.py` and its neighbours.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
from sqlalchemy import URL, NullPool, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from gateway_client import AsyncClient, Client, Sandbox, State, Stripe
from gateway_client.db import Database
from tests import postgres
from tests.kit import ORDER, FakeClock

SQLITE, POSTGRES = "sqlite", "postgresql"
DATABASES, KINDS = (SQLITE, POSTGRES), ("sync", "async")
NO_WAIT = {"prepare_threshold": None}
Before = Callable[[Session], object]


class Shop:
    """A billing service with a store, a table of orders beside it, and a provider."""

    def __init__(self, database: str, kind: str, folder: Path) -> None:
        self.database, self.kind, self.folder = database, kind, folder
        self.clock = FakeClock()
        self.sandbox = Sandbox(time=self.clock.true_time)
        self.path = folder / "charges.db"
        self.url = postgres.fresh_database() if database == POSTGRES else URL.create("sqlite", database=str(self.path))
        self._engines: list[Any] = []
        self._posts = 0
        self._happenings: list[Callable[[], object]] = []
        self._charge_first()
        self._runner = asyncio.Runner()
        self._hand = create_engine(self.url)
        self.callers: Any = None  # an engine that a test keeps
        self.hand("CREATE TABLE orders (name TEXT)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for engine in self._engines:
            if isinstance(engine, AsyncEngine):
                self._runner.run(engine.dispose())
            else:
                engine.dispose()
        self._hand.dispose()
        self._runner.close()

    def run(self, story: Any) -> Any:
        """Run a coroutine on the loop of this shop."""
        return self._runner.run(story)

    # --- what may be handed in

    def engine(self, *, url: URL | None = None, kind: str | None = None, **options: Any) -> Any:
        """An engine of the kind that the client takes."""
        made: Any
        address = url or self.url
        if self.database == POSTGRES:
            options["connect_args"] = {**NO_WAIT, **options.get("connect_args", {})}
        if (kind or self.kind) == "sync":
            made = create_engine(address, **options)
        else:
            name = "sqlite+aiosqlite" if self.database == SQLITE else "postgresql+psycopg"
            made = create_async_engine(address.set(drivername=name), **options)
        self._engines.append(made)
        return made

    def listening(self, name: str, listen: Callable[..., object], **options: Any) -> Any:
        """An engine with an event listener of the caller's."""
        engine = self.engine(**options)
        event.listen(getattr(engine, "sync_engine", engine), name, listen)
        return engine

    def connect(self, url: URL | None = None) -> Any:
        """A connection of the driver, from a `creator` of the caller's; for the kind of client."""
        path = self.path
        if self.database == SQLITE:
            if self.kind == "sync":
                return sqlite3.connect(path, check_same_thread=False)
            import aiosqlite

            return aiosqlite.connect(path)
        import psycopg

        opened: Any = psycopg.Connection if self.kind == "sync" else psycopg.AsyncConnection
        return opened.connect(**psycopg_words(url or self.url))

    def created(self, creator: Callable[[], Any], **options: Any) -> Any:
        """An engine with a creator of the caller's."""
        given: dict[str, Any] = {"creator" if self.kind == "sync" else "async_creator": creator}
        return self.engine(**given, **options)

    def elsewhere(self) -> Any:
        """An engine of another database that has a table of orders, and a store."""
        if self.database == POSTGRES:
            other = postgres.fresh_database()
        else:
            other = self.url.set(database=str(self.folder / "other.db"))
            store = Database(postgres.shown(other))
            store.create()
            store.close()
        made = create_engine(other)
        with made.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE orders (name TEXT)")
        made.dispose()
        return self.engine(url=other)

    def before_answers(self, happening: Callable[[], object]) -> None:
        """Let this happen when the provider has executed the next charge, and before its answer arrives."""
        self._happenings.append(happening)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        response = self.sandbox.transport().handle_request(request)
        if request.method == "POST" and self._happenings:
            self._happenings.pop()()
        return response

    # --- what is done with it

    def client(self, database: Any) -> Any:
        """A client of this shop's kind."""
        gateway, door = Stripe(Sandbox.api_key), httpx.MockTransport(self._handle)
        made: Any = Client if self.kind == "sync" else AsyncClient
        return made(gateway, database=database, transport=door, clock=self.clock)

    def _charge_first(self) -> None:
        """A charge of another order, which binds the store."""
        gateway, door = Stripe(Sandbox.api_key), self.sandbox.transport()
        with Client(gateway, database=postgres.shown(self.url), transport=door, clock=self.clock) as client:
            client.charge(replace(ORDER, intent_id="first"))
        self._posts = self.posts

    def charge(self, database: Any) -> State:
        """Charge the order by a client on that database."""
        if self.kind == "sync":
            with self.client(database) as client:
                return State(client.charge(ORDER).state)

        async def story() -> State:
            async with self.client(database) as client:
                return State((await client.charge(ORDER)).state)

        return State(self.run(story()))

    def prepare(self, engine: Any, before: Before = lambda session: None, **options: Any) -> None:
        """Write an order and prepare its charge in one transaction of the caller's, and commit it."""

        def order(session: Session) -> None:
            before(session)
            session.execute(text("INSERT INTO orders VALUES ('order_42')"))

        if self.kind == "sync":
            with self.client(postgres.shown(self.url)) as client, Session(engine, **options) as session:
                order(session)
                client.prepare(ORDER, session)
                session.commit()
            return

        async def story() -> None:
            async with self.client(postgres.shown(self.url)) as client, AsyncSession(engine, **options) as session:
                await session.run_sync(order)
                await client.prepare(ORDER, session)
                await session.commit()

        self.run(story())

    def prepare_in(self, session: Any) -> None:
        """Prepare the charge of the order in what may be a session."""
        with self.client(postgres.shown(self.url)) as client:
            client.prepare(ORDER, session)

    # --- what came of it

    def hand(self, statement: str) -> list[tuple[Any, ...]]:
        """A hand on the database."""
        if self.database == SQLITE:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0)) as connection:
                return connection.execute(statement).fetchall()
        return postgres.sql(self._hand, statement)

    def states(self) -> list[str]:
        """Of the attempts of the order, as others see them on disk."""
        return [state for (state,) in self.hand("SELECT state FROM pending_charges WHERE intent_id = 'order_42'")]

    def orders(self) -> int:
        """How many orders others see."""
        ((count,),) = self.hand("SELECT count(*) FROM orders")
        return int(count)

    @property
    def posts(self) -> int:
        """How many requests that could move money arrived."""
        return sum(request.method == "POST" for request in self.sandbox.requests) - self._posts


def psycopg_words(url: URL) -> dict[str, Any]:
    """What psycopg is told to connect to a URL."""
    words = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    return {name: word for name, word in words.items() if word is not None} | NO_WAIT


Make = Callable[[Shop], Any]


def begins(how: str) -> Make:
    """An engine that begins its transactions by itself, as SQLAlchemy's manual has it for SQLite."""

    def make(shop: Shop) -> Any:
        engine = shop.listening("begin", lambda connection: connection.exec_driver_sql(how))
        inner = getattr(engine, "sync_engine", engine)
        event.listen(inner, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        return engine

    return make


def commits_nothing(shop: Shop) -> Any:
    """An engine whose connections have a commit() that does nothing."""
    if shop.database == SQLITE:

        class Idle(sqlite3.Connection):
            def commit(self) -> None:
                """Nothing."""

        return shop.engine(connect_args={"factory": Idle})
    import psycopg

    class Quiet(psycopg.Connection[Any]):
        def commit(self) -> None:
            """Nothing."""

    class QuietAsync(psycopg.AsyncConnection[Any]):
        async def commit(self) -> None:
            """Nothing."""

    made: Any = Quiet if shop.kind == "sync" else QuietAsync
    return shop.created(lambda: made.connect(**psycopg_words(shop.url)))


def second_store(shop: Shop) -> None:
    """The same tables in another schema, with the same rows."""
    tables = [name for (name,) in shop.hand("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    shop.hand("CREATE SCHEMA other")
    for name in tables:
        shop.hand(f"CREATE TABLE other.{name} (LIKE public.{name} INCLUDING ALL)")
        shop.hand(f"INSERT INTO other.{name} SELECT * FROM public.{name}")


def two_schemas(shop: Shop) -> Any:
    """An engine whose every second connection finds other tables."""
    second_store(shop)
    numbers = itertools.count()

    def connected(connection: Any, _: object) -> None:
        if next(numbers) % 2:
            cursor = connection.cursor()
            cursor.execute("SET search_path TO other")
            cursor.close()
            connection.commit()

    return shop.listening("connect", connected, poolclass=NullPool)


def commits_by_itself(shop: Shop) -> Any:
    """An engine with a listener that commits after each statement that writes."""

    def commit(connection: Any, cursor: Any, statement: str, *more: object) -> None:
        if statement.startswith("INSERT"):
            connection.connection.dbapi_connection.commit()

    return shop.listening("after_cursor_execute", commit)
