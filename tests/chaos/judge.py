"""What must hold once the faults have stopped and everything came to its end: the rows beside the provider's ledger.

Pure. Each function tells what does not hold, a sentence for each intent; nothing is the good answer. The ids are those
of docs/FAULTS.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway_client import Money
from gateway_client.state import State
from tests.chaos import plan

DOUBTED = {"wrong_amount": "status_mismatch"}
"""Faults that leave a finding for a person: an answer that contradicts what is final here is never believed."""


@dataclass(frozen=True)
class Row:
    """One attempt as it is on disk."""

    intent_id: str
    attempt: int
    state: str
    charge_id: str | None
    key: str
    amount: int
    currency: str
    reason: str | None = None

    @property
    def name(self) -> str:
        return f"{self.intent_id} attempt {self.attempt}"

    @property
    def final(self) -> bool:
        return not State(self.state).pending


@dataclass(frozen=True)
class Payment:
    """One charge as the provider has it."""

    charge_id: str
    intent_id: str
    key: str
    status: str
    amount: int
    currency: str

    @property
    def paid(self) -> bool:
        return self.status == "succeeded"

    @property
    def words(self) -> str:
        return f"{self.charge_id} {self.status} {self.amount} {self.currency}"


@dataclass(frozen=True)
class Told:
    """What somebody was told of an attempt: a caller, or whoever reads a worker's log."""

    intent_id: str
    attempt: int
    state: str
    charge_id: str | None


@dataclass(frozen=True)
class Found:
    """An open finding."""

    code: str
    intent_id: str
    attempt: int
    detail: str


@dataclass
class Known:
    """All that is known of a campaign from outside of what was under test."""

    rows: list[Row] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    told: set[Told] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    """Those that were committed together with the pending charges of their intents."""
    findings: list[Found] = field(default_factory=list)
    arrived: dict[str, list[str | None]] = field(default_factory=dict)
    """Key → the fault that each of its sends met, in their order."""
    begun: dict[str, int] = field(default_factory=dict)
    """Key → how many sends of it are on disk."""

    def paid(self) -> dict[str, list[Payment]]:
        """Key → the successful charges that it made."""
        found: dict[str, list[Payment]] = {}
        for payment in self.payments:
            if payment.paid:
                found.setdefault(payment.key, []).append(payment)
        return found


def of_all(known: Known) -> list[str]:
    """Everything that can be said of rows, ledger and callers."""
    checks = (doubled, lost, unwritten, other_money, contradicting, not_final, changed, unexpected)
    return [wrong for check in checks for wrong in check(known)]


def doubled(known: Known) -> Iterator[str]:
    """An intent is charged at most once, whatever attempts it had."""
    charged: dict[str, list[Payment]] = {}
    for payment in known.payments:
        if payment.paid:
            charged.setdefault(payment.intent_id, []).append(payment)
    for intent_id, payments in charged.items():
        if len(payments) > 1:
            yield f"S1: {intent_id} was charged {len(payments)} times: {_words(payments)}"


def lost(known: Known) -> Iterator[str]:
    """What a caller was told of is on disk, with its order; what was charged is known here."""
    rows = {(row.intent_id, row.attempt) for row in known.rows}
    for intent_id, attempt in sorted({(one.intent_id, one.attempt) for one in known.told} - rows):
        yield f"S2: {intent_id} attempt {attempt} is not on disk, although somebody was told of it"
    for intent_id in sorted(known.orders - {row.intent_id for row in known.rows}):
        yield f"S2: the order {intent_id} is on disk, and the charge that was prepared with it is not"
    keys = {row.key for row in known.rows}
    for payment in known.payments:
        if payment.key not in keys:
            yield f"S2: {payment.intent_id} was charged as {payment.key}, which is no row's: {payment.words}"


def unwritten(known: Known) -> Iterator[str]:
    """No send leaves before it is on disk."""
    for row in known.rows:
        met = known.arrived.get(row.key, [])
        twice = met.count("duplicate") // 2  # the second delivery of one send
        if len(met) - twice > known.begun.get(row.key, 0):
            yield f"S2: {row.name} was sent {len(met)} times, on disk are {known.begun.get(row.key, 0)}"


def other_money(known: Known) -> Iterator[str]:
    """The amount that was asked for is the one that is on disk, and the one that was charged."""
    for row in known.rows:
        if Money(row.amount, row.currency) != plan.intent(row.intent_id).amount:
            yield f"S7: {row.name} is of {row.amount} {row.currency} here, asked for: {_asked(row.intent_id)}"
    for payment in known.payments:
        if Money(payment.amount, payment.currency) != plan.intent(payment.intent_id).amount:
            yield f"S7: {payment.intent_id} was charged {payment.words}, asked for: {_asked(payment.intent_id)}"


def contradicting(known: Known) -> Iterator[str]:
    """What is final here is what the ledger says: charged by that charge, declined, or neither."""
    paid, refused = known.paid(), {payment.key for payment in known.payments if not payment.paid}
    for row in known.rows:
        charged = paid.get(row.key, [])
        there = charged[0].words if charged else "declined" if row.key in refused else "nothing"
        match State(row.state):
            case State.SUCCEEDED:
                agrees = [row.charge_id] == [one.charge_id for one in charged[:1]]
            case State.DECLINED:
                agrees = not charged and row.key in refused
            case State.ABSENT | State.CANCELED | State.REJECTED:
                agrees = not charged and row.key not in refused
            case _:
                agrees = True  # it is not final: that is told below
        if not agrees:
            yield f"S7, S8: {row.name} is {row.state} {row.charge_id or ''} here; the ledger says: {there}"


def not_final(known: Known) -> Iterator[str]:
    """Nothing is left pending."""
    for row in known.rows:
        if not row.final:
            yield f"L1: {row.name} is still {row.state} ({row.reason or 'no reason'})"


def changed(known: Known) -> Iterator[str]:
    """What somebody was told as final is so."""
    rows = {(row.intent_id, row.attempt): row for row in known.rows}
    for one in sorted(known.told, key=repr):
        row = rows.get((one.intent_id, one.attempt))
        if row is None or State(one.state).pending:
            continue
        ends = (row.state, row.charge_id if row.state == "succeeded" else None)
        if ends != (one.state, one.charge_id if one.state == "succeeded" else None):
            yield f"S9: {row.name} was told as {one.state} {one.charge_id}, and is {row.state} {row.charge_id}"


def unexpected(known: Known) -> Iterator[str]:
    """No finding is open but those that a fault explains."""
    keys = {(row.intent_id, row.attempt): row.key for row in known.rows}
    for one in known.findings:
        met = known.arrived.get(keys.get((one.intent_id, one.attempt), ""), [])
        if one.code not in {DOUBTED.get(fault or "") for fault in met}:
            yield f"L2: {one.code} is open of {one.intent_id}: {one.detail}"


def intents_of(wrong: Iterable[str], known: Known) -> list[str]:
    """The intents that these sentences name, those named most first: whoever reads wants their stories."""
    told = {one.intent_id for one in known.told} | {one.intent_id for one in known.payments}
    names = {row.intent_id for row in known.rows} | known.orders | told
    counts = Counter(word.strip(":,.") for sentence in wrong for word in sentence.split())
    return sorted(names & set(counts), key=lambda name: (-counts[name], name))


def _asked(intent_id: str) -> str:
    money = plan.intent(intent_id).amount
    return f"{money.amount} {money.currency}"


def _words(payments: Iterable[Payment]) -> str:
    return ", ".join(payment.words for payment in payments)
