"""Answers that are not what they seem: exchanged, doubled, cached, forged, of another kind, and what people do next.

None of these is in the table of breaks; each is of the same kind as one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate

import httpx
import pytest

from gateway_client import Sandbox, State
from tests.kit import DECLINED, KINDS, ORDER, Killed
from tests.promise_kit import (
    ACCOUNT,
    BECAUSE,
    CHARGES,
    INTENTS,
    INVALID,
    LISTS_BEHIND,
    MARGIN,
    ONE_TRY,
    PAGE,
    POST,
    SOMEBODY_ELSES,
    UNPROVEN,
    Echo,
    Json,
    Middle,
    error,
    may,
    seconds,
)

DEBIT = replace(ORDER, payment_method="pm_usBankAccount")  # `processing` for a while, then it succeeds
CARD_ERROR = error(type="card_error", code="card_declined", decline_code="generic_decline")


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """The world of each of the two clients, on each database."""
    with Middle(request.param) as made:
        yield made


def charge_once(world: Middle) -> State:
    """One send, whatever it comes to."""
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    return world.state()


# Answers to a send ----------------------------------------------------------------------------------------------------

NOT_OURS: dict[str, tuple[int, object, Echo]] = {
    "nameless decline": (402, CARD_ERROR, None),
    "nameless decline of another key": (402, CARD_ERROR, "wrong"),
    "rejection": (400, INVALID, None),
    "rejection of another key": (400, INVALID, "wrong"),
    "not found": (404, INVALID, None),
    "not found of another key": (404, INVALID, "wrong"),
    "rate limit of another key": (429, error(code="rate_limit"), "wrong"),
    "expired key of another key": (401, error(code="api_key_expired"), "wrong"),
    "in use, of another key": (409, error(type="idempotency_error", code="idempotency_key_in_use"), "wrong"),
}


@pytest.mark.parametrize("answer", NOT_OURS)
def test_answer_to_somebody_else(world: Middle, answer: str) -> None:
    """An answer without the echo of our key, or with another's, is no result of ours, and no way to attempt 2."""
    status, body, echo = NOT_OURS[answer]
    world.lists_behind(LISTS_BEHIND)
    world.says(status, body, echo=echo, executed=True)
    first = charge_once(world)
    for minutes in (0, 61):
        world.clock.advance(minutes=minutes)
        world.try_anew()
    assert world.paid() == 1
    assert first is State.UNKNOWN
    world.clock.advance(minutes=60)
    assert (charge_once(world), world.paid()) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("answer", NOT_OURS)
def test_answer_to_somebody_else_before_a_late_execution(world: Middle, answer: str) -> None:
    """Likewise when our own request is executed only 59 minutes later, and it was given up meanwhile."""
    status, body, echo = NOT_OURS[answer]
    held = world.says(status, body, echo=echo)
    charge_once(world)
    world.try_anew()
    world.cancel()
    world.try_anew()
    world.clock.advance(minutes=59)
    world.try_anew()
    world.deliver(held[0])
    assert world.paid() == 1
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


def test_our_success_under_another_key(world: Middle) -> None:
    """Even our own object is not believed under the echo of another key; the next look finds it."""
    world.says(200, world.our_intent, echo="wrong", executed=True)
    assert charge_once(world) is State.UNKNOWN
    assert (charge_once(world), world.paid()) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("status", [200, 402])
def test_another_object_under_our_key(world: Middle, status: int, named: bool) -> None:
    """Another payment's object is no result of ours, although our own key is echoed with it."""
    world.stranger_pays(metadata=world.claims("order_1") if named else None)
    (other,) = world.sandbox.payment_intents
    world.clock.advance(minutes=1)
    body = other if status == 200 else error(type="card_error", payment_intent=other)
    world.says(status, body, echo="right", executed=True)
    assert charge_once(world).pending
    world.try_anew()
    assert world.paid() == 1
    assert world.resumed() is State.SUCCEEDED
    assert world.row()["provider_intent_id"] == world.our_intent()["id"] != other["id"]


def test_time_of_a_page(world: Middle) -> None:
    """A box's page with a clock of its own is no news of the provider's time: a hidden 500 is waited for in full."""
    then = formatdate(world.clock.true_time() - 80 * 3600, usegmt=True)
    world.says(503, PAGE, fault="error_500_later", headers={"Date": then})
    charge_once(world)
    world.insist(24, 3.3, 20, 1, 24, 30)
    assert world.paid() == 1


# Answers to a cancellation and to a retrieval -------------------------------------------------------------------------

Forged = Callable[[Middle], Json]
FORGED: dict[str, Forged] = {
    "ours": lambda world: {**world.our_intent(), "status": "canceled"},
    "ours under another id": lambda world: {**world.our_intent(), "id": "pi_another", "status": "canceled"},
    "another": lambda world: {**world.our_intent(), "id": "pi_another", "status": "canceled", "metadata": {}},
}


@pytest.mark.parametrize("forged", FORGED)
def test_cancellation_that_a_box_answers(world: Middle, forged: str) -> None:
    """What a cancellation is answered is not believed: the intent itself is asked, and it is processing."""
    assert world.open_client().charge(DEBIT).state is State.PROCESSING
    world.says(200, lambda: FORGED[forged](world), asked="POST */cancel", times=99)
    world.cancel()
    state = world.state()
    world.try_anew()
    world.clock.advance(minutes=5)
    assert world.paid() == 1
    assert state is State.PROCESSING
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("forged", ["ours under another id", "another"])
def test_retrieval_of_another_intent(world: Middle, forged: str) -> None:
    """A question for an intent that is answered with another one is not answered."""
    assert world.open_client().charge(DEBIT).state is State.PROCESSING
    world.says(200, lambda: FORGED[forged](world), asked=f"GET {INTENTS}/*", times=99)
    states = [world.resumed()]
    world.cancel()
    states.append(world.state())
    world.try_anew()
    world.hooks.clear()
    world.clock.advance(minutes=5)
    assert world.paid() == 1
    assert states == [State.PROCESSING] * 2
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


def test_retrieval_with_a_key(world: Middle) -> None:
    """A question was asked without a key: an answer that echoes one is another request's."""
    assert world.open_client().charge(DEBIT).state is State.PROCESSING
    other = {"Idempotency-Key": SOMEBODY_ELSES}
    world.says(200, lambda: FORGED["ours"](world), asked=f"GET {INTENTS}/*", times=99, headers=other)
    assert world.resumed() is State.PROCESSING


def test_declined_intent_and_a_cancellation_that_a_box_answers(world: Middle) -> None:
    """Attempt 2 is made only when the provider itself says that the declined intent is cancelled."""
    client = world.open_client(retry=ONE_TRY)
    intent = client.charge(DECLINED).provider_intent_id
    world.says(200, lambda: FORGED["ours"](world), asked="POST */cancel", times=99)
    world.try_anew()
    world.hooks.clear()
    world.post(f"{INTENTS}/{intent}/confirm", {"payment_method": "pm_card_visa"})
    assert world.paid() == 1


# Answers to the question whose key it is ------------------------------------------------------------------------------

NO_ACCOUNT: dict[str, tuple[object, dict[str, str]]] = {
    "an intent": ({"id": "pi_1", "object": "payment_intent", "status": "succeeded"}, {}),
    "a charge": ({"id": "ch_1", "object": "charge", "status": "succeeded"}, {}),
    "an id and nothing else": ({"id": Sandbox(time=lambda: 0).account}, {}),
    "an account that is none": ({"id": "order_42", "object": "account"}, {}),
    "an answer with a key": (
        {"id": Sandbox(time=lambda: 0).account, "object": "account"},
        {"Idempotency-Key": SOMEBODY_ELSES},
    ),
}


@pytest.mark.parametrize("what", NO_ACCOUNT)
@pytest.mark.parametrize("act", ["charge", "prepare"])
def test_no_account(world: Middle, act: str, what: str) -> None:
    """What is no account of the provider's binds no store: nothing is written, nothing is sent."""
    body, headers = NO_ACCOUNT[what]
    world.says(200, body, asked=f"GET {ACCOUNT}", times=99, headers=headers)
    client = world.open_client(retry=ONE_TRY)
    may(lambda: client.charge(ORDER) if act == "charge" else client.prepare(ORDER))
    assert world.sends == []
    assert world.sql("SELECT count(*) FROM paycli_store") == [(0,)]
    world.hooks.clear()
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert world.sql("SELECT account FROM paycli_store") == [(world.sandbox.account,)]


# Answers to a look-up -------------------------------------------------------------------------------------------------


def page(path: str, **changes: object) -> Json:
    """An empty page of a list."""
    return {"object": "list", "data": [], "has_more": False, "url": path, **changes}


PAGES: dict[str, Callable[[str], object]] = {
    "somebody's JSON": lambda path: {"data": [], "has_more": False},
    "of the other list": lambda path: page(CHARGES if path == INTENTS else INTENTS),
    "of another list": lambda path: page("/v1/customers"),
    "of no url": lambda path: page(path, url=None),
    "a search": lambda path: page(path, object="search_result"),
    "with an object of another kind": lambda path: page(
        path, data=[{"id": "cus_1", "object": "customer", "status": "active", "created": 0}]
    ),
}


def in_doubt_for_long(world: Middle) -> None:
    """Charged, the answer lost, given up, and quiet for long; its first reading was too early."""
    world.lists_behind(timedelta(days=9))
    world.lose("lost_reply")
    world.cancel()
    assert world.resumed() is State.UNKNOWN
    world.hooks.clear()
    world.clock.advance(seconds=seconds(UNPROVEN + MARGIN))


@pytest.mark.parametrize("kind", PAGES)
def test_empty_page_that_is_none(world: Middle, kind: str) -> None:
    """An empty answer that is not exactly the page that was asked for proves no absence, and no way to attempt 2."""
    in_doubt_for_long(world)
    for path in (INTENTS, CHARGES):
        world.says(200, PAGES[kind](path), asked=f"GET {path}", times=99)
    state = world.resumed()
    world.try_anew()
    assert world.paid() == 1
    assert state is State.UNKNOWN
    world.hooks.clear()
    assert world.resumed() is State.SUCCEEDED


def test_page_with_a_key(world: Middle) -> None:
    """An empty page that echoes a key, which no question has, is somebody else's answer."""
    in_doubt_for_long(world)
    for path in (INTENTS, CHARGES):
        key = {"Idempotency-Key": SOMEBODY_ELSES}
        world.says(200, page(path), asked=f"GET {path}", times=99, headers=key)
    assert world.resumed() is State.UNKNOWN


def test_lists_exchanged(world: Middle) -> None:
    """Two lists whose answers are exchanged show nothing: no id of a charge is kept as that of an intent."""
    in_doubt_for_long(world)
    for path, other in ((INTENTS, CHARGES), (CHARGES, INTENTS)):
        world.on(_exchanged(world, other), f"GET {path}", 99)
    assert world.resumed() is State.UNKNOWN
    assert (world.row()["provider_intent_id"], world.row()["provider_charge_id"]) == (None, None)
    world.hooks.clear()
    assert world.resumed() is State.SUCCEEDED
    assert world.row()["provider_charge_id"] == world.sandbox.charges[0]["id"]


def _exchanged(world: Middle, other: str) -> Callable[[httpx.Request], httpx.Response | None]:
    def act(request: httpx.Request) -> httpx.Response | None:
        return world.deliver(httpx.Request("GET", request.url.copy_with(path=other), headers=request.headers))

    return act


# Two processes --------------------------------------------------------------------------------------------------------


REFUSED: dict[str, tuple[int, object]] = {
    "rate limit": (429, error(code="rate_limit")),
    "rejection": (400, INVALID),
    "page": (403, PAGE),
}


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "held"])
@pytest.mark.parametrize("refused", REFUSED)
def test_refused_beside_a_process_that_died(world: Middle, refused: str, executed: bool) -> None:
    """A refusal of one process's send closes nothing of a send whose process died, and which may still be held."""
    held = world.on(_dying(world, executed=executed))
    with pytest.raises(Killed):
        world.open_client().charge(ORDER)
    world.says(*REFUSED[refused], echo="right")
    states = [charge_once(world)]
    world.cancel()
    states.append(world.state())
    world.try_anew()
    world.clock.advance(minutes=59)
    world.deliver(held[0])
    world.try_anew()
    assert world.paid() == 1
    assert states == [State.UNKNOWN] * 2
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


def _dying(world: Middle, *, executed: bool) -> Callable[[httpx.Request], httpx.Response | None]:
    def act(request: httpx.Request) -> httpx.Response | None:
        if executed:
            world.deliver(request)
        raise Killed

    return act


def test_canceled_by_another_process_while_refused(world: Middle) -> None:
    """One process is told 429 for one of two deliveries while another gives the charge up: charged once, and found."""

    def act(request: httpx.Request) -> httpx.Response | None:
        world.deliver(request)
        world.open_second().cancel(ORDER.intent_id, because=BECAUSE)
        own = {"Date": world.date_header, "Idempotency-Key": request.headers["Idempotency-Key"]}
        return httpx.Response(429, json=error(code="rate_limit"), headers=own)

    world.on(act, POST)
    charge_once(world)
    world.try_anew()
    assert world.paid() == 1
    assert world.state() is State.UNKNOWN
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)
