"""`resume`: the table of DESIGN §6 row by row, its order, its limit, and a provider that is down."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest

from gateway_client import (
    AttemptRefused,
    Charge,
    InvalidInput,
    NeedsPerson,
    PaymentIntent,
    ProviderUnavailable,
    State,
)
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, Killed, World

POST, INTENTS, CHARGES = "POST /v1/payment_intents", "GET /v1/payment_intents", "GET /v1/charges"
ACCOUNT = "GET /v1/account"


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def order(number: int) -> PaymentIntent:
    return replace(ORDER, intent_id=f"order_{number}")


def asked_by(world: World, before: list[str]) -> list[str]:
    return world.asked[len(before) :]


def test_nothing_pending(either: World) -> None:
    """With nothing pending nothing is asked at all."""
    either.open_client().charge(ORDER)
    before = either.asked
    assert either.open_client().resume() == ()
    assert either.asked == before


def test_prepared_by_this_process(either: World) -> None:
    """A young charge that this process prepared is sent (F02)."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    client.prepare(ORDER)
    before = either.asked
    (charge,) = client.resume()
    assert (charge.state, asked_by(either, before)) == (State.SUCCEEDED, [POST])


def test_prepared_by_an_older_process(either: World) -> None:
    """A young charge that an older process prepared is looked up first, then sent (F02)."""
    either.open_client().prepare(ORDER)
    before = either.asked
    either.clock.advance(hours=23.9)
    (charge,) = either.open_client().resume()
    assert charge.state is State.SUCCEEDED
    asked = [what for what in asked_by(either, before) if what != ACCOUNT]
    assert asked == [INTENTS, CHARGES, POST]


def test_prepared_by_an_older_process_and_found(world: World) -> None:
    """What the look-up finds of a charge that is only `prepared` here is believed, and not sent again (F103)."""
    world.open_client().charge(ORDER)
    # The store went back to before the send.
    world.sql("DELETE FROM paycli_sends")
    world.sql(
        "UPDATE pending_charges SET state = 'prepared', provider_intent_id = NULL, provider_charge_id = NULL, "
        "first_sent_at = NULL, settled_at = NULL"
    )
    world.clock.advance(minutes=5)
    (charge,) = world.open_client().resume()
    assert (charge.state, len(world.sends), world.paid()) == (State.SUCCEEDED, 1, 1)


def test_prepared_by_an_older_process_and_not_looked_up(world: World) -> None:
    """When the look-up fails a charge of an older process is not sent, and `resume` says so."""
    world.open_client().prepare(ORDER)
    world.clock.advance(minutes=5)
    world.sandbox.fault("lost_request", times=3, on=CHARGES)
    with pytest.raises(ProviderUnavailable):
        world.open_client().resume()
    assert (world.sends, world.state()) == ([], State.PREPARED)


def test_prepared_for_a_day(either: World) -> None:
    """A charge prepared 24 h ago is left to a person: `resume` asks nothing; `charge` by hand still sends it."""
    client = either.open_client()
    client.prepare(ORDER)
    before = either.asked
    either.clock.advance(hours=24)
    for process in (client, either.open_client()):
        (charge,) = process.resume()
        assert (charge.state, charge.sends) == (State.PREPARED, 0)
    assert either.asked == before
    assert either.open_client().charge(ORDER).state is State.SUCCEEDED


def test_prepared_for_a_day_can_be_canceled(world: World) -> None:
    """A charge prepared 24 h ago can be cancelled instead."""
    world.open_client().prepare(ORDER)
    world.clock.advance(hours=24)
    assert world.open_client().cancel(ORDER.intent_id, because="too late").state is State.CANCELED


@pytest.mark.parametrize("hours", [0.5, 40])
def test_provider_intent_known(either: World, hours: float) -> None:
    """A charge whose intent the provider has is asked for, never sent, inside and after the key's life (F57)."""
    either.sandbox.settles_after_s = 60
    charge = either.open_client().charge(replace(ORDER, payment_method="pm_usBankAccount"))
    if charge.state is not State.PROCESSING:
        pytest.fail(f"the sandbox's bank debit is {charge.state}: {charge.reason}")
    before = either.asked
    either.clock.advance(hours=hours)
    (charge,) = either.open_client().resume()
    assert charge.state is State.SUCCEEDED
    assert asked_by(either, before) == [ACCOUNT, f"GET /v1/payment_intents/{charge.provider_intent_id}"]


def test_processing_that_fails(world: World) -> None:
    """A debit that comes back is declined when it is asked for."""
    charge = world.open_client().charge(replace(ORDER, payment_method="pm_usBankAccount_insufficientFunds"))
    assert charge.state is State.PROCESSING
    world.clock.advance(minutes=5)
    (charge,) = world.open_client().resume()
    assert (charge.state, charge.reason, len(world.sends)) == (State.DECLINED, "insufficient_funds", 1)


@pytest.mark.parametrize("executed", [False, True])
def test_killed_while_sending(either: World, *, executed: bool) -> None:
    """A process that died in its send leaves `sending`: it is sent again, same key, same bytes (F03–F06)."""
    either.kill_at("POST", "/v1/payment_intents", executed=executed)
    with pytest.raises(Killed):
        either.open_client().charge(ORDER)
    assert either.state() is State.SENDING
    either.clock.advance(BOUNDS.key_life, seconds=-1)
    (charge,) = either.open_client().resume()
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 2, 1)
    assert len({(sent.idempotency_key, sent.params) for sent in either.sends}) == 1


def test_killed_while_sending_and_not_sent_again(world: World) -> None:
    """A send that never ended keeps its attempt in doubt: a later 429 or refused connection does not prepare it."""
    world.kill_at("POST", "/v1/payment_intents", executed=True)
    with pytest.raises(Killed):
        world.open_client().charge(ORDER)
    for fault in ("rate_limited_429", "refused"):
        world.sandbox.fault(fault)
        assert world.open_client(retry=ONE_SEND).charge(ORDER).state is State.UNKNOWN
    world.clock.advance(hours=30)
    (charge,) = world.open_client().resume()
    assert (charge.state, world.paid()) == (State.SUCCEEDED, 1)


def test_unknown_is_sent_again(either: World) -> None:
    """A charge in doubt whose key lives is sent again, not looked up."""
    either.lose("lost_reply")
    before = either.asked
    (charge,) = either.open_client().resume()
    assert (charge.state, asked_by(either, before)) == (State.SUCCEEDED, [ACCOUNT, POST])


def test_unknown_after_two_500s_is_looked_up(either: World) -> None:
    """After two 500s it is looked up, never sent a third time (F37); each step asks for the provider's time first."""
    either.lose("error_500", times=2)
    before = either.asked
    (charge,) = either.open_client().resume()
    assert (charge.state, asked_by(either, before)) == (State.UNKNOWN, [ACCOUNT, ACCOUNT, INTENTS, CHARGES])


def test_conflict_is_looked_up(world: World) -> None:
    """A conflict is looked up and never sent again (F56)."""
    world.sandbox.fault("wrong_amount")
    world.open_client().charge(ORDER)
    before = world.asked
    (charge,) = world.open_client().resume()
    assert (charge.state, asked_by(world, before)) == (State.SUCCEEDED, [ACCOUNT, ACCOUNT, INTENTS])


def test_limit_and_order(either: World) -> None:
    """The oldest come first, and no more than the limit are looked at."""
    client = either.open_client()
    for number in (3, 1, 2):
        client.prepare(order(number))
        either.clock.advance(seconds=10)
    told: list[str] = []
    newest = either.open_client(retry=ONE_SEND)
    charges = newest.resume(2, on_charge=lambda charge: told.append(charge.intent_id))
    assert [charge.intent_id for charge in charges] == told == ["order_3", "order_1"]
    assert either.state("order_2") is State.PREPARED
    assert [charge.intent_id for charge in newest.resume()] == ["order_2"]


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_limit_must_be_a_number(world: World, limit: int) -> None:
    """A limit that is no whole number from 1 is refused."""
    with pytest.raises(InvalidInput, match="limit"):
        world.open_client().resume(limit)


def test_more_than_a_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More charges than one page of the database holds are all finished, equal times included."""
    monkeypatch.setattr("gateway_client.flow.resuming.PENDING_PAGE_ROWS_MAX", 3)
    client = world.open_client()
    for number in range(10):
        client.prepare(order(number))
    assert [len(client.resume(7)), len(client.resume()), len(client.resume())] == [7, 3, 0]
    assert sum(world.sandbox.succeeded().values()) == 10


def test_provider_down(either: World) -> None:
    """A provider that goes down on the way is ProviderUnavailable, after what was done has been told (F61)."""
    client = either.open_client(retry=ONE_SEND)
    for number in range(8):
        either.clock.advance(seconds=1)
        client.prepare(order(number))
    told: list[Charge] = []
    knocked: list[str] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        if len(told) < 2:
            return None
        knocked.append(request.method)
        raise httpx.ConnectError("refused", request=request)

    either.hooks.append(hook)
    with pytest.raises(ProviderUnavailable):
        client.resume(on_charge=told.append)
    assert [charge.state for charge in told[:2]] == [State.SUCCEEDED, State.SUCCEEDED]
    assert {charge.state for charge in told[2:]} <= {State.PREPARED}
    assert knocked.count("POST") <= 3, "it does not knock once for each of a thousand charges"
    either.hooks.clear()
    assert len(client.resume()) == 6
    assert sum(either.sandbox.succeeded().values()) == 8


def test_provider_down_from_the_start(either: World) -> None:
    """A provider that nobody can reach is ProviderUnavailable, and every row stays as it was."""
    either.lose()
    before = either.row()
    either.sandbox.fault("lost_request", times=9, on=ACCOUNT)
    with pytest.raises(ProviderUnavailable):
        either.open_client().resume()
    assert either.row() == before


@pytest.mark.parametrize("poison", ["finding", "changed by hand"])
def test_one_poisoned_charge_delays_no_other(either: World, poison: str) -> None:
    """A charge that needs a person does not keep `resume` from the others, and is not sent (F147, L6)."""
    client = either.open_client()
    for number in range(3):
        either.clock.advance(seconds=1)
        client.prepare(order(number))
    if poison == "finding":
        either.open_finding("order_1")
    else:
        either.sql("UPDATE pending_charges SET body = 'amount=1' WHERE intent_id = 'order_1'")
    with suppress(NeedsPerson):
        client.resume()
    states = [either.state(f"order_{number}") for number in range(3)]
    assert states == [State.SUCCEEDED, State.PREPARED, State.SUCCEEDED]
    assert either.paid("order_1") == 0


def test_resume_changes_no_attempt_number(world: World) -> None:
    """`resume` makes no attempts: what was declined stays declined, whatever happens."""
    client = world.open_client()
    client.charge(replace(ORDER, payment_method="pm_card_chargeDeclined"))
    assert client.resume() == ()
    with pytest.raises(AttemptRefused):
        client.charge(replace(ORDER, payment_method="pm_card_chargeDeclined"), attempt=3)
    assert world.sql("SELECT max(attempt) FROM pending_charges") == [(1,)]
