"""When somebody must be woken: one rule for one cause, each a pure function of a few facts about the store.

The facts are counted by `store/alerts.py`; an alert that is not heard is `webhook.py`'s to report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway_client.charge import age, iso
from gateway_client.finding import Code

KEY_ENDS_SOON = timedelta(hours=2)  # time enough to run `resume`, and to find out why nobody has


@dataclass(frozen=True, slots=True)
class Limits:
    """How old things may be."""

    pending: timedelta = timedelta(hours=24)
    reconciled: timedelta = timedelta(hours=26)  # a nightly job, and two hours to finish


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share a cause: how many, and the one that is oldest."""

    what: str  # a state, or the code of a finding
    count: int
    since: datetime
    intent_id: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at."""

    now: datetime
    pending_too_long: tuple[Group, ...]  # by state
    keys_ending: Group | None  # `since` is when the first key's life ends
    reconciled_at: datetime | None  # when the last complete run ended
    unfinished: Group | None  # runs begun and never completed; `what` names the oldest day, `since` when it ended
    critical: tuple[Group, ...]  # open findings, by code


@dataclass(frozen=True, slots=True)
class Alert:
    """One cause, in one line."""

    cause: str
    count: int
    since: datetime | None
    intent_id: str | None
    message: str

    def as_json(self) -> dict[str, str | int | None]:
        """The fields that programs may rely on, in their order."""
        return {
            "cause": self.cause,
            "count": self.count,
            "since": iso(self.since),
            "intent_id": self.intent_id,
            "message": self.message,
        }


def _charges(group: Group) -> str:
    return f"{group.count} charge{'' if group.count == 1 else 's'}"


def _pending_too_long(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """What is pending for too long, by state."""
    for group in facts.pending_too_long:
        for_ = age(facts.now - group.since)
        message = (
            f"{_charges(group)} {group.what} for more than {age(limits.pending)}, the oldest {group.intent_id} for "
            f"{for_}: "
            "see `paycli pending`"
        )
        yield Alert(f"pending_{group.what}", group.count, group.since, group.intent_id, message)


def _key_ends_soon(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """After the end of its key's life an attempt cannot be sent again, only looked up."""
    group = facts.keys_ending
    if group is not None:
        message = (
            f"{_charges(group)} in doubt whose key's life ends soon, the first {group.intent_id} in "
            f"{age(group.since - facts.now)}: run `paycli resume` before then"
        )
        yield Alert("key_ends_soon", group.count, group.since, group.intent_id, message)


def _not_reconciled(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """The dead man's switch: a job that does not run cannot say so."""
    last = facts.reconciled_at
    if last is None:
        message = "no reconciliation was ever completed: run `paycli reconcile --date yesterday`, and every night"
        yield Alert("not_reconciled", 1, None, None, message)
    elif facts.now - last > limits.reconciled:
        message = (
            f"the last complete reconciliation ended {age(facts.now - last)} ago, more than {age(limits.reconciled)}: "
            "run `paycli reconcile --date yesterday`, and see why it did not run"
        )
        yield Alert("not_reconciled", 1, last, None, message)


def _left_unfinished(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """A day that was begun and not completed: the next night asks for another one."""
    group = facts.unfinished
    if group is not None:
        message = f"{group.count} begun and never completed, the oldest first: run `paycli reconcile {group.what}`"
        yield Alert("reconciliation_unfinished", group.count, group.since, None, message)


def _critical_findings(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """Money is wrong on one side, and nobody has settled it."""
    for group in facts.critical:
        what = _CRITICAL.get(group.what, group.what)
        message = (
            f"{group.count} {what}, the oldest {group.intent_id}, found {age(facts.now - group.since)} ago: see "
            "`paycli findings`"
        )
        yield Alert(group.what, group.count, group.since, group.intent_id, message)


_CRITICAL: dict[str, str] = {
    Code.MISSING_AT_PROVIDER.value: "succeeded here, and the provider has no such charge",
    Code.DUPLICATE_CHARGE.value: "charged more than once",
}


RULES: tuple[Callable[[Facts, Limits], Iterator[Alert]], ...] = (
    _pending_too_long,
    _key_ends_soon,
    _not_reconciled,
    _left_unfinished,
    _critical_findings,
)


def alerts(facts: Facts, limits: Limits) -> tuple[Alert, ...]:
    """One line for each cause; none when nobody needs to be woken."""
    return tuple(alert for rule in RULES for alert in rule(facts, limits))
