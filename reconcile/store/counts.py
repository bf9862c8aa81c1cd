"""What a run counts: charges of ours that its window is about, and those that it has listed, matched and foreign."""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    union,
)

from gateway_client import columns
from gateway_client.columns import UtcDateTime
from gateway_client.finding import Code
from gateway_client.proof import Kind
from gateway_client.record import Values
from gateway_client.state import CHARGE
from gateway_client.store.findings import run_findings
from gateway_client.store.registry import performs
from gateway_client.store.rows import IS_CHARGE, charges, findings, sends
from gateway_client.transaction import Transaction
from reconcile.effects import Count, Counts
from reconcile.store.agreed import COUNT_CHARGES, agreed
from reconcile.window import Window

items = columns.run_items


def _of_window() -> tuple[ColumnElement[bool], tuple[Select[str], ...]]:
    """The rows that a window is about: first sent in it; and the keys of those sent before, and again or settled since.

    Three ranges of three indexes: a store that is years old must not be read from its beginning, and a day of a million
    charges not row by row.
    """
    key, first = charges.c.idempotency_key, charges.c.first_sent_at
    start, end = bindparam("window_from", type_=UtcDateTime()), bindparam("window_to", type_=UtcDateTime())
    before = func.coalesce(first, start) < start  # no index must look good for this half of the range
    sent = and_(
        sends.c.intent_id == charges.c.intent_id,
        sends.c.operation == charges.c.operation,
        sends.c.attempt == charges.c.attempt,
    )
    again = and_(sends.c.begun_at >= start, sends.c.send_no > literal_column("1"))  # the first is the row's own
    return and_(first >= start, first < end, IS_CHARGE), (
        select(key).where(charges.c.settled_at >= start, before, IS_CHARGE),
        select(key).select_from(sends.join(charges, sent)).where(again, before, IS_CHARGE),
    )


FIRST_SENT, OF_BEFORE = _of_window()
_COUNT_FIRST_SENT = select(func.count()).select_from(charges).where(FIRST_SENT)
_COUNT_OF_BEFORE = select(func.count()).select_from(union(*OF_BEFORE).subquery())


def bounds(window: Window) -> Values:
    """The parameters that name a window in a statement."""
    return {"window_from": window.start, "window_to": window.end}


def count_local(tx: Transaction, window: Window) -> int:
    """Count the charges of ours that a window is about."""
    return sum(number_of(tx, of, bounds(window)) for of in (_COUNT_FIRST_SENT, _COUNT_OF_BEFORE))


# This run has a finding about the very charge, or about its attempt as a whole.
_HAS_FINDING = exists().where(
    run_findings.c.run_id == bindparam("of_run"),
    run_findings.c.finding_id == findings.c.id,
    findings.c.code != Code.STALE_PENDING,
    findings.c.operation == literal_column(f"'{CHARGE}'"),
    findings.c.intent_id == items.c.intent_id,
    findings.c.attempt == items.c.attempt,
    or_(
        findings.c.provider_charge_id.is_(None),
        findings.c.provider_charge_id == items.c.provider_charge_id,
    ),
)


def _count_listed(*conditions: ColumnElement[bool]) -> Select[int]:
    listed = (items.c.run_id == bindparam("of_run"), items.c.in_window, items.c.kind == Kind.CHARGE)
    return select(func.count()).select_from(items).where(*listed, *conditions)


_PROVIDER_CHARGES = _count_listed()
_FOREIGN = _count_listed(items.c.intent_id.is_(None))
_MATCHED = _count_listed(items.c.intent_id.is_not(None), ~_HAS_FINDING)


def _agreed_and_yet() -> Select[int]:
    """Charges that agree with their row, of whose attempt something else does not."""
    found = and_(
        run_findings.c.finding_id == findings.c.id,
        findings.c.code != Code.STALE_PENDING,
        findings.c.operation == literal_column(f"'{CHARGE}'"),
    )
    attempt = and_(charges.c.intent_id == findings.c.intent_id, IS_CHARGE, charges.c.attempt == findings.c.attempt)
    same = and_(
        agreed.c.run_id == run_findings.c.run_id,
        agreed.c.object_id == charges.c.provider_charge_id,
        or_(findings.c.provider_charge_id.is_(None), findings.c.provider_charge_id == agreed.c.object_id),
    )
    told = run_findings.join(findings, found).join(charges, attempt).join(agreed, same)
    return select(func.count(agreed.c.object_id.distinct())).select_from(told).where(_FOUND_BY_RUN)


_FOUND_BY_RUN = run_findings.c.run_id == bindparam("of_run")
_AGREED_AND_YET = _agreed_and_yet()


@performs(Count)
def count(tx: Transaction, effect: Count) -> Counts:
    """Count what was listed: what agrees by itself is matched, unless something else of its attempt is flagged."""
    of = {"of_run": effect.run.run_id}
    agreeing = number_of(tx, COUNT_CHARGES, of)
    return Counts(
        provider_charges=number_of(tx, _PROVIDER_CHARGES, of) + agreeing,
        matched=number_of(tx, _MATCHED, of) + agreeing - number_of(tx, _AGREED_AND_YET, of),
        foreign=number_of(tx, _FOREIGN, of),
    )


def number_of(tx: Transaction, statement: Executable, values: Values | None = None) -> int:
    """Return the one number that a statement finds."""
    return int(tx.execute(statement, values).scalar_one())
