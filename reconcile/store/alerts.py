"""The facts behind alerts and `paycli doctor`: a few figures of the store, each one statement. Nothing here writes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Executable, and_, bindparam, case, exists, false, func, or_, select
from sqlalchemy.orm import Session

from gateway_client.finding import CRITICAL, CRITICAL_IF_CHARGED
from gateway_client.flow.lookup import EVER
from gateway_client.outcome import Cause
from gateway_client.state import PENDING, SENDABLE, State
from gateway_client.store.rows import Values, charges, constant, findings, run, sends, store
from reconcile.alerts import KEY_ENDS_SOON, Facts, Group, Limits
from reconcile.store.ages import TOO_OLD, too_old
from reconcile.store.runs import last_complete_at, runs

_LATEST_SEEN_AT = select(store.c.latest_seen_at)
_UNFINISHED = (
    select(runs)
    .where(runs.c.ended_at.is_(None), runs.c.window_end < bindparam("before"))
    .order_by(runs.c.window_end, runs.c.day)
)
_KEY_ENDS_SOON = (
    charges.c.state.in_(constant(SENDABLE))
    & charges.c.closed_at.is_(None)
    & charges.c.provider_intent_id.is_(None)
    & (charges.c.first_sent_at > bindparam("sent_after"))
    & (charges.c.first_sent_at <= bindparam("sent_until"))
)
_KEYS_ENDING = select(func.count(), func.min(charges.c.first_sent_at)).where(_KEY_ENDS_SOON)
_OLDEST_KEY = (
    select(charges.c.intent_id, charges.c.first_sent_at)
    .where(_KEY_ENDS_SOON)
    .order_by(charges.c.first_sent_at, charges.c.intent_id)
    .limit(1)
)
_KEYS_OVER = select(func.count()).where(
    charges.c.state.in_(constant(PENDING)),
    charges.c.provider_intent_id.is_(None),
    charges.c.first_sent_at <= bindparam("sent_until"),
)
_OPEN_FINDINGS = select(func.count()).select_from(findings).where(findings.c.closed_at.is_(None))


def _grouped(
    by: ColumnElement[str],
    since: ColumnElement[datetime],
    intent_id: ColumnElement[str],
    condition: ColumnElement[bool],
    critical: ColumnElement[bool] | None = None,
) -> tuple[Executable, Executable]:
    """How many rows there are of each kind, how many of them are critical, and the oldest row of one kind."""
    serious = func.sum(case((false() if critical is None else critical, 1), else_=0)).label("critical")
    counted = select(by.label("what"), func.count().label("rows"), serious).where(condition).group_by(by).order_by(by)
    first = select(since.label("since"), intent_id.label("intent_id")).where(condition, by == bindparam("of_kind"))
    return counted, first.order_by(since, intent_id).limit(1)


_PENDING = _grouped(
    charges.c.state,
    charges.c.created_at,
    charges.c.intent_id,
    TOO_OLD,
)
_CRITICAL = or_(
    findings.c.code.in_(constant(CRITICAL)),
    and_(findings.c.code.in_(constant(CRITICAL_IF_CHARGED)), findings.c.charged),
)
_FINDINGS = _grouped(
    findings.c.code,
    findings.c.found_at,
    findings.c.intent_id,
    findings.c.closed_at.is_(None) & or_(findings.c.found_at < bindparam("before"), _CRITICAL),
    _CRITICAL,
)
_later = sends.alias("later")
_LATEST = (
    (sends.c.intent_id == charges.c.intent_id)
    & (sends.c.attempt == charges.c.attempt)
    & ~exists().where(
        _later.c.intent_id == sends.c.intent_id,
        _later.c.attempt == sends.c.attempt,
        _later.c.send_no > sends.c.send_no,
    )
)
_REFUSED = _grouped(
    sends.c.cause,
    sends.c.ended_at,
    charges.c.intent_id,
    charges.c.state.in_(constant(PENDING)) & _LATEST & sends.c.cause.in_(constant((Cause.ACCOUNT, Cause.CREDENTIAL))),
)
_REJECTED = _grouped(
    charges.c.reason,
    charges.c.settled_at,
    charges.c.intent_id,
    (charges.c.settled_at > bindparam("since")) & (charges.c.state == State.REJECTED),
)


def read_facts(session: Session, now: datetime, limits: Limits, key_life: timedelta) -> Facts:
    """What the rules look at, as it is now; a clock that is behind what the store has seen is not believed."""
    now = max(now, run(session, _LATEST_SEEN_AT).scalar() or now)
    return Facts(
        now=now,
        pending_too_long=_groups(session, _PENDING, too_old(limits.pending, now)),
        keys_ending=_keys_ending(session, now, key_life),
        reconciled_at=last_complete_at(session),
        unfinished=_unfinished(session, now - min(limits.reconciled, now - EVER)),
        findings=_groups(session, _FINDINGS, {"before": now - min(limits.findings, now - EVER)}),
        refused=_groups(session, _REFUSED, {}),
        rejected=_groups(session, _REJECTED, {"since": now - min(limits.fresh, now - EVER)}),
    )


def keys_over(session: Session, now: datetime, key_life: timedelta) -> int:
    """How many pending attempts are past their key's life: they are never sent again, only looked up."""
    return int(run(session, _KEYS_OVER, {"sent_until": now - key_life}).scalar_one())


def open_findings(session: Session) -> int:
    """How many findings wait for a person."""
    return int(run(session, _OPEN_FINDINGS).scalar_one())


def _unfinished(session: Session, before: datetime) -> Group | None:
    """Runs whose window has ended long ago, and which nobody has gone on with: the next night asks for another day."""
    found = run(session, _UNFINISHED, {"before": before}).mappings().all()
    if not found:
        return None
    oldest = found[0]
    return Group(f"--date {oldest['day']} --tz {oldest['tz']}", len(found), oldest["window_end"], "")


def _keys_ending(session: Session, now: datetime, key_life: timedelta) -> Group | None:
    """Attempts that could still be sent again, but not for long."""
    soon = {"sent_after": now - key_life, "sent_until": now - key_life + KEY_ENDS_SOON}
    row = run(session, _KEYS_ENDING, soon).one()
    if not row[0]:
        return None
    oldest = run(session, _OLDEST_KEY, soon).mappings().one()
    return Group("in doubt", row[0], oldest["first_sent_at"] + key_life, oldest["intent_id"])


def _groups(session: Session, of: tuple[Executable, Executable], values: Values) -> tuple[Group, ...]:
    counted, oldest_of_kind = of
    groups = []
    for row in run(session, counted, values).mappings().all():
        oldest = run(session, oldest_of_kind, {**values, "of_kind": row["what"]}).mappings().one()
        groups.append(Group(row["what"], row["rows"], oldest["since"], oldest["intent_id"], row["critical"]))
    return tuple(groups)
