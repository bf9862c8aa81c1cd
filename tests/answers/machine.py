"""A machine of a case: a real Client on a clock that may be wrong or stand still, with the network of the case.

As in `tests/sim/hosts.py` only its sockets and its engine are replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

from gateway_client import Client, Stripe
from gateway_client.driver import Driver
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import Effect
from reconcile.effects import RunLease
from reconcile.flow import reconcile_flow
from reconcile.job import Watch
from tests.answers.network import Network
from tests.answers.provider import BLIND, RESTRICTED, Provider
from tests.sim.decisions import Dice

KEYS = ("sk_test_ours", "sk_test_rotated", RESTRICTED, BLIND, "sk_test_other")
GATEWAYS = {key: Stripe(key) for key in KEYS}


class MachineClock:
    """The clock of one machine: wrong by some seconds, and behind by as long as the machine stood still."""

    def __init__(self, provider: Provider, dice: Dice, wrong_s: float) -> None:
        self._provider, self._dice = provider, dice
        self.wrong_s = wrong_s
        self.stood_s = 0.0

    def time(self) -> float:
        return self._provider.now + self.wrong_s - self.stood_s

    def monotonic(self) -> float:
        return self._provider.now - self.stood_s

    def jitter(self) -> float:
        return self._dice.random()

    def sleep(self, seconds: float) -> None:
        self._provider.go_to(self._provider.now + seconds)

    async def sleep_async(self, seconds: float) -> None:
        raise AssertionError("machines of a case are not asynchronous")

    def stand_still(self, seconds: float) -> None:
        """The machine is paused: the world goes on, and both of its clocks do not."""
        self._provider.go_to(self._provider.now + seconds)
        self.stood_s += seconds

    def set_right(self) -> None:
        """Somebody sets the time of day; the monotonic clock stays behind."""
        self.wrong_s = self.stood_s


class Machine(Client):
    """One process of the machine."""

    def __init__(
        self, credential: str, clock: MachineClock, database: Any, network: Network, meet: Callable[[Any, Any], Any]
    ) -> None:
        Driver.__init__(self, GATEWAYS[credential], clock=clock)  # all but the sockets and the engine
        network.credential = credential
        self._wire = network
        self._database = database
        self._created = True
        self._lock = threading.Lock()
        self._meets = meet

    def perform(self, effect: Effect[Any]) -> Any:
        """Do one effect, after whatever befalls the machine before it."""
        return self._meets(effect, super().perform)

    def reconcile(self, day: date, number: int) -> None:
        """The nightly run of a day; a run that died is taken over."""
        watch = Watch()
        lease = RunLease(f"machine {number}", 0.0)  # over at once
        try:
            self.run(watch.over(reconcile_flow(self.setup, day, "UTC", lease)))
        except Exception:
            with suppress(ChargeOnceError):
                self.run(watch.let_go())
            raise
