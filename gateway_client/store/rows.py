"""Rows as the other files of the store see them, and the one place that writes a state and its history.

Reading a locked attempt and the facts beside it, moving it by an event, appending to its history. When to do so is
decided in `claim`, `gate` and `settle`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    bindparam,
    literal_column,
    select,
)

from gateway_client import columns
from gateway_client.charge import Charge
from gateway_client.errors import UnknownIntent
from gateway_client.outcome import Answer
from gateway_client.record import Record, Row, Values
from gateway_client.row_writes import Insert, Update
from gateway_client.state import CHARGE, Event, State
from gateway_client.telemetry import StateChanged
from gateway_client.transaction import Transaction

if TYPE_CHECKING:  # who only reads loads no effects
    from gateway_client.flow.effects import OfAttempt

store, charges, sends = columns.store, columns.charges, columns.sends
events, findings = columns.events, columns.findings

CLAIMED = "claimed"  # the first event of an attempt

# Statements are built once: building one costs more than running it. A parameter is never named as a column is, for an
# UPDATE takes the columns that it sets from the names of its parameters.


def of_attempt(which: Any) -> tuple[Any, Any, Any]:
    """The rows of one attempt: of the parameters that `key_of` gives."""
    return (
        which.c.intent_id == bindparam("of_intent"),
        which.c.operation == bindparam("of_operation"),
        which.c.attempt == bindparam("of_attempt"),
    )


def constant(words: Iterable[str]) -> list[ColumnElement[str]]:
    """Words that never change, for IN: written out once, and so that SQLite sees which index has just these rows."""
    return [literal_column(f"'{word}'") for word in words]


IS_CHARGE = charges.c.operation == literal_column(f"'{CHARGE}'")
STORE_ROW = select(store)  # its one row
ROW_OF_ATTEMPT = select(charges).where(*of_attempt(charges))
INSERT_ROW = Insert(charges)
_OF_ATTEMPT = ("intent_id", "operation", "attempt")
_UPDATE = Update(charges, by=_OF_ATTEMPT, raised="revision")
_UPDATE_UNCHANGED = Update(charges, by=(*_OF_ATTEMPT, "revision"), raised="revision")
# Counted under the row's lock, so that an attempt's history has no gaps and no order but its own.
_EVENT = Insert(events, counted="event_no", within=_OF_ATTEMPT)
_FIRST_EVENTS = Insert(events)  # of an attempt that is inserted: their numbers are known, so nothing is counted
INSERT_SEND = Insert(sends)
END_SEND = Update(sends, by=(*_OF_ATTEMPT, "send_no"))
_LOCKED_ROW = ROW_OF_ATTEMPT.with_for_update()
_SENDS = select(sends).where(*of_attempt(sends)).order_by(sends.c.send_no)
# By the intents alone: SQLite looks a pair up in no index, and reads the whole table.
_SENDS_OF_INTENTS = (
    select(sends).where(sends.c.intent_id.in_(bindparam("of_intents", expanding=True))).order_by(sends.c.send_no)
)


def key_of(row: Row) -> dict[str, Any]:
    """The parameters that name a row's attempt in a statement."""
    return {"of_intent": row["intent_id"], "of_operation": row["operation"], "of_attempt": row["attempt"]}


def _key(row: Row) -> dict[str, Any]:
    """The columns that name a row's attempt."""
    return {name: row[name] for name in _OF_ATTEMPT}


def named_by(effect: OfAttempt[Any]) -> dict[str, Any]:
    """The parameters that name the attempt of an effect in a statement."""
    return {"of_intent": effect.intent_id, "of_operation": effect.operation, "of_attempt": effect.attempt}


def locked(tx: Transaction, effect: OfAttempt[Any]) -> Record:
    """The row of an effect's attempt, locked, with its sends."""
    row = tx.execute(_LOCKED_ROW, named_by(effect)).mappings().first()
    if row is None:
        what = "" if effect.operation == CHARGE else f"{effect.operation} "
        raise UnknownIntent(
            f"{what}{effect.intent_id} attempt {effect.attempt} is not in this store. Nothing was sent."
        )
    return with_sends(tx, row)


def with_sends(tx: Transaction, row: Row) -> Record:
    """A row with the sends of its attempt."""
    return Record(row, tuple(tx.execute(_SENDS, key_of(row)).mappings()))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def snapshots(tx: Transaction, rows: Iterable[Row]) -> tuple[Charge, ...]:
    """Many rows with their sends, in two statements."""
    rows = tuple(rows)
    by_attempt: dict[tuple[str, str, int], list[Row]] = {_attempt(row): [] for row in rows}
    of = {"of_intents": list({row["intent_id"] for row in rows})}
    for send in tx.execute(_SENDS_OF_INTENTS, of).mappings() if rows else ():
        by_attempt.get(_attempt(send), []).append(send)
    return tuple(Record(row, tuple(by_attempt[_attempt(row)])).charge() for row in rows)


def _attempt(row: Row) -> tuple[str, str, int]:
    return row["intent_id"], row["operation"], row["attempt"]


def move(
    tx: Transaction,
    record: Record,
    event: Event | None,
    changes: Values,
    *,
    note: str | None = None,
    answer: Answer | None = None,
) -> Record:
    """Apply an event (None: only `changes`) to a locked row and append it to the history, in this transaction."""
    after = record.moved(event, tx.now, changes)
    if after is record:
        return record  # the same evidence again
    after = write(tx, record, after)
    append_event(tx, record.row, record.state, note or str(event), after.state, changes.get("reason"), answer)
    return after


def write(tx: Transaction, before: Record, after: Record) -> Record:
    """Write what of a locked row, or of its sends, has changed; the record as it is then."""
    tx.write(_UPDATE, _key(before.row) | after.changed(before))
    return after.revised()


def write_if_unchanged(tx: Transaction, before: Record, after: Record) -> Record | None:
    """Write as `write` does, of a row that is not locked; None, and nothing is written, when it changed since.

    The statement waits for whoever is writing the row, and looks only then at its revision: so it does on SQLite, on
    PostgreSQL under READ COMMITTED, and under SERIALIZABLE, where the whole transaction is done again instead.
    """
    seen = {"revision": before.row["revision"]}
    written = tx.write_found(_UPDATE_UNCHANGED, _key(before.row) | after.changed(before) | seen)
    return after.revised() if written else None


def append_event(
    tx: Transaction,
    row: Row,
    before: State | None,
    event: str,
    state: State,
    reason: str | None = None,
    answer: Answer | None = None,
) -> None:
    """Append to an attempt's history; a change of state is told once the transaction is committed."""
    request_id = None if answer is None else answer.request_id
    values = {
        "intent_id": row["intent_id"],
        "operation": row["operation"],
        "attempt": row["attempt"],
        "at": tx.now,
        "event": event,
        "state_before": before,
        "state_after": state,
        "reason": reason,
        "request_id": request_id,
        "actor": tx.actor,
    }
    tx.write(_EVENT, values)
    elapsed_ms = None if answer is None else answer.elapsed_ms
    _tell(tx, row, before, event, state, request_id, elapsed_ms)


def append_claim_and_send(tx: Transaction, row: Row) -> None:
    """Begin the history of an attempt whose row is inserted with its first send: two events, in one statement."""
    told = ((None, CLAIMED, State.PREPARED), (State.PREPARED, str(Event.SEND_BEGUN), State(row["state"])))
    tx.write(
        _FIRST_EVENTS,
        *(
            {
                **_key(row),
                "event_no": number,
                "at": tx.now,
                "event": event,
                "state_before": before,
                "state_after": state,
                "actor": tx.actor,
            }
            for number, (before, event, state) in enumerate(told, 1)
        ),
    )
    for before, event, state in told:
        _tell(tx, row, before, event, state)


def _tell(
    tx: Transaction,
    row: Row,
    before: State | None,
    event: str,
    state: State,
    request_id: str | None = None,
    elapsed_ms: int | None = None,
) -> None:
    if before is not state:
        tx.records.append(StateChanged(row["intent_id"], row["attempt"], before, state, event, request_id, elapsed_ms))
