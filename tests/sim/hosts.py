"""Hosts and their processes: a clock that may be wrong, and the real client on it, with a wire that the world pulls.

A process is a real `Client`; only its sockets are replaced, by answers that the world has fetched for it, and its
database by the schedule's store. When it dies, nothing of it runs any more; the next call starts another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf
from typing import Any

from gateway_client import Client, Stripe
from gateway_client.driver import Driver
from gateway_client.exchange import Age
from gateway_client.gateways.base import NoReply, Reply, Request
from tests.sim.network import Heard
from tests.sim.provider import ACCOUNT

KEYS = {
    "ours": "sk_test_ours",
    "rotated": "sk_test_rotated",
    "restricted": "rk_test_ours",
    "other": "sk_test_other",
    "restricted_other": "rk_test_other",
    "live": "sk_live_ours",
    "revoked": "sk_test_revoked",
}
DECLARED = {"restricted": ACCOUNT, "restricted_other": ACCOUNT}
"""What somebody has said of a key that may not ask whose it is; of one of them it is not so."""
GATEWAYS = {name: Stripe(key, account=DECLARED.get(name)) for name, key in KEYS.items()}


class HostClock:
    """The two clocks of one machine: ahead of the true time by as much as they were set wrong, and behind it by as much
    as the machine stood still. Setting the clock mends the one that tells the time; the other is never set."""

    def __init__(self, true_time: Callable[[], float]) -> None:
        self._true_time = true_time
        self._wrong_s, self._mended = 0.0, False
        self._lost_s = 0.0  # in pauses that are over
        self._paused_from = self.paused_until = -inf

    def pause(self, seconds: float) -> None:
        """A virtual machine stands still: both clocks stop, and nothing of it runs."""
        now = self._true_time()
        if now >= self.paused_until:
            self._lost_s = self._lost()
            self._paused_from = now
        self.paused_until = max(self.paused_until, now + seconds)

    @property
    def stood_still(self) -> bool:
        """It has, at some time."""
        return self._paused_from != -inf

    def set(self, wrong_s: float) -> None:
        """Somebody sets the clock: to the true time, or beside it."""
        self._wrong_s = wrong_s + self._lost()

    def mend(self) -> None:
        """From now on the clock is kept right."""
        self._mended = True

    def _lost(self) -> float:
        if self._paused_from == -inf:
            return 0.0
        return self._lost_s + min(self._true_time(), self.paused_until) - self._paused_from

    def time(self) -> float:
        if self._mended:
            return self._true_time()
        return self._true_time() + self._wrong_s - self._lost()

    def monotonic(self) -> float:
        return self._true_time() - self._lost()

    def jitter(self) -> float:
        return 0.5

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the world waits, not the client")

    async def sleep_async(self, seconds: float) -> None:
        raise AssertionError("the world waits, not the client")


class Fetched:
    """A wire whose answers were fetched before."""

    def __init__(self, in_transaction: Callable[[], bool]) -> None:
        self._in_transaction = in_transaction
        self.reply: Reply | NoReply | None = None
        self.asked_in_transaction = False

    def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        self.asked_in_transaction |= self._in_transaction()
        reply, self.reply = self.reply, None
        assert reply is not None, "the world has fetched no answer"
        return reply

    def close(self) -> None:
        """There is nothing to close."""


class Process(Client):
    """One process of a host."""

    def __init__(self, name: str, credential: str, clock: HostClock, database: Any, in_transaction: Any) -> None:
        Driver.__init__(self, GATEWAYS[credential], clock=clock)  # all but the sockets and the engine: those cost most
        self.name = name
        self.alive = True
        self.fetched = Fetched(in_transaction)
        self._wire = self.fetched
        self._database = database
        self._created = True
        self._lock = threading.Lock()
        self.last: Heard | None = None  # the answer that its connection brought last
        self.heard_at = -inf  # when any answer came

    @property
    def gateway(self) -> Stripe:
        return self._gateway  # type: ignore[return-value]

    def must_meet(self) -> bool:
        """Whether the account has to be asked for now."""
        return self._known(self._asked) is None


class Host:
    """A machine: a clock, and at most one process for each credential."""

    def __init__(self, name: str, true_time: Callable[[], float]) -> None:
        self.name = name
        self.clock = HostClock(true_time)
        self.processes: dict[str, Process] = {}
        self.started = 0
