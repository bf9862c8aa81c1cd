"""A process that stands still between the commit of BeginSend and the first byte does not send what it decided."""

import asyncio
from pathlib import Path
from typing import TypeVar, cast

import pytest
from sqlalchemy import event

from gateway_client import AsyncClient, Client, Sandbox, State, Stripe
from gateway_client.flow.effects import BeginSend, Claim, Effect, Send
from gateway_client.gateways.base import Request
from tests.kill_yard import database_of
from tests.kit import BOUNDS, KINDS, ONE_SEND, ORDER, FakeClock, World
from tests.kit_clients import Awaited

T = TypeVar("T")


class Pausing(Client):
    """Stands still for some time between the commit of BeginSend and the first byte."""

    pause_s = 0.0
    begun = 0

    def perform(self, effect: Effect[T]) -> T:
        if isinstance(effect, Send):
            self.begun += 1
            cast("FakeClock", self._clock).advance(seconds=self.pause_s)
        return super().perform(effect)


@pytest.mark.parametrize(("pause_s", "sends"), [(9.0, 1), (10.0, 1), (10.1, 0), (90_000.0, 0)])
def test_paused_process_does_not_send(pause_s: float, sends: int) -> None:
    """More than 10 s between the commit of BeginSend and the first byte: not sent, said so, still prepared (F11)."""
    with World() as world:
        client = world.open_client(sync=Pausing, retry=ONE_SEND)
        assert isinstance(client, Pausing)
        client.pause_s = pause_s
        charge = client.charge(ORDER)
        assert (sends, 1) == (len(world.sends), client.begun)
        if sends == 0:
            assert (charge.state, charge.first_sent_at) == (State.PREPARED, None)
            assert world.sql("SELECT outcome, status FROM paycli_sends") == [("not_executed", None)]
            assert "paused" in (charge.reason or "")


def test_key_life_is_judged_again_after_a_pause() -> None:
    """A process paused from inside the key's life to beyond it does not send, then or after (F11, S5)."""
    with World() as world:
        world.sandbox.fault("lost_request")
        world.open_client(retry=ONE_SEND).charge(ORDER)
        world.clock.advance(BOUNDS.key_life, seconds=-60)
        client = world.open_client(sync=Pausing)
        assert isinstance(client, Pausing)
        client.pause_s = 120
        charge = client.charge(ORDER)
        assert (len(world.sends), client.begun) == (1, 1)
        assert (charge.state, charge.closed_at) == (State.UNKNOWN, world.clock.now)
        world.clock.advance(BOUNDS.quiet_unproven)
        assert client.charge(ORDER).state is State.ABSENT
        assert len(world.sends) == 1


def test_paused_by_a_clock_set_back() -> None:
    """A wall clock that goes back in between counts as a pause: nobody knows how long it was (F126)."""
    with World() as world:

        class SetBack(Client):
            def perform(self, effect: Effect[T]) -> T:
                if isinstance(effect, Send):
                    world.clock.wrong_s = -50
                return super().perform(effect)

        assert world.open_client(sync=SetBack, retry=ONE_SEND).charge(ORDER).state == State.PREPARED
        assert world.sends == []


@pytest.mark.parametrize("kind", KINDS)
def test_paused_while_connecting(tmp_path: Path, kind: str) -> None:
    """On a real socket the age is looked at again when the first byte is due: connecting may have taken long (F11)."""
    clock = FakeClock()
    sandbox = Sandbox(time=clock.true_time)

    class SlowConnection(Stripe):
        """Time goes by after the first look at the age, before the first byte."""

        def headers(self, request: Request) -> dict[str, str]:
            if request.method == "POST":
                clock.advance(seconds=11)
            return super().headers(request)

    with asyncio.Runner() as runner, sandbox.serve() as server:
        gateway = SlowConnection(Sandbox.api_key, api_base=server.url)
        url = database_of("postgresql" if "postgresql" in kind else "sqlite", tmp_path)
        client: Client | Awaited = (
            Client(gateway, database=url, retry=ONE_SEND, clock=clock, timeout_s=5)
            if kind.startswith("sync")
            else Awaited(AsyncClient(gateway, database=url, retry=ONE_SEND, clock=clock, timeout_s=5), runner)
        )
        charge = client.charge(ORDER)
        client.close()
    assert (charge.state, charge.first_sent_at) == (State.PREPARED, None)
    assert [sent.method for sent in sandbox.requests] == ["GET"]


class PausingInCommit(Client):
    """Stands still inside the commit that begins a send: after the gate has judged, before it is on disk."""

    def perform(self, effect: Effect[T]) -> T:
        if isinstance(effect, BeginSend | Claim):
            clock = cast("FakeClock", self._clock)
            event.listen(self._database._engine, "commit", lambda _: clock.advance(hours=1.2), once=True)
        return super().perform(effect)


def test_paused_inside_the_commit() -> None:
    """A pause between the gate's look at the clock and the end of its commit counts, too: nothing is sent (F11, S5)."""
    with World() as world:
        world.sandbox.fault("lost_request")
        world.open_client(retry=ONE_SEND).charge(ORDER)
        world.clock.advance(BOUNDS.key_life, minutes=-5)
        world.open_client(sync=PausingInCommit, retry=ONE_SEND).charge(ORDER)
        assert len(world.sends) == 1


def test_paused_inside_the_commit_of_a_claim() -> None:
    """The same where the commit that makes the row begins its first send, too (F11)."""
    with World() as world:
        charge = world.open_client(sync=PausingInCommit, retry=ONE_SEND).charge(ORDER)
        assert (charge.state, charge.first_sent_at, world.sends) == (State.PREPARED, None, [])
        assert world.sql("SELECT outcome FROM paycli_sends") == [("not_executed",)]
