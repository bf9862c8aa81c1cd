"""What is only read: pending charges, attempts and their history. Nothing here locks or writes."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select

from gateway_client.charge import Charge, Place
from gateway_client.record import Row
from gateway_client.state import PENDING, SENDABLE
from gateway_client.store.rows import (
    IS_CHARGE,
    charges,
    constant,
    events,
    key_of,
    of_attempt,
    sends,
    snapshots,
    store,
    with_sends,
)
from gateway_client.transaction import Transaction

_ATTEMPTS = select(charges).where(charges.c.intent_id == bindparam("of_intent"), IS_CHARGE).order_by(charges.c.attempt)
_HISTORY = select(events).where(*of_attempt(events)).order_by(events.c.event_no)
# The latest time that the store has seen is that of its newest send: one look into an index, and no row that every
# charge would have to write.
LATEST_BEGUN_AT = select(func.max(sends.c.begun_at)).scalar_subquery().label("latest_begun_at")
_TIMES = select(store.c.created_at, LATEST_BEGUN_AT)
_TIMELINE = select(store.c.timeline)
_UNSEALED = select(func.count()).where(
    charges.c.state.in_(constant(SENDABLE)),
    charges.c.closed_at.is_(None),
    charges.c.provider_intent_id.is_(None),
    or_(charges.c.seal.is_(None), func.substr(charges.c.seal, 1, 8).not_in(bindparam("of_secrets", expanding=True))),
)


@cache
def _pending(*, after: bool) -> Select[Any]:
    order = (charges.c.created_at, charges.c.intent_id, charges.c.operation, charges.c.attempt)
    query = select(charges).where(charges.c.state.in_(constant(PENDING))).order_by(*order).limit(bindparam("rows_max"))
    if not after:
        return query
    at: Any = bindparam("after_at")
    intent_id: Any = bindparam("after_intent")
    operation: Any = bindparam("after_operation")
    attempt: Any = bindparam("after_attempt")
    columns = charges.c
    same = (columns.created_at == at) & (columns.intent_id == intent_id) & (columns.operation == operation)
    return query.where(
        or_(
            columns.created_at > at,
            (columns.created_at == at) & (columns.intent_id > intent_id),
            (columns.created_at == at) & (columns.intent_id == intent_id) & (columns.operation > operation),
            same & (columns.attempt > attempt),
        )
    )


def read_page(tx: Transaction, after: Place | None, rows_max: int) -> tuple[Charge, ...]:
    """Return the pending attempts that follow the one in this place, oldest first."""
    values: dict[str, object] = {"rows_max": rows_max}
    if after is not None:
        at, intent_id, operation, attempt = after
        values |= {"after_at": at, "after_intent": intent_id, "after_operation": operation, "after_attempt": attempt}
    return snapshots(tx, tx.execute(_pending(after=after is not None), values).mappings())


def read_attempts(tx: Transaction, intent_id: str) -> tuple[Charge, ...]:
    """All attempts of an intent, in their order."""
    return snapshots(tx, tx.execute(_ATTEMPTS, {"of_intent": intent_id}).mappings())


def read_history(tx: Transaction, charge: Charge) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The sends and the events of one attempt, in their order."""
    of = {"intent_id": charge.intent_id, "operation": charge.operation, "attempt": charge.attempt}
    return with_sends(tx, of).sends, tuple(tx.execute(_HISTORY, key_of(of)).mappings())


def read_latest_seen_at(tx: Transaction) -> datetime | None:
    """Read the latest time that the store has seen; None when it belongs to nobody yet."""
    row = tx.execute(_TIMES).mappings().first()
    return None if row is None else latest(row)


def latest(row: Row) -> datetime:
    """Return the latest time that the store has seen, by a row with both of its times."""
    made, begun = row["created_at"], row["latest_begun_at"]
    assert isinstance(made, datetime)
    return made if begun is None else max(made, begun)


def read_unsealed(tx: Transaction, secret_ids: tuple[str, ...]) -> int:
    """How many charges that may still be sent carry no seal of these secrets."""
    return int(tx.execute(_UNSEALED, {"of_secrets": secret_ids}).scalar_one())


def read_timeline(tx: Transaction) -> str | None:
    """The history of its database that the store was bound on; None when that was not written down."""
    found = tx.execute(_TIMELINE).scalar()
    return None if found is None else str(found)
