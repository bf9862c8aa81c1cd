"""Worker and AsyncWorker in one process: a queue drained, an outage, poison, and how they end.

Pauses are in `test_worker_paused.py`; several workers at once, with leases and without, in `test_worker_races.py`;
`paycli worker` is in `test_cli_worker.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import httpx
import pytest

from gateway_client import (
    Client,
    ClockRefused,
    ConfigurationError,
    ProviderUnavailable,
    Sandbox,
    State,
    Worker,
)
from gateway_client.flow.working import POLL_S, SLICE_S
from tests.kit import BOUNDS, KINDS, ORDER, World
from tests.worker_kit import DATABASES, RATE, News, TimedWorld, leased, order, queue, work


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients, on each database."""
    with TimedWorld(request.param) as world:
        yield world


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with TimedWorld(request.param) as world:
        yield world


def test_nothing_pending(either: World) -> None:
    """Without work nothing is sent."""
    either.open_client().charge(ORDER)
    assert (work(either.open_client()).charges, len(either.sends)) == ([], 1)


@pytest.mark.parametrize("older", [False, True])
def test_a_queue_is_drained(world: World, older: bool) -> None:
    """Pending charges are sent once each, at the rate; one look-up serves all of an older process (L1)."""
    client = world.open_client()
    world.clock.advance(seconds=5)
    queue(client, 120)
    world.clock.advance(minutes=5)
    began = world.clock.now
    news = work(world.open_client() if older else client)
    assert (news.states, len(world.sends)) == ({"succeeded": 120}, 120)
    assert set(world.sandbox.succeeded().values()) == {1}
    assert (world.clock.now - began).total_seconds() == pytest.approx(119 / RATE, abs=1)
    assert [what for what in world.asked if "?" in what or what == "GET /v1/charges"] == ["GET /v1/charges"] * older
    assert leased(world) == 0


def test_either_kind(either: World) -> None:
    """Both kinds send what is due, and set aside what they could not finish; later they finish that as well."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    queue(client, 3)
    either.sandbox.fault("lost_reply")
    first = work(client)
    assert (first.states, leased(either)) == ({"unknown": 1, "succeeded": 2}, 0)
    either.clock.advance(seconds=2)
    second = work(client)
    assert [(charge.intent_id, str(charge.state), charge.sends) for charge in second.charges] == [
        ("order_0", "succeeded", 2)
    ]
    assert set(either.sandbox.succeeded().values()) == {1}


def test_until_it_is_stopped(either: World) -> None:
    """Without `until_idle` a worker waits for what is set aside, and ends when it is told to."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    queue(client, 3)
    either.sandbox.fault("lost_reply", times=2)
    news = work(client, News(until=3), until_idle=False)
    assert (news.states, leased(either)) == ({"unknown": 2, "succeeded": 3}, 0)


def test_stopped_before_it_began(world: World) -> None:
    """A worker that was stopped before it ran asks nobody."""
    client = world.open_client()
    queue(client, 1)
    asked = world.asked
    assert isinstance(client, Client)
    worker = Worker(client)
    worker.stop()
    worker.run()
    assert (world.asked, world.state("order_0")) == (asked, State.PREPARED)


def test_stopped_in_the_middle(either: World) -> None:
    """Told to end at its first send, it settles that one, begins no other, and gives all rows back at once."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    queue(client, 20)
    news = work(client, News(until=1), until_idle=False)
    assert (news.states, len(either.sends), leased(either)) == ({"succeeded": 1}, 1, 0)
    rest = either.sql("SELECT count(*) FROM pending_charges WHERE state = 'prepared' AND resume_at IS NULL")
    assert rest == [(19,)]


def test_stopped_while_it_waits(world: World) -> None:
    """An idle worker hears within a quarter of a second that it is to end."""
    client = world.open_client()
    assert isinstance(client, Client)
    worker = Worker(client)
    sleep, slept = world.clock.sleep, []

    def sleep_and_stop(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)
        if len(slept) == 3:
            worker.stop()

    world.clock.sleep = sleep_and_stop  # type: ignore[method-assign]
    worker.run()
    assert slept == [0.25] * 3


def test_an_outage(world: World) -> None:
    """For two hours nobody answers: ten sends, then a question a minute, then the rate (F61, F144, F145, L5)."""
    client = world.open_client()
    world.clock.advance(seconds=5)
    queue(client, 200)
    began, out, tried = world.clock.now, [0], []

    def outage(request: httpx.Request) -> httpx.Response | None:
        passed_s = (world.clock.now - began).total_seconds()
        tried.append((request.method, passed_s))
        if passed_s < 7200:
            out[0] += 1
            raise httpx.ConnectError("nobody is there")
        return None

    world.hooks.append(outage)
    news = work(client, News(until=200), until_idle=False)
    during = Counter(method for method, passed_s in tried if passed_s < 7200)
    assert during["POST"] <= 10
    assert 119 <= during["GET"] <= 122  # the first at once, and two more when an answer is an hour old
    after = [passed_s for method, passed_s in tried if method == "POST" and passed_s >= 7200]
    assert len(after) == 200
    assert after[0] <= 7200 + 60
    assert min(later - earlier for earlier, later in pairwise(after)) >= 1 / RATE - 1e-5
    assert (news.states["succeeded"], set(world.sandbox.succeeded().values())) == (200, {1})
    assert [note.partition(";")[0] for note in news.notes] == [
        "too many sends were not answered as they should be",
        "the provider answers again",
    ]


def test_an_outage_before_it_began(world: World) -> None:
    """A worker that never met the provider sends nothing: it asks whose key it has, then once a minute."""
    queue(world.open_client(), 3)
    began = world.clock.now
    minutes: list[int] = []

    def outage(request: httpx.Request) -> httpx.Response | None:
        assert (request.method, request.url.path) == ("GET", "/v1/account")
        minutes.append(round((world.clock.now - began).total_seconds() / 60))
        if len(minutes) > 10:
            world.hooks.clear()
            return None
        raise httpx.ConnectError("nobody is there")

    world.hooks.append(outage)
    news = work(world.open_client(), News(until=3), until_idle=False)
    assert minutes == [0, *range(10)]
    assert news.states == {"succeeded": 3}


def test_until_idle_does_not_wait_for_the_provider(either: World) -> None:
    """A run that ends by itself ends when the provider is away; nothing is sent, and all rows are anybody's."""
    queue(either.open_client(), 3)

    def outage(request: httpx.Request) -> httpx.Response | None:
        raise httpx.ConnectError("nobody is there")

    either.hooks.append(outage)
    with pytest.raises(ProviderUnavailable, match="Nothing is lost; run it again"):
        work(either.open_client())
    assert (either.sends, leased(either)) == ([], 0)


def test_a_storm_of_errors(world: World) -> None:
    """When ten sends are answered 503, a question is asked before the next one (F144)."""
    client = world.open_client()
    world.clock.advance(seconds=5)
    queue(client, 12)
    world.answer(503, times=11)
    before = len(world.asked)
    news = work(client)
    asked = Counter(world.asked[before:])
    assert asked == {"GET /v1/account": 1, "POST /v1/payment_intents": 1}
    assert news.states == {"unknown": 11, "succeeded": 1}


@pytest.mark.parametrize("echo", [True, False])
def test_retry_after(world: World, *, echo: bool) -> None:
    """A provider that asks for a pause of 20 s gets it, for every row."""
    client = world.open_client()
    world.clock.advance(seconds=5)
    queue(client, 2)
    world.answer(429, {"error": {"type": "rate_limit_error"}}, headers={"Retry-After": "20"}, echo=echo)
    began = world.clock.now
    news = work(client)
    assert news.states == {"unknown": 1, "succeeded": 1}
    assert (world.clock.now - began).total_seconds() == pytest.approx(20, abs=1)


def test_a_poison_row(either: World) -> None:
    """A row that a person must look at is set aside for an hour at least; the others go on (F147, L6)."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    queue(client, 3)
    either.open_finding("order_0")
    news = work(client)
    assert [(charge.intent_id, str(charge.state)) for charge in news.charges] == [
        ("order_0", "prepared"),
        ("order_1", "succeeded"),
        ("order_2", "succeeded"),
    ]
    assert "open finding" in (news.charges[0].reason or "")
    either.clock.advance(minutes=59)
    assert work(client).charges == []
    either.clock.advance(minutes=40)
    assert [charge.intent_id for charge in work(client).charges] == ["order_0"]
    assert len(either.sends) == 2


def test_old_unknown_rows_share_one_look_up(either: World) -> None:
    """Charges whose key's life is over are looked up together, never sent again (S5)."""
    for number in range(5):
        either.lose("lost_reply", intent=order(f"order_{number}"))
    either.clock.advance(BOUNDS.key_life)
    before = len(either.asked)
    news = work(either.open_client())
    assert news.states == {"succeeded": 5}
    # The time is asked before each row may be sent, and before the look-up.
    assert either.asked[before:] == ["GET /v1/account"] * 6 + ["GET /v1/payment_intents"]


def test_stale_rows_are_left_to_a_person(world: World) -> None:
    """What was prepared a day ago and never sent is not sent, and does not keep a worker busy."""
    client = world.open_client()
    queue(client, 2)
    world.clock.advance(hours=24)
    assert work(client).states == {"prepared": 2}
    assert work(client).charges == []
    assert world.sends == []


def test_a_refused_key_ends_it(either: World) -> None:
    """A key that is revoked ends the worker with the reason, and its rows are anybody's."""
    client = either.open_client()
    either.clock.advance(seconds=5)
    queue(client, 3)
    either.sandbox.revoke(Sandbox.api_key)
    with pytest.raises(ConfigurationError, match="STRIPE_API_KEY"):
        work(client, until_idle=False)
    assert leased(either) == 0


def test_a_refused_clock_sets_no_row_aside(either: World) -> None:
    """A worker that ends because its machine's clock is wrong sends nothing, and its rows are anybody's at once."""
    client = either.open_client()
    queue(client, 3)
    either.clock.wrong_s = 3600
    with pytest.raises(ClockRefused):
        work(client)
    assert either.sql("SELECT count(*) FROM pending_charges WHERE resume_at IS NULL AND leased_by IS NULL") == [(3,)]
    assert either.sends == []


def test_what_others_prepare_is_found_by_polling(world: World) -> None:
    """An idle worker finds what another process has prepared within its own pause: nobody notifies it (F98)."""
    client, other = world.open_client(), world.open_client()
    client.charge(order("order_first"))
    sleep = world.clock.sleep
    prepared: list[datetime] = []

    def sleep_and_prepare(seconds: float) -> None:
        sleep(seconds)
        if not prepared and world.clock.slept_s.count(SLICE_S) == 50:
            prepared.append(world.clock.now)
            other.prepare(ORDER)

    world.clock.sleep = sleep_and_prepare  # type: ignore[method-assign]
    work(client, News(until=1), until_idle=False)
    assert world.paid() == 1
    assert (world.clock.now - prepared[0]).total_seconds() <= POLL_S * 1.5
