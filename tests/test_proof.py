"""What an object proves for an operation: the one comparison of the core, and how Stripe's words become ours."""

from dataclasses import replace

import pytest

from gateway_client.gateways.base import NoReply, Reply
from gateway_client.gateways.stripe_objects import ChargeObject, IntentObject, charge_item, intent_item
from gateway_client.outcome import (
    Canceled,
    Conflict,
    Declined,
    Outcome,
    Processing,
    ReplyClass,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.proof import Expected, Item, Kind, Shown, mismatch, prove
from tests.test_outcomes import API, CHARGE, KEY

EXPECTED = Expected.of(replace(CHARGE, provider_intent_id="pi_1"), live=False)
PAID = Item(
    object_id="ch_1",
    kind=Kind.CHARGE,
    created_at=None,
    shows=Shown.SUCCEEDED,
    status="succeeded",
    amount=2000,
    amount_received=None,
    currency="usd",
    live=False,
    reason=None,
    provider_intent_id="pi_1",
    provider_charge_id="ch_1",
    customer=None,
    payment_method=None,
    named=True,
    namespace="default",
    intent_id="order_42",
    attempt=1,
    key=KEY,
)
ODD: dict[str, Item] = {
    "key": replace(PAID, key="pc1_another"),
    "no key": replace(PAID, key=None),
    "live": replace(PAID, live=True),
    "amount": replace(PAID, amount=2001),
    "no amount": replace(PAID, amount=None),
    "currency": replace(PAID, currency="eur"),
    "no currency": replace(PAID, currency=None),
    "received": replace(PAID, amount_received=1999),
}


def test_what_was_asked_for_is_proven() -> None:
    """An object that says all that was expected proves what it shows."""
    assert Succeeded("pi_1", "ch_1") == prove(EXPECTED, PAID) == prove(EXPECTED, replace(PAID, live=None))


@pytest.mark.parametrize("name", ODD)
def test_a_difference_is_never_a_success(name: str) -> None:
    """Another key, mode, amount, currency or sum received is a conflict, and says which number differs."""
    differs = next((one for one in ("amount", "currency") if one in name), "amount" if name == "received" else None)
    proof = prove(EXPECTED, ODD[name])
    assert isinstance(proof, Conflict)
    assert proof == mismatch(EXPECTED, ODD[name])
    assert proof.differs == differs


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_expected_is_not_compared(name: str) -> None:
    """Who leaves a field out has it told otherwise, and only that field: the mode is always compared."""
    left_out: dict[str, Expected] = {
        "key": replace(EXPECTED, key=None),
        "amount": replace(EXPECTED, amount=None),
        "currency": replace(EXPECTED, currency=None),
    }
    proven = {field for field, expected in left_out.items() if isinstance(prove(expected, ODD[name]), Succeeded)}
    assert proven == {"amount" if name == "received" else name.removeprefix("no ")} - {"live"}


def test_stripped_metadata() -> None:
    """An object without metadata is ours by the intent that we know: no other intent's is, nor one with another key."""
    stripped = replace(PAID, named=False, key=None)
    assert prove(EXPECTED, stripped) == Succeeded("pi_1", "ch_1")
    not_ours = (
        (EXPECTED, replace(stripped, named=True)),
        (EXPECTED, replace(stripped, provider_intent_id="pi_2")),
        (replace(EXPECTED, provider_intent_id=None), stripped),
        (replace(EXPECTED, provider_intent_id=None), replace(stripped, provider_intent_id=None)),
        (EXPECTED, replace(stripped, amount=2001)),
    )
    assert [type(prove(*one)) for one in not_ours] == [Conflict] * len(not_ours)


def test_an_object_without_an_id_proves_nothing() -> None:
    """What nobody could ask for is no evidence, whatever it says."""
    assert prove(EXPECTED, replace(PAID, object_id="")) == Unknown("a charge without a usable id")


PROVES: dict[Shown, type[Outcome]] = {
    Shown.SUCCEEDED: Succeeded,
    Shown.AUTHORIZED: Processing,
    Shown.PROCESSING: Processing,
    Shown.REQUIRES_ACTION: RequiresAction,
    Shown.CANCELED: Canceled,
    Shown.DECLINED: Declined,
    Shown.FAILED_TRY: Unknown,
    Shown.UNCHARGED: Unknown,
    Shown.UNKNOWN: Unknown,
}


@pytest.mark.parametrize("shows", Shown)
def test_what_each_word_proves(shows: Shown) -> None:
    """Each of our words proves one thing; only what waits uncharged may be cancelled there, unasked."""
    proof = prove(EXPECTED, replace(PAID, shows=shows))
    assert type(proof) is PROVES[shows]
    assert getattr(proof, "uncharged", False) is (shows is Shown.UNCHARGED)
    assert getattr(proof, "provider_intent_id", None) == "pi_1"


def test_which_words_move_money() -> None:
    """Money that is held counts as taken, for it may be captured; what is processed may yet move."""
    shown = [replace(PAID, shows=shows) for shows in Shown]
    assert {one.shows for one in shown if one.charged} == {Shown.SUCCEEDED, Shown.AUTHORIZED}
    assert {one.shows for one in shown if one.moved} == {Shown.SUCCEEDED, Shown.AUTHORIZED, Shown.PROCESSING}


@pytest.mark.parametrize(
    ("status", "charge", "shows"),
    [
        ("succeeded", "ch_1", Shown.SUCCEEDED),
        ("processing", None, Shown.PROCESSING),
        ("requires_capture", "ch_1", Shown.AUTHORIZED),
        ("requires_action", None, Shown.REQUIRES_ACTION),
        ("canceled", "ch_1", Shown.CANCELED),
        ("requires_payment_method", "ch_1", Shown.DECLINED),
        ("requires_payment_method", None, Shown.UNCHARGED),
        ("requires_confirmation", "ch_1", Shown.UNCHARGED),
        ("failed", None, Shown.UNKNOWN),
        ("Succeeded", None, Shown.UNKNOWN),
    ],
)
def test_stripes_words_of_an_intent(status: str, charge: str | None, shows: Shown) -> None:
    """What an intent's status shows; a word that is not known shows nothing."""
    item = intent_item(IntentObject("pi_1", status, latest_charge=charge))
    assert (item.shows, item.status) == (shows, status)


@pytest.mark.parametrize(
    ("status", "captured", "shows"),
    [
        ("succeeded", True, Shown.SUCCEEDED),
        ("succeeded", None, Shown.SUCCEEDED),
        ("succeeded", False, Shown.AUTHORIZED),
        ("pending", False, Shown.PROCESSING),
        ("failed", False, Shown.FAILED_TRY),
        ("canceled", None, Shown.UNKNOWN),
    ],
)
def test_stripes_words_of_a_charge(status: str, captured: bool | None, shows: Shown) -> None:
    """What a charge's status shows, with whether it was captured."""
    assert charge_item(ChargeObject("ch_1", status, captured=captured)).shows is shows


def test_kinds_of_replies() -> None:
    """Stripe's statuses in our words: what is worn out, what must be asked again, what is nobody's."""
    named = {
        ReplyClass.FORBIDDEN: {403},
        ReplyClass.NOT_FOUND: {404},
        ReplyClass.BUSY: {409, 429},
        ReplyClass.SERVER_ERROR: {500},
        ReplyClass.DOWN: {502, 503, 504},
    }
    others = set(range(200, 600)).difference(*named.values())
    expected = named | {
        ReplyClass.ANSWERED: {status for status in others if status < 500},
        ReplyClass.BROKEN: {status for status in others if status >= 500},
    }
    seen: dict[ReplyClass, set[int]] = {}
    for status in range(200, 600):
        seen.setdefault(API.classify(Reply(status, {}, b"", 1)), set()).add(status)
    assert seen == expected
    assert {API.classify(NoReply(sent, "broke", 1)) for sent in (True, False)} == {ReplyClass.DOWN}
