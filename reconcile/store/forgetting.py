"""What ended runs have listed is forgotten by the next run: nothing reads it any more."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, bindparam, delete, exists, or_, select

from gateway_client.transaction import Transaction
from reconcile.effects import ForgetRuns
from reconcile.store.agreed import agreed
from reconcile.store.counts import items
from reconcile.store.lease import performs_in_run
from reconcile.store.runs import runs

ROWS_MAX = 5000  # of each table in one transaction: charges wait for no more than that

_WITH_SOMETHING_LISTED = (
    select(runs.c.run_id)
    .where(
        runs.c.ended_at.is_not(None),
        runs.c.run_id != bindparam("of_run"),
        or_(exists().where(agreed.c.run_id == runs.c.run_id), exists().where(items.c.run_id == runs.c.run_id)),
    )
    .limit(1)
)


def _forget_some(which: Any) -> Delete:
    of_run = which.c.run_id == bindparam("of_run")
    some = select(which.c.object_id).where(of_run).limit(bindparam("rows_max"))
    return delete(which).where(of_run, which.c.object_id.in_(some))


_FORGET_SOME = (_forget_some(agreed), _forget_some(items))


@performs_in_run(ForgetRuns)
def forget_runs(tx: Transaction, effect: ForgetRuns) -> bool:
    """Forget some of what other, ended runs have listed: nothing reads it any more."""
    run_id = tx.execute(_WITH_SOMETHING_LISTED, {"of_run": effect.run.run_id}).scalar()
    if run_id is None:
        return False
    for forget in _FORGET_SOME:
        tx.execute(forget, {"of_run": run_id, "rows_max": ROWS_MAX})
    return True
