"""The facts behind alerts and `paycli doctor`: a few figures of the store, each one statement. Nothing here writes."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Executable, and_, bindparam, case, exists, false, func, or_, select

from gateway_client.charge import EVER
from gateway_client.errors import InvalidInput
from gateway_client.finding import CRITICAL, CRITICAL_IF_CHARGED
from gateway_client.outcome import Cause
from gateway_client.record import Values
from gateway_client.state import PENDING, SENDABLE, State
from gateway_client.store.reading import read_latest_seen_at
from gateway_client.store.rows import charges, constant, findings, sends
from gateway_client.transaction import Transaction
from reconcile.alerts import KEY_ENDS_SOON, Facts, Group, Limits, Missed
from reconcile.store.ages import TOO_OLD, too_old
from reconcile.store.coverage import Coverage, read_coverage
from reconcile.window import days_left_out, window_of

_KEY_ENDS_SOON = (
    charges.c.state.in_(constant(SENDABLE))
    & charges.c.closed_at.is_(None)
    & charges.c.provider_intent_id.is_(None)
    & (charges.c.first_sent_at > bindparam("sent_after"))
    & (charges.c.first_sent_at <= bindparam("sent_until"))
)
_KEYS_ENDING = select(func.count().label("rows"), func.max(charges.c.first_sent_at).label("latest")).where(
    _KEY_ENDS_SOON
)
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
    counted = (
        select(by.label("what"), func.count().label("rows"), serious, func.max(since).label("latest"))
        .where(condition)
        .group_by(by)
        .order_by(by)
    )
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


def read_facts(tx: Transaction, now: datetime, limits: Limits, key_life: timedelta) -> Facts:
    """What the rules look at, as it is now; a clock that is behind what the store has seen is not believed."""
    now = max(now, read_latest_seen_at(tx) or now)
    known, late = read_coverage(tx), now - min(limits.reconciled, now - EVER)
    newest = known.newest
    return Facts(
        now=now,
        pending_too_long=_groups(tx, _PENDING, too_old(limits.pending, now)),
        keys_ending=_keys_ending(tx, now, key_life),
        reconciled_at=None if newest is None else newest["ended_at"],
        missed=_missed(known, now, late),
        unfinished=_unfinished(known, late),
        findings=_groups(tx, _FINDINGS, {"before": now - min(limits.findings, now - EVER)}),
        refused=_groups(tx, _REFUSED, {}),
        rejected=_groups(tx, _REJECTED, {"since": now - min(limits.fresh, now - EVER)}),
    )


def keys_over(tx: Transaction, now: datetime, key_life: timedelta) -> int:
    """How many pending attempts are past their key's life: they are never sent again, only looked up."""
    return int(tx.execute(_KEYS_OVER, {"sent_until": now - key_life}).scalar_one())


def open_findings(tx: Transaction) -> int:
    """How many findings wait for a person."""
    return int(tx.execute(_OPEN_FINDINGS).scalar_one())


def _missed(known: Coverage, now: datetime, late: datetime) -> Missed | None:
    """Days that have no complete run, in the zone of the newest one: over by `late`, or before a day that has one."""
    if known.since is None or known.newest is None:
        return None
    tz = known.newest["tz"]
    try:
        days = days_left_out(known.spans, known.since, now, tz)
    except InvalidInput:  # a zone that this machine does not know: alerts must not fail for that
        days, tz = days_left_out(known.spans, known.since, now, "UTC"), "UTC"
    by = max(late, known.reach or late)
    missed = tuple(day for day in days if window_of(day, tz, now).end <= by)
    return Missed(missed, tz, *(window_of(day, tz, now).end for day in (missed[0], missed[-1]))) if missed else None


def _unfinished(known: Coverage, late: datetime) -> Group | None:
    """Runs of windows before all complete ones, which nobody has gone on with; later ones are told as missed days."""
    before = late if known.since is None else min(late, known.since + timedelta(microseconds=1))
    found = [row for row in known.unfinished if row["window_end"] < before]
    if not found:
        return None
    oldest = found[0]
    return Group(
        f"--date {oldest['day']} --tz {oldest['tz']}",
        len(found),
        oldest["window_end"],
        "",
        latest=found[-1]["window_end"],
    )


def _keys_ending(tx: Transaction, now: datetime, key_life: timedelta) -> Group | None:
    """Attempts that could still be sent again, but not for long."""
    soon = {"sent_after": now - key_life, "sent_until": now - key_life + KEY_ENDS_SOON}
    row = tx.execute(_KEYS_ENDING, soon).mappings().one()
    if not row["rows"]:
        return None
    oldest = tx.execute(_OLDEST_KEY, soon).mappings().one()
    ends_at, latest = oldest["first_sent_at"] + key_life, row["latest"] + key_life
    return Group("in doubt", row["rows"], ends_at, oldest["intent_id"], latest=latest)


def _groups(tx: Transaction, of: tuple[Executable, Executable], values: Values) -> tuple[Group, ...]:
    counted, oldest_of_kind = of
    groups = []
    for row in tx.execute(counted, values).mappings().all():
        oldest = tx.execute(oldest_of_kind, {**values, "of_kind": row["what"]}).mappings().one()
        groups.append(
            Group(row["what"], row["rows"], oldest["since"], oldest["intent_id"], row["critical"], row["latest"])
        )
    return tuple(groups)
