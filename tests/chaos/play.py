"""One campaign as it goes: blows while the faults last, then workers until nothing is due, then the judge.

What cannot be proven at once is proven when time has passed. So the clocks are moved, by two hours, by four days and
by a quiet time: the provider's and those of all processes; of the database, whose clock cannot be, what waits for it.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import reconcile
from cli.alerting import causes
from gateway_client import Client, Stripe
from gateway_client.db import Database
from gateway_client.flow.effects import Now
from tests.chaos import caller, judge, plan
from tests.chaos.judge import Known, Payment
from tests.chaos.plan import CALLERS, WORKERS, Blow
from tests.chaos.provider import Provider
from tests.chaos.store import Store
from tests.chaos.yard import NOT_YET, Parent, Paycli, Postgres, Process, installed, settings, until
from tests.kills.actor import API_KEY, MovedClock
from tests.kills.judge import of_absences, of_history

BOUNDS = Stripe.profile.bounds
HOUR_S = 3600.0
SOON_S = 2 * HOUR_S
"""When everything is finished that need not be proven: rows set aside are due, what was late has happened, keys are
alive."""

CLOSED_S = SOON_S + (BOUNDS.key_life + BOUNDS.quiet_unproven).total_seconds()
PROVEN_S = CLOSED_S + BOUNDS.quiet_unproven.total_seconds() + HOUR_S
"""When what is left is closed, and when there is proof of it: after any 500, what was rolled forward is there."""

IDLE_S_MAX = 600.0  # a long campaign leaves a long queue
RESTARTS_S_MAX = 300.0  # for those restarts, should they take longer than the faults are to last
DIES_AFTER = 0.05  # of the time that others sleep for

STORIES_MAX = 5


@dataclass
class Result:
    """What a campaign came to."""

    wrong: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    """How the processes of `paycli` ended that nobody had killed: command and exit code."""


class Play:
    """A campaign under way."""

    def __init__(self, seed: int, folder: Path, *, gap_s: float, fresh: bool) -> None:
        self.seed, self.folder, self.gap_s, self.fresh = seed, folder, gap_s, fresh
        self.result = Result()
        self.begun_at = time.monotonic()
        self.ahead_s = 0.0
        self.processes: list[Paycli] = []
        self.workers: list[Paycli] = []
        self.reconcilers: list[Paycli] = []
        self.doomed: list[tuple[float, Paycli]] = []
        """When they are killed, should they live then."""

    def run(self, seconds: float, restarts: int) -> Result:
        """For so long, and until PostgreSQL has come back so often."""
        with ExitStack() as opened:
            self.opened = opened
            self.parent = opened.enter_context(Parent())
            self.provider = opened.enter_context(Provider(self.seed))
            self.postgres = opened.enter_context(Postgres())
            self.database = self.postgres.url.render_as_string()
            self.settings = settings(self.provider.url, self.database)
            self.store = Store(self.postgres.server.url)
            assert self.paycli("init").ended() == 0
            self.store.read(caller.ORDERS)
            self.chaos(seconds, restarts)
            self.calm()
            self.later(SOON_S)
            self.finished()
            self.later(CLOSED_S)
            self.later(PROVEN_S)
            self.nights()
            self.judge()
        return self.result

    # --- while it lasts

    def chaos(self, seconds: float, restarts: int) -> None:
        self.provider.fail(plan.rates(self.seed))
        self.workers = [self.paycli("worker", "--json", fresh=True) for _ in range(WORKERS)]
        for slot in range(CALLERS):
            self.call(slot)
        until(lambda: all(worker.works for worker in self.workers))
        ends_at = time.monotonic() + seconds
        last = max(ends_at, time.monotonic() + RESTARTS_S_MAX)
        for blow in plan.blows(self.seed, self.gap_s):
            now = time.monotonic()
            if (now >= ends_at and self.postgres.restarts >= restarts) or now >= last:
                break
            time.sleep(blow.after_s)
            self.strike(blow)
            self.tend()

    def strike(self, blow: Blow) -> None:
        match blow.kind:
            case "kill worker":
                self.workers.pop(blow.whom % WORKERS).kill()
                self.workers.append(self.paycli("worker", "--json"))
            case "stop worker":
                self.workers[blow.whom % WORKERS].stop(time.monotonic() + blow.for_s)
            case "kill caller":
                self.parent.kill(blow.whom % CALLERS)
                self.call(blow.whom % CALLERS)
            case "reconcile":
                today = datetime.now(UTC).date()
                self.reconcilers.append(self.paycli("reconcile", "--date", str(today), "--json"))
                if blow.whom % 2:
                    self.doomed.append((time.monotonic() + blow.for_s * DIES_AFTER, self.reconcilers[-1]))
            case _:
                self.postgres.strike(blow.kind)
                return
        self.result.blows[blow.kind] += 1

    def tend(self) -> None:
        """What a supervisor does: a worker that ended is begun again; one that has slept for long enough is woken."""
        for when, process in self.doomed:
            if time.monotonic() >= when:
                process.kill()
        self.doomed = [each for each in self.doomed if time.monotonic() < each[0]]
        for at, worker in enumerate(self.workers):
            if worker.stopped_until is not None and time.monotonic() >= worker.stopped_until:
                worker.wake()
            if worker.process.poll() is not None:
                self.saw_end(worker, allowed=(3,))  # it found no database when it began
                self.workers[at] = self.paycli("worker", "--json")

    def calm(self) -> None:
        """The faults stop, PostgreSQL stays; nobody calls any more, and the workers are told to end."""
        self.provider.fail({})
        for slot in range(CALLERS):
            self.parent.kill(slot)
        for worker in self.workers:
            worker.wake()
            worker.signal(signal.SIGTERM)
        for worker in self.workers:
            worker.ended()
            self.saw_end(worker, allowed=(0, 3) if worker.told() else (0, 3, NOT_YET))
        for reconciler in self.reconcilers:
            reconciler.ended()
            self.saw_end(reconciler, allowed=(0, 1, 3, -signal.SIGKILL))

    # --- afterwards

    def later(self, ahead_s: float) -> None:
        """At that time, all workers until nothing is due."""
        self.move_to(ahead_s)
        working = [self.paycli("worker", "--until-idle", "--json", ahead_s=ahead_s) for _ in range(WORKERS)]
        for worker in working:
            worker.ended(IDLE_S_MAX)
            self.saw_end(worker, allowed=(0, 1))  # something may be left that takes longer

    def finished(self) -> None:
        """What nobody can prove yet is left, and nothing else: the provider said 500."""
        failed = {key for key, fault, *_ in self.provider.ledger()["sends"] if (fault or "").startswith("error_500")}
        left = [row for row in self.store.rows() if not row.final and row.key not in failed]
        self.result.wrong += [f"L1: {row.name} is still {row.state} after two hours without faults" for row in left]

    def move_to(self, ahead_s: float) -> None:
        self.provider.advance(ahead_s - self.ahead_s)
        self.store.hurry(ahead_s - self.ahead_s)
        self.ahead_s = ahead_s

    def nights(self) -> None:
        """Every day since the first is reconciled; whoever is woken afterwards has a reason."""
        today = (datetime.now(UTC) + timedelta(seconds=self.ahead_s)).date()
        first = (datetime.now(UTC) - timedelta(seconds=time.monotonic() - self.begun_at)).date()
        gateway, clock = Stripe(API_KEY, api_base=self.provider.url), MovedClock(self.ahead_s)
        with Client(gateway, database=self.database, timeout_s=caller.TIMEOUT_S, clock=clock) as client:
            for number in range((today - first).days + 1):
                night = reconcile.run(client, first + timedelta(days=number))
                if not night.complete:
                    self.result.wrong.append(f"L2: {night.run_id} is incomplete: {night.why_incomplete}")
            now = client.perform(Now())
        with closing(Database(self.database)) as database:
            told = [alert for alert in causes(database, now) if alert.cause not in judge.DOUBTED.values()]
            self.alerts = [f"{alert.cause}: {alert.message}" for alert in told]  # a finding is judged by itself

    def judge(self) -> None:
        """The ledger, which nobody under test has seen, beside the rows."""
        known, ledger = Known(), self.provider.ledger()
        known.rows, known.orders, known.findings = self.store.rows(), self.store.orders(), self.store.findings()
        known.payments = [_payment(charge) for charge in ledger["charges"]]
        known.begun = self.store.begun()
        known.told = self.parent.told.union(*(process.told() for process in self.processes))
        for key, fault, _, _ in ledger["sends"]:
            known.arrived.setdefault(key, []).append(fault)
        result = self.result
        result.wrong += judge.of_all(known) + self.parent.wrong
        result.wrong += [f"it said: {said}" for said in (one.complaint for one in self.processes) if said]
        attempts: dict[Any, Any] = {(row.intent_id, row.attempt): row for row in known.rows}
        result.wrong += of_history(self.store.history(), attempts) + of_absences(self.store.absences())
        result.wrong += [f"L2: alert {alert}" for alert in self.alerts]
        for intent_id in judge.intents_of(result.wrong, known)[:STORIES_MAX]:
            result.wrong.append(self.story(intent_id, known, ledger))
        self.count(known, ledger)

    def story(self, intent_id: str, known: Known, ledger: dict[str, Any]) -> str:
        """All that is known of an intent, for whoever must find out what happened."""
        rows = [row for row in known.rows if row.intent_id == intent_id]
        keys = {row.key for row in rows} | {one.key for one in known.payments if one.intent_id == intent_id}
        lines = [str(row) for row in rows] + self.store.sends(intent_id)
        lines += [f"{event}" for event in self.store.history() if event[0] == intent_id]
        lines += [
            f"arrived: fault {fault}, {status}, executed {done}"
            for key, fault, status, done in ledger["sends"]
            if key in keys
        ]
        lines += [str(payment) for payment in known.payments if payment.key in keys]
        lines += [str(one) for one in known.told if one.intent_id == intent_id]
        return "\n    ".join([f"{intent_id}:", *lines])

    def count(self, known: Known, ledger: dict[str, Any]) -> None:
        result, states = self.result, Counter(row.state for row in known.rows)
        result.blows += self.postgres.blows
        result.faults.update(ledger["faults"])
        result.figures.update(
            {
                "restarts": self.postgres.restarts,
                "intents": len({row.intent_id for row in known.rows}),
                "acknowledged": len({one.intent_id for one in self.parent.told}),
                "attempts": len(known.rows),
                "sends": len(ledger["sends"]),
                "reads": ledger["reads"],
                "charged": len([one for one in known.payments if one.paid]),
                "declined": states["declined"],
                "absent": states["absent"],
                "findings": len(known.findings),
                "doubles": len(list(judge.doubled(known))),
                "lost": len(list(judge.lost(known))),
                "not now": self.parent.said["not now"],
            }
        )

    # --- processes

    def call(self, slot: int) -> None:
        self.parent.call(slot, self.provider.url, self.database, self.seed)

    def paycli(self, *words: str, fresh: bool = False, ahead_s: float = 0.0) -> Paycli:
        """The installed command, or a fork that does the same."""
        log = self.folder / f"{len(self.processes)}.log"
        if fresh or (self.fresh and not ahead_s):
            process: Process = installed(log, words, self.settings)
        else:
            process = self.parent.paycli(log, words, self.settings, ahead_s)
        made = Paycli(process, log, words)
        self.opened.callback(made.kill)
        self.processes.append(made)
        return made

    def saw_end(self, process: Paycli, allowed: tuple[int | None, ...]) -> None:
        code = process.process.poll()
        self.result.ended[f"{process.words[0]} {code}"] += 1
        if code not in allowed:
            self.result.wrong.append(f"`paycli {' '.join(process.words)}` ended with {code}: {process.last_words}")


def _payment(charge: dict[str, Any]) -> Payment:
    told = charge["metadata"]
    return Payment(
        charge["id"], told["paycli_intent"], told["paycli_key"], charge["status"], charge["amount"], charge["currency"]
    )
