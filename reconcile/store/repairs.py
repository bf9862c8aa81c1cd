"""Repairs: our state moves towards the provider's evidence, with its finding in the same commit. Money never moves.

A repair is a settle or a proof of absence as charging does them: the one table of `state.py` decides. Only a missing
row is written here.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.finding import Action
from gateway_client.flow.effects import Settle
from gateway_client.gateways.base import AMOUNT_MAX
from gateway_client.outcome import Processing, Succeeded
from gateway_client.state import PENDING, State, event_of, next_state
from gateway_client.store.findings import record_finding
from gateway_client.store.gate import close, end_if_late
from gateway_client.store.rows import (
    INSERT_ROW,
    ROW_OF_ATTEMPT,
    append_event,
    charges,
    clock_of,
    constant,
    locked,
    run,
    sha256,
    with_sends,
)
from gateway_client.store.settle import prove_absent, settle
from reconcile import words
from reconcile.effects import CloseOver, Import, Repair

CLOSED_AT_ONCE_MAX = 500

_NO_RESULT = (State.UNKNOWN, State.CONFLICT)
"""What a pending charge may become without anything being known of it."""

_STATES_OF_INTENT = select(charges.c.state).where(charges.c.intent_id == bindparam("of_intent"))
_ASKED_FOR = select(charges.c.body, charges.c.amount, charges.c.currency, charges.c.customer).where(
    charges.c.intent_id == bindparam("of_intent")
)
UNASKED = "nobody here had asked for it"
_OVER = (
    select(charges)
    .where(
        charges.c.state.in_(constant(PENDING)),
        charges.c.closed_at.is_(None),
        or_(charges.c.first_sent_at <= bindparam("sent_before"), charges.c.not_after < bindparam("late_before")),
    )
    .limit(bindparam("rows_max"))
    .with_for_update()
)


def repair(session: Session, effect: Repair, now: datetime) -> Charge:
    """Settle by evidence. What another process has settled meanwhile is not a repair of ours."""
    by = effect.by
    record = locked(session, by.intent_id, by.attempt)
    before = record.state
    if before.final and isinstance(by, Settle) and isinstance(by.answer.outcome, Processing):
        return record.charge()  # it has ended since it was listed or asked for
    charge = settle(session, by, now) if isinstance(by, Settle) else prove_absent(session, by, now)
    if charge.state is not before and charge.state not in _NO_RESULT:
        record_finding(session, words.recovered(before, charge), Action.REPAIRED, now, effect.run.run_id)
    differs = words.numbers_differ(charge, by.answer.outcome) if isinstance(by, Settle) else None
    if differs is not None:
        record_finding(session, differs, Action.FLAGGED, now, effect.run.run_id)
    return charge


def import_charge(session: Session, effect: Import, now: datetime) -> Charge | None:
    """Write the row that is missing, in the state that the provider's evidence gives it (never sent from here).

    Where nobody here had asked for it, it is no repair: it stops other attempts, and a person looks.
    """
    found, item = effect.importable, effect.importable.item
    mine = {"of_intent": effect.intent_id, "of_attempt": effect.attempt}
    written = run(session, ROW_OF_ATTEMPT, mine).mappings().first()
    if written is not None:
        return with_sends(session, written).charge()  # by its own process, since the pair was read
    state = next_state(State.PREPARED, event_of(found.outcome, in_doubt=False, left=False, saves_declines=True))
    why_not = _why_not(session, effect, state)
    if why_not == _TAKEN and isinstance(found.outcome, Succeeded) and State.SUCCEEDED in _states(session, effect):
        return None  # a second success: that is another finding
    unasked = None if _asked_for(session, effect) else UNASKED
    became = why_not or "; ".join(filter(None, (f"its row is imported as {state}", unasked)))
    seen = words.missing_locally(effect.intent_id, effect.attempt, item, found.outcome, became)
    if why_not is not None:
        record_finding(session, seen, Action.FLAGGED, now, effect.run.run_id)
        return None
    at = item.created_at or now
    row: dict[str, object] = dict.fromkeys(charges.c.keys())
    row |= {
        "intent_id": effect.intent_id,
        "attempt": effect.attempt,
        "revision": 1,
        "state": state,
        "reason": "; ".join(filter(None, (getattr(found.outcome, "reason", None), unasked))) or None,
        "idempotency_key": effect.run.binding.key("charge", effect.intent_id, effect.attempt),
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
        "settled_at": now if state.final else None,
        "closed_at": now,  # it has no body to send
    }
    run(session, INSERT_ROW, row)
    append_event(session, row, now, None, "imported from the provider", state, f"by {effect.run.run_id}")
    action = Action.REPAIRED if unasked is None else Action.FLAGGED
    record_finding(session, seen, action, now, effect.run.run_id)
    return with_sends(session, row).charge()


_TAKEN = "another attempt of the intent is in its place, so its row could not be imported"


def _why_not(session: Session, effect: Import, state: State) -> str | None:
    item = effect.importable.item
    if item.amount is None or not 0 < item.amount < AMOUNT_MAX or item.currency is None:
        return "its amount or currency is none, so its row could not be imported"
    if not state.refused and not all(other.refused for other in _states(session, effect)):
        return _TAKEN
    return None


def _asked_for(session: Session, effect: Import) -> bool:
    """Whether another attempt that was asked for here has the same numbers: metadata and key anybody can compute."""
    item = effect.importable.item
    numbers = (item.amount, item.currency, item.customer)
    rows = run(session, _ASKED_FOR, {"of_intent": effect.intent_id}).mappings()
    return any(row["body"] and (row["amount"], row["currency"], row["customer"]) == numbers for row in rows)


def _states(session: Session, effect: Import) -> list[State]:
    """The states of the other attempts of the intent."""
    states = run(session, _STATES_OF_INTENT, {"of_intent": effect.intent_id})
    return [State(state) for state in states.scalars()]


def close_over(session: Session, effect: CloseOver, now: datetime) -> int:
    """Close attempts whose key's life is over, or end what is too late to be sent, as the gate would."""
    clock = clock_of(session, now)
    sent_before = now - effect.profile.bounds.key_life
    page = {"sent_before": sent_before, "late_before": max(now, clock), "rows_max": CLOSED_AT_ONCE_MAX}
    rows = run(session, _OVER, page).mappings().all()
    for row in rows:
        record = end_if_late(session, with_sends(session, row), now, clock)
        if record.row["closed_at"] is None:
            close(session, record, now)
    return len(rows)
