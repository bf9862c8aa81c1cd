"""A small world for tests of the charging half: a clock that nobody waits for, intents, a client on a sandbox."""

from pathlib import Path
from typing import Any

from gateway_client import AsyncClient, Client, Money, PaymentIntent, Sandbox, Stripe
from gateway_client.gateways.base import Binding

API_KEY = "sk_test_CanaryOfTheCoalMine4242"
BINDING = Binding("stripe", "test", "acct_1SandboxCharge0nce", "default")
START = 1_800_000_000.0


class StillClock:
    """Time that passes only by sleeping or by hand."""

    def __init__(self, now: float = START) -> None:
        self.now = now

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


def intent_of(intent_id: str = "order_42", amount: int = 1999, **changes: Any) -> PaymentIntent:
    """An intent that the sandbox's visa card pays."""
    return PaymentIntent(intent_id, Money(amount, "usd"), changes.pop("payment_method", "pm_card_visa"), **changes)


def full_intent(intent_id: str = "order_42") -> PaymentIntent:
    """An intent with every optional field."""
    return intent_of(
        intent_id,
        customer="cus_9",
        off_session=True,
        description="Zwei Bücher & ein Stift = 19,99 €",
        receipt_email="jenny@example.com",
        statement_descriptor_suffix="BOOKS",
        metadata={"order": "42", "naïve + key": "a&b=c;d %20 ~\ttab", "emoji": "💳"},
    )


def database_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'charges.db'}"


def sandbox_of(clock: StillClock) -> Sandbox:
    return Sandbox(time=clock.time)


def client_of(sandbox: Sandbox, clock: StillClock, database: Any, **changes: Any) -> Client:
    """A client in process: no socket and no waiting. `transport=None` gives it the real one."""
    arguments = {"transport": sandbox.transport(), **changes}
    return Client(Stripe(API_KEY), database=database, clock=clock, **arguments)


def async_client_of(sandbox: Sandbox, clock: StillClock, database: Any, **changes: Any) -> AsyncClient:
    """The same, on a loop."""
    arguments = {"transport": sandbox.async_transport(), **changes}
    return AsyncClient(Stripe(API_KEY), database=database, clock=clock, **arguments)


def posts(sandbox: Sandbox) -> int:
    """How many requests that could move money arrived."""
    return sum(request.method == "POST" for request in sandbox.requests)
