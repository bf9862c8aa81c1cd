"""What is only read: pending charges, attempts and their history. Nothing here locks or writes."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.flow.effects import ReadPending
from gateway_client.record import Row
from gateway_client.state import PENDING, SENDABLE
from gateway_client.store.rows import (
    charges,
    constant,
    events,
    key_of,
    of_attempt,
    run,
    snapshots,
    store,
    with_sends,
)

_ATTEMPTS = select(charges).where(charges.c.intent_id == bindparam("of_intent")).order_by(charges.c.attempt)
_HISTORY = select(events).where(*of_attempt(events)).order_by(events.c.event_no)
_TIMELINE = select(store.c.timeline)
_UNSEALED = select(func.count()).where(
    charges.c.state.in_(constant(SENDABLE)),
    charges.c.closed_at.is_(None),
    charges.c.provider_intent_id.is_(None),
    or_(charges.c.seal.is_(None), func.substr(charges.c.seal, 1, 8).not_in(bindparam("of_secrets", expanding=True))),
)


@cache
def _pending(*, after: bool) -> Select[Any]:
    order = (charges.c.created_at, charges.c.intent_id, charges.c.attempt)
    query = select(charges).where(charges.c.state.in_(constant(PENDING))).order_by(*order).limit(bindparam("rows_max"))
    if not after:
        return query
    at: Any = bindparam("after_at")
    intent_id: Any = bindparam("after_intent")
    attempt: Any = bindparam("after_attempt")
    later = charges.c.created_at > at
    tied = (charges.c.created_at == at) & (
        (charges.c.intent_id > intent_id) | ((charges.c.intent_id == intent_id) & (charges.c.attempt > attempt))
    )
    return query.where(or_(later, tied))


def read_pending(session: Session, effect: ReadPending) -> tuple[Charge, ...]:
    """Pending charges, oldest first."""
    values: dict[str, object] = {"rows_max": effect.rows_max}
    if effect.after is not None:
        at, intent_id, attempt = effect.after
        values |= {"after_at": at, "after_intent": intent_id, "after_attempt": attempt}
    return snapshots(session, run(session, _pending(after=effect.after is not None), values).mappings())


def read_attempts(session: Session, intent_id: str) -> tuple[Charge, ...]:
    """All attempts of an intent, in their order."""
    return snapshots(session, run(session, _ATTEMPTS, {"of_intent": intent_id}).mappings())


def read_history(session: Session, charge: Charge) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The sends and the events of one attempt, in their order."""
    of = {"intent_id": charge.intent_id, "attempt": charge.attempt}
    return with_sends(session, of).sends, tuple(run(session, _HISTORY, key_of(of)).mappings())


def read_unsealed(session: Session, secret_ids: tuple[str, ...]) -> int:
    """How many charges that may still be sent carry no seal of these secrets."""
    return int(run(session, _UNSEALED, {"of_secrets": secret_ids}).scalar_one())


def read_timeline(session: Session) -> str | None:
    """The history of its database that the store was bound on; None when that was not written down."""
    found = run(session, _TIMELINE).scalar()
    return None if found is None else str(found)
