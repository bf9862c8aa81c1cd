"""The provider of a case: its ledger, its idempotency keys, its lists, and what happens there as time goes by.

It is written from the rules of docs/STRIPE.md alone, beside the sandbox, so that they check each other. What is read of
its answers is the network's.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.answers.lengths import Lengths, pick
from tests.sim.decisions import Dice

Json = dict[str, Any]

ACCOUNT, OTHER_ACCOUNT = "acct_1Ours", "acct_1Theirs"
ACCOUNTS = {"sk_test_other": OTHER_ACCOUNT}  # of every other credential: ours
RESTRICTED, BLIND = "rk_test_ours", "rk_test_blind"  # may not ask for the account; the second one's is not even named


@dataclass(slots=True, eq=False)
class Payment:
    """A payment intent with its one charge, as the provider has it."""

    id: str
    status: str
    created: int
    amount: int
    currency: str
    metadata: dict[str, str]
    account: str
    credential: str
    listed_at: float
    charge_id: str | None = None
    charge_status: str = "succeeded"
    reason: str | None = None

    @property
    def key(self) -> str | None:
        return self.metadata.get("paycli_key")


@dataclass(slots=True)
class Success:
    """Money that moved, by an attempt of ours."""

    payment: Payment
    attempt: int
    at: float


@dataclass(slots=True)
class Answered:
    """The provider's own answer to one delivery."""

    status: int
    body: Json
    replayed: bool = False
    of: Execution | None = None


@dataclass(slots=True, eq=False)
class Execution:
    """What a key stands for, from its first receipt on."""

    received_at: float
    answer: Answered | None = None  # None while it executes
    payment: Payment | None = None
    rolls_forward: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivery of a charge request."""

    key: str
    body: str
    credential: str
    refusal: Answered | None  # what refuses it at the door, if anything does
    answer: Answered | None = None
    executed: bool = False


@dataclass
class Provider:
    """The ledger and whatever is under way."""

    dice: Dice
    lengths: Lengths
    now: float
    tell: Callable[[str], None]
    payments: list[Payment] = field(default_factory=list)
    successes: list[Success] = field(default_factory=list)
    _keys: dict[tuple[str, str], Execution] = field(default_factory=dict)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Any = field(default_factory=itertools.count)

    # --- time

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), work))

    def go_to(self, moment: float) -> None:
        """Let time go by; what is due happens on the way."""
        while self._due and self._due[0][0] <= moment:
            at, _, work = heapq.heappop(self._due)
            self.now = max(self.now, at)
            work()
        self.now = max(self.now, moment)

    def next_due(self) -> float:
        return self._due[0][0] if self._due else float("inf")

    @property
    def last_due(self) -> float:
        return max((at for at, _, _ in self._due), default=self.now)

    # --- a charge request

    def receive(self, delivery: Delivery) -> None:
        """A delivery is here: refused, replayed, or executed from now on."""
        if delivery.refusal is not None:
            delivery.answer = delivery.refusal
            return
        scope = delivery.credential if self.lengths.keys_by_credential else self.account_of(delivery.credential)
        kept = self._keys.get((scope, delivery.key))
        if kept is not None and self.now - kept.received_at < self.lengths.pruned:
            if kept.answer is None:
                delivery.answer = Answered(409, error("idempotency_error", code="idempotency_key_in_use"))
            else:
                delivery.answer = Answered(kept.answer.status, kept.answer.body, True, kept)
            return
        execution = self._keys[scope, delivery.key] = Execution(self.now)
        delivery.executed = True
        begun = self.now
        self.after(pick(self.dice, *self.lengths.executions), lambda: self._execute(delivery, execution, begun))

    def _execute(self, delivery: Delivery, execution: Execution, begun: float) -> None:
        outcome = pick(self.dice, *self.lengths.outcomes)
        self.tell(f"the provider executes {delivery.key[-4:]}: {outcome}")
        answer = Answered(500, error("api_error"), of=execution)
        if outcome == "500 later":
            execution.rolls_forward = True
            seconds = self.lengths.roll_forward * pick(self.dice, 1.0, 1.0, 0.5)
            self.after(seconds, lambda: self._roll_forward(delivery, execution))
        elif outcome != "500":
            payment = execution.payment = self._pay(delivery, outcome, begun)
            if outcome == "declined":
                answer = Answered(402, self._declined(payment), of=execution)
            elif outcome != "500 charged":
                answer = Answered(200, intent(payment), of=execution)
        execution.answer = answer
        delivery.answer = answer

    def _roll_forward(self, delivery: Delivery, execution: Execution) -> None:
        self.tell(f"the 500 of {delivery.key[-4:]} is rolled forward")
        execution.payment = self._pay(delivery, "succeeds", self.now)

    def _pay(self, delivery: Delivery, outcome: str, begun: float) -> Payment:
        form = dict(parse_qsl(delivery.body))
        number = len(self.payments) + 1
        payment = Payment(
            id=f"pi_{number:03}",
            status="succeeded",
            created=int(begun + self.lengths.created_skew),
            amount=int(form["amount"]),
            currency=form["currency"],
            metadata={name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")},
            account=self.account_of(delivery.credential),
            credential=delivery.credential,
            listed_at=self.now + self.lengths.lag,
            charge_id=f"ch_{number:03}",
        )
        self.payments.append(payment)
        if outcome == "declined":
            payment.status, payment.charge_status, payment.reason = "requires_payment_method", "failed", "card_declined"
        elif outcome == "processing":
            payment.status, payment.charge_status = "processing", "pending"
            fails = self.dice.hits(0.3)
            self.after(self.lengths.settles, lambda: self._settle(payment, fails=fails))
        else:
            self._moved(payment)
        return payment

    def _settle(self, payment: Payment, *, fails: bool) -> None:
        if payment.status != "processing":
            return
        if fails:
            payment.status, payment.charge_status, payment.reason = "requires_payment_method", "failed", "bank_refused"
        else:
            payment.status = payment.charge_status = "succeeded"
            self._moved(payment)
        self.tell(f"{payment.id} settles: {payment.status}")

    def _moved(self, payment: Payment) -> None:
        self.successes.append(Success(payment, int(payment.metadata["paycli_attempt"]), self.now))
        self.tell(f"the money of attempt {payment.metadata['paycli_attempt']} moved: {payment.id}")

    def _declined(self, payment: Payment) -> Json:
        named = intent(payment) if self.lengths.names_declined else None
        return error("card_error", code="card_declined", decline_code="generic_decline", payment_intent=named)

    def account_of(self, credential: str) -> str:
        return ACCOUNTS.get(credential, ACCOUNT)

    # --- questions

    def cancel(self, intent_id: str) -> None:
        """A cancellation arrives."""
        payment = self.find(intent_id)
        if payment is not None and payment.status == "requires_payment_method":
            payment.status = "canceled"

    def find(self, intent_id: str) -> Payment | None:
        return next((payment for payment in self.payments if payment.id == intent_id), None)

    def of_key(self, key: str) -> Payment | None:
        """What the provider has of a key now."""
        return next((payment for payment in reversed(self.payments) if payment.key == key), None)

    def listed(self, account: str, *, charges: bool, query: dict[str, str]) -> tuple[list[Payment], bool]:
        """One page of a list, newest first, and whether there is more."""
        least, most = int(query["created[gte]"]), int(query["created[lte]"])
        found = [
            payment
            for payment in self.payments
            if payment.account == account and least <= payment.created <= most and payment.listed_at <= self.now
        ]
        found.sort(key=lambda payment: (payment.created, payment.id), reverse=True)
        after = query.get("starting_after")
        if after is not None:
            ids = [payment.charge_id if charges else payment.id for payment in found]
            found = found[ids.index(after) + 1 :] if after in ids else []
        return found[: self.lengths.page_rows], len(found) > self.lengths.page_rows


# --- objects


def intent(payment: Payment) -> Json:
    """The payment intent of a payment, as it is now."""
    moved = payment.status == "succeeded"
    refused = None if payment.reason is None else {"type": "card_error", "code": payment.reason}
    return {
        "id": payment.id,
        "object": "payment_intent",
        "status": payment.status,
        "created": payment.created,
        "amount": payment.amount,
        "amount_received": payment.amount if moved else 0,
        "currency": payment.currency,
        "livemode": False,
        "metadata": payment.metadata,
        "customer": None,
        "latest_charge": payment.charge_id,
        "last_payment_error": refused,
    }


def charge(payment: Payment) -> Json:
    """The charge of a payment, as it is now."""
    return {
        "id": payment.charge_id,
        "object": "charge",
        "status": payment.charge_status,
        "created": payment.created,
        "amount": payment.amount,
        "currency": payment.currency,
        "livemode": False,
        "metadata": payment.metadata,
        "customer": None,
        "payment_intent": payment.id,
        "captured": payment.charge_status == "succeeded",
        "failure_code": payment.reason,
    }


def error(kind: str, **fields: Any) -> Json:
    """An error in the provider's form."""
    return {"error": {"type": kind, "message": "Something is wrong.", **fields}}
