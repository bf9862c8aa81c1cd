"""The lease of a run: renewed in the transaction of each of its effects, which fails once another call has the run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import bindparam, update

from gateway_client import columns
from gateway_client.errors import RunHeld
from gateway_client.record import Values
from gateway_client.store.registry import Performer, performs
from gateway_client.transaction import Transaction
from reconcile.effects import LetGo, OfRun, OpenedRun, Renew

E = TypeVar("E", bound=OfRun[Any])
R = TypeVar("R")

runs = columns.runs

_UPDATE_LEASED = update(runs).where(
    runs.c.run_id == bindparam("of_run"), runs.c.leased_by == bindparam("of_lease"), runs.c.ended_at.is_(None)
)


def performs_in_run(kind: type[E]) -> Callable[[Performer[E, R]], Performer[E, R]]:
    """Register the function below as `performs` does; before it does its work, the lease of the run is renewed."""

    def register(function: Performer[E, R]) -> Performer[E, R]:
        def renewed(tx: Transaction, effect: E) -> R:
            renew(tx, effect.run)
            return function(tx, effect)

        performs(kind)(renewed)
        return function

    return register


def renew(tx: Transaction, opened: OpenedRun) -> None:
    """Renew our lease. Raises RunHeld once another call has the run."""
    until = tx.clock() + timedelta(seconds=opened.lease.seconds)
    if not tx.execute(_UPDATE_LEASED, {**_ours(opened), "leased_until": until}).rowcount:
        raise RunHeld(
            f"{opened.run_id}: its lease was over, and another process has taken this run over. This one wrote nothing "
            "since; what it did before is on disk, and nothing is lost. Let the other one finish."
        )


@performs(Renew)
def renew_only(tx: Transaction, effect: Renew) -> None:
    """Renew our lease, and nothing else."""
    renew(tx, effect.run)


@performs(LetGo)
def let_go(tx: Transaction, effect: LetGo) -> None:
    """Let go of a run that we could not finish, so that the next call need not wait."""
    tx.execute(_UPDATE_LEASED, {**_ours(effect.run), "leased_until": over(tx, effect.run)})


def over(tx: Transaction, opened: OpenedRun) -> datetime:
    """When a lease that is given back is over: now by its own clock, and when the run began if that clock, which for a
    file is ours, is ahead by now.
    """
    return min(tx.clock(), opened.started_at)


def _ours(opened: OpenedRun) -> Values:
    return {"of_run": opened.run_id, "of_lease": opened.lease.leased_by}
