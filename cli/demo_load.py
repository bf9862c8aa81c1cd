"""What the demo charges, and how: the same intents and the same code for the parent and for the process it kills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from gateway_client import Charge, Client, Money, PaymentIntent, RetryPolicy, Stripe
from gateway_client.clock import Clock

NAMESPACE = "demo"
TIMEOUT_S = 10.0
RETRY = RetryPolicy(sends_max=3, delay_s_first=0.02, delay_s_max=0.1, in_flight_s_max=3.0)
"""Short, so that nobody waits; a service keeps the defaults."""

# Of twenty customers, three have a card that is declined.
_CARDS = {
    6: "pm_card_visa_chargeDeclinedInsufficientFunds",
    13: "pm_card_chargeDeclined",
    16: "pm_card_visa_chargeDeclinedStolenCard",
}


def intents(count: int) -> list[PaymentIntent]:
    """The same intents in every run."""
    return [
        PaymentIntent(
            f"order_{number:03}",
            Money(500 + number * 7919 % 9500, "usd"),
            _CARDS.get(number % 20, "pm_card_visa"),
            description="a demonstration: no money moves",
        )
        for number in range(1, count + 1)
    ]


def client(gateway: Stripe, database_url: str, clock: Clock | None = None, retry: RetryPolicy = RETRY) -> Client:
    """A client of the demo's provider and database."""
    return Client(gateway, database=database_url, namespace=NAMESPACE, timeout_s=TIMEOUT_S, retry=retry, clock=clock)


def charge_all(opened: Client, wanted: Sequence[PaymentIntent], at_once: int, told: Callable[[Charge], None]) -> None:
    """Charge all, a few at once. What becomes of each is on disk, and told."""
    pool = ThreadPoolExecutor(at_once)
    try:
        for charge in pool.map(opened.charge, wanted):
            told(charge)
    finally:
        pool.shutdown(cancel_futures=True)
