"""Look-ups against a provider that will not tell, tells too much, or tells half; and time that is against us."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from gateway_client import ClockRefused, PaymentIntent, ProviderUnavailable, RetryPolicy, State, wire
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, World

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


def order(name: str) -> PaymentIntent:
    return replace(ORDER, intent_id=name)


def test_lists_without_permission(either: World) -> None:
    """A key that may not read the lists is named as the reason of a charge in doubt; with the permission it ends."""
    either.lose("error_500_charged", times=2)
    for path in (INTENTS, CHARGES):
        either.answer(403, {"error": {"type": "invalid_request_error"}}, on=("GET", path), times=99)
    client = either.open_client()
    charge = client.charge(ORDER)
    assert charge.state is State.UNKNOWN
    assert "permission" in (charge.reason or "")
    assert "HTTP 403" in (charge.reason or "")
    assert "othing was sent" not in (charge.reason or "")
    with pytest.raises(ProviderUnavailable) as caught:
        client.resume()
    assert "HTTP 403" in str(caught.value)
    assert "othing was sent" not in str(caught.value)
    assert either.state() is State.UNKNOWN
    either.hooks.clear()
    (charge,) = client.resume()
    assert (charge.state, either.paid(), len(either.sends)) == (State.SUCCEEDED, 1, 2)


def second_page_fails(world: World) -> None:
    """More than a page of strangers' objects, and nobody tells of the second one."""
    for _ in range(101):
        world.stranger_pays(amount=500)

    def hook(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(503) if "starting_after" in request.url.params else None

    world.hooks.append(hook)


def test_second_page_fails_for_an_old_charge(either: World) -> None:
    """Lists that break off before an old charge do not stop a young one, whose own time was read completely."""
    either.lose()
    either.clock.advance(hours=1)
    second_page_fails(either)
    either.clock.advance(BOUNDS.key_life - timedelta(hours=1))
    either.open_client().prepare(order("order_43"))
    either.clock.advance(minutes=5)
    with pytest.raises(ProviderUnavailable):
        either.open_client().resume()
    assert "could not be read to the end" in either.row()["reason"]
    assert (either.state(), either.state("order_43")) == (State.UNKNOWN, State.SUCCEEDED)
    assert (either.paid("order_43"), either.paid()) == (1, 0)


def test_second_page_fails_for_a_young_charge(world: World) -> None:
    """A charge of an older process whose own time was not read completely is not sent, and says why."""
    world.open_client().prepare(ORDER)
    second_page_fails(world)
    world.clock.advance(minutes=5)
    with suppress(ProviderUnavailable):
        world.open_client().resume()
    assert (len(world.sends), world.state()) == (101, State.PREPARED)
    assert "could not be read to the end" in world.row()["reason"]


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
@pytest.mark.parametrize(
    ("amount", "currency", "end"),
    [
        (None, "usd", State.UNKNOWN),
        (2000, None, State.UNKNOWN),
        (None, None, State.UNKNOWN),
        (None, "eur", State.ABSENT),
        (2001, None, State.ABSENT),
    ],
)
def test_stranger_of_an_unknown_amount(
    world: World, path: str, amount: int | None, currency: str | None, end: State
) -> None:
    """A stranger's success whose amount or currency is not told may be ours: it blocks absence (F136)."""
    world.lose()
    world.close_and_wait()
    stranger: dict[str, object] = {
        "id": "x_1",
        "status": "succeeded",
        "amount": amount,
        "currency": currency,
        "metadata": {},
    }
    page = {"object": "list", "url": path, "data": [stranger], "has_more": False}
    world.answer(200, page, on=("GET", path), times=99)
    (charge,) = world.open_client(retry=ONE_SEND).resume()
    assert charge.state is end
    assert ("a person looks" in (charge.reason or "")) is (end is State.UNKNOWN)


@pytest.mark.parametrize("waiting_first", [True, False])
def test_look_ups_go_on_in_a_storm(either: World, *, waiting_first: bool) -> None:
    """Ten charges answered 503 end the sending, not the look-ups: what waits only for proof is settled (F57)."""
    waiting = [order("wait_1"), order("wait_2")]
    storm = [order(f"storm_{number}") for number in range(10)]
    tried: list[str] = []

    def hook(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        tried.append(request.headers["Idempotency-Key"])
        return httpx.Response(503)

    for group in (waiting, storm) if waiting_first else (storm, waiting):
        for intent in group:
            either.clock.advance(seconds=1)
            if intent in waiting:
                either.lose("error_500_charged", times=2, intent=intent)
            else:
                either.open_client().prepare(intent)
                either.sandbox.fault("unavailable_503")
                assert either.open_client(retry=ONE_SEND).charge(intent).state is State.UNKNOWN
    either.hooks.append(hook)
    with pytest.raises(ProviderUnavailable):
        either.open_client(retry=ONE_SEND).resume()
    assert {intent.intent_id: either.state(intent.intent_id) for intent in waiting} == dict.fromkeys(
        ("wait_1", "wait_2"), State.SUCCEEDED
    )
    assert sorted(tried) == sorted(set(tried)), "each was tried once"
    assert {either.state(intent.intent_id) for intent in storm} == {State.UNKNOWN}


# Time


@pytest.mark.parametrize("minutes", [40, -40])
def test_clock_set_within_the_hour(either: World, minutes: int) -> None:
    """A clock that jumps against the monotonic one is checked before the next send, and poisons no store (S5)."""
    client = either.open_client()
    client.charge(ORDER)
    either.clock.advance(seconds=5)
    seen = either.sql("SELECT max(begun_at) FROM paycli_sends")
    either.clock.wrong_s = minutes * 60
    before = either.asked
    with pytest.raises(ClockRefused):
        client.charge(order("order_43"))
    assert either.asked[len(before) :] == ["GET /v1/account"]
    assert either.sql("SELECT max(begun_at) FROM paycli_sends") == seen
    either.clock.wrong_s = 0
    charge = client.charge(order("order_43"))
    assert (charge.state, either.paid("order_43")) == (State.SUCCEEDED, 1)
    assert charge.first_sent_at is not None
    assert abs(charge.first_sent_at - either.clock.now) <= timedelta(seconds=2)
    latest = datetime.fromisoformat(str(either.sql("SELECT max(begun_at) FROM paycli_sends")[0][0]))
    assert latest.replace(tzinfo=UTC) <= either.clock.now + timedelta(seconds=2)


def test_slow_409s(either: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that "being executed now" takes to answer counts as waiting: a call ends after 30 s, not 69."""
    took_s = [0]
    monkeypatch.setattr(wire._Watch, "ms", property(lambda watch: took_s[0] * 1000))

    def hook(request: httpx.Request) -> httpx.Response | None:
        took_s[0] = 4 if request.method == "POST" else 0
        if request.method != "POST":
            return None
        either.clock.advance(seconds=4)
        error = {"type": "idempotency_error", "code": "idempotency_key_in_use"}
        return httpx.Response(
            409, json={"error": error}, headers={"Idempotency-Key": request.headers["Idempotency-Key"]}
        )

    either.hooks.append(hook)
    policy = RetryPolicy()
    begun = either.clock.monotonic()
    assert either.open_client(retry=policy).charge(ORDER).state is State.UNKNOWN
    passed_s = either.clock.monotonic() - begun
    assert policy.in_flight_s_max - policy.delay_s_max <= passed_s <= policy.in_flight_s_max + policy.delay_s_max + 4
