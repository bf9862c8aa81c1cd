"""What a 500 has left at the provider, uncharged: cancelled there once it cannot charge any more, and told (A9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import httpx
import pytest

from gateway_client import ProviderUnavailable, State
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, World
from tests.nightly import DATABASES, Night, codes, night
from tests.worker_kit import TimedWorld, work

CLOSED = START + BOUNDS.key_life
OVER = CLOSED + BOUNDS.quiet_unproven
SECOND = timedelta(seconds=1)
WHY = "left uncharged at the provider, and cancelled there when no 500 could charge it any more"


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def left_uncharged(world: World) -> None:
    world.sandbox.fault("error_500_uncharged", times=2)
    assert world.open_client().charge(ORDER).state is State.UNKNOWN
    assert world.row()["provider_intent_id"] is not None


def resume_at(world: World, *times: object) -> list[State]:
    """What it is after `resume` at each of these moments."""
    states = []
    for at in times:
        world.clock.advance(at - world.clock.now)  # type: ignore[operator]
        with suppress(ProviderUnavailable):
            world.open_client(retry=ONE_SEND).resume()
        states.append(world.state())
    return states


def at_the_provider(world: World) -> list[str]:
    return [str(one["status"]) for one in world.sandbox.payment_intents]


def test_resume_cancels_it(either: World) -> None:
    """A9: `resume` cancels it at the provider once no 500 can be rolled forward, not before; a new attempt is paid."""
    left_uncharged(either)
    assert resume_at(either, CLOSED, OVER - SECOND) == [State.UNKNOWN] * 2
    assert (at_the_provider(either), resume_at(either, OVER)) == (["requires_confirmation"], [State.CANCELED])
    assert (at_the_provider(either), either.row()["reason"]) == (["canceled"], WHY)
    ((event, told),) = either.sql("SELECT event, reason FROM paycli_events WHERE state_after = 'canceled'")
    assert (event, told) == ("canceled", WHY)
    assert either.open_client().charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert (either.paid(), len(either.sends)) == (1, 3)


def test_found_when_it_is_closed(world: World) -> None:
    """A9: what a look-up finds uncharged after the attempt was closed counts from that look-up."""
    world.lose("error_500_uncharged")
    assert resume_at(world, CLOSED, CLOSED + BOUNDS.quiet_unproven) == [State.UNKNOWN, State.CANCELED]


def test_one_without_a_payment_method(world: World) -> None:
    """A9: an intent that has lost its payment method without a try waits for nobody either."""
    left_uncharged(world)
    (intent,) = world.sandbox.payment_intents
    world.sandbox.change(intent["id"], status="requires_payment_method", payment_method=None)
    assert resume_at(world, CLOSED, CLOSED + SECOND, OVER + SECOND)[-1] is State.CANCELED


def test_charged_meanwhile(world: World) -> None:
    """A9: a success that the cancellation comes too late for is `succeeded`: what is asked for then is believed."""
    left_uncharged(world)
    assert resume_at(world, CLOSED, CLOSED + SECOND) == [State.UNKNOWN] * 2
    (intent,) = world.sandbox.payment_intents

    def confirm_first(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/cancel"):
            world.post(f"/v1/payment_intents/{intent['id']}/confirm", {})
        return None

    world.hooks.append(confirm_first)
    assert resume_at(world, OVER + SECOND) == [State.SUCCEEDED]
    assert (world.paid(), at_the_provider(world)) == (1, ["succeeded"])


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(403, json={"error": {"type": "invalid_request_error"}}),
        lambda: httpx.Response(200, json={"object": "payment_intent", "status": "canceled"}),
        lambda: httpx.Response(503),
    ],
)
def test_cancellation_that_is_not_done(world: World, answer: Callable[[], httpx.Response]) -> None:
    """A9: whatever a cancellation is answered, the row is `unknown` while the intent is there; the next one ends it."""
    left_uncharged(world)
    resume_at(world, CLOSED, CLOSED + SECOND)
    world.hooks.append(lambda request: answer() if request.url.path.endswith("/cancel") else None)
    assert resume_at(world, OVER + SECOND) == [State.UNKNOWN]
    world.hooks.clear()
    assert resume_at(world, OVER + SECOND) == [State.CANCELED]


@pytest.mark.parametrize("kind", KINDS)
def test_the_worker_cancels_it(kind: str) -> None:
    """A9: so does a worker."""
    with TimedWorld(kind) as world:
        worked(world)


def worked(either: World) -> None:
    left_uncharged(either)
    for at in (CLOSED, CLOSED + timedelta(hours=1), OVER + timedelta(hours=1)):
        either.clock.advance(at - either.clock.now)
        assert either.state() is State.UNKNOWN
        work(either.open_client())
    assert (either.state(), at_the_provider(either)) == (State.CANCELED, ["canceled"])


@pytest.fixture(params=DATABASES)
def nightly(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def test_the_night_cancels_it(nightly: Night) -> None:
    """A9: so does the nightly run, and tells it as a repair; a dry run cancels nothing."""
    left_uncharged(nightly)
    for at in (CLOSED, CLOSED + timedelta(hours=1)):
        nightly.clock.advance(at - nightly.clock.now)
        assert (codes(nightly.run()) - {("stale_pending", ORDER.intent_id)}, nightly.state()) == (set(), State.UNKNOWN)
    nightly.clock.advance(OVER + timedelta(hours=1) - nightly.clock.now)
    assert codes(nightly.run(dry_run=True)) == {("stale_pending", ORDER.intent_id)}
    assert (nightly.state(), at_the_provider(nightly)) == (State.UNKNOWN, ["requires_confirmation"])
    assert ("outcome_recovered", ORDER.intent_id) in codes(nightly.run())
    assert (nightly.state(), at_the_provider(nightly)) == (State.CANCELED, ["canceled"])
    assert codes(nightly.run()) == set()
