"""Repairs: our state moves towards the provider's evidence, with its finding in the same commit. Money never moves.

A repair is a settle or a proof of absence as charging does them: the one table of `state.py` decides. Only a missing
row is written here.
"""

from __future__ import annotations

from sqlalchemy import bindparam, or_, select

from gateway_client.charge import Charge
from gateway_client.finding import Action
from gateway_client.flow.effects import Settle
from gateway_client.gateways.base import AMOUNT_MAX
from gateway_client.outcome import Processing, Succeeded
from gateway_client.state import CHARGE, LAWS, PENDING, State, event_of
from gateway_client.store.findings import record_finding
from gateway_client.store.gate import close, end_if_late
from gateway_client.store.rows import (
    INSERT_ROW,
    IS_CHARGE,
    ROW_OF_ATTEMPT,
    append_event,
    charges,
    constant,
    locked,
    sha256,
    with_sends,
)
from gateway_client.store.settle import prove_absent, settle
from gateway_client.transaction import Transaction
from reconcile import words
from reconcile.effects import CloseOver, Import, Repair
from reconcile.store.lease import performs_in_run

CLOSED_AT_ONCE_MAX = 500

_NO_RESULT = (State.UNKNOWN, State.CONFLICT)
"""What a pending charge may become without anything being known of it."""

_STATES_OF_INTENT = select(charges.c.state).where(charges.c.intent_id == bindparam("of_intent"), IS_CHARGE)
_ASKED_FOR = select(charges.c.body, charges.c.amount, charges.c.currency, charges.c.customer).where(
    charges.c.intent_id == bindparam("of_intent"), IS_CHARGE
)
UNASKED = "nobody here had asked for it"
_OVER = (
    select(charges)
    .where(
        charges.c.state.in_(constant(PENDING)),
        charges.c.closed_at.is_(None),
        or_(charges.c.first_sent_at <= bindparam("sent_before"), charges.c.not_after < bindparam("late_before")),
    )
    .order_by(charges.c.intent_id, charges.c.attempt)
    .limit(bindparam("rows_max"))
)
_OVER_LOCKED = _OVER.with_for_update()


@performs_in_run(Repair)
def repair(tx: Transaction, effect: Repair) -> Charge:
    """Settle by evidence. What another process has settled meanwhile is not a repair of ours."""
    by = effect.by
    record = locked(tx, by)
    before = record.state
    if not before.pending and isinstance(by, Settle) and isinstance(by.answer.outcome, Processing):
        return record.charge()  # it has ended since it was listed or asked for
    charge = settle(tx, by) if isinstance(by, Settle) else prove_absent(tx, by)
    if charge.state is not before and charge.state not in _NO_RESULT:
        record_finding(tx, words.recovered(before, charge), Action.REPAIRED, effect.run.run_id)
    differs = words.numbers_differ(charge, by.answer.outcome) if isinstance(by, Settle) else None
    if differs is not None:
        record_finding(tx, differs, Action.FLAGGED, effect.run.run_id)
    return charge


@performs_in_run(Import)
def import_charge(tx: Transaction, effect: Import) -> Charge | None:
    """Write the row that is missing, in the state that the provider's evidence gives it (never sent from here).

    Where nobody here had asked for it, it is no repair: it stops other attempts, and a person looks.
    """
    found, item = effect.importable, effect.importable.item
    mine = {"of_intent": effect.intent_id, "of_operation": CHARGE, "of_attempt": effect.attempt}
    written = tx.execute(ROW_OF_ATTEMPT, mine).mappings().first()
    if written is not None:
        return with_sends(tx, written).charge()  # by its own process, since the pair was read
    state = LAWS[CHARGE].next(State.PREPARED, event_of(found.outcome, in_doubt=False, left=False, saves_declines=True))
    why_not = _why_not(tx, effect, state)
    if why_not == _TAKEN and isinstance(found.outcome, Succeeded) and State.SUCCEEDED in _states(tx, effect):
        return None  # a second success: that is another finding
    unasked = None if _asked_for(tx, effect) else UNASKED
    became = why_not or "; ".join(filter(None, (f"its row is imported as {state}", unasked)))
    seen = words.missing_locally(effect.intent_id, effect.attempt, item, found.outcome, became)
    if why_not is not None:
        record_finding(tx, seen, Action.FLAGGED, effect.run.run_id)
        return None
    at = item.created_at or tx.now
    row: dict[str, object] = dict.fromkeys(charges.c.keys())
    row |= {
        "intent_id": effect.intent_id,
        "operation": CHARGE,
        "attempt": effect.attempt,
        "revision": 1,
        "state": state,
        "reason": "; ".join(filter(None, (getattr(found.outcome, "reason", None), unasked))) or None,
        "idempotency_key": effect.run.binding.key(CHARGE, effect.intent_id, effect.attempt),
        "amount": item.amount,
        "currency": item.currency,
        "customer": item.customer,
        "payment_method": "",  # the provider names its own copy of it; what we sent is not known any more
        "body": "",
        "body_sha256": sha256(""),
        "api_version": effect.api_version,
        "provider_intent_id": getattr(found.outcome, "provider_intent_id", None) or item.provider_intent_id,
        "provider_charge_id": getattr(found.outcome, "provider_charge_id", None) or item.provider_charge_id,
        "created_at": at,
        "first_sent_at": at,
        "settled_at": None if state.pending else tx.now,
        "closed_at": tx.now,  # it has no body to send
    }
    tx.write(INSERT_ROW, row)
    append_event(tx, row, None, "imported from the provider", state, f"by {effect.run.run_id}")
    action = Action.REPAIRED if unasked is None else Action.FLAGGED
    record_finding(tx, seen, action, effect.run.run_id)
    return with_sends(tx, row).charge()


_TAKEN = "another attempt of the intent is in its place, so its row could not be imported"


def _why_not(tx: Transaction, effect: Import, state: State) -> str | None:
    item = effect.importable.item
    if item.amount is None or not 0 < item.amount < AMOUNT_MAX or item.currency is None:
        return "its amount or currency is none, so its row could not be imported"
    if not state.refused and not all(other.refused for other in _states(tx, effect)):
        return _TAKEN
    return None


def _asked_for(tx: Transaction, effect: Import) -> bool:
    """Whether another attempt that was asked for here has the same numbers: metadata and key anybody can compute."""
    item = effect.importable.item
    numbers = (item.amount, item.currency, item.customer)
    rows = tx.execute(_ASKED_FOR, {"of_intent": effect.intent_id}).mappings()
    return any(row["body"] and (row["amount"], row["currency"], row["customer"]) == numbers for row in rows)


def _states(tx: Transaction, effect: Import) -> list[State]:
    """The states of the other attempts of the intent."""
    states = tx.execute(_STATES_OF_INTENT, {"of_intent": effect.intent_id})
    return [State(state) for state in states.scalars()]


@performs_in_run(CloseOver)
def close_over(tx: Transaction, effect: CloseOver) -> int:
    """Close attempts whose key's life is over, or end what is too late to be sent, as the gate would."""
    clock = tx.clock()
    sent_before = tx.now - effect.profile.bounds.key_life
    page = {"sent_before": sent_before, "late_before": max(tx.now, clock), "rows_max": CLOSED_AT_ONCE_MAX}
    intents = {row["parent_id"] or row["intent_id"] for row in tx.execute(_OVER, page).mappings()}
    tx.lock(intents)
    rows = tx.execute(_OVER_LOCKED, page).mappings().all() if intents else ()  # again: some may be over by now
    for row in rows:
        if (row["parent_id"] or row["intent_id"]) in intents:
            record = end_if_late(tx, with_sends(tx, row), clock)
            if record.row["closed_at"] is None:
                close(tx, record)
    return len(intents)
