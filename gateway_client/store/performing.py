"""Map each database effect to its function, and tell of a send that has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.flow.effects import (
    BeginSend,
    Bind,
    Claim,
    CountWaiting,
    DatabaseEffect,
    EndLate,
    GiveUp,
    Lease,
    NoteQuiet,
    ProveAbsent,
    ReadBinding,
    ReadPending,
    Release,
    Settle,
    T,
)
from gateway_client.store.claim import bind, claim, read_binding
from gateway_client.store.gate import begin_send, end_late
from gateway_client.store.leases import count_waiting, lease, release
from gateway_client.store.reading import read_pending
from gateway_client.store.settle import give_up, note_quiet, prove_absent, settle
from gateway_client.telemetry import SendEnded


def perform(session: Session, effect: DatabaseEffect[T], now: datetime) -> T:
    """Do one database effect at the provider's time `now`."""
    return cast("T", _perform(session, effect, now))


def _perform(session: Session, effect: DatabaseEffect[Any], now: datetime) -> object:  # noqa: PLR0911
    match effect:
        case ReadBinding():
            return read_binding(session)
        case Bind():
            return bind(session, effect.binding, now)
        case Claim():
            return claim(session, effect, now)
        case BeginSend():
            return begin_send(session, effect, now)
        case EndLate():
            return end_late(session, effect, now)
        case Settle():
            return settle(session, effect, now)
        case GiveUp():
            return give_up(session, effect, now)
        case NoteQuiet():
            return note_quiet(session, effect, now)
        case ProveAbsent():
            return prove_absent(session, effect, now)
        case ReadPending():
            return read_pending(session, effect)
        case Lease():
            return lease(session, effect, now)
        case Release():
            release(session, effect, now)
            return None
        case CountWaiting():
            return count_waiting(session, effect, now)
    raise TypeError(f"not a database effect: {type(effect).__name__}")


def send_ended(effect: Settle, charge: Charge) -> SendEnded | None:
    """The record of a settled send."""
    if effect.send_no is None:
        return None
    answer = effect.answer
    return SendEnded(
        charge.intent_id,
        charge.attempt,
        effect.send_no,
        charge.state,
        answer.name,
        answer.status,
        answer.request_id,
        answer.elapsed_ms,
    )
