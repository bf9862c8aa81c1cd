"""Amounts as Stripe counts them: whole minor units of a currency, and how to read and show them as decimals.

Here live the exponents and the special rules of the provider (docs.stripe.com/currencies). Not here: conversion,
arithmetic and rounding; an amount that does not fit exactly is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from gateway_client.errors import InvalidInput

# Twelve digits are the most that Stripe takes in any currency; in most it takes eight. The greatest and the least
# depend on currency and account, so only the provider can check them.
AMOUNT_MAX: Final = 999_999_999_999

_ZERO_DECIMAL: Final = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
_THREE_DECIMAL: Final = frozenset("bhd jod kwd omr tnd".split())

# HUF and TWD are zero-decimal for payouts only: a charge of them has two decimals, as here.
_TWO_DECIMAL: Final = frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc
    cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes kgs khr
    kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk
    php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah ugx usd
    uyu uzs wst xcd xcg yer zar zmw
    """.split()
)

EXPONENTS: Final[Mapping[str, int]] = MappingProxyType(
    {**dict.fromkeys(_TWO_DECIMAL, 2), **dict.fromkeys(_ZERO_DECIMAL, 0), **dict.fromkeys(_THREE_DECIMAL, 3)}
)
"""Currency → number of decimals of its minor unit, for every currency that Stripe can charge."""

# ISK and UGX have no smaller coin but are sent with two decimals; the card networks see two of three decimals.
_STEPS: Final[Mapping[str, int]] = {"isk": 100, "ugx": 100, **dict.fromkeys(_THREE_DECIMAL, 10)}

_PLAIN_DECIMAL: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount to charge: `Money(1999, "usd")` is 19.99 USD.

    `amount` is a positive int in the currency's minor unit, at most twelve digits; `currency` is an ISO 4217 code, kept
    in lower case. Raises InvalidInput ("amount" or "currency"). Source of the rules: docs.stripe.com/currencies, under
    "Minor units in API amounts", "Zero-decimal currencies" and "Special cases".
    """

    amount: int
    currency: str

    def __post_init__(self) -> None:
        currency = _checked_currency(self.currency)
        object.__setattr__(self, "currency", currency)
        _check_amount(self.amount, currency)

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Read "19.99": ASCII digits with at most one point, and no more decimals than the currency has.

        No sign, exponent, spaces or thousands separators: "1,999" means two different amounts in two countries.
        """
        currency = _checked_currency(currency)
        if type(text) is not str:
            raise InvalidInput("amount", f'must be text such as "19.99", not {type(text).__name__}')
        match = _PLAIN_DECIMAL.fullmatch(text)
        if match is None:
            raise InvalidInput("amount", "must be digits with at most one point, such as 19.99; no sign or space")
        whole, fraction = match[1], match[2] or ""
        _check_decimals(len(fraction), currency)
        digits = (whole + fraction.ljust(EXPONENTS[currency], "0")).lstrip("0")
        if len(digits) > len(str(AMOUNT_MAX)):  # before int(): a text of a million digits must not cost its conversion
            raise InvalidInput("amount", _too_large(currency))
        return cls(int(digits or "0"), currency)

    @classmethod
    def of(cls, value: Decimal, currency: str) -> Money:
        """Convert an exact Decimal, `Money.of(Decimal("19.99"), "usd")`, under the same rules as `parse`.

        Only a Decimal: a float is not exact, and an int does not say whether it counts dollars or cents.
        """
        currency = _checked_currency(currency)
        if not isinstance(value, Decimal):
            hint = "a float is not exact; " if isinstance(value, float) else ""
            raise InvalidInput("amount", f'{hint}must be as Decimal("19.99"), not {type(value).__name__}')
        if not value.is_finite():
            raise InvalidInput("amount", "must be a finite number")
        if value.is_signed() or value.is_zero():
            raise InvalidInput("amount", "must be more than zero")
        exponent = value.as_tuple().exponent
        assert isinstance(exponent, int)  # only NaN and infinity have a letter here
        _check_decimals(max(0, -exponent), currency)
        if value.adjusted() + EXPONENTS[currency] >= len(str(AMOUNT_MAX)):  # before int(): Decimal("1e999999") is short
            raise InvalidInput("amount", _too_large(currency))
        sign, digits, _ = value.as_tuple()
        return cls(int(Decimal((sign, digits, exponent + EXPONENTS[currency]))), currency)

    @property
    def decimal(self) -> Decimal:
        """The exact amount in whole units with the currency's decimals: Decimal("19.99"), for yen Decimal("1999")."""
        # Built from the digits, not by a division: that would depend on the caller's decimal context.
        return Decimal((0, tuple(map(int, str(self.amount))), -EXPONENTS[self.currency]))

    def __str__(self) -> str:
        return f"{self.decimal} {self.currency.upper()}"


def shown(amount: int | None, currency: str | None) -> str:
    """An amount for people; one that we would never send (an imported row, a provider's answer) in minor units."""
    try:
        return str(Money(amount or 0, currency or ""))
    except InvalidInput:
        return f"{amount} minor units of {(currency or 'no currency').upper()}"


def _checked_currency(currency: str) -> str:
    if type(currency) is not str:
        raise InvalidInput("currency", f'must be an ISO 4217 code such as "usd", not {type(currency).__name__}')
    lowered = currency.lower() if currency.isascii() else currency
    if lowered not in EXPONENTS:
        # The text is not repeated: in a mixed-up call it could be anything, a card number too.
        raise InvalidInput("currency", 'is not a currency that Stripe charges; give an ISO 4217 code such as "usd"')
    return lowered


def _check_amount(amount: int, currency: str) -> None:
    if type(amount) is not int:  # exactly: True is an int, too
        hint = {float: "a float is not exact; ", str: "Money.parse reads text; ", Decimal: "Money.of takes a Decimal; "}
        problem = f"must be an int of minor units, not {type(amount).__name__}"
        raise InvalidInput("amount", hint.get(type(amount), "") + problem)
    if amount < 1:
        raise InvalidInput("amount", "must be more than zero")
    if amount > AMOUNT_MAX:
        raise InvalidInput("amount", _too_large(currency))
    step = _STEPS.get(currency, 1)
    if amount % step:
        raise InvalidInput("amount", f"must end in {str(step)[1:]} for {currency.upper()}: a rule of Stripe's")


def _check_decimals(decimals: int, currency: str) -> None:
    allowed = EXPONENTS[currency]
    if decimals > allowed:
        raise InvalidInput("amount", f"{currency.upper()} allows {allowed} digits after the point, not {decimals}")


def _too_large(currency: str) -> str:
    return f"must have at most twelve digits: {AMOUNT_MAX} minor units of {currency.upper()}"
