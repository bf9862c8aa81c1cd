"""A charge that nobody here asked for is imported, so that nothing follows it, flagged, and counts as no payment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway_client import AttemptRefused, IntentConflict, Money, NeedsPerson, PaymentIntent, State
from gateway_client.finding import Action
from gateway_client.store.findings import close_finding
from reconcile.alerts import Limits, alerts
from reconcile.store.alerts import read_facts
from tests.kit import USD_20
from tests.nightly import BOUNDS, DATABASES, Night, night, only

WANTED = PaymentIntent("order_1", USD_20, "pm_card_visa")
OTHERS = {
    "amount": replace(WANTED, amount=Money(50, "usd")),
    "currency": replace(WANTED, amount=Money(2000, "eur")),
    "customer": replace(WANTED, customer="cus_1"),
}


@pytest.fixture(params=DATABASES)
def dark(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def strangers(dark: Night, like: PaymentIntent, attempt: int = 1, method: str = "pm_card_visa") -> None:
    """Another service of the account makes a charge with our metadata and our key."""
    form = {
        "amount": str(like.amount.amount),
        "currency": like.amount.currency,
        "confirm": "true",
        "payment_method": method,
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
        **({} if like.customer is None else {"customer": like.customer}),
        **{f"metadata[{name}]": value for name, value in dark.claims(like.intent_id, attempt).items()},
    }
    assert dark.post("/v1/payment_intents", form).status_code == (200 if method == "pm_card_visa" else 402)


def resolve(dark: Night, finding_id: str) -> None:
    """A person closes a finding."""
    dark.transact(lambda tx: close_finding(tx, finding_id, "looked at"))


def told(dark: Night) -> list[str]:
    """The causes of `paycli alerts`."""
    facts = dark.transact(lambda tx: read_facts(tx, dark.clock.now, Limits(), BOUNDS.key_life))
    return [alert.cause for alert in alerts(facts, Limits())]


@pytest.mark.parametrize("other", OTHERS)
def test_other_numbers_are_never_a_payment(dark: Night, other: str) -> None:
    """E2: what was imported for an intent without a row does not count as paid for a caller with other numbers."""
    strangers(dark, OTHERS[other])
    finding = only(dark.run())
    sends = len(dark.sends)
    assert (finding.code, finding.action, finding.open) == ("missing_locally", Action.FLAGGED, True)
    assert "missing_locally" in told(dark)
    with pytest.raises(NeedsPerson, match=f"finding {finding.id}.*{other} was"):
        dark.open_client().charge(WANTED)
    resolve(dark, finding.id)
    with pytest.raises(IntentConflict, match=f"nobody here had asked for.*{other} was"):
        dark.open_client().charge(WANTED)
    with pytest.raises(IntentConflict):
        dark.open_client().charge(WANTED, attempt=2)
    assert len(dark.sends) == sends
    assert dark.open_client().charge(replace(WANTED, intent_id="order_1b")).state is State.SUCCEEDED


def test_it_stays_open(dark: Night) -> None:
    """E2: nights and callers leave the finding of an unasked import open; the row says that nobody asked for it."""
    strangers(dark, WANTED)
    first = dark.run()
    assert (first.repaired, first.flagged, first.open_findings) == (0, 1, 1)
    again = dark.run()
    assert (again.news, again.open_findings, "missing_locally" in told(dark)) == (0, 1, True)
    charge = dark.open_client().find("order_1")
    assert charge is not None
    assert (charge.state, "nobody here had asked for it" in (charge.reason or "")) == (State.SUCCEEDED, True)
    resolve(dark, only(first).id)
    assert (dark.run().open_findings, "missing_locally" in told(dark)) == (0, False)


def test_the_same_numbers_are_the_payment(dark: Night) -> None:
    """E2: who asks with the numbers of the import (a lost row) is told its end, and nothing is charged again."""
    strangers(dark, WANTED)
    dark.run()
    sends = len(dark.sends)
    assert dark.open_client().charge(WANTED).state is State.SUCCEEDED
    with pytest.raises(AttemptRefused):
        dark.open_client().charge(WANTED, attempt=2)
    assert (len(dark.sends), dark.paid("order_1")) == (sends, 1)


def test_an_unasked_decline(dark: Night) -> None:
    """E2: after an unasked decline no other attempt is made before a person has looked; then it has its own numbers."""
    strangers(dark, OTHERS["amount"], method="pm_card_chargeDeclined")
    finding = only(dark.run())
    for attempt in (None, 2):
        with pytest.raises(NeedsPerson, match=finding.id):
            dark.open_client().charge(WANTED, attempt=attempt)
    resolve(dark, finding.id)
    charge = dark.open_client().charge(WANTED, attempt=2)
    assert (charge.state, charge.amount, dark.paid("order_1")) == (State.SUCCEEDED, 2000, 1)


def test_another_attempt_that_was_not_asked_for(dark: Night) -> None:
    """E2: an attempt without a row, beside one that was asked for, is repaired when the numbers agree, else flagged."""
    for intent_id, like, action in (
        ("order_1", WANTED, Action.REPAIRED),
        ("order_2", OTHERS["amount"], Action.FLAGGED),
        ("order_3", OTHERS["customer"], Action.FLAGGED),
    ):
        assert dark.pay(intent_id, "pm_card_chargeDeclined").state is State.DECLINED
        strangers(dark, replace(like, intent_id=intent_id), 2)
        finding = next(one for one in dark.run().findings if one.intent_id == intent_id)
        assert (finding.code, finding.action) == ("missing_locally", action)
        sends = len(dark.sends)
        wanted = replace(WANTED, intent_id=intent_id)
        if action is Action.REPAIRED:
            assert dark.open_client().charge(wanted).state is State.SUCCEEDED
        else:
            with pytest.raises(NeedsPerson, match=finding.id):
                dark.open_client().charge(wanted)
        assert len(dark.sends) == sends


def test_two_that_vouch_for_each_other(dark: Night) -> None:
    """E2: one unasked attempt does not make another one asked for."""
    strangers(dark, OTHERS["amount"], method="pm_card_chargeDeclined")
    strangers(dark, OTHERS["amount"], 2)
    assert {one.action for one in dark.run().findings} == {Action.FLAGGED}
    with pytest.raises(NeedsPerson):
        dark.open_client().charge(WANTED)
