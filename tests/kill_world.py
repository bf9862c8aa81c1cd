"""A world to die in, for `test_kill_effects.py`: one clock, one provider, one database, and clients that die on time.

Nothing sleeps here. Every request passes `Door`, which checks rule 1 of the promise. Real processes: `kill_child.py`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import create_engine

from gateway_client import AsyncClient, Client, Money, NotNow, PaymentIntent, Sandbox, State, Stripe
from gateway_client.flow.effects import Effect
from gateway_client.tables import Base

T = TypeVar("T")

BOUNDS = Stripe.profile.bounds
START = 1_800_000_000.0
TIMEOUT_S = 30.0
ORDER = PaymentIntent("order_42", Money(1999, "usd"), "pm_card_visa")


class Killed(BaseException):
    """What SIGKILL is to a flow: nothing of it runs any more. The flow is pure, so nothing happens between effects."""


class Clock:
    """Moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def jitter(self) -> float:
        return 1.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.now += seconds


class Mortal(Client):
    """Dies before effect number `dies_at` (the first is 0), or right after an effect of the type `dies_after`."""

    dies_at: int | None = None
    dies_after: type[Effect[Any]] | None = None
    performed = 0

    def perform(self, effect: Effect[T]) -> T:
        if self.performed == self.dies_at:
            raise Killed
        self.performed += 1
        result = super().perform(effect)
        if self.dies_after is not None and isinstance(effect, self.dies_after):
            raise Killed
        return result


class MortalAsync(AsyncClient):
    """Dies before effect number `dies_at`, or has its task cancelled in the midst of it."""

    dies_at: int | None = None
    cancelled = False
    performed = 0

    async def perform(self, effect: Effect[T]) -> T:
        if self.performed == self.dies_at:
            task = asyncio.current_task()
            if not self.cancelled or task is None:
                raise Killed
            task.cancel()  # arrives where this effect first awaits
        self.performed += 1
        return await super().perform(effect)


class World:
    """The provider, the store and the time that outlive every process."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.path = folder / "kill.db"
        # One engine for all clients: what a process forgets when it dies is the client's, statements are compiled once.
        self.engine = create_engine(f"sqlite:///{self.path}")
        self.sandbox = Sandbox(time=self.clock.time)
        with self.client() as client:
            assert client.find(ORDER.intent_id) is None  # creates the file and its tables
        self.watcher = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        self.restart()

    def restart(self, fault: str | None = None, *, times: int = 1, on: str = "POST /v1/payment_intents") -> None:
        """An empty store, and a new provider whose next requests meet the fault."""
        tables = [table.name for table in reversed(Base.metadata.sorted_tables)]
        self.watcher.executescript("BEGIN;" + "".join(f"DELETE FROM {name};" for name in tables) + "COMMIT;")
        self.sandbox = Sandbox(time=self.clock.time)
        self.sandbox.slow_s = TIMEOUT_S + 1
        if fault is not None:
            self.sandbox.fault(fault, times=times, on=on)

    def close(self) -> None:
        self.watcher.close()
        self.engine.dispose()

    def client(self, dies_at: int | None = None, dies_after: type[Effect[Any]] | None = None) -> Mortal:
        """A new process, in effect."""
        gateway = Stripe(self.sandbox.api_key)
        client = Mortal(gateway, database=self.engine, transport=Door(self), clock=self.clock, timeout_s=TIMEOUT_S)
        client.dies_at, client.dies_after = dies_at, dies_after
        return client

    def kills(
        self,
        act: Callable[[Client], object],
        dies_at: int | None = None,
        *,
        dies_after: type[Effect[Any]] | None = None,
    ) -> bool:
        """Let a new process do something and die on the way; False when it came to its end first."""
        with self.client(dies_at, dies_after) as client:
            try:
                act(client)
            except Killed:
                return True
        return False

    def rows(self) -> list[tuple[str, int, str, str, str | None]]:
        """intent id, attempt, state, key and provider charge of every row."""
        query = "SELECT intent_id, attempt, state, idempotency_key, provider_charge_id FROM pending_charges"
        return self.watcher.execute(f"{query} ORDER BY created_at, intent_id, attempt").fetchall()

    def paid(self) -> dict[str, str]:
        """The provider's successful charges: our key → its id."""
        charges = [charge for charge in self.sandbox.charges if charge["status"] == "succeeded"]
        assert {name: n for name, n in self.sandbox.succeeded().items() if n > 1} == {}, "charged twice (S1)"
        return {charge["metadata"]["paycli_key"]: charge["id"] for charge in charges}

    def states(self) -> list[str]:
        """The state of every row, none of which contradicts the provider: no false success (S7), no false end (S8)."""
        rows, paid = self.rows(), self.paid()
        for intent_id, attempt, state, key, charge_id in rows:
            if not State(state).pending:
                assert (state, charge_id if state == "succeeded" else None) == (
                    "succeeded" if key in paid else state.replace("succeeded", "false success"),
                    paid.get(key),
                ), f"{intent_id} attempt {attempt} contradicts the provider"
        return [row[2] for row in rows]

    def truth(self) -> list[str]:
        """What every row must say once everything has come to light, by the provider's ledger alone."""
        paid, made = self.paid(), self.sandbox.payment_intents
        cancelled = {one["metadata"]["paycli_key"] for one in made if one["status"] == "canceled"}
        uncharged = ("canceled" if row[3] in cancelled else "absent" for row in self.rows())
        return ["succeeded" if row[3] in paid else state for row, state in zip(self.rows(), uncharged, strict=True)]


class Door(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The provider's door: what must be true of the store when a request passes is checked here (S2, S3, S5, S23)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._inside = world.sandbox.transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._check(request)
        request.extensions["timeout"] = {"read": 0.0}
        try:
            return self._inside.handle_request(request)
        except httpx.ReadTimeout:
            self._world.clock.sleep(TIMEOUT_S)  # what the client would have waited
            raise

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def _check(self, request: httpx.Request) -> None:
        watcher = self._world.watcher
        watcher.execute("BEGIN IMMEDIATE")  # fails at once when a transaction is open while HTTP runs (S23)
        try:
            if (request.method, request.url.path) == ("POST", "/v1/payment_intents"):
                query = (
                    "SELECT body, first_sent_at, (SELECT max(send_no) FROM paycli_sends AS s WHERE ended_at IS NULL "
                    "AND s.intent_id = c.intent_id AND s.attempt = c.attempt) "
                    "FROM pending_charges AS c WHERE idempotency_key = ?"
                )
                row = watcher.execute(query, (request.headers["Idempotency-Key"],)).fetchone()
                assert row is not None, "sent before its row was on disk (S2)"
                body, first_sent_at, send_no = row
                assert first_sent_at is not None, "sent before the time of its first send was on disk (S2)"
                assert send_no is not None, "sent before the send was on disk (S2)"
                assert request.read() == body.encode(), "other bytes than were frozen (S3)"
                now = datetime.fromtimestamp(self._world.clock.now, UTC)
                age = now - datetime.fromisoformat(first_sent_at).replace(tzinfo=UTC)
                assert timedelta(seconds=-1) <= age < BOUNDS.key_life, "sent outside the key's life (S5)"
        finally:
            watcher.execute("ROLLBACK")


def hours(length: timedelta) -> float:
    """A length in hours."""
    return length / timedelta(hours=1)


def proven(world: World, act: Callable[[], object]) -> list[str]:
    """The states after keys' lives are over and 500s rolled forward, and once more a quiet time after the closing."""
    later(world, hours(BOUNDS.key_life + BOUNDS.quiet_unproven), act)
    return later(world, hours(BOUNDS.quiet_unproven), act)


def later(world: World, passed_h: float, *acts: Callable[[], object]) -> list[str]:
    """The states after some hours, in which a living process did these things; what must wait may say so."""
    world.clock.sleep(passed_h * 3600)
    for act in acts:
        with suppress(NotNow):
            act()
    return world.states()
