"""What tests of the nightly run share: a world with a reconciler in it, and hands on both ledgers.

Nothing here sleeps, listens or leaves the process; what is expected is told in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any, cast

import reconcile
from gateway_client import Charge, Client, PaymentIntent, State, Stripe
from gateway_client.finding import Finding
from gateway_client.flow.effects import Bind
from gateway_client.store.claim import bind
from gateway_client.tables import Base
from reconcile.throttle import WINDOWS
from tests.kit import USD_20, World

Codes = set[tuple[str, str]]

BOUNDS = Stripe.profile.bounds
SECOND = timedelta(seconds=1)


class Night(World):
    """One provider, one store, one clock, and the nightly run."""

    made_at: datetime | None = None  # of the store; None: when it really was
    rate = 10_000.0  # so that no wait for a request's turn moves the clock
    windows = WINDOWS

    def __init__(self, kind: str = "sync") -> None:
        super().__init__(kind)

    def run(self, day: date | None = None, tz: str = "UTC", dry_run: bool = False) -> reconcile.RunResult:
        """Reconcile a day (None: today), as a new process."""
        client = cast("Client", self.open_client())
        if self.made_at is not None:
            binding = self.binding
            self.transact(lambda tx: bind(tx, Bind(binding)))
            self.sql("UPDATE paycli_store SET created_at = ?", (self.made_at.strftime("%Y-%m-%d %H:%M:%S.%f"),))
        return reconcile.run(client, day or self.today, tz, dry_run, rate=self.rate, windows=self.windows)

    @property
    def today(self) -> date:
        """The day of the provider's clock, UTC."""
        return self.clock.now.date()

    def later(self, length: timedelta) -> None:
        """Let so much time go by."""
        self.clock.advance(seconds=length.total_seconds())

    def end_leases(self) -> None:
        """The lease of a run that was killed is over, by whatever clock."""
        self.sql("UPDATE paycli_runs SET leased_until = started_at WHERE ended_at IS NULL")

    def pay(self, intent_id: str, payment_method: str = "pm_card_visa", *, attempt: int | None = None) -> Charge:
        """Charge an intent of 20 USD as the library does."""
        return self.open_client().charge(PaymentIntent(intent_id, USD_20, payment_method), attempt=attempt)

    def doubt(self, intent_id: str, fault: str = "lost_reply", payment_method: str = "pm_card_visa") -> None:
        """Charge an intent and be left in doubt: `lost_reply` has charged, `lost_request` has not."""
        self.lose(fault, intent=PaymentIntent(intent_id, USD_20, payment_method))
        assert self.state(intent_id) is State.UNKNOWN

    def give_up(self, intent_id: str) -> None:
        """Give a charge in doubt up: no send of it can begin from now on, and that is known."""
        assert self.open_client().cancel(intent_id, because="the customer left").state is State.UNKNOWN
        assert self.row(intent_id)["quiet_from"] is not None

    def claims(self, intent_id: str, attempt: int = 1, **changes: str) -> dict[str, str]:
        """The metadata that a charge of ours carries; `changes` of it (namespace, intent, attempt, key)."""
        ours = {
            "namespace": "default",
            "intent": intent_id,
            "attempt": str(attempt),
            "key": self.binding.key("charge", intent_id, attempt),
        }
        return {f"paycli_{name}": value for name, value in {**ours, **changes}.items()}

    def pay_behind_our_back(self, intent_id: str, attempt: int = 1, amount: int = 2000, **changes: str) -> None:
        """A success with our metadata that this store knows nothing of."""
        self.stranger_pays(amount, metadata=self.claims(intent_id, attempt, **changes))

    def change(self, intent_id: str, **fields: Any) -> None:
        """Change the provider's charge of our attempt 1, and nothing else."""
        self.sandbox.change(self.row(intent_id)["provider_charge_id"], **fields)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, in a stable order."""
        names = list(Base.metadata.tables)
        return {name: sorted(self.sql(f'SELECT * FROM "{name}"'), key=repr) for name in names}


DATABASES = ("sync", "sync, postgresql")


@contextmanager
def night(kind: str = "sync") -> Iterator[Night]:
    """A night, cleared away afterwards."""
    with Night(kind) as made:
        yield made


def codes(result: reconcile.RunResult) -> Codes:
    """What a run found, as (code, intent)."""
    return {(finding.code.value, finding.intent_id) for finding in result.findings}


def only(result: reconcile.RunResult) -> Finding:
    """The one finding of a run."""
    (finding,) = result.findings
    return finding
