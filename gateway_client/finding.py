"""Findings: disagreements between us and the provider, with codes that stay (DESIGN §7).

A finding is repaired, or flagged until a person closes it. What is found where is `reconcile/` and `store/settle.py`;
keeping it is `store/findings.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway_client.charge import iso
from gateway_client.money import shown
from gateway_client.state import CHARGE


class Code(StrEnum):
    """What disagrees."""

    OUTCOME_RECOVERED = "outcome_recovered"  # we were pending, the provider has the result
    MISSING_LOCALLY = "missing_locally"  # a charge with our metadata and no row here
    MISSING_AT_PROVIDER = "missing_at_provider"  # we say succeeded, the provider has nothing
    DUPLICATE_CHARGE = "duplicate_charge"  # more than one success for an intent
    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    STATUS_MISMATCH = "status_mismatch"  # both final, results differ
    STALE_PENDING = "stale_pending"  # pending for too long


CRITICAL: frozenset[Code] = frozenset({Code.MISSING_AT_PROVIDER, Code.DUPLICATE_CHARGE, Code.MISSING_LOCALLY})
"""Money is wrong on one side: alerted at once. The others are alerted when they have been open for long."""

CRITICAL_IF_CHARGED: frozenset[Code] = frozenset({Code.STATUS_MISMATCH})
"""Likewise, where the provider has taken money by what was found."""

HARMLESS: frozenset[Code] = frozenset({Code.STALE_PENDING})
"""Nothing contradicts us: it does not stop the next send, which may be what ends it."""


class Action(StrEnum):
    """What was done about a finding in a run."""

    REPAIRED = "repaired"
    FLAGGED = "flagged"  # open: a person must look
    RECORDED = "recorded"  # found again after a person closed it
    WOULD_REPAIR = "would_repair"  # of a dry run


def side(word: str, amount: int | None, currency: str | None, charge_id: str | None) -> str:
    """One side of a finding, in one line; whoever finds the same writes the same."""
    return f"{word} {shown(amount, currency)} {charge_id or ''}".rstrip()


@dataclass(frozen=True, slots=True)
class Found:
    """One disagreement as it was seen: our side, the provider's, and what it means in one sentence."""

    code: Code
    intent_id: str
    attempt: int
    provider_charge_id: str | None
    here: str
    there: str
    detail: str
    charged: bool = False  # the provider has taken money by what was found
    operation: str = CHARGE

    @property
    def id(self) -> str:
        """The same disagreement has the same id, in every run: 16 hexadecimal digits."""
        of = self.provider_charge_id or f"attempt {self.attempt}"
        if self.operation != CHARGE:
            of = f"{self.operation} {of}"
        return hashlib.sha256(f"{self.code}:{self.intent_id}:{of}".encode()).hexdigest()[:16]


def duplicate(
    intent_id: str, attempt: int, charge_id: str, first: str, *, mine: bool, operation: str = CHARGE
) -> Found:
    """More than one success for an intent: another one besides `first`, which is `mine` when a row of ours names it."""
    return Found(
        Code.DUPLICATE_CHARGE,
        intent_id,
        attempt,
        charge_id,
        f"succeeded {first}" if mine else "no success",
        f"succeeded {charge_id}" if mine else f"succeeded {first}, {charge_id}",
        f"the customer was charged again: {charge_id} besides {first}; a refund is up to you.",
        charged=True,
        operation=operation,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as it is on disk."""

    id: str
    code: Code
    intent_id: str
    attempt: int
    provider_charge_id: str | None
    action: Action
    here: str
    there: str
    detail: str
    charged: bool
    found_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    because: str | None
    operation: str = CHARGE

    @property
    def open(self) -> bool:
        """True while a person must look."""
        return self.closed_at is None

    @property
    def critical(self) -> bool:
        """True when money is wrong on one side: a person must look at once."""
        return self.code in CRITICAL or (self.code in CRITICAL_IF_CHARGED and self.charged)

    def as_json(self) -> dict[str, str | int | None]:
        """The fields that programs may rely on, in their order."""
        return {
            "id": self.id,
            "code": self.code.value,
            "intent_id": self.intent_id,
            "attempt": self.attempt,
            "provider_charge_id": self.provider_charge_id,
            "action": self.action.value,
            "here": self.here,
            "there": self.there,
            "detail": self.detail,
            "found_at": iso(self.found_at),
            "closed_at": iso(self.closed_at),
            "closed_by": self.closed_by,
            "because": self.because,
        }
