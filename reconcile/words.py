"""Findings in words: our side, the provider's, and what it means, for each code. What is found is `match.py`'s."""

from __future__ import annotations

from gateway_client.charge import Charge
from gateway_client.finding import Code, Found, side
from gateway_client.money import shown
from gateway_client.outcome import NAMES, Conflict, Outcome, Succeeded
from gateway_client.proof import Item
from gateway_client.state import State


def missing_at_provider(charge: Charge) -> Found:
    """We say succeeded, and the provider says that there is no such charge, or no such intent."""
    return Found(
        Code.MISSING_AT_PROVIDER,
        charge.intent_id,
        charge.attempt,
        charge.provider_charge_id,
        here(charge),
        "nothing (404)",
        f"attempt {charge.attempt} succeeded here, the provider has no "
        f"{charge.provider_charge_id or charge.provider_intent_id}.",
    )


def recovered(before: State, charge: Charge) -> Found:
    """We were pending, and now we know."""
    return Found(
        Code.OUTCOME_RECOVERED,
        charge.intent_id,
        charge.attempt,
        charge.provider_charge_id,
        f"{before} {shown(charge.amount, charge.currency)}",
        "nothing, proven"
        if charge.state is State.ABSENT
        else f"{charge.state} {charge.provider_charge_id or ''}".strip(),
        f"attempt {charge.attempt} was {before}, it is {charge.state}.",
        charged=charge.state is State.SUCCEEDED,
    )


def denied(charge: Charge, outcome: Outcome) -> Found:
    """What an answer about a final charge says against it."""
    said, charge_id = NAMES[type(outcome)], getattr(outcome, "provider_charge_id", None)
    return Found(
        Code.STATUS_MISMATCH,
        charge.intent_id,
        charge.attempt,
        charge_id,
        here(charge),
        side(said, charge.amount, charge.currency, charge_id),
        f"attempt {charge.attempt} is {charge.state} here, the provider says {said}.",
        charged=isinstance(outcome, Succeeded),
    )


def numbers_differ(charge: Charge, outcome: Outcome) -> Found | None:
    """An answer that is ours, but for its amount or its currency; None when that is not what it says."""
    if not isinstance(outcome, Conflict) or outcome.differs is None:
        return None
    return Found(
        Code.AMOUNT_MISMATCH if outcome.differs == "amount" else Code.CURRENCY_MISMATCH,
        charge.intent_id,
        charge.attempt,
        outcome.provider_charge_id,
        here(charge),
        f"{outcome.reason} {outcome.provider_charge_id or ''}".rstrip(),
        f"attempt {charge.attempt}: {outcome.reason}.",
    )


def missing_locally(intent_id: str, attempt: int, item: Item, outcome: Outcome, became: str) -> Found:
    """A charge with our metadata and no row here."""
    return Found(
        Code.MISSING_LOCALLY,
        intent_id,
        attempt,
        item.provider_charge_id,
        "no row",
        there(item),
        f"attempt {attempt} has no row here, the provider says {NAMES[type(outcome)]}; {became}.",
        charged=isinstance(outcome, Succeeded),
    )


def stale(charge: Charge) -> Found:
    """Pending for too long. Never about one charge of the provider: it may get one while it is stale."""
    return Found(
        Code.STALE_PENDING,
        charge.intent_id,
        charge.attempt,
        None,
        here(charge),
        "not known",
        f"attempt {charge.attempt} is {charge.state}: {charge.reason or _NEXT.get(charge.state, 'a person looks')}",
    )


def unreadable(count: int, names: tuple[str, ...]) -> str:
    """Why a run beside objects that may be ours, and cannot be read, is not complete."""
    told = ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")
    return (
        f"the provider lists 1 object that cannot be read and may be ours ({told}): look at it there"
        if count == 1
        else f"the provider lists {count} objects that cannot be read and may be ours ({told}): look at them there"
    )


_NEXT = {
    State.PREPARED: "it was never sent; charge it again or cancel it",
    State.REQUIRES_ACTION: "the customer has not acted; cancel it or wait",
    State.PROCESSING: "the provider has not finished it",
}


def here(charge: Charge) -> str:
    """Our side of a finding, in one line."""
    return side(charge.state, charge.amount, charge.currency, charge.provider_charge_id)


def there(item: Item, word: str | None = None, amount: int | None = None) -> str:
    """The provider's side of a finding, in one line: by its own word and amount, unless others are told."""
    told = item.amount if amount is None else amount
    return side(word or item.status, told, item.currency, item.provider_charge_id or item.object_id)


def found(code: Code, charge: Charge, item: Item, what: str, theirs: str | None = None) -> Found:
    """What disagrees, between our side and theirs."""
    charge_id, theirs = item.provider_charge_id, theirs or there(item)
    return Found(
        code,
        charge.intent_id,
        charge.attempt,
        charge_id,
        here(charge),
        theirs,
        f"attempt {charge.attempt}: {what}; {here(charge)} here, {theirs} at the provider.",
        charged=item.charged,
    )
