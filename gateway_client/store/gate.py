"""BeginSend, the gate: every condition of a send, checked on the locked row, in the commit that writes it down."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from gateway_client.absence import quiet_for
from gateway_client.charge import Charge, iso
from gateway_client.errors import ChargeOnceError, ClockRefused, ConfigurationError, NeedsPerson
from gateway_client.evidence import Known, Step, why_not
from gateway_client.flow.effects import BeginSend, Begun, EndLate, Held, Next
from gateway_client.frozen import Frozen
from gateway_client.record import Record, Row, Values
from gateway_client.state import SENDABLE, Event
from gateway_client.store.facts import Facts, read_facts, why_held
from gateway_client.store.leases import holds
from gateway_client.store.registry import performs
from gateway_client.store.rows import INSERT_SEND, append_event, locked, move, sends, sha256, write
from gateway_client.transaction import Transaction

CLOCK_BEHIND_MAX = timedelta(minutes=1)  # two hosts, each corrected by a Date of whole seconds, differ by a little


@dataclass(frozen=True, slots=True)
class Move:
    """Describe what is written of an attempt that is not sent: an event (None: only changes), its name for people."""

    event: Event | None
    changes: Values
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold a send back; `move` is written first."""

    next: Next
    move: Move | None = None
    reason: str | None = None


@performs(BeginSend)
def begin_send(tx: Transaction, effect: BeginSend) -> Begun | Held:
    """Let one send through, written down with its time in this commit, or say what to do instead (DESIGN §6)."""
    record = locked(tx, effect)
    # Read under the row's lock: what others have committed while it was waited for counts.
    facts = read_facts(tx, effect.intent_id, effect.attempt, effect.operation, record.row["parent_id"])
    held = judge(effect, facts, record, tx.now)
    if isinstance(held, ChargeOnceError):
        raise held
    if held is not None:
        if held.move is not None:
            record = apply(tx, record, held.move)
        charge = record.charge()
        return Held(charge if held.reason is None else replace(charge, reason=held.reason), held.next)
    after, send = begun(record, effect.credential_id, tx.now, facts.clock, tx.actor)
    tx.write(INSERT_SEND, send)
    # Written even when nothing of the row is new: whoever waits for another send's answer must see that one was begun.
    written = write(tx, record, after)
    if after.changed(record):
        append_event(tx, record.row, record.state, str(Event.SEND_BEGUN), after.state)
    return Begun(written.charge(), send["send_no"], record.row["body"], record.row["api_version"], written)


def judge(effect: BeginSend, facts: Facts, record: Record, now: datetime) -> Hold | ChargeOnceError | None:
    """Judge whether a send may be begun, by what was read: None when it may, else what to do instead, or a refusal.

    The one place of the gate's conditions, for a row that was found and for one that is inserted with its first send.
    """
    refusal = _refuse_store(effect, facts, now)
    if refusal is not None:
        return refusal
    if effect.lease_of is not None and not holds(record.row, effect.lease_of, facts.clock):
        return Hold(Next.NOTHING)  # it was paused for longer than its lease: the row is another's now
    ends = end_late_by(record, now, facts.clock) or _close_if_over(effect, record, now, facts.clock)
    instead = _instead_of_sending(effect, record if ends is None else record.moved(ends.event, now, ends.changes))
    if instead is not None:
        return Hold(instead, ends)
    step = Step.SEND_AGAIN if record.left() else Step.SEND
    if why_not(step, Known(record.charge(), effect.profile.bounds, now)) is not None:
        return Hold(Next.LOOK_UP)
    held = _hold_other_credential(effect, record, now)
    if held is not None:
        return held
    return _refuse_row(effect, record.row) or why_held(facts, effect.intent_id, effect.attempt)


def begun(
    record: Record, credential_id: str, now: datetime, clock: datetime, actor: str
) -> tuple[Record, dict[str, Any]]:
    """Return the record with one send more, which is begun now, and the row of that send."""
    row = record.row
    send: dict[str, Any] = dict.fromkeys(sends.c.keys())
    send |= {
        "intent_id": row["intent_id"],
        "operation": row["operation"],
        "attempt": row["attempt"],
        "send_no": len(record.sends) + 1,
        "credential_id": credential_id,
        "begun_at": now,
        "actor": actor,
    }
    first = {"first_sent_at": now, "first_sent_db_at": clock} if row["first_sent_at"] is None else {}
    return record.moved(Event.SEND_BEGUN, now, {**first, "quiet_from": None}).with_send(send), send


def apply(tx: Transaction, record: Record, to: Move) -> Record:
    """Write a move of a locked row."""
    return move(tx, record, to.event, to.changes, note=to.note)


def _instead_of_sending(effect: BeginSend, record: Record) -> Next | None:
    """What the row itself asks for instead of a send; None when one may follow."""
    if not record.state.pending:
        return Next.NOTHING
    if record.row["provider_intent_id"] is not None:
        return Next.RETRIEVE
    closed = record.row["closed_at"] is not None
    if record.state not in SENDABLE or closed or record.server_errors() >= effect.profile.server_errors_max:
        return Next.LOOK_UP
    if record.left() and not effect.time_asked:
        return Next.ASK_TIME  # both clocks of this machine may have stood still since it asked last
    return None


def _hold_other_credential(effect: BeginSend, record: Record, now: datetime) -> Hold | None:
    """Hold an attempt that has left under another API key, until a reading shows what became of it.

    A provider that keeps keys by credential would execute it anew, and a refusal of one delivery says nothing about
    another. So nothing is sent under the new one before the lists were read and show nothing, a quiet time after this
    moment. A 500 that may be rolled forward is waited for as well: until then the key's life is over.
    """
    row, bounds = record.row, effect.profile.bounds
    if not record.sends or record.sends[-1]["credential_id"] == effect.credential_id or not record.left():
        return None
    since = row["quiet_from"]
    first = None
    if since is None:
        since, first = now, Move(None, {"quiet_from": now}, "held: another API key")
    charge = record.charge()
    sendable_at = since + quiet_for(charge, bounds)
    if effect.read_at is not None and effect.read_at >= sendable_at:
        return None
    waits = f"it can be sent under this one from {iso(sendable_at)}"
    if charge.unproven:
        waits = "a charge of it may still appear, so it is looked up and not sent again"
    next_step = Next.LOOK_UP_THEN_SEND if effect.read_at is None else Next.NOTHING
    return Hold(next_step, first, f"in doubt under another API key; {waits}")


def _refuse_store(effect: BeginSend, facts: Facts, now: datetime) -> ChargeOnceError | None:
    """The store is still whom we think, and time has not gone back behind what it has seen."""
    if facts.binding != effect.binding:
        return ConfigurationError("the store was bound anew under this process: restart it. Nothing more was sent.")
    before, timeline = facts.bound_on, facts.timeline
    if None not in (timeline, before) and timeline != before:  # None: the engine cannot tell
        return ConfigurationError(
            f"the database went to another timeline, {before} to {timeline}: a failover or a restore. What it "
            "had acknowledged may be lost, so a charge that it shows as never sent may have been made. Nothing more "
            "was sent: reconcile the days since then first. This release cannot take the hold off afterwards."
        )
    latest = facts.latest_seen_at
    if now < latest - CLOCK_BEHIND_MAX:
        return ClockRefused(
            f"it is {now:%Y-%m-%d %H:%M:%S} UTC here, but this store has already seen {latest:%Y-%m-%d %H:%M:%S}: "
            "a clock was set back. Nothing more was sent."
        )
    return None


def _close_if_over(effect: BeginSend, record: Record, now: datetime, clock: datetime) -> Move | None:
    """Close the attempt for good once its key's life is over: after that the same key could be a new request.

    Either clock is enough: the provider's, which each host knows by its answers, and the database's.
    """
    row = record.row
    first, first_db = row["first_sent_at"], row["first_sent_db_at"]
    over = first is not None and max(now - first, clock - (first_db or clock)) >= effect.profile.bounds.key_life
    return None if not over or row["closed_at"] is not None or not record.state.pending else closing(now)


@performs(EndLate)
def end_late(tx: Transaction, effect: EndLate) -> Charge:
    """End an attempt that nobody may send any more, and that nobody need send to find that out."""
    record = locked(tx, effect)
    return end_if_late(tx, record, tx.clock()).charge()


def end_if_late(tx: Transaction, record: Record, clock: datetime) -> Record:
    """End a locked attempt that is not to be sent any more."""
    ends = end_late_by(record, tx.now, clock)
    return record if ends is None else apply(tx, record, ends)


def end_late_by(record: Record, now: datetime, clock: datetime) -> Move | None:
    """Cancel an attempt of which nothing has left when it is after its `not_after`; close one that has left.

    Either clock is enough, as for a key's life.
    """
    last = record.row["not_after"]
    if last is None or max(now, clock) <= last or not record.state.pending or record.row["closed_at"] is not None:
        return None
    if record.left():
        return closing(now, f"not to be sent after {iso(last)}")
    reason = f"never sent, and not to be sent after {iso(last)}"
    return Move(Event.CANCELED, {"reason": reason, "closed_at": now})


def close(tx: Transaction, record: Record) -> Record:
    """Close a locked attempt whose key's life is over."""
    return apply(tx, record, closing(tx.now))


def closing(now: datetime, why: str = "the key's life is over") -> Move:
    """Close an attempt that is never sent again.

    From when it is quiet is not known yet, even if the time was just asked: this machine may have stood still since,
    and another one, that stood still as well, may have begun a send. Whoever asks after this commit notes it.
    """
    changes = {"closed_at": now, "quiet_from": None}
    return Move(None, changes, f"closed: {why}")


def _refuse_row(effect: BeginSend, row: Row) -> NeedsPerson | None:
    """What would be sent is what was frozen, for this payment, under the key that every process computes."""
    key = effect.binding.key(row["operation"], row["intent_id"], row["attempt"])
    problem = effect.altered(Frozen(**{each.name: row[each.name] for each in fields(Frozen)}), row["seal"])
    if key != row["idempotency_key"] or sha256(row["body"]) != row["body_sha256"]:
        problem = (
            "the stored key or body is not the one that was frozen: the row was changed by hand, or belongs to another "
            "store"
        )
    if problem is None:
        return None
    return NeedsPerson(f"{row['intent_id']} attempt {row['attempt']}: {problem}. Nothing more was sent.")
