"""Connections that are lost at a commit, or before one: what came of it is read again, never assumed.

A proxy before a real server cuts at the COMMIT. Other faults of the server: `test_postgres_faults.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import URL

from gateway_client import (
    AsyncClient,
    Client,
    OutcomeNotRecorded,
    PaymentIntent,
    State,
    StoreUnavailable,
    Stripe,
    postgres,
)
from gateway_client.flow.charging import altered
from gateway_client.flow.effects import BeginSend, MeetProvider, ReadBinding, Settle
from gateway_client.outcome import (
    Answer,
    Cause,
    Conflict,
    Declined,
    InFlight,
    NotExecuted,
    Outcome,
    Processing,
    Succeeded,
    Unknown,
)
from gateway_client.store.claim import read_binding
from tests.kit import ONE_SEND, ORDER
from tests.pg_proxy import WAIT_S_MAX, How, Proxy
from tests.pg_shop import KINDS, Shop

SECONDS_MAX = 60.0
CLAIM, BEGIN_SEND, SETTLE = 1, 2, 3  # the commits of a charge
CHARGED = [("claimed", "prepared"), ("send begun", "sending"), ("succeeded", "succeeded")]


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with Shop(request.param) as made:
        yield made


@pytest.fixture
def proxy(shop: Shop) -> Iterator[Proxy]:
    with Proxy(shop.url) as made:
        yield made


@pytest.mark.parametrize("how", [How.CUT_BEFORE, How.CUT_AFTER])
@pytest.mark.parametrize("commit", [CLAIM, SETTLE])
def test_a_commit_that_nobody_confirmed_is_read_again(commit: int, how: How, shop: Shop, proxy: Proxy) -> None:
    """F85, F86: a claim or an outcome whose connection broke at its COMMIT is found, or written, on another one."""
    proxy.at(how, commit)
    assert shop.client(proxy.url).charge(ORDER).state is State.SUCCEEDED
    assert proxy.struck.wait(WAIT_S_MAX)
    assert (shop.posts, shop.paid(), shop.history()) == (1, 1, CHARGED)


@pytest.mark.parametrize(("how", "state"), [(How.CUT_BEFORE, "prepared"), (How.CUT_AFTER, "sending")])
def test_a_send_whose_commit_nobody_confirmed_does_not_leave(how: How, state: str, shop: Shop, proxy: Proxy) -> None:
    """F86: when it is not known whether the send is on disk, nothing is sent; the row is resumed, and charged once."""
    proxy.at(how, BEGIN_SEND)
    with pytest.raises(StoreUnavailable, match="the connection was lost") as refused:
        shop.client(proxy.url).charge(ORDER)
    assert not isinstance(refused.value, OutcomeNotRecorded)
    assert (shop.posts, shop.states()) == (0, [state])
    assert [charge.state for charge in shop.client().resume()] == [State.SUCCEEDED]
    assert (shop.posts, shop.paid()) == (1, 1)


@pytest.mark.parametrize(("how", "sends"), [(How.CUT_BEFORE, 1), (How.CUT_AFTER, 2)])
def test_a_claim_with_its_first_send_is_read_again(how: How, sends: int, shop: Shop, proxy: Proxy) -> None:
    """F85, F86: so is the commit that makes a row and begins its first send; of that send no byte has left.

    Where it is on disk it is another's, for all that is known: another send of the same key is begun, and charged once.
    """
    client = shop.client(proxy.url)
    assert client.charge(replace(ORDER, intent_id="order_43")).state is State.SUCCEEDED
    before = shop.posts
    proxy.at(how, CLAIM)
    assert client.charge(ORDER).state is State.SUCCEEDED
    assert proxy.struck.wait(WAIT_S_MAX)
    assert (shop.posts - before, shop.paid()) == (1, 1)
    assert shop.sql("SELECT count(*) FROM paycli_sends WHERE intent_id = 'order_42'") == [(sends,)]


@pytest.mark.parametrize("how", [How.CUT_BEFORE, How.CUT_AFTER])
def test_the_binding_is_read_again(how: How, shop: Shop, proxy: Proxy) -> None:
    """F86: the first commit of a store, whom it belongs to, is no exception."""
    shop.sql("DELETE FROM paycli_store")
    proxy.at(how)
    assert shop.client(proxy.url).charge(ORDER).state is State.SUCCEEDED
    assert proxy.struck.wait(WAIT_S_MAX)
    assert (shop.paid(), shop.sql("SELECT count(*) FROM paycli_store")) == (1, [(1,)])


def prepared(shop: Shop) -> None:
    shop.client().prepare(ORDER)


def left_in_doubt(shop: Shop) -> None:
    shop.sandbox.fault("lost_request")
    assert shop.client(retry=ONE_SEND).charge(ORDER).state is State.UNKNOWN


def debited(shop: Shop) -> None:
    intent = PaymentIntent(ORDER.intent_id, ORDER.amount, "pm_usBankAccount_success")
    assert shop.client().charge(intent).state is State.PROCESSING


@pytest.mark.parametrize("before", [prepared, left_in_doubt, debited])
@pytest.mark.parametrize("kind", KINDS)
def test_giving_up_twice_is_giving_up_once(kind: str, before: Callable[[Shop], None]) -> None:
    """F86: a cancellation whose commit nobody confirmed has the history of one that was confirmed."""
    with Shop(kind) as calm:
        before(calm)
        calm.client().cancel(ORDER.intent_id, because="test")
        expected = calm.history()
    with Shop(kind) as shop, Proxy(shop.url) as proxy:
        before(shop)
        proxy.at(How.CUT_AFTER)
        shop.client(proxy.url).cancel(ORDER.intent_id, because="test")
        assert proxy.struck.wait(WAIT_S_MAX)
        assert shop.history() == expected


def test_absence_proven_twice_is_proven_once(shop: Shop, proxy: Proxy) -> None:
    """F86: a proof of absence whose commit nobody confirmed is one event."""
    left_in_doubt(shop)
    shop.client().cancel(ORDER.intent_id, because="test")
    shop.clock.advance(hours=80)
    proxy.at(How.CUT_AFTER, 2)  # the first is the gate's, which holds it
    assert [charge.state for charge in shop.client(proxy.url).resume()] == [State.ABSENT]
    assert proxy.struck.wait(WAIT_S_MAX)
    assert [state for _, state in shop.history()].count("absent") == 1
    assert shop.paid() == 0


OUTCOMES: dict[str, Outcome] = {
    "succeeded": Succeeded("pi_1", "ch_1"),
    "declined": Declined("card_declined", "pi_1"),
    "processing": Processing("being processed", "pi_1"),
    "not sent": NotExecuted(Cause.RATE_LIMITED, "429"),
    "in flight": InFlight("409"),
    "unknown": Unknown("timeout"),
    "conflict": Conflict("another amount", "pi_1", "ch_1"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_settling_twice_is_settling_once(name: str) -> None:
    """F86, S9: whatever the provider answered, an outcome whose commit nobody confirmed is recorded as if once."""
    with Shop("sync") as calm:
        expected = settled(calm, calm.url, OUTCOMES[name])
    with Shop("sync") as shop, Proxy(shop.url) as proxy:
        assert settled(shop, proxy.url, OUTCOMES[name], lambda: proxy.at(How.CUT_AFTER)) == expected
        assert proxy.struck.wait(WAIT_S_MAX)


def settled(shop: Shop, url: URL, outcome: Outcome, meanwhile: Callable[[], object] = int) -> list[Any]:
    """What is on disk of a charge after this outcome of its send."""
    client = shop.client(url)
    assert isinstance(client, Client)
    client.prepare(ORDER)
    client.perform(MeetProvider())
    gateway = Stripe(shop.sandbox.api_key)
    binding = client.transact(lambda tx: read_binding(tx, ReadBinding()))
    assert binding is not None
    as_frozen = partial(altered, client.setup, binding)
    profile, credential = gateway.profile, gateway.credential_id
    client.perform(BeginSend(ORDER.intent_id, 1, binding, profile, credential, as_frozen, time_asked=False))
    meanwhile()
    client.perform(Settle(ORDER.intent_id, 1, Answer(outcome, status=200), saves_declines=True, send_no=1))
    tables = ("pending_charges", "paycli_sends", "paycli_events", "paycli_findings")
    shop.sql("UPDATE pending_charges SET first_sent_db_at = NULL")  # the one time that is real
    return [shop.sql(f"SELECT * FROM {table} WHERE intent_id = 'order_42' ORDER BY 1, 2, 3") for table in tables]


# A task that is cancelled in the middle of a commit -------------------------------------------------------------------


@pytest.mark.parametrize("how", [How.FREEZE_BEFORE, How.FREEZE_AFTER])
@pytest.mark.parametrize("commit", [CLAIM, BEGIN_SEND, SETTLE])
def test_cancelled_in_a_commit(commit: int, how: How) -> None:
    """F13: a task cancelled while its COMMIT is on its way ends as cancelled; what came of it is read by the next."""
    with Shop("sync") as shop, Proxy(shop.url) as proxy:
        proxy.at(how, commit)
        asyncio.run(cancelled(shop, proxy, heals=True))
        assert shop.posts == (1 if commit == SETTLE else 0)
        assert shop.client().charge(ORDER).state is State.SUCCEEDED
        assert (shop.paid(), shop.states()) == (1, ["succeeded"])


def test_cancelled_in_a_commit_that_never_ends() -> None:
    """F13: the same when nobody ever answers: the task ends all the same, as cancelled."""
    with Shop("sync") as shop:
        with Proxy(shop.url) as proxy, pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres, "DEADLINE_S", 1.0)
            proxy.at(How.FREEZE_AFTER, BEGIN_SEND)
            asyncio.run(cancelled(shop, proxy, heals=False))
        assert shop.posts == 0
        assert shop.client().charge(ORDER).state is State.SUCCEEDED
        assert shop.paid() == 1


async def cancelled(shop: Shop, proxy: Proxy, *, heals: bool) -> None:
    """Charge, and cancel the task when the proxy has frozen."""
    url, door = proxy.url.render_as_string(hide_password=False), shop.sandbox.async_transport()
    async with AsyncClient(Stripe(shop.sandbox.api_key), database=url, transport=door, clock=shop.clock) as client:
        task = asyncio.create_task(client.charge(ORDER))
        assert await asyncio.to_thread(proxy.struck.wait, SECONDS_MAX)
        task.cancel()
        await asyncio.sleep(0.05)  # the cancellation is on its way, too
        if heals:
            proxy.heal()
        assert await asyncio.wait({task}, timeout=SECONDS_MAX) == ({task}, set())
        assert task.cancelled()
