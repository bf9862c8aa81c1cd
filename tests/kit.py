"""What tests of the charging story share: a clock that only moves when told, and a world of one provider and one store.

Nothing here sleeps, listens or leaves the process; what is expected of the story is told in the tests.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway_client import AsyncClient, Client, Money, PaymentIntent, RetryPolicy, Sandbox, State, Stripe, store
from gateway_client.db import Database
from gateway_client.flow.effects import DatabaseEffect, ReadBinding
from gateway_client.frozen import Frozen
from gateway_client.gateways.base import Binding
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.sandbox.wire import Recorded
from gateway_client.store.claim import read_binding
from gateway_client.tables import Base, PendingCharge
from gateway_client.transaction import Transaction
from tests import postgres
from tests.kit_clients import AnyClient, Awaited, with_own_socket

T = TypeVar("T")

KINDS = ("sync", "async", "sync, postgresql", "async, postgresql")
"""Clients and databases: what is promised holds for each."""

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
USD_20 = Money(2000, "usd")
ORDER = PaymentIntent("order_42", USD_20, "pm_card_visa")
DECLINED = PaymentIntent("order_42", USD_20, "pm_card_chargeDeclined")
BOUNDS = PROFILE.bounds
ONE_SEND = RetryPolicy(sends_max=1)
"""A call that makes one send and leaves the rest to the next call."""

Hook = Callable[[httpx.Request], httpx.Response | None]


class FakeClock:
    """A machine's clock (gateway_client.clock.Clock): moves only when told, or when somebody waits; may be wrong."""

    def __init__(self, now: datetime = START) -> None:
        self._true_s = now.timestamp()
        self._monotonic_s = 0.0
        self.wrong_s = 0.0  # how far this machine's clock is ahead of the true time
        self.slept_s: list[float] = []

    def true_time(self) -> float:
        """For `Sandbox(time=…)`: the provider's clock is right."""
        return self._true_s

    def time(self) -> float:
        return self._true_s + self.wrong_s

    def monotonic(self) -> float:
        return self._monotonic_s

    def jitter(self) -> float:
        return 1.0

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.advance(seconds=seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def advance(
        self, passed: timedelta = timedelta(0), *, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Time goes by, here and at the provider."""
        passed_s = (passed + timedelta(hours=hours, minutes=minutes, seconds=seconds)).total_seconds()
        self._true_s += passed_s
        self._monotonic_s += passed_s

    def pause(self, *, hours: float = 0, seconds: float = 0) -> None:
        """The machine stands still, as a paused virtual machine does: the provider's time goes on, both clocks stop."""
        passed_s = timedelta(hours=hours, seconds=seconds).total_seconds()
        self._true_s += passed_s
        self.wrong_s -= passed_s  # until somebody sets it right

    @property
    def now(self) -> datetime:
        """The true time."""
        return datetime.fromtimestamp(self._true_s, UTC)


class Killed(BaseException):
    """What a SIGKILL is to a call: nothing of it runs any more."""


@functools.cache
def _file() -> Path:
    """One file for all worlds of a run, one after the other: tables are made once, statements are compiled once."""
    folder = tempfile.mkdtemp(prefix="charge-once-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / "store.db"


@functools.cache
def _engines(postgresql: bool) -> tuple[Engine, AsyncEngine]:
    """The engines of both clients, of one database for all worlds of a run."""
    if postgresql:
        url = postgres.fresh_database()
        options = {"connect_args": {"prepare_threshold": None}}
        return create_engine(url, **options), create_async_engine(url, **options)
    engine = create_engine(f"sqlite:///{_file()}")
    Database(engine).create()
    return engine, create_async_engine(f"sqlite+aiosqlite:///{_file()}")


class World:
    """One provider, one store, one clock, and what any number of processes (clients) do with them."""

    def __init__(self, kind: str = "sync") -> None:
        self.kind = kind
        self.clock = FakeClock()
        self.sandbox = Sandbox(time=self.clock.true_time)
        self._postgresql = "postgresql" in kind
        self._engine, self._async_engine = _engines(self._postgresql)
        self.path = _file()  # of a store that is SQLite
        self.url = postgres.shown(self._engine.url)  # of either
        with self._engine.begin() as connection:
            for emptied in reversed(Base.metadata.sorted_tables):
                connection.execute(emptied.delete())
        self.hooks: list[Hook] = []
        """Looked at before the provider: the first that answers (or raises) is what the client sees."""
        self._clients: list[AnyClient] = []
        self._runner = asyncio.Runner() if kind.startswith("async") else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for client in self._clients:
            client.close()
        self._engine.dispose()
        if self._runner is not None:
            self._runner.run(self._async_engine.dispose())
            self._runner.close()

    def open_client(
        self,
        api_key: str = Sandbox.api_key,
        *,
        account: str | None = None,
        namespace: str = "default",
        retry: RetryPolicy | None = None,
        provider: Sandbox | None = None,
        sync: type[Client] = Client,
        seal_secret: str | None = None,
        stripe: type[Stripe] = Stripe,
    ) -> AnyClient:
        """A new process, in effect; `provider` is another than ours."""
        gateway = stripe(api_key, account=account)
        inside = (provider or self.sandbox).transport()

        def handle(request: httpx.Request) -> httpx.Response:
            for hook in self.hooks:
                response = hook(request)
                if response is not None:
                    return response
            return inside.handle_request(request)

        door = httpx.MockTransport(handle)  # a plain function serves both kinds of client
        if self._runner is None:
            blocking = sync(
                gateway,
                database=self._engine,
                namespace=namespace,
                retry=retry,
                transport=door,
                clock=self.clock,
                seal_secret=seal_secret,
            )
            with_own_socket(blocking)
            client: AnyClient = blocking
        else:
            asynchronous = AsyncClient(
                gateway,
                database=self._async_engine,
                namespace=namespace,
                retry=retry,
                transport=door,
                clock=self.clock,
                seal_secret=seal_secret,
            )
            with_own_socket(asynchronous)
            client = Awaited(asynchronous, self._runner)
        self._clients.append(client)
        return client

    # --- what went over the wire

    @property
    def sends(self) -> list[Recorded]:
        """The create calls that reached the provider."""
        return [sent for sent in self.sandbox.requests if (sent.method, sent.path) == ("POST", "/v1/payment_intents")]

    @property
    def asked(self) -> list[str]:
        """Every request that reached the provider, as "METHOD /path"."""
        return [f"{sent.method} {sent.path}" for sent in self.sandbox.requests]

    def paid(self, intent_id: str = ORDER.intent_id) -> int:
        """How often the provider charged for an intent."""
        return self.sandbox.succeeded()[intent_id]

    def post(self, path: str, form: dict[str, str]) -> httpx.Response:
        """Somebody else's request with the same account."""
        with httpx.Client(transport=self.sandbox.transport(), base_url="https://api.stripe.com") as other:
            return other.post(path, data=form, headers={"Authorization": f"Bearer {Sandbox.api_key}"})

    def stranger_pays(self, amount: int = 2000, currency: str = "usd", metadata: dict[str, str] | None = None) -> None:
        """A success in the same account that this library did not make."""
        form = {
            "amount": str(amount),
            "currency": currency,
            "confirm": "true",
            "payment_method": "pm_card_visa",
            "automatic_payment_methods[enabled]": "true",
            "automatic_payment_methods[allow_redirects]": "never",
            **{f"metadata[{name}]": value for name, value in (metadata or {}).items()},
        }
        assert self.post("/v1/payment_intents", form).status_code == 200

    def answer(
        self,
        status: int,
        body: object = None,
        *,
        on: tuple[str, str] = ("POST", "/v1/payment_intents"),
        times: int = 1,
        headers: dict[str, str] | None = None,
        echo: bool = False,
    ) -> list[httpx.Request]:
        """The next `times` requests of that method and path get this answer, unseen by the provider; the requests.

        With `echo` it names the request's key, as the provider's own answers do.
        """
        caught: list[httpx.Request] = []

        def hook(request: httpx.Request) -> httpx.Response | None:
            if len(caught) == times or (request.method, request.url.path) != on:
                return None
            caught.append(request)
            more = {"Date": formatdate(self.clock.true_time(), usegmt=True), **(headers or {})}
            if echo:
                more["Idempotency-Key"] = request.headers["Idempotency-Key"]
            if isinstance(body, bytes):
                return httpx.Response(status, content=body, headers=more)
            return httpx.Response(status, json=body, headers=more)

        self.hooks.append(hook)
        return caught

    def lose(self, fault: str = "lost_request", *, times: int = 1, intent: PaymentIntent = ORDER) -> None:
        """Charge, and be left in doubt by this fault of the provider; `told_429` is its own refusal, by the key.

        After that the roll-forward of a 500 need not be waited for.
        """
        if fault == "told_429":
            self.answer(429, {"error": {"type": "invalid_request_error", "code": "rate_limit"}}, times=times, echo=True)
        else:
            self.sandbox.fault(fault, times=times)
        for _ in range(times):
            assert self.open_client(retry=ONE_SEND).charge(intent).state is State.UNKNOWN

    def close_and_wait(self) -> None:
        """Close what is in doubt by the end of its key's life; then wait: the next look-up may prove it absent."""
        self.clock.advance(BOUNDS.key_life)
        self.open_client(retry=ONE_SEND).resume()
        self.clock.advance(BOUNDS.quiet_unproven)

    def kill_at(self, method: str, path: str, *, executed: bool = False) -> None:
        """The process dies at its next such request: before it leaves, or when it was `executed`."""
        armed = [True]

        def hook(request: httpx.Request) -> httpx.Response | None:
            if armed and (request.method, request.url.path) == (method, path):
                armed.clear()
                if executed:
                    self.sandbox.transport().handle_request(request)
                raise Killed
            return None

        self.hooks.append(hook)

    # --- what is on disk

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A hand on the database: what another process, an operator or a bug may have done to it."""
        if self._postgresql:
            return postgres.sql(self._engine, statement, values)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, tuple(values)).fetchall()

    @property
    def binding(self) -> Binding:
        """Whom the store of this world belongs to, or will when it is bound."""
        return self.transact(lambda tx: read_binding(tx, ReadBinding())) or Binding(
            "stripe", "test", self.sandbox.account, "default"
        )

    def perform(self, effect: DatabaseEffect[T]) -> T:
        """One database effect at the true time, as a driver would do it."""
        return self.transact(lambda tx: store.perform(tx, effect))

    def altered(self, frozen: Frozen, seal: str | None) -> str | None:
        """What a client without a secret asks of a row at the gate."""
        return Stripe(Sandbox.api_key).altered(frozen, Binding("stripe", "test", self.sandbox.account, "default"))

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """One transaction of the store's."""
        return Database(self._engine).transact(work, time=lambda: self.clock.now)

    def row(self, intent_id: str = ORDER.intent_id, attempt: int = 1) -> dict[str, Any]:
        """The row of an attempt as it is on disk."""
        names = list(PendingCharge.model_fields)
        rows = self.sql(
            f"SELECT {', '.join(names)} FROM pending_charges WHERE intent_id = ? AND attempt = ?", (intent_id, attempt)
        )
        return dict(zip(names, rows[0], strict=True))

    def state(self, intent_id: str = ORDER.intent_id, attempt: int = 1) -> State:
        return State(self.row(intent_id, attempt)["state"])

    def open_finding(self, intent_id: str = ORDER.intent_id, *, attempt: int = 1, charged: bool = False) -> None:
        """What the nightly run writes when the provider contradicts us; `charged`: it has taken money by that."""
        self.sql(
            "INSERT INTO paycli_findings "
            "(id, code, operation, intent_id, attempt, action, here, there, detail, charged, found_at) "
            "VALUES (?, 'status_mismatch', 'charge', ?, ?, 'flagged', 'declined', 'succeeded', 'planted.', ?, ?)",
            (f"finding-{intent_id}", intent_id, attempt, charged, "2026-11-20 12:00:00.000000"),
        )
