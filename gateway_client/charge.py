"""Charge: the frozen snapshot of one attempt that callers get, and the JSON line that programs read.

The row behind it is in `tables.py`; how it changes is in `state.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway_client.errors import ChargePending, ChargeRefused
from gateway_client.money import Money
from gateway_client.state import CHARGE, LAWS, MEANING, State

Place = tuple[datetime, str, str, int]
"""Where an attempt stands in the order of what is pending: when it was made, its intent, its operation, its number."""

EVER = datetime.min.replace(tzinfo=UTC)  # no moment is before it
HELD_MAX = timedelta(hours=2)  # no lease and no back-off is longer: what ends later is of a clock that was ahead


@dataclass(frozen=True, slots=True)
class Charge:
    """Our record of one attempt, as it was when it was read. Times are aware, UTC; the amount is in minor units."""

    intent_id: str
    attempt: int
    state: State
    idempotency_key: str
    amount: int
    currency: str
    provider_intent_id: str | None
    provider_charge_id: str | None
    sends: int
    created_at: datetime
    first_sent_at: datetime | None
    settled_at: datetime | None
    reason: str | None
    closed_at: datetime | None = None  # BeginSend refuses it from now on
    quiet_from: datetime | None = None  # the provider's time, asked for, from which no send of it can have begun
    last_sent_at: datetime | None = None  # of the sends that left, or may have
    last_ended_at: datetime | None = None  # the latest answer, or the end of waiting for one
    customer: str | None = None
    payment_method: str | None = None  # None: not known of an imported attempt
    not_after: datetime | None = None  # the latest moment at which it may first be sent
    unproven: bool = False  # a send left, and no result of it is proven: no answer, a 5xx, a box's page
    leased_by: str | None = None  # the worker that is at it, or whose lease was never given back
    leased_until: datetime | None = None  # workers take it from then on, whatever became of that one
    resume_at: datetime | None = None  # workers leave it alone until then
    operation: str = CHARGE
    parent_id: str | None = None  # the intent of the charge that it acts upon; None: it is a charge itself

    @property
    def place(self) -> Place:
        """Where it stands in the order of what is pending."""
        return self.created_at, self.intent_id, self.operation, self.attempt

    @property
    def payment_id(self) -> str:
        """The intent of its payment, its own or its parent's: decisions about it are locked by that."""
        return self.parent_id or self.intent_id

    @property
    def money(self) -> Money:
        """The amount with its currency."""
        return Money(self.amount, self.currency)

    @property
    def pending(self) -> bool:
        """True while it is moving or in doubt: `resume`, a worker or the nightly run finishes it."""
        return self.state.pending

    @property
    def final(self) -> bool:
        """True when the result is proven and nothing can change it any more."""
        return LAWS[self.operation].final(self.state)

    def raise_for_state(self) -> Charge:
        """Return itself when succeeded, else raise ChargeRefused (final) or ChargePending (not failed)."""
        if self.state is State.SUCCEEDED:
            return self
        why = f"{self.intent_id} attempt {self.attempt} is {self.state}: {self.reason or MEANING[self.state]}"
        if not self.pending:
            raise ChargeRefused(f"{why}. No charge by it is known; charge(..., attempt={self.attempt + 1}) tries anew.")
        raise ChargePending(f"{why}. It has not failed: resume finishes it.")

    def as_json(self) -> dict[str, str | int | None]:
        """The fields that programs may rely on, in their order."""
        return {
            "intent_id": self.intent_id,
            "attempt": self.attempt,
            "state": self.state.value,
            "idempotency_key": self.idempotency_key,
            "amount": self.amount,
            "currency": self.currency,
            "provider_intent_id": self.provider_intent_id,
            "provider_charge_id": self.provider_charge_id,
            "sends": self.sends,
            "created_at": iso(self.created_at),
            "not_after": iso(self.not_after),
            "first_sent_at": iso(self.first_sent_at),
            "settled_at": iso(self.settled_at),
            "leased_by": self.leased_by,
            "leased_until": iso(self.leased_until),
            "resume_at": iso(self.resume_at),
            "reason": self.reason,
        }


def iso(moment: datetime | None) -> str | None:
    """ISO 8601, UTC, ending in Z, with milliseconds."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(passed: timedelta) -> str:
    """How long ago, in its two largest units: "2d 3h"."""
    seconds = max(0, int(passed.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds % 60}s" if minutes else f"{seconds}s"
