"""Both ledgers in every shape that the nightly run must tell apart: how each comes about, and what is found of it.

`thrice` is how a night is tried: dry, for real, and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import reconcile
from gateway_client import PaymentIntent, State
from gateway_client.finding import Finding
from tests.kit import USD_20, Killed
from tests.nightly import Night

INTENTS = "/v1/payment_intents"
VISA, REFUSED, ASKS = "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"
DEBIT, PAYS, BOUNCES = "pm_usBankAccount_processing", "pm_usBankAccount_success", "pm_usBankAccount_noAccount"

KEPT = ("pending_charges", "paycli_sends", "paycli_events", "paycli_findings")
"""What a second run over the same window leaves exactly as it is; the tables of runs get one more."""


def thrice(dark: Night) -> reconcile.RunResult:
    """Try it, do it, do it again: the trial says the same and changes nothing, the second run is silent, nobody pays.

    Whatever is found, every charge of the provider is counted once: matched, foreign, or named by a finding.
    """
    before, ledger = dark.dump(), the_providers(dark)
    tried = dark.run(dry_run=True)
    assert dark.dump() == before
    done = dark.run()
    assert (tried.dry_run, told(tried), figures(tried)) == (True, told(done), figures(done))
    kept = dark.dump()
    again = dark.run()
    after = dark.dump()
    assert {name: after[name] for name in KEPT} == {name: kept[name] for name in KEPT}
    imported = sum("is imported as" in one.detail and one.action == "flagged" for one in done.findings)
    assert (again.news, again.repaired, again.flagged) == (0, 0, done.flagged - imported)  # which has its row by now
    assert the_providers(dark) == ledger
    for result in (tried, done, again):
        named = {one.provider_charge_id for one in result.findings if one.code != "stale_pending"}
        listed = [charge["id"] for charge in dark.sandbox.charges if in_window(result, charge["created"])]
        assert (result.complete, result.why_incomplete, result.provider_charges) == (True, None, len(listed))
        assert len(listed) == result.matched + result.foreign + len(named & set(listed))
    return done


def the_providers(dark: Night) -> tuple[object, ...]:
    """Its ledger, and everything it was asked that was no question."""
    posted = [asked for asked in dark.asked if not asked.startswith("GET ")]
    return dark.sandbox.charges, dark.sandbox.payment_intents, posted


def in_window(result: reconcile.RunResult, created: int) -> bool:
    """Was an object of the provider made in the window of a run?"""
    return result.window_start.timestamp() <= created < result.window_end.timestamp()


def told(result: reconcile.RunResult) -> list[tuple[object, ...]]:
    """What a run says of each finding; what a trial would repair counts as repaired."""
    return [
        (one.id, one.intent_id, one.provider_charge_id, line(one), one.here, one.there, one.detail)
        for one in result.findings
    ]


def figures(result: reconcile.RunResult) -> tuple[int, ...]:
    """What a run counts; a trial repairs nothing."""
    counted = (result.provider_charges, result.local_charges, result.matched, result.foreign)
    return (*counted, result.flagged, result.news, result.open_findings)


def line(one: Finding) -> str:
    """A finding as the table below writes it, without its intent."""
    return f"{one.code}/{one.attempt} {one.action.replace('would_repair', 'repaired')}"


# Hands on both ledgers: each makes something to do with one intent -------------------------------------------------

Make = Callable[[Night, str], object]


def paid(payment_method: str = VISA, attempt: int | None = None) -> Make:
    """Charged as the library does."""
    return lambda dark, intent_id: dark.pay(intent_id, payment_method, attempt=attempt)


def doubted(fault: str = "lost_reply", payment_method: str = VISA) -> Make:
    """Charged as the library does, and left in doubt by a fault of the provider."""
    return lambda dark, intent_id: dark.doubt(intent_id, fault, payment_method)


def killed(payment_method: str = VISA) -> Make:
    """The process dies when its send has been carried out."""

    def make(dark: Night, intent_id: str) -> None:
        dark.kill_at("POST", INTENTS, executed=True)
        with pytest.raises(Killed):
            dark.pay(intent_id, payment_method)

    return make


def again(attempt: int = 1) -> Make:
    """A success with our metadata that this store knows nothing of."""
    return lambda dark, intent_id: dark.pay_behind_our_back(intent_id, attempt)


def prepared(dark: Night, intent_id: str) -> None:
    """Written here, never sent."""
    dark.open_client().prepare(PaymentIntent(intent_id, USD_20, VISA))


def cancelled(dark: Night, intent_id: str) -> None:
    """Given up by a person."""
    assert dark.open_client().cancel(intent_id, because="too slow").state is State.CANCELED


def given_up(dark: Night, intent_id: str) -> None:
    """Given up by a person while it is in doubt."""
    dark.give_up(intent_id)


def forgotten(dark: Night, intent_id: str) -> None:
    """Our rows are lost, as by a restored backup."""
    for table in ("paycli_events", "paycli_sends", "pending_charges"):
        dark.sql(f"DELETE FROM {table} WHERE intent_id = ?", (intent_id,))


def changed(charge: dict[str, Any] | None = None, intent: dict[str, Any] | None = None) -> Make:
    """Fields of the provider's charges and intents are changed behind our back."""

    def make(dark: Night, intent_id: str) -> None:
        for fields, shelf in ((charge, dark.sandbox.charges), (intent, dark.sandbox.payment_intents)):
            for found in of(shelf, intent_id) if fields else ():
                dark.sandbox.change(found, **(fields or {}))

    return make


def gone(dark: Night, intent_id: str) -> None:
    """The provider has no charge and no intent of it any more."""
    for shelf in (dark.sandbox.charges, dark.sandbox.payment_intents):
        for found in of(shelf, intent_id):
            dark.sandbox.remove(found)


def of(shelf: Sequence[dict[str, Any]], intent_id: str) -> list[str]:
    """The ids of the provider's objects that are of an intent of ours."""
    return [found["id"] for found in shelf if found["metadata"].get("paycli_intent") == intent_id]


def late_success(dark: Night, intent_id: str) -> None:
    """Somebody confirms the provider's intent of our declined attempt, and it succeeds."""
    confirm = f"{INTENTS}/{dark.row(intent_id)['provider_intent_id']}/confirm"
    assert dark.post(confirm, {"payment_method": VISA}).json()["status"] == "succeeded"


def waiting(dark: Night, intent_id: str) -> None:
    """An intent of ours at the provider that waits for the customer, without a charge."""
    form = {f"metadata[{name}]": value for name, value in dark.claims(intent_id).items()}
    form |= {"amount": "2000", "currency": "usd", "confirm": "true", "return_url": "https://example.com"}
    assert dark.post(INTENTS, {**form, "payment_method": ASKS}).json()["status"] == "requires_action"


# Every shape ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is done yesterday and today, what today's run finds, today's charges, and our states afterwards."""

    yesterday: tuple[Make, ...]
    today: tuple[Make, ...]
    found: tuple[str, ...]
    listed: int  # charges that the provider made today
    matched: int  # of these; the others have a finding
    after: str  # the states of our attempts


R, MISSING, MISSING_2 = "outcome_recovered/1 repaired", "missing_locally/1 flagged", "missing_locally/2 flagged"
GONE, TWICE, TWICE_2 = "missing_at_provider/1 flagged", "duplicate_charge/1 flagged", "duplicate_charge/2 flagged"
AMOUNT, CURRENCY = "amount_mismatch/1 flagged", "currency_mismatch/1 flagged"
STATUS, STALE = "status_mismatch/1 flagged", "stale_pending/1 flagged"

EUR, LESS, RECEIVED_LESS = {"currency": "eur"}, {"amount": 1999}, {"amount_received": 1999}
BOTH = EUR | LESS
FAILED = {"status": "failed", "failure_code": "card_declined"}
TRY_AGAIN = {"status": "requires_payment_method", "last_payment_error": {"type": "card_error"}}
PENDING, PROCESSING = {"status": "pending", "captured": False}, {"status": "processing", "amount_received": 0}
VOIDED, STOPPED, CANCELED = {"captured": False, "refunded": True}, {"status": "failed"}, {"status": "canceled"}

_DISAGREE: list[tuple[str, Sequence[Make], Sequence[Make], Sequence[str], int, int, str]] = [
    # we are pending, the provider has the result
    ("reply lost", [], [doubted()], [R], 1, 0, "succeeded"),
    ("decline lost", [], [doubted("lost_reply", REFUSED)], [R], 1, 0, "declined"),
    ("500 that charged", [], [doubted("error_500_charged")], [R], 1, 0, "succeeded"),
    ("killed after charging", [], [killed()], [R], 1, 0, "succeeded"),
    ("killed after a decline", [], [killed(REFUSED)], [R], 1, 0, "declined"),
    ("killed yesterday", [killed()], [], [R], 0, 0, "succeeded"),
    ("never arrived", [doubted("told_429"), given_up], [], [R], 0, 0, "absent"),
    ("debit paid", [], [paid(PAYS)], [R], 1, 0, "succeeded"),
    ("debit came back", [], [paid(BOUNCES)], [R], 1, 0, "declined"),
    ("debit of yesterday", [paid(PAYS)], [], [R], 0, 0, "succeeded"),
    ("accepted, reply lost", [], [doubted("lost_reply", DEBIT)], [R], 1, 0, "processing"),
    ("cancelled there", [], [paid(DEBIT), changed(STOPPED, CANCELED)], [R], 1, 0, "canceled"),
    ("prepared here, paid there", [prepared], [again()], [R], 1, 0, "succeeded"),
    # a charge with our metadata and no row here
    ("row lost", [], [paid(), forgotten], [MISSING], 1, 0, "succeeded"),
    ("row of a decline lost", [], [paid(REFUSED), forgotten], [MISSING], 1, 0, "declined"),
    ("row of a debit lost", [], [paid(DEBIT), forgotten], [MISSING], 1, 0, "processing"),
    ("row of a question lost", [], [waiting], [MISSING], 0, 0, "requires_action"),
    # the state of the charge, though its intent was cancelled for attempt 2
    ("both rows lost", [], [paid(REFUSED), paid(VISA, 2), forgotten], [MISSING, MISSING_2], 2, 0, "declined succeeded"),
    # we say succeeded, the provider has nothing
    ("charge gone", [], [paid(), gone], [GONE], 0, 0, "succeeded"),
    ("charge gone, and another", [], [paid(), gone, again()], [GONE], 1, 1, "succeeded"),
    # more than one success for an intent
    ("same key again", [], [paid(), again()], [TWICE], 2, 1, "succeeded"),
    ("same key again today", [paid()], [again()], [TWICE], 1, 0, "succeeded"),
    ("attempt 2 without a row", [], [paid(), again(2)], [TWICE_2], 2, 1, "succeeded"),
    ("attempt 1 beside 2", [], [paid(REFUSED), paid(VISA, 2), again()], [TWICE, STATUS], 3, 2, "declined succeeded"),
    ("in doubt, twice", [], [doubted(), again()], [TWICE, R], 2, 0, "succeeded"),
    ("no row, same key twice", [], [again(), again()], [TWICE, MISSING], 2, 0, "succeeded"),
    ("no row, two attempts", [], [again(), again(2)], [TWICE_2, MISSING], 2, 0, "succeeded"),
    ("three times", [], [paid(), again(), again()], [TWICE, TWICE], 3, 1, "succeeded"),
    # both have it, numbers differ
    ("amount", [], [paid(), changed(LESS, LESS)], [AMOUNT], 1, 0, "succeeded"),
    ("amount of the charge", [], [paid(), changed(LESS)], [AMOUNT], 1, 0, "succeeded"),
    ("amount received", [], [paid(), changed(None, RECEIVED_LESS)], [AMOUNT], 1, 0, "succeeded"),
    ("amount in doubt", [], [doubted(), changed(LESS, LESS)], [AMOUNT], 1, 0, "conflict"),
    ("amount of the charge in doubt", [], [doubted(), changed(LESS)], [AMOUNT], 1, 0, "conflict"),
    ("amount of a decline", [], [paid(REFUSED), changed(LESS, LESS)], [AMOUNT], 1, 0, "declined"),
    ("currency", [], [paid(), changed(EUR, EUR)], [CURRENCY], 1, 0, "succeeded"),
    ("currency in doubt", [], [doubted(), changed(EUR, EUR)], [CURRENCY], 1, 0, "conflict"),
    ("amount and currency", [], [paid(), changed(BOTH, BOTH)], [AMOUNT, CURRENCY], 1, 0, "succeeded"),
    # both final, results differ
    ("failed there", [], [paid(), changed(FAILED, TRY_AGAIN)], [STATUS], 1, 0, "succeeded"),
    ("failed there, says the charge", [], [paid(), changed(FAILED)], [STATUS], 1, 0, "succeeded"),
    ("voided there", [], [paid(), changed(VOIDED, CANCELED)], [STATUS], 1, 0, "succeeded"),
    ("failed there, and another", [], [paid(), changed(FAILED, TRY_AGAIN), again()], [STATUS], 2, 1, "succeeded"),
    ("voided there, and another", [], [paid(), changed(VOIDED, CANCELED), again()], [STATUS], 2, 1, "succeeded"),
    ("pending there, and another", [], [paid(), changed(PENDING, PROCESSING), again()], [STATUS], 2, 1, "succeeded"),
    ("failed there, with less", [], [paid(), changed(LESS | FAILED)], [AMOUNT, STATUS], 1, 0, "succeeded"),
    ("success after a decline", [], [paid(REFUSED), late_success], [STATUS], 2, 1, "declined"),
    ("success after an old decline", [paid(REFUSED)], [late_success], [STATUS], 1, 0, "declined"),
    ("success after a rejection", [], [paid("pm_nowhere"), again()], [STATUS], 1, 0, "rejected"),
    ("success after a cancellation", [], [paid(DEBIT), cancelled, again()], [STATUS], 2, 1, "canceled"),
    ("success after absence", [doubted("told_429"), given_up], [paid(), again()], [STATUS], 1, 0, "absent"),
    # pending for too long
    ("prepared yesterday", [prepared], [], [STALE], 0, 0, "prepared"),
    ("never arrived, closed tonight", [doubted("lost_request")], [], [STALE], 0, 0, "unknown"),
]
DISAGREE = {name: Case(tuple(y), tuple(t), tuple(f), *rest) for name, y, t, f, *rest in _DISAGREE}  # type: ignore[arg-type]

_AGREE: list[tuple[str, Sequence[Make], Sequence[Make], int, str]] = [
    ("succeeded", [], [paid()], 1, "succeeded"),
    ("succeeded yesterday", [paid()], [], 0, "succeeded"),
    ("declined", [], [paid(REFUSED)], 1, "declined"),
    ("declined without a charge", [], [paid(ASKS)], 0, "declined"),
    ("rejected", [], [paid("pm_nowhere")], 0, "rejected"),
    ("canceled", [], [paid(DEBIT), cancelled], 1, "canceled"),
    ("canceled, never sent", [], [prepared, cancelled], 0, "canceled"),
    ("attempt 2", [], [paid(REFUSED), paid(VISA, 2)], 2, "declined succeeded"),
    ("attempt 2 of today", [paid(REFUSED)], [paid(VISA, 2)], 1, "declined succeeded"),
    ("recovered", [], [doubted(), paid()], 1, "succeeded"),
    ("recovered by a look-up", [doubted()], [paid()], 0, "succeeded"),
    ("absent", [doubted("told_429"), given_up], [paid()], 0, "absent"),
    ("given up today", [], [doubted("lost_request"), given_up], 0, "unknown"),
    ("debit on its way", [], [paid(DEBIT)], 1, "processing"),
    ("refunded", [], [paid(), changed({"refunded": True, "amount_refunded": 2000})], 1, "succeeded"),
    ("disputed", [], [paid(), changed({"disputed": True})], 1, "succeeded"),
    ("prepared", [], [prepared], 0, "prepared"),
    ("in doubt, young", [], [doubted("lost_request")], 0, "unknown"),
]
AGREE = {name: Case(tuple(y), tuple(t), (), listed, listed, after) for name, y, t, listed, after in _AGREE}
CASES = DISAGREE | AGREE


def make_all(dark: Night, cases: dict[str, Case]) -> None:
    """Yesterday and today of intents by their ids; a minute later debits of today have been paid."""
    for intent_id, case in cases.items():
        for make in case.yesterday:
            make(dark, intent_id)
    dark.clock.advance(hours=24)
    for intent_id, case in cases.items():
        for make in case.today:
            make(dark, intent_id)
    dark.clock.advance(minutes=1)


def states(dark: Night, intent_id: str) -> str:
    """Of the attempts of an intent, in their order."""
    rows = dark.sql("SELECT state FROM pending_charges WHERE intent_id = ? ORDER BY attempt", (intent_id,))
    return " ".join(state for (state,) in rows)


def of_intent(result: reconcile.RunResult, intent_id: str) -> list[str]:
    """What a run found of an intent, as the table writes it."""
    return sorted(line(one) for one in result.findings if one.intent_id == intent_id)
