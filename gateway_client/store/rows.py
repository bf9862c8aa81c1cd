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
    Select,
    bindparam,
    func,
    insert,
    literal,
    literal_column,
    select,
    union_all,
    update,
)

from gateway_client import columns
from gateway_client.charge import Charge
from gateway_client.errors import UnknownIntent
from gateway_client.outcome import Answer
from gateway_client.record import Record, Row, Values
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
INSERT_ROW = insert(charges)
_LOCKED_ROW = ROW_OF_ATTEMPT.with_for_update()
_SENDS = select(sends).where(*of_attempt(sends)).order_by(sends.c.send_no)
# By the intents alone: SQLite looks a pair up in no index, and reads the whole table.
_SENDS_OF_INTENTS = (
    select(sends).where(sends.c.intent_id.in_(bindparam("of_intents", expanding=True))).order_by(sends.c.send_no)
)
_UPDATE = update(charges).where(*of_attempt(charges)).values(revision=charges.c.revision + 1)
_UPDATE_UNCHANGED = _UPDATE.where(charges.c.revision == bindparam("of_revision"))
_EVENT = insert(events).values(
    # Counted under the row's lock, so that an attempt's history has no gaps and no order but its own.
    event_no=select(func.coalesce(func.max(events.c.event_no), 0) + 1).where(*of_attempt(events)).scalar_subquery()
)


def _first_event(number: int) -> Select[Any]:
    """One of two events that are inserted by one statement: its number is known, so nothing is counted."""
    columns = events.c
    given = {
        columns.intent_id: "of_intent",
        columns.operation: "of_operation",
        columns.attempt: "of_attempt",
        columns.at: "at",
        columns.event: f"event_{number}",
        columns.state_before: f"before_{number}",
        columns.state_after: f"after_{number}",
        columns.actor: "actor",
    }
    named = (bindparam(name, type_=column.type) for column, name in given.items())
    return select(literal(number), *named)


_FIRST_EVENTS = insert(events).from_select(
    ["event_no", "intent_id", "operation", "attempt", "at", "event", "state_before", "state_after", "actor"],
    union_all(_first_event(1), _first_event(2)),
)


def key_of(row: Row) -> dict[str, Any]:
    """The parameters that name a row's attempt in a statement."""
    return {"of_intent": row["intent_id"], "of_operation": row["operation"], "of_attempt": row["attempt"]}


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
    tx.execute(_UPDATE, key_of(before.row) | after.changed(before))
    return after.revised()


def write_if_unchanged(tx: Transaction, before: Record, after: Record) -> Record | None:
    """Write as `write` does, of a row that is not locked; None, and nothing is written, when it changed since.

    The statement waits for whoever is writing the row, and looks only then at its revision: so it does on SQLite, on
    PostgreSQL under READ COMMITTED, and under SERIALIZABLE, where the whole transaction is done again instead.
    """
    seen = {"of_revision": before.row["revision"]}
    written = tx.execute(_UPDATE_UNCHANGED, key_of(before.row) | seen | after.changed(before)).rowcount
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
    tx.execute(_EVENT, values | key_of(row))
    elapsed_ms = None if answer is None else answer.elapsed_ms
    _tell(tx, row, before, event, state, request_id, elapsed_ms)


def append_claim_and_send(tx: Transaction, row: Row) -> None:
    """Begin the history of an attempt whose row is inserted with its first send: two events, in one statement."""
    told = ((None, CLAIMED, State.PREPARED), (State.PREPARED, str(Event.SEND_BEGUN), State(row["state"])))
    values: dict[str, object] = {**key_of(row), "at": tx.now, "actor": tx.actor}
    for number, (before, event, state) in enumerate(told, 1):
        values |= {f"event_{number}": event, f"before_{number}": before, f"after_{number}": state}
    tx.execute(_FIRST_EVENTS, values)
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
