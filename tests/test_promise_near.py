"""What nearly broke the promise: relayed pages, late lists, successes inside errors, rotated keys, closed findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from gateway_client import ConfigurationError, Sandbox, State
from gateway_client.finding import CRITICAL
from tests.kit import DECLINED, KINDS, ORDER
from tests.kit_clients import AnyClient
from tests.nightly import DATABASES
from tests.promise_kit import (
    ACCOUNT,
    CHARGES,
    INTENTS,
    LISTS_BEHIND,
    MARGIN,
    ONE_TRY,
    PAGE,
    POST,
    QUIET,
    UNPROVEN,
    Echo,
    Middle,
    error,
    may,
    seconds,
)

DAY_S = 24 * 3600


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """The world of each of the two clients, on each database."""
    with Middle(request.param) as made:
        yield made


@pytest.fixture(params=DATABASES)
def night(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """A world whose nights are looked at."""
    with Middle(request.param) as made:
        yield made


# Pages of lists that are of another question --------------------------------------------------------------------------


def relays(world: Middle, path: str, times: int, *, instead: str | None = None, back_s: int = 0) -> None:
    """The list of `path` is answered with a page of the list `instead`, or with one of some time back."""

    def act(request: httpx.Request) -> httpx.Response | None:
        asked = dict(request.url.params)
        bounds = {name: str(int(value) - back_s) for name, value in asked.items() if name.startswith("created")}
        url = request.url.copy_with(path=instead or path, params={**asked, **bounds})
        return world.deliver(httpx.Request("GET", url, headers=request.headers))

    world.on(act, f"GET {path}", times)


@pytest.mark.parametrize("times", [1, 2, 99])
@pytest.mark.parametrize(("path", "instead"), [(CHARGES, INTENTS), (INTENTS, CHARGES)])
def test_page_of_the_other_list(night: Middle, path: str, instead: str, times: int) -> None:
    """A page of the other list is no answer: asked again, or the run is incomplete; never a critical finding."""
    for number in range(3):
        night.pay(f"order_{number}")
    relays(night, path, times, instead=instead)
    result = night.run()
    assert [found for found in result.findings if found.code in CRITICAL] == []
    assert (result.complete, result.findings) == (times < 99, ())
    night.hooks.clear()
    again = night.run()
    assert (again.complete, again.matched, again.findings) == (True, 3, ())


@pytest.mark.parametrize("path", [CHARGES, INTENTS])
def test_page_of_another_day(night: Middle, path: str) -> None:
    """A page whose objects lie outside the bounds that were asked for is no answer, and no end of a list."""
    night.pay("order_1")
    night.clock.advance(hours=24)
    night.pay("order_2")
    relays(night, path, 99, back_s=DAY_S)
    result = night.run()
    assert (result.complete, result.findings) == (False, ())


def test_look_up_on_pages_of_another_day(world: Middle) -> None:
    """A look-up that is answered with older pages proves nothing."""
    world.stranger_pays(500)
    world.clock.advance(hours=24)
    world.lists_behind(timedelta(days=9))
    world.lose("lost_reply")
    world.cancel()
    assert world.resumed() is State.UNKNOWN
    world.clock.advance(seconds=seconds(UNPROVEN + MARGIN))
    for path in (INTENTS, CHARGES):
        relays(world, path, 99, back_s=DAY_S)
    assert world.resumed() is State.UNKNOWN
    world.hooks.clear()
    assert (world.resumed(), world.charged) == (State.SUCCEEDED, 2)


# Lists that are late --------------------------------------------------------------------------------------------------

UNREADABLE: dict[str, tuple[int, object]] = {
    "200 page": (200, PAGE),
    "404 page": (404, PAGE),
    "409 page": (409, PAGE),
    "429 page": (429, PAGE),
    "502 nothing": (502, b""),
}


@pytest.mark.parametrize("minutes", [90, 120])
@pytest.mark.parametrize("answer", UNREADABLE)
def test_lists_behind(world: Middle, answer: str, minutes: int) -> None:
    """Lists 90 minutes behind, an answer that cannot be read and a cancel: not called absent before they show it."""
    world.lists_behind(timedelta(minutes=minutes))
    world.says(*UNREADABLE[answer], executed=True)
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.cancel()
    states = [world.resumed()]
    for passed in (60, minutes - 61):
        world.clock.advance(minutes=passed)
        states.append(world.resumed())
    assert states == [State.UNKNOWN] * 3
    world.clock.advance(minutes=2)
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


# Our own success inside an error --------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", ["right", None])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 429, 500, 503])
def test_success_inside_an_error(world: Middle, status: int, echo: Echo) -> None:
    """An error of any status that carries our own succeeded intent tells a success."""
    kind = "card_error" if status == 402 else "invalid_request_error"
    world.says(status, lambda: error(type=kind, payment_intent=world.our_intent()), echo=echo, executed=True)
    charge = may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    assert world.paid() == 1
    assert charge is not None
    assert (charge.state, charge.provider_charge_id) == (State.SUCCEEDED, world.sandbox.charges[0]["id"])


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429])
def test_somebody_elses_success_inside_an_error(world: Middle, status: int) -> None:
    """The succeeded intent of another payment inside an error is nobody's proof, and ours is found by reading."""
    world.stranger_pays()
    (other,) = world.sandbox.payment_intents
    world.clock.advance(minutes=1)
    kind = "card_error" if status == 402 else "invalid_request_error"
    world.says(status, error(type=kind, payment_intent=other), executed=True)
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.try_anew()
    assert world.paid() == 1
    assert world.state().pending
    world.cancel()
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)
    assert world.row()["provider_intent_id"] != other["id"]


# A row in doubt under another API key ---------------------------------------------------------------------------------

ROTATED = "sk_test_rotated"


def rotated(world: Middle) -> AnyClient:
    """A process with the new key, at a provider that keeps idempotency keys for each API key apart: that is allowed."""

    def act(request: httpx.Request) -> httpx.Response | None:
        key = request.headers["Idempotency-Key"]
        if not request.headers["Authorization"].endswith(ROTATED):
            return None
        response = world.deliver(
            httpx.Request(
                "POST", request.url, headers={**request.headers, "Idempotency-Key": f"{key}-2"}, content=request.content
            )
        )
        if response is not None:
            response.headers["Idempotency-Key"] = key
        return response

    world.on(act, POST, 99)
    return world.open_client(ROTATED, retry=ONE_TRY)


def act(client: AnyClient, how: str) -> None:
    """Somebody with the new key finishes what is pending, or charges again."""
    may(client.resume) if how == "resume" else may(lambda: client.charge(ORDER))


@pytest.mark.parametrize("how", ["charge", "resume"])
def test_rotated_key_and_a_held_send(world: Middle, how: str) -> None:
    """A send that lies on its way under the old key: nothing is sent under the new one meanwhile."""
    held = world.holds()
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    client = rotated(world)
    for minutes in (0, 30, 29):
        world.clock.advance(minutes=minutes)
        act(client, how)
    world.deliver(held[0])
    act(client, how)
    assert world.paid() == 1
    assert world.state() is State.SUCCEEDED


@pytest.mark.parametrize("how", ["charge", "resume"])
def test_rotated_key_and_late_lists(world: Middle, how: str) -> None:
    """What was charged under the old key is found when the lists show it, however late, and not sent under the new."""
    world.lists_behind(LISTS_BEHIND)
    world.lose("lost_reply")
    client = rotated(world)
    for minutes in (0, 60, 59, 2):
        world.clock.advance(minutes=minutes)
        act(client, how)
    assert world.paid() == 1
    assert (world.state(), len(world.sends)) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("how", ["charge", "resume"])
def test_rotated_key_and_nothing_found(world: Middle, how: str) -> None:
    """Refused in proven words, it is sent under the new key once a reading, a quiet time later, shows nothing."""
    world.says(429, error(code="rate_limit"), echo="right")
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    sent = len(world.sends)
    client = rotated(world)
    act(client, how)
    world.clock.advance(seconds=seconds(QUIET - MARGIN))
    act(client, how)
    assert len(world.sends) == sent
    world.clock.advance(seconds=seconds(2 * MARGIN))
    act(client, how)
    assert (world.state(), world.paid(), len(world.sends)) == (State.SUCCEEDED, 1, sent + 1)


@pytest.mark.parametrize("how", ["charge", "resume"])
def test_rotated_key_and_an_answer_that_nobody_saw(world: Middle, how: str) -> None:
    """What was not answered may be a 500 that is rolled forward: it is looked up under the new key, never sent."""
    world.lose()
    client = rotated(world)
    for hours in (1, 4, 12, 40, 76):
        world.clock.advance(hours=hours)
        act(client, how)
    assert (world.state(), len(world.sends)) == (State.ABSENT, 1)


@pytest.mark.parametrize("status", [401, 403])
def test_key_that_was_refused_and_rotated(world: Middle, status: int) -> None:
    """A key is refused, in one delivery of two, and rotated; 30 h later nothing is sent under the new one."""
    world.says(status, error(code="api_key_expired"), echo="right", executed=True)
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    client = rotated(world)
    world.clock.advance(hours=30)
    act(client, "charge")
    assert world.paid() == 1
    assert (world.state(), len(world.sends)) == (State.SUCCEEDED, 1)


# Findings that a person has closed ------------------------------------------------------------------------------------


def test_same_facts_stay_closed(night: Middle) -> None:
    """A finding that a person has closed stays closed while its facts are the same."""
    night.pay("order_1")
    night.change("order_1", amount=2500)
    night.run()
    assert night.resolve() == 1
    night.run()
    assert night.findings == [("amount_mismatch", 1, False)]


@pytest.mark.parametrize("change", [{"amount": 3000}, {"amount": 2500, "status": "pending"}])
def test_other_facts_open_it_again(night: Middle, change: dict[str, object]) -> None:
    """A finding that a person has closed opens again when what the provider says has changed."""
    night.pay("order_1")
    night.change("order_1", amount=2500)
    night.run()
    assert night.resolve() == 1
    night.change("order_1", **change)
    assert night.run().open_findings >= 1
    assert ("amount_mismatch", 1, True) in night.findings


def test_declined_that_is_processed_and_then_paid(night: Middle) -> None:
    """A declined attempt that a person saw as "pending" at the provider is news when it is charged there."""
    intent = night.open_client().charge(DECLINED).provider_intent_id
    assert intent is not None
    night.clock.advance(minutes=1)
    night.sandbox.change(intent, status="processing", last_payment_error=None)
    night.change(ORDER.intent_id, status="pending")
    night.run()
    assert night.resolve() == 1
    night.sandbox.change(intent, status="succeeded", amount_received=2000)
    night.change(ORDER.intent_id, status="succeeded", captured=True)
    night.run()
    assert night.findings == [("status_mismatch", 1, True)]


# A key of a platform, and an account that was only declared -----------------------------------------------------------


@pytest.mark.parametrize("act", ["charge", "prepare"])
@pytest.mark.parametrize("own", [True, False], ids=["names its own", "names none"])
def test_declared_account_is_not_believed(world: Middle, own: bool, act: str) -> None:
    """A3, P5: a platform's restricted key with a connected account's name binds no store, and charges nobody."""
    platform = Sandbox(account="acct_1Platform", time=world.clock.true_time)
    if not own:
        world.says(403, error(), asked=f"GET {ACCOUNT}", times=99)
    client = world.open_client("rk_test_platform", account="acct_1Connected", provider=platform)
    if own:
        with pytest.raises(ConfigurationError):
            client.charge(ORDER) if act == "charge" else client.prepare(ORDER)
    else:
        may(lambda: client.charge(ORDER) if act == "charge" else client.prepare(ORDER))
    assert platform.succeeded() == {}
    assert {sent.path for sent in platform.requests} <= {ACCOUNT}
    assert world.sql("SELECT count(*) FROM paycli_store") == [(0,)]


def test_unbound_store_and_a_key_that_the_provider_names(world: Middle) -> None:
    """A3, P5: a restricted key whose own 403 names its account binds a store to that one."""
    client = world.open_client("rk_test_ours")
    assert client.charge(replace(ORDER, intent_id="order_7")).state is State.SUCCEEDED
    assert world.sql("SELECT account FROM paycli_store") == [(world.sandbox.account,)]
