"""The world of one schedule: the true time, hosts, a provider, a store, and whatever is due next.

Its outcome is a function of the decisions alone. What happens in it is `doing.py`, how it comes to rest `healing.py`,
and who looks on `witness.py`.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from email.utils import formatdate
from functools import partial
from typing import Any

from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import Bind, Effect, MeetProvider
from gateway_client.gateways.base import Binding, Reply
from gateway_client.store.claim import bind
from reconcile.effects import RunLease
from reconcile.flow import reconcile_flow
from reconcile.job import Watch
from reconcile.lease import LEASE_SLACK_S
from tests.sim import doing, happenings, healing
from tests.sim.call import Call, one_by_one
from tests.sim.decisions import Decisions, Dice
from tests.sim.ghost import Ghost
from tests.sim.hosts import KEYS, Host, Process
from tests.sim.memory import Saved
from tests.sim.network import STRANGE, Network, draw_how
from tests.sim.on_disk import Store
from tests.sim.plots import AT_THE_END, NEAR_MIDNIGHT
from tests.sim.provider import ACCOUNT, TIMEOUT_S, Provider, reply_of
from tests.sim.shift import Shift
from tests.sim.weather import Weather, draw, pick
from tests.sim.witness import Witness

START_S = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()
BINDING = Binding("stripe", "test", ACCOUNT, "default", "the store")

# Lengths of a world, in seconds but for one, and what they may be: all within the published fault model (DESIGN §1).
LENGTHS = {
    "start": ("0", "43190", "43198.2", "43199.2", "36000"),  # after noon: often just before midnight
    "page_rows": ("1", "2", "3"),
    "lag_s": ("2", "60", "500", "5400", "7190", "7200"),
    "slow_s": ("0.2", "8", "25", "40", "85", "90"),
    "late_s": ("5", "600", "3000", "3590", "3600", "3609"),
    "roll_forward_s": ("10", "3000", "80000", "90000", "250000", "259000", "259200"),
    "settles_after_s": ("0.5", "4000", "200000"),
    "date_skew_s": ("-280", "-100", "100", "280"),
    "created_skew_s": ("-300", "-60", "60", "300"),
}
LIKELY = dict.fromkeys(LENGTHS, 0.4) | {"slow_s": 0.8, "date_skew_s": 0.1, "created_skew_s": 0.2}
UNECHOED = 0.15
"""Schedules whose provider echoes the key on its results alone: whether its errors do is not documented."""
DAY_S = 24 * 3600.0
ENDS_EARLY = 0.6
"""Schedules that are over when all is final and explained; the others look at a clean night as well."""
WORKERS_HEAL = 0.2

USUAL = {"start": 0.0, "page_rows": 100.0, "lag_s": 0.0, "slow_s": 1.0, "late_s": 600.0, "roll_forward_s": 172800.0}
USUAL |= {"settles_after_s": 20.0, "date_skew_s": 0.0, "created_skew_s": 0.0}


class World:
    """One schedule, from its decisions."""

    def __init__(self, decisions: Decisions, weather: Weather, store: Store, *, verbose: bool = False) -> None:
        self.decisions, self.weather, self.store = decisions, weather, store
        self.healing = False
        self.running: dict[str, Call] = {}
        self.told: list[str] | None = [] if verbose else None
        self._digest = hashlib.sha256()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        length = {name: self._length(name) for name in LENGTHS}
        self.now = START_S + length["start"]
        self.leases = not self._troubled("no_leases")
        self.ends_early = (
            decisions.take("ends early", lambda dice: "yes" if dice.hits(ENDS_EARLY) else None) is not None
        )
        self.workers_heal = (
            decisions.take("heals by", lambda dice: "workers" if weather.commit and dice.hits(WORKERS_HEAL) else None)
            is not None
        )
        self._backups: list[Saved] | None = [] if self._troubled("restore") else None
        self._down_until = self.now
        self.under_way_until = 0.0  # until when something is held on its way
        self.provider = Provider(lambda: self.now)
        self.provider.page_rows, self.provider.lag_s = int(length["page_rows"]), length["lag_s"]
        ours = self.provider.ours
        ours.slow_s, ours.late_s = length["slow_s"], length["late_s"]
        ours.roll_forward_s, ours.settles_after_s = length["roll_forward_s"], length["settles_after_s"]
        self.provider.date_skew_s = length["date_skew_s"]
        if length["created_skew_s"]:
            self.provider.date_objects(length["created_skew_s"], length["roll_forward_s"])
        unechoed = decisions.take("no echo", lambda dice: "yes" if weather.commit and dice.hits(UNECHOED) else None)
        self.network = Network(lambda: self.now, unechoed is None, self.provider.date_skew_s)
        ours.revoke(KEYS["revoked"])
        ours.revoke("sk_test_expired")
        self.hosts = {name: Host(name, lambda: self.now) for name in (*happenings.HOSTS, "healer")}
        skew = {name: self._skew(name) for name in happenings.HOSTS}
        for name in happenings.HOSTS:
            self.hosts[name].clock.set(skew[name])
        self.witness = Witness(self.provider, store, lambda: self.now, self.trace)
        self.ghost.seen["without leases"] += not self.leases
        self.ghost.seen["the provider echoes no error"] += not self.network.echoes
        self.ghost.clocks_right = not (any(skew.values()) or self.provider.date_skew_s)

    @property
    def ghost(self) -> Ghost:
        """What truly happened."""
        return self.witness.ghost

    def _length(self, name: str) -> float:
        at_its_end = name in AT_THE_END.get(self.weather.plot or "", ())
        lag = name != "lag_s" or "lag" in self.weather.trouble or at_its_end
        usual = self.weather.commit == () or not lag

        def drawn(dice: Dice) -> str | None:
            if at_its_end and dice.hits(0.6):
                return LENGTHS[name][-1]
            likely = 1.0 if name == "start" and self.weather.plot in NEAR_MIDNIGHT else LIKELY[name]
            return dice.one_of(LENGTHS[name]) if not usual and dice.hits(likely) else None

        decided = self.decisions.take(name, drawn)
        return USUAL[name] if decided is None else float(decided)

    def fall_silent(self, seconds: float) -> None:
        """The provider answers nobody for a while (F61)."""
        self._down_until = self.now + seconds
        self.ghost.seen["an outage"] += 1

    @property
    def down(self) -> bool:
        """Nobody is answered now."""
        return self.now < self._down_until and not self.healing

    def _skew(self, host: str) -> float:
        """How wrong a host's clock is from the beginning."""
        wrong = "clock" in self.weather.trouble
        skews = ("-240", "-20", "3", "60", "240", "400")
        decided = self.decisions.take(
            f"{host} skew", lambda dice: dice.one_of(skews) if wrong and dice.hits(0.5) else None
        )
        return 0.0 if decided is None else float(decided)

    def _troubled(self, name: str) -> bool:
        on = name in self.weather.trouble
        return self.decisions.take(name, lambda dice: "yes" if on else None) is not None

    # --- time

    def after(self, seconds: float, work: Callable[[], object]) -> None:
        """`work` is due in so many seconds."""
        heapq.heappush(self._due, (self.now + seconds, next(self._order), work))

    def trace(self, line: str) -> None:
        """What happened, in an order that only the decisions fix."""
        line = f"{self.now - START_S:.3f} {line}"
        self._digest.update(line.encode())
        if self.told is not None:
            self.told.append(line)

    @property
    def digest(self) -> str:
        """The trace in 16 digits."""
        return self._digest.hexdigest()[:16]

    def decide(self, moment: str, kind: str) -> str | None:
        """What goes otherwise than usual at a moment; nothing does once the world heals."""
        if self.healing:
            return None
        table = getattr(self.weather, kind)
        decided = self.decisions.take(moment, lambda dice: pick(dice, table))
        if decided is not None:
            self.ghost.seen[f"{kind}: {decided}"] += 1
            self.trace(f"{moment}: {decided}")
        return decided

    def decide_how(self, moment: str, decided: str | None, *, post: bool) -> str | None:
        """The particulars of what happens on the way."""
        if decided not in STRANGE:
            return None
        how = self.decisions.take(f"{moment} how", lambda dice: draw_how(dice, decided, post=post))
        if how is not None:
            self.trace(f"{moment} how: {how}")
            self.ghost.seen[f"{decided} {how.split()[0]}"] += 1
        return how

    def stand_still(self, host: Host, seconds: float) -> None:
        """A virtual machine is paused, and both its clocks with it."""
        host.clock.pause(seconds)
        self.ghost.clocks_right, self.ghost.stood_still = False, True
        self.ghost.seen["a machine stood still for days"] += seconds > DAY_S

    def run(self) -> None:
        """The whole schedule. Raises Broken when a check does not hold."""
        planned = happenings.draw_all(self.decisions, self.weather)
        for one in planned:
            self.after(one.at_s, partial(doing.do, self, one))
        last_s = max((one.at_s for one in planned), default=0.0)
        self.after(last_s + 5.0, lambda: healing.begin(self))
        while self._due:
            at, _, work = heapq.heappop(self._due)
            self.now = max(self.now, at)
            work()
        healing.judge(self)

    # --- backups

    def back_up(self) -> None:
        """Before each happening, where a backup may be wanted."""
        if self._backups is not None:
            self._backups.append(self.store.save())

    def restore(self, happenings_ago: int) -> None:
        """The database as it was before an earlier happening."""
        if self._backups is None or len(self._backups) <= happenings_ago:
            return
        self.ghost.restored_at = self.now
        self.ghost.seen["restored"] += 1
        if self.running:
            self.ghost.seen["restored with a call under way"] += 1
        self.store.restore(self._backups[-1 - happenings_ago])
        self.witness.look_at_rows(None)

    # --- calls

    def process(self, host: Host, credential: str) -> Process:
        """The living process of a host with a credential."""
        found = host.processes.get(credential)
        if found is None or not found.alive:
            host.started += 1
            name = f"{host.name}:{host.started}"
            found = Process(name, credential, host.clock, self.store.database, lambda: self.store.in_transaction)
            host.processes[credential] = found
            self._introduce(found)
        return found

    def _introduce(self, process: Process) -> None:
        """Half of the processes run since long: they know whose their credential is, and what time it is there."""
        long = self.decisions.take(
            f"{process.name} has met", lambda dice: "yes" if dice.hits(0.5) and not self.healing else None
        )
        if long is None:
            return
        sandbox, exchange = self.provider.begin(process.gateway, process.gateway.account_request(), None)
        reply = reply_of(sandbox.finish(exchange), 0.0)
        if isinstance(reply, Reply) and "date" in reply.headers:
            reply.headers["date"] = formatdate(self.now + self.provider.date_skew_s, usegmt=True)
        process.fetched.reply = reply
        with suppress(ChargeOnceError):  # as little known as before
            process.perform(MeetProvider())
            process.heard_at = self.now
        process.fetched.reply = None

    def call(
        self,
        name: str,
        verb: str,
        host: Host,
        credential: str,
        flow: Callable[[Process], Any],
        *,
        perform: Callable[[Effect[Any]], Any] | None = None,
        on_end: Callable[[Any], None] = lambda result: None,
        shift: Shift | None = None,
    ) -> None:
        """Start a call; a worker has a `shift`."""
        process = self.process(host, credential)
        others = {other.verb for other in self.running.values()}
        call = Call(self, host, process, name, verb, flow(process), perform or process.perform, on_end, shift)
        if {"reconcile", "resume"} <= others | {verb}:
            self.ghost.seen["reconcile and resume at once"] += 1
        if verb in others and verb.startswith("charge"):
            self.ghost.seen["one order charged at once"] += 1
        call.at_work(call.start)

    def reconcile(
        self, name: str, host: Host, day: date, credential: str, on_end: Callable[[Any], None] = lambda result: None
    ) -> None:
        """Start a nightly run."""
        process = self.process(host, credential)
        watch = Watch()
        lease = RunLease(f"{process.name}:{name}", LEASE_SLACK_S + TIMEOUT_S if self.leases else 0.0)

        def end(result: object) -> None:
            if isinstance(result, ChargeOnceError):
                with suppress(ChargeOnceError):
                    process.run(watch.let_go())
                self.witness.observe(None, None, None)
            on_end(result)

        flow = one_by_one(watch.over(reconcile_flow(process.setup, day, "UTC", lease)))
        self.call(name, "reconcile", host, credential, lambda _: flow, on_end=end)

    def kill(self, call: Call, where: str) -> None:
        """The process of a call dies, and every call in it."""
        self.ghost.seen[f"killed {where}"] += 1
        process = call.process
        process.alive = False
        for other in [one for one in self.running.values() if one.process is process]:
            other.stop()

    def kill_host(self, host: Host) -> None:
        """Every process of a machine dies."""
        for call in [one for one in self.running.values() if one.host is host]:
            if call.alive:
                self.kill(call, "with its host")


# --- a whole schedule


def prepared(decisions: Decisions, weather: Weather, store: Store, *, verbose: bool = False) -> World:
    """A world before its first moment, on an empty store that is bound to our account."""
    store.empty()
    made = datetime.fromtimestamp(START_S - 600.0, UTC)
    store.database.transact(lambda tx: bind(tx, Bind(BINDING)), time=lambda: made)
    return World(decisions, weather, store, verbose=verbose)


def run(decisions: Decisions, weather: Weather, store: Store, *, verbose: bool = False) -> World:
    """Run one schedule; the world as it ended. Raises Broken."""
    world = prepared(decisions, weather, store, verbose=verbose)
    world.run()
    return world


def decisions_of(seed: int) -> Decisions:
    """The decisions of a seed, drawn as they come."""
    return Decisions(seed=seed + 1_000_000_007)


def of_seed(seed: int, store: Store, *, verbose: bool = False) -> World:
    """The schedule of a seed."""
    return run(decisions_of(seed), draw(Dice(seed)), store, verbose=verbose)


def again(taken: dict[str, str], store: Store, *, verbose: bool = False) -> World:
    """The schedule of written decisions."""
    return run(Decisions(given=taken), Weather(), store, verbose=verbose)
