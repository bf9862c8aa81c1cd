"""What is only read: pending charges, attempts and their history. Nothing here locks or writes."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.flow.effects import ReadPending
from gateway_client.state import PENDING
from gateway_client.store.rows import Row, charges, events, run, snapshots, with_sends


def read_pending(session: Session, effect: ReadPending) -> tuple[Charge, ...]:
    """Pending charges, oldest first."""
    order = (charges.c.created_at, charges.c.intent_id, charges.c.attempt)
    query = select(charges).where(charges.c.state.in_(PENDING)).order_by(*order).limit(effect.rows_max)
    if effect.after is not None:
        at, intent_id, attempt = effect.after
        later = charges.c.created_at > at
        tied = (charges.c.created_at == at) & (
            (charges.c.intent_id > intent_id) | ((charges.c.intent_id == intent_id) & (charges.c.attempt > attempt))
        )
        query = query.where(or_(later, tied))
    return snapshots(session, run(session, query).mappings())


def read_attempts(session: Session, intent_id: str) -> tuple[Charge, ...]:
    """All attempts of an intent, in their order."""
    query = select(charges).where(charges.c.intent_id == intent_id).order_by(charges.c.attempt)
    return snapshots(session, run(session, query).mappings())


def read_history(session: Session, charge: Charge) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The sends and the events of one attempt, in their order."""
    of = {"intent_id": charge.intent_id, "attempt": charge.attempt}
    query = select(events).filter_by(**of).order_by(events.c.event_no)
    return with_sends(session, of).sends, tuple(run(session, query).mappings())
