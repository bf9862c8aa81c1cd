"""Saved 500s and outages: what is found, what is never charged a second time, what never left."""

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from gateway_client import AttemptRefused, NeedsPerson, RetryPolicy, State
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, World


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


# A saved 500


def test_saved_500_that_charged(either: World) -> None:
    """A saved 500 that charged is replayed once, then found on the list: succeeded, in the same call (F38)."""
    either.sandbox.fault("error_500_charged")
    charge = either.open_client().charge(ORDER)
    assert (charge.state, len(either.sends), either.paid()) == (State.SUCCEEDED, 2, 1)
    assert charge.provider_charge_id == either.sandbox.charges[0]["id"]


def test_saved_500_that_did_not_charge(either: World) -> None:
    """A saved 500 that charged nothing is never a second charge: no third send, no attempt 2 until proven (F37, S6)."""
    either.sandbox.fault("error_500")
    client = either.open_client()
    closed = START + timedelta(hours=25)
    over = closed + BOUNDS.quiet_unproven - timedelta(seconds=1)
    for at in (START, closed, closed + BOUNDS.quiet, over):
        either.clock.advance(at - either.clock.now)
        assert client.charge(ORDER).state is State.UNKNOWN
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
    assert (len(either.sends), either.paid()) == (2, 0)
    either.clock.advance(seconds=1)
    assert client.charge(ORDER).state is State.ABSENT
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert either.paid() == 1


def test_500_rolled_forward_two_days_later(either: World) -> None:
    """A 500 whose charge appears two days later is found, and never charged again meanwhile (F38, S1)."""
    either.sandbox.fault("error_500_later")
    client = either.open_client()
    for hours in (0, 22, 25):
        either.clock.advance(hours=hours)
        assert client.charge(ORDER).state is State.UNKNOWN
    either.clock.advance(hours=1.1)
    (charge,) = client.resume()
    assert (charge.state, len(either.sends), either.paid()) == (State.SUCCEEDED, 2, 1)


# What never left


def test_outage_longer_than_the_keys_life(either: World) -> None:
    """Charges that never left stay prepared through an outage of 30 h: never absent, never lost (F22, F61)."""
    client = either.open_client(retry=ONE_SEND)
    either.sandbox.fault("refused", times=10)
    for _ in range(10):
        charge = client.charge(ORDER)
        assert (charge.state, charge.first_sent_at, charge.closed_at) == (State.PREPARED, None, None)
        either.clock.advance(hours=3)
    charge = client.charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 11, 1)
    assert charge.first_sent_at is not None
    assert charge.first_sent_at >= START + timedelta(hours=30)


def test_first_sent_at_stays_when_something_may_have_left(world: World) -> None:
    """A later send that never left does not clear the time of an earlier one that may have (S5)."""
    world.lose()
    world.sandbox.fault("refused")
    charge = world.open_client(retry=ONE_SEND).charge(ORDER)
    assert (charge.state, charge.first_sent_at) == (State.UNKNOWN, START)


@pytest.mark.parametrize("closed_by", ["its key's life", "a person"])
def test_absence_waits_for_what_was_never_answered(either: World, closed_by: str) -> None:
    """What was never answered may have been a 500: it is absent 72 h later than its lists show, and then tried (S6)."""
    either.lose()
    client = either.open_client()
    if closed_by == "a person":
        client.cancel(ORDER.intent_id, because="the customer left")
    else:
        either.clock.advance(BOUNDS.key_life)
        client.resume()
    possible = either.clock.now + BOUNDS.quiet_unproven
    for at in (either.clock.now + BOUNDS.quiet, possible - timedelta(seconds=1)):
        either.clock.advance(at - either.clock.now)
        assert client.charge(ORDER).state is State.UNKNOWN
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
    either.clock.advance(seconds=1)
    assert client.charge(ORDER).state is State.ABSENT
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert either.paid() == 1


def test_attempt_2_after_a_success_that_came_late(world: World) -> None:
    """What was executed, its answer lost, is found: there is no attempt 2, however much later (S6)."""
    world.lose("lost_reply")
    client = world.open_client()
    world.clock.advance(BOUNDS.key_life)
    assert client.resume()[0].state is State.SUCCEEDED
    world.clock.advance(BOUNDS.quiet_unproven)
    with pytest.raises(AttemptRefused):
        client.charge(ORDER, attempt=2)
    assert world.paid() == 1


# What a send must have been answered with, so that its absence need not wait for a 500
ANSWERS: dict[str, tuple[int, object, bool, bool]] = {
    "its own 500": (500, {"error": {"type": "api_error"}}, True, False),
    "its own 429": (429, {"error": {"type": "invalid_request_error"}}, True, True),
    "its own refusal of the account": (400, {"error": {"type": "invalid_request_error"}}, True, True),
    "a 500 of nobody knows whom": (500, {"error": {"type": "api_error"}}, False, False),
    "a 429 of nobody knows whom": (429, {"error": {"type": "invalid_request_error"}}, False, False),
    "its own 503": (503, {"error": {"type": "api_error"}}, True, False),
    "its own 409": (409, {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}, True, False),
    "a page": (200, b"<html>", False, False),
    "a redirect": (302, b"", False, False),
    "no such page": (404, b"<html>", False, False),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_absence_after_what_was_answered(world: World, case: str) -> None:
    """Absence is proven without the roll-forward only if each send had a result in the provider's own words (S16)."""
    status, body, echo, proven = ANSWERS[case]
    world.answer(status, body, echo=echo)
    client = world.open_client(retry=RetryPolicy(sends_max=1, in_flight_s_max=0))
    assert client.charge(ORDER).state is State.UNKNOWN
    world.clock.advance(hours=1)
    client.cancel(ORDER.intent_id, because="the customer left")
    wait = BOUNDS.quiet if proven else BOUNDS.quiet_unproven
    for passed, state in ((wait - timedelta(seconds=1), State.UNKNOWN), (timedelta(seconds=1), State.ABSENT)):
        world.clock.advance(passed)
        (charge,) = client.resume()
        assert (charge.state, charge.unproven) == (state, not proven)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.paid() == 1


def test_lost_500_rolled_forward_late(world: World) -> None:
    """A 500 whose answer was lost is rolled forward two days later: it is not called absent meanwhile (F38, S1, S8)."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST":
            world.sandbox.transport().handle_request(request)
            raise httpx.ReadError("reset", request=request)
        return None

    world.sandbox.fault("error_500_later")
    world.hooks.append(hook)
    client = world.open_client(retry=ONE_SEND)
    assert client.charge(ORDER).state is State.UNKNOWN
    world.hooks.clear()
    world.clock.advance(BOUNDS.key_life)
    for hours in (0, 10, 10):
        world.clock.advance(hours=hours)
        client.resume()
        assert (world.state(), world.paid()) == (State.UNKNOWN, 0)
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
    world.clock.advance(hours=29)
    client.resume()
    assert (world.state(), world.paid()) == (State.SUCCEEDED, 1)


def test_success_while_an_absent_attempt_is_cleared(world: World) -> None:
    """An absent attempt that comes to light and succeeds while it is cancelled: a finding, and no attempt 2."""
    world.lose()
    client = world.open_client()
    world.close_and_wait()
    assert client.resume()[0].state is State.ABSENT
    form = {"amount": "2000", "currency": "usd", "payment_method": "pm_card_visa"}
    form["metadata[paycli_key]"] = world.row()["idempotency_key"]
    intent = world.post("/v1/payment_intents", form).json()["id"]
    world.clock.advance(BOUNDS.roll_forward)

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/cancel"):
            world.post(f"/v1/payment_intents/{intent}/confirm", {"return_url": "https://example.com"})
        return None

    world.hooks.append(hook)
    with pytest.raises(NeedsPerson):
        client.charge(ORDER, attempt=2)
    assert [sent["status"] for sent in world.sandbox.charges] == ["succeeded"]
    assert world.sql("SELECT code, attempt FROM paycli_findings") == [("status_mismatch", 1)]
    assert world.sql("SELECT count(*) FROM pending_charges") == [(1,)]
