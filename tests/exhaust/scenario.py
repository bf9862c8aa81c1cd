"""Scenarios: what is there when it begins, and who begins. One is searched to all its ends, and each end is healed."""

from __future__ import annotations

import gc
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gateway_client import Stripe
from gateway_client.flow.clearing import cancel_flow
from gateway_client.flow.effects import BeginSend, Bind, MeetProvider, Send
from gateway_client.gateways.base import Request
from gateway_client.store.claim import bind
from tests.exhaust.actors import BINDING, GONE, RESUME, START, START_S, Cast, charge, drive, process_at, reconcile
from tests.exhaust.checks import Checks
from tests.exhaust.contents import Contents
from tests.exhaust.heal import Healed, Healer
from tests.exhaust.ledger import Ledger, Played, Step
from tests.exhaust.moves import Moves, doubled
from tests.exhaust.search import Failed, Found, Search
from tests.sim.ghost import moved
from tests.sim.safety import Broken

CARD, DECLINED_CARD = "pm_card_visa", "pm_card_chargeDeclined"
KEY_LIFE_S = Stripe.profile.bounds.key_life.total_seconds()
MINUTE_S, HOUR_S = 60.0, 3600.0


@dataclass(frozen=True)
class Scenario:
    """Two workers and the reconciler begin. `fates`: what may have become of a send whose process has died before."""

    name: str
    told: str
    method: str = CARD
    ago_s: float = 0.0
    fates: tuple[str, ...] = ()
    faults_max: int = 2
    workers: int = 2
    given_up_ago_s: float | None = None  # a person has given it up since
    met: bool = False  # they know the account and the time, so that a claim begins the first send, too
    attempt: int | None = None  # that they ask for; the one before it was rejected by the provider's own word


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("decline", "two processes charge the intent with a card that is declined", DECLINED_CARD),
        Scenario("met", "two processes that run since long charge the intent", met=True),
        Scenario("charge", "two processes charge the intent"),
        Scenario(
            "next",
            "two processes make the second attempt; another delivery of the first, rejected, was lost or executed",
            fates=("lost", "executed"),
            faults_max=1,
            attempt=2,
        ),
        Scenario(
            "late",
            "two processes resume a charge whose process died 20 minutes ago; its send is still on its way",
            ago_s=20 * MINUTE_S,
            fates=("held",),
            faults_max=1,
        ),
        Scenario(
            "resume",
            "two processes resume a charge whose process died 20 minutes ago; its send was lost, or executed then",
            ago_s=20 * MINUTE_S,
            fates=("lost", "executed"),
            faults_max=1,
        ),
        Scenario(
            "unsent",
            "two processes resume a charge whose process died 20 minutes ago, before its first send",
            ago_s=20 * MINUTE_S,
            fates=("unsent",),
            faults_max=1,
        ),
        Scenario(
            "over",
            "two processes resume a charge whose process died 30 hours ago; its send was lost, or executed then",
            ago_s=30 * HOUR_S,
            fates=("lost", "executed"),
        ),
        Scenario(
            "uncharged",
            "two processes resume a charge that a person gave up 76 hours ago; a 500 had left its intent uncharged",
            ago_s=78 * HOUR_S,
            given_up_ago_s=76 * HOUR_S,
            fates=("uncharged",),
        ),
        Scenario(
            "given up",
            "two processes resume a charge that a person gave up 76 hours ago; its send was lost, or executed then",
            ago_s=78 * HOUR_S,
            given_up_ago_s=76 * HOUR_S,
            fates=("lost", "executed"),
        ),
    )
}
"""The longest first. Where a process has died before, that is a fault besides."""


@dataclass
class Report:
    """What the search of a scenario came to."""

    name: str
    faults_max: int
    found: Found
    left: Counter[str] = field(default_factory=Counter)  # how ends were left → how many
    healed: Counter[str] = field(default_factory=Counter)  # what they came to → how many
    check: str = ""
    steps: tuple[str, ...] = ()
    seconds: float = 0.0


class _Died(BaseException):
    """What a SIGKILL is to a call; its send, when that was begun."""

    def __init__(self, send: Request | None) -> None:
        super().__init__()
        self.send = send


class World:
    """Everything that a scenario is made of."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        old = scenario.ago_s > KEY_LIFE_S or scenario.given_up_ago_s is not None
        self.cast = Cast(young=not old)
        self.ledger = Ledger(self.cast.gateway)
        self.contents = Contents(self.ledger.ask(self.ledger.empty, self.cast.gateway.account_request())[1])
        self.checks = Checks(self.contents, self.ledger, old=old, attempts=scenario.attempt or 1)
        self.moves = Moves(self.cast, self.contents, self.ledger, self.checks)

    def search(self) -> Search:
        """The search, before its first step."""
        scenario = self.scenario
        # What is closed only now is proven later, when it is quiet.
        calm = "held" not in scenario.fates and scenario.ago_s <= KEY_LIFE_S
        search = Search(self.cast.places, self.moves, self.checks, scenario.faults_max, calm=calm)
        created = START - timedelta(seconds=scenario.ago_s)
        self.contents.memory.transact(lambda tx: bind(tx, Bind(BINDING)), time=lambda: created)
        request = self._left_behind() if scenario.fates else None
        if scenario.given_up_ago_s is not None:
            self._give_up(scenario.given_up_ago_s)
        begun = self.contents.look()
        again = scenario.fates and scenario.attempt is None
        worker = self.moves.start(RESUME if again else charge(scenario.method, scenario.attempt, met=scenario.met))
        workers = (worker, worker if scenario.workers == 2 else GONE)
        run = self.moves.start(reconcile())
        for fate in scenario.fates or ("nothing is there",):
            search.add(begun, self._provider(fate, request), run, workers, fate)
        return search

    def _left_behind(self) -> Request | None:
        """A process dies, before its first send or with that begun: that send."""
        played = Played(self.cast.gateway, START_S - self.scenario.ago_s)
        process = process_at(lambda: played.now_s, self.contents.memory)
        left: list[Request] = []

        def perform(effect: Any) -> Any:
            if isinstance(effect, BeginSend) and "unsent" in self.scenario.fates:
                raise _Died(None)
            if isinstance(effect, Send) and self.scenario.attempt is not None:
                left.append(effect.request)
                process.fetched.reply = doubled("own_400", effect.request)
                return process.perform(effect)
            if isinstance(effect, Send):
                raise _Died(effect.request)
            if isinstance(effect, MeetProvider):
                process.fetched.reply = played.answer(process.gateway.account_request())
            return process.perform(effect)

        try:
            drive(charge(self.scenario.method).flow(process.setup), perform)
        except _Died as died:
            return died.send
        return left[0]

    def _give_up(self, ago_s: float) -> None:
        """A person gives the charge up."""
        played = Played(self.cast.gateway, START_S - ago_s)
        process = process_at(lambda: played.now_s, self.contents.memory)

        def perform(effect: Any) -> Any:
            if isinstance(effect, MeetProvider):
                process.fetched.reply = played.answer(process.gateway.account_request())
            return process.perform(effect)

        drive(cancel_flow(process.setup, "order_1", "asked to"), perform)

    def _provider(self, fate: str, request: Request | None) -> int:
        number = self.ledger.empty
        if request is None or fate == "lost":
            return number
        fault = "error_500_uncharged" if fate == "uncharged" else None
        for what in ("hold",) if fate == "held" else ("arrive", "execute"):
            number, _ = self.ledger.do(
                number, Step(what, request, fault if what == "arrive" else None, self.scenario.ago_s)
            )
        return number


def explore(scenario: Scenario) -> Report:
    """Search a scenario, and heal each of its ends; it stops at the first that does not hold."""
    begun = time.monotonic()
    world = World(scenario)
    search = world.search()
    report = Report(scenario.name, scenario.faults_max, search.found)
    gc.disable()  # millions of states, and none of them in a circle
    try:
        search.go()
        _heal(world, search, report)
    except Failed as failed:
        report.check, report.steps = str(failed), tuple(failed.steps)
    finally:
        gc.enable()
    report.seconds = time.monotonic() - begun
    return report


def _heal(world: World, search: Search, report: Report) -> None:
    healer = Healer(world.contents, world.ledger)
    for contents, provider in search.found.ends:
        rows = world.contents.rows(contents, "pending_charges")
        there = world.ledger.states[provider].charges
        truth = "charged" if any(map(moved, there)) else "declined" if there else "nothing"
        report.left[f"{rows[-1]['state'] if rows else 'no row'} here, {truth} there"] += 1
        try:
            healed = healer.heal(contents, provider)
        except Broken as broken:
            raise Failed(broken, [*search.steps_to(contents, provider), "everybody is gone, and it heals"]) from None
        report.healed[_came_to(healed)] += 1


def _came_to(healed: Healed) -> str:
    when = "as it was left" if not healed.hours else "at once" if healed.hours < 1 else f"after {healed.hours:.0f} h"
    told = f", {healed.findings} findings open" if healed.findings else ""
    return f"{healed.state} {when}{told}"
