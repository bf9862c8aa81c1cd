"""Exactly once when a machine stands still, and both of its clocks with it, as a paused virtual machine does: P6.

Clocks are told, nothing sleeps. A process that is stopped, whose clocks go on, is in `test_paused.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate

import httpx
import pytest

from gateway_client import RetryPolicy, State
from tests.kit import KINDS, ORDER
from tests.promise_kit import BECAUSE, ONE_TRY, POST, Middle, may


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """The world of each of the two clients, on each database."""
    with Middle(request.param) as made:
        yield made


def found(world: Middle) -> None:
    """The machine's clock is set right, and the charge is found: nothing more was sent."""
    sends = len(world.sends)
    world.clock.wrong_s = 0
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED
    assert (world.paid(), len(world.sends)) == (1, sends)


@pytest.mark.parametrize("act", ["charge", "resume"])
def test_paused_before_a_second_send(world: Middle, act: str) -> None:
    """P6: a process that stood still for 30 h does not send a pruned key again, whatever its clocks say."""
    world.sandbox.fault("lost_reply")
    client = world.open_client(retry=ONE_TRY)
    client.charge(ORDER)
    world.clock.pause(hours=30)
    may(lambda: client.charge(ORDER)) if act == "charge" else may(client.resume)
    assert world.paid() == 1
    assert len(world.sends) == 1
    found(world)


def test_paused_between_two_sends_of_one_call(world: Middle) -> None:
    """P6: a pause of 30 h after a send that got no answer ends the sends of that call."""

    def paused(request: httpx.Request) -> httpx.Response:
        world.deliver(request)
        world.clock.pause(hours=30)
        raise httpx.ReadError("reset", request=request)

    world.on(paused)
    may(lambda: world.open_client().charge(ORDER))
    assert world.paid() == 1
    found(world)


def test_paused_while_waiting_for_a_second_send(world: Middle, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: a pause of 30 h while a call waits before its next send ends its sends, too."""
    world.sandbox.fault("lost_reply")
    monkeypatch.setattr(world.clock, "sleep", lambda seconds: world.clock.pause(hours=30))
    may(lambda: world.open_client().charge(ORDER))
    assert world.paid() == 1
    found(world)


def test_paused_first_send(world: Middle) -> None:
    """P6: a first send that a pause made 30 h late may still lie on its way: absence counts from the true time."""
    held: list[httpx.Request] = []

    def paused(request: httpx.Request) -> httpx.Response:
        held.append(request)
        world.clock.pause(hours=30)
        raise httpx.ReadTimeout("held", request=request)

    world.on(paused)
    client = world.open_client(retry=ONE_TRY)
    may(lambda: client.charge(ORDER))
    may(lambda: client.cancel(ORDER.intent_id, because=BECAUSE))
    world.clock.wrong_s = 0
    states = [world.resumed()]
    world.clock.advance(minutes=59)
    states.append(world.resumed())
    world.deliver(held[0])
    states.append(world.resumed())
    world.insist(24, 72)
    assert world.paid() == 1
    assert states == [State.UNKNOWN, State.UNKNOWN, State.SUCCEEDED]


def test_paused_and_told_the_time_by_a_cache(world: Middle) -> None:
    """P6: an old answer out of a cache (`Age`) is no news of the provider's time."""
    world.sandbox.fault("lost_reply")
    client = world.open_client(retry=ONE_TRY)
    client.charge(ORDER)
    old = {"Date": formatdate(world.clock.true_time(), usegmt=True), "Age": "108000"}
    world.clock.pause(hours=30)
    account = {"id": world.sandbox.account, "object": "account"}
    world.says(200, account, asked="GET /v1/account", times=99, headers=old)
    may(lambda: client.charge(ORDER))
    assert world.paid() == 1
    assert len(world.sends) == 1


def test_time_is_asked_before_each_further_send(world: Middle) -> None:
    """P6: what it costs is one question for each further send, and none for an undisturbed first one."""
    world.lose("lost_request")
    assert world.asked == ["GET /v1/account", POST]
    client = world.open_client()
    world.sandbox.fault("lost_request")
    assert client.charge(ORDER).state is State.SUCCEEDED
    assert world.asked[2:] == ["GET /v1/account", POST] * 2


def test_no_time_no_further_send(world: Middle) -> None:
    """P6: while the provider does not tell its time, nothing is sent again."""
    world.sandbox.fault("lost_reply")
    client = world.open_client(retry=ONE_TRY)
    client.charge(ORDER)
    world.says(503, b"", asked="GET /v1/account", times=99)
    for _ in range(3):
        may(lambda: client.charge(ORDER))
    assert (len(world.sends), world.paid(), world.state()) == (1, 1, State.UNKNOWN)


def test_paused_in_a_storm_of_sends(world: Middle) -> None:
    """P6, P9: a call that makes many sends, each followed by an hour's pause, ends before its key does."""
    policy = RetryPolicy(sends_max=40, delay_s_first=1, delay_s_max=1)

    def lost(request: httpx.Request) -> httpx.Response:
        world.deliver(request)
        world.clock.pause(hours=1)
        raise httpx.ReadError("reset", request=request)

    world.on(lost, times=40)
    may(lambda: world.open_client(retry=policy).charge(ORDER))
    assert world.paid() == 1
    world.hooks.clear()
    world.clock.wrong_s = 0
    assert (world.open_client().charge(ORDER).state, world.paid()) == (State.SUCCEEDED, 1)
