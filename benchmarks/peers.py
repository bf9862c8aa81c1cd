"""Charge as others do: the official SDK alone, the pattern that is written by hand around it, and DBOS.

Each sends the same parameters as this library does, with an idempotency key. Only the pattern and DBOS keep anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import stripe
from sqlalchemy import Engine, event
from sqlmodel import Field, Session, SQLModel, create_engine

from benchmarks.load import NotCharged
from benchmarks.places import SQLITE, kind_of
from benchmarks.provider import API_KEY

CALLERS_MAX = 64


class Payment(SQLModel, table=True):
    """One payment, as a service that writes it by hand keeps it."""

    id: str = Field(primary_key=True)
    idempotency_key: str = Field(unique=True)
    amount: int
    currency: str
    status: str = Field(index=True)
    provider_id: str | None = Field(default=None, index=True)
    created_at: datetime = Field(index=True)
    updated_at: datetime


def sdk(provider: str, **options: Any) -> stripe.StripeClient:
    """Return a client of the SDK that retries nothing, so that each failure is seen."""
    return stripe.StripeClient(API_KEY, base_addresses={"api": provider}, max_network_retries=0, **options)


def _parameters(name: str) -> Any:
    return {
        "amount": 2000,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_card_visa",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "error_on_requires_action": True,
        "metadata": {"order": name, "key": name},
    }


def _checked(intent: stripe.PaymentIntent) -> str:
    if intent.status != "succeeded" or intent.amount != 2000:
        raise NotCharged(f"{intent.status} {intent.amount}")
    return intent.id


def _charge(client: stripe.StripeClient, name: str) -> str:
    return _checked(client.v1.payment_intents.create(_parameters(name), {"idempotency_key": name}))


@contextmanager
def open_sdk(provider: str, database: None) -> Iterator[Callable[[str], None]]:
    """Open the SDK, which keeps nothing: the base of all ratios."""
    client = sdk(provider)

    def call(name: str) -> None:
        _charge(client, name)

    yield call


@asynccontextmanager
async def open_sdk_async(provider: str, database: None) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Open the SDK on aiohttp."""
    transport = stripe.AIOHTTPClient()
    client = sdk(provider, http_client=transport)

    async def call(name: str) -> None:
        _checked(await client.v1.payment_intents.create_async(_parameters(name), {"idempotency_key": name}))

    try:
        yield call
    finally:
        await transport.close_async()  # type: ignore[no-untyped-call]


def durable_engine(database: str) -> Engine:
    """Return an engine for CALLERS_MAX threads, with a file's commits synced."""
    of_file = kind_of(database) == SQLITE
    options: dict[str, Any] = {"connect_args": {"timeout": 30}} if of_file else {}
    engine = create_engine(database, pool_size=CALLERS_MAX, **options)
    if of_file:
        event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def open_pattern(provider: str, database: str) -> Iterator[Callable[[str], None]]:
    """Insert a pending row, call the SDK, update the row: two commits, and nothing that finishes what was cut off."""
    client, engine = sdk(provider), durable_engine(database)
    SQLModel.metadata.create_all(engine)

    def call(name: str) -> None:
        now = datetime.now(UTC)
        with Session(engine) as session:
            payment = Payment(
                id=name,
                idempotency_key=name,
                amount=2000,
                currency="usd",
                status="pending",
                created_at=now,
                updated_at=now,
            )
            session.add(payment)
            session.commit()
        provider_id = _charge(client, name)
        with Session(engine) as session:
            found = session.get(Payment, name)
            assert found is not None
            found.status, found.provider_id, found.updated_at = "succeeded", provider_id, datetime.now(UTC)
            session.add(found)
            session.commit()

    try:
        yield call
    finally:
        engine.dispose()


@contextmanager
def open_dbos(provider: str, database: str) -> Iterator[Callable[[str], None]]:
    """Run a durable workflow of one step, with the settings that DBOS comes with."""
    from dbos import DBOS, SetWorkflowID

    client = sdk(provider)
    DBOS(config={"name": "bench", "system_database_url": database, "log_level": "ERROR"})

    @DBOS.step()  # type: ignore[untyped-decorator,unused-ignore]
    def send(name: str) -> str:
        return _charge(client, name)

    @DBOS.workflow()  # type: ignore[untyped-decorator,unused-ignore]
    def pay(name: str) -> str:
        found: str = send(name)
        return found

    def call(name: str) -> None:
        with SetWorkflowID(name):
            pay(name)

    DBOS.launch()
    try:
        yield call
    finally:
        DBOS.destroy()
