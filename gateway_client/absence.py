"""The only way to `absent`: four conditions, one pure function, used by `resume` and by the nightly run alike.

A look-up that finds nothing is never enough. Scanning is done by `flow/lookup.py` and reconciliation; this only judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway_client.charge import Charge, iso
from gateway_client.gateways.base import Profile
from gateway_client.outcome import Answer
from gateway_client.state import State


@dataclass(frozen=True, slots=True)
class Scan:
    """What one reading of the provider's lists was worth."""

    created_from: datetime
    begun_at: datetime  # the provider's time before the first page was asked for
    why_incomplete: str | None  # None when every page of every list was read
    could_not_ask: bool  # somebody did not answer: asking again may help
    read_back_to: datetime  # every list was read from the present back to here at least
    found: Mapping[str, Answer]  # what was seen, by idempotency key
    strangers: frozenset[tuple[int | None, str | None]]  # (amount, currency) of money moved without all of our metadata
    claimed: frozenset[str] = frozenset()  # keys of attempts that an object names, under another key or none


def quiet_at(charge: Charge, profile: Profile) -> datetime | None:
    """From when the absence of a closed attempt may be concluded; None while it is open or was never sent."""
    if charge.closed_at is None or charge.last_sent_at is None:
        return None
    moments = [charge.closed_at, charge.last_sent_at + profile.quiet]
    if charge.last_server_error_at is not None:
        moments.append(charge.last_server_error_at + profile.quiet_after_server_error)
    return max(moments)


def next_attempt_at(charge: Charge, profile: Profile) -> datetime | None:
    """From when another attempt may follow an absent one; None when at once.

    An answer that never reached us may have been a 500, which the provider may still roll forward: no list shows that.
    Absence is believed without that wait, so that people learn of it; a second charge is not made without it, nor
    without reading the lists once more.
    """
    if charge.state is not State.ABSENT or charge.last_unanswered_at is None:
        return None
    return charge.last_unanswered_at + profile.quiet_after_server_error


def why_not_absent(charge: Charge, profile: Profile, scan: Scan) -> str | None:  # noqa: PLR0911 - one condition a line
    """Why absence cannot be concluded, in words for a person; None when all four conditions hold (DESIGN §6).

    The fourth, that a credential of the row's account and mode asked, holds for every scan: nothing is asked before
    the account is known to be the store's.
    """
    if charge.idempotency_key in scan.found or charge.provider_intent_id is not None:
        return "the provider has an intent of ours: it is not absent"
    if scan.why_incomplete is not None:
        return f"not proven: the provider's lists could not be read to the end ({scan.why_incomplete})"
    if charge.idempotency_key in scan.claimed:
        return "not found by its key, but the provider has an object that names this attempt: a person looks"
    quiet = quiet_at(charge, profile)
    if charge.first_sent_at is None or quiet is None:
        return "not found at the provider yet; the attempt is still open"
    if scan.begun_at < quiet:
        return f"not found at the provider; its absence can be proven from {iso(quiet)}"
    if scan.created_from > charge.first_sent_at - profile.created_before_first_send:
        return "not proven: the provider's lists were not read back to the first send"
    if any(
        amount in (None, charge.amount) and currency in (None, charge.currency) for amount, currency in scan.strangers
    ):
        return "not found, but the provider has a success of this amount without our metadata: a person looks"
    return None
