"""Insert the row of a new attempt, of any operation, and begin its first send in the same commit.

Whether it may be made is decided by whoever claims it: `claim.py` a charge, `upon.py` what acts upon one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gateway_client.charge import Charge
from gateway_client.errors import ConfigurationError
from gateway_client.flow.effects import BeginSend, Begun, Claim, ClaimUpon, Draft
from gateway_client.frozen import Frozen
from gateway_client.gateways.base import Binding
from gateway_client.record import Record
from gateway_client.state import State
from gateway_client.store.facts import Facts
from gateway_client.store.gate import begun, judge
from gateway_client.store.rows import (
    CLAIMED,
    INSERT_ROW,
    INSERT_SEND,
    append_claim_and_send,
    append_event,
    charges,
    sha256,
)
from gateway_client.transaction import Transaction


def refuse_other_store(facts: Facts, binding: Binding, intent_id: str) -> None:
    """Refuse to write to another store than the one that the client began with: a caller's session may lead to it."""
    if facts.binding != binding:
        raise ConfigurationError(
            f"{intent_id}: this is another store than the one that the client began with, or it was bound anew: "
            "restart what uses it. Nothing was written or sent."
        )


def prepared(row: Mapping[str, object], draft: Draft, now: datetime) -> Record:
    """Return an attempt that is about to be inserted: its own columns, and what is frozen in it."""
    whole: dict[str, object] = dict.fromkeys(charges.c.keys())
    whole |= row
    whole |= {
        "revision": 1,
        "state": State.PREPARED,
        "idempotency_key": draft.idempotency_key,
        "body": draft.body,
        "body_sha256": sha256(draft.body),
        "api_version": draft.api_version,
        "seal": draft.seal,
        "created_at": now,
    }
    return Record(whole, ())


def insert_attempt(tx: Transaction, effect: Claim | ClaimUpon, new: Record, facts: Facts) -> Charge | Begun:
    """Insert the row, and begin its first send in the same commit where the gate lets it through.

    Where it does not, the row is there as `prepared`, and `BeginSend` says why it is not sent.
    """
    if effect.begin_with is None or judge(_first_send(effect, new, effect.begin_with), facts, new, tx.now) is not None:
        tx.write(INSERT_ROW, new.row)
        append_event(tx, new.row, None, CLAIMED, State.PREPARED)
        return new.charge()
    after, send = begun(new, effect.begin_with, tx.now, facts.clock, tx.actor)
    record = after.revised()
    tx.write(INSERT_ROW, record.row)
    tx.write(INSERT_SEND, send)
    append_claim_and_send(tx, record.row)
    return Begun(record.charge(), send["send_no"], record.row["body"], record.row["api_version"], record)


def _first_send(effect: Claim | ClaimUpon, new: Record, credential_id: str) -> BeginSend:
    """Ask the gate about the row that is being inserted."""
    return BeginSend(
        new.row["intent_id"],
        new.row["attempt"],
        effect.binding,
        effect.profile,
        credential_id,
        _unaltered,
        time_asked=False,  # no send of it has left
        operation=new.row["operation"],
        parent_id=new.row["parent_id"],
    )


def _unaltered(frozen: Frozen, seal: str | None) -> None:
    """Find nothing altered: what this very transaction freezes is not on disk yet, so nobody can have changed it."""
