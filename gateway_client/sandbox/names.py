"""Ids that look like Stripe's and are a pure function of a seed, so that a run can be repeated exactly."""

import hashlib
import string

ALPHABET = string.digits + string.ascii_letters


def digest(*parts: object) -> int:
    """A number from 0 to 2**256 - 1; each part is prefixed with its length, so that no two lists collide."""
    joined = "".join(f"{len(text)}:{text}" for text in map(str, parts))
    return int.from_bytes(hashlib.sha256(joined.encode("utf-8", "surrogateescape")).digest(), "big")


def fraction(*parts: object) -> float:
    """A number from 0 up to, and not including, 1."""
    return (digest(*parts) >> 203) / 2**53


def name(prefix: str, length: int, *parts: object) -> str:
    """`prefix` followed by `length` letters and digits."""
    number = digest(prefix, *parts)
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return prefix + "".join(letters)
