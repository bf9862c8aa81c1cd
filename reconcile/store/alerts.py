"""The facts behind alerts: a few figures of the store, each one statement. Nothing here writes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from gateway_client.finding import CRITICAL
from gateway_client.flow.lookup import EVER
from gateway_client.state import PENDING, SENDABLE
from gateway_client.store.rows import charges, findings, run, store
from reconcile.alerts import KEY_ENDS_SOON, Facts, Group, Limits
from reconcile.store.runs import last_complete_at, runs


def read_facts(session: Session, now: datetime, limits: Limits, key_life: timedelta) -> Facts:
    """What the rules look at, as it is now; a clock that is behind what the store has seen is not believed."""
    now = max(now, run(session, select(store.c.latest_seen_at)).scalar() or now)
    return Facts(
        now=now,
        pending_too_long=_pending_too_long(session, now - min(limits.pending, now - EVER)),
        keys_ending=_keys_ending(session, now, key_life),
        reconciled_at=last_complete_at(session),
        unfinished=_unfinished(session, now - min(limits.reconciled, now - EVER)),
        critical=_critical(session),
    )


def _pending_too_long(session: Session, before: datetime) -> tuple[Group, ...]:
    old = charges.c.state.in_(PENDING) & (charges.c.created_at < before)
    return _groups(session, charges.c.state, charges.c.created_at, charges.c.intent_id, old)


def _critical(session: Session) -> tuple[Group, ...]:
    is_open = findings.c.closed_at.is_(None) & findings.c.code.in_(CRITICAL)
    return _groups(session, findings.c.code, findings.c.found_at, findings.c.intent_id, is_open)


def _unfinished(session: Session, before: datetime) -> Group | None:
    """Runs whose window has ended long ago, and which nobody has gone on with: the next night asks for another day."""
    left = runs.c.ended_at.is_(None) & (runs.c.window_end < before)
    found = run(session, select(runs).where(left).order_by(runs.c.window_end, runs.c.day)).mappings().all()
    if not found:
        return None
    oldest = found[0]
    return Group(f"--date {oldest['day']} --tz {oldest['tz']}", len(found), oldest["window_end"], "")


def _keys_ending(session: Session, now: datetime, key_life: timedelta) -> Group | None:
    """Attempts that could still be sent again, but not for long."""
    first = charges.c.first_sent_at
    soon = (
        charges.c.state.in_(SENDABLE)
        & charges.c.closed_at.is_(None)
        & charges.c.provider_intent_id.is_(None)
        & (first > now - key_life)
        & (first <= now - key_life + KEY_ENDS_SOON)
    )
    row = run(session, select(func.count(), func.min(first)).where(soon)).one()
    if not row[0]:
        return None
    query = select(charges.c.intent_id, first).where(soon).order_by(first, charges.c.intent_id).limit(1)
    oldest = run(session, query).mappings().one()
    return Group("in doubt", row[0], oldest["first_sent_at"] + key_life, oldest["intent_id"])


def _groups(
    session: Session,
    by: ColumnElement[str],
    since: ColumnElement[datetime],
    intent_id: ColumnElement[str],
    condition: ColumnElement[bool],
) -> tuple[Group, ...]:
    counted = select(by.label("what"), func.count().label("rows")).where(condition).group_by(by).order_by(by)
    groups = []
    for row in run(session, counted).mappings().all():
        first = select(since.label("since"), intent_id.label("intent_id")).where(condition, by == row["what"])
        oldest = run(session, first.order_by(since, intent_id).limit(1)).mappings().one()
        groups.append(Group(row["what"], row["rows"], oldest["since"], oldest["intent_id"]))
    return tuple(groups)
