"""Open findings alert: at once where money is wrong on one side, by their age else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway_client import NeedsPerson, PaymentIntent
from gateway_client.finding import CRITICAL, Code
from reconcile.alerts import Alert, Severity
from tests.kit import START, USD_20
from tests.nightly import DATABASES, Night, night
from tests.nightly_facts import (
    HOUR,
    NEVER,
    SECOND,
    causes,
    fired,
    plant_finding,
)


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


FOUND = {
    Code.OUTCOME_RECOVERED: "settled by a run, and left open",
    Code.MISSING_LOCALLY: "at the provider with our names, and nobody here has asked for it",
    Code.MISSING_AT_PROVIDER: "succeeded here, and the provider has no such charge",
    Code.DUPLICATE_CHARGE: "charged more than once",
    Code.AMOUNT_MISMATCH: "of another amount at the provider",
    Code.CURRENCY_MISMATCH: "of another currency at the provider",
    Code.STATUS_MISMATCH: "final here, and the provider says otherwise",
    Code.STALE_PENDING: "found to be pending for too long",
}


@pytest.mark.parametrize("charged", [False, True])
@pytest.mark.parametrize("code", Code)
def test_open_findings(world: Night, code: Code, *, charged: bool) -> None:
    """C1: money that is wrong on one side fires at once, every other open finding once it is older than the limit."""
    plant_finding(world, code, "order_1", START, charged=charged)
    plant_finding(world, code, "order_2", START + SECOND, charged=charged)
    taken = code is Code.STATUS_MISMATCH and charged
    critical = code in CRITICAL or taken
    severity = Severity.CRITICAL if critical else Severity.WARNING
    what = FOUND[code] + (" (2 took money)" if taken else "")
    for now, ago, old in (
        (START + SECOND, "1s", 0),
        (START + 24 * HOUR, "1d 0h", 0),
        (START + 24 * HOUR + SECOND, "1d 0h", 1),
        (START + 9999 * HOUR, "416d 15h", 2),
    ):
        count = 2 if critical else old
        message = f"{count} {what}, the oldest order_1, found {ago} ago: see `paycli findings`"
        expected = {code.value: Alert(code, count, START, "order_1", message, severity)} if count else {}
        assert fired(world, now) == {"not_reconciled": NEVER} | expected


def test_critical_and_other_findings_of_one_code(world: Night) -> None:
    """C1: of findings of one code those that took money are told at once, the others with them when they are old."""
    plant_finding(world, Code.STATUS_MISMATCH, "order_1", START)
    plant_finding(world, Code.STATUS_MISMATCH, "order_2", START + HOUR, charged=True)
    what, look = FOUND[Code.STATUS_MISMATCH], "see `paycli findings`"
    for now, count, words in (
        (START + 2 * HOUR, 1, f"1 {what} (1 took money), the oldest order_2, found 1h 0m ago: {look}"),
        (START + 25 * HOUR, 2, f"2 {what} (1 took money), the oldest order_1, found 1d 1h ago: {look}"),
    ):
        alert = fired(world, now)["status_mismatch"]
        assert (alert.count, alert.severity, alert.message) == (count, Severity.CRITICAL, words)


def test_found_by_a_call(world: Night) -> None:
    """C1: a late success that a caller's next attempt comes upon has taken money: it is told at once."""
    world.pay("order_1", "pm_card_chargeDeclined")
    intent = world.row("order_1")["provider_intent_id"]
    world.post(f"/v1/payment_intents/{intent}/confirm", {"payment_method": "pm_card_visa"})
    with pytest.raises(NeedsPerson, match="a finding is open"):
        world.open_client().charge(PaymentIntent("order_1", USD_20, "pm_card_visa"), attempt=2)
    alert = fired(world)["status_mismatch"]
    assert (alert.severity, alert.count) == (Severity.CRITICAL, 1)


def test_critical_until_a_person_closes_it(world: Night) -> None:
    """It fires night after night, whatever runs in between, until each of its findings is closed."""
    world.pay("order_1")
    world.sandbox.remove(world.row("order_1")["provider_charge_id"])
    for _ in range(3):
        world.run(START.date())
        assert "missing_at_provider" in fired(world)
        world.clock.advance(hours=24)
    world.sql("UPDATE paycli_findings SET closed_at = ?, closed_by = 'ann@desk'", ("2026-11-23 12:00:00.000000",))
    world.run(START.date())
    assert causes(world) == {"days_missed"}
