"""What must hold of a batch: after each round, and once everything has come to its end. Pure, and by whole values.

Each function tells what does not hold, in sentences; nothing is the good answer. The ids are those of docs/FAULTS.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gateway_client.state import State
from tests.kills.plan import AMOUNT, BOUNDS, Actor, Round

Attempt = tuple[str, int]
End = tuple[str, str | None]
"""A state, and the charge it is about."""

NOT_NOW = {"ProviderUnavailable", "StoreUnavailable", "OutcomeNotRecorded"}
"""What may end a call beside faults and other processes: running it again is safe. A wrong clock is not among them."""

DAY = timedelta(days=1)
LEAST = 1e-6
"""A tenth of a second, in days: what the database's numbers of days are exact to."""

HELD_AT_ONCE = "Nothing was done here."
UNPROVEN = (
    "max(CASE WHEN outcome = 'not_executed' OR (proven AND outcome NOT IN ('unknown', 'in_flight', 'conflict')) "
    "THEN 0 ELSE 1 END)"
)
"""In SQL, over the sends of an attempt: 1 when one of them left, or may have, and no result of it is proven."""

EXPLAINED = {"outcome_recovered", "stale_pending"}
"""What kills and faults leave for a nightly run to find: a result that we had not heard of, and what took too long."""


@dataclass(frozen=True)
class Row:
    """One attempt as it is on disk."""

    state: str
    charge_id: str | None
    key: str


@dataclass(frozen=True)
class Payment:
    """One charge as the provider has it."""

    charge_id: str
    intent_id: str
    key: str
    status: str
    amount: int


@dataclass(frozen=True)
class Finding:
    """One finding as it is on disk."""

    id: str
    code: str
    intent_id: str
    open: bool


@dataclass(frozen=True)
class Absence:
    """When an attempt was proven absent, was closed, and quiet from when, in days; and if a send of it is unproven."""

    attempt: Attempt
    proven: float
    closed: float
    quiet_from: float
    unproven: bool


@dataclass
class Known:
    """What is known of a batch from outside its processes."""

    rows: dict[Attempt, Row] = field(default_factory=dict)
    payments: tuple[Payment, ...] = ()
    acknowledged: dict[Attempt, set[End]] = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    """The runs that a process said it had completed."""

    @property
    def paid(self) -> dict[str, list[str]]:
        """Key → the successful charges that it made."""
        found: dict[str, list[str]] = {}
        for payment in self.payments:
            if payment.status == "succeeded":
                found.setdefault(payment.key, []).append(payment.charge_id)
        return found

    def doubled(self) -> dict[str, int]:
        """Intents that were charged more than once, and how often."""
        counts: dict[str, int] = {}
        for payment in self.payments:
            counts[payment.intent_id] = counts.get(payment.intent_id, 0) + (payment.status == "succeeded")
        return {intent_id: count for intent_id, count in counts.items() if count > 1}

    def lost(self) -> list[str]:
        """What was acknowledged and is not on disk, and what was charged and is not known here."""
        keys = {row.key for row in self.rows.values()}
        missing = [f"{name} attempt {number}" for name, number in self.acknowledged if (name, number) not in self.rows]
        return missing + [f"{one.intent_id} as {one.key}" for one in self.payments if one.key not in keys]

    def completed_twice(self) -> list[str]:
        """A run is held by one process at a time, and whoever comes after its end begins another one."""
        return sorted(run_id for run_id, times in Counter(self.completed).items() if times > 1)


def after_a_round(known: Known, before: Mapping[Attempt, Row]) -> list[str]:
    """What holds at every moment, whatever is on its way."""
    rows, paid = known.rows, known.paid
    final = {attempt: row for attempt, row in before.items() if not State(row.state).pending}
    claimed = {attempt: row for attempt, row in rows.items() if row.state == "succeeded"}
    ends = {attempt: {end for end in said if not State(end[0]).pending} for attempt, said in known.acknowledged.items()}
    ends = {attempt: said for attempt, said in ends.items() if said and attempt in rows}
    return [
        *told("S1: charged more than once", known.doubled()),
        *told("S2: acknowledged or charged, and not on disk", known.lost()),
        *told("S7: charged another amount", [payment for payment in known.payments if payment.amount != AMOUNT]),
        *told("F114: runs that two processes have completed", known.completed_twice()),
        *differ("S9: final rows changed", final, {attempt: rows.get(attempt) for attempt in final}),
        *differ(
            "S9: told as final, and changed",
            ends,
            {attempt: {(rows[attempt].state, rows[attempt].charge_id)} for attempt in ends},
        ),
        *differ(
            "S7: succeeded here and not there",
            {attempt: [row.charge_id] for attempt, row in claimed.items()},
            {attempt: paid.get(row.key, []) for attempt, row in claimed.items()},
        ),
    ]


def at_the_end(known: Known, undecided: Iterable[str]) -> list[str]:
    """Every row says what the provider's ledger says; an `undecided` key without a charge may still wait for proof."""
    paid, failed, waiting = known.paid, {payment.key for payment in known.payments}, set(undecided)

    def truth(row: Row) -> End:
        if row.key in paid:
            return "succeeded", paid[row.key][0]
        if row.key in failed:
            return "declined", None
        return "unknown" if row.key in waiting and row.state == "unknown" else "absent", None

    expected = {attempt: truth(row) for attempt, row in known.rows.items()}
    actual = {
        attempt: (row.state, row.charge_id if row.state == "succeeded" else None) for attempt, row in known.rows.items()
    }
    return differ("S7, S8: the rows are not what the ledger says", expected, actual)


def every_intent(intents: Iterable[str], known: Known) -> list[str]:
    """Every intent was charged, but for those whose second attempt, too, was lost on its way and is proven absent."""
    newest = {name: (number, known.rows[name, number].state) for name, number in sorted(known.rows)}
    left = {name: newest.get(name) for name in intents}
    ended = ((1, "succeeded"), (2, "succeeded"), (2, "absent"))
    return told("L1: not charged", {name: end for name, end in left.items() if end not in ended})


def of_runs(runs: Iterable[tuple[str, str]], listed: Mapping[str, set[str]], objects: Mapping[str, str]) -> list[str]:
    """S15: a complete run of a day that was over has listed what the provider has of that day, all of it and no more.

    `runs` are (run id, day), `listed` is run id → ids of objects, `objects` is id → day.
    """
    found: list[str] = []
    for run_id, day in runs:
        expected = {object_id for object_id, created in objects.items() if created == day}
        found += differ(
            f"S15: {run_id} has not listed its day",
            dict.fromkeys(expected, True),
            dict.fromkeys(listed.get(run_id, set()), True),
        )
    return found


def of_findings(findings: Sequence[Finding], in_history: set[str], in_runs: set[str]) -> list[str]:
    """No finding is open, or of a code that kills and faults cannot explain; each is in its history and in its run."""
    ids = {one.id for one in findings}
    return [
        *told("L2: findings", [one for one in findings if one.code not in EXPLAINED or one.open]),
        *told("F08: findings and histories do not agree", ids ^ in_history),
        *told("F08: findings and runs do not agree", ids ^ in_runs),
    ]


def of_absences(absences: Iterable[Absence]) -> list[str]:
    """S16: a quiet time after it was closed at the earliest, and the roll-forward more beside an unproven send."""
    quiet = {False: BOUNDS.quiet / DAY, True: BOUNDS.quiet_unproven / DAY}
    early = [one for one in absences if not one.closed <= one.quiet_from <= one.proven - quiet[one.unproven] + LEAST]
    return told("S16: absent too early", early)


def of_repairs(before: Mapping[Attempt, Row], rows: Mapping[Attempt, Row], recovered: set[Attempt]) -> list[str]:
    """F08: what reconcilers alone have moved is a finding, in the same commit, however they ended."""
    moved = {attempt for attempt, row in rows.items() if attempt in before and before[attempt].state != row.state}
    ends = {attempt for attempt in moved if rows[attempt].state not in ("unknown", "conflict")}
    return told("F08: repaired without a finding", sorted(ends - recovered))


def of_history(events: Iterable[tuple[str, int, int, str | None, str]], rows: Mapping[Attempt, Row]) -> list[str]:
    """S9: each row says what its history comes to: one event after the other, each from where the last one led.

    An event is (intent, attempt, number, state before, state after), in the order of their numbers.
    """
    histories: dict[Attempt, list[tuple[int, str | None, str]]] = {attempt: [] for attempt in rows}
    for intent_id, attempt, number, before, after in events:
        histories[intent_id, attempt].append((number, before, after))
    expected = {}
    for key, history in histories.items():
        afters = [after for _, _, after in history]
        expected[key] = list(zip(range(1, len(history) + 1), [None, *afters[:-1]], afters, strict=True))
    ends = {key: history[-1][2] if history else "none" for key, history in histories.items()}
    return [
        *differ("S9: a history with gaps", expected, histories),
        *differ("S9: rows are not what their histories say", ends, {key: row.state for key, row in rows.items()}),
    ]


def of_report(actor: Actor, of: Round, said: Iterable[list[Any]]) -> list[str]:
    """What a process said that it should not have."""
    found = []
    for what, *words in said:
        unexpected = what == "raised"
        if what == "not now":
            kind, message = words
            rivals = [other for other in of.actors if other.kind == "reconciler"]
            held = kind == "RunHeld" and len(rivals) > 1 and HELD_AT_ONCE in message
            unexpected = kind not in NOT_NOW and not held
        if what == "reconciled" and words[1] is not None:
            unexpected = of.asking_fault is None
        if unexpected:
            found.append(f"a {actor.kind} said {what}: {' '.join(map(str, words))}")
    return found


def told(what: str, wrong: Any) -> list[str]:
    return [f"{what}: {wrong}"] if wrong else []


def differ(what: str, expected: Mapping[Any, Any], actual: Mapping[Any, Any]) -> list[str]:
    """Compared as a whole; only what differs is told."""
    if expected == actual:
        return []
    names = sorted({*expected, *actual}, key=str)
    different = {
        name: (expected.get(name), actual.get(name)) for name in names if expected.get(name) != actual.get(name)
    }
    return [f"{what}, expected and actual: {different}"]
