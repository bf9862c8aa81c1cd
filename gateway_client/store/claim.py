"""Whom the store belongs to, and the claim: the row of an attempt, found or inserted before anything is sent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import RowMapping, insert, select
from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.errors import AttemptRefused, IntentConflict
from gateway_client.flow.effects import CancelFirst, Claim
from gateway_client.gateways.base import Binding
from gateway_client.intent import differences
from gateway_client.state import State
from gateway_client.store.rows import (
    Record,
    append_event,
    charges,
    locked,
    refuse_open_finding,
    sha256,
    store,
    with_sends,
)


def read_binding(session: Session) -> Binding | None:
    """Whom the store belongs to."""
    row = session.execute(select(store)).mappings().first()
    return None if row is None else Binding(row["provider"], row["mode"], row["account"], row["namespace"])


def bind(session: Session, binding: Binding, now: datetime) -> Binding:
    """Write the one row of the store, unless another process was first."""
    found = read_binding(session)
    if found is not None:
        return found
    session.execute(
        insert(store).values(
            id=1,
            provider=binding.provider,
            mode=binding.mode,
            account=binding.account,
            namespace=binding.namespace,
            created_at=now,
            latest_seen_at=now,
        )
    )
    return binding


def claim(session: Session, effect: Claim, now: datetime) -> Charge | CancelFirst:
    """The row of an attempt: found, or inserted when the attempts before it allow it."""
    intent = effect.intent
    query = select(charges).where(charges.c.intent_id == intent.intent_id).order_by(charges.c.attempt)
    rows = session.execute(query.with_for_update()).mappings().all()
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
        known = previous.row["provider_intent_id"] is not None and previous.state is not State.CANCELED
        if known and effect.canceled_attempt != newest:
            return CancelFirst(previous.charge())
    draft = effect.draft(attempt)
    session.execute(
        insert(charges).values(
            intent_id=intent.intent_id,
            attempt=attempt,
            state=State.PREPARED,
            idempotency_key=draft.idempotency_key,
            amount=intent.amount.amount,
            currency=intent.amount.currency,
            customer=intent.customer,
            payment_method=intent.payment_method,
            body=draft.body,
            body_sha256=sha256(draft.body),
            api_version=draft.api_version,
            created_at=now,
        )
    )
    append_event(session, (intent.intent_id, attempt), now, None, "claimed", State.PREPARED)
    return locked(session, intent.intent_id, attempt).charge()


def _refuse_other_payment(effect: Claim, first: RowMapping, found: RowMapping | None) -> None:
    """Amount, currency and customer are the intent's; the payment method is the attempt's while it may still count."""
    intent = effect.intent
    method = None
    if found is not None and not State(found["state"]).refused:
        method = found["payment_method"]
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
        raise AttemptRefused(
            f"{name} is {previous.state}, not refused: another attempt could charge twice. Run `paycli resume`, or "
            "give it up with `paycli cancel`. Nothing was sent."
        )
    refuse_open_finding(session, previous.row["intent_id"])
