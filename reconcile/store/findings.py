"""What a run flags: found by sets of rows, kept once, closed again when it is no longer so."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    union,
    union_all,
    update,
)

from gateway_client.finding import Action, Code, duplicate
from gateway_client.proof import Kind, Shown
from gateway_client.state import PENDING, REFUSED, State
from gateway_client.store.findings import record_finding, run_findings
from gateway_client.store.rows import IS_CHARGE, charges, constant, findings, snapshots
from gateway_client.transaction import Transaction
from reconcile import words
from reconcile.effects import AttemptKey, CloseStale, Flag, FlagDuplicates, FlagStale
from reconcile.store.ages import TOO_OLD, too_old
from reconcile.store.agreed import agreed
from reconcile.store.counts import items
from reconcile.store.lease import performs_in_run
from reconcile.store.runs import after_key, cursor

PAGE_ROWS_MAX = 200


@performs_in_run(Flag)
def flag(tx: Transaction, effect: Flag) -> None:
    """Keep findings that a person must look at."""
    for found in effect.found:
        record_finding(tx, found, Action.FLAGGED, effect.run.run_id)


_RUN_ID: Any = bindparam("of_run")


def _failed() -> CompoundSelect[Any]:
    """Charges that a run has seen, and that are no success."""
    judged, agreeing = (
        select(which.c.object_id).where(which.c.run_id == _RUN_ID, which.c.kind == Kind.CHARGE)
        for which in (items, agreed)
    )
    no_success = items.c.shows != Shown.SUCCEEDED
    return union_all(judged.where(no_success), agreeing.where(agreed.c.state != State.SUCCEEDED))


def _beside(*conditions: ColumnElement[bool], mine: bool) -> Select[Any]:
    """The charges that rows of ours name, of intents of which a run must judge something."""
    charge_id = charges.c.provider_charge_id
    columns = (charges.c.intent_id, charges.c.attempt, charge_id.label("charge_id"), charges.c.created_at)
    return (
        select(*columns, literal(mine).label("mine"))
        .select_from(items.join(charges, and_(items.c.intent_id == charges.c.intent_id, IS_CHARGE)))
        .where(items.c.run_id == _RUN_ID, charge_id.not_in(_failed()), *conditions)
    )


def _union_of_successes() -> CompoundSelect[Any]:
    """Every success that a run has seen, and those of ours that it has not found missing.

    What agrees tells of a second success only beside something that does not: the others are not looked at.
    """
    theirs = select(
        items.c.intent_id,
        items.c.attempt,
        items.c.provider_charge_id.label("charge_id"),
        items.c.created_at,
        literal(False).label("mine"),
    ).where(
        items.c.run_id == _RUN_ID,
        items.c.intent_id.is_not(None),
        items.c.shows == Shown.SUCCEEDED,
        items.c.provider_charge_id.is_not(None),
        items.c.provider_charge_id.not_in(_failed()),
    )
    of_run = agreed.c.run_id == _RUN_ID
    ids = (charges.c.provider_charge_id, charges.c.provider_intent_id)
    agreeing = exists().where(of_run, agreed.c.object_id.in_(ids), agreed.c.state == State.SUCCEEDED)
    missing = select(findings.c.provider_charge_id).where(
        findings.c.code == Code.MISSING_AT_PROVIDER,
        findings.c.id == run_findings.c.finding_id,
        run_findings.c.run_id == _RUN_ID,
        findings.c.provider_charge_id.is_not(None),
    )
    ours = _beside(
        # Succeeded: asked so that no index by state looks better than the intents that the run has listed.
        charges.c.state.not_in(constant((*PENDING, *REFUSED))),
        charges.c.provider_charge_id.is_not(None),
        charges.c.provider_charge_id.not_in(missing),
        # What was neither listed nor asked for (the run is incomplete) may not be there any more.
        or_(
            charges.c.provider_charge_id.in_(select(items.c.object_id).where(items.c.run_id == _RUN_ID)),
            exists().where(of_run, agreed.c.object_id == charges.c.provider_charge_id),
        ),
        mine=True,
    )
    return union(theirs, _beside(agreeing, mine=False), ours)


_SUCCESSES = _union_of_successes().subquery()
_SUCCESSES_OF_INTENTS = select(_SUCCESSES).where(_SUCCESSES.c.intent_id.in_(bindparam("of_intents", expanding=True)))


@cache
def _with_several(*, after: bool) -> Select[Any]:
    """Intents with more than one success."""
    query = (
        select(_SUCCESSES.c.intent_id)
        .group_by(_SUCCESSES.c.intent_id)
        .having(func.count(_SUCCESSES.c.charge_id.distinct()) > 1)
        .order_by(_SUCCESSES.c.intent_id)
        .limit(bindparam("rows_max"))
    )
    return query.where(_SUCCESSES.c.intent_id > bindparam("after_intent")) if after else query


@performs_in_run(FlagDuplicates)
def flag_duplicates(tx: Transaction, effect: FlagDuplicates) -> str | None:
    """Every success of an intent but the first: ours if we have one, else the oldest."""
    run_id = effect.run.run_id
    page = {"of_run": run_id, "rows_max": PAGE_ROWS_MAX, "after_intent": effect.after}
    several = list(tx.execute(_with_several(after=effect.after is not None), page).scalars())
    each = {"of_run": run_id, "of_intents": several}
    # One charge may be named by its intent, by itself and by our row: ours says most, then the oldest.
    rows = list(tx.execute(_SUCCESSES_OF_INTENTS, each).mappings()) if several else []
    rows.sort(key=lambda row: (not row["mine"], str(row["created_at"]), row["charge_id"]))
    by_intent: dict[str, dict[str, Any]] = {intent_id: {} for intent_id in several}
    for row in rows:
        by_intent[row["intent_id"]].setdefault(row["charge_id"], row)
    for intent_id, charges_of in by_intent.items():
        first, *others = charges_of.values()
        for other in others:
            mine = bool(first["mine"])
            found = duplicate(intent_id, other["attempt"], other["charge_id"], first["charge_id"], mine=mine)
            record_finding(tx, found, Action.FLAGGED, run_id)
    return several[-1] if several else None


@cache
def _pending_since(*, after: bool) -> Select[Any]:
    query = (
        select(charges)
        .where(TOO_OLD, IS_CHARGE)
        .order_by(charges.c.intent_id, charges.c.attempt)
        .limit(bindparam("rows_max"))
    )
    return query.where(after_key(charges)) if after else query


@performs_in_run(FlagStale)
def flag_stale(tx: Transaction, effect: FlagStale) -> AttemptKey | None:
    """What is pending for longer than its state may be."""
    page = {**too_old(effect.ages, tx.now), "rows_max": PAGE_ROWS_MAX, **cursor(effect.after)}
    query = _pending_since(after=effect.after is not None)
    keys = [(row["intent_id"], row["attempt"]) for row in tx.execute(query, page).mappings()]
    if not keys:
        return None
    tx.lock((intent_id for intent_id, _ in keys))
    for charge in snapshots(tx, tx.execute(query, page).mappings()):  # again: some may have ended by now
        if (charge.intent_id, charge.attempt) in keys:
            record_finding(tx, words.stale(charge), Action.FLAGGED, effect.run.run_id)
    return keys[-1]


_STALE = select(charges.c.attempt).where(
    charges.c.intent_id == findings.c.intent_id,
    charges.c.operation == findings.c.operation,
    charges.c.attempt == findings.c.attempt,
    TOO_OLD,
)
_UPDATE_STALE_NO_MORE = update(findings).where(
    findings.c.code == Code.STALE_PENDING, findings.c.closed_at.is_(None), ~_STALE.exists()
)


@performs_in_run(CloseStale)
def close_stale(tx: Transaction, effect: CloseStale) -> None:
    """What is pending no more, or in a state that may last longer, is no finding any more."""
    closing = {"closed_at": tx.now, "closed_by": effect.run.run_id, "because": "it is no longer pending for too long"}
    tx.execute(_UPDATE_STALE_NO_MORE, {**closing, **too_old(effect.ages, tx.now)})
