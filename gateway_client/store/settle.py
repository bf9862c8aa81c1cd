"""What an answer, a person or a proof does to an attempt. The states are the table's, in `state.py`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select

from gateway_client.absence import why_not_empty
from gateway_client.charge import Charge
from gateway_client.errors import UnknownIntent
from gateway_client.evidence import Known, Step, why_not
from gateway_client.finding import Action, Code, Found, duplicate, side
from gateway_client.flow.effects import EndLate, GiveUp, NoteQuiet, ProveAbsent, Settle
from gateway_client.outcome import NAMES, Answer, Conflict, Outcome, Processing, Succeeded
from gateway_client.record import Record, Row, Values
from gateway_client.state import SENDABLE, Event, State, contradicts, event_of
from gateway_client.store.findings import record_finding
from gateway_client.store.registry import performs
from gateway_client.store.rows import (
    END_SEND,
    IS_CHARGE,
    append_event,
    charges,
    constant,
    events,
    findings,
    key_of,
    locked,
    move,
    of_attempt,
    write,
    write_if_unchanged,
)
from gateway_client.transaction import Transaction

_ENDING = (
    *("intent_id", "operation", "attempt", "send_no"),
    *("ended_at", "outcome", "cause", "proven", "reason", "reply", "status"),
    *("request_id", "original_request", "replayed", "elapsed_ms"),
)
_NUMBERS_DIFFER = select(findings.c.id).where(
    *of_attempt(findings),
    findings.c.code.in_(constant((Code.AMOUNT_MISMATCH, Code.CURRENCY_MISMATCH))),
    findings.c.closed_at.is_(None),
)
_LAST_EVENT = (
    select(events.c.event, events.c.actor).where(*of_attempt(events)).order_by(events.c.event_no.desc()).limit(1)
)
_NEWEST = select(func.max(charges.c.attempt)).where(charges.c.intent_id == bindparam("of_intent"), IS_CHARGE)
_IDS = ("provider_intent_id", "provider_charge_id")


@performs(Settle)
def settle(tx: Transaction, effect: Settle) -> Charge:
    """Record what an answer proves. The same answer again changes nothing; a contradiction becomes a finding."""
    if effect.seen is not None and effect.seen.state in SENDABLE:
        # What `_judge` uses is the row and its sends: whoever writes one of them makes another revision, and then
        # nothing is written here. Findings have no revision. They are asked only beside a conflict, in which no send
        # is begun: a row that became one since has another revision, too.
        done = _record(tx, effect.seen, effect, write_if_unchanged)
        if done is not None:
            return done.charge()
    record = locked(tx, effect)
    if not record.state.pending and not record.law.allows(record.state, _judge(record, effect)[0]):
        record = _learn_ids(tx, _end_send(tx, record, effect), effect.answer.outcome)
        _compare(tx, record, effect.answer)
        return record.charge()
    if isinstance(effect.answer.outcome, Succeeded) and _numbers_differ(tx, record):
        return _end_send(tx, record, effect).charge()
    return (_record(tx, record, effect, write) or record).charge()


def _record(
    tx: Transaction,
    record: Record,
    effect: Settle,
    write_row: Callable[[Transaction, Record, Record], Record | None],
) -> Record | None:
    """Write what an answer makes of a pending attempt; in the row first, which locks it. None: it was not written."""
    event, changes = _judge(record, effect)
    ended = _ended(record, effect, tx.now)
    after = record.moved(event, tx.now, changes)
    if after is record and ended is None:
        return record  # the same evidence again
    written = write_row(tx, record, after if ended is None else after.with_send(ended))
    if written is None:
        return None
    if ended is not None:
        tx.write(END_SEND, {name: ended[name] for name in _ENDING})
    if after is not record:
        reason, answer = effect.answer.reason, effect.answer
        append_event(tx, record.row, record.state, str(event), after.state, reason, answer)
    return written


def _judge(record: Record, effect: Settle) -> tuple[Event, dict[str, object]]:
    """Judge an answer about a pending attempt by its row and its other sends: an event, and what it changes."""
    answer, outcome = effect.answer, effect.answer.outcome
    event = event_of(
        outcome,
        in_doubt=record.in_doubt(effect.send_no),
        left=record.left(effect.send_no),
        saves_declines=effect.saves_declines,
    )
    nothing_left = event is Event.NOT_EXECUTED
    if nothing_left and record.row["closed_at"] is not None:
        event = Event.CANCELED  # given up while a send was open, and now nothing has left, nor will
    changes: dict[str, object] = {"reason": answer.reason}
    if not isinstance(outcome, Conflict):  # the ids in such an answer belong to something else
        changes |= _provider_ids(record.row, outcome)
    if nothing_left:
        # Else an outage longer than the key's life would close charges that never left.
        changes["first_sent_at"] = changes["first_sent_db_at"] = None
    return event, changes


def _compare(tx: Transaction, record: Record, answer: Answer) -> None:
    """Compare evidence with a final state, which it never overwrites: what contradicts it becomes a finding."""
    second = _second_success(record, answer.outcome)
    if second is not None:
        record_finding(tx, second, Action.FLAGGED)
    elif contradicts(record.state, answer.outcome) and not isinstance(answer.outcome, Processing):
        # "Processing" may have been said before the end that is on disk by now; the nightly run knows when.
        record_finding(tx, _denied(record, answer), Action.FLAGGED)


def _numbers_differ(tx: Transaction, record: Record) -> bool:
    """A person must first say what a conflict comes to, when the provider has told two stories of its numbers."""
    if record.state is not State.CONFLICT:
        return False
    return tx.execute(_NUMBERS_DIFFER, key_of(record.row)).first() is not None


def _ended(record: Record, effect: Settle, now: datetime) -> dict[str, Any] | None:
    """Return the send that an answer is of, as it has ended; None when it is of none, or was recorded before."""
    send = next((one for one in record.sends if one["send_no"] == effect.send_no), None)
    if send is None or send["ended_at"] is not None:
        return None
    answer = effect.answer
    return {
        **send,
        "ended_at": now,
        "outcome": answer.name,
        "cause": answer.cause,
        "proven": answer.proven,
        "reason": answer.reason,
        "reply": answer.reply,
        "status": answer.status,
        "request_id": answer.request_id,
        "original_request": answer.original_request,
        "replayed": answer.replayed,
        "elapsed_ms": answer.elapsed_ms,
    }


def _end_send(tx: Transaction, record: Record, effect: Settle) -> Record:
    """End the send of a locked row whose answer changes nothing of it.

    A final row keeps its revision: no send of it is begun any more, so no outcome is guarded by that.
    """
    ended = _ended(record, effect, tx.now)
    if ended is None:
        return record
    tx.write(END_SEND, {name: ended[name] for name in _ENDING})
    after = record.with_send(ended)
    return write(tx, record, after) if record.state.pending else after


def _provider_ids(row: Row, outcome: Outcome) -> dict[str, object]:
    """The provider's ids as known from now on: a success names its own, anything else only fills what is missing."""
    found = {name: getattr(outcome, name, None) for name in _IDS}
    if isinstance(outcome, Succeeded):
        return {name: value or row[name] for name, value in found.items()}
    return {name: row[name] or value for name, value in found.items()}


def _learn_ids(tx: Transaction, record: Record, outcome: Outcome) -> Record:
    """What the provider names of an ended row that its own result had left out; another object names nothing of it."""
    if NAMES[type(outcome)] != record.state:
        return record
    named = {name: value for name in _IDS if (value := getattr(outcome, name, None)) is not None}
    learned = {name: value for name, value in named.items() if record.row[name] is None}
    if not learned or any(record.row[name] not in (None, value) for name, value in named.items()):
        return record
    event = f"named by the provider: {', '.join(learned.values())}"
    append_event(tx, record.row, record.state, event, record.state)
    return _note(tx, record, learned)


def _second_success(record: Record, outcome: Outcome) -> Found | None:
    """The provider names another charge than the one that succeeded: it charged twice under one key."""
    row, mine = record.row, record.row["provider_charge_id"]
    if record.state is not State.SUCCEEDED or not isinstance(outcome, Succeeded):
        return None
    other = outcome.provider_charge_id
    if None in (mine, other) or mine == other:
        return None
    return duplicate(row["intent_id"], row["attempt"], str(other), mine, mine=True, operation=row["operation"])


def _denied(record: Record, answer: Answer) -> Found:
    """The provider contradicts a final state. The same disagreement is the same finding, in the words of a run."""
    row, charge_id = record.row, getattr(answer.outcome, "provider_charge_id", None)
    return Found(
        Code.STATUS_MISMATCH,
        row["intent_id"],
        row["attempt"],
        charge_id,
        here=side(record.state, row["amount"], row["currency"], row["provider_charge_id"]),
        there=side(answer.name, row["amount"], row["currency"], charge_id),
        detail=f"attempt {row['attempt']} is {record.state} here, the provider says {answer.name} "
        f"({charge_id or 'no charge'}).",
        charged=isinstance(answer.outcome, Succeeded),
        operation=row["operation"],
    )


@performs(GiveUp)
def give_up(tx: Transaction, effect: GiveUp) -> Charge:
    """Cancel what was never sent, close what may have been; a provider's intent is cancelled by the flow."""
    newest = tx.execute(_NEWEST, {"of_intent": effect.intent_id}).scalar()
    if newest is None:
        raise UnknownIntent(f"{effect.intent_id} is not in this store. Nothing was sent.")
    record = locked(tx, EndLate(effect.intent_id, newest))
    if not record.state.pending:
        return record.charge()
    reason = f"given up: {effect.because}"
    if record.row["provider_intent_id"] is not None:
        said = tx.execute(_LAST_EVENT, key_of(record.row)).first()
        if said is None or tuple(said) != (reason, tx.actor):  # else it was said, and not confirmed
            append_event(tx, record.row, record.state, reason, record.state)
        return record.charge()
    if why_not(Step.CANCEL, Known(record.charge(), effect.profile.bounds, tx.now)) is None:
        return move(tx, record, Event.CANCELED, {"reason": reason, "closed_at": tx.now}).charge()
    if record.row["closed_at"] is not None:
        return record.charge()
    changes = {"reason": f"{reason}; not proven absent yet", "closed_at": tx.now, "quiet_from": None}
    return move(tx, record, None, changes, note=f"closed, {reason}").charge()


@performs(NoteQuiet)
def note_quiet(tx: Transaction, effect: NoteQuiet) -> Charge:
    """From when a closed attempt is quiet, unless that is known."""
    record = locked(tx, effect)
    unknown = record.state.pending and record.row["closed_at"] is not None and record.row["quiet_from"] is None
    return _note(tx, record, {"quiet_from": tx.now} if unknown else {}).charge()


def _note(tx: Transaction, record: Record, noted: Values) -> Record:
    """Write what is no change of state, and no news to anybody."""
    after = Record({**record.row, **noted}, record.sends)
    return write(tx, record, after) if after.changed(record) else record


@performs(ProveAbsent)
def prove_absent(tx: Transaction, effect: ProveAbsent) -> Charge:
    """`absent`, when the four conditions hold for the row as it is now; else only the reason is brought up to date."""
    record = locked(tx, effect)
    if record.state is State.PREPARED:  # never sent, and why it is not sent after this reading
        problem = why_not_empty(record.charge(), effect.profile.bounds, effect.scan)
        return _note(tx, record, {} if problem is None else {"reason": problem}).charge()
    if not record.law.allows(record.state, Event.PROVEN_ABSENT):
        return record.charge()
    if effect.closed and record.row["closed_at"] is not None and record.row["quiet_from"] is None:
        # It was closed before this scan asked for the time: from then on it is known.
        record = _note(tx, record, {"quiet_from": effect.scan.begun_at})
    known = Known(record.charge(), effect.profile.bounds, tx.now, effect.scan)
    problem = why_not(Step.CONCLUDE_ABSENCE, known)
    if problem is None:
        reason = "proven: a complete list of the provider does not have it"
        return move(tx, record, Event.PROVEN_ABSENT, {"reason": reason}).charge()
    return _note(tx, record, {"reason": problem}).charge()
