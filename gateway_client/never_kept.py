"""What no field may hold, for it would be stored, sent and shown: card numbers, and the provider's secret keys."""

from __future__ import annotations

import re
from typing import Final

_SECRET_KEY: Final = re.compile(r"(?<![A-Za-z0-9])(?:[sre]k_(?:live|test|org)_|whsec_)[A-Za-z0-9]{10}")

# A card number is suspected when its digits pass Luhn and begin and count as a network's do (ISO/IEC 7812).

_NETWORKS: Final = re.compile(
    r"4\d{15}(?:\d{3})?"  # Visa: 16, 19
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard: 16
    r"|3[47]\d{13}"  # American Express: 15
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover: 16–19
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club: 14
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB: 16
    r"|62\d{14,17}"  # UnionPay: 16–19
    # Not what is no longer issued: Maestro's prefixes × 12 to 19 digits would refuse one long order number in seventy,
    # Visa's 13 digits one in ten of the article numbers (EAN) of Germany.
)
_RUN: Final = re.compile(r"(?<!\d)\d{14,19}(?!\d)")
# Groups as printed on cards, at any place in a longer row of groups: an expiry or a security code may follow.
_GAP: Final = "[ \u00a0\u202f\\-\u2010-\u2014]"
_GROUPED: Final = tuple(
    re.compile(rf"(?<!\d)(?=({_GAP.join(form)})(?!\d))")
    for form in (
        [r"\d{4}"] * 4,
        [r"\d{4}"] * 4 + [r"\d{3}"],
        [r"\d{4}", r"\d{6}", r"\d{5}"],
        [r"\d{4}", r"\d{6}", r"\d{4}"],
    )
)
# UUIDs and hex digests hold such digits by accident: one version 4 UUID in 5,000, when written without dashes.
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HEX_DIGEST: Final = "(?=[0-9]*[a-f])[0-9a-f]{32,}"
_HEX_ID: Final = re.compile(f"(?<![0-9a-z])(?:{_UUID}|{_HEX_DIGEST})(?![0-9a-z])", re.IGNORECASE)


def contains_card_number(text: str) -> bool:
    """Whether the text seems to hold a card number: one run of digits, or groups parted as on a card."""
    text = _HEX_ID.sub("x", text)
    candidates = [match[0] for match in _RUN.finditer(text)]
    candidates += [match[1] for pattern in _GROUPED for match in pattern.finditer(text)]
    return any(_is_card_number([int(digit) for digit in re.findall(r"\d", found)]) for found in candidates)


def _is_card_number(digits: list[int]) -> bool:
    doubled = (2 * digit - 9 * (digit > 4) for digit in digits[-2::-2])
    luhn_valid = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return luhn_valid and _NETWORKS.fullmatch("".join(map(str, digits))) is not None


def contains_secret_key(text: str) -> bool:
    """Whether the text seems to hold a secret, restricted or ephemeral key, or a webhook's secret."""
    return _SECRET_KEY.search(text) is not None
