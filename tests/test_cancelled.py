"""Tasks that are cancelled, at every await, once and again: their transaction has ended when they have (F12, F13).

What a call leaves behind when its process dies is `test_kill_effects.py`'s; a COMMIT that nobody answers is
`test_postgres_commits.py`'s.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from gateway_client import AsyncClient, PaymentIntent, State
from tests import postgres
from tests.intake_kit import DATABASES, SQLITE, Shop
from tests.kit import ORDER

AWAITS_MIN = {"url": 3, "engine": 15}  # of one charge, in all of its tasks: fewer would be another charge
OPEN = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"


class Awaits:
    """Counts the awaits of every task of a loop, and cancels one task at some of them."""

    def __init__(self) -> None:
        self.number = 0
        self.at: range = range(0)
        self.task: asyncio.Task[Any] | None = None

    def start(self, story: Coroutine[Any, Any, Any], at: range) -> asyncio.Task[Any]:
        """Begin a task that is cancelled at these awaits of its own, or of those that work for it."""
        self.number, self.at = 0, at
        self.task = asyncio.create_task(story)
        return self.task

    def factory(self, loop: asyncio.AbstractEventLoop, story: Any, **options: Any) -> asyncio.Task[Any]:
        async def counted() -> Any:
            return await self._counted(story)

        return asyncio.Task(counted(), loop=loop, **options)

    @types.coroutine
    def _counted(self, story: Any) -> Generator[Any, Any, Any]:
        step, value = story.send, None
        while True:
            try:
                awaited = step(value)
            except StopIteration as end:
                return end.value
            self.number += 1
            if self.number in self.at and self.task is not None:
                self.task.cancel()
            try:
                step, value = story.send, (yield awaited)
            except BaseException as error:
                step, value = story.throw, error


def locks(shop: Shop) -> int:
    """How many transactions are open on the store."""
    if shop.database == SQLITE:
        with closing(sqlite3.connect(shop.path, isolation_level=None, timeout=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return 1
            other.execute("ROLLBACK")
        return 0
    ((found,),) = shop.hand(OPEN)
    return int(found)


async def server_noticed(shop: Shop) -> None:
    """A server may need a moment to see that a connection was closed; a file needs none."""
    for _ in range(1000):
        if shop.database == SQLITE or not locks(shop):
            return
        await asyncio.sleep(0.005)


async def charge(shop: Shop, client: AsyncClient, order: PaymentIntent) -> None:
    await client.charge(order)


async def prepare(shop: Shop, client: AsyncClient, order: PaymentIntent) -> None:
    """In a session of the caller's, on an engine of his own."""
    async with AsyncSession(shop.callers) as session:
        await client.prepare(order, session)
        await session.commit()


Act = Callable[[Shop, AsyncClient, PaymentIntent], Coroutine[Any, Any, None]]


async def cancelled_at_every_await(shop: Shop, act: Act, times: int, given: str) -> int:
    """Begin it again and again, and cancel it so many times in a row, each time a little later; how often.

    `given`: what the client is given, a URL (whole transactions in a thread) or an engine (each statement is awaited).
    """
    awaits, kept = Awaits(), []
    asyncio.get_running_loop().set_task_factory(awaits.factory)
    engine = shop.engine() if given == "engine" else None
    async with shop.client(engine or postgres.shown(shop.url)) as client:
        await client.find("first")
        for number in count(1):
            order = replace(ORDER, intent_id=f"order_{number}")
            task = awaits.start(act(shop, client, order), range(number, number + times))
            await asyncio.wait({task})
            if awaits.number < number:
                break
            with pytest.raises(asyncio.CancelledError) as cancelled:
                task.result()
            kept.append(cancelled.value)  # with every frame that it went through
            await server_noticed(shop)
            assert (number, locks(shop)) == (number, 0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        pool = getattr(client._database, "_database", client._database)._engine.pool
        assert pool.checkedout() == 0
        await client.resume()
    return number


@pytest.mark.parametrize("given", AWAITS_MIN)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("database", DATABASES)
def test_cancelled_at_every_await(database: str, times: int, given: str, tmp_path: Path) -> None:
    """A task that was cancelled leaves no transaction and no connection behind, whoever keeps its traceback."""
    with Shop(database, "async", tmp_path) as shop:
        assert shop.run(cancelled_at_every_await(shop, charge, times, given)) >= AWAITS_MIN[given]
        assert {state for (state,) in shop.hand("SELECT state FROM pending_charges")} == {"succeeded"}
        assert set(shop.sandbox.succeeded().values()) == {1}


def test_cancelled_in_the_caller_s_session(tmp_path: Path) -> None:
    """The same for `prepare` in a session of the caller's, once he has closed it; the order can be placed again."""
    with Shop(SQLITE, "async", tmp_path) as shop:
        shop.callers = shop.engine()
        assert shop.run(cancelled_at_every_await(shop, prepare, 1, "engine")) >= AWAITS_MIN["engine"]
        assert {state for (state,) in shop.hand("SELECT state FROM pending_charges")} == {"succeeded"}


def interrupted(engine: Any, error: type[BaseException]) -> None:
    """Let the call that writes the row end by this error, with a statement in its traceback that is not done yet."""
    armed = [True]

    def interrupt(conn: Any, cursor: Any, statement: str, *more: object) -> None:
        if armed and statement.startswith("INSERT INTO paycli_events"):
            armed.clear()
            raise error

    event.listen(getattr(engine, "sync_engine", engine), "after_cursor_execute", interrupt)


def test_interrupted_in_a_statement(tmp_path: Path) -> None:
    """SQLite's lock is given back by whatever ends a call, a KeyboardInterrupt for one, while the exception lives."""
    with Shop(SQLITE, "sync", tmp_path) as shop:
        engine = shop.engine()
        interrupted(engine, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt) as kept:
            shop.charge(engine)
        assert (locks(shop), shop.states()) == (0, [])
        assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED
        assert kept.value is not None


def test_interrupted_in_the_caller_s_session(tmp_path: Path) -> None:
    """The same for `prepare` in a session of the caller's, once he has closed it."""
    with Shop(SQLITE, "sync", tmp_path) as shop:
        engine = shop.engine()
        interrupted(engine, KeyboardInterrupt)
        with shop.client(postgres.shown(shop.url)) as client:
            with pytest.raises(KeyboardInterrupt) as kept, Session(engine) as session:
                client.prepare(ORDER, session)
            assert (locks(shop), shop.states()) == (0, [])
            assert kept.value is not None


@pytest.mark.filterwarnings("ignore:coroutine 'AsyncConnection.close' was never awaited")  # nor can it be, any more
@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("given", "last"), [("url", 8), ("engine", 32)])
def test_a_loop_that_ends_amid_a_charge(given: str, last: int, tmp_path: Path) -> None:
    """A loop that ends cancels all of its tasks: the lock is free then, whoever keeps them."""
    kept = []

    async def story(shop: Shop, steps: int) -> None:
        awaits = Awaits()
        asyncio.get_running_loop().set_task_factory(awaits.factory)
        client = shop.client(shop.engine() if given == "engine" else postgres.shown(shop.url))
        await client.find("first")
        kept.append(awaits.start(client.charge(ORDER), range(0)))
        while awaits.number < steps and not kept[-1].done():  # noqa: ASYNC110 - as far as that, and no further
            await asyncio.sleep(0)

    for steps in range(last // 4, last, max(1, last // 16)):
        (tmp_path / str(steps)).mkdir()
        with Shop(SQLITE, "async", tmp_path / str(steps)) as shop:
            asyncio.run(story(shop, steps))
            assert (steps, locks(shop)) == (steps, 0)
        kept.clear()
        gc.collect()
