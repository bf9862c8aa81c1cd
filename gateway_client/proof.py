"""What an object of the provider proves for an operation of ours: the one place where the two are compared. Pure.

A gateway puts the object into our words (`Item`); whoever asks says what it must be (`Expected`). What may be done with
what is proven is in `evidence.py`, what it does to a state in `state.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from gateway_client.charge import Charge
from gateway_client.outcome import (
    Canceled,
    Conflict,
    Declined,
    Outcome,
    Processing,
    RequiresAction,
    Succeeded,
    Unknown,
)


class Kind(StrEnum):
    """What an object of the provider is: the intent to charge, or one try to carry it out."""

    INTENT = "intent"
    CHARGE = "charge"


class Shown(StrEnum):
    """What an object shows of its payment."""

    SUCCEEDED = "succeeded"  # the money was taken
    AUTHORIZED = "authorized"  # it is held, not taken: we never ask for that, so somebody else's hand is in it
    PROCESSING = "processing"  # accepted; the result comes later
    REQUIRES_ACTION = "requires_action"  # the customer must act at the bank
    CANCELED = "canceled"  # it will never charge
    DECLINED = "declined"  # tried, and refused
    FAILED_TRY = "failed_try"  # one try was refused: what became of its intent, the intent says
    UNCHARGED = "uncharged"  # it waits, and nobody tries to charge it
    UNKNOWN = "unknown"  # a word that the gateway does not know


CHARGED = (Shown.SUCCEEDED, Shown.AUTHORIZED)
"""Money was taken: what is only authorized counts, for it may be captured at any time."""

_MOVED = (*CHARGED, Shown.PROCESSING)


@dataclass(frozen=True, slots=True)
class Item:
    """One object of the provider in our words, made harmless: all that is compared with what was expected."""

    object_id: str  # "" when the provider's is unusable
    kind: Kind
    created_at: datetime | None
    shows: Shown
    status: str  # the same in the provider's word: for people, never compared
    amount: int | None
    amount_received: int | None
    currency: str | None
    live: bool | None
    reason: str | None  # why it was refused; None when it was not
    provider_intent_id: str | None
    provider_charge_id: str | None
    customer: str | None
    payment_method: str | None
    named: bool  # it carries metadata under our names; the next four are what it claims
    namespace: str | None
    intent_id: str | None
    attempt: int | None
    key: str | None

    @property
    def moved(self) -> bool:
        """True when the money moved, or may be about to."""
        return self.shows in _MOVED

    @property
    def charged(self) -> bool:
        """True when money was taken, or is held."""
        return self.shows in CHARGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an object must say to prove something for one operation. None is not compared: something else tells it."""

    live: bool
    key: str | None
    amount: int | None
    currency: str | None
    provider_intent_id: str | None = None  # as known so far

    @classmethod
    def of(cls, charge: Charge, *, live: bool) -> Expected:
        """Return all that a charge of ours asked for."""
        return cls(
            live=live,
            key=charge.idempotency_key,
            amount=charge.amount,
            currency=charge.currency,
            provider_intent_id=charge.provider_intent_id,
        )


def mismatch(expected: Expected, seen: Item) -> Conflict | None:
    """How an object differs from what was expected, or None."""
    ids = seen.provider_intent_id, seen.provider_charge_id
    if expected.key not in (None, seen.key) and not _stripped(expected, seen):
        return Conflict("the answer carries another key than ours in its metadata", *ids)
    if seen.live not in (None, expected.live):
        return Conflict("the answer is of the other mode (live or test)", *ids)
    amount, currency, received = expected.amount, expected.currency, seen.amount_received
    if amount not in (None, seen.amount):
        return Conflict(f"the answer's amount is {seen.amount}, ours is {amount}", *ids, "amount")
    if currency not in (None, seen.currency):
        return Conflict(f"the answer's currency is {seen.currency}, ours is {currency}", *ids, "currency")
    if seen.shows is Shown.SUCCEEDED and received is not None and amount not in (None, received):
        return Conflict(f"received {received}, asked {amount}", *ids, "amount")
    return None


def _stripped(expected: Expected, seen: Item) -> bool:
    """Whether it lost its metadata, which anybody can strip, and is of the very intent that we know."""
    known = expected.provider_intent_id
    return not seen.named and known is not None and known == seen.provider_intent_id


def prove(expected: Expected, seen: Item) -> Outcome:  # noqa: PLR0911 - one word a line
    """What an object proves for an operation of ours. A difference from what was expected is never a success."""
    if not seen.object_id:
        return Unknown(f"a {seen.kind} without a usable id")
    differs = mismatch(expected, seen)
    if differs is not None:
        return differs
    ids = seen.provider_intent_id, seen.provider_charge_id
    match seen.shows:
        case Shown.SUCCEEDED:
            return Succeeded(*ids)
        case Shown.AUTHORIZED:
            return Processing(f"authorized, not captured ({seen.status})", *ids)
        case Shown.PROCESSING:
            return Processing("the provider is processing it", *ids)
        case Shown.REQUIRES_ACTION:
            return RequiresAction("the bank asks for the customer", *ids)
        case Shown.CANCELED:
            return Canceled("cancelled at the provider", *ids)
        case Shown.DECLINED:
            return Declined(seen.reason or "declined", *ids)
        case Shown.FAILED_TRY:
            return Unknown(f"the provider's charge is {seen.status}", seen.provider_intent_id)
        case Shown.UNCHARGED:
            words = "the provider's intent exists, uncharged; it is cancelled there when no 500 can charge it any more"
            return Unknown(f"{words}, or at once by `paycli cancel`", seen.provider_intent_id, uncharged=True)
        case Shown.UNKNOWN:
            return Unknown(f"the provider's status {seen.status} is not known here", seen.provider_intent_id)
    assert_never(seen.shows)
