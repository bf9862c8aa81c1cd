"""Many hands on one PostgreSQL: the same intents, the same rows, the caller's own transactions, at one moment."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.orm import Session

import reconcile
from gateway_client import (
    AsyncClient,
    Charge,
    Client,
    IntentConflict,
    Money,
    PaymentIntent,
    State,
    StoreUnavailable,
    Stripe,
    postgres,
)
from tests.kit import ONE_SEND, ORDER, USD_20
from tests.pg_shop import Shop

T = TypeVar("T")
SECONDS_MAX = 60.0
HANDS = 6
ORDERS = [PaymentIntent(f"order_{number}", USD_20, "pm_card_visa") for number in range(3)]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop("sync") as made:
        yield made


def at_once(*works: Callable[[], T]) -> list[T]:
    """Each in a thread of its own, begun together; what they return."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], T]) -> T:
        barrier.wait(SECONDS_MAX)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [done.result(SECONDS_MAX) for done in [pool.submit(begin, work) for work in works]]


def charged_once(shop: Shop, told: list[list[Charge]]) -> None:
    assert {charge.state for charges in told for charge in charges} == {State.SUCCEEDED}
    assert {order.intent_id: shop.paid(order.intent_id) for order in ORDERS} == dict.fromkeys(
        (order.intent_id for order in ORDERS), 1
    )
    assert shop.sql("SELECT count(*) FROM pending_charges") == [(len(ORDERS) + 1,)]
    keys = {sent.idempotency_key for sent in shop.sandbox.requests if sent.method == "POST"}
    assert len(keys) == len(ORDERS) + 1


def test_threads_with_clients_of_their_own(shop: Shop) -> None:
    """F16, F94: processes that charge the same intents at once are all told of one row and one charge of each."""

    def charge_all() -> list[Charge]:
        client = shop.client()
        return [client.charge(order) for order in random.sample(ORDERS, len(ORDERS))]

    charged_once(shop, at_once(*[charge_all] * HANDS))


def test_tasks(shop: Shop) -> None:
    """F16, F94: the same of tasks."""

    async def story() -> list[Charge]:
        url, door = shop.url.render_as_string(hide_password=False), shop.sandbox.async_transport()
        async with AsyncClient(Stripe(shop.sandbox.api_key), database=url, transport=door, clock=shop.clock) as client:
            return await asyncio.gather(*(client.charge(order) for order in ORDERS * 3))

    charged_once(shop, [asyncio.run(asyncio.wait_for(story(), SECONDS_MAX))])


def test_resumed_by_all_and_repaired(shop: Shop) -> None:
    """F111, F113: two that resume a row while the nightly run repairs it: one charge, one end, no finding left open."""
    shop.sandbox.fault("lost_reply")
    assert shop.client(retry=ONE_SEND).charge(ORDER).state is State.UNKNOWN
    shop.clock.advance(minutes=20)
    clients = [cast("Client", shop.client()) for _ in range(3)]
    at_once(clients[0].resume, clients[1].resume, lambda: (reconcile.run(clients[2], shop.clock.now.date()),))
    assert (shop.paid(), shop.states()) == (1, ["succeeded"])
    assert shop.sql("SELECT count(*) FROM paycli_findings WHERE closed_at IS NULL") == [(0,)]


# The caller's own transaction -----------------------------------------------------------------------------------------


class Caller:
    """A billing service with a table of its own in the same database."""

    def __init__(self, shop: Shop, isolation: str) -> None:
        self._shop = shop
        self.engine = create_engine(shop.url, isolation_level=isolation, poolclass=NullPool)
        self.client = cast("Client", shop.client_on(self.engine))

    def order(self, session: Session) -> None:
        session.execute(text("INSERT INTO callers_orders VALUES (1)"))

    def orders(self) -> int:
        ((count,),) = self._shop.sql("SELECT count(*) FROM callers_orders")
        return int(count)


@pytest.fixture
def callers(shop: Shop) -> Iterator[Callable[[str], Caller]]:
    shop.sql("DROP TABLE IF EXISTS callers_orders")
    shop.sql("CREATE TABLE callers_orders (id int)")
    yield lambda isolation: Caller(shop, isolation)
    shop.sql("DROP TABLE callers_orders")


def prepared_meanwhile(shop: Shop, caller: Caller, mine: Session) -> Any:
    """`prepare` in the caller's transaction, while another one has the row and commits it then."""
    other = create_engine(shop.url, poolclass=NullPool)
    with Session(other) as theirs, ThreadPoolExecutor(1) as pool:
        cast("Client", shop.client_on(other)).prepare(ORDER, theirs)
        caller.order(mine)
        racing = pool.submit(caller.client.prepare, ORDER, mine)
        last = time.monotonic() + SECONDS_MAX
        while not shop.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"):
            assert time.monotonic() < last
            time.sleep(0.01)
        theirs.commit()
        return racing.result(SECONDS_MAX)


def test_prepare_that_loses_the_race_finds_the_row(shop: Shop, callers: Callable[[str], Caller]) -> None:
    """F94: another transaction inserts the row first: the caller's finds it, and commits its order with it."""
    caller = callers("READ COMMITTED")
    with Session(caller.engine) as mine:
        assert prepared_meanwhile(shop, caller, mine).state is State.PREPARED
        mine.commit()
    assert (caller.orders(), shop.states(), shop.history()) == (1, ["prepared"], [("claimed", "prepared")])


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_prepare_that_may_not_see_the_row(isolation: str, shop: Shop, callers: Callable[[str], Caller]) -> None:
    """F93: a transaction that must not see what was committed since it began is told to do it all again."""
    caller = callers(isolation)
    with Session(caller.engine) as mine:
        with pytest.raises(StoreUnavailable, match="roll this one back and do it again"):
            prepared_meanwhile(shop, caller, mine)
        mine.rollback()
        caller.order(mine)
        assert caller.client.prepare(ORDER, mine).state is State.PREPARED
        mine.commit()
    assert (caller.orders(), shop.states()) == (1, ["prepared"])


def test_a_row_that_another_transaction_holds(
    shop: Shop, callers: Callable[[str], Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F97: neither `prepare` nor `charge` waits for ever for a `prepare` that is not committed; both say so."""
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_S", 0.3)
    first, second = callers("READ COMMITTED"), callers("READ COMMITTED")
    with Session(first.engine) as theirs, Session(second.engine) as mine:
        first.client.prepare(ORDER, theirs)
        with pytest.raises(StoreUnavailable, match="perhaps one with a `prepare` that is not committed yet"):
            shop.client().charge(ORDER)
        second.order(mine)
        with pytest.raises(StoreUnavailable, match="a row stayed locked"):
            second.client.prepare(ORDER, mine)
        mine.commit()  # the caller may do without
        theirs.commit()
    assert (second.orders(), shop.posts) == (1, 0)
    assert shop.client().charge(ORDER).state is State.SUCCEEDED
    assert shop.paid() == 1


def test_the_caller_waits_as_it_did_before(callers: Callable[[str], Caller]) -> None:
    """A `prepare` in the caller's transaction leaves no timeouts of ours in it, whether it was written or refused."""
    caller = callers("READ COMMITTED")
    waits = text("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
    with Session(caller.engine) as mine:
        mine.execute(text("SET LOCAL lock_timeout = '7min'"))
        caller.client.prepare(ORDER, mine)
        assert tuple(mine.execute(waits).one()) == ("7min", "0")
        with pytest.raises(IntentConflict):
            caller.client.prepare(replace(ORDER, amount=Money(1, "usd")), mine)
        assert tuple(mine.execute(waits).one()) == ("7min", "0")
