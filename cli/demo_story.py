"""The demo's story, from top to bottom, and its words. Every figure in it is read from the two ledgers.

The first three orders are in `demo_orders.py`, what else is charged in `demo_load.py`, the process that is killed in
`demo_child.py`, the night in `demo_night.py`, the comparison in `audit.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli import demo_load, output
from cli.audit import Figures, compare
from cli.demo_child import AT_ONCE as CHILD_AT_ONCE
from cli.demo_clock import MovedClock, noon_of_fifth_day
from cli.demo_night import tell_night
from cli.demo_orders import Orders
from cli.demo_planted import ORDERS, WANTED
from cli.demo_report import report, report_faults, report_night, step, verdict
from gateway_client import Charge, NotNow, PaymentIntent, Sandbox, State, Stripe
from gateway_client.bounds import hours
from gateway_client.clock import Clock
from gateway_client.db import Database
from gateway_client.sandbox.server import SandboxServer
from gateway_client.store import read_attempts

AT_ONCE = 8
ROUNDS_MAX = 6
WAIT_S_MAX = 60.0  # for the other process, on a slow machine
SLOW_S, SLOW_S_AT_THE_KILL = 0.1, 0.6

RATES = {
    "refused": 0.03,
    "lost_request": 0.04,
    "lost_reply": 0.12,
    "cut_body": 0.03,
    "html_body": 0.02,
    "error_500": 0.03,
    "error_500_charged": 0.05,
    "error_500_later": 0.02,
    "unavailable_503": 0.04,
    "in_use_409": 0.05,
    "rate_limited_429": 0.06,
    "slow": 0.06,
    "duplicate": 0.03,
    "late": 0.02,
}
"""How many of the requests go wrong, and how: more than half, in all."""

BOUNDS = Stripe.profile.bounds
A_DAY_LATER = timedelta(hours=23)
assert BOUNDS.key_life < A_DAY_LATER  # so every key is over by then


class Story:
    """One run: a provider, a database and the intents."""

    def __init__(self, seed: int, count: int, folder: Path) -> None:
        self._seed = seed
        self._load = demo_load.intents(count)
        self._wanted = [*ORDERS, *self._load]
        self._share = count - count // 3  # where the share of the process begins that will be killed
        self._url = f"sqlite:///{folder / 'demo.db'}"
        self._sandbox = Sandbox(seed=seed)
        self._sandbox.slow_s = SLOW_S

    def run(self) -> bool:
        """Tell it; whether the ledgers agree, now and five days later, and all went as it must."""
        output.say(
            f"charge-once: {len(ORDERS)} orders, and {len(self._load)} payments through a provider that fails on "
            f"purpose (seed {self._seed})"
        )
        with self._sandbox.serve() as server:
            gateway = Stripe(self._sandbox.api_key, api_base=server.url)
            output.say(f"The provider is a sandbox on {server.url}: nothing leaves this machine, no money moves.")
            orders = Orders(self._sandbox, gateway, self._url).tell()
            before = len(self._sandbox.requests)
            self._sandbox.faults = RATES
            self._charge(gateway)
            self._kill(server)
            self._start_again(gateway)
            step("5. `resume` finishes what is left: it sends the same request again, or looks for its result.")
            self._resume(gateway, None)
            report_faults(self._sandbox.requests[before:])
            step("6. The two ledgers, side by side, both read anew.")
            now = self._audit()
            report(now)
            clock = self._close(gateway)
            later = self._prove(gateway, clock)
            night = tell_night(self._sandbox, gateway, self._url, clock)
            self._wanted += WANTED
            report_night(night, self._audit())
        verdict(orders, now, later, night)
        return all(one.right for one in orders) and now.right and later.right and night.right

    def _close(self, gateway: Stripe) -> MovedClock:
        """A day later: what is left is closed. The clock of everything that follows."""
        later, life = hours(A_DAY_LATER), hours(BOUNDS.key_life)
        step(
            f"7. {later} later (both clocks are moved): the life of a key, {life}, is over. Nothing is sent again;",
            "`resume` closes what is left, and looks for it.",
        )
        clock = MovedClock(timedelta(0))
        before = len(self._sandbox.requests)
        self._move(clock, A_DAY_LATER)
        self._resume(gateway, clock)
        again = sum(request.method == "POST" for request in self._sandbox.requests[before:])
        closed = sum(row.closed_at is not None and row.pending for row in self._rows())
        output.say(f"   sent again {again}, closed {closed}")
        return clock

    def _prove(self, gateway: Stripe, clock: MovedClock) -> Figures:
        """Five days later: what is closed is found, or proven not charged."""
        step(
            "8. At noon of the fifth day: `resume` again. What is left was closed more than "
            f"{hours(BOUNDS.quiet_unproven)} ago:",
            "what a complete list does not show now is proven not charged.",
        )
        today = datetime.fromtimestamp(clock.time(), UTC) - clock.ahead
        self._move(clock, noon_of_fifth_day(today) - today)
        self._resume(gateway, clock)
        later = self._audit()
        report(later)
        return later

    def _move(self, clock: MovedClock, ahead: timedelta) -> None:
        """Move both clocks, ours and the provider's."""
        self._sandbox.clock.advance((ahead - clock.ahead).total_seconds())
        clock.ahead = ahead

    def _charge(self, gateway: Stripe) -> None:
        first = self._load[: self._share]
        step(
            f"2. A service charges {len(first)} intents, {AT_ONCE} at a time. Answers get lost, connections break,",
            "requests fail before they were carried out, or after. It repeats the same key, never a new one.",
        )
        self._charge_all(gateway, first)

    def _kill(self, server: SandboxServer) -> None:
        """Kill a charging process while its requests are on their way."""
        share = self._load[self._share :]
        middle = self._share + len(share) // 2
        in_flight = min(CHILD_AT_ONCE, len(self._load) - middle)
        step(f"3. Another process charges the other {len(share)}, {CHILD_AT_ONCE} at a time, and is killed: kill -9.")
        child = self._child(server, middle)
        watchdog = threading.Timer(WAIT_S_MAX, child.kill)
        watchdog.start()
        assert child.stdin is not None
        assert child.stdout is not None
        with child, output.progress("charging in the other process", len(share)) as advance:
            try:
                if not child.stdout.readline():  # it says so when it has charged its first half
                    raise RuntimeError("the other process ended by itself")
                advance(middle - self._share)
                self._sandbox.slow_s = SLOW_S_AT_THE_KILL
                self._sandbox.fault("slow", times=in_flight)
                before = len(self._sandbox.requests)
                child.stdin.write("go on\n")
                child.stdin.flush()
                while len(self._sandbox.requests) < before + in_flight and child.poll() is None:
                    time.sleep(0.002)
            finally:
                watchdog.cancel()
                child.kill()
        self._sandbox.slow_s = SLOW_S
        waiting = sum(row.state is State.SENDING for row in self._rows())
        arrived = len(self._sandbox.requests) - before
        output.say(
            f"   Killed (exit status {child.returncode}) while {arrived} of its requests were being carried out."
        )
        output.say(f"   The database says `sending` of {waiting} charges: nobody on this side knows their result.")

    def _child(self, server: SandboxServer, middle: int) -> subprocess.Popen[str]:
        arguments = map(str, (len(self._load), self._share, middle))
        return subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [sys.executable, "-m", "cli.demo_child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(server.url, self._sandbox.api_key, self._url),
        )

    def _start_again(self, gateway: Stripe) -> None:
        again = self._load[self._share :]
        step(f"4. It starts again and is handed the same {len(again)} intents. Those already charged cost no request.")
        self._charge_all(gateway, again)

    def _resume(self, gateway: Stripe, clock: Clock | None) -> None:
        for number in range(1, ROUNDS_MAX + 1):
            looked_at: list[Charge] = []
            asked = True
            try:
                with demo_load.client(gateway, self._url, clock) as opened:
                    opened.resume(on_charge=looked_at.append)
            except NotNow as error:
                asked = False
                output.say(f"   {error}")
            finished = sum(not row.pending for row in looked_at)
            output.say(f"   round {number}: looked at {len(looked_at)}, finished {finished}")
            if asked and finished in (0, len(looked_at)):
                return  # nothing is left, or nothing more can be proven today

    def _charge_all(self, gateway: Stripe, wanted: Sequence[PaymentIntent]) -> None:
        told: list[Charge] = []
        with (
            output.progress(f"charging {len(wanted)} intents", len(wanted)) as advance,
            demo_load.client(gateway, self._url) as opened,
        ):

            def tell(charge: Charge) -> None:
                told.append(charge)
                advance(1)

            demo_load.charge_all(opened, wanted, AT_ONCE, tell)
        counts = Counter(charge.state for charge in told)
        output.say("   " + ", ".join(f"{count} {state}" for state, count in counts.most_common()))

    def _rows(self) -> list[Charge]:
        """Every row of ours, read from the database file anew."""
        database = Database(self._url)
        try:
            return database.transact(
                lambda tx: [row for intent in self._wanted for row in read_attempts(tx, intent.intent_id)],
                write=False,
            )
        finally:
            database.close()

    def _audit(self) -> Figures:
        return compare(self._wanted, self._sandbox.charges, self._rows())


def _environment(api_base: str, api_key: str, database_url: str) -> dict[str, str]:
    """The other process's: nothing of the user's own settings, and no key but the sandbox's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PAYCLI_", "STRIPE_"))}
    here = str(Path(__file__).resolve().parent.parent)
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))),
        "STRIPE_API_KEY": api_key,
        "PAYCLI_STRIPE_API_BASE": api_base,
        "PAYCLI_DATABASE_URL": database_url,
    }
