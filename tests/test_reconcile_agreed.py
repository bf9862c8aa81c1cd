"""What agrees by comparison is what the judgement has nothing to say of: proven on made objects of every kind.

The comparison only says "nothing to say"; all that is ever said of a pair is the judgement's (`reconcile/match.py`).
Whole nights: `test_reconcile_agreed_nights.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_client import Stripe
from gateway_client.charge import Charge
from gateway_client.gateways.base import Binding, Listing, Page, Plain, Reply, Stated, Unreadable
from gateway_client.outcome import NAMES
from gateway_client.proof import Expected, Item, prove
from gateway_client.state import State
from reconcile import match
from tests.kit import START
from tests.nightly_lists import CHARGES, INTENTS
from tests.test_reconcile_cells import THERE

GATEWAY = Stripe("sk_test_1")
BINDING = Binding("stripe", "test", "acct_1", "default")
KEY = BINDING.key("charge", "order_1", 1)
Object = dict[str, Any]
CLAIMS: Object = {"paycli_namespace": "default", "paycli_intent": "order_1", "paycli_attempt": "1", "paycli_key": KEY}

INTENT: Object = {
    "id": "pi_1",
    "object": "payment_intent",
    "status": "succeeded",
    "created": int(START.timestamp()),
    "amount": 2000,
    "amount_received": 2000,
    "currency": "usd",
    "livemode": False,
    "metadata": CLAIMS,
    "customer": None,
    "payment_method": "pm_1",
    "latest_charge": "ch_1",
    "last_payment_error": None,
}
CHARGE: Object = {
    "id": "ch_1",
    "object": "charge",
    "status": "succeeded",
    "created": int(START.timestamp()),
    "amount": 2000,
    "currency": "usd",
    "livemode": False,
    "metadata": CLAIMS,
    "customer": None,
    "payment_method": "pm_1",
    "payment_intent": "pi_1",
    "captured": True,
    "failure_code": None,
}
ROW = Charge(
    intent_id="order_1",
    attempt=1,
    state=State.SUCCEEDED,
    idempotency_key=KEY,
    amount=2000,
    currency="usd",
    provider_intent_id="pi_1",
    provider_charge_id="ch_1",
    sends=1,
    created_at=START,
    first_sent_at=START,
    settled_at=START,
    reason=None,
)

STATUSES = (
    *("succeeded", "requires_payment_method", "requires_confirmation", "requires_action", "processing"),
    *("requires_capture", "canceled", "failed", "pending", "requires_review", "?"),
)
IDS = (None, "pi_1", "pi_2", "ch_1", "ch_2", {"id": "ch_1"}, {"id": "pi_1"}, "", "<b>")
ODD: dict[str, tuple[Any, ...]] = {
    "id": ("pi_1", "pi_2", "ch_1", "ch_2"),
    "status": STATUSES,
    "amount": (None, 0, -2000, 1999, 2000, 2001, 2**60),
    "amount_received": (None, 0, 1999, 2000),
    "currency": (None, "usd", "eur", "USD", "dollars"),
    "livemode": (None, True, False),
    "captured": (None, True, False),
    "latest_charge": IDS,
    "payment_intent": IDS,
    "last_payment_error": (None, {"type": "card_error", "code": "card_declined"}),
    "failure_code": (None, "card_declined"),
    "created": (None, 0, int(START.timestamp()), 10**20),
    "metadata": (
        None,
        {},
        *(CLAIMS | {name: value} for name in CLAIMS for value in ("", "2", "order_2", "shop", 7, ["1"], None)),
    ),
}
PERHAPS_ODD = st.lists(
    st.sampled_from([(name, value) for name, values in ODD.items() for value in values]), max_size=2
).map(dict)
STATES = st.sampled_from((*[State.SUCCEEDED] * 6, *[State.DECLINED] * 3, *State))
NUMBERS = (
    *(("amount", 1999), ("currency", "eur"), ("idempotency_key", "pc1_other"), ("provider_intent_id", None)),
    *(("provider_intent_id", "pi_2"), ("provider_charge_id", None), ("provider_charge_id", "ch_2")),
)
ROWS = st.builds(
    lambda state, odd: replace(ROW, state=state, **dict(odd)), STATES, st.lists(st.sampled_from(NUMBERS), max_size=1)
)


def listing(path: str, *found: Object) -> Listing:
    """A page of these objects, by places."""
    read = GATEWAY.read_listing(path, reply(path, found))
    assert isinstance(read, Listing)
    return read


def reply(path: str, found: tuple[Object, ...]) -> Reply:
    """A page of these objects, as it comes."""
    return Reply(200, {}, msgspec.json.encode({"object": "list", "url": path, "has_more": False, "data": found}), 1)


def as_stated(row: Charge) -> Stated:
    """What a row of ours states."""
    numbers = (row.intent_id, row.attempt, row.idempotency_key, row.state, row.amount, row.currency)
    return Stated(BINDING.namespace, False, *numbers, str(row.provider_intent_id), str(row.provider_charge_id))


def agreeing(path: str, found: Object, row: Charge) -> tuple[Plain, Item] | None:
    """An object, as it is compared and as it is judged, when it agrees with a row."""
    page = listing(path, found)
    plain = page.plain.get(0)
    if plain is None or plain.stated != as_stated(row):
        return None
    item = page.in_our_words(0)
    assert isinstance(item, Item)
    return plain, item


def said(row: Charge, *items: Item) -> list[object]:
    """All that the judgement makes of a row beside these objects: what it would repair, and what it finds."""
    found: list[object] = [*match.disagreements(row, items, False, START - timedelta(days=1))]
    if not row.final or None in (row.provider_intent_id, row.provider_charge_id):
        found.append(match.evidence(row, items, False))
    return found


def silent(row: Charge, *found: tuple[str, Object]) -> None:
    """What agrees of these objects is nothing to speak of: each by itself, all together, and beside all the others."""
    pairs = [agreeing(path, one, row) for path, one in found]
    agreed = [pair for pair in pairs if pair is not None]
    for plain, item in agreed:
        assert said(row, item) == said(row, plain.item()) == []
        expected = Expected.of(row, live=False)
        assert NAMES[type(prove(expected, plain.item()))] == NAMES[type(prove(expected, item))]
    assert not agreed or said(row, *(item for _, item in agreed)) == []
    listed = [listing(path, one).in_our_words(0) for path, one in found]
    really = [one for one in listed if isinstance(one, Item)]
    kept = [pair[0].item() if pair is not None else one for pair, one in zip(pairs, listed, strict=True)]
    assert said(row, *really) == said(row, *(one for one in kept if isinstance(one, Item)))


# Made objects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_one_odd_field(state: State) -> None:
    """Every state beside an intent and a charge of which one field is anything: exhaustively."""
    row = replace(ROW, state=state)
    for name, values in ODD.items():
        for value in values:
            if name in INTENT:
                silent(row, (INTENTS, INTENT | {name: value}))
                silent(row, (INTENTS, INTENT | {name: value}), (CHARGES, CHARGE))
            if name in CHARGE:
                silent(row, (CHARGES, CHARGE | {name: value}))
                silent(row, (INTENTS, INTENT), (CHARGES, CHARGE | {name: value}))


@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
@given(row=ROWS, intent=PERHAPS_ODD, charge=PERHAPS_ODD, second=PERHAPS_ODD)
def test_agreement_is_silence(row: Charge, intent: Object, charge: Object, second: Object) -> None:
    """Whatever an intent, its charge and another one say: what agrees with the row, the judgement is silent about.

    And it says the same of the row when what agrees is put into our words again from the row.
    """
    silent(
        row,
        (INTENTS, INTENT | {name: value for name, value in intent.items() if name in INTENT}),
        (CHARGES, CHARGE | {name: value for name, value in charge.items() if name in CHARGE}),
        (CHARGES, CHARGE | {"id": "ch_2"} | {name: value for name, value in second.items() if name in CHARGE}),
    )


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("there", THERE)
def test_every_cell(there: str, state: State) -> None:
    """Every state of ours beside everything that the provider may say of the very intent and charge."""
    intent, charge = THERE[there]
    found = []
    if intent is not None:
        found.append((INTENTS, INTENT | {name: value for name, value in intent.items() if name in INTENT}))
    if charge is not None:
        found.append((CHARGES, CHARGE | {name: value for name, value in charge.items() if name in CHARGE}))
    silent(replace(ROW, state=state), *found)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DECLINED])
def test_plain_results_agree(state: State) -> None:
    """The comparison is no formality: a plain success and a plain decline agree, intent and charge."""
    refused = {"status": "requires_payment_method", "amount_received": 0}
    failed = {"status": "failed", "captured": False, "failure_code": "card_declined"}
    row, declined = replace(ROW, state=state), state is State.DECLINED
    assert agreeing(INTENTS, INTENT | (refused if declined else {}), row)
    assert agreeing(CHARGES, CHARGE | (failed if declined else {}), row)


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
@pytest.mark.parametrize("broken", [None, "id", "status", "metadata", "all"])
def test_both_ways_of_reading(path: str, broken: str | None) -> None:
    """A page that is read by places holds what the same page holds as a whole, readable or not."""
    whole = INTENT if path == INTENTS else CHARGE
    odd: dict[str | None, Object] = {"id": {"id": "<b>"}, "status": {"status": 7}, "metadata": {"metadata": 7}}
    odd["all"] = {"id": None, "status": None, "metadata": None, "created": "now"}
    found = (whole, whole | odd.get(broken, {}), whole | odd.get(broken, {}), whole | {"created": 10**20})
    page = GATEWAY.read_page(path, reply(path, found))
    by_places = listing(path, *found)
    assert isinstance(page, Page)
    words = [by_places.in_our_words(place) for place in range(by_places.count)]
    assert tuple(one for one in words if isinstance(one, Item)) == page.items
    assert tuple(one for one in words if isinstance(one, Unreadable)) == page.unreadable
    assert (by_places.read_back_to, by_places.last_id) == (page.read_back_to, page.last_id)
    for seconds in (0, 1, 2):
        at = START + timedelta(seconds=seconds)
        assert by_places.answers(at, at) is page.answers(at, at)


@pytest.mark.parametrize("name", ["\x00", "order\n1", "ö", "", "o" * 129])
def test_what_is_no_intent_id_is_not_looked_up(name: str) -> None:
    """A name that no database may hold reaches none: it is read with care, as a stranger's."""
    assert listing(CHARGES, CHARGE | {"metadata": CLAIMS | {"paycli_intent": name}}).plain == {}
