"""Whom the store belongs to, and the claim: the row of an attempt, found or inserted before anything is sent."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from gateway_client.absence import next_attempt_at
from gateway_client.charge import Charge, iso
from gateway_client.errors import AttemptRefused, IntentConflict
from gateway_client.flow.effects import Claim, ClearFirst
from gateway_client.gateways.base import Binding, Profile
from gateway_client.intent import differences
from gateway_client.postgres import TIMELINE
from gateway_client.state import State
from gateway_client.store.rows import (
    INSERT_ROW,
    STORE_ROW,
    Record,
    Row,
    append_event,
    charges,
    refuse_open_finding,
    run,
    sha256,
    store,
    with_sends,
)

_INSERT_STORE = insert(store)
_ATTEMPTS = (
    select(charges).where(charges.c.intent_id == bindparam("of_intent")).order_by(charges.c.attempt).with_for_update()
)


def read_binding(session: Session) -> Binding | None:
    """Whom the store belongs to."""
    row = run(session, STORE_ROW).mappings().first()
    return None if row is None else Binding(row["provider"], row["mode"], row["account"], row["namespace"])


def bind(session: Session, binding: Binding, now: datetime) -> Binding:
    """Write the one row of the store, unless another process was first."""
    found = read_binding(session)
    if found is not None:
        return found
    timeline = session.info.get(TIMELINE)
    times = {"created_at": now, "latest_seen_at": now, "timeline": timeline}
    run(session, _INSERT_STORE, {"id": 1, **asdict(binding), **times})
    return binding


def claim(session: Session, effect: Claim, now: datetime) -> Charge | ClearFirst:
    """The row of an attempt: found, or inserted when the attempts before it allow it."""
    intent = effect.intent
    rows = run(session, _ATTEMPTS, {"of_intent": intent.intent_id}).mappings().all()
    attempts = {row["attempt"]: row for row in rows}
    newest = max(attempts, default=0)
    attempt = effect.attempt or newest or 1
    found = attempts.get(attempt)
    if rows:
        _refuse_other_payment(effect, rows[0], found)
    if found is not None:
        return with_sends(session, found).charge()
    if attempt != newest + 1:
        raise AttemptRefused(
            f"{intent.intent_id}: attempt {attempt} was asked for, the newest is {newest or 'none'}. Nothing was sent."
        )
    if rows:
        previous = with_sends(session, attempts[newest])
        _refuse_while_needed(session, previous)
        _refuse_too_early(previous.charge(), effect.profile, now)
        if _may_still_charge(previous) and effect.cleared_attempt != newest:
            return ClearFirst(previous.charge())
    return _insert(session, effect, attempt, now).charge()


def _insert(session: Session, effect: Claim, attempt: int, now: datetime) -> Record:
    intent, draft = effect.intent, effect.draft(attempt)
    row: dict[str, object] = dict.fromkeys(charges.c.keys())
    row |= {
        "intent_id": intent.intent_id,
        "attempt": attempt,
        "state": State.PREPARED,
        "idempotency_key": draft.idempotency_key,
        "amount": intent.amount.amount,
        "currency": intent.amount.currency,
        "customer": intent.customer,
        "payment_method": intent.payment_method,
        "body": draft.body,
        "body_sha256": sha256(draft.body),
        "api_version": draft.api_version,
        "created_at": now,
    }
    run(session, INSERT_ROW, row)
    append_event(session, row, now, None, "claimed", State.PREPARED)
    return Record(row, ())


def _refuse_other_payment(effect: Claim, first: Row, found: Row | None) -> None:
    """Amount, currency and customer are the intent's; the payment method is the attempt's while it may still count."""
    intent = effect.intent
    method = None
    if found is not None and not State(found["state"]).refused:
        method = found["payment_method"] or None  # not known of an imported row
    differ = differences(
        intent,
        amount=first["amount"],
        currency=first["currency"],
        customer=first["customer"],
        payment_method=method,
    )
    if differ:
        raise IntentConflict(
            f"{intent.intent_id} already stands for another payment: {'; '.join(differ)}. Nothing was sent. "
            "One intent is one payment: use another intent id for another one."
        )


def _refuse_while_needed(session: Session, previous: Record) -> None:
    """Attempt n+1 exists only after a definite refusal of n, with nothing left to explain."""
    name = f"{previous.row['intent_id']} attempt {previous.row['attempt']}"
    if previous.state is State.SUCCEEDED:
        raise AttemptRefused(f"{name} succeeded: the customer has paid, no other attempt is made. Nothing was sent.")
    if not previous.state.final:
        given_up = previous.row["closed_at"] is not None
        next_step = "until its absence is proven" if given_up else "or give it up with `paycli cancel`"
        raise AttemptRefused(
            f"{name} is {previous.state}, not refused: another attempt could charge twice. Run `paycli resume`, "
            f"{next_step}. Nothing was sent."
        )
    refuse_open_finding(session, previous.row["intent_id"])


def _may_still_charge(previous: Record) -> bool:
    """A refused attempt may have left an open intent at the provider, whether or not its id ever reached us."""
    known = previous.row["provider_intent_id"] is not None
    return previous.state in (State.DECLINED, State.ABSENT) or (known and previous.state is not State.CANCELED)


def _refuse_too_early(previous: Charge, profile: Profile, now: datetime) -> None:
    """Absence is what the lists show; a second charge needs more, when an answer was never seen (see absence.py)."""
    at = next_attempt_at(previous, profile)
    if at is not None and now < at:
        raise AttemptRefused(
            f"{previous.intent_id} attempt {previous.attempt} is absent, but a send of it was never answered: the "
            "provider may have failed on it and may charge it late. "
            f"Attempt {previous.attempt + 1} is possible from {iso(at)}. "
            "Nothing was sent."
        )
