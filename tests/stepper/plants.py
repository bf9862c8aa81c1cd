"""Mistakes, put in place while a case is played: the stepper must find each of them, or it proves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType

import pytest
from sqlalchemy import bindparam, select

from gateway_client import postgres
from gateway_client.flow.effects import ClaimUpon
from gateway_client.store import findings, rows
from gateway_client.transaction import Transaction
from reconcile.effects import Import
from reconcile.store import findings as night
from reconcile.store import repairs, runs
from tests.stepper.ground import Ground
from tests.stepper.scenes import lease_of_a_row_unread, lease_of_a_run_unread

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Plant:
    """A mistake. `scene`, `act`: where it is looked for; `undo` gives the tables back what `do` took from them."""

    name: str
    scene: str = ""
    act: str = ""
    plant: Callable[[Patch], None] = lambda patch: None
    do: str = ""
    undo: str = ""
    says: str = ""  # what must be said of it; anything else is not what is looked for

    @contextmanager
    def put(self, ground: Ground) -> Iterator[None]:
        """Within it, the mistake is made."""
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            if self.do:
                ground.execute(self.do)
            try:
                yield
            finally:
                if self.undo:
                    ground.clear()
                    ground.execute(self.undo)


NOTHING = Plant("nothing")


def _unlocked_begin(patch: Patch) -> None:
    """A transaction begins without the lock of the intent that it decides about."""
    begin = postgres.begin
    patch.setattr(postgres, "begin", lambda connection, *, lock, **rest: begin(connection, lock=None, **rest))
    patch.setattr(postgres, "try_lock", lambda connection, intent_ids: intent_ids)


def _no_locks(patch: Patch) -> None:
    """Nobody waits for whoever decides about the same intent, neither by its number nor by its rows."""
    _unlocked_begin(patch)
    patch.setattr(postgres, "lock", lambda connection, *intents: None)
    patch.setattr(rows, "_LOCKED_ROW", rows.ROW_OF_ATTEMPT)
    attempts = select(rows.charges).where(rows.charges.c.intent_id == bindparam("of_intent"))
    claim = import_module("gateway_client.store.claim")  # its package has a function of that name
    patch.setattr(claim, "_ATTEMPTS", attempts.order_by(rows.charges.c.attempt))


def _no_guard(patch: Patch) -> None:
    """An outcome is written over whatever the row has become since it was read."""
    settle = import_module("gateway_client.store.settle")  # its package has a function of that name
    patch.setattr(settle, "write_if_unchanged", rows.write)


def _nobody_waits(module: ModuleType, patch: Patch) -> None:
    """The functions of a module lock no intent that their transaction was not begun for."""
    lock = Transaction.lock

    def unless_there(tx: Transaction, intent_ids: Iterable[str]) -> None:
        if sys._getframe(1).f_globals["__name__"] != module.__name__:
            lock(tx, intent_ids)

    patch.setattr(Transaction, "lock", unless_there)


def _due_unlocked(patch: Patch) -> None:
    """A worker takes rows that another one is taking just now."""
    leases = import_module("gateway_client.store.leases")
    unlocked = leases._DUE._clone()
    unlocked._for_update_arg = None
    patch.setattr(leases, "_DUE", unlocked)


def _no_intent(effect: type, patch: Patch) -> None:
    """An effect does not say which intent it decides about."""
    patch.setattr(effect, "decides_about", None)


def _one_try(patch: Patch) -> None:
    """What another transaction stood in the way of is left to the caller."""
    patch.setattr(postgres, "passes", lambda error: False)


_INDEX = "pending_charges_one_live"
_STATES = "'declined', 'rejected', 'canceled', 'absent'"

PLANTS = (
    Plant("a lock left out: of the intent's number and of its rows", "prepared", "begin", _no_locks),
    Plant("the lock left out of the statement that begins a transaction", "prepared", "A: flag", _unlocked_begin),
    Plant("the guard of an outcome left out: UPDATE without the revision", "sending", "settle: paid", _no_guard),
    Plant("a finding kept without the intent's lock", "prepared", "A: flag", partial(_nobody_waits, findings)),
    Plant("what is stale judged before the lock", "prepared", "A: flag stale", partial(_nobody_waits, night)),
    Plant("what is over closed without the lock", "late", "B: close over", partial(_nobody_waits, repairs)),
    Plant("an import that locks no intent", "nothing", "A: import", partial(_no_intent, Import)),
    Plant("what is left of a charge judged without the lock of it", "succeeded", "tip", partial(_no_intent, ClaimUpon)),
    Plant("a run opened without the lock of its day", "nothing", "open run, other", partial(_nobody_waits, runs)),
    Plant("the lease of a row not read again before a send", "prepared", "begin, leased", lease_of_a_row_unread),
    Plant("the lease of a run not read again before its work", "run over", "open run", lease_of_a_run_unread),
    Plant("two workers that take what is due do not lock it", "key over", "lease, other", _due_unlocked),
    Plant("what another transaction was in the way of is not done again", "empty", "bind", _one_try),
    Plant(
        "the unique index of live attempts dropped, where the lock is left out, too",
        "declined",
        "A: import 3",
        _no_locks,
        f"DROP INDEX {_INDEX}",
        f"CREATE UNIQUE INDEX {_INDEX} ON pending_charges (intent_id, operation) WHERE state NOT IN ({_STATES})",
        "live attempts",
    ),
)
