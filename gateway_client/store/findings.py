"""Findings on disk: one row for one disagreement, however often it is found. Nothing is ever deleted."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from gateway_client.errors import UnknownFinding
from gateway_client.finding import Action, Code, Finding, Found
from gateway_client.state import State
from gateway_client.store.rows import Row, append_event, charges, findings, run
from gateway_client.tables import RunFinding, table

run_findings = table(RunFinding)

OF_A_RUN = "run_"  # how a run's id begins: a person's name never holds the place of one, for it has an @


def record_finding(session: Session, found: Found, action: Action, now: datetime, run_id: str | None = None) -> Action:
    """Keep a disagreement, new or found again, in the transaction of its repair. Returns what is done about it.

    What a person has closed stays closed. What a run has closed, because it was no longer so, opens again.
    """
    row = run(session, select(findings).where(findings.c.id == found.id)).mappings().first()
    news = False
    if row is not None and action is Action.FLAGGED and row["closed_at"] is not None and not _closed_by_a_run(row):
        action = Action.RECORDED
    else:
        news = _write(session, found, action, now, run_id, row)
    if run_id is not None:
        _note_in_run(session, run_id, found.id, action, news=news)
    return action


def _write(session: Session, found: Found, action: Action, now: datetime, run_id: str | None, row: Row | None) -> bool:
    """True when this is news: a new finding, one that is open again, or another repair."""
    repaired = action is Action.REPAIRED
    values: dict[str, object] = {"action": action, "here": found.here, "there": found.there, "detail": found.detail}
    if row is None or row["closed_at"] is None or _closed_by_a_run(row):  # a person's word stays
        values |= {
            "closed_at": now if repaired else None,
            "closed_by": run_id if repaired else None,
            "because": "repaired" if repaired else None,
        }
    news = row is None or repaired or row["closed_at"] is not None
    if row is not None:
        if news:
            values["found_at"] = now
        run(session, update(findings).where(findings.c.id == found.id), values)
    else:
        named = {
            "id": found.id,
            "code": found.code,
            "intent_id": found.intent_id,
            "attempt": found.attempt,
            "provider_charge_id": found.provider_charge_id,
            "found_at": now,
        }
        run(session, insert(findings), named | values)
    if news:
        _append_to_history(session, found, now)
    return news


def _append_to_history(session: Session, found: Found, now: datetime) -> None:
    query = select(charges).where(charges.c.intent_id == found.intent_id, charges.c.attempt == found.attempt)
    row = run(session, query).mappings().first()
    if row is not None:
        state = State(row["state"])
        append_event(session, row, now, state, f"finding {found.id}", state, f"{found.code}: {found.detail}")


def _note_in_run(session: Session, run_id: str, finding_id: str, action: Action, *, news: bool) -> None:
    of = (run_findings.c.run_id == run_id, run_findings.c.finding_id == finding_id)
    values = {"action": action}
    if not run(session, update(run_findings).where(*of), values).rowcount:
        run(session, insert(run_findings), {"run_id": run_id, "finding_id": finding_id, "news": news, **values})


def _closed_by_a_run(row: Row) -> bool:
    return str(row["closed_by"]).startswith(OF_A_RUN) and "@" not in str(row["closed_by"])


def close_finding(session: Session, finding_id: str, who: str, because: str, now: datetime) -> tuple[Finding, bool]:
    """A person closes a finding; False when it was closed already, by whom it says. No charge changes.

    Raises UnknownFinding.
    """
    query = select(findings).where(findings.c.id == finding_id).with_for_update()
    row = run(session, query).mappings().first() if finding_id.isascii() else None  # what is no text no database takes
    if row is None:
        raise UnknownFinding(f"there is no finding {finding_id} in this store; `paycli findings` lists them")
    if row["closed_at"] is not None:
        return _finding(row), False
    closing = {"closed_at": now, "closed_by": who, "because": because}
    run(session, update(findings).where(findings.c.id == finding_id), closing)
    charge = select(charges).where(charges.c.intent_id == row["intent_id"], charges.c.attempt == row["attempt"])
    of = run(session, charge).mappings().first()
    if of is not None:
        state = State(of["state"])
        append_event(session, of, now, state, f"finding {finding_id} closed by {who}", state, because)
    return _finding({**row, **closing}), True


def read_findings(
    session: Session, *, closed: bool, after: tuple[datetime, str] | None, rows_max: int
) -> list[Finding]:
    """Findings, oldest first, page by page; with those already closed when `closed`."""
    query = select(findings).order_by(findings.c.found_at, findings.c.id).limit(rows_max)
    if not closed:
        query = query.where(findings.c.closed_at.is_(None))
    if after is not None:
        at, finding_id = after
        tied = (findings.c.found_at == at) & (findings.c.id > finding_id)
        query = query.where((findings.c.found_at > at) | tied)
    return [_finding(row) for row in run(session, query).mappings()]


def findings_of(session: Session, run_id: str) -> list[Finding]:
    """What a run has found, with what it did about each; by code, intent and charge."""
    query = (
        select(findings, run_findings.c.action.label("action_in_run"))
        .join(run_findings, run_findings.c.finding_id == findings.c.id)
        .where(run_findings.c.run_id == run_id)
        .order_by(findings.c.code, findings.c.intent_id, findings.c.attempt, findings.c.provider_charge_id)
    )
    return [_finding({**row, "action": row["action_in_run"]}) for row in run(session, query).mappings()]


def _finding(row: Row) -> Finding:
    return Finding(
        id=row["id"],
        code=Code(row["code"]),
        intent_id=row["intent_id"],
        attempt=row["attempt"],
        provider_charge_id=row["provider_charge_id"],
        action=Action(row["action"]),
        here=row["here"],
        there=row["there"],
        detail=row["detail"],
        found_at=cast("datetime", row["found_at"]),
        closed_at=row["closed_at"],
        closed_by=row["closed_by"],
        because=row["because"],
    )
