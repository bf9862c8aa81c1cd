"""Money: what is accepted, how it is read and shown. Not here: what Stripe does with it (the sandbox's tests)."""

import pickle
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_client.errors import InvalidInput
from gateway_client.money import AMOUNT_MAX, EXPONENTS, Money

ZERO_DECIMAL = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split()
THREE_DECIMAL = "BHD JOD KWD OMR TND".split()


@pytest.mark.parametrize("amount", [19.99, 20.0, True, "1999", Decimal(1999), None, 1999j])
def test_amount_must_be_exactly_int(amount: object) -> None:
    """Nothing but an int is an amount: not a float, not True, not text."""
    with pytest.raises(InvalidInput, match=r"^amount: .*must be an int of minor units") as caught:
        Money(amount, "usd")  # type: ignore[arg-type]
    assert caught.value.field == "amount"


@pytest.mark.parametrize("amount", [0, -1, -1999, AMOUNT_MAX + 1, 10**30])
def test_amount_must_be_in_range(amount: int) -> None:
    """Zero, negative amounts and those of more than twelve digits are refused."""
    with pytest.raises(InvalidInput) as caught:
        Money(amount, "usd")
    assert caught.value.field == "amount"


@pytest.mark.parametrize("amount", [1, 1999, 99_999_999, 999_999_999_900])
def test_amount_within_range_is_kept(amount: int) -> None:
    """The least and the greatest amounts are themselves accepted."""
    assert Money(amount, "usd").amount == amount


@pytest.mark.parametrize("currency", ["", "us", "usdx", "xxx", "uſd", " usd", "usd\n", b"usd", None, 840])
def test_unknown_currency_is_refused(currency: object) -> None:
    """Only the codes of currencies that Stripe charges are accepted."""
    with pytest.raises(InvalidInput) as caught:
        Money(1999, currency)  # type: ignore[arg-type]
    assert caught.value.field == "currency"


def test_currency_is_lowered() -> None:
    """An upper-case code is the same currency."""
    assert Money(1999, "USD") == Money(1999, "usd")
    assert Money(1999, "USD").currency == "usd"


def test_exponents_are_the_providers() -> None:
    """Zero- and three-decimal currencies are those of Stripe's list, and all others have two decimals."""
    assert {code for code, exponent in EXPONENTS.items() if exponent == 0} == {code.lower() for code in ZERO_DECIMAL}
    assert {code for code, exponent in EXPONENTS.items() if exponent == 3} == {code.lower() for code in THREE_DECIMAL}
    assert {EXPONENTS[code] for code in ("usd", "eur", "huf", "twd", "isk", "ugx")} == {2}
    assert len(EXPONENTS) == 140
    assert all(len(code) == 3 and code.isascii() and code.islower() for code in EXPONENTS)


@pytest.mark.parametrize(
    ("currency", "good", "bad"),
    [("isk", 500, 550), ("ugx", 500, 501), *((code.lower(), 5120, 5124) for code in THREE_DECIMAL)],
)
def test_special_currencies_end_in_zeros(currency: str, good: int, bad: int) -> None:
    """ISK and UGX end in 00, and three-decimal amounts in 0, as Stripe demands."""
    assert Money(good, currency).amount == good
    with pytest.raises(InvalidInput, match="must end in 0"):
        Money(bad, currency)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("19.99", "usd", 1999),
        ("19.9", "usd", 1990),
        ("19", "usd", 1900),
        ("0.50", "usd", 50),
        ("0019.99", "usd", 1999),
        ("999999.99", "usd", 99_999_999),
        ("9999999999.99", "usd", 999_999_999_999),
        ("1999", "jpy", 1999),
        ("5", "isk", 500),
        ("1.50", "huf", 150),
        ("5.12", "kwd", 5120),
        ("5.120", "KWD", 5120),
    ],
)
def test_parse_and_of_agree(text: str, currency: str, minor: int) -> None:
    """Text and Decimal of the same amount give the same minor units."""
    assert Money.parse(text, currency) == Money(minor, currency)
    assert Money.of(Decimal(text), currency) == Money(minor, currency)


@pytest.mark.parametrize(
    "text",
    "|+1|-1|1e3|1E3|1,999|1,999.00|1 999|1_999| 1|1 |1\n|.99|1.|1..9|1.2.3|$1|NaN|Infinity|0x1F|١٩|１９|²".split("|"),
)
def test_parse_takes_plain_digits_only(text: str) -> None:
    """Signs, exponents, separators, spaces and digits of other scripts are refused, not guessed at."""
    with pytest.raises(InvalidInput, match=r"^amount: must be digits"):
        Money.parse(text, "usd")


@pytest.mark.parametrize("text", [19.99, 1999, None, b"19.99", Decimal("19.99")])
def test_parse_takes_text_only(text: object) -> None:
    """A number is not text: `parse` never sees a float's rounding."""
    with pytest.raises(InvalidInput, match=r"^amount: must be text"):
        Money.parse(text, "usd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "currency", "allowed"),
    [("19.990", "usd", 2), ("19.999", "usd", 2), ("19.0", "jpy", 0), ("1.1234", "kwd", 3), ("1.000", "isk", 2)],
)
def test_too_many_decimals_is_an_error(text: str, currency: str, allowed: int) -> None:
    """Digits that the currency does not have are an error that says how many it has, even when they are zeros."""
    problem = f"^amount: {currency.upper()} allows {allowed} digits after the point"
    with pytest.raises(InvalidInput, match=problem):
        Money.parse(text, currency)
    with pytest.raises(InvalidInput, match=problem):
        Money.of(Decimal(text), currency)


@pytest.mark.parametrize("value", [19.99, 19, True, "19.99", None])
def test_of_takes_a_decimal_only(value: object) -> None:
    """A float is not exact and an int does not say its unit: both are refused."""
    with pytest.raises(InvalidInput, match=r"^amount: .*must be as Decimal\("):
        Money.of(value, "usd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-0", "0.00", "-1", "1e999999", "10000000000"]
)
def test_of_refuses_what_is_no_amount(text: str) -> None:
    """Not-a-number, infinities, zero, negative and huge values are errors of the amount, at once."""
    with pytest.raises(InvalidInput) as caught:
        Money.of(Decimal(text), "usd")
    assert caught.value.field == "amount"


def test_parse_of_a_very_long_text_is_refused_at_once() -> None:
    """A million digits are refused before they are converted."""
    with pytest.raises(InvalidInput, match="at most twelve digits"):
        Money.parse("9" * 1_000_000, "usd")


@pytest.mark.parametrize(
    ("minor", "currency", "decimal", "shown"),
    [
        (1999, "usd", "19.99", "19.99 USD"),
        (2000, "usd", "20.00", "20.00 USD"),
        (5, "eur", "0.05", "0.05 EUR"),
        (1999, "jpy", "1999", "1999 JPY"),
        (5120, "kwd", "5.120", "5.120 KWD"),
        (500, "isk", "5.00", "5.00 ISK"),
    ],
)
def test_shown_with_the_currencys_decimals(minor: int, currency: str, decimal: str, shown: str) -> None:
    """`.decimal` is exact with the currency's decimals, whatever the caller's decimal context, and so is `str`."""
    with localcontext(prec=1):
        assert str(Money(minor, currency).decimal) == decimal
        assert str(Money(minor, currency)) == shown


@given(minor=st.integers(1, AMOUNT_MAX // 100), currency=st.sampled_from(sorted(EXPONENTS)))
def test_what_is_shown_reads_back(minor: int, currency: str) -> None:
    """Every amount of every currency survives `.decimal` and `str` and comes back the same."""
    money = Money(minor * 100, currency)
    assert Money.of(money.decimal, currency) == money
    assert Money.parse(str(money).split()[0], currency) == money


def test_money_is_a_value() -> None:
    """Money is equal by content, hashable, frozen, and survives pickling."""
    money = Money(1999, "usd")
    assert pickle.loads(pickle.dumps(money)) == money
    assert {money: 1}[Money(1999, "USD")] == 1
    with pytest.raises(AttributeError):
        money.amount = 1  # type: ignore[misc]
