"""An AsyncClient in two event loops, real ones: the second is refused before anything is written or sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from gateway_client import AsyncClient, AsyncWorker, State, UsageError
from gateway_client.sandbox import Sandbox
from tests import postgres
from tests.oracle_world import StillClock, async_client_of, database_url, intent_of, sandbox_of

SECONDS_MAX = 60.0
DATABASES = (
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.skipif(postgres.why_not() is not None, reason="no PostgreSQL here")),
)


class Shop:
    """A store, a provider, and one client on them."""

    def __init__(self, url: str) -> None:
        self.url, self.clock = url, StillClock()
        self.sandbox: Sandbox = sandbox_of(self.clock)
        self.client = self.another()

    def another(self) -> AsyncClient:
        return async_client_of(self.sandbox, self.clock, self.url)

    def seen(self) -> tuple[int, int, int]:
        """How many charges and events are on disk, and how many requests the provider has seen."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            charges, events = (
                connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in ("pending_charges", "paycli_events")
            )
        engine.dispose()
        return charges or 0, events or 0, len(self.sandbox.requests)


@pytest.fixture(params=DATABASES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    url = database_url(tmp_path) if request.param == "sqlite" else postgres.shown(postgres.fresh_database())
    return Shop(url)


async def prepare_in_a_session(shop: Shop) -> object:
    engine = create_async_engine(shop.url.replace("sqlite:", "sqlite+aiosqlite:"))
    try:
        async with AsyncSession(engine) as session:
            return await shop.client.prepare(intent_of("order_2"), session)
    finally:
        await engine.dispose()


CALLS: dict[str, Callable[[Shop], Awaitable[object]]] = {
    "charge": lambda shop: shop.client.charge(intent_of("order_2")),
    "charge again": lambda shop: shop.client.charge(intent_of("order_1")),
    "prepare": lambda shop: shop.client.prepare(intent_of("order_2")),
    "prepare in a session": prepare_in_a_session,
    "resume": lambda shop: shop.client.resume(),
    "cancel": lambda shop: shop.client.cancel("order_1", because="why not"),
    "find": lambda shop: shop.client.find("order_1"),
    "work": lambda shop: AsyncWorker(shop.client).run(until_idle=True),
}


async def charged(client: AsyncClient, intent_id: str) -> State:
    try:
        return (await client.charge(intent_of(intent_id))).state
    finally:
        await client.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_second_loop_is_refused(shop: Shop, call: str) -> None:
    """D1: in a second `asyncio.run` each method is a UsageError that says what to do; nothing is written or sent."""
    with asyncio.Runner() as first:
        assert first.run(shop.client.charge(intent_of("order_1"))).state is State.SUCCEEDED
        before = shop.seen()

        async def again() -> object:
            return await CALLS[call](shop)

        with pytest.raises(UsageError, match=r"one AsyncClient for each loop.*Nothing was written or sent") as refused:
            in_a_thread(lambda: asyncio.run(again()))  # a thread: one loop at a time may run in this one
        assert type(refused.value) is UsageError
        assert shop.seen() == before
        assert first.run(shop.client.find("order_1")) is not None  # the first loop's goes on
        first.run(shop.client.close())


def in_a_thread(work: Callable[[], Any]) -> Any:
    """What it returns or raises."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append((work(), None))
        except Exception as error:
            ended.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SECONDS_MAX)
    ((result, error),) = ended
    if error is not None:
        raise error
    return result


def test_one_loop_after_the_other(shop: Shop) -> None:
    """D1: `asyncio.run` twice, as a job queue's tasks do: the second is refused, by `charge` and by `close`."""

    async def charge() -> State:
        return (await shop.client.charge(intent_of("order_1"))).state

    async def first() -> State:
        try:
            return await charge()
        finally:
            await shop.client._database.close()  # else the test's own loop would leave a connection open

    assert asyncio.run(first()) is State.SUCCEEDED
    before = shop.seen()
    for _ in range(2):
        with pytest.raises(UsageError, match="one AsyncClient for each loop"):
            asyncio.run(charge())
    with pytest.raises(UsageError, match="one AsyncClient for each loop"):
        asyncio.run(shop.client.close())
    assert shop.seen() == before


def test_a_client_for_each_loop(shop: Shop) -> None:
    """D1: what the message says works: two loops in two threads, each with a client of its own, charge once each."""
    clients = (shop.client, shop.another())
    for number, each in enumerate(clients):
        story = charged(each, f"order_{number}")
        assert in_a_thread(partial(asyncio.run, story)) is State.SUCCEEDED
    assert shop.sandbox.succeeded() == {"order_0": 1, "order_1": 1}


def test_made_outside_of_a_loop(shop: Shop) -> None:
    """D1: a client belongs to the loop of its first call, not to where it was made; closed before one, it is closed."""
    other = shop.another()
    asyncio.run(other.close())
    with pytest.raises(UsageError, match="closed"):
        asyncio.run(other.charge(intent_of("order_9")))
    assert asyncio.run(charged(shop.client, "order_1")) is State.SUCCEEDED


def test_many_threads_at_once(shop: Shop) -> None:
    """D1: when several loops make the first call at one moment, one of them has the client, the others are refused."""
    start = threading.Barrier(8)
    ended: list[str] = []

    async def call(number: int) -> State:
        return (await shop.client.charge(intent_of(f"order_{number}"))).state

    def run(number: int) -> None:
        with asyncio.Runner() as runner:
            runner.get_loop()
            start.wait(SECONDS_MAX)
            try:
                ended.append(runner.run(call(number)).value)
            except UsageError:
                ended.append("refused")
            else:
                runner.run(shop.client.close())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX)
    assert sorted(ended) == ["refused"] * 7 + ["succeeded"]
    assert len(shop.sandbox.succeeded()) == 1


# An engine of the caller's -------------------------------------------------------------------------------------------


def engine_of(shop: Shop, **options: Any) -> AsyncEngine:
    return create_async_engine(shop.url.replace("sqlite:", "sqlite+aiosqlite:"), **options)


def test_one_engine_in_two_loops(shop: Shop) -> None:
    """D1: an AsyncEngine of the caller's behind two clients in two loops is refused in the second one, by each call."""
    engine = engine_of(shop)
    clients = [async_client_of(shop.sandbox, shop.clock, engine) for _ in range(3)]
    with asyncio.Runner() as first:
        assert first.run(clients[0].charge(intent_of("order_1"))).state is State.SUCCEEDED
        assert first.run(clients[1].charge(intent_of("order_1"))).state is State.SUCCEEDED  # the same loop
        before = shop.seen()

        async def again() -> object:
            return await clients[2].charge(intent_of("order_2"))

        for _ in range(2):
            with pytest.raises(UsageError, match=r"AsyncEngine belongs to another event loop.*Nothing was written"):
                in_a_thread(lambda: asyncio.run(again()))
        assert shop.seen() == before
        first.run(engine.dispose())


@pytest.mark.parametrize("disposed", [True, False], ids=["disposed", "no pool"])
def test_one_engine_that_keeps_no_connection(shop: Shop, disposed: bool) -> None:
    """D1: what the message says works: an engine that is disposed of between two loops, or one without a pool."""
    engine = engine_of(shop, **({} if disposed else {"poolclass": NullPool}))

    async def story(number: int) -> State:
        try:
            return await charged(async_client_of(shop.sandbox, shop.clock, engine), f"order_{number}")
        finally:
            if disposed:
                await engine.dispose()

    assert [in_a_thread(partial(asyncio.run, story(number))) for number in (1, 2)] == [State.SUCCEEDED] * 2
    assert shop.sandbox.succeeded() == {"order_1": 1, "order_2": 1}
