"""Ids that look like Stripe's and are a pure function of a seed, so that a run can be repeated exactly."""

import hashlib
import string

ALPHABET = string.digits + string.ascii_letters


def digest(*parts: object) -> bytes:
    """32 bytes; each part is prefixed with its length, so that no two lists collide."""
    joined = "".join(f"{len(text)}:{text}" for text in map(str, parts))
    return hashlib.sha256(joined.encode("utf-8", "surrogateescape")).digest()


def fraction(*parts: object) -> float:
    """A number from 0 up to, and not including, 1."""
    return (int.from_bytes(digest(*parts)[:7], "big") >> 3) / 2**53


def name(prefix: str, length: int, *parts: object) -> str:
    """`prefix` followed by `length` (at most 32) letters and digits."""
    return prefix + "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest(prefix, *parts)[:length])
