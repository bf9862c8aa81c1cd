"""When somebody must be woken: one rule for one cause, each a pure function of a few facts about the store.

The facts are counted by `store/alerts.py`; an alert that is not heard is `webhook.py`'s to report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from gateway_client.charge import age, iso
from gateway_client.finding import CRITICAL_IF_CHARGED, Code
from gateway_client.state import State
from reconcile.ages import AGES, Ages

DAYS_NAMED_MAX = 31
KEY_ENDS_SOON = timedelta(hours=2)  # time enough to run `resume`, and to find out why nobody has


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old things may be."""

    pending: Ages = field(default_factory=lambda: AGES)
    findings: timedelta = timedelta(hours=24)  # open ones; what is critical is told at once
    reconciled: timedelta = timedelta(hours=26)  # a nightly job, and two hours to finish
    fresh: timedelta = timedelta(hours=24)  # how long ago a rejection is still told
    rejections: int = 5  # in that time, from which on it is hardly about each single charge


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share a cause: how many, and the one that is oldest."""

    what: str  # a state, or the code of a finding
    count: int
    since: datetime
    intent_id: str
    critical: int = 0  # how many of them are findings by which money is wrong on one side
    latest: datetime | None = field(default=None, compare=False)  # as `since`, of the youngest


@dataclass(frozen=True, slots=True)
class Missed:
    """Days of a zone since the first complete run that have none, oldest first; when first and last were over."""

    days: tuple[date, ...]
    tz: str
    since: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at."""

    now: datetime
    pending_too_long: tuple[Group, ...]  # by state
    keys_ending: Group | None  # `since` is when the first key's life ends
    reconciled_at: datetime | None  # when the complete run ended that reaches furthest
    unfinished: Group | None  # runs begun and never completed; `what` names the oldest day, `since` when it ended
    findings: tuple[Group, ...]  # open ones that are critical or open for too long, by code
    refused: tuple[Group, ...] = ()  # pending charges whose latest send was refused for the account, or its key
    missed: Missed | None = None
    rejected: tuple[Group, ...] = ()  # charges that were rejected lately, by the reason


class Severity(StrEnum):
    """How soon a person must look."""

    CRITICAL = "critical"  # at once: money is wrong on one side
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Alert:
    """One cause, in one line."""

    cause: str
    count: int
    since: datetime | None
    intent_id: str | None
    message: str
    severity: Severity = Severity.WARNING
    latest: datetime | None = field(default=None, compare=False)  # as `since`, of the youngest row: a later is news

    def as_json(self) -> dict[str, str | int | None]:
        """The fields that programs may rely on, in their order."""
        return {
            "cause": self.cause,
            "severity": self.severity.value,
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
            f"{_charges(group)} {group.what} for more than {age(limits.pending[State(group.what)])}, the oldest "
            f"{group.intent_id} for {for_}: see `paycli pending`"
        )
        yield Alert(f"pending_{group.what}", group.count, group.since, group.intent_id, message, latest=group.latest)


def _key_ends_soon(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """After the end of its key's life an attempt cannot be sent again, only looked up."""
    group = facts.keys_ending
    if group is not None:
        message = (
            f"{_charges(group)} in doubt whose key's life ends soon, the first {group.intent_id} in "
            f"{age(group.since - facts.now)}: run `paycli resume` before then"
        )
        yield Alert("key_ends_soon", group.count, group.since, group.intent_id, message, latest=group.latest)


def _not_reconciled(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """The dead man's switch: a job that does not run cannot say so."""
    last = facts.reconciled_at
    if last is None:
        message = "no reconciliation was ever completed: run `paycli reconcile`, and every night"
        yield Alert("not_reconciled", 1, None, None, message)
    elif facts.now - last > limits.reconciled:
        message = (
            f"the last complete reconciliation ended {age(facts.now - last)} ago, more than {age(limits.reconciled)}: "
            "run `paycli reconcile`, and see why it did not run"
        )
        yield Alert("not_reconciled", 1, last, None, message)


def _days_missed(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """Days that no night has looked at: the night after them says nothing of them."""
    missed = facts.missed
    if missed is not None:
        count = len(missed.days)
        named = ", ".join(day.isoformat() for day in missed.days[:DAYS_NAMED_MAX])
        more = f" and {count - DAYS_NAMED_MAX} more" if count > DAYS_NAMED_MAX else ""
        message = (
            f"{count} day{'' if count == 1 else 's'} without a complete reconciliation: {named}{more} ({missed.tz}): "
            f"run `paycli reconcile --tz {missed.tz}`, which makes up for them"
        )
        yield Alert("days_missed", count, missed.since, None, message, latest=missed.latest)


def _left_unfinished(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """A day that was begun and not completed: the next night asks for another one."""
    group = facts.unfinished
    if group is not None:
        message = f"{group.count} begun and never completed, the oldest first: run `paycli reconcile {group.what}`"
        yield Alert("reconciliation_unfinished", group.count, group.since, None, message, latest=group.latest)


def _open_findings(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """Both sides disagree, and nobody has settled it: at once where money is wrong on one side, else after a while."""
    for group in facts.findings:
        taken = f" ({group.critical} took money)" if group.what in CRITICAL_IF_CHARGED and group.critical else ""
        message = (
            f"{group.count} {_FOUND.get(group.what, group.what)}{taken}, the oldest {group.intent_id}, found "
            f"{age(facts.now - group.since)} ago: see `paycli findings`"
        )
        severity = Severity.CRITICAL if group.critical else Severity.WARNING
        yield Alert(group.what, group.count, group.since, group.intent_id, message, severity, group.latest)


def _account_refused(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """The provider refuses the account or its key: no charge is made until somebody mends that."""
    for group in facts.refused:
        message = (
            f"{_charges(group)} refused by the provider for {_REFUSED.get(group.what, group.what)}, the first "
            f"{group.intent_id} {age(facts.now - group.since)} ago: see `paycli show`, and look at the account"
        )
        yield Alert(f"refused_{group.what}", group.count, group.since, group.intent_id, message, latest=group.latest)


def _rejected_often(facts: Facts, limits: Limits) -> Iterator[Alert]:
    """Many rejections in the same words: a setting of the account, or of the program that charges."""
    often = [group for group in facts.rejected if group.count >= limits.rejections]
    if often:
        told = ", ".join(f"{group.count} {group.what}" for group in often)
        first = min(often, key=lambda group: (group.since, group.intent_id))
        count = sum(group.count for group in often)
        message = (
            f"{count} charges rejected in the last {age(limits.fresh)} in the same words ({told}), the first "
            f"{first.intent_id}: see `paycli show`, and look at the account and at the program that charges"
        )
        latest = max((group.latest for group in often if group.latest is not None), default=None)
        yield Alert("rejected_often", count, first.since, first.intent_id, message, latest=latest)


_REFUSED = {"account": "a reason that is about the account, not about them", "credential": "their API key"}

_FOUND: dict[str, str] = {
    Code.OUTCOME_RECOVERED.value: "settled by a run, and left open",
    Code.MISSING_LOCALLY.value: "at the provider with our names, and nobody here has asked for it",
    Code.MISSING_AT_PROVIDER.value: "succeeded here, and the provider has no such charge",
    Code.DUPLICATE_CHARGE.value: "charged more than once",
    Code.AMOUNT_MISMATCH.value: "of another amount at the provider",
    Code.CURRENCY_MISMATCH.value: "of another currency at the provider",
    Code.STATUS_MISMATCH.value: "final here, and the provider says otherwise",
    Code.STALE_PENDING.value: "found to be pending for too long",
}


RULES: tuple[Callable[[Facts, Limits], Iterator[Alert]], ...] = (
    _pending_too_long,
    _key_ends_soon,
    _not_reconciled,
    _days_missed,
    _left_unfinished,
    _open_findings,
    _account_refused,
    _rejected_often,
)


def alerts(facts: Facts, limits: Limits) -> tuple[Alert, ...]:
    """One line for each cause; none when nobody needs to be woken."""
    return tuple(alert for rule in RULES for alert in rule(facts, limits))
