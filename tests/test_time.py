"""Time: the key's life, wrong clocks, a silent provider, a paused process. Clocks are told, nothing sleeps."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from freezegun import freeze_time

from gateway_client import AsyncClient, Client, ClockRefused, RetryPolicy, Sandbox, State, Stripe
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, START, World
from tests.kit_clients import Awaited

T = TypeVar("T")
SECOND = timedelta(seconds=1)
LIVES = BOUNDS.key_life - SECOND


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


# The key's life


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply"])
@pytest.mark.parametrize(
    ("age", "alive"),
    [
        (LIVES - timedelta(minutes=1), True),
        (LIVES, True),
        (BOUNDS.key_life, False),
        (BOUNDS.key_life + SECOND, False),
        (timedelta(hours=25), False),
        (timedelta(days=30), False),
    ],
)
def test_key_life(world: World, age: timedelta, alive: bool, fault: str) -> None:
    """Until a second before 22:49:50 after the first send it is sent again, then only looked up (S5, F47)."""
    world.sandbox.fault(fault)
    assert world.open_client(retry=ONE_SEND).charge(ORDER).state is State.UNKNOWN
    world.clock.advance(age)
    (charge,) = world.open_client(retry=ONE_SEND).resume()
    assert len(world.sends) == (2 if alive else 1)
    assert len({(sent.idempotency_key, sent.params) for sent in world.sends}) == 1
    lists = [asked for asked in world.asked if asked in ("GET /v1/payment_intents", "GET /v1/charges")]
    if fault == "lost_reply":
        assert (charge.state, world.paid()) == (State.SUCCEEDED, 1)
        assert lists == ([] if alive else ["GET /v1/payment_intents"])
        return
    assert lists == ([] if alive else ["GET /v1/payment_intents", "GET /v1/charges"])
    assert (charge.state, world.paid()) == ((State.SUCCEEDED, 1) if alive else (State.UNKNOWN, 0))
    if not alive:
        world.clock.advance(BOUNDS.quiet_unproven)
        (charge,) = world.open_client(retry=ONE_SEND).resume()
        assert (charge.state, len(world.sends), world.paid()) == (State.ABSENT, 1, 0)


@pytest.mark.parametrize(("age", "sends"), [(LIVES, 2), (BOUNDS.key_life, 1)])
def test_key_life_of_charge(either: World, age: timedelta, sends: int) -> None:
    """`charge` called again keeps to the key's life as `resume` does, for both clients (S5)."""
    either.sandbox.fault("lost_reply")
    client = either.open_client(retry=ONE_SEND)
    client.charge(ORDER)
    either.clock.advance(age)
    charge = client.charge(ORDER)
    assert (State.SUCCEEDED, sends, 1) == (charge.state, len(either.sends), either.paid())


def test_key_life_counts_from_the_first_send(world: World) -> None:
    """Later sends do not lengthen a key's life (S5)."""
    world.sandbox.faults = {"lost_request": 1.0}
    client = world.open_client(retry=ONE_SEND)
    for _ in range(5):
        client.charge(ORDER)
        world.clock.advance(hours=7)
    assert len(world.sends) == 4  # at 0, 7, 14 and 21 hours, not at 28
    assert datetime.fromisoformat(world.row()["first_sent_at"]).replace(tzinfo=UTC) == START


def test_key_life_is_over_for_good(world: World) -> None:
    """Once a key's life was seen to be over the attempt is closed on disk: no clock opens it again."""
    world.sandbox.fault("lost_request")
    client = world.open_client(retry=ONE_SEND)
    client.charge(ORDER)
    world.clock.advance(BOUNDS.key_life)
    client.resume()
    assert world.row()["closed_at"] is not None
    world.clock.advance(hours=-2)
    world.open_client(retry=ONE_SEND).charge(ORDER)
    assert len(world.sends) == 1


def test_key_life_ends_between_two_sends_of_one_call(world: World) -> None:
    """The key's life is judged before each send, not once in a call (S5)."""
    world.sandbox.faults = {"lost_request": 1.0}
    world.open_client(retry=ONE_SEND).charge(ORDER)
    world.clock.advance(BOUNDS.key_life - timedelta(seconds=10))
    client = world.open_client(retry=RetryPolicy(sends_max=10, delay_s_first=8))
    client.charge(ORDER)
    assert len(world.sends) == 3  # 10 s before its end and 2 s before it; the next would be 6 s after it


@pytest.mark.parametrize("kind", KINDS)
def test_key_life_on_the_machines_own_clock(tmp_path: Path, kind: str) -> None:
    """With the clock of the machine itself (frozen), a key lives until a minute before its end, not at it (S5)."""
    sandbox = Sandbox(faults={"lost_request": 1.0})
    url = f"sqlite:///{tmp_path / 'store.db'}"
    sends = []
    with asyncio.Runner() as runner, freeze_time(START, real_asyncio=True) as frozen:
        for age in (timedelta(0), BOUNDS.key_life - timedelta(minutes=1), BOUNDS.key_life):
            frozen.move_to(START + age)
            gateway = Stripe(Sandbox.api_key)
            client: Client | Awaited = (
                Client(gateway, database=url, retry=ONE_SEND, transport=sandbox.transport())
                if kind == "sync"
                else Awaited(
                    AsyncClient(gateway, database=url, retry=ONE_SEND, transport=sandbox.async_transport()), runner
                )
            )
            client.charge(ORDER)
            client.close()
            sends.append(sum(sent.method == "POST" for sent in sandbox.requests))
    assert sends == [1, 2, 2]


# Wrong clocks


@pytest.mark.parametrize("hours", [3, -3, 0.1, -0.1, 24 * 365, -24 * 365])
def test_wrong_clock_at_the_first_charge(either: World, hours: float) -> None:
    """A clock hours or 6 minutes off is noticed by the provider's Date: nothing is sent or written (F126)."""
    either.clock.wrong_s = hours * 3600
    with pytest.raises(ClockRefused):
        either.open_client().charge(ORDER)
    assert either.sends == []
    assert either.sql("SELECT * FROM pending_charges") == []


@pytest.mark.parametrize("hours", [3, -3, 0.1, -0.1])
def test_wrong_clock_of_a_new_process(world: World, hours: float) -> None:
    """A wrong clock sends nothing of a prepared charge, by `charge` or by `resume`, and its row stays as it was."""
    world.open_client().prepare(ORDER)
    before = world.row()
    world.clock.wrong_s = hours * 3600
    client = world.open_client()
    with pytest.raises(ClockRefused):
        client.charge(ORDER)
    with pytest.raises(ClockRefused):
        client.resume()
    assert world.sends == []
    assert before == world.row()


@pytest.mark.parametrize("hours", [3, 0.1])
def test_a_clock_set_right_is_believed(world: World, hours: float) -> None:
    """Once its clock is right again, a process charges: it asks the provider's time anew, not only after an hour."""
    world.clock.wrong_s = hours * 3600
    client = world.open_client()
    with pytest.raises(ClockRefused):
        client.charge(ORDER)
    world.clock.wrong_s = 0
    assert client.charge(ORDER).state is State.SUCCEEDED


@pytest.mark.parametrize("hours", [3, -3, -0.1])
def test_clock_that_jumps_in_a_running_process(world: World, hours: float) -> None:
    """A clock that jumps while a process runs is noticed before its next send."""
    client = world.open_client()
    client.prepare(ORDER)
    before = world.row()
    world.clock.wrong_s = hours * 3600
    with pytest.raises(ClockRefused):
        client.charge(ORDER)
    assert world.sends == []
    assert before == world.row()


@pytest.mark.parametrize("minutes", [4, -4])
def test_clock_a_little_off(world: World, minutes: int) -> None:
    """A clock within 5 minutes is corrected by the provider's Date: rows carry the provider's time."""
    world.clock.wrong_s = minutes * 60
    charge = world.open_client().charge(ORDER)
    assert charge.state == State.SUCCEEDED
    assert charge.first_sent_at is not None
    assert abs(charge.first_sent_at - START) <= timedelta(seconds=2)


@pytest.mark.parametrize(("minutes", "sends"), [(4, 1), (-4, 2)])
def test_key_life_is_of_the_providers_time(world: World, minutes: int, sends: int) -> None:
    """The key's life ends by the provider's clock, whatever ours says within its 5 minutes (S5)."""
    world.sandbox.faults = {"lost_request": 1.0}
    world.open_client(retry=ONE_SEND).charge(ORDER)
    over = sends == 1
    # A little after its end there, while our slow clock says before; a little before, while our fast one says after.
    world.clock.advance(BOUNDS.key_life, seconds=30 if over else -30)
    world.clock.wrong_s = -minutes * 60
    world.open_client(retry=ONE_SEND).charge(ORDER)
    assert sends == len(world.sends)


def test_a_store_that_has_seen_a_later_time(world: World) -> None:
    """A clock behind the latest time the store has seen sends nothing, even if the provider agrees with it."""
    client = world.open_client()
    client.charge(ORDER)
    world.sql("UPDATE paycli_sends SET begun_at = ?", ("2026-11-20 15:00:00.000000",))
    other = type(ORDER)("order_43", ORDER.amount, ORDER.payment_method)
    with pytest.raises(ClockRefused):
        client.charge(other)
    assert len(world.sends) == 1
    assert (world.state("order_43"), world.row("order_43")["first_sent_at"]) == (State.PREPARED, None)


@pytest.mark.parametrize(
    "date", [None, "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 0001 00:00:00 +2359"]
)
def test_provider_without_a_usable_time(world: World, date: str | None) -> None:
    """A provider whose answers carry no Date, or an absurd one, is sent nothing."""
    world.open_client().prepare(ORDER)
    before = world.row()

    def undated(request: httpx.Request) -> httpx.Response:
        response = world.sandbox.transport().handle_request(request)
        response.headers.pop("Date")
        if date is not None:
            response.headers["Date"] = date
        return response

    world.hooks.append(undated)
    client = world.open_client()
    for _ in range(2):
        with pytest.raises(ClockRefused):
            client.charge(ORDER)
    assert world.sends == []
    assert before == world.row()


# A silent provider


def test_account_is_asked_again_after_an_hour_of_silence(world: World) -> None:
    """A process that has not heard the provider for an hour asks for the account and the time before it sends."""
    client = world.open_client()
    intents = [type(ORDER)(f"order_{n}", ORDER.amount, ORDER.payment_method) for n in range(4)]
    client.charge(intents[0])
    world.clock.advance(minutes=59)
    client.charge(intents[1])
    world.clock.advance(minutes=59)  # 1 h 58 min after the first, but an answer came in between
    client.charge(intents[2])
    world.clock.advance(minutes=60)
    client.charge(intents[3])
    account, post = "GET /v1/account", "POST /v1/payment_intents"
    assert [account, post, post, post, account, post] == world.asked


def test_account_changed_during_the_silence(world: World) -> None:
    """What is asked again is judged again: a provider that is silent then sends nothing, and the row stays."""
    client = world.open_client()
    client.charge(ORDER)
    other = type(ORDER)("order_43", ORDER.amount, ORDER.payment_method)
    world.clock.advance(hours=2)
    world.sandbox.fault("lost_request", times=10, on="GET /v1/account")
    charge = client.charge(other)
    assert (charge.state, charge.sends, charge.first_sent_at) == (State.PREPARED, 0, None)
    assert len(world.sends) == 1
