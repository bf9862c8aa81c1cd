"""Attempts: when the next one may be made, what is cancelled first, and which other payment an intent refuses."""

import pickle
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from gateway_client import (
    AttemptRefused,
    IntentConflict,
    InvalidInput,
    Money,
    NeedsPerson,
    NewAttemptNeeded,
    PaymentIntent,
    ProviderUnavailable,
    State,
)
from tests.kit import DECLINED, KINDS, ONE_SEND, ORDER, World

CANCEL = "POST /v1/payment_intents/*/cancel"


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def confirm_with_another_card(world: World) -> None:
    """Somebody finishes the declined intent at the provider: a late success."""
    intent = world.sandbox.payment_intents[0]["id"]
    form = {"payment_method": "pm_card_visa"}
    assert world.post(f"/v1/payment_intents/{intent}/confirm", form).json()["status"] == "succeeded"


def test_attempt_2_twice_is_one_attempt(either: World) -> None:
    """`charge(…, attempt=2)` cancels the declined intent, then charges; asked twice it is the same attempt (S6)."""
    client = either.open_client()
    first = client.charge(DECLINED)
    second = client.charge(ORDER, attempt=2)
    assert (first.state, second.state, second.attempt) == (State.DECLINED, State.SUCCEEDED, 2)
    intent = f"/v1/payment_intents/{first.provider_intent_id}"
    assert either.asked[-3:] == [f"POST {intent}/cancel", f"GET {intent}", "POST /v1/payment_intents"]
    before = either.asked
    assert client.charge(ORDER, attempt=2) == second
    assert client.charge(ORDER) == second, "without a number it is the newest"
    assert client.charge(DECLINED, attempt=1) == first
    assert (either.asked, either.paid()) == (before, 1)
    assert either.sql("SELECT attempt, state FROM pending_charges ORDER BY attempt") == [
        (1, "declined"),
        (2, "succeeded"),
    ]
    assert first.idempotency_key != second.idempotency_key


def test_cancellation_has_no_key(world: World) -> None:
    """A cancellation carries no key: under one a first answer, a 500 too, would be replayed for a day (S6)."""
    client = world.open_client()
    client.charge(DECLINED)
    client.charge(ORDER, attempt=2)
    assert [sent.idempotency_key for sent in world.sandbox.requests if sent.path.endswith("/cancel")] == [None]


@pytest.mark.parametrize("said", ["canceled", "requires_payment_method", "succeeded"])
def test_answer_of_a_cancellation_proves_nothing(world: World, said: str) -> None:
    """Whatever a cancellation is answered with, the intent is asked for, and only that is believed (S6)."""
    client = world.open_client()
    first = client.charge(DECLINED)
    body = {**world.sandbox.payment_intents[0], "status": said}
    on = ("POST", f"/v1/payment_intents/{first.provider_intent_id}/cancel")
    caught = world.answer(200, body, on=on, times=9)
    with pytest.raises(ProviderUnavailable, match="could not be cancelled"):
        client.charge(ORDER, attempt=2)
    assert len(caught) == 3
    assert world.sql("SELECT attempt, state FROM pending_charges") == [(1, "declined")]
    assert (len(world.sends), world.paid()) == (1, 0)


def test_cancelled_already(world: World) -> None:
    """An intent that was cancelled at the provider before lets the next attempt through."""
    client = world.open_client()
    first = client.charge(DECLINED)
    assert world.post(f"/v1/payment_intents/{first.provider_intent_id}/cancel", {}).status_code == 200
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED


def test_late_success_stops_the_next_attempt(either: World) -> None:
    """A success found while cancelling stops attempt 2: a finding, NeedsPerson, no row, no send, now and later."""
    client = either.open_client()
    client.charge(DECLINED)
    confirm_with_another_card(either)
    sends = len(either.sends)
    with pytest.raises(NeedsPerson):
        client.charge(ORDER, attempt=2)
    asked = either.asked
    for again in (client, either.open_client()):
        with pytest.raises(NeedsPerson, match="open finding"):
            again.charge(ORDER, attempt=2)
    assert either.asked == asked, "the open finding refuses without a request"
    assert (len(either.sends), either.paid()) == (sends, 1)
    assert either.sql("SELECT attempt, state FROM pending_charges") == [(1, "declined")]
    assert either.sql("SELECT code, attempt, closed_at FROM paycli_findings") == [("status_mismatch", 1, None)]


@pytest.mark.parametrize("status", [200, 302, 404, 409, 429, 500, 503, None])
def test_cancellation_that_could_not_be_asked(world: World, status: int | None) -> None:
    """While the cancellation is not confirmed there is no new attempt; later there is (S6)."""

    def hook(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.startswith("/v1/payment_intents/"):
            return None
        if status is None:
            raise httpx.ReadError("reset", request=request)
        return httpx.Response(status, content=b"<html>")

    client = world.open_client()
    client.charge(DECLINED)
    world.hooks.append(hook)
    with pytest.raises(ProviderUnavailable):
        client.charge(ORDER, attempt=2)
    assert world.sql("SELECT count(*) FROM pending_charges") == [(1,)]
    assert len(world.sends) == 1
    world.hooks.clear()
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.paid() == 1


def test_saved_500_of_the_cancellation(world: World) -> None:
    """A 500 of the cancellation says nothing: the intent is asked for, found open, and cancelled once more."""
    client = world.open_client()
    client.charge(DECLINED)
    world.sandbox.fault("error_500", on=CANCEL)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert [intent["status"] for intent in world.sandbox.payment_intents] == ["succeeded", "canceled"]


def test_cancellation_whose_reply_is_lost(world: World) -> None:
    """A cancellation that was executed, its answer lost, is seen by asking for the intent, and the attempt goes on."""
    client = world.open_client()
    client.charge(DECLINED)
    world.sandbox.fault("lost_reply", on=CANCEL)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.paid() == 1


@pytest.mark.parametrize("number", [3, 7, 1000])
def test_attempt_without_the_one_before(either: World, number: int) -> None:
    """Attempt 3 without 2 is refused, and nothing is asked, written or sent."""
    client = either.open_client()
    client.charge(DECLINED)
    before = either.asked
    with pytest.raises(AttemptRefused):
        client.charge(ORDER, attempt=number)
    assert either.asked == before
    assert either.sql("SELECT count(*) FROM pending_charges") == [(1,)]


def test_attempt_2_of_nothing(world: World) -> None:
    """The first attempt of an intent is number 1."""
    client = world.open_client()
    client.resume()
    before = world.asked
    with pytest.raises(AttemptRefused):
        client.charge(ORDER, attempt=2)
    assert world.asked == before


@pytest.mark.parametrize(
    "state", ["prepared", "sending", "unknown", "processing", "requires_action", "conflict", "succeeded"]
)
def test_attempt_2_while_1_may_still_charge(world: World, state: str) -> None:
    """Attempt 2 is refused without a request while attempt 1 is pending or succeeded (S6)."""
    client = world.open_client()
    client.prepare(ORDER)
    world.sql("UPDATE pending_charges SET state = ?", (state,))
    before = world.asked
    for act in (client.charge, client.prepare):
        with pytest.raises(AttemptRefused):
            act(ORDER, attempt=2)
    assert world.asked == before
    assert world.sql("SELECT count(*) FROM pending_charges") == [(1,)]


def test_attempt_2_beside_a_late_one(world: World) -> None:
    """A 400 beside an open send closes nothing: executed late, it is the only charge (S1, S6)."""
    world.sandbox.fault("late")
    client = world.open_client(retry=ONE_SEND)
    client.charge(ORDER)
    missing = {"type": "invalid_request_error", "code": "parameter_missing", "param": "amount"}
    world.answer(400, {"error": missing}, echo=True)
    assert client.charge(ORDER).state is State.UNKNOWN
    with pytest.raises(AttemptRefused):
        client.charge(ORDER, attempt=2)
    world.clock.advance(hours=1)
    assert client.charge(ORDER).state is State.SUCCEEDED
    assert world.paid() == 1


def test_prepare_cannot_cancel(world: World) -> None:
    """`prepare` of attempt 2 cannot cancel at the provider: it refuses and writes nothing."""
    client = world.open_client()
    client.charge(DECLINED)
    before = world.asked
    with pytest.raises(AttemptRefused):
        client.prepare(ORDER, attempt=2)
    assert (world.asked, world.sql("SELECT count(*) FROM pending_charges")) == (before, [(1,)])


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "2"])
def test_attempt_must_be_a_number(world: World, number: int) -> None:
    """An attempt that is no whole number from 1 is refused before anything is asked."""
    with pytest.raises(InvalidInput, match="attempt"):
        world.open_client().charge(ORDER, attempt=number)
    assert world.asked == []


# Another payment under the same intent id

OTHERS: dict[str, PaymentIntent] = {
    "amount": replace(ORDER, amount=Money(2001, "usd")),
    "currency": replace(ORDER, amount=Money(2000, "eur")),
    "customer": replace(ORDER, customer="cus_1"),
}
METHOD = replace(ORDER, payment_method="pm_card_mastercard")


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("state", ["prepared", "unknown", "succeeded", "declined"])
def test_other_payment(world: World, what: str, state: str) -> None:
    """Another amount, currency or customer than may have been charged is an IntentConflict that names it (F115)."""
    client = world.open_client()
    client.prepare(ORDER)
    world.sql("UPDATE pending_charges SET state = ?", (state,))
    before = (world.asked, world.row())
    for attempt in (None, 1, 2):
        with pytest.raises(IntentConflict, match=what):
            client.charge(OTHERS[what], attempt=attempt)
    assert (world.asked, world.row()) == before


@pytest.mark.parametrize(
    "state", ["prepared", "sending", "unknown", "processing", "requires_action", "conflict", "succeeded"]
)
def test_other_payment_method_while_it_may_count(world: World, state: str) -> None:
    """Another payment method while the attempt is pending or succeeded is an IntentConflict, before any request."""
    client = world.open_client()
    client.prepare(ORDER)
    world.sql("UPDATE pending_charges SET state = ?", (state,))
    before = (world.asked, world.row())
    with pytest.raises(IntentConflict, match="payment method"):
        client.charge(METHOD)
    assert (world.asked, world.row()) == before


def test_other_payment_method_after_a_refusal(either: World) -> None:
    """After a refusal the next attempt may use another payment method."""
    client = either.open_client()
    client.charge(DECLINED)
    charge = client.charge(METHOD, attempt=2)
    assert (charge.state, either.row(attempt=2)["payment_method"]) == (State.SUCCEEDED, "pm_card_mastercard")
    with pytest.raises(IntentConflict):
        client.charge(ORDER, attempt=2)


@pytest.mark.parametrize("state", ["declined", "rejected", "canceled", "absent"])
def test_another_card_is_never_answered_with_the_old_refusal(either: World, state: str) -> None:
    """F1: a refused attempt asked for with another payment method is an error that names the attempt to ask for."""
    client = either.open_client()
    client.prepare(ORDER)
    either.sql("UPDATE pending_charges SET state = ?", (state,))
    assert client.charge(ORDER).state is State(state)  # with its own it is the answer, again and again
    before = (either.asked, either.row())
    for call in (client.charge, client.prepare):
        for attempt in (None, 1):
            with pytest.raises(
                NewAttemptNeeded, match=f"pm_card_visa.* is {state}.*attempt=2.*Nothing was sent"
            ) as new:
                call(METHOD, attempt=attempt)
            assert new.value.attempt == 2
            assert pickle.loads(pickle.dumps(new.value)).attempt == 2
    assert (either.asked, either.row()) == before


def test_the_named_attempt_charges_the_new_card(either: World) -> None:
    """F1: what the error names charges the new payment method once, however often it is asked for."""
    client = either.open_client()
    client.charge(DECLINED)
    with pytest.raises(NewAttemptNeeded) as new:
        client.charge(METHOD)
    states = [client.charge(METHOD, attempt=new.value.attempt).state for _ in range(2)]
    assert states == [State.SUCCEEDED, State.SUCCEEDED]
    assert client.charge(METHOD).state is State.SUCCEEDED  # the newest
    with pytest.raises(NewAttemptNeeded) as old:
        client.charge(METHOD, attempt=1)
    assert old.value.attempt == 3  # and that one is refused, for attempt 2 has succeeded
    with pytest.raises(AttemptRefused, match="has paid"):
        client.charge(METHOD, attempt=3)


def test_what_may_differ(either: World) -> None:
    """Description and metadata may differ: the stored ones count, in every send (S3)."""
    first = replace(ORDER, description="first", metadata={"a": "1"})
    either.lose(intent=first)
    charge = either.open_client().charge(replace(ORDER, description="second", metadata={"b": "2"}))
    assert (charge.state, charge.sends) == (State.SUCCEEDED, 2)
    assert len({sent.params for sent in either.sends}) == 1
    assert either.sandbox.payment_intents[0]["description"] == "first"
