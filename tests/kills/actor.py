"""What one process does, and where it ends itself: a client, a worker or a reconciler, on a clock that was moved.

It tells what it was told as it is told, so that whoever outlives it knows what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection, event

import reconcile
from gateway_client import Charge, Client, Money, PaymentIntent, Stripe, connections, sockets, wire
from gateway_client.clock import SystemClock
from gateway_client.db import Database
from gateway_client.errors import AttemptRefused, NotNow
from gateway_client.exchange import Age
from gateway_client.flow.effects import Effect, MeetProvider, Now
from gateway_client.gateways.base import NoReply, Reply, Request
from tests.kill_child import MET, POINTS, POLICY, Ending, end, patch
from tests.kills.plan import AMOUNT, COMMITS, REQUESTS, Actor, Death

T = TypeVar("T")
Say = Callable[..., None]
"""Tells one line: what it is about, and what there is to know."""

TIMEOUT_S = 10.0
API_KEY = "sk_test_sandbox"
TOO_EARLY = "is possible from"  # of an attempt after one that is absent, but whose send nobody saw answered


class MovedClock(SystemClock):
    """This machine's clock, some hours ahead; the provider's is moved as far."""

    def __init__(self, offset_s: float) -> None:
        self._offset_s = offset_s

    def time(self) -> float:
        return super().time() + self._offset_s


class Mortal(Ending):
    """Ends its process at the so manieth effect of a named point."""

    death: Death | None = None
    passed = 0

    def perform(self, effect: Effect[T]) -> T:
        if self.death is not None and self.death.at in POINTS and isinstance(effect, POINTS[self.death.at][0]):
            self.passed += 1
            if self.passed == self.death.nth:
                self.point = POINTS[self.death.at]
        return super().perform(effect)


def intent(intent_id: str, attempt: int) -> PaymentIntent:
    """The first card is what the name says; whoever is declined brings another one."""
    declined = attempt == 1 and intent_id.endswith("declined")
    return PaymentIntent(intent_id, Money(AMOUNT, "usd"), "pm_card_chargeDeclined" if declined else "pm_card_visa")


def act(actor: Actor, url: str, database: str, offset_s: float, say: Say) -> None:
    """Do what the actor does, to its end or to ours."""
    gateway = Stripe(API_KEY, api_base=url)
    clock = MovedClock(offset_s)
    with Mortal(gateway, database=database, timeout_s=TIMEOUT_S, retry=POLICY, clock=clock) as client:
        if actor.death is not None:
            if actor.death.at in MET or actor.kind == "crowd":
                told(say, lambda: meet(client))
            arm(client, actor.death)
        if actor.kind == "client":
            for intent_id in actor.intents:
                told(say, lambda intent_id=intent_id: pay(client, intent_id, actor.prepares, say))  # type: ignore[misc]
        if actor.kind == "crowd":
            crowd(client, actor, say)
        if actor.kind == "worker":
            told(say, lambda: work(client, say))
        for days in actor.days_ago:
            told(say, lambda days=days: audit(client, days, say))  # type: ignore[misc]
        say("end")


def meet(client: Client) -> None:
    """As a process that runs since long: it knows the account and the provider's time."""
    client.perform(MeetProvider())


def told(say: Say, do: Callable[[], None]) -> None:
    """What cannot be done now is told; anything else that is raised is a finding of the campaign."""
    try:
        do()
    except NotNow as problem:
        say("not now", type(problem).__name__, str(problem))


def pay(client: Client, intent_id: str, prepares: bool, say: Say) -> None:
    """As a billing service does: prepare, charge, and with another card once the first attempt is refused."""
    if prepares:
        acknowledge(client.prepare(intent(intent_id, 1), attempt=1), say)
    charge = client.charge(intent(intent_id, 1), attempt=1)
    acknowledge(charge, say)
    if not charge.state.refused:
        return
    try:
        acknowledge(client.charge(intent(intent_id, 2), attempt=2), say)
    except AttemptRefused as refusal:
        if TOO_EARLY not in str(refusal):
            raise


def crowd(client: Client, actor: Actor, say: Say) -> None:
    """All intents at once, each in a thread of its own: their transactions are committed in groups."""
    with ThreadPoolExecutor(len(actor.intents)) as pool:
        paid = [
            pool.submit(told, say, lambda intent_id=intent_id: pay(client, intent_id, actor.prepares, say))  # type: ignore[misc]
            for intent_id in actor.intents
        ]
    for one in paid:
        one.result()


def acknowledge(charge: Charge, say: Say) -> None:
    say("acknowledged", charge.intent_id, charge.attempt, charge.state.value, charge.provider_charge_id)


def work(client: Client, say: Say) -> None:
    for charge in client.resume():
        acknowledge(charge, say)
    say("resumed")


def audit(client: Client, days_ago: int, say: Say) -> None:
    """One run of a day; it says which, and why it is incomplete, if it is."""
    day = client.perform(Now()).date() - timedelta(days=days_ago)
    result = reconcile.run(client, day)
    say("reconciled", result.run_id, result.why_incomplete)


# Where it ends ------------------------------------------------------------------------------------------------------


def arm(client: Mortal, death: Death) -> None:
    """Let this process end at a point of its own; a random moment is its parent's."""
    client.death = death
    if death.at in COMMITS:
        end_at_commit(client._database, death)
    if death.at in REQUESTS:
        end_at_request(death)


def end_at_commit(database: Database, death: Death) -> None:
    """In the so manieth transaction before it is committed, or right after."""
    seen = [0]

    def one_more(_: object) -> None:
        seen[0] += 1
        if seen[0] == death.nth:
            end()

    if death.at == "commit":
        event.listen(database._engine, "commit", one_more)
        return
    commit = connections.Taken.commit

    def committed(taken: connections.Taken, connection: Connection) -> None:
        commit(taken, connection)
        one_more(connection)

    patch(connections.Taken, "commit", committed)


def end_in_its_midst() -> None:
    """When half of the next request, with a body or without, is on its way."""
    send = sockets.Connection.send

    async def half(connection: sockets.Connection, data: memoryview) -> None:
        await send(connection, data[: len(data) // 2])
        end()

    patch(sockets.Connection, "send", half)


def end_at_request(death: Death) -> None:
    """Before the so manieth request, in its midst, when it is written and not answered, or when it is answered."""
    exchange = wire.Wire.exchange
    seen = [0]

    def counted(self: wire.Wire, request: Request, age_s: Age) -> Reply | NoReply:
        seen[0] += 1
        if seen[0] != death.nth:
            return exchange(self, request, age_s)
        if death.at == "asking":
            end()
        if death.at == "writing":
            end_in_its_midst()
        if death.at == "asked":
            patch(sockets.Connection, "receive", lambda connection, bytes_max: end())
        reply = exchange(self, request, age_s)
        if death.at == "answered":
            end()
        return reply

    patch(wire.Wire, "exchange", counted)
