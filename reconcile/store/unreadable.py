"""Objects that a run has listed and could not read: kept by name, so that no call forgets what an earlier one saw."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, func, insert, select

from gateway_client import columns
from gateway_client.gateways.base import Unreadable
from gateway_client.transaction import Transaction
from reconcile import words
from reconcile.effects import OpenedRun
from reconcile.store.sets import among

NAMED_MAX = 10

unreadable = columns.run_unreadable

_OF_RUN = unreadable.c.run_id == bindparam("of_run")
_FORGET = delete(unreadable).where(_OF_RUN)
_DELETE_SEEN = _FORGET.where(among(unreadable.c.object_id, "of_objects"))
_INSERT = insert(unreadable)
_COUNT = select(func.count()).select_from(unreadable).where(_OF_RUN)
_COUNT_MAYBE_OURS = _COUNT.where(unreadable.c.maybe_ours)
_NAMES = (
    select(unreadable.c.object_id)
    .where(_OF_RUN)
    .order_by(unreadable.c.maybe_ours.desc(), unreadable.c.object_id)
    .limit(NAMED_MAX)
)


def save_unreadable(tx: Transaction, opened: OpenedRun, seen: str, found: Iterable[Unreadable]) -> None:
    """Keep the names of what could not be read; what was `seen` before (a packed set) is as it was seen last."""
    tx.execute(_DELETE_SEEN, {"of_run": opened.run_id, "of_objects": seen})
    rows = [
        {"run_id": opened.run_id, "object_id": one.object_id, "maybe_ours": one.may_be_of(opened.binding)}
        for one in found
    ]
    if rows:
        tx.execute(_INSERT, rows)


def forget_unreadable(tx: Transaction, run_id: str) -> None:
    """The lists are read from their beginning: what cannot be read is seen again."""
    tx.execute(_FORGET, {"of_run": run_id})


def read_unreadable(tx: Transaction, run_id: str) -> tuple[int, tuple[str, ...]]:
    """How many there are, and the names of some, those first that may be ours."""
    of = {"of_run": run_id}
    return int(tx.execute(_COUNT, of).scalar_one()), tuple(tx.execute(_NAMES, of).scalars())


def why_unreadable(tx: Transaction, run_id: str) -> str | None:
    """Why a run is not complete beside what may be ours and could not be read; None when there is no such thing."""
    count = int(tx.execute(_COUNT_MAYBE_OURS, {"of_run": run_id}).scalar_one())
    _, names = read_unreadable(tx, run_id)
    return words.unreadable(count, names[:count]) if count else None
