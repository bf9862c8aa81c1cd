"""Amounts of up to twelve digits: charged, kept and reconciled exactly; what is too much, the provider says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway_client import InvalidInput, Money, State
from tests.kit import KINDS, ORDER, World
from tests.nightly import DATABASES, night

LARGE = [(150_000_000, "idr"), (100_000_000, "usd"), (999_999_999_999, "lbp")]


@pytest.mark.parametrize("kind", KINDS)
def test_charged(kind: str) -> None:
    """A4: amounts of nine to twelve digits are charged as they are, and the next digit is refused before a row."""
    with World(kind) as world:
        client = world.open_client()
        for number, (amount, currency) in enumerate(LARGE):
            intent = replace(ORDER, intent_id=f"order_{number}", amount=Money(amount, currency))
            charge = client.charge(intent)
            assert (charge.state, charge.amount, world.row(intent.intent_id)["amount"]) == ("succeeded", amount, amount)
        assert [made["amount"] for made in reversed(world.sandbox.payment_intents)] == [each for each, _ in LARGE]
    with pytest.raises(InvalidInput, match="at most twelve digits"):
        Money(1_000_000_000_000, "lbp")


@pytest.mark.parametrize("kind", DATABASES)
def test_reconciled(kind: str) -> None:
    """A4: a night agrees with such amounts, recovers them, and sees a difference of one minor unit."""
    with night(kind) as dark:
        huge = replace(ORDER, amount=Money(999_999_999_999, "lbp"))
        dark.lose("lost_reply", intent=huge)
        assert [one.code for one in dark.run().findings] == ["outcome_recovered"]
        assert dark.run().findings == ()
        dark.change("order_42", amount=999_999_999_998)
        assert [one.code for one in dark.run().findings] == ["amount_mismatch"]


def test_the_provider_refuses_what_is_too_much() -> None:
    """A4: an account or currency that allows less says so itself: `rejected`, and the next attempt may ask for less."""
    with World() as world:
        error = {"type": "invalid_request_error", "code": "amount_too_large", "param": "amount"}
        world.answer(400, {"error": error}, echo=True)
        client = world.open_client()
        charge = client.charge(replace(ORDER, amount=Money(100_000_000, "usd")))
        assert (charge.state, charge.reason) == (State.REJECTED, "amount_too_large amount")
        assert client.charge(replace(ORDER, amount=Money(99_999_999, "usd")), attempt=2).state is State.SUCCEEDED
