"""Hosts and their processes: a clock that may be wrong, and the real client on it, with a wire that the world pulls.

A process is a real `Client`; only its sockets are replaced, by answers that the world has fetched for it, and its
database by the schedule's store. When it dies, nothing of it runs any more; the next call starts another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gateway_client import Client, Stripe
from gateway_client.driver import Driver
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.wire import Age

KEYS = {
    "ours": "sk_test_ours",
    "rotated": "sk_test_rotated",
    "restricted": "rk_test_ours",
    "other": "sk_test_other",
    "live": "sk_live_ours",
    "revoked": "sk_test_revoked",
}
GATEWAYS = {name: Stripe(key) for name, key in KEYS.items()}


class HostClock:
    """The clock of one machine: ahead of the true time by as much as it was set wrong."""

    def __init__(self, true_time: Callable[[], float]) -> None:
        self._true_time = true_time
        self.wrong_s = 0.0

    def time(self) -> float:
        return self._true_time() + self.wrong_s

    def monotonic(self) -> float:
        return self._true_time()

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
        self._wire = self.fetched  # type: ignore[assignment]
        self._database = database
        self._created = True
        self._lock = threading.Lock()

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
        self.dead: set[str] = set()  # names of holders of runs whose process has died here
