"""`cancel`: gives a pending charge up without ever moving money, and without ever claiming more than is proven."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from gateway_client import ConfigurationError, InvalidInput, ProviderUnavailable, Sandbox, State, UnknownIntent
from gateway_client.flow.effects import BeginSend, Begun, Held, Next, Settle
from gateway_client.gateways.stripe import Stripe
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import Answer, Cause, NotExecuted
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, World

BECAUSE = "the customer left"
DEBIT = replace(ORDER, payment_method="pm_usBankAccount_processing")  # stays `processing` until it is cancelled


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def begin(world: World) -> Begun | Held:
    """What the gate says to a process that has just asked the provider for its time."""
    credential = Stripe(Sandbox.api_key).credential_id
    return world.perform(
        BeginSend(ORDER.intent_id, 1, world.binding, PROFILE, credential, world.altered, time_asked=True)
    )


def told(world: World) -> str:
    """All that is on disk about the attempt's reasons."""
    reasons = world.sql("SELECT reason FROM pending_charges UNION ALL SELECT reason FROM paycli_events")
    notes = world.sql("SELECT event FROM paycli_events")
    return " ".join(str(row[0]) for row in reasons + notes)


def test_never_sent(either: World) -> None:
    """A charge that was never sent is cancelled at once, with no request; the reason is recorded."""
    client = either.open_client()
    client.prepare(ORDER)
    before = either.asked
    charge = client.cancel(ORDER.intent_id, because=BECAUSE)
    assert (charge.state, either.asked) == (State.CANCELED, before)
    assert BECAUSE in (charge.reason or "")
    assert client.charge(ORDER).state is State.CANCELED
    assert either.sends == []


def test_never_left(world: World) -> None:
    """A charge whose sends never left is cancelled at once, too."""
    world.sandbox.fault("refused")
    client = world.open_client(retry=ONE_SEND)
    client.charge(ORDER)
    before = world.asked
    assert (client.cancel(ORDER.intent_id, because=BECAUSE).state, world.asked) == (State.CANCELED, before)


def test_provider_intent_known(either: World) -> None:
    """A charge whose intent the provider has is cancelled there, and asked for: only that is believed (S6)."""
    client = either.open_client()
    assert client.charge(DEBIT).state is State.PROCESSING
    charge = client.cancel(ORDER.intent_id, because=BECAUSE)
    assert charge.state is State.CANCELED
    intent = f"/v1/payment_intents/{charge.provider_intent_id}"
    assert either.asked[-2:] == [f"POST {intent}/cancel", f"GET {intent}"]
    assert BECAUSE in told(either)
    assert either.sandbox.payment_intents[0]["status"] == "canceled"


def test_a_send_that_never_left_takes_nothing_back(world: World) -> None:
    """A closed attempt that is processing stays so when another send of it turns out not to have left (S8)."""
    world.open_client().charge(DEBIT)
    world.sql("UPDATE pending_charges SET closed_at = created_at")
    world.sql(
        "INSERT INTO paycli_sends (intent_id, operation, attempt, send_no, credential_id, begun_at, actor) "
        "SELECT intent_id, operation, attempt, 2, credential_id, begun_at, actor FROM paycli_sends"
    )
    paused = Answer(NotExecuted(Cause.PAUSED, "paused before the first byte"))
    world.perform(Settle(ORDER.intent_id, 1, paused, saves_declines=True, send_no=2))
    assert world.state() is State.PROCESSING


def test_provider_intent_known_records_because(world: World) -> None:
    """Why it was given up is on disk, also when the cancellation is the provider's."""
    client = world.open_client()
    client.charge(DEBIT)
    client.cancel(ORDER.intent_id, because=BECAUSE)
    assert BECAUSE in told(world)


def test_succeeded_meanwhile(world: World) -> None:
    """A cancellation that comes too late finds the success, and records it: no money is moved back."""
    client = world.open_client()
    client.charge(replace(ORDER, payment_method="pm_usBankAccount"))
    world.clock.advance(minutes=5)
    assert client.cancel(ORDER.intent_id, because=BECAUSE).state is State.SUCCEEDED
    assert world.paid() == 1


def test_cancellation_not_answered(world: World) -> None:
    """When the provider cannot be asked to cancel, nothing changes and ProviderUnavailable says so."""
    client = world.open_client()
    client.charge(DEBIT)
    before = world.row()

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.startswith("/v1/payment_intents/"):
            raise httpx.ReadError("reset", request=request)
        return None

    world.hooks.append(hook)
    with pytest.raises(ProviderUnavailable):
        client.cancel(ORDER.intent_id, because=BECAUSE)
    assert {**world.row(), "reason": None} == {**before, "reason": None}
    world.hooks.clear()
    assert client.cancel(ORDER.intent_id, because=BECAUSE).state is State.CANCELED


def test_cancel_with_a_key_of_another_account(world: World) -> None:
    """A key of another account cancels nothing."""
    client = world.open_client()
    client.charge(DEBIT)
    other = Sandbox(account="acct_other", time=world.clock.true_time)
    with pytest.raises(ConfigurationError):
        world.open_client(provider=other).cancel(ORDER.intent_id, because=BECAUSE)
    assert [sent.path for sent in other.requests] == ["/v1/account"]
    assert world.state() is State.PROCESSING


@pytest.mark.parametrize(("fault", "end"), [("lost_request", State.ABSENT), ("lost_reply", State.SUCCEEDED)])
def test_unknown_is_closed(either: World, fault: str, end: State) -> None:
    """A charge in doubt is closed: never sent again, `unknown` until proof, whichever way it went (S16)."""
    either.lose(fault)
    client = either.open_client()
    before = len(either.asked)
    charge = client.cancel(ORDER.intent_id, because=BECAUSE)
    assert charge.state is State.UNKNOWN
    assert charge.closed_at == charge.quiet_from == either.clock.now
    assert BECAUSE in (charge.reason or "")
    assert either.asked[before:] == ["GET /v1/account"], "nothing but the time is asked"
    held = begin(either)
    assert isinstance(held, Held)
    assert held.next is Next.LOOK_UP
    either.clock.advance(BOUNDS.quiet_unproven)
    assert client.charge(ORDER).state is end
    assert len(either.sends) == 1


@pytest.mark.parametrize("silent", ["no answer", "a page", "another account", "a clock set"])
def test_closed_whoever_answers(world: World, silent: str) -> None:
    """A charge in doubt is closed at once also when the provider's time cannot be asked; the first look-up notes it."""
    world.lose()
    client = world.open_client()
    client.find(ORDER.intent_id)
    if silent == "no answer":
        world.sandbox.fault("lost_request", on="GET /v1/account")
    elif silent == "a page":
        world.answer(200, b"<html>", on=("GET", "/v1/account"))
    elif silent == "another account":
        world.answer(200, {"id": "acct_other", "object": "account"}, on=("GET", "/v1/account"))
    else:
        world.clock.wrong_s = 7200
    charge = client.cancel(ORDER.intent_id, because=BECAUSE)
    assert (charge.state, charge.quiet_from) == (State.UNKNOWN, None)
    assert charge.closed_at is not None
    world.clock.wrong_s = 0
    held = begin(world)
    assert isinstance(held, Held)
    assert held.next is Next.LOOK_UP
    for age, state in ((BOUNDS.quiet_unproven, State.UNKNOWN), (2 * BOUNDS.quiet_unproven, State.ABSENT)):
        world.clock.advance(START + age - world.clock.now)
        world.open_client().resume()
        assert world.state() is state


def test_given_up_twice(world: World) -> None:
    """A charge given up twice was closed once: its time does not move."""
    world.lose()
    client = world.open_client()
    first = client.cancel(ORDER.intent_id, because=BECAUSE)
    world.clock.advance(minutes=10)
    second = client.cancel(ORDER.intent_id, because="again")
    assert first.closed_at == second.closed_at


def test_given_up_on_its_way_and_never_left(world: World) -> None:
    """Given up while its only send was on its way, which never left: it ends by itself, not `prepared` for ever."""
    world.open_client().prepare(ORDER)
    assert isinstance(begin(world), Begun)
    client = world.open_client()
    client.cancel(ORDER.intent_id, because=BECAUSE)
    never_left = Answer(NotExecuted(Cause.NOT_SENT, "refused"))
    world.perform(Settle(ORDER.intent_id, 1, never_left, saves_declines=True, send_no=1))
    client.resume()
    assert world.state() is State.CANCELED
    assert world.sends == []


@pytest.mark.parametrize("method", ["pm_card_visa", "pm_card_chargeDeclined", "pm_nothing"])
def test_final_stays(either: World, method: str) -> None:
    """A charge already final is returned as it is: nothing changes, nothing is asked."""
    client = either.open_client()
    charge = client.charge(replace(ORDER, payment_method=method))
    assert charge.final
    before = (either.asked, either.row(), told(either))
    assert client.cancel(ORDER.intent_id, because=BECAUSE) == charge
    assert (either.asked, either.row(), told(either)) == before


def test_newest_attempt(world: World) -> None:
    """The newest attempt is given up; those before it stay as they were."""
    client = world.open_client()
    client.charge(replace(ORDER, payment_method="pm_nothing"))
    world.sandbox.fault("refused")
    assert world.open_client(retry=ONE_SEND).charge(ORDER, attempt=2).state is State.PREPARED
    charge = client.cancel(ORDER.intent_id, because=BECAUSE)
    assert (charge.attempt, charge.state, world.state(attempt=1)) == (2, State.CANCELED, State.REJECTED)
    assert client.charge(ORDER, attempt=3).state is State.SUCCEEDED


def test_unknown_intent(either: World) -> None:
    """An intent that is not in the store is UnknownIntent, which is also a LookupError."""
    client = either.open_client()
    client.charge(ORDER)
    before = either.asked
    with pytest.raises(UnknownIntent) as caught:
        client.cancel("order_43", because=BECAUSE)
    assert isinstance(caught.value, LookupError)
    assert either.asked == before


@pytest.mark.parametrize("because", ["", "\x1b[2J", None, 5])
def test_because_is_needed(world: World, because: str) -> None:
    """A reason that is missing or cannot be shown is refused before anything changes."""
    client = world.open_client()
    client.prepare(ORDER)
    with pytest.raises(InvalidInput, match="because"):
        client.cancel(ORDER.intent_id, because=because)
    assert world.state() is State.PREPARED
