"""The loop of sends: what is waited out, what is sent again with the same key and bytes, what ends a call."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest

from gateway_client import (
    ConfigurationError,
    ProviderUnavailable,
    RetryPolicy,
    Sandbox,
    State,
)
from tests.kit import BOUNDS, DECLINED, KINDS, ONE_SEND, ORDER, START, World

ACCOUNT, CREATE = "GET /v1/account", "POST /v1/payment_intents"
LISTS = ["GET /v1/payment_intents", "GET /v1/charges"]
LIMITED = {"error": {"type": "invalid_request_error", "code": "rate_limit"}}


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


def assert_same_request(world: World) -> None:
    """All sends of the attempt repeat key and bytes (S3)."""
    assert len({(sent.idempotency_key, sent.params) for sent in world.sends}) == 1


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply", "cut_body", "html_body", "unavailable_503", "refused"])
def test_sent_again_until_it_is_known(either: World, fault: str) -> None:
    """What may or may not have been executed is sent again, same key, same bytes, and charges once (S1, F21–F27)."""
    either.sandbox.fault(fault, times=2)
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 3, 1)
    assert_same_request(either)


def test_time_is_asked_before_every_send_but_the_first(either: World) -> None:
    """A send that follows another asks the provider for its time first; a first send asks once in an hour (S5)."""
    either.sandbox.fault("unavailable_503", times=2)
    client = either.open_client()
    client.charge(ORDER)
    assert either.asked == [ACCOUNT, CREATE] * 3
    client.charge(replace(ORDER, intent_id="order_43"))
    assert either.asked == [*[ACCOUNT, CREATE] * 3, CREATE]


def test_time_that_cannot_be_asked_stops_the_sends(either: World) -> None:
    """While nobody tells the provider's time nothing is sent again, and `first_sent_at` stays."""
    either.lose()
    either.sandbox.fault("lost_request", times=9, on=ACCOUNT)
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.first_sent_at, len(either.sends)) == (State.UNKNOWN, START, 1)


def test_delays_double(world: World) -> None:
    """The waits between sends double, within their limits, and a call ends after `sends_max` sends."""
    world.sandbox.faults = {"lost_request": 1.0}
    charge = world.open_client(retry=RetryPolicy(sends_max=6, delay_s_first=1, delay_s_max=5)).charge(ORDER)
    assert (charge.state, charge.sends) == (State.UNKNOWN, 6)
    assert world.clock.slept_s == [1, 2, 4, 5, 5]


def test_409_is_waited_out(either: World) -> None:
    """A 409 says that it is being executed: it is waited out with the same key and never a failure (F25, F40)."""
    either.sandbox.fault("lost_reply")
    either.sandbox.fault("in_use_409", times=6)
    charge = either.open_client(retry=RetryPolicy(sends_max=2)).charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 8, 1)
    assert_same_request(either)


def test_409_for_longer_than_the_limit(world: World) -> None:
    """A 409 that does not end leaves the charge unknown after `in_flight_s_max`; `resume` goes on (F40)."""
    world.sandbox.fault("in_use_409", times=1000)
    charge = world.open_client(retry=RetryPolicy(in_flight_s_max=30)).charge(ORDER)
    assert charge.state is State.UNKNOWN
    assert 30 <= sum(world.clock.slept_s) <= 38
    assert charge.sends < 10


def test_409_without_waits_ends(world: World) -> None:
    """A policy without waits does not hammer a provider that answers 409 for ever: every loop has a limit."""
    world.sandbox.fault("in_use_409", times=105)
    world.open_client(retry=RetryPolicy(delay_s_first=0, delay_s_max=0)).charge(ORDER)
    assert len(world.sends) <= 100


def test_429_backs_off(either: World) -> None:
    """A 429 asks for patience: the same key later (F42)."""
    either.sandbox.fault("rate_limited_429", times=2)
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 3, 1)
    assert either.clock.slept_s == [0.5, 1.0]
    assert_same_request(either)


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_proves_nothing(world: World, status: int, *, echo: bool) -> None:
    """A 429, 401 or 403 says nothing of another delivery: the row is `unknown`, its key's life goes on (F42, F46)."""
    world.answer(status, LIMITED, echo=echo)
    with suppress(ConfigurationError):
        world.open_client(retry=ONE_SEND).charge(ORDER)
    row = world.row()
    assert (row["state"], row["first_sent_at"] is None) == (State.UNKNOWN, False)
    cause = "rate_limited" if status == 429 else "credential"
    outcome = "refused" if echo else "unknown"
    assert world.sql("SELECT outcome, cause, status FROM paycli_sends") == [(outcome, cause, status)]
    world.clock.advance(BOUNDS.key_life)
    world.open_client().resume()
    assert (world.state(), world.row()["closed_at"] is None, world.sends) == (State.UNKNOWN, False, [])


@pytest.mark.parametrize("retry_after", ["7", "Fri, 20 Nov 2026 12:00:07 GMT"])
def test_retry_after_is_the_least_wait(world: World, retry_after: str) -> None:
    """Retry-After as a number or a date is waited for, at least (F42)."""
    world.answer(429, LIMITED, headers={"Retry-After": retry_after}, echo=True)
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert 7 <= world.clock.slept_s[0] <= 10


@pytest.mark.parametrize("retry_after", ["-5", "soon", "Fri, 20 Nov 2026 11:00:00 GMT"])
def test_retry_after_that_is_no_wait(world: World, retry_after: str) -> None:
    """A negative, past or unreadable Retry-After leaves our own back-off (F42)."""
    world.answer(429, LIMITED, headers={"Retry-After": retry_after}, echo=True)
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert world.clock.slept_s == [0.5]


@pytest.mark.parametrize("retry_after", ["21600", "Fri, 20 Nov 2026 18:00:00 GMT"])
def test_retry_after_of_six_hours(world: World, retry_after: str) -> None:
    """A wait of six hours ends the call at once; the row is sent again later (F42)."""
    world.answer(429, LIMITED, headers={"Retry-After": retry_after}, echo=True)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.first_sent_at, charge.sends) == (State.UNKNOWN, START, 1)
    assert (world.clock.slept_s, world.sends) == ([], [])
    world.clock.advance(hours=6)
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED


def test_429_in_doubt(world: World) -> None:
    """A 429 says nothing about an earlier send: in doubt it stays unknown."""
    world.lose()
    world.sandbox.fault("rate_limited_429")
    charge = world.open_client(retry=ONE_SEND).charge(ORDER)
    assert (charge.state, charge.first_sent_at) == (State.UNKNOWN, START)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(either: World, status: int) -> None:
    """A redirect is never followed, on a POST or a GET: it proves nothing, and the key goes nowhere else (F32)."""
    hosts: list[str] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        hosts.append(request.url.host)
        if request.method == "POST":
            return httpx.Response(status, headers={"Location": "https://elsewhere.invalid/v1/payment_intents"})
        return None

    either.hooks.append(hook)
    charge = either.open_client(retry=ONE_SEND).charge(ORDER)
    assert (charge.state, charge.sends) == (State.UNKNOWN, 1)
    assert set(hosts) == {"api.stripe.com"}


def test_redirect_of_the_sandbox(world: World) -> None:
    """After a redirect the same request is sent again to the same place, and charges once (F32)."""
    world.sandbox.fault("redirect_302")
    assert (world.open_client().charge(ORDER).state, world.paid()) == (State.SUCCEEDED, 1)


def test_wrong_amount_is_conflict(either: World) -> None:
    """A body with another amount is `conflict`: never a success, never sent again, settled by a look-up (F56, S7)."""
    either.sandbox.fault("wrong_amount")
    client = either.open_client()
    charge = client.charge(ORDER)
    assert (charge.state, charge.provider_charge_id, charge.sends) == (State.CONFLICT, None, 1)
    (charge,) = client.resume()  # the list names the right amount
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 1, 1)


def change_answers(world: World, changed: dict[str, object]) -> None:
    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        answer = world.sandbox.transport().handle_request(request).json()
        return httpx.Response(200, json={**answer, **changed})

    world.hooks.append(hook)


@pytest.mark.parametrize("changed", [{"amount": 1}, {"currency": "eur"}, {"livemode": True}])
def test_answer_that_is_not_ours_is_conflict(world: World, changed: dict[str, object]) -> None:
    """An answer of another amount, currency or mode is `conflict` and stays one while nothing is proven (F35)."""
    change_answers(world, changed)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.sends) == (State.CONFLICT, 1)
    assert world.open_client().charge(ORDER).sends == 1


@pytest.mark.parametrize("metadata", [{"paycli_key": "pc1_other"}, {}, None])
def test_answer_to_somebody_else(world: World, metadata: dict[str, str] | None) -> None:
    """A success without our key in it is somebody else's: it proves nothing, and the send is made again (F35)."""
    change_answers(world, {"metadata": metadata})
    charge = world.open_client().charge(ORDER)
    assert (charge.state, charge.provider_intent_id, charge.sends) == (State.UNKNOWN, None, 4)
    world.hooks.clear()
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert world.paid() == 1
    assert_same_request(world)


def test_conflict_of_the_key(world: World) -> None:
    """A key that another request owns is `conflict`: never a new key, and absent only by proof (F45)."""
    world.open_client().prepare(ORDER)
    key = world.row()["idempotency_key"]
    with httpx.Client(transport=world.sandbox.transport(), base_url="https://api.stripe.com") as other:
        form = {"amount": "1", "currency": "usd"}
        headers = {"Authorization": f"Bearer {Sandbox.api_key}", "Idempotency-Key": key}
        assert other.post("/v1/payment_intents", data=form, headers=headers).status_code == 200
    client = world.open_client()
    assert client.charge(ORDER).state is State.CONFLICT
    for hours in (0, 12, 20):
        world.clock.advance(hours=hours)
        client.charge(ORDER)
    assert {sent.idempotency_key for sent in world.sends} == {key}
    assert world.paid() == 0


@pytest.mark.parametrize(("should_retry", "sends"), [("false", 1), ("true", 4), (None, 4)])
def test_should_retry(world: World, should_retry: str | None, sends: int) -> None:
    """Stripe-Should-Retry: false ends the sends, and means "look it up", not "not charged" (STRIPE.md §1.7)."""
    headers = {} if should_retry is None else {"Stripe-Should-Retry": should_retry}
    caught = world.answer(503, {"error": {"type": "api_error"}}, times=9, headers=headers)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, len(caught)) == (State.UNKNOWN, sends)
    assert ("GET /v1/payment_intents" in world.asked) == (should_retry == "false")


def test_decline_is_final(either: World) -> None:
    """A decline is one send and final; asked again nothing is sent (F43, F07)."""
    client = either.open_client()
    charge = client.charge(DECLINED)
    assert (charge.state, charge.reason, charge.sends) == (State.DECLINED, "card_declined generic_decline", 1)
    before = either.asked
    assert (client.charge(DECLINED), either.asked) == (charge, before)


def test_final_sends_nothing(either: World) -> None:
    """A charge already final is returned as it is by every process, with no request at all (F07)."""
    charge = either.open_client().charge(ORDER)
    before = either.asked
    assert either.open_client().charge(ORDER) == charge
    assert either.asked == before


def test_provider_that_cannot_be_asked(either: World) -> None:
    """When nobody answers whose key this is nothing is sent: the row stays prepared (exit 3)."""
    either.open_client().prepare(ORDER)
    either.sandbox.fault("lost_request", times=9, on="GET /v1/account")
    charge = either.open_client().charge(ORDER)
    assert (charge.state, charge.sends, either.sends) == (State.PREPARED, 0, [])


def test_first_charge_of_an_unbound_store(world: World) -> None:
    """A store that belongs to nobody yet cannot compute a key: without the provider nothing is written."""
    world.sandbox.fault("lost_request", times=9, on="GET /v1/account")
    with pytest.raises(ProviderUnavailable):
        world.open_client().charge(ORDER)
    assert world.sql("SELECT count(*) FROM pending_charges") == [(0,)]
