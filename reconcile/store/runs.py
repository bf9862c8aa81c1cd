"""Runs: who works on a window, how far the provider's lists are read, and how a run ends.

A run is leased by one call at a time, by the database's clock where it has one. Each transaction of the run renews the
lease, and fails once another call has it. A lease that is over is taken over, with the window as it was frozen.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway_client import columns
from gateway_client.charge import HELD_MAX, iso
from gateway_client.errors import RunHeld
from gateway_client.finding import Action, Code
from gateway_client.record import Row, Values
from gateway_client.store.findings import OF_A_RUN, findings_of, run_findings
from gateway_client.store.registry import performs
from gateway_client.store.rows import charges, findings, store
from gateway_client.transaction import Transaction
from reconcile.effects import AttemptKey, EndRun, OpenedRun, OpenRun, Part, ReadBeginning, ReadResult
from reconcile.report import RunResult
from reconcile.store.counts import count_local, number_of
from reconcile.store.lease import over, renew
from reconcile.store.parts import read_anew, read_parts, write_parts
from reconcile.store.unreadable import forget_unreadable, read_unreadable, why_unreadable
from reconcile.window import Window

runs = columns.runs

UPDATE_RUN = update(runs).where(runs.c.run_id == bindparam("of_run"))
_INSERT_RUN = insert(runs)
_RUN = select(runs).where(runs.c.run_id == bindparam("of_run"))
_LOCKED_RUN = _RUN.with_for_update()
_UNFINISHED = (
    select(runs)
    .where(runs.c.day == bindparam("of_day"), runs.c.tz == bindparam("of_tz"), runs.c.ended_at.is_(None))
    .with_for_update()
)
_END_UNFINISHED = update(runs).where(runs.c.ended_at.is_(None)).values(ended_at=runs.c.leased_until)
_MADE_AT = select(store.c.created_at)
_FIRST_SENT_AT = select(func.min(charges.c.first_sent_at))  # imported ones, too, may be older than the store


@performs(OpenRun)
def open_run(tx: Transaction, effect: OpenRun) -> OpenedRun:
    """Begin a run of the window, or take up the one that was left unfinished, with its bounds."""
    window = effect.window
    day = {"of_day": window.day.isoformat(), "of_tz": window.tz}
    # Two that begin at one moment have no row to lock: the day is locked as an intent is.
    tx.lock([f"run of {window.day.isoformat()} {window.tz}"])
    unfinished = tx.execute(_UNFINISHED, day).mappings().all()
    clock = tx.clock()  # when the rows are locked: whoever let go of one meanwhile did so before
    leased = {
        "worked_by": tx.actor,
        "leased_by": effect.lease.leased_by,
        "leased_until": clock + timedelta(seconds=effect.lease.seconds),
    }
    for row in unfinished:
        ours = row["leased_by"] == effect.lease.leased_by  # opened already, by a commit that was not confirmed
        if clock < row["leased_until"] <= clock + HELD_MAX and not ours:
            raise _leased(row, clock)
        if _same(row, window):
            tx.execute(UPDATE_RUN, {"of_run": row["run_id"], **leased})
            parts = read_parts(tx, row["run_id"])
            if not any(part.done or part.cursor for part in parts):
                forget_unreadable(tx, row["run_id"])
            return _opened({**row, **leased}, effect, parts)
        # It was of a part of the day, and now the whole is asked for.
        why = "given up for a run of the whole day"
        ended = {"ended_at": tx.now, "worked_by": tx.actor, "why_incomplete": why}
        tx.execute(UPDATE_RUN, {"of_run": row["run_id"], **ended})
    new: dict[str, object] = dict.fromkeys(runs.c.keys())
    new |= {
        "run_id": _run_id(window, effect.lease.leased_by, tx.now),
        "day": window.day.isoformat(),
        "tz": window.tz,
        "window_start": window.start,
        "window_end": window.end,
        "started_at": tx.now,
        "begun_by": tx.actor,
        **leased,
        "local_charges": count_local(tx, window),
        "provider_charges": 0,
        "matched": 0,
        "foreign": 0,
        "complete": False,
    }
    tx.execute(_INSERT_RUN, new)
    parts = tuple(Part(number, 0, window.start, window.end) for number in range(effect.lists))
    write_parts(tx, new["run_id"], parts)
    return _opened(new, effect, parts)


def _same(row: Row, window: Window) -> bool:
    """Is the unfinished run one of this window? A day that is still not over keeps the end that was frozen first."""
    return bool(row["window_start"] == window.start and (row["window_end"] == window.end or not window.whole))


def _run_id(window: Window, leased_by: str, now: datetime) -> str:
    mark = hashlib.sha256(f"{window.day} {window.tz} {leased_by} {now.isoformat()}".encode()).hexdigest()[:8]
    return f"{OF_A_RUN}{window.day:%Y%m%d}_{mark}"


def _leased(row: Row, clock: datetime) -> RunHeld:
    left_s = math.ceil((row["leased_until"] - clock).total_seconds())
    return RunHeld(
        f"{row['day']} ({row['tz']}) is being reconciled by {row['leased_by']}, since {iso(row['started_at'])}; its "
        f"lease is until {iso(row['leased_until'])}. Nothing was done here. Wait for it; if it has died, this is "
        f"taken over in {left_s} s: run it again then."
    )


def _opened(row: Row, effect: OpenRun, parts: tuple[Part, ...]) -> OpenedRun:
    window = effect.window
    return OpenedRun(
        run_id=row["run_id"],
        lease=effect.lease,
        binding=effect.binding,
        window=Window(window.day, window.tz, row["window_start"], row["window_end"], window.whole),
        started_at=row["started_at"],
        parts=parts,
    )


def _ended(tx: Transaction, opened: OpenedRun) -> bool:
    """Tell whether we have ended this run already; a commit that nobody confirmed may be under way, and is waited for.

    One that a restored database does not know was not ended.
    """
    row = tx.execute(_LOCKED_RUN, {"of_run": opened.run_id}).mappings().first()
    return row is not None and row["ended_at"] is not None and row["leased_by"] == opened.lease.leased_by


def forget_unfinished(tx: Transaction) -> None:
    """In a copy of the store: the runs that others have begun are not ours to go on with."""
    tx.execute(_END_UNFINISHED)


@performs(EndRun)
def end_run(tx: Transaction, effect: EndRun) -> None:
    """End the run; when something could not be read it stays unfinished, for the next call."""
    if _ended(tx, effect.run):
        return  # by a commit that nobody confirmed
    renew(tx, effect.run)
    of, unread = {"of_run": effect.run.run_id}, why_unreadable(tx, effect.run.run_id)
    why = "; ".join(filter(None, (effect.why_incomplete, unread))) or None
    complete = why is None
    values: dict[str, object] = {
        "provider_charges": effect.counts.provider_charges,
        "foreign": effect.counts.foreign,
        "matched": effect.counts.matched,
        "complete": complete,
        "why_incomplete": why,
        "ended_at": tx.now if complete else None,
        "leased_until": over(tx, effect.run),
    }
    if unread is not None and effect.listed:
        read_anew(tx, effect.run)  # it may be readable by the next call
    tx.execute(UPDATE_RUN, of | values)


_NEWS = select(func.count()).where(run_findings.c.run_id == bindparam("of_run"), run_findings.c.news)
_STALE_NO_MORE = select(func.count()).where(
    findings.c.closed_by == bindparam("of_run"), findings.c.code == Code.STALE_PENDING
)
_OPEN_FINDINGS = select(func.count()).select_from(findings).where(findings.c.closed_at.is_(None))
_WOULD = {Action.REPAIRED: Action.WOULD_REPAIR}


@performs(ReadResult)
def read_result(tx: Transaction, effect: ReadResult) -> RunResult:
    """Read a run as it ended, or as far as it came."""
    run_id, dry_run = effect.run_id, effect.dry_run
    of = {"of_run": run_id}
    row = tx.execute(_RUN, of).mappings().one()
    found = findings_of(tx, run_id)
    unread, unread_ids = read_unreadable(tx, run_id)
    return RunResult(
        run_id=row["run_id"],
        day=row["day"],
        tz=row["tz"],
        window_start=row["window_start"],
        window_end=row["window_end"],
        started_at=row["started_at"],
        complete=row["complete"],
        why_incomplete=row["why_incomplete"],
        dry_run=dry_run,
        provider_charges=row["provider_charges"],
        local_charges=row["local_charges"],
        matched=row["matched"],
        repaired=sum(one.action is Action.REPAIRED for one in found),
        flagged=sum(one.action is Action.FLAGGED and one.open for one in found),
        foreign=row["foreign"],
        open_findings=number_of(tx, _OPEN_FINDINGS),
        news=number_of(tx, _NEWS, of) + number_of(tx, _STALE_NO_MORE, of),
        findings=tuple(replace(one, action=_WOULD.get(one.action, one.action)) if dry_run else one for one in found),
        unreadable=unread,
        unreadable_ids=unread_ids,
    )


@performs(ReadBeginning)
def read_beginning(tx: Transaction, effect: ReadBeginning) -> datetime | None:
    """From when on the store can know of a charge; None when it belongs to nobody yet."""
    times = (tx.execute(statement).scalar() for statement in (_MADE_AT, _FIRST_SENT_AT))
    return min((at for at in times if at is not None), default=None)


def after_key(which: Any) -> Any:
    """Rows after the key of `cursor`, in the order of intent and attempt; the first condition is for the index."""
    intent_id: Any = bindparam("after_intent")
    attempt: Any = bindparam("after_attempt")
    later = or_(which.c.intent_id > intent_id, which.c.attempt > attempt)
    return and_(which.c.intent_id >= intent_id, later)


def cursor(key: AttemptKey | None) -> Values:
    """The parameters of `after_key`; none for the first page."""
    return {} if key is None else {"after_intent": key[0], "after_attempt": key[1]}
