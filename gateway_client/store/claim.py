"""Whom the store belongs to, and the claim: the row of an attempt, found or inserted before anything is sent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import bindparam, insert, select

from gateway_client.charge import Charge
from gateway_client.errors import AttemptRefused, IntentConflict, NeedsPerson, NewAttemptNeeded
from gateway_client.evidence import Known, Step, why_not
from gateway_client.finding import Code
from gateway_client.flow.effects import Begun, Bind, Claim, ClearFirst, ReadBinding
from gateway_client.gateways.base import Binding
from gateway_client.intent import PaymentIntent, differences
from gateway_client.record import Record, Row
from gateway_client.state import CHARGE, State
from gateway_client.store.attempts import insert_attempt, prepared, refuse_other_store
from gateway_client.store.facts import Facts, binding_of, read_facts, why_held
from gateway_client.store.registry import performs
from gateway_client.store.rows import (
    IS_CHARGE,
    STORE_ROW,
    charges,
    findings,
    key_of,
    of_attempt,
    store,
    with_sends,
)
from gateway_client.transaction import Transaction

_INSERT_STORE = insert(store)
_UNASKED = select(findings.c.id).where(
    *of_attempt(findings), findings.c.code == Code.MISSING_LOCALLY, findings.c.closed_at.is_(None)
)
_ATTEMPTS = (
    select(charges)
    .where(charges.c.intent_id == bindparam("of_intent"), IS_CHARGE)
    .order_by(charges.c.attempt)
    .with_for_update()
)


@performs(ReadBinding)
def read_binding(tx: Transaction, effect: ReadBinding) -> Binding | None:
    """Whom the store belongs to."""
    row = tx.execute(STORE_ROW).mappings().first()
    return None if row is None else binding_of(row)


@performs(Bind)
def bind(tx: Transaction, effect: Bind) -> Binding:
    """Write the one row of the store, unless another process was first."""
    found = read_binding(tx, ReadBinding())
    if found is not None:
        return found
    made = replace(effect.binding, store_id=effect.binding.store_id or secrets.token_hex(16))
    row = {"id": 1, **asdict(made), "created_at": tx.now, "bound_by": tx.actor, "timeline": tx.timeline}
    tx.execute(_INSERT_STORE, row)
    return made


@performs(Claim)
def claim(tx: Transaction, effect: Claim) -> Charge | Begun | ClearFirst:
    """Find the row of an attempt, or insert it when the attempts before it allow that, with its first send if asked to.

    Where the intent has no row, none is locked: of two that insert the first attempt, a unique key lets one do it, and
    the other one's transaction is done again and finds it.
    """
    intent = effect.intent
    facts = tx.ahead if isinstance(tx.ahead, Facts) else read_facts(tx, intent.intent_id, effect.attempt or 1)
    refuse_other_store(facts, effect.binding, intent.intent_id)
    rows = tx.execute(_ATTEMPTS, {"of_intent": intent.intent_id}).mappings().all() if facts.intent_known else ()
    attempts = {row["attempt"]: row for row in rows}
    newest = max(attempts, default=0)
    attempt = effect.attempt or newest or 1
    found = attempts.get(attempt)
    _refuse_other_payment(tx, intent, found if found is not None else _executed(rows), anew=found is None)
    if found is not None:
        _refuse_other_method(intent, found, newest)
        return with_sends(tx, found).charge()
    if attempt != newest + 1:
        raise AttemptRefused(
            f"{intent.intent_id}: attempt {attempt} was asked for, the newest is {newest or 'none'}. Nothing was sent."
        )
    if rows:
        facts = read_facts(tx, intent.intent_id, attempt)  # again: the rows are locked by now
        previous = with_sends(tx, attempts[newest])
        _refuse_while_needed(previous, attempt, facts)
        known = Known(previous.charge(), effect.profile.bounds, tx.now)
        before = _never_seen(tx, rows[:-1])
        if (before or why_not(Step.NEXT_ATTEMPT, known) is not None) and effect.cleared_attempt != newest:
            return ClearFirst(previous.charge(), before)
    return insert_attempt(tx, effect, _prepared(effect, attempt, tx.now), facts)


def _prepared(effect: Claim, attempt: int, now: datetime) -> Record:
    intent, draft = effect.intent, effect.draft(attempt)
    row = {
        "intent_id": intent.intent_id,
        "operation": CHARGE,
        "attempt": attempt,
        "amount": intent.amount.amount,
        "currency": intent.amount.currency,
        "customer": intent.customer,
        "payment_method": intent.payment_method,
        "not_after": intent.not_after,
    }
    return prepared(row, draft, now)


def _executed(rows: Sequence[Row]) -> Row | None:
    """The first attempt that was asked for here, and executed, or may have been: whose numbers the next one has.

    A refusal that was imported holds nobody to its numbers: until a person has looked, its finding stops the next one.
    """
    none = (row for row in rows if not _never_executed(row) and not (_imported(row) and State(row["state"]).refused))
    return next(none, None)


def _imported(row: Row) -> bool:
    return not row["body"]


def _never_executed(row: Row) -> bool:
    state = State(row["state"])
    unsent = row["first_sent_at"] is None and row["provider_intent_id"] is None
    return state in (State.REJECTED, State.ABSENT) or (state is State.CANCELED and unsent)


def _refuse_other_payment(tx: Transaction, intent: PaymentIntent, row: Row | None, *, anew: bool) -> None:
    """The attempt that is asked for, or that was executed, is this payment; another attempt may get another method."""
    if row is None:
        return
    own_method = None if anew or State(row["state"]).refused else row["payment_method"] or None  # unknown: imported
    differ = differences(
        intent,
        amount=row["amount"],
        currency=row["currency"],
        customer=row["customer"],
        payment_method=own_method,
    )
    if not differ:
        return
    name, what = f"{intent.intent_id} attempt {row['attempt']}", "; ".join(differ)
    if _imported(row):
        finding = tx.execute(_UNASKED, key_of(row)).scalar()
        if finding is not None:
            raise NeedsPerson(
                f"{name} was imported from the provider, nobody here had asked for it, and it is not this payment "
                f"(finding {finding}): {what}. Nothing was sent, and it does not count as paid. Look at it there."
            )
        raise IntentConflict(
            f"{name} was imported from the provider, nobody here had asked for it, and it is not this payment: {what}. "
            "Nothing was sent, and it does not count as paid: use another intent id."
        )
    raise IntentConflict(
        f"{intent.intent_id} already stands for another payment: {what}. Nothing was sent. "
        + (
            f"Attempt {row['attempt']} was never executed: the next one may be another payment, if you ask for it."
            if _never_executed(row)
            else "One intent is one payment: use another intent id for another one."
        )
    )


def _refuse_other_method(intent: PaymentIntent, found: Row, newest: int) -> None:
    """What became of one payment method is no answer to who asks with another one: a new card for a declined one."""
    state = State(found["state"])
    if state.refused and found["payment_method"] not in (None, "", intent.payment_method):
        attempt = found["attempt"]
        raise NewAttemptNeeded(
            f"{intent.intent_id}: attempt {attempt} was made with another payment method ({found['payment_method']}), "
            f"and is {state}. To charge {intent.payment_method}, name the next one: charge(…, attempt={newest + 1}) or "
            f"`--attempt {newest + 1}`. Nothing was sent.",
            newest + 1,
        )


def _refuse_while_needed(previous: Record, attempt: int, facts: Facts) -> None:
    """Attempt n+1 exists only after a definite refusal of n, with nothing left to explain."""
    name = f"{previous.row['intent_id']} attempt {previous.row['attempt']}"
    if previous.state is State.SUCCEEDED:
        raise AttemptRefused(f"{name} succeeded: the customer has paid, no other attempt is made. Nothing was sent.")
    if previous.state.pending:
        given_up = previous.row["closed_at"] is not None
        next_step = "until its absence is proven" if given_up else "or give it up with `paycli cancel`"
        raise AttemptRefused(
            f"{name} is {previous.state}, not refused: another attempt could charge twice. Run `paycli resume`, "
            f"{next_step}. Nothing was sent."
        )
    held = why_held(facts, previous.row["intent_id"], attempt)
    if held is not None:
        raise held


def _never_seen(tx: Transaction, rows: Sequence[Row]) -> tuple[Charge, ...]:
    """Attempts of which the provider showed nothing when the next one was made: it may show a charge by now."""
    states = (State.REJECTED, State.ABSENT)
    unseen = (row for row in rows if State(row["state"]) in states and row["provider_intent_id"] is None)
    return tuple(with_sends(tx, row).charge() for row in unseen)
