"""What a reading of the provider that shows nothing allows: `absent`, another attempt, a send under another API key.

Pure functions of a row and a reading, used by `resume`, the worker and the nightly run alike. A look-up that finds
nothing is never enough by itself. Reading is done by `flow/lookup.py` and reconciliation; this only judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway_client.bounds import Bounds
from gateway_client.charge import Charge, iso
from gateway_client.outcome import Answer
from gateway_client.state import State


class Stranger(NamedTuple):
    """Money that moved without all of our metadata; None is what the provider does not tell."""

    amount: int | None
    currency: str | None
    customer: str | None = None
    payment_method: str | None = None

    def may_be(self, charge: Charge) -> bool:
        """Whether the sum is that of a charge of ours."""
        return self.amount in (None, charge.amount) and self.currency in (None, charge.currency)

    def is_by_payer_of(self, charge: Charge) -> bool:
        """Whether it is of the same payer, too: few others charge that one the same sum at that time."""
        payer = (self.customer, charge.customer), (self.payment_method, charge.payment_method)
        return self.may_be(charge) and any(theirs is not None and theirs == ours for theirs, ours in payer)


@dataclass(frozen=True, slots=True)
class Scan:
    """What one reading of the provider's lists was worth."""

    created_from: datetime
    begun_at: datetime  # the provider's time, asked for before the first page was
    why_incomplete: str | None  # None when every page of every list was read; else asking again may help
    read_back_to: datetime  # every list was read from the present back to here at least
    found: Mapping[str, Answer]  # what was seen, by idempotency key
    strangers: frozenset[Stranger]
    time_asked: bool = True  # False: nobody told the time, `begun_at` is this machine's
    claimed: frozenset[str] = frozenset()  # keys of attempts that an object names, under another key or none
    unreadable: Mapping[str, str] = field(default_factory=dict)  # by key: an object that may be of it, and says nothing


def quiet_at(charge: Charge, bounds: Bounds) -> datetime | None:
    """From when the absence of a closed attempt may be concluded; None while that is not known.

    It counts from `quiet_from`, for which the provider was asked: the times of sends and answers may have come from a
    machine that stood still since it asked last.
    """
    if charge.closed_at is None or charge.quiet_from is None:
        return None
    return charge.quiet_from + quiet_for(charge, bounds)


def quiet_for(charge: Charge, bounds: Bounds) -> timedelta:
    """How long, from when no send can begin, until the lists show whatever a send of this attempt has done.

    A send without a proven result may have met a 500, seen or not, which the provider may still roll forward.
    """
    return bounds.quiet_unproven if charge.unproven else bounds.quiet


def next_attempt_at(charge: Charge, bounds: Bounds) -> datetime | None:
    """From when another attempt may follow this one; None when as soon as a reading shows nothing of it.

    A decline that named no intent leaves one behind, which the lists may show late.
    """
    if charge.state is State.DECLINED and charge.provider_intent_id is None and charge.last_ended_at is not None:
        return charge.last_ended_at + bounds.quiet
    return None


def why_not_absent(charge: Charge, bounds: Bounds, scan: Scan) -> str | None:  # noqa: PLR0911 - one condition a line
    """Why absence cannot be concluded, in words for a person; None when all four conditions hold (DESIGN §6).

    The fourth, that a credential of the row's account and mode asked, holds for every scan: nothing is asked before
    the account is known to be the store's.
    """
    if charge.idempotency_key in scan.found or charge.provider_intent_id is not None:
        return "the provider has an intent of ours: it is not absent"
    problem = why_not_empty(charge, bounds, scan)
    if problem is not None:
        return problem
    quiet = quiet_at(charge, bounds)
    if charge.first_sent_at is None or charge.closed_at is None:
        return "not found at the provider yet; the attempt is still open"
    if quiet is None:
        return "not found at the provider; the time from which its absence can be proven is not known yet"
    if scan.begun_at < quiet:
        return f"not found at the provider; its absence can be proven from {iso(quiet)}"
    if any(stranger.may_be(charge) for stranger in scan.strangers):
        return "not found, but the provider has a success of this amount without our metadata: a person looks"
    return None


def why_not_empty(charge: Charge, bounds: Bounds, scan: Scan) -> str | None:
    """Why a reading does not show that the provider has nothing of an attempt; None when it does."""
    if scan.why_incomplete is not None:
        return f"not proven: the provider's lists could not be read to the end ({scan.why_incomplete})"
    strange = what_is_strange(charge, scan)
    if strange is not None:
        return f"not found by its key, but {strange}: a person looks"
    if charge.first_sent_at is not None and scan.created_from > charge.first_sent_at - bounds.look_back:
        return "not proven: the provider's lists were not read back to the first send"
    return None


def what_is_strange(charge: Charge, scan: Scan) -> str | None:
    """What of a reading may be of an attempt, although it does not carry its key, in words for a person; or None."""
    if charge.idempotency_key in scan.unreadable:
        object_id = scan.unreadable[charge.idempotency_key]
        return f"the provider lists {object_id}, which cannot be read and may be of this attempt"
    if charge.idempotency_key in scan.claimed:
        return "the provider has an object that names this attempt"
    if any(stranger.is_by_payer_of(charge) for stranger in scan.strangers):
        return "the provider has a success of this amount by this payer, without our metadata"
    return None
