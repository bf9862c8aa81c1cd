"""One disagreement is told in the same words by whoever sees it: a late answer, a look-up, a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from gateway_client import State, Stripe
from gateway_client.flow.effects import Settle
from gateway_client.gateways.base import Reply
from gateway_client.proof import Expected
from gateway_client.store.findings import close_finding
from tests.kit import ORDER
from tests.nightly import BOUNDS, DATABASES, Night, night
from tests.nightly_cases import FAILED, REFUSED, TRY_AGAIN, VISA, changed
from tests.oracle_world import API_KEY

DEBIT = "pm_usBankAccount_processing"
NAME = ORDER.intent_id
Make = Callable[[Night], None]


@pytest.fixture(params=DATABASES)
def dark(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def absent(dark: Night) -> None:
    """Given up, and proven absent."""
    dark.doubt(NAME, "lost_request")
    dark.give_up(NAME)
    dark.later(BOUNDS.quiet_unproven)
    dark.run()
    assert dark.state() is State.ABSENT


def canceled(dark: Night) -> None:
    """Given up, and cancelled at the provider."""
    dark.pay(NAME, DEBIT)
    assert dark.open_client().cancel(NAME, because="too slow").state is State.CANCELED


def succeeded(dark: Night) -> None:
    dark.pay(NAME)


def pays(dark: Night, method: str = VISA) -> None:
    """Another intent of our attempt is made at the provider."""
    form = {f"metadata[{name}]": value for name, value in dark.claims(NAME).items()}
    form |= {"amount": "2000", "currency": "usd", "confirm": "true", "return_url": "https://example.com"}
    dark.post("/v1/payment_intents", {**form, "payment_method": method})


def tries(dark: Night) -> None:
    """Another intent of our attempt is made at the provider, and declined."""
    pays(dark, REFUSED)


def comes_back(dark: Night) -> None:
    """Our charge has failed after all."""
    changed(FAILED, TRY_AGAIN)(dark, NAME)


def late_answer(dark: Night) -> None:
    """What the provider says of the attempt's newest intent is an answer to a send of it that comes late."""
    gateway, charge = Stripe(API_KEY), dark.open_client().find(NAME)
    assert charge is not None
    reply = Reply(200, {}, json.dumps(dark.sandbox.payment_intents[0]).encode(), 1)
    dark.perform(Settle(NAME, 1, gateway.read_charge(reply, Expected.of(charge, live=False)), saves_declines=True))


def run(dark: Night) -> None:
    assert dark.run().complete


def told(dark: Night) -> list[tuple[object, ...]]:
    """The findings that contradict our rows, and whether they are open."""
    query = "SELECT id, here, there, charged, closed_at IS NULL FROM paycli_findings WHERE code <> 'outcome_recovered'"
    return [(*words, bool(charged), bool(is_open)) for *words, charged, is_open in dark.sql(query)]


@pytest.mark.parametrize(("first", "second"), [(late_answer, run), (run, late_answer)])
@pytest.mark.parametrize(
    ("ours", "there"),
    [(absent, pays), (absent, tries), (canceled, pays), (succeeded, pays), (succeeded, comes_back)],
)
def test_a_late_answer_and_a_run_say_the_same(dark: Night, ours: Make, there: Make, first: Make, second: Make) -> None:
    """What contradicts a final row is one finding, whoever sees it first; what a person has closed stays closed."""
    ours(dark)
    dark.later(BOUNDS.look_ahead)
    there(dark)
    first(dark)
    ((finding_id, *facts, is_open),) = told(dark)
    assert is_open
    second(dark)
    assert told(dark) == [(finding_id, *facts, True)]
    dark.transact(lambda tx: close_finding(tx, str(finding_id), "seen"))
    for again in (first, second):
        again(dark)
        assert told(dark) == [(finding_id, *facts, False)]
