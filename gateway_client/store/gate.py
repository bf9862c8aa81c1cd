"""BeginSend, the gate: every condition of a send, checked on the locked row, in the commit that writes it down."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from gateway_client.absence import quiet_for
from gateway_client.actor import ACTOR
from gateway_client.charge import Charge, iso
from gateway_client.errors import ClockRefused, ConfigurationError, NeedsPerson
from gateway_client.evidence import Known, Step, why_not
from gateway_client.flow.effects import BeginSend, Begun, EndLate, Held, Next
from gateway_client.frozen import Frozen
from gateway_client.postgres import TIMELINE
from gateway_client.state import SENDABLE, Event
from gateway_client.store.claim import binding_of
from gateway_client.store.leases import holds
from gateway_client.store.rows import (
    STORE_ROW,
    Record,
    Row,
    clock_of,
    locked,
    move,
    refuse_charged,
    run,
    sends,
    sha256,
    store,
)

CLOCK_BEHIND_MAX = timedelta(minutes=1)  # two hosts, each corrected by a Date of whole seconds, differ by a little

_INSERT_SEND = insert(sends)
_UPDATE_STORE = update(store)


def begin_send(session: Session, effect: BeginSend, now: datetime) -> Begun | Held:
    """Let one send through, written down with its time in this commit, or say what to do instead (DESIGN §6)."""
    _check_store(session, effect, now)
    record = locked(session, effect.intent_id, effect.attempt)
    clock = clock_of(session, now)
    if effect.lease_of is not None and not holds(record.row, effect.lease_of, clock):
        return Held(record.charge(), Next.NOTHING)  # it was paused for longer than its lease: the row is another's now
    record = _close_if_over(session, effect, end_if_late(session, record, now, clock), now, clock)
    row = record.row
    instead = _instead_of_sending(effect, record)
    if instead is not None:
        return Held(record.charge(), instead)
    step = Step.SEND_AGAIN if record.left() else Step.SEND
    if why_not(step, Known(record.charge(), effect.profile.bounds, now)) is not None:
        return Held(record.charge(), Next.LOOK_UP)
    held = _hold_other_credential(session, effect, record, now)
    if held is not None:
        return held
    _check_row(effect, row)
    refuse_charged(session, effect.intent_id, effect.attempt)
    send_no = len(record.sends) + 1
    send: dict[str, object] = dict.fromkeys(sends.c.keys())
    send |= {
        "intent_id": effect.intent_id,
        "attempt": effect.attempt,
        "send_no": send_no,
        "credential_id": effect.credential_id,
        "begun_at": now,
        "actor": session.info[ACTOR],
    }
    run(session, _INSERT_SEND, send)
    first = {"first_sent_at": now, "first_sent_db_at": clock} if row["first_sent_at"] is None else {}
    changes = {**first, "quiet_from": None}
    after = move(session, Record(row, (*record.sends, send)), Event.SEND_BEGUN, now, changes)
    return Begun(after.charge(), send_no, row["body"], row["api_version"])


def _instead_of_sending(effect: BeginSend, record: Record) -> Next | None:
    """What the row itself asks for instead of a send; None when one may follow."""
    if record.state.final:
        return Next.NOTHING
    if record.row["provider_intent_id"] is not None:
        return Next.RETRIEVE
    closed = record.row["closed_at"] is not None
    if record.state not in SENDABLE or closed or record.server_errors() >= effect.profile.server_errors_max:
        return Next.LOOK_UP
    if record.left() and not effect.time_asked:
        return Next.ASK_TIME  # both clocks of this machine may have stood still since it asked last
    return None


def _hold_other_credential(session: Session, effect: BeginSend, record: Record, now: datetime) -> Held | None:
    """Hold an attempt that has left under another API key, until a reading shows what became of it.

    A provider that keeps keys by credential would execute it anew, and a refusal of one delivery says nothing about
    another. So nothing is sent under the new one before the lists were read and show nothing, a quiet time after this
    moment. A 500 that may be rolled forward is waited for as well: until then the key's life is over.
    """
    row, bounds = record.row, effect.profile.bounds
    if not record.sends or record.sends[-1]["credential_id"] == effect.credential_id or not record.left():
        return None
    since = row["quiet_from"]
    if since is None:
        record, since = move(session, record, None, now, {"quiet_from": now}, note="held: another API key"), now
    charge = record.charge()
    sendable_at = since + quiet_for(charge, bounds)
    if effect.read_at is not None and effect.read_at >= sendable_at:
        return None
    waits = f"it can be sent under this one from {iso(sendable_at)}"
    if charge.unproven:
        waits = "a charge of it may still appear, so it is looked up and not sent again"
    next_step = Next.LOOK_UP_THEN_SEND if effect.read_at is None else Next.NOTHING
    return Held(replace(charge, reason=f"in doubt under another API key; {waits}"), next_step)


def _check_store(session: Session, effect: BeginSend, now: datetime) -> None:
    """The store is still whom we think, and time has not gone back behind what it has seen."""
    row = run(session, STORE_ROW).mappings().one()
    if binding_of(row) != effect.binding:
        raise ConfigurationError("the store was bound anew under this process: restart it. Nothing more was sent.")
    timeline = session.info.get(TIMELINE)
    if None not in (timeline, row["timeline"]) and timeline != row["timeline"]:  # None: the engine cannot tell
        raise ConfigurationError(
            f"the database went to another timeline, {row['timeline']} to {timeline}: a failover or a restore. What it "
            "had acknowledged may be lost, so a charge that it shows as never sent may have been made. Nothing more "
            "was sent: reconcile the days since then first. This release cannot take the hold off afterwards."
        )
    latest = row["latest_seen_at"]
    if now < latest - CLOCK_BEHIND_MAX:
        raise ClockRefused(
            f"it is {now:%Y-%m-%d %H:%M:%S} UTC here, but this store has already seen {latest:%Y-%m-%d %H:%M:%S}: "
            "a clock was set back. Nothing more was sent."
        )
    if now > latest + timedelta(seconds=1):  # a write for each second is enough, however many charges it has
        run(session, _UPDATE_STORE, {"latest_seen_at": now})


def _close_if_over(session: Session, effect: BeginSend, record: Record, now: datetime, clock: datetime) -> Record:
    """Close the attempt for good once its key's life is over: after that the same key could be a new request.

    Either clock is enough: the provider's, which each host knows by its answers, and the database's.
    """
    row = record.row
    first, first_db = row["first_sent_at"], row["first_sent_db_at"]
    over = first is not None and max(now - first, clock - (first_db or clock)) >= effect.profile.bounds.key_life
    if not over or row["closed_at"] is not None or record.state.final:
        return record
    return close(session, record, now)


def end_late(session: Session, effect: EndLate, now: datetime) -> Charge:
    """End an attempt that nobody may send any more, and that nobody need send to find that out."""
    record = locked(session, effect.intent_id, effect.attempt)
    return end_if_late(session, record, now, clock_of(session, now)).charge()


def end_if_late(session: Session, record: Record, now: datetime, clock: datetime) -> Record:
    """Cancel an attempt of which nothing has left when it is after its `not_after`; close one that has left.

    Either clock is enough, as for a key's life.
    """
    last = record.row["not_after"]
    if last is None or max(now, clock) <= last or record.state.final or record.row["closed_at"] is not None:
        return record
    if record.left():
        return close(session, record, now, f"not to be sent after {iso(last)}")
    reason = f"never sent, and not to be sent after {iso(last)}"
    return move(session, record, Event.CANCELED, now, {"reason": reason, "closed_at": now})


def close(session: Session, record: Record, now: datetime, why: str = "the key's life is over") -> Record:
    """Close an attempt that is never sent again.

    From when it is quiet is not known yet, even if the time was just asked: this machine may have stood still since,
    and another one, that stood still as well, may have begun a send. Whoever asks after this commit notes it.
    """
    changes = {"closed_at": now, "quiet_from": None}
    return move(session, record, None, now, changes, note=f"closed: {why}")


def _check_row(effect: BeginSend, row: Row) -> None:
    """What would be sent is what was frozen, for this payment, under the key that every process computes."""
    key = effect.binding.key("charge", row["intent_id"], row["attempt"])
    problem = effect.altered(Frozen(**{each.name: row[each.name] for each in fields(Frozen)}), row["seal"])
    if key != row["idempotency_key"] or sha256(row["body"]) != row["body_sha256"]:
        problem = (
            "the stored key or body is not the one that was frozen: the row was changed by hand, or belongs to another "
            "store"
        )
    if problem is not None:
        raise NeedsPerson(f"{row['intent_id']} attempt {row['attempt']}: {problem}. Nothing more was sent.")
