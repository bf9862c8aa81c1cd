"""One batch as it goes: rounds are played, each is judged, everything is let run to its end, and the end is judged."""

from __future__ import annotations

import signal
import time
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any, TypedDict

from gateway_client import Sandbox
from gateway_client.sandbox.server import SandboxServer
from tests.kills import judge
from tests.kills.door import SEND, Door
from tests.kills.forks import Forks, play_fresh
from tests.kills.judge import Known, Payment
from tests.kills.parent import Report
from tests.kills.plan import HOURS_END, QUIET, Actor, Batch, Phase, Round
from tests.kills.store import Store

SLOW_S = 0.02
QUIET_S_MAX = 10.0


class Result(TypedDict):
    """What a batch came to; all figures are counts."""

    number: int
    ended: list[tuple[str, str, int, bool]]  # who died by SIGKILL: kind, point, the so manieth, a fresh process
    figures: dict[str, int]
    wrong: list[str]


class Play:
    """A batch under way: its provider on a port, its store, and what is known of both."""

    def __init__(self, batch: Batch, forks: Forks, store: Store) -> None:
        self.batch, self.forks, self.store = batch, forks, store
        self.sandbox = Sandbox(seed=batch.number)
        self.sandbox.slow_s = SLOW_S
        self.door = Door(self.sandbox, store)
        self.known = Known()
        self.ended: list[tuple[str, str, int, bool]] = []
        self.figures: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.hours = 0
        self.days: set[date] = set()
        self.intents: set[str] = set()
        self.left_leased = False  # a run, by a reconciler that was killed

    def run(self) -> Result:
        """From the first process to the last; it stops where something does not hold."""
        self.store.remove()
        with SandboxServer(self.door) as self.server:
            for phase in self.batch.phases:
                self.play_phase(phase)
            if not self.wrong:
                self.end()
            self.count()
        return Result(number=self.batch.number, ended=self.ended, figures=dict(self.figures), wrong=self.wrong)

    def play_phase(self, phase: Phase) -> None:
        if self.wrong:
            return
        self.move_to(phase.hours)
        for one in phase.rounds:
            self.sandbox.faults = self.batch.rates
            self.play_round(one)
            if self.wrong:
                return
        if phase.healed:
            self.heal()
            self.move_to(phase.hours + QUIET)
            self.heal()
            self.judge_rows(undecided=self.answered_5xx())

    # --- processes

    def play_round(self, of: Round) -> list[Report]:
        """The processes of a round, and what holds after it."""
        before = self.known.rows
        if self.left_leased:
            self.store.outlive_the_leases()
            self.left_leased = False
        self.sandbox._model.plan._scripts.clear()  # those of the round before that nobody met
        if of.asking_fault is not None:
            name, times = of.asking_fault
            self.sandbox.fault(name, times=times, on="GET *")
        self.days.add(self.today)
        if of.actors[0].fresh:
            self.sandbox.faults = {}  # it would wait for seconds between two sends
            reports = [play_fresh(actor, self.door, self.server.url, self.store.path) for actor in of.actors]
        else:
            reports = self.forks.play(of, self.server.url, self.hours * 3600.0)
        self.days.add(self.today)
        for actor, report in zip(of.actors, reports, strict=True):
            self.hear(actor, of, report)
        self.look()
        self.wrong += [*self.door.told(), *judge.after_a_round(self.known, before)]
        if {actor.kind for actor in of.actors} == {"reconciler"}:
            self.wrong += judge.of_repairs(before, self.known.rows, self.store.recovered())
        return reports

    def hear(self, actor: Actor, of: Round, report: Report) -> None:
        """How a process ended, and what it said until then."""
        self.intents.update(actor.intents)
        if report["signal"] == signal.SIGKILL and actor.death is not None:
            self.ended.append((actor.kind, actor.death.at, actor.death.nth, actor.fresh))
            self.figures["killed in a race"] += of.is_race
            self.left_leased |= actor.kind == "reconciler"
        elif actor.death is not None:
            self.figures["ended before they were killed"] += 1
        self.wrong += judge.of_report(actor, of, report["said"])
        for what, *words in report["said"]:
            if what == "acknowledged":
                name, attempt, state, charge_id = words
                self.known.acknowledged.setdefault((name, attempt), set()).add((state, charge_id))
            if what == "reconciled" and words[1] is None:
                self.known.completed.append(words[0])
            self.figures["not now"] += what == "not now"

    def look(self) -> None:
        """The provider's ledger first: what it has now must be in the store that is read next."""
        self.known.payments = tuple(_payment(charge) for charge in self.sandbox.charges)
        self.known.rows = self.store.rows()

    # --- the end

    def heal(self) -> None:
        """The faults end; a worker finishes what it can, then every caller asks again."""
        self.quiet()
        self.sandbox.faults = {}
        calm = (Actor("worker"), Actor("client", tuple(sorted(self.intents))))
        for actor in calm:
            said = self.play_round(Round((actor,)))[0]["said"]
            self.wrong += judge.told("L1: not finished without faults", [line for line in said if line[0] == "not now"])
        self.quiet()

    def judge_rows(self, undecided: set[str]) -> None:
        self.look()
        self.wrong += judge.at_the_end(self.known, undecided)

    def end(self) -> None:
        """Days later there is proof of everything: it is finished, reconciled, and asked for once more."""
        for hours in HOURS_END:
            self.move_to(hours)
            self.heal()
        today = self.today
        days = tuple(sorted({(today - day).days for day in self.days}, reverse=True))
        said = self.play_round(Round((Actor("reconciler", days_ago=days),)))[0]["said"]
        complete = [line for line in said if line[0] == "reconciled" and line[2] is None]
        self.wrong += judge.differ("L2: days reconciled", {"days": len(days)}, {"days": len(complete)})
        self.judge_rows(undecided=set())
        self.wrong += judge.every_intent(self.intents, self.known)
        self.wrong += judge.of_history(self.store.history(), self.known.rows)
        self.wrong += judge.of_absences(self.store.absences())
        found = self.store.findings()
        self.wrong += judge.of_findings(found, self.store.findings_in_history(), self.store.findings_in_runs())
        self.wrong += judge.of_runs(self.store.whole_runs(), self.store.listed(), self.objects())
        asked = len(self.sandbox.requests)
        self.play_round(Round((Actor("client", tuple(sorted(self.intents))),)))
        self.wrong += judge.differ(
            "F07: requests for finished intents", {"requests": 0}, {"requests": len(self.sandbox.requests) - asked}
        )
        self.wrong += judge.differ("the file", {"sound": [("ok",)]}, {"sound": self.store.sound()})

    def count(self) -> None:
        """What the batch adds to the figures."""
        self.look()
        requests = self.sandbox.requests
        self.figures["intents"] += len(self.intents)
        self.figures["acknowledged"] += len(self.known.acknowledged)
        self.figures["sends"] += len([one for one in requests if (one.method, one.path) == SEND])
        self.figures["requests"] += len(requests)
        self.figures["met a fault"] += len([one for one in requests if one.fault is not None])
        self.figures["charged"] += sum(map(len, self.known.paid.values()))
        self.figures["second attempts"] += len([number for _, number in self.known.rows if number > 1])
        self.figures["absent"] += len([row for row in self.known.rows.values() if row.state == "absent"])
        self.figures["recovered"] += len(self.store.recovered())
        self.figures["doubles"] += len(self.known.doubled())
        self.figures["lost"] += len(self.known.lost())
        self.figures["batches"] += 1

    # --- the provider

    @property
    def today(self) -> date:
        """By the provider's clock."""
        return datetime.fromtimestamp(self.sandbox.clock.now(), UTC).date()

    def move_to(self, hours: int) -> None:
        """The provider's clock, and those of all processes from now on."""
        self.quiet()
        self.sandbox.clock.advance((hours - self.hours) * 3600)
        self.hours = hours

    def quiet(self) -> None:
        """What the dead have sent has been carried out."""
        deadline = time.monotonic() + QUIET_S_MAX
        while self.server._listener._connections:
            if time.monotonic() > deadline:
                self.wrong.append("the provider does not come to rest")
                return
            time.sleep(0.001)

    def answered_5xx(self) -> set[str]:
        """Keys of which absence is not believed before a 500 would have been rolled forward."""
        return {one.idempotency_key or "" for one in self.sandbox.requests if (one.status or 0) >= 500}

    def objects(self) -> dict[str, str]:
        """Every object that the provider has, and the day it was created on."""
        both = (*self.sandbox.charges, *self.sandbox.payment_intents)
        return {one["id"]: str(datetime.fromtimestamp(one["created"], UTC).date()) for one in both}


def _payment(charge: dict[str, Any]) -> Payment:
    metadata = charge["metadata"]
    return Payment(charge["id"], metadata["paycli_intent"], metadata["paycli_key"], charge["status"], charge["amount"])
