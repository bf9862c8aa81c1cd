"""Charge with this library, through its public names only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks.load import NotCharged
from benchmarks.provider import API_KEY
from gateway_client import AsyncClient, Charge, Client, Money, PaymentIntent, State, Stripe

METHOD = "pm_card_visa"


def intent_of(name: str, amount: int = 2000) -> PaymentIntent:
    """Return a new intent."""
    return PaymentIntent(name, Money(amount, "usd"), METHOD)


@contextmanager
def open_client(provider: str, database: str) -> Iterator[Callable[[str], None]]:
    """Open a Client, as a billing service does."""
    with Client(Stripe(API_KEY, api_base=provider), database=database) as client:
        yield lambda name: _check(client.charge(intent_of(name)))


@asynccontextmanager
async def open_async_client(provider: str, database: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Open an AsyncClient, as a billing service does."""
    async with AsyncClient(Stripe(API_KEY, api_base=provider), database=database) as client:

        async def call(name: str) -> None:
            _check(await client.charge(intent_of(name)))

        yield call


def _check(charge: Charge) -> None:
    if charge.state is not State.SUCCEEDED:
        raise NotCharged(f"{charge.state}: {charge.reason}")
