"""Findings on disk: one row for one disagreement, however often it is found. Nothing is ever deleted."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import Select, bindparam, insert, select, update

from gateway_client import columns
from gateway_client.errors import UnknownFinding
from gateway_client.finding import Action, Code, Finding, Found
from gateway_client.record import Row
from gateway_client.state import State
from gateway_client.store.rows import ROW_OF_ATTEMPT, append_event, findings, key_of
from gateway_client.transaction import Transaction

run_findings = columns.run_findings

OF_A_RUN = "run_"  # how a run's id begins: a person's name never holds the place of one, for it has an @

_FINDING = select(findings).where(findings.c.id == bindparam("of_finding"))
_UPDATE = update(findings).where(findings.c.id == bindparam("of_finding"))
_INSERT = insert(findings)
_UPDATE_IN_RUN = update(run_findings).where(
    run_findings.c.run_id == bindparam("of_run"), run_findings.c.finding_id == bindparam("of_finding")
)
_INSERT_IN_RUN = insert(run_findings)
_OF_RUN = (
    select(findings, run_findings.c.action.label("action_in_run"))
    .join(run_findings, run_findings.c.finding_id == findings.c.id)
    .where(run_findings.c.run_id == bindparam("of_run"))
    .order_by(findings.c.code, findings.c.intent_id, findings.c.attempt, findings.c.provider_charge_id)
)


@cache
def _oldest(*, closed: bool, after: bool) -> Select[Any]:
    query = select(findings).order_by(findings.c.found_at, findings.c.id).limit(bindparam("rows_max"))
    if not closed:
        query = query.where(findings.c.closed_at.is_(None))
    if not after:
        return query
    at: Any = bindparam("after_at")
    tied = (findings.c.found_at == at) & (findings.c.id > bindparam("after_finding"))
    return query.where((findings.c.found_at > at) | tied)


def record_finding(tx: Transaction, found: Found, action: Action, run_id: str | None = None) -> Action:
    """Keep a disagreement, new or found again, in the transaction of its repair. Returns what is done about it.

    What a person has closed stays closed, unless one of its sides has changed since, or money is known to be taken
    since: that nobody has looked at. What a run has closed, because it was no longer so, opens again.
    """
    tx.lock([found.intent_id])  # the gate, which an open one holds, sees it, or was before it
    row = tx.execute(_FINDING, {"of_finding": found.id}).mappings().first()
    news = False
    if row is not None and action is Action.FLAGGED and _stays_closed(row, found):
        action = Action.RECORDED
    else:
        news = _write(tx, found, action, run_id, row)
    if run_id is not None:
        _note_in_run(tx, run_id, found.id, action, news=news)
    return action


def _write(tx: Transaction, found: Found, action: Action, run_id: str | None, row: Row | None) -> bool:
    """True when this is news: a new finding, one that is open again, or another repair."""
    repaired = action is Action.REPAIRED
    values: dict[str, object] = {
        "action": action,
        "here": found.here,
        "there": found.there,
        "detail": found.detail,
        "charged": found.charged or (row is not None and bool(row["charged"])),
    }
    if row is None or not _stays_closed(row, found):
        values |= {
            "closed_at": tx.now if repaired else None,
            "closed_by": run_id if repaired else None,
            "because": "repaired" if repaired else None,
        }
    news = row is None or repaired or row["closed_at"] is not None
    if row is not None:
        if news:
            values["found_at"] = tx.now
        tx.execute(_UPDATE, {"of_finding": found.id} | values)
    else:
        named = {
            "id": found.id,
            "code": found.code,
            "operation": found.operation,
            "intent_id": found.intent_id,
            "attempt": found.attempt,
            "provider_charge_id": found.provider_charge_id,
            "found_at": tx.now,
        }
        tx.execute(_INSERT, named | values)
    if news:
        _append_to_history(tx, found)
    return news


def _append_to_history(tx: Transaction, found: Found) -> None:
    of = {"of_intent": found.intent_id, "of_operation": found.operation, "of_attempt": found.attempt}
    row = tx.execute(ROW_OF_ATTEMPT, of).mappings().first()
    if row is not None:
        state = State(row["state"])
        append_event(tx, row, state, f"finding {found.id}", state, f"{found.code}: {found.detail}")


def _note_in_run(tx: Transaction, run_id: str, finding_id: str, action: Action, *, news: bool) -> None:
    if not tx.execute(_UPDATE_IN_RUN, {"of_run": run_id, "of_finding": finding_id, "action": action}).rowcount:
        named = {"run_id": run_id, "finding_id": finding_id}
        tx.execute(_INSERT_IN_RUN, {**named, "action": action, "news": news})


def _stays_closed(row: Row, found: Found) -> bool:
    """Has a person closed just this?"""
    same = (row["here"], row["there"]) == (found.here, found.there) and bool(row["charged"]) >= found.charged
    return row["closed_at"] is not None and not _closed_by_a_run(row) and same


def _closed_by_a_run(row: Row) -> bool:
    return str(row["closed_by"]).startswith(OF_A_RUN) and "@" not in str(row["closed_by"])


def close_finding(tx: Transaction, finding_id: str, because: str) -> tuple[Finding, bool]:
    """A person closes a finding; False when it was closed already, by whom it says. No charge changes.

    Raises UnknownFinding.
    """
    of = {"of_finding": finding_id}
    # What is no text no database takes.
    row = tx.execute(_FINDING, of).mappings().first() if finding_id.isascii() else None
    if row is None:
        raise UnknownFinding(f"there is no finding {finding_id} in this store; `paycli findings` lists them")
    tx.lock([row["intent_id"]])  # else who finds it again at this moment would open it again unseen
    row = tx.execute(_FINDING, of).mappings().one()
    if row["closed_at"] is not None:
        return _finding(row), False
    closing = {"closed_at": tx.now, "closed_by": tx.actor, "because": because}
    tx.execute(_UPDATE, of | closing)
    charge = tx.execute(ROW_OF_ATTEMPT, key_of(row)).mappings().first()
    if charge is not None:
        state = State(charge["state"])
        append_event(tx, charge, state, f"finding {finding_id} closed", state, because)
    return _finding({**row, **closing}), True


def read_findings(tx: Transaction, *, closed: bool, after: tuple[datetime, str] | None, rows_max: int) -> list[Finding]:
    """Findings, oldest first, page by page; with those already closed when `closed`."""
    values: dict[str, object] = {"rows_max": rows_max}
    if after is not None:
        values["after_at"], values["after_finding"] = after
    query = _oldest(closed=closed, after=after is not None)
    return [_finding(row) for row in tx.execute(query, values).mappings()]


def findings_of(tx: Transaction, run_id: str) -> list[Finding]:
    """What a run has found, with what it did about each; by code, intent and charge."""
    rows = tx.execute(_OF_RUN, {"of_run": run_id}).mappings()
    return [_finding({**row, "action": row["action_in_run"]}) for row in rows]


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
        charged=bool(row["charged"]),
        found_at=cast("datetime", row["found_at"]),
        closed_at=row["closed_at"],
        closed_by=row["closed_by"],
        because=row["because"],
        operation=row["operation"],
    )
