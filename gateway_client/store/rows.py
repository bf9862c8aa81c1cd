"""Rows as the other files of the store see them, and the one place that writes a state and its history.

Reading a locked attempt, moving it by an event, appending to its history. When to do so is decided in `claim`, `gate`
and `settle`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import RowMapping, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.errors import NeedsPerson, UnknownIntent
from gateway_client.outcome import IN_DOUBT, NAMES, Answer, NotExecuted
from gateway_client.state import Event, State, next_state
from gateway_client.tables import Event as EventRow
from gateway_client.tables import Finding, PendingCharge, Send, Store, table
from gateway_client.telemetry import Record as ToldRecord
from gateway_client.telemetry import StateChanged

store, charges, sends = table(Store), table(PendingCharge), table(Send)
events, findings = table(EventRow), table(Finding)

RECORDS = "charge_once_records"  # in `Session.info`: what is told once the transaction is committed


@dataclass(frozen=True, slots=True)
class Record:
    """A row of `pending_charges`, locked, with the sends of its attempt."""

    row: RowMapping
    sends: tuple[RowMapping, ...]

    @property
    def state(self) -> State:
        return State(self.row["state"])

    def in_doubt(self, apart_from: int | None = None) -> bool:
        """Another send is open, or ended without proof."""
        others = [send for send in self.sends if send["send_no"] != apart_from]
        return any(send["ended_at"] is None or send["outcome"] in IN_DOUBT for send in others)

    def server_errors(self) -> int:
        """How many 500s are recorded: the saved answer never changes, so more of them tell nothing."""
        return sum(send["status"] == 500 for send in self.sends)

    def charge(self) -> Charge:
        """The snapshot callers get."""
        row = self.row
        left = [send for send in self.sends if send["outcome"] != NAMES[NotExecuted]]
        failed = [send["ended_at"] for send in self.sends if send["status"] is not None and send["status"] >= 500]
        return Charge(
            intent_id=row["intent_id"],
            attempt=row["attempt"],
            state=self.state,
            idempotency_key=row["idempotency_key"],
            amount=row["amount"],
            currency=row["currency"],
            provider_intent_id=row["provider_intent_id"],
            provider_charge_id=row["provider_charge_id"],
            sends=len(self.sends),
            created_at=row["created_at"],
            first_sent_at=row["first_sent_at"],
            settled_at=row["settled_at"],
            reason=row["reason"],
            closed_at=row["closed_at"],
            last_sent_at=max((send["begun_at"] for send in left), default=None),
            last_server_error_at=max(failed, default=None),
        )


def locked(session: Session, intent_id: str, attempt: int) -> Record:
    return with_sends(session, locked_row(session, intent_id, attempt))


def locked_row(session: Session, intent_id: str, attempt: int) -> RowMapping:
    query = select(charges).filter_by(intent_id=intent_id, attempt=attempt).with_for_update()
    row = session.execute(query).mappings().first()
    if row is None:
        raise UnknownIntent(f"{intent_id} attempt {attempt} is not in this store. Nothing was sent.")
    return row


def with_sends(session: Session, row: RowMapping) -> Record:
    return Record(row, sends_of(session, {"intent_id": row["intent_id"], "attempt": row["attempt"]}))


def sends_of(session: Session, of: dict[str, object]) -> tuple[RowMapping, ...]:
    query = select(sends).filter_by(**of).order_by(sends.c.send_no)
    return tuple(session.execute(query).mappings().all())


def of(which: Any, row: RowMapping) -> tuple[Any, Any]:
    return which.c.intent_id == row["intent_id"], which.c.attempt == row["attempt"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def snapshots(session: Session, rows: Sequence[RowMapping]) -> tuple[Charge, ...]:
    keys = [(row["intent_id"], row["attempt"]) for row in rows]
    query = select(sends).where(tuple_(sends.c.intent_id, sends.c.attempt).in_(keys)).order_by(sends.c.send_no)
    by_key: dict[tuple[str, int], list[RowMapping]] = {key: [] for key in keys}
    for send in session.execute(query).mappings() if keys else ():
        by_key[send["intent_id"], send["attempt"]].append(send)
    return tuple(Record(row, tuple(by_key[row["intent_id"], row["attempt"]])).charge() for row in rows)


def move(
    session: Session,
    record: Record,
    event: Event | None,
    now: datetime,
    changes: Mapping[str, object],
    *,
    note: str | None = None,
    answer: Answer | None = None,
) -> Record:
    """Apply an event (None: only `changes`) to the row and append it to the history, in this transaction."""
    before = record.state
    state = before if event is None else next_state(before, event)
    settled = {"settled_at": now} if state.final else {}
    session.execute(update(charges).where(*of(charges, record.row)).values({"state": state, **changes, **settled}))
    reason = cast("str | None", changes.get("reason"))
    key = (record.row["intent_id"], record.row["attempt"])
    append_event(session, key, now, before, note or str(event), state, reason, answer)
    return with_sends(session, locked_row(session, *key))


def append_event(
    session: Session,
    key: tuple[str, int],
    now: datetime,
    before: State | None,
    event: str,
    state: State,
    reason: str | None = None,
    answer: Answer | None = None,
) -> None:
    intent_id, attempt = key
    of = {"intent_id": intent_id, "attempt": attempt}
    count = session.execute(select(func.count()).select_from(events).filter_by(**of)).scalar() or 0
    request_id = None if answer is None else answer.request_id
    session.execute(
        insert(events).values(
            **of,
            event_no=count + 1,
            at=now,
            event=event,
            state_before=before,
            state_after=state,
            reason=reason,
            request_id=request_id,
        )
    )
    if before is not state:
        elapsed_ms = None if answer is None else answer.elapsed_ms
        records: list[ToldRecord] = session.info.setdefault(RECORDS, [])
        records.append(StateChanged(intent_id, attempt, before, state, event, request_id, elapsed_ms))


def refuse_open_finding(session: Session, intent_id: str) -> None:
    query = select(findings).where(findings.c.intent_id == intent_id, findings.c.closed_at.is_(None))
    finding = session.execute(query).mappings().first()
    if finding is not None:
        raise NeedsPerson(
            f"{intent_id} has an open finding {finding['id']} ({finding['code']}): {finding['detail']} "
            "Nothing was sent."
        )
