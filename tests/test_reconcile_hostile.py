"""Ways to be charged twice, or to be told what is not so, that somebody has tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway_client import ChargeOnceError, NeedsPerson, State
from gateway_client.store.findings import close_finding
from tests.kit import ONE_SEND, ORDER, START
from tests.nightly import BOUNDS, DATABASES, Night, codes, night


@pytest.fixture(params=DATABASES)
def dark(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def edit(dark: Night, changes: dict[str, str | None]) -> None:
    """Edit the metadata of every object of the provider; None removes a name."""
    for one in (*dark.sandbox.charges, *dark.sandbox.payment_intents):
        edited = {**one["metadata"], **changes}
        kept = {name: value for name, value in edited.items() if value is not None}
        dark.sandbox.change(one["id"], metadata=kept)


EDITS: list[dict[str, str | None]] = [
    {"paycli_key": "edited"},
    {"paycli_key": None},
    {"paycli_key": None, "paycli_attempt": None},
    {"paycli_intent": None, "paycli_key": None},
    {"paycli_namespace": None, "paycli_key": "edited"},
    {"paycli_attempt": "two", "paycli_key": "edited"},
    {"paycli_namespace": "other", "paycli_key": None},
    {"paycli_namespace": "other", "paycli_key": "edited"},
]


@pytest.mark.parametrize("changes", EDITS)
def test_edited_metadata_are_no_absence(dark: Night, changes: dict[str, str | None]) -> None:
    """A charge whose metadata were half edited is not absent: a person looks, attempt 2 is refused (S6, F136)."""
    dark.doubt("order_42")
    dark.give_up("order_42")
    edit(dark, changes)
    for hours in (25, 75):
        dark.clock.advance(hours=hours)
        result = dark.run()
        assert (result.complete, codes(result)) == (True, {("stale_pending", "order_42")})
    with pytest.raises(ChargeOnceError):
        dark.open_client().charge(ORDER, attempt=2)
    assert (dark.state("order_42"), len(dark.sandbox.charges)) == (State.UNKNOWN, 1)


def test_another_service_of_the_account(dark: Night) -> None:
    """The charge of another namespace with the same intent id is no reason to doubt an absence."""
    dark.doubt("order_42", "told_429")
    dark.give_up("order_42")
    key = replace(dark.binding, namespace="other").key("charge", "order_42", 1)
    dark.pay_behind_our_back("order_42", amount=777, namespace="other", key=key)
    dark.clock.advance(hours=25)
    assert codes(dark.run()) == {("outcome_recovered", "order_42")}
    assert dark.state("order_42") is State.ABSENT


@pytest.mark.parametrize("left", [State.PREPARED, State.UNKNOWN])
def test_a_known_success_is_not_forgotten_with_its_finding(dark: Night, left: State) -> None:
    """A success of attempt 2 without a row holds attempt 1, also once a person has closed its finding (S1)."""
    dark.open_client().prepare(ORDER)
    if left is State.UNKNOWN:
        dark.sandbox.fault("rate_limited_429")  # of one delivery: another one may have been executed
        assert dark.open_client(retry=ONE_SEND).charge(ORDER).state is left
    sends = len(dark.sends)
    dark.pay_behind_our_back("order_42", 2)
    (finding,) = dark.run().findings
    assert (finding.code, finding.action) == ("missing_locally", "flagged")
    dark.transact(lambda tx: close_finding(tx, finding.id, "has paid"))
    with pytest.raises(NeedsPerson, match="cancel this attempt, then reconcile"):
        dark.open_client().charge(ORDER)
    dark.open_client().resume()
    assert (dark.paid(), dark.state(), len(dark.sends) - 1) == (1, left, sends)
    dark.open_client().cancel("order_42", because="attempt 2 has paid")
    if left is State.UNKNOWN:
        dark.later(BOUNDS.quiet_unproven)
        dark.run()
        assert dark.state() is State.ABSENT
    dark.run(START.date())
    assert (dark.state(attempt=2), dark.open_client().charge(ORDER).attempt, dark.paid()) == (State.SUCCEEDED, 2, 1)


def test_an_incomplete_run_calls_nothing_a_duplicate(dark: Night) -> None:
    """A success of ours that could not be asked for is not counted beside another one: it may be gone (F122)."""
    own: Any = dark.pay("order_42")
    dark.sandbox.remove(own.provider_charge_id)
    dark.sandbox.remove(own.provider_intent_id)
    dark.pay_behind_our_back("order_42")
    dark.answer(500, on=("GET", f"/v1/charges/{own.provider_charge_id}"), times=6)
    broken = dark.run()
    assert (broken.complete, codes(broken)) == (False, set())
    whole = dark.run()
    assert (whole.complete, codes(whole)) == (True, {("missing_at_provider", "order_42")})
