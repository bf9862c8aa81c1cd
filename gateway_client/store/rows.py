"""Rows as the other files of the store see them, and the one place that writes a state and its history.

Reading a locked attempt, moving it by an event, appending to its history. When to do so is decided in `claim`, `gate`
and `settle`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Executable,
    and_,
    bindparam,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from gateway_client import columns
from gateway_client.actor import ACTOR
from gateway_client.charge import Charge
from gateway_client.errors import NeedsPerson, UnknownIntent
from gateway_client.finding import HARMLESS, Code
from gateway_client.outcome import IN_DOUBT, NAMES, RESULTS, Answer, NotExecuted
from gateway_client.postgres import CLOCK
from gateway_client.state import Event, State, next_state
from gateway_client.telemetry import Record as ToldRecord
from gateway_client.telemetry import StateChanged

store, charges, sends = columns.store, columns.charges, columns.sends
events, findings = columns.events, columns.findings

RECORDS = "charge_once_records"  # in `Session.info`: what is told once the transaction is committed

Row = Mapping[Any, Any]  # a row of the database, or one that was just written
Values = Mapping[str, Any]

# Statements are built once: building one costs more than running it. A parameter is never named as a column is, for an
# UPDATE takes the columns that it sets from the names of its parameters.


def of_attempt(which: Any) -> tuple[Any, Any]:
    """The rows of one attempt: of the parameters that `key_of` gives."""
    return which.c.intent_id == bindparam("of_intent"), which.c.attempt == bindparam("of_attempt")


def constant(words: Iterable[str]) -> list[ColumnElement[str]]:
    """Words that never change, for IN: written out once, and so that SQLite sees which index has just these rows."""
    return [literal_column(f"'{word}'") for word in words]


_CLOCK = select(func.clock_timestamp())
STORE_ROW = select(store)  # its one row
ROW_OF_ATTEMPT = select(charges).where(*of_attempt(charges))
INSERT_ROW = insert(charges)
_LOCKED_ROW = ROW_OF_ATTEMPT.with_for_update()
_SENDS = select(sends).where(*of_attempt(sends)).order_by(sends.c.send_no)
# By the intents alone: SQLite looks a pair up in no index, and reads the whole table.
_SENDS_OF_INTENTS = (
    select(sends).where(sends.c.intent_id.in_(bindparam("of_intents", expanding=True))).order_by(sends.c.send_no)
)
_UPDATE = update(charges).where(*of_attempt(charges))
_EVENT = insert(events).values(
    # Counted under the row's lock, so that an attempt's history has no gaps and no order but its own.
    event_no=select(func.coalesce(func.max(events.c.event_no), 0) + 1).where(*of_attempt(events)).scalar_subquery()
)
# Money that the provider has taken for another attempt, or by a charge that has no row here, is a reason to send
# nothing, whatever a person has said of it.
_ROW_OF_FINDING = select(charges.c.attempt).where(
    charges.c.intent_id == findings.c.intent_id, charges.c.attempt == findings.c.attempt
)
_HELD_BY = (
    select(findings)
    .where(
        findings.c.intent_id == bindparam("of_intent"),
        findings.c.code.not_in(constant(HARMLESS)),
        or_(
            findings.c.closed_at.is_(None),
            and_(findings.c.charged, findings.c.attempt != bindparam("for_attempt")),
            and_(findings.c.code == Code.MISSING_LOCALLY, ~_ROW_OF_FINDING.exists()),
        ),
    )
    .order_by(findings.c.closed_at.is_not(None), findings.c.id)
)
_SUCCESS = select(charges.c.attempt).where(
    charges.c.intent_id == bindparam("of_intent"), charges.c.state == State.SUCCEEDED
)


def run(session: Session, statement: Executable, values: Values | None = None) -> CursorResult[Any]:
    """Execute a Core statement in the session's transaction, past the ORM."""
    return session.connection().execute(statement, values)


def clock_of(session: Session, now: datetime) -> datetime:
    """The one clock of leases, holds and key lives: the database's; a file has ours, set by the provider's."""
    if not session.info.get(CLOCK):
        return now
    told: datetime = run(session, _CLOCK).scalar_one()
    return told


def key_of(row: Row) -> dict[str, Any]:
    """The parameters that name a row's attempt in a statement."""
    return {"of_intent": row["intent_id"], "of_attempt": row["attempt"]}


@dataclass(frozen=True, slots=True)
class Record:
    """A row of `pending_charges`, locked, with the sends of its attempt."""

    row: Row
    sends: tuple[Row, ...]

    @property
    def state(self) -> State:
        return State(self.row["state"])

    def in_doubt(self, apart_from: int | None = None) -> bool:
        """Another send is open, or ended without proof."""
        others = [send for send in self.sends if send["send_no"] != apart_from]
        return any(send["ended_at"] is None or send["outcome"] in IN_DOUBT for send in others)

    def left(self, apart_from: int | None = None) -> bool:
        """A send has left, or may have: all but those of which our own socket took nothing."""
        others = (send for send in self.sends if send["send_no"] != apart_from)
        return any(send["outcome"] != NAMES[NotExecuted] for send in others)

    def server_errors(self) -> int:
        """How many 500s are recorded: the saved answer never changes, so more of them tell nothing."""
        return sum(send["status"] == 500 for send in self.sends)

    def charge(self) -> Charge:
        """The snapshot callers get."""
        row = self.row
        left = [send for send in self.sends if send["outcome"] != NAMES[NotExecuted]]
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
            quiet_from=row["quiet_from"],
            last_sent_at=max((send["begun_at"] for send in left), default=None),
            last_ended_at=max((send["ended_at"] for send in left if send["ended_at"] is not None), default=None),
            customer=row["customer"],
            payment_method=row["payment_method"] or None,
            not_after=row["not_after"],
            unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left),
            leased_by=row["leased_by"],
            leased_until=row["leased_until"],
            resume_at=row["resume_at"],
        )


def locked(session: Session, intent_id: str, attempt: int) -> Record:
    """The row of an attempt, locked, with its sends."""
    row = run(session, _LOCKED_ROW, {"of_intent": intent_id, "of_attempt": attempt}).mappings().first()
    if row is None:
        raise UnknownIntent(f"{intent_id} attempt {attempt} is not in this store. Nothing was sent.")
    return with_sends(session, row)


def with_sends(session: Session, row: Row) -> Record:
    """A row with the sends of its attempt."""
    return Record(row, tuple(run(session, _SENDS, key_of(row)).mappings()))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def snapshots(session: Session, rows: Iterable[Row]) -> tuple[Charge, ...]:
    """Many rows with their sends, in two statements."""
    rows = tuple(rows)
    by_key: dict[tuple[str, int], list[Row]] = {(row["intent_id"], row["attempt"]): [] for row in rows}
    of = {"of_intents": list({intent_id for intent_id, _ in by_key})}
    for send in run(session, _SENDS_OF_INTENTS, of).mappings() if rows else ():
        by_key.get((send["intent_id"], send["attempt"]), []).append(send)
    return tuple(Record(row, tuple(by_key[row["intent_id"], row["attempt"]])).charge() for row in rows)


def move(
    session: Session,
    record: Record,
    event: Event | None,
    now: datetime,
    changes: Values,
    *,
    note: str | None = None,
    answer: Answer | None = None,
) -> Record:
    """Apply an event (None: only `changes`) to the row and append it to the history, in this transaction."""
    before = record.state
    state = before if event is None else next_state(before, event)
    values = {**changes, "state": state} | ({"settled_at": now} if state.final else {})
    if all(record.row[name] == value for name, value in values.items()):
        return record  # the same evidence again
    run(session, _UPDATE, key_of(record.row) | values)
    reason = cast("str | None", changes.get("reason"))
    append_event(session, record.row, now, before, note or str(event), state, reason, answer)
    return Record({**record.row, **values}, record.sends)


def append_event(
    session: Session,
    row: Row,
    now: datetime,
    before: State | None,
    event: str,
    state: State,
    reason: str | None = None,
    answer: Answer | None = None,
) -> None:
    """Append to an attempt's history; a change of state is told once the transaction is committed."""
    intent_id, attempt = row["intent_id"], row["attempt"]
    request_id = None if answer is None else answer.request_id
    values = {
        "intent_id": intent_id,
        "attempt": attempt,
        "at": now,
        "event": event,
        "state_before": before,
        "state_after": state,
        "reason": reason,
        "request_id": request_id,
        "actor": session.info[ACTOR],
    }
    run(session, _EVENT, values | key_of(row))
    if before is not state:
        elapsed_ms = None if answer is None else answer.elapsed_ms
        records: list[ToldRecord] = session.info.setdefault(RECORDS, [])
        records.append(StateChanged(intent_id, attempt, before, state, event, request_id, elapsed_ms))


def refuse_charged(session: Session, intent_id: str, attempt: int) -> None:
    """Raise NeedsPerson while the intent may be paid by other means than this attempt, or somebody must look at it."""
    of = {"of_intent": intent_id}
    paid = run(session, _SUCCESS, of).scalar()
    if paid is not None and paid != attempt:
        raise NeedsPerson(f"{intent_id}: attempt {paid} succeeded. Nothing more was sent: cancel this attempt.")
    finding = run(session, _HELD_BY, {**of, "for_attempt": attempt}).mappings().first()
    if finding is None:
        return
    named = f"finding {finding['id']}"
    if finding["closed_at"] is None:
        raise NeedsPerson(
            f"{intent_id} has an open {named} ({finding['code']}): {finding['detail']} Nothing more was sent."
        )
    if finding["code"] == Code.MISSING_LOCALLY:
        raise NeedsPerson(
            f"{intent_id}: the provider has {finding['provider_charge_id']}, an attempt without a row here ({named}). "
            "Nothing more was sent: cancel this attempt, then reconcile the day of that charge."
        )
    raise NeedsPerson(
        f"{intent_id}: the provider has taken money for it by attempt {finding['attempt']} "
        f"({finding['provider_charge_id']}, {named}, closed). Nothing more was sent: cancel this attempt; what is to "
        "be paid once more needs an intent id of its own."
    )
