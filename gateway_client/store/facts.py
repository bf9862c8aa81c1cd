"""Read what the store says beside an attempt, in one statement: whose it is, its times, and what holds the intent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, literal_column, or_, select, true, union

from gateway_client.errors import NeedsPerson
from gateway_client.finding import HARMLESS, Code
from gateway_client.gateways.base import Binding
from gateway_client.record import Row
from gateway_client.state import CHARGE, State
from gateway_client.store.reading import LATEST_BEGUN_AT, latest
from gateway_client.store.rows import charges, constant, findings, store
from gateway_client.transaction import Transaction

# Money that the provider has taken for another attempt, or by a charge that has no row here, is a reason to send
# nothing, whatever a person has said of it.
_ROW_OF_FINDING = select(charges.c.attempt).where(
    charges.c.intent_id == findings.c.intent_id,
    charges.c.operation == findings.c.operation,
    charges.c.attempt == findings.c.attempt,
)
# A finding holds its own operation, and one about a charge all that acts upon that charge.
_OWN = and_(findings.c.intent_id == bindparam("of_intent"), findings.c.operation == bindparam("of_operation"))
_ABOUT = or_(
    _OWN, and_(findings.c.intent_id == bindparam("of_parent"), findings.c.operation == literal_column(f"'{CHARGE}'"))
)
_HELD_BY = (
    select(findings.c.id)
    .where(
        _ABOUT,
        findings.c.code.not_in(constant(HARMLESS)),
        or_(
            findings.c.closed_at.is_(None),
            and_(_OWN, findings.c.charged, findings.c.attempt != bindparam("for_attempt")),
            and_(findings.c.code == Code.MISSING_LOCALLY, ~_ROW_OF_FINDING.exists()),
        ),
    )
    .order_by(findings.c.closed_at.is_not(None), findings.c.id)
    .limit(1)
)
_FINDING = select(findings).where(findings.c.id == bindparam("of_finding"))
_OF_INTENT = select(charges.c.attempt).where(
    charges.c.intent_id == bindparam("of_intent"), charges.c.operation == bindparam("of_operation")
)
_SUCCESS = _OF_INTENT.where(charges.c.state == State.SUCCEEDED).limit(1)


def _facts(*more: ColumnElement[Any]) -> Select[Any]:
    return select(
        store,
        LATEST_BEGUN_AT,
        _OF_INTENT.exists().label("intent_known"),
        _SUCCESS.scalar_subquery().label("paid"),
        _HELD_BY.scalar_subquery().label("held_by"),
        *more,
    )


_FACTS = {True: _facts(func.clock_timestamp().label("clock")), False: _facts()}  # whether the database has a clock


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold what the store says beside an attempt, read at one moment: whose it is, its times, what holds the intent."""

    binding: Binding | None  # None: the store belongs to nobody
    bound_on: str | None  # the database's history, when the store was bound; None where it does not tell
    timeline: str | None  # and now
    latest_seen_at: datetime
    clock: datetime  # the one of leases, holds and key lives: the database's; a file has ours, set by the provider's
    intent_known: bool
    paid: int | None  # the attempt of the intent that succeeded
    finding: Row | None  # what holds the attempt, the first of all


def binding_of(row: Row) -> Binding:
    """Whom the store belongs to, by its one row."""
    return Binding(row["provider"], row["mode"], row["account"], row["namespace"], row["store_id"])


def read_facts(
    tx: Transaction, intent_id: str, attempt: int, operation: str = CHARGE, parent_id: str | None = None
) -> Facts:
    """Read the facts for an attempt of an operation, in one statement; in two when a finding holds it."""
    of = {"of_intent": intent_id, "of_operation": operation, "of_parent": parent_id, "for_attempt": attempt}
    row = tx.execute(_FACTS[tx.own_clock], of).mappings().first()
    if row is None:
        return Facts(None, None, None, latest_seen_at=tx.now, clock=tx.now, intent_known=False, paid=None, finding=None)
    held_by = row["held_by"]
    return Facts(
        binding=binding_of(row),
        bound_on=row["timeline"],
        timeline=tx.timeline,
        latest_seen_at=latest(row),
        clock=row["clock"] if tx.own_clock else tx.now,
        intent_known=bool(row["intent_known"]),
        paid=row["paid"],
        finding=None if held_by is None else tx.execute(_FINDING, {"of_finding": held_by}).mappings().one(),
    )


_TOUCHED = union(
    *(
        select(which.c.intent_id).where(which.c.intent_id.in_(bindparam("of_intents", expanding=True)))
        for which in (charges, findings)
    )
).subquery("touched")


def _untouched(*more: ColumnElement[Any]) -> Select[Any]:
    touched = _TOUCHED.c.intent_id.label("touched")
    return select(store, LATEST_BEGUN_AT, touched, *more).select_from(store.outerjoin(_TOUCHED, true()))


_UNTOUCHED = {True: _untouched(func.clock_timestamp().label("clock")), False: _untouched()}


def read_untouched(tx: Transaction, intent_ids: Sequence[str]) -> dict[str, Facts]:
    """Read the facts for first attempts of intents of which nothing is written, in one statement; no others."""
    rows = tx.execute(_UNTOUCHED[tx.own_clock], {"of_intents": list(intent_ids)}).mappings().all()
    if not rows:
        return {}
    touched = {row["touched"] for row in rows}
    facts = Facts(
        binding=binding_of(rows[0]),
        bound_on=rows[0]["timeline"],
        timeline=tx.timeline,
        latest_seen_at=latest(rows[0]),
        clock=rows[0]["clock"] if tx.own_clock else tx.now,
        intent_known=False,
        paid=None,
        finding=None,
    )
    return {intent_id: facts for intent_id in intent_ids if intent_id not in touched}


def why_held(facts: Facts, intent_id: str, attempt: int) -> NeedsPerson | None:
    """Tell why an attempt must not be sent or made: its intent may be paid by other means, or a person must look."""
    if facts.paid is not None and facts.paid != attempt:
        return NeedsPerson(f"{intent_id}: attempt {facts.paid} succeeded. Nothing more was sent: cancel this attempt.")
    finding = facts.finding
    if finding is None:
        return None
    named = f"finding {finding['id']}"
    if finding["closed_at"] is None:
        return NeedsPerson(
            f"{finding['intent_id']} has an open {named} ({finding['code']}): {finding['detail']} Nothing more was "
            "sent."
        )
    if finding["code"] == Code.MISSING_LOCALLY:
        return NeedsPerson(
            f"{intent_id}: the provider has {finding['provider_charge_id']}, an attempt without a row here ({named}). "
            "Nothing more was sent: cancel this attempt, then reconcile the day of that charge."
        )
    return NeedsPerson(
        f"{intent_id}: the provider has taken money for it by attempt {finding['attempt']} "
        f"({finding['provider_charge_id']}, {named}, closed). Nothing more was sent: cancel this attempt; what is to "
        "be paid once more needs an intent id of its own."
    )
