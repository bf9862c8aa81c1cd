"""Exactly once, whoever answers: doubled deliveries, filters, hidden 500s, other accounts, closed findings, lost names.

What is about lengths and clocks is in `test_promise_time.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway_client import AttemptRefused, NeedsPerson, Sandbox, State
from tests.kit import DECLINED, KINDS, ORDER
from tests.promise_kit import (
    FOREIGN,
    INVALID,
    MARGIN,
    ONE_TRY,
    PAGE,
    POST,
    QUIET,
    ROLL_FORWARD,
    UNPROVEN,
    Echo,
    Middle,
    error,
    may,
    seconds,
)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """The world of each of the two clients, on each database."""
    with Middle(request.param) as made:
        yield made


# P2: a delivery is doubled, and the other one is refused by the provider itself --------------------------------------

OWN: dict[str, tuple[int, object]] = {
    "rate limit": (429, error(code="rate_limit")),
    "expired key": (401, error(code="api_key_expired")),
    "no permission": (403, error()),
    "account": (400, error(code="testmode_charges_only")),
    "wrong path": (404, error()),
}
"""The provider's own word that it will not, which names nothing of this charge."""


@pytest.mark.parametrize("refusal", OWN)
def test_refused_and_executed_then_given_up(world: Middle, refusal: str) -> None:
    """P2: a refusal of one delivery says nothing about the other: a cancel closes the attempt and cancels nothing."""
    status, body = OWN[refusal]
    world.says(status, body, echo="right", executed=True)
    client = world.open_client(retry=ONE_TRY)
    may(lambda: client.charge(ORDER))
    states = [world.state()]
    world.cancel()
    states.append(world.state())
    world.try_anew()
    assert world.paid() == 1
    assert states == [State.UNKNOWN, State.UNKNOWN]
    assert world.row()["first_sent_at"] is not None
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("act", ["charge", "resume"])
@pytest.mark.parametrize("refusal", OWN)
def test_refused_and_executed_then_left_for_long(world: Middle, refusal: str, act: str) -> None:
    """P2: 30 h after a refusal beside an executed delivery the key is pruned: nothing is sent, the charge is found."""
    status, body = OWN[refusal]
    world.says(status, body, echo="right", executed=True)
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.clock.advance(hours=30)
    client = world.open_client()
    may(lambda: client.charge(ORDER)) if act == "charge" else may(client.resume)
    assert world.paid() == 1
    assert world.state() is State.SUCCEEDED


@pytest.mark.parametrize("refusal", OWN)
def test_refused_now_and_executed_within_the_hour(world: Middle, refusal: str) -> None:
    """P2: the other delivery of a refused send may lie somewhere for an hour: no second attempt meanwhile."""
    status, body = OWN[refusal]
    held = world.says(status, body, echo="right")
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.cancel()
    world.try_anew()
    world.clock.advance(minutes=59)
    world.try_anew()
    world.deliver(held[0])
    world.try_anew()
    assert world.paid() == 1
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


def test_refused_and_never_executed(world: Middle) -> None:
    """P2: given up after a 429, an attempt is `absent` once the lists have shown nothing for long, never `canceled`."""
    world.says(*OWN["rate limit"], echo="right")
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.cancel()
    assert world.resumed() is State.UNKNOWN
    world.clock.advance(seconds=seconds(QUIET + MARGIN))
    assert world.resumed() is State.ABSENT
    assert world.open_client().charge(ORDER, attempt=2).state is State.SUCCEEDED, "its only send was answered"
    assert world.paid() == 1


# P3: a filter answers in the provider's place ------------------------------------------------------------------------


@pytest.mark.parametrize("body", FOREIGN)
@pytest.mark.parametrize("status", [401, 403, 429])
def test_filtered_then_left_for_long(world: Middle, status: int, body: str) -> None:
    """P3: a filter's 401, 403 or 429 in place of an executed answer proves nothing, 30 h later either."""
    world.says(status, FOREIGN[body], executed=True)
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    first_sent_at = world.row()["first_sent_at"]
    world.clock.advance(hours=30)
    may(lambda: world.open_client().charge(ORDER))
    assert world.paid() == 1
    assert (world.state(), world.row()["first_sent_at"]) == (State.SUCCEEDED, first_sent_at)


@pytest.mark.parametrize("body", FOREIGN)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_filtered_then_given_up(world: Middle, status: int, body: str) -> None:
    """P3: after a filter's refusal of an executed send a cancel cancels nothing, and there is no second attempt."""
    world.says(status, FOREIGN[body], executed=True)
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.cancel()
    world.try_anew()
    assert world.paid() == 1
    assert world.state() is State.UNKNOWN
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


# P4: a saved 500 is hidden by another answer -------------------------------------------------------------------------

IN_USE = error(type="idempotency_error", code="idempotency_key_in_use")
HIDING: dict[str, tuple[int, object, Echo]] = {
    "200 page": (200, PAGE, None),
    "200 JSON": (200, {"ok": True}, None),
    "302": (302, b"", None),
    "400": (400, INVALID, None),
    "401 page": (401, PAGE, None),
    "402 nameless": (402, error(type="card_error", code="card_declined"), None),
    "403 page": (403, PAGE, None),
    "404 page": (404, PAGE, None),
    "409": (409, IN_USE, None),
    "409 page": (409, PAGE, None),
    "409 of a doubled delivery": (409, IN_USE, "right"),
    "429 page": (429, PAGE, None),
}


@pytest.mark.parametrize("hiding", HIDING)
def test_hidden_500_is_rolled_forward(world: Middle, hiding: str) -> None:
    """P4: a send without the provider's own result may have failed over there and be charged two days later."""
    status, body, echo = HIDING[hiding]
    world.says(status, body, echo=echo, fault="error_500_later")
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.try_anew()
    world.insist(24, 3.3, 1, 19.6, 0.2, 1, 22, 4, 24, 24)
    assert world.paid() == 1


# P5: a key of another account ----------------------------------------------------------------------------------------

OTHER = "acct_1Other"
OURS = Sandbox(time=lambda: 0).account
DENIALS: dict[str, object] = {
    "page": PAGE,
    "page that names ours": f"<html>{OURS}</html>".encode(),
    "nothing": b"",
    "JSON that names ours": {"message": f"no access to '{OURS}'"},
    "its own, naming another": None,
    "its form, naming none": error(),
    "its form, naming two": error(message=f"The key of account '{OTHER}' has no access to account '{OURS}'."),
}
"""What a restricted key may hear when it asks for its account; none of it says that it is ours."""


@pytest.mark.parametrize("denial", DENIALS)
@pytest.mark.parametrize("act", ["resume", "charge", "charge another"])
def test_key_of_another_account(world: Middle, act: str, denial: str) -> None:
    """P5: a key whose account the provider has not said sends nothing, in doubt or new, whatever name was declared."""
    world.lose("lost_reply")
    before = world.row()
    other = Sandbox(account=OTHER, time=world.clock.true_time)
    if DENIALS[denial] is not None:
        world.says(403, DENIALS[denial], asked="GET /v1/account", times=99)
    rotated = world.open_client("rk_test_rotated", account=world.sandbox.account, provider=other)
    intent = replace(ORDER, intent_id="order_43") if act == "charge another" else ORDER
    may(rotated.resume) if act == "resume" else may(lambda: rotated.charge(intent))
    assert (other.succeeded(), world.paid()) == ({}, 1)
    assert not any(sent.method == "POST" for sent in other.requests)
    assert {**world.row(), "reason": None} == {**before, "reason": None}
    assert (world.state(), len(world.sends)) == (State.UNKNOWN, 1)


@pytest.mark.parametrize("declared", [True, False])
def test_restricted_key_that_the_provider_names(world: Middle, declared: bool) -> None:
    """P5: the provider's own 403 that names the store's account is its word: such a key charges."""
    assert world.open_client().charge(DECLINED).state is State.DECLINED
    restricted = world.open_client("rk_test_ours", account=world.sandbox.account if declared else None)
    assert restricted.charge(replace(ORDER, intent_id="order_43")).state is State.SUCCEEDED


# P7: a person resolves the finding of a late success -----------------------------------------------------------------


def late_success(world: Middle, fault: str) -> None:
    """Attempt 1 was proven absent, attempt 2 is begun; then the first one's success comes to light, and is resolved."""
    world.lose()
    world.cancel()
    world.resumed()
    world.clock.advance(seconds=seconds(UNPROVEN + MARGIN))
    assert world.resumed() is State.ABSENT
    world.sandbox.fault(fault)
    world.try_anew()
    assert world.state(attempt=2).pending
    world.pay_behind_our_back(ORDER.intent_id)
    assert world.run().complete
    assert world.findings == [("status_mismatch", 1, True)]
    assert world.resolve() == 1


def insist_on_attempt_3(world: Middle) -> None:
    """Attempt 2 is given up and waited out, then the next one is asked for."""
    world.cancel()
    world.insist(4, 80)
    world.try_anew(attempt=3)


ACTS: dict[str, Callable[[Middle], object]] = {
    "resume": lambda world: may(world.open_client().resume),
    "charge": lambda world: may(lambda: world.open_client().charge(ORDER)),
    "attempt 3": insist_on_attempt_3,
}


@pytest.mark.parametrize("fault", ["lost_request", "refused"])
@pytest.mark.parametrize("act", ACTS)
def test_resolved_late_success(world: Middle, act: str, fault: str) -> None:
    """P7: once the provider has moved money for an intent no attempt of it is sent, whoever resolves the finding."""
    late_success(world, fault)
    sends = len(world.sends)
    ACTS[act](world)
    assert world.paid() == 1
    assert len(world.sends) == sends


def test_way_out_of_a_late_success(world: Middle) -> None:
    """P7: `charge` says that a person is needed, and another intent id is the way out."""
    late_success(world, "lost_request")
    with pytest.raises(NeedsPerson):
        world.open_client().charge(ORDER)
    assert world.open_client().charge(replace(ORDER, intent_id="order_43")).state is State.SUCCEEDED


# P12: metadata edited by hand ----------------------------------------------------------------------------------------

ANOTHER = "another-service"
EDITS: dict[str, dict[str, str]] = {
    "no key": {"namespace": ANOTHER, "intent": ORDER.intent_id, "attempt": "1"},
    "no key, no attempt": {"namespace": ANOTHER, "intent": ORDER.intent_id},
    "no key, other attempt": {"namespace": ANOTHER, "intent": ORDER.intent_id, "attempt": "7"},
    "a made-up key": {"namespace": ANOTHER, "intent": ORDER.intent_id, "attempt": "1", "key": "pc1_" + "b" * 52},
}


def edited(world: Middle, names: dict[str, str]) -> None:
    """Charged, the answer lost; then somebody edits what the provider has, and the charge is given up."""
    world.lose("lost_reply")
    for made in world.objects:
        world.sandbox.change(made["id"], metadata={f"paycli_{name}": value for name, value in names.items()})
    world.cancel()
    world.resumed()
    world.clock.advance(seconds=seconds(UNPROVEN + MARGIN))


@pytest.mark.parametrize("edit", EDITS)
def test_edited_metadata(world: Middle, edit: str) -> None:
    """P12: a success that claims another namespace, without the key of it, may be ours: no absence beside it."""
    edited(world, EDITS[edit])
    state = world.resumed()
    world.try_anew()
    assert world.charged == 1
    assert state is State.UNKNOWN
    with pytest.raises(AttemptRefused):
        world.open_client().charge(ORDER, attempt=2)


def test_charge_of_another_namespace(world: Middle) -> None:
    """P12: an object with the key that is computed for its namespace is another service's, and blocks nothing."""
    world.lose()
    theirs = replace(world.binding, namespace=ANOTHER).key("charge", ORDER.intent_id, 1)
    world.pay_behind_our_back(ORDER.intent_id, namespace=ANOTHER, key=theirs)
    world.cancel()
    world.resumed()
    world.clock.advance(seconds=seconds(UNPROVEN + MARGIN))
    assert world.resumed() is State.ABSENT


# After a rejection ---------------------------------------------------------------------------------------------------


def test_rejected_beside_an_executed_delivery(world: Middle) -> None:
    """P1, P2: a rejection may be of one delivery only: attempt 2 reads first, and a success there stops it for good."""
    world.says(400, INVALID, echo="right", executed=True)
    client = world.open_client(retry=ONE_TRY)
    assert client.charge(ORDER).state is State.REJECTED
    world.try_anew(client)
    assert world.paid() == 1
    with pytest.raises(NeedsPerson):
        client.charge(ORDER, attempt=2)
    assert world.findings == [("status_mismatch", 1, True)]
    assert world.sql("SELECT count(*) FROM pending_charges") == [(1,)]


def test_attempt_2_after_a_rejection(world: Middle) -> None:
    """P1: when one look-up shows nothing of a rejected attempt, the next may follow at once."""
    client = world.open_client()
    assert client.charge(replace(ORDER, payment_method="pm_nothing")).state is State.REJECTED
    before = len(world.asked)
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    asked = [what for what in world.asked[before:] if what != "GET /v1/account"]
    assert asked == ["GET /v1/payment_intents", "GET /v1/charges", POST]
    assert world.paid() == 1


def test_attempt_2_after_a_rejection_and_no_lists(world: Middle) -> None:
    """P1: while the lists cannot be read, a rejected attempt is not followed by another."""
    world.says(400, INVALID, echo="right", executed=True)
    client = world.open_client(retry=ONE_TRY)
    client.charge(ORDER)
    world.says(503, PAGE, asked="GET /v1/*s", times=99)
    world.clock.advance(seconds=seconds(ROLL_FORWARD + timedelta(hours=9)))
    world.try_anew(client)
    assert world.paid() == 1
    assert world.sql("SELECT count(*) FROM pending_charges") == [(1,)]
