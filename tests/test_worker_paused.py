"""A worker that is paused past its lease, or for longer than a key lives, before and after its send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import pytest

from gateway_client import Client, ClockRefused, retry
from gateway_client.flow import working
from gateway_client.flow.effects import BeginSend, Effect, Send, Settle
from tests.kit import ORDER, START, World
from tests.worker_kit import DATABASES, TimedWorld, order, queue, work

T = TypeVar("T")


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with TimedWorld(request.param) as world:
        yield world


class Pausing(Client):
    """Is paused for a time before it performs the first effect of a kind, as SIGSTOP and a sleeping machine do."""

    before: type[Effect[Any]] = Send
    pause: Callable[[], None] | None = None

    def perform(self, effect: Effect[T]) -> T:
        if isinstance(effect, self.before) and self.pause is not None:
            pause, self.pause = self.pause, None
            pause()
        return super().perform(effect)


@pytest.mark.parametrize("hours", [0.1, 24.0])
@pytest.mark.parametrize("before", [BeginSend, Send])
def test_paused_past_its_lease(world: World, before: type[Effect[Any]], hours: float) -> None:
    """Paused past its lease (and past the key's life) just before its send, it sends nothing by that (F11)."""
    client = world.open_client(sync=Pausing)
    assert isinstance(client, Pausing)
    client.charge(order("order_first"))  # met, and its time is known
    world.clock.advance(seconds=5)
    client.prepare(ORDER)
    client.before = before
    sends_by: list[int] = []

    def paused() -> None:
        world.clock.advance(hours=hours)
        other = world.open_client()
        assert [each.final for each in work(other).charges] == [hours < 24]  # else closed, or stale
        sends_by.append(len(world.sends))

    client.pause = paused
    with suppress(ClockRefused):  # after a day it must first learn the time again
        work(client)
    assert len(world.sends) == sends_by[0]
    assert world.paid() == (1 if hours < 24 else 0)
    assert world.state() == ("succeeded" if hours < 24 else "canceled" if before is Send else "prepared")


def test_lease_over_during_the_call(world: World) -> None:
    """A lease that ends while the answer is on its way: another worker has finished the row, and the late answer adds
    nothing to it (F112)."""
    client = world.open_client(sync=Pausing)
    assert isinstance(client, Pausing)
    world.clock.advance(seconds=5)
    client.prepare(ORDER)
    client.before = Settle
    left: list[object] = []

    def paused() -> None:
        world.clock.advance(minutes=10)
        assert work(world.open_client()).states == {"succeeded": 1}
        left.append(world.row())

    client.pause = paused
    work(client)
    assert ([world.row()], world.paid()) == (left, 1)
    assert world.sql("SELECT count(*) FROM paycli_findings") == [(0,)]


def test_leases_are_longer_than_a_call(world: World) -> None:
    """A lease is twice as long as the account's question, the wire's patience and the send can be together."""
    client = world.open_client()
    queue(client, 1)
    until: list[str] = []

    def look(request: httpx.Request) -> httpx.Response | None:
        until.append(world.row("order_0")["leased_until"])
        return None

    world.clock.advance(seconds=5)
    world.hooks.append(look)
    work(client)
    assert working.BEGUN_S == retry.BEGUN_S_MAX
    lease_s = 2 * (30 + working.BEGUN_S + 30)
    assert until == [f"{START + timedelta(seconds=5 + lease_s):%Y-%m-%d %H:%M:%S}.000000"]
