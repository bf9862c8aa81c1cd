"""The provider's door: what must be on disk when a send arrives is checked here, and fresh processes are ended here."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from gateway_client import Sandbox
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.wire import Answer, Request
from tests.kills.store import Store

SEND = ("POST", "/v1/payment_intents")
NEVER_EXECUTED = "rate_limited_429"  # after which the time of the first send may be forgotten
CLOCKS_APART_S = 0.002  # the store's times are what a process makes of the provider's, which is of this machine, too


class Door:
    """Between the port and the sandbox."""

    def __init__(self, sandbox: Sandbox, store: Store) -> None:
        self._sandbox, self._store = sandbox, store
        self._lock = threading.Lock()
        self._arrived: Counter[str] = Counter()
        self._first: dict[str, float] = {}
        self._wrong: list[str] = []
        self.asked: Callable[[], None] | None = None
        """Called with every request that arrives, before it is carried out."""

    def begin(self, request: Request) -> Exchange:
        if self.asked is not None:
            self.asked()
        if (request.method, request.path) != SEND:
            return self._sandbox.begin(request)
        key = request.idempotency_key or ""
        with self._lock:
            try:
                self._check(request, key)
            except Exception as problem:  # in a thread of the server it would only break the connection
                self._wrong.append(f"the store could not be looked at: {problem!r}")
            exchange = self._sandbox.begin(request)
            if exchange.fault != NEVER_EXECUTED:
                self._first.setdefault(key, self._sandbox.clock.now())
        return exchange

    def told(self) -> list[str]:
        """What did not hold since it was last asked."""
        with self._lock:
            wrong, self._wrong = self._wrong, []
        return wrong

    def finish(self, exchange: Exchange) -> Answer:
        return self._sandbox.finish(exchange)

    def _check(self, request: Request, key: str) -> None:
        """The row, the time of its first send and this very send are on disk; its bytes are those that were frozen."""
        now = self._sandbox.clock.now()
        self._arrived[key] += 1
        first = self._first.get(key, now)
        found = self._store.sent(key)
        if found is None:
            self._wrong.append(f"S2: {key} was sent before its row was on disk")
            return
        body, first_sent_at, begun = found
        if first_sent_at is None:
            self._wrong.append(f"S2: {key} was sent before the time of its first send was on disk")
        elif _seconds(first_sent_at) > first + CLOCKS_APART_S:
            self._wrong.append(
                f"S5: {key} was sent first {_seconds(first_sent_at) - first:.3f} s before the store says"
            )
        if begun < self._arrived[key]:
            self._wrong.append(f"S2: {key} arrived {self._arrived[key]} times, and {begun} sends are on disk")
        if body.encode() != request.body:
            self._wrong.append(f"S3: {key} was sent with other bytes than were frozen")
        if now - first >= self._sandbox.key_life_s:
            self._wrong.append(f"S5: {key} was sent {now - first:.0f} s after it was sent first")


def _seconds(stored: str) -> float:
    """A time of the store, since 1970."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC).timestamp()
