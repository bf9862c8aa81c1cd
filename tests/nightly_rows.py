"""What tests of pending rows share: runs that only ask, and what they came to."""

from __future__ import annotations

from datetime import date, timedelta

from gateway_client import PaymentIntent
from reconcile import RunResult
from tests.kit import USD_20
from tests.nightly import Codes, Night, codes

ACCOUNT, INTENTS, CHARGES = "/v1/account", "/v1/payment_intents", "/v1/charges"
DEBIT, DECLINED = "pm_usBankAccount_processing", "pm_card_chargeDeclined"
ORDER = PaymentIntent("order_1", USD_20, "pm_card_visa")


def run(world: Night, day: date | None = None) -> RunResult:
    """A run, which asks and never sends: nothing is charged or cancelled by it, whatever else is tested."""
    before = len(world.asked)
    result = world.run(day)
    assert {asked.partition(" ")[0] for asked in world.asked[before:]} == {"GET"}
    return result


def yesterday(world: Night) -> RunResult:
    """Tonight's run."""
    return run(world, (world.clock.now - timedelta(days=1)).date())


def came_to(result: RunResult) -> tuple[bool, Codes]:
    return result.complete, codes(result)


def recovered(*intents: str) -> tuple[bool, Codes]:
    """A complete run that found out what became of these, and nothing else."""
    return True, {("outcome_recovered", intent) for intent in intents}


CLEAN = recovered()


def stale(*intents: str) -> tuple[bool, Codes]:
    return True, {("stale_pending", intent) for intent in intents}
