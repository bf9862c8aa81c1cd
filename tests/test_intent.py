"""PaymentIntent: what is refused before anything is written or sent, and how two intents differ."""

import copy
import pickle
import random
import uuid
from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_client.errors import InvalidInput, UsageError
from gateway_client.intent import PaymentIntent, differences
from gateway_client.money import Money
from gateway_client.never_kept import contains_card_number

VISA = "4242424242424242"

# The numbers that networks and providers publish for testing.
CARD_NUMBERS = {
    "visa": VISA,
    "visa 19": "4000000000000000006",
    "mastercard": "5555555555554444",
    "mastercard 2-series": "2223003122003222",
    "mastercard 2720": "2720990000000007",
    "amex": "378282246310005",
    "discover": "6011111111111117",
    "discover 65": "6510000000000000",
    "diners": "30569309025904",
    "diners 36": "36227206271667",
    "jcb": "3566002020360505",
    "unionpay": "6200000000000005",
    "unionpay 19": "6205500000000000004",
}

WRITTEN = [
    "4242 4242 4242 4242",
    "4242-4242-4242-4242",
    "4242\u00a04242\u00a04242\u00a04242",
    "4242\u20134242\u20134242\u20134242",
    "4242 4242 4242 4242 12/30",
    "4242 4242 4242 4242 1230 123",
    "4242 4242 4242 4242 123",
    "order 1234 4242 4242 4242 4242",
    "4000 0000 0000 0000 006",
    "3782 822463 10005",
    "3056-930902-5904",
    "card:4242424242424242,exp=12/30",
    "no4242424242424242x",
    "first\n4242424242424242",
    "４２４２４２４２４２４２４２４２",
]


class Method(StrEnum):
    VISA = "pm_card_visa"


def intent(**changes: Any) -> PaymentIntent:
    fields = {"intent_id": "order_42", "amount": Money(2000, "usd"), "payment_method": "pm_card_visa", **changes}
    return PaymentIntent(**fields)


def refused(**changes: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        intent(**changes)
    return caught.value


def test_a_full_intent_is_accepted() -> None:
    """Every field within its limits is kept as it was given."""
    full: dict[str, Any] = {
        "customer": "cus_1",
        "off_session": True,
        "description": "2 × tea,\n\tgreen",
        "receipt_email": "ada.lovelace+tea@example.co.uk",
        "statement_descriptor_suffix": "TEA 42",
        "metadata": {"basket": "17", "note": "a\nb", "naïve": "ünï 🍵"},
    }
    made = intent(**full)
    assert {name: getattr(made, name) for name in full} == full


def test_limits_themselves_are_accepted() -> None:
    """A value exactly as long as allowed is accepted."""
    intent(
        intent_id="o" * 128,
        payment_method="p" * 255,
        customer="c" * 255,
        description="d" * 1000,
        receipt_email="e" * 500 + "@example.com",
        statement_descriptor_suffix="S" * 22,
        metadata={f"{number:a>40}": "v" * 500 for number in range(46)},
    )
    intent(intent_id="~ !")


BAD: list[tuple[str, Any]] = [
    *(("intent_id", bad) for bad in ["", " ", " a", "a ", "a\n", "a\tb", "ä", "o" * 129, "ada@example.com", 42, None]),
    *(("amount", bad) for bad in [2000, 20.0, "20.00", None, (2000, "usd")]),
    *(("payment_method", bad) for bad in ["", "pm card", "pm_ä", "pm_1\n", "p" * 256, None, b"pm", Method.VISA]),
    *(("customer", bad) for bad in ["", "cus 1", "cus_\x00", "c" * 256, 7]),
    *(
        ("off_session", bad) for bad in [1, 0, None, "true", "", "monthly", True, "recurring"]
    ),  # True, as there is no customer
    *(("description", bad) for bad in ["", " \n", "d" * 1001, "a\x00b", "a\x1bb", "a\rb", "a\x85b", "\ud800", 1]),
    *(("receipt_email", bad) for bad in ["", "ada", "a@b", "a@@b.c", "a b@c.de", "a@c.de\n", "e" * 513, "a@.de"]),
    *(
        ("statement_descriptor_suffix", bad)
        for bad in ["", "S" * 23, "1234", "TEA*", "<TEA", "TEA>", "T\\A", "T'A", 'T"A', "TÉ", "茶", "T\nA"]
    ),
]


@pytest.mark.parametrize(("field", "bad"), BAD)
def test_unusable_field_is_named(field: str, bad: Any) -> None:
    """An unusable value is refused with an error that begins with its field's name and does not repeat the value."""
    error = refused(**{field: bad})
    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    if isinstance(bad, str) and len(bad) > 5:
        assert bad not in str(error)
    assert isinstance(error, UsageError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"order": ""}, "metadata[order]"),
        ({"order": "   "}, "metadata[order]"),
        ({"order": 1}, "metadata[order]"),
        ({"order": None}, "metadata[order]"),
        ({"order": "v" * 501}, "metadata[order]"),
        ({"order": "a\x00"}, "metadata[order]"),
        ({"order": "\udfff"}, "metadata[order]"),
        ({"order": VISA}, "metadata[order]"),
        ({"fine": "1", "order": "\x7f"}, "metadata[order]"),
        ({"": "1"}, "metadata"),
        ({"n" * 41: "1"}, "metadata"),
        ({"a[b]": "1"}, "metadata"),
        ({"a]": "1"}, "metadata"),
        ({"a\nb": "1"}, "metadata"),
        ({"\ud800": "1"}, "metadata"),
        ({"paycli_intent": "1"}, "metadata"),
        ({1: "1"}, "metadata"),
        ({VISA: "1"}, "metadata"),
        ({str(number): "1" for number in range(47)}, "metadata"),
        ([("order", "1")], "metadata"),
        (None, "metadata"),
        ("order=1", "metadata"),
    ],
)
def test_unusable_metadata_is_named(metadata: Any, field: str) -> None:
    """Metadata beyond Stripe's limits, or in our own names, is refused; the error names the entry."""
    error = refused(metadata=metadata)
    assert error.field == field
    assert VISA not in str(error)


@pytest.mark.parametrize("number", CARD_NUMBERS.values(), ids=CARD_NUMBERS.keys())
def test_card_numbers_are_seen(number: str) -> None:
    """Numbers of every network are seen, alone and inside text, and not when a digit is wrong or one more follows."""
    assert contains_card_number(number)
    assert contains_card_number(f"card {number}, thanks")
    assert not contains_card_number(number[:-1] + str((int(number[-1]) + 1) % 10))
    assert not contains_card_number(number + "0" * (20 - len(number)))


@pytest.mark.parametrize("text", WRITTEN)
def test_written_card_numbers_are_seen(text: str) -> None:
    """A card number is seen as people write it: grouped, with its expiry or code, amid other text."""
    assert contains_card_number(text)


@pytest.mark.parametrize("text", [VISA, "4242 4242 4242 4242 12/30", "378282246310005"])
@pytest.mark.parametrize(
    ("field", "around"),
    [
        ("intent_id", "order {}"),
        ("payment_method", "pm_{}"),
        ("customer", "cus_{}"),
        ("description", "paid with {}"),
        ("receipt_email", "{}@example.com"),
        ("statement_descriptor_suffix", "A {}"),
        ("metadata", {"{}": "value"}),
        ("metadata[note]", {"note": "card {}"}),
    ],
)
def test_card_number_is_refused_in_every_field(field: str, around: Any, text: str) -> None:
    """A card number in any field is refused; the error names the field and repeats none of its digits."""
    if isinstance(around, dict):
        changes: dict[str, Any] = {"metadata": {k.format(text): v.format(text) for k, v in around.items()}}
    else:
        changes = {field: around.format(text)}
    error = refused(**changes)
    assert error.field == field
    assert "4242" not in str(error)
    assert "3782" not in str(error)


def test_every_text_field_is_searched_for_card_numbers() -> None:
    """The list above is complete: no field of an intent is left out."""
    tested = {"intent_id", "payment_method", "customer", "description", "receipt_email", "metadata"}
    tested |= {"statement_descriptor_suffix", "parameters"}  # `parameters`: tests/test_parameters.py
    assert set(PaymentIntent.__dataclass_fields__) - {"amount", "off_session", "not_after"} == tested


def test_uuids_are_not_card_numbers() -> None:
    """None of 100,000 random UUIDs is refused, with dashes or without, in either case."""
    chance = random.Random(20261122)
    for _ in range(100_000):
        made = uuid.UUID(int=chance.getrandbits(128), version=4)
        assert not contains_card_number(str(made)), made
        assert not contains_card_number(f"order_{made.hex.upper()}"), made


@pytest.mark.parametrize(
    "text",
    [
        "1764000000000",  # milliseconds
        "1764000000000000",  # microseconds
        "1764000000000000000",  # nanoseconds
        "20261122064201",
        "2026-11-22T06:42:01Z",
        "2026 1122 0642 0112",
        "20261122-064201-000042",
        "order-0000000000000042",
        "9780306406157",  # ISBN
        "DE89370400440532013000",
        "+44 20 7946 0958",
        "pi_3OqXkd2eZvKYlo2C1h2YwXyZ",
        "4242 4242 4242",
        "424242424242424",
        "4242  4242  4242  4242",
        "4242424242424241",
        "4242" * 5,
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    ],
)
def test_ordinary_references_are_not_card_numbers(text: str) -> None:
    """Timestamps, order numbers, ids, phone numbers and digests are not refused by accident."""
    assert not contains_card_number(text)


def test_order_numbers_are_not_card_numbers() -> None:
    """Consecutive order numbers of up to twelve digits, and millisecond clocks of this century, are never refused."""
    chance = random.Random(7)
    for _ in range(20_000):
        assert not contains_card_number(f"order_{chance.randrange(10**12)}")
        assert not contains_card_number(f"{chance.randrange(10**12, 4 * 10**12)}")


def test_metadata_is_a_sorted_read_only_copy() -> None:
    """Changing the caller's dict changes no intent, and equal metadata has one order: equal intents, equal requests."""
    given_metadata = {"b": "2", "a": "1"}
    made = intent(metadata=given_metadata)
    given_metadata["a"] = "changed"
    assert made.metadata == {"a": "1", "b": "2"}
    assert list(made.metadata) == ["a", "b"]
    with pytest.raises(TypeError):
        made.metadata["a"] = "3"  # type: ignore[index]


@given(metadata=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz")))
def test_intent_is_a_value(metadata: dict[str, str]) -> None:
    """Intents are equal and hash by content, and survive pickling, copying and `replace`."""
    made = intent(metadata=metadata)
    backwards = intent(metadata=dict(reversed(metadata.items())))
    assert backwards == made
    assert hash(backwards) == hash(made)
    assert pickle.loads(pickle.dumps(made)) == made
    assert copy.deepcopy(made) == made
    assert replace(made, off_session=False) == made
    assert (intent(metadata={**metadata, "a": "other"}) == made) is False


def test_intent_is_frozen() -> None:
    """An intent cannot be changed after it was checked."""
    with pytest.raises(AttributeError):
        intent().amount = Money(1, "usd")  # type: ignore[misc]


def test_repr_keeps_personal_data_back() -> None:
    """What may be personal is not in `repr`, which ends in logs and tracebacks."""
    shown = repr(intent(description="for Ada", receipt_email="ada@example.com", metadata={"name": "Ada"}))
    assert "order_42" in shown
    assert "ada" not in shown.lower()


def test_same_payment_has_no_differences() -> None:
    """Description, e-mail and metadata may differ, and so may the payment method of another attempt."""
    stored: dict[str, Any] = {"amount": 2000, "currency": "usd", "customer": None}
    other = intent(description="other", receipt_email="b@example.com", metadata={"a": "b"})
    assert differences(other, **stored, payment_method="pm_card_visa") == ()
    assert differences(other, **stored, payment_method=None) == ()


def test_differences_are_told_in_words() -> None:
    """Amount, currency, customer and payment method are each told with what was and what is now."""
    now = intent(amount=Money(2500, "usd"), customer="cus_2")
    stored: dict[str, Any] = {"amount": 2000, "currency": "usd", "customer": "cus_1", "payment_method": "pm_1"}
    assert differences(now, **stored) == (
        "amount was 20.00 USD, now 25.00 USD",
        "customer was cus_1, now cus_2",
        "payment method was pm_1, now pm_card_visa",
    )
    assert differences(intent(), amount=2000, currency="eur", customer="cus_1", payment_method=None) == (
        "currency was EUR, now USD",
        "customer was cus_1, now none",
    )
    assert differences(intent(), amount=1, currency="xxx", customer=None, payment_method=None) == (
        "amount was 1 minor units of XXX, now 20.00 USD",
        "currency was XXX, now USD",
    )
