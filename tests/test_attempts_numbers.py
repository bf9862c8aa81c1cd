"""The numbers of the next attempt: its own while nothing of the intent was ever executed, else those of what was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from gateway_client import IntentConflict, Money, NeedsPerson, State
from tests.kit import DECLINED, KINDS, ORDER, World
from tests.nightly import night

OTHERS = {
    "amount": replace(ORDER, amount=Money(2001, "usd")),
    "currency": replace(ORDER, amount=Money(2000, "eur")),
    "customer": replace(ORDER, customer="cus_1"),
}
REJECTED = replace(ORDER, payment_method="pm_nothing")


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as made:
        yield made


def end(world: World, state: State) -> None:
    """Attempt 1 ends without having been executed."""
    client = world.open_client()
    if state is State.REJECTED:
        client.charge(REJECTED)
    elif state is State.CANCELED:
        client.prepare(ORDER)
        client.cancel("order_42", because="forgot the customer")
    else:
        world.lose("lost_request")
        world.close_and_wait()
        world.open_client().resume()
    assert world.state() is state


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("state", [State.REJECTED, State.CANCELED, State.ABSENT])
def test_nothing_was_executed(world: World, state: State, what: str) -> None:
    """A5: after attempts of which none was executed, the next may carry another amount, currency or customer."""
    end(world, state)
    client = world.open_client()
    with pytest.raises(IntentConflict, match=f"{what} was.*never executed: the next one may"):
        client.charge(OTHERS[what])  # the newest attempt is another payment; the next one must be asked for
    charge = client.charge(OTHERS[what], attempt=2)
    assert (charge.state, world.paid()) == (State.SUCCEEDED, 1)
    made, row = world.sandbox.payment_intents[0], world.row(attempt=2)
    expected = OTHERS[what].amount.amount, OTHERS[what].amount.currency, OTHERS[what].customer
    assert (made["amount"], made["currency"], made["customer"]) == expected
    assert (row["amount"], row["currency"], row["customer"]) == expected
    assert client.charge(OTHERS[what]) == charge
    for attempt in (None, 2):
        with pytest.raises(IntentConflict, match=what):
            client.charge(ORDER, attempt=attempt)


@pytest.mark.parametrize("what", OTHERS)
def test_what_was_executed_holds(world: World, what: str) -> None:
    """A5: once an attempt was executed, and declined, say, every later one has its numbers, whatever was before it."""
    client = world.open_client()
    client.charge(REJECTED)
    assert client.charge(replace(OTHERS[what], payment_method=DECLINED.payment_method), attempt=2).state == "declined"
    with pytest.raises(IntentConflict, match=what):
        client.charge(ORDER, attempt=3)
    assert client.charge(OTHERS[what], attempt=3).state is State.SUCCEEDED


def test_given_up_after_it_was_sent(world: World) -> None:
    """A5: an attempt that was cancelled at the provider was executed there: the next one has its numbers."""
    client = world.open_client()
    client.charge(replace(ORDER, payment_method="pm_card_authenticationRequired"))
    world.sql("UPDATE pending_charges SET state = 'canceled'")
    assert world.row()["first_sent_at"] is not None
    with pytest.raises(IntentConflict, match="amount"):
        client.charge(OTHERS["amount"], attempt=2)


def test_a_reading_that_shows_a_charge(world: World) -> None:
    """A5: a rejected attempt of which the other delivery was charged is followed by none, with whatever numbers."""

    def twice(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST":
            world.sandbox.transport().handle_request(request)
        return None

    world.hooks.append(twice)
    world.answer(400, {"error": {"type": "invalid_request_error", "param": "payment_method"}}, echo=True)
    client = world.open_client()
    assert client.charge(ORDER).state is State.REJECTED
    world.hooks.clear()
    with pytest.raises(NeedsPerson):
        client.charge(OTHERS["amount"], attempt=2)
    assert (len(world.sandbox.charges), len(world.sql("SELECT attempt FROM pending_charges"))) == (1, 1)


def test_a_night_compares_each_attempt_with_its_own_numbers() -> None:
    """A5: a run of the day finds nothing to repair or flag where attempts have different numbers."""
    with night() as dark:
        client = dark.open_client()
        client.charge(REJECTED)
        client.charge(OTHERS["amount"], attempt=2)
        assert dark.run().findings == ()
        dark.sql("DELETE FROM paycli_events WHERE attempt = 2")
        dark.sql("DELETE FROM paycli_sends WHERE attempt = 2")
        dark.sql("DELETE FROM pending_charges WHERE attempt = 2")
        (finding,) = dark.run().findings  # its row was lost: the numbers of attempt 1 do not vouch for it
        assert (finding.code, finding.action) == ("missing_locally", "flagged")
        assert client.charge(OTHERS["amount"]).state is State.SUCCEEDED
        assert dark.paid() == 1
