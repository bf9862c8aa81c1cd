"""One attempt of ours beside everything the provider has of it: what that proves, and what disagrees. Pure.

The checks are one tuple of functions: adding one adds a line there. What a single object proves, `proof.py` says. Which
attempt an object is of, is known here (by our key or by its id), so its key is never compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from gateway_client.charge import Charge
from gateway_client.finding import Code, Found
from gateway_client.outcome import (
    NAMES,
    Canceled,
    Conflict,
    Declined,
    Outcome,
    Processing,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.proof import Expected, Item, Kind, Shown, prove
from gateway_client.state import State, contradicts
from reconcile import words

# Of several objects of one attempt the strongest word counts: money that moved, then money that may, then the refusals.
_STRENGTH = (Succeeded, Processing, RequiresAction, Canceled, Declined, Conflict, Unknown)


@dataclass(frozen=True, slots=True)
class Pair:
    """An attempt: our row, or None, and the provider's objects that belong to it."""

    intent_id: str
    attempt: int
    charge: Charge | None
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Importable:
    """What a missing row is made of: the object that says most, and what it proves."""

    item: Item
    outcome: Outcome


def evidence(charge: Charge, items: tuple[Item, ...], live: bool) -> Outcome | None:
    """The strongest proof about a charge among the provider's objects; None when there are none.

    A success that its charge and its intent tell with different numbers is none.
    """
    proofs = [_outcome(item, _expected(charge, live)) for item in items]
    doubted = {proof.provider_charge_id for proof in proofs if isinstance(proof, Conflict)} - {None}
    believed = (proof for proof in proofs if not (isinstance(proof, Succeeded) and proof.provider_charge_id in doubted))
    return min(believed, key=_rank, default=None)


def importable(pair: Pair, live: bool) -> Importable:
    """What a row would be made of, each object judged by its own numbers."""
    found = [Importable(item, _outcome(item, _as_it_says(item, live))) for item in pair.items]
    # A charge names the money that moved; its intent only what was asked for.
    best = min(found, key=lambda one: (_rank(one.outcome), one.item.kind is Kind.INTENT))
    failed = next((item for item in pair.items if item.shows is Shown.FAILED_TRY), None)
    if isinstance(best.outcome, Unknown | Canceled) and failed is not None:
        return Importable(failed, _declined(failed))  # its intent is of another day, or was cancelled afterwards
    return best


def _rank(proof: Outcome) -> int:
    return next((rank for rank, kind in enumerate(_STRENGTH) if isinstance(proof, kind)), len(_STRENGTH))


def _outcome(item: Item, expected: Expected) -> Outcome:
    proof = prove(expected, item)
    if isinstance(proof, Unknown) and item.provider_intent_id is None and item.shows is Shown.FAILED_TRY:
        return _declined(item)  # a charge without an intent: nothing else can say what became of it
    return proof


def _expected(charge: Charge, live: bool) -> Expected:
    return Expected(live=live, key=None, amount=charge.amount, currency=charge.currency)


def _as_it_says(item: Item, live: bool) -> Expected:
    """What an object of which we have no row is held to: its own numbers."""
    return Expected(live=live, key=None, amount=item.amount, currency=item.currency)


def _declined(item: Item) -> Declined:
    return Declined(item.reason or "declined", item.provider_intent_id, item.provider_charge_id)


# The checks ---------------------------------------------------------------------------------------------------------


def _amount_differs(charge: Charge, items: tuple[Item, ...], live: bool) -> Found | None:
    """Both have it, and the numbers differ; a success that received another sum counts as well."""
    for item in _charges_first(items):
        theirs = item.amount
        if theirs == charge.amount and item.shows is Shown.SUCCEEDED and item.amount_received is not None:
            theirs = item.amount_received
        if theirs != charge.amount:
            there = words.there(item, amount=theirs)
            return words.found(Code.AMOUNT_MISMATCH, charge, item, "the amounts differ", there)
    return None


def _currency_differs(charge: Charge, items: tuple[Item, ...], live: bool) -> Found | None:
    """Both have it, in different currencies."""
    for item in _charges_first(items):
        if item.currency != charge.currency:
            return words.found(Code.CURRENCY_MISMATCH, charge, item, "the currencies differ")
    return None


def _status_differs(charge: Charge, items: tuple[Item, ...], live: bool) -> Found | None:
    """Ours is final, and the provider says otherwise; the numbers are another check's."""
    if charge.pending:
        return None
    expected = Expected(live=live, key=None, amount=None, currency=None)
    proofs = [(item, _said(item, charge, expected)) for item in items]
    # Of a charge that did not succeed its intent knows more: a voided authorization, a second try.
    telling = {item.object_id for item, proof in proofs if item.kind is Kind.INTENT and not isinstance(proof, Unknown)}
    proofs = [
        (item, proof)
        for item, proof in proofs
        if item.kind is Kind.INTENT or isinstance(proof, Succeeded) or item.provider_intent_id not in telling
    ]
    if charge.state is State.SUCCEEDED:
        own = next((item for item in items if item.object_id == charge.provider_charge_id), None)
        if own is not None:
            proof = _declined(own) if own.shows is Shown.FAILED_TRY else prove(expected, own)
            return _status(charge, own, proof) if isinstance(proof, Declined | Processing) else None
        if any(isinstance(proof, Succeeded) for _, proof in proofs):
            return None  # another success is a duplicate, or our charge is of another day: both are looked at apart
    return next((_status(charge, item, proof) for item, proof in proofs if against(charge.state, proof)), None)


def against(state: State, proof: Outcome) -> bool:
    """Does the provider say otherwise? What has succeeded here cannot be processed there."""
    return contradicts(state, proof) or (state is State.SUCCEEDED and isinstance(proof, Processing))


def _said(item: Item, charge: Charge, expected: Expected) -> Outcome:
    proof = prove(expected, item)
    tried = isinstance(proof, Unknown) and item.shows is Shown.FAILED_TRY and charge.state is not State.SUCCEEDED
    return _declined(item) if tried else proof  # beside a success, a failed try of another hour says nothing


def _status(charge: Charge, item: Item, proof: Outcome) -> Found:
    """In the words of the proof, not of the provider: as whoever else gets it tells it."""
    late = charge.state.refused and item.moved
    what = "the provider charged what was given up or refused here" if late else "the results differ"
    return words.found(Code.STATUS_MISMATCH, charge, item, what, words.there(item, NAMES[type(proof)]))


CHECKS: tuple[Callable[[Charge, tuple[Item, ...], bool], Found | None], ...] = (
    _amount_differs,
    _currency_differs,
    _status_differs,
)


def disagreements(charge: Charge, items: tuple[Item, ...], live: bool, begun_at: datetime) -> Iterator[Found]:
    """What a person must look at, of one attempt."""
    if charge.settled_at is not None and charge.settled_at >= begun_at:
        # It may have ended since it was listed: that it was still open then contradicts nothing.
        items = tuple(item for item in items if not isinstance(_outcome(item, _expected(charge, live)), Processing))
    for check in CHECKS:
        found = check(charge, items, live)
        if found is not None:
            yield found


def _charges_first(items: tuple[Item, ...]) -> list[Item]:
    return sorted(items, key=lambda item: (item.kind is Kind.INTENT, item.object_id))
