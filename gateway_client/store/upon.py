"""The claim of what acts upon a charge: its row, found or inserted under the lock of the payment, before it is sent.

How much is left of a charge is judged here, by all that is written of it, so that any number of processes together
cannot exceed it.
"""

from __future__ import annotations

from sqlalchemy import and_, bindparam, or_, select

from gateway_client.charge import Charge
from gateway_client.errors import AttemptRefused, IntentConflict, NotPossible
from gateway_client.evidence import Known, Step, why_not
from gateway_client.flow.effects import Begun, ClaimUpon
from gateway_client.money import shown
from gateway_client.operation import UPON_A_CHARGE, Payment, Upon
from gateway_client.state import State
from gateway_client.store.attempts import insert_attempt, prepared, refuse_other_store
from gateway_client.store.facts import Facts, read_facts, why_held
from gateway_client.store.registry import performs
from gateway_client.store.rows import IS_CHARGE, charges, snapshots
from gateway_client.transaction import Transaction

_MINE = select(charges).where(
    charges.c.intent_id == bindparam("of_intent"), charges.c.operation == bindparam("of_operation")
)
_PAYMENT = (
    select(charges)
    .where(
        or_(
            and_(charges.c.intent_id == bindparam("of_parent"), IS_CHARGE),
            charges.c.parent_id == bindparam("of_parent"),
        )
    )
    .order_by(charges.c.operation, charges.c.intent_id, charges.c.attempt)
    .with_for_update()
)


@performs(ClaimUpon)
def claim_upon(tx: Transaction, effect: ClaimUpon) -> Charge | Begun:
    """Find the row of an attempt, or insert it when its charge and the attempts before it allow that."""
    upon, operation = effect.upon, UPON_A_CHARGE[effect.operation]
    facts = read_facts(tx, upon.intent_id, effect.attempt or 1, operation.name, upon.parent_id)
    refuse_other_store(facts, effect.binding, upon.intent_id)
    of = {"of_intent": upon.intent_id, "of_operation": operation.name, "of_parent": upon.parent_id}
    mine = snapshots(tx, tx.execute(_MINE, of).mappings()) if facts.intent_known else ()
    attempts = {charge.attempt: charge for charge in mine}
    newest = max(attempts, default=0)
    attempt = effect.attempt or newest or 1
    for charge in mine:
        _refuse_other_act(upon, charge)
    if attempt in attempts:
        return attempts[attempt]
    if attempt != newest + 1:
        raise AttemptRefused(
            f"{operation.name} {upon.intent_id}: attempt {attempt} was asked for, the newest is {newest or 'none'}. "
            "Nothing was sent."
        )
    if newest:
        facts = read_facts(tx, upon.intent_id, attempt, operation.name, upon.parent_id)
        _refuse_while_needed(effect, attempts[newest], facts)
    rows = snapshots(tx, tx.execute(_PAYMENT, of).mappings())
    payment = Payment(
        tuple(charge for charge in rows if charge.parent_id is None),
        tuple(charge for charge in rows if charge.parent_id is not None),
    )
    parent = operation.precondition(upon, payment)
    if isinstance(parent, str):
        raise NotPossible(f"{operation.name} {upon.intent_id}: {parent}. Nothing was written or sent.")
    row = {
        "intent_id": upon.intent_id,
        "operation": operation.name,
        "attempt": attempt,
        "parent_id": upon.parent_id,
        "amount": upon.amount.amount,
        "currency": upon.amount.currency,
        "payment_method": "",
    }
    return insert_attempt(tx, effect, prepared(row, effect.draft(attempt, parent), tx.now), facts)


def _refuse_other_act(upon: Upon, charge: Charge) -> None:
    """Refuse a reference that stands for something else already."""
    if (charge.parent_id, charge.amount, charge.currency) != (upon.parent_id, upon.amount.amount, upon.amount.currency):
        raise IntentConflict(
            f"{charge.operation} {charge.intent_id} already stands for {shown(charge.amount, charge.currency)} of "
            f"{charge.parent_id}, now it is asked for {upon.amount} of {upon.parent_id}. Nothing was sent: use another "
            "reference for another one."
        )


def _refuse_while_needed(effect: ClaimUpon, previous: Charge, facts: Facts) -> None:
    """Attempt n+1 exists only after a definite refusal of n, by the rules of its operation."""
    name = f"{previous.operation} {previous.intent_id} attempt {previous.attempt}"
    if previous.pending or previous.state is State.SUCCEEDED:
        raise AttemptRefused(f"{name} is {previous.state}, not refused. Nothing was sent.")
    problem = why_not(Step.NEXT_ATTEMPT, Known(previous, effect.profile.bounds, facts.clock))
    if problem is not None:
        raise AttemptRefused(f"{name} is {previous.state}: {problem}. Nothing was sent.")
    held = why_held(facts, previous.intent_id, previous.attempt + 1)
    if held is not None:
        raise held
