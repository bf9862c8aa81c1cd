"""Behind a pooler that gives each transaction whichever session is idle: nothing of ours needs or leaves a session."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

import psycopg
import pytest

import reconcile
from gateway_client import Client, State, StoreUnavailable
from tests.kit import ONE_SEND, ORDER
from tests.pg_pooler import Pooler
from tests.pg_shop import KINDS, Shop
from tests.worker_kit import order, work

SECONDS_MAX = 30.0
STATE = """
SELECT (SELECT count(*) FROM pg_prepared_statements),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
       (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
       (SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings WHERE source = 'session'),
       current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('transaction_isolation')
"""


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with Shop(request.param) as made:
        yield made


def test_each_transaction_on_another_session(shop: Shop) -> None:
    """F87: client, worker and nightly run work through it; no statement, lock or setting stays in a session."""
    with Pooler(shop.url) as pooler:
        before = pooler.ask(STATE)
        client = shop.client(pooler.url)
        assert client.charge(ORDER).state is State.SUCCEEDED
        for number in range(5):
            client.prepare(order(f"later_{number}"))
        assert work(shop.client(pooler.url)).states == {"succeeded": 5}
        shop.sandbox.fault("lost_reply")
        doubtful = shop.client(pooler.url, retry=ONE_SEND).charge(order("doubtful"))
        assert doubtful.state is State.UNKNOWN
        if shop.kind == "sync":
            result = reconcile.run(cast("Client", shop.client(pooler.url)), shop.clock.now.date())
            assert [(one.code, one.intent_id) for one in result.findings] == [("outcome_recovered", "doubtful")]
        assert shop.client(pooler.url).charge(order("doubtful")).state is State.SUCCEEDED
        assert pooler.ask(STATE) == before
        alternating = [one != other for one, other in zip(pooler.served, pooler.served[1:], strict=False)]
        assert (set(pooler.served), all(alternating)) == ({0, 1}, True)
    assert dict(shop.sandbox.succeeded()) == dict.fromkeys(
        ("first", ORDER.intent_id, "doubtful", *(f"later_{number}" for number in range(5))), 1
    )


def test_more_clients_than_sessions() -> None:
    """F87: five clients at once, of the same two intents, share two sessions, and each intent is charged once."""
    with Shop("sync") as shop, Pooler(shop.url) as pooler, ThreadPoolExecutor(5) as pool:
        clients = [shop.client(pooler.url) for _ in range(5)]
        told = [pool.submit(client.charge, order(f"order_{one}")) for client in clients for one in range(2)]
        assert {future.result(SECONDS_MAX).state for future in told} == {State.SUCCEEDED}
        assert [shop.paid(f"order_{one}") for one in range(2)] == [1, 1]


THEIRS = "UPDATE pending_charges SET reason = 'theirs'"
FAILS = "SELECT 1 / 0"


def leave_amid(pooler: Pooler, *statements: str) -> None:
    """Somebody else's client goes away without an end of its transaction."""
    url = pooler.url
    told: dict[str, Any] = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database}
    other = psycopg.connect(**told)
    with suppress(psycopg.errors.DivisionByZero):
        for statement in statements:
            other.execute(statement.encode())
    other.close()


def reasons(shop: Shop) -> list[object]:
    return [row["reason"] for row in shop.rows("pending_charges")]


@pytest.mark.parametrize("statements", [(THEIRS,), (THEIRS, FAILS)], ids=["open", "failed"])
def test_a_transaction_that_another_client_left(statements: tuple[str, ...], shop: Shop) -> None:
    """F87: what somebody left, open or failed, is rolled back by a good pooler: it is nothing to us."""
    with Pooler(shop.url, 1) as pooler:
        leave_amid(pooler, *statements)
        assert shop.client(pooler.url).charge(ORDER).state is State.SUCCEEDED
    assert (reasons(shop), shop.paid()) == ([None, None], 1)


@pytest.mark.parametrize("statements", [(THEIRS,), (THEIRS, FAILS)], ids=["open", "failed"])
@pytest.mark.parametrize("again", [False, True])
def test_a_transaction_that_is_handed_on(again: bool, statements: tuple[str, ...], shop: Shop) -> None:
    """F87: a careless pooler hands it on to us: nothing of it is committed, and nothing is sent within it."""
    with Pooler(shop.url, 1, careless=True) as pooler:
        client = shop.client(pooler.url)
        if again:
            client.find(ORDER.intent_id)
        leave_amid(pooler, *statements)
        posts = shop.posts
        if again or FAILS in statements:
            with pytest.raises(StoreUnavailable, match="amid somebody else's transaction"):
                client.charge(ORDER)
        assert (shop.posts, reasons(shop)) == (posts, [None])
        assert client.charge(ORDER).state is State.SUCCEEDED
    assert (reasons(shop), shop.paid()) == ([None, None], 1)
