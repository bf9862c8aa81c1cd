"""What an attempt freezes in its row, and the seal over it: an HMAC under a secret that is not in the database. Pure.

Whoever may write the table can change body, hash and amount together; without the secret the seal does not fit then.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, fields

from gateway_client.errors import InvalidInput
from gateway_client.state import CHARGE

SECRET_CHARACTERS_MIN = 32


@dataclass(frozen=True, slots=True)
class Frozen:
    """The part of a row that no send may find changed."""

    intent_id: str
    attempt: int
    idempotency_key: str
    amount: int
    currency: str
    customer: str | None
    payment_method: str
    body: str = field(repr=False)
    api_version: str
    operation: str = CHARGE
    parent_id: str | None = None


class Seal:
    """Seals what is frozen: `Seal(secret)`, or `Seal("new old")` while a secret is rotated.

    The first secret seals, each of them is believed. Raises InvalidInput("seal_secret"), which never repeats it.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secret: str) -> None:
        words = secret.split() if type(secret) is str else []
        fine = words and all(len(word) >= SECRET_CHARACTERS_MIN and word.isprintable() for word in words)
        self._secrets = {_id(word.encode()): word.encode() for word in words} if fine else {}
        del secret, words  # a crash reporter sends local variables
        if not self._secrets:
            raise InvalidInput(
                "seal_secret",
                f"must be {SECRET_CHARACTERS_MIN} or more printable characters without a space, drawn by chance; "
                "during a rotation the new one, a space, the old one",
            )

    @property
    def id(self) -> str:
        """A name of the secret that seals, which tells nothing of it: seals of it begin so."""
        return next(iter(self._secrets), "")

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of all secrets that are believed."""
        return tuple(self._secrets)

    def of(self, frozen: Frozen) -> str:
        """The seal of what is frozen."""
        return f"{self.id}:{_mac(self._secrets[self.id], frozen)}"

    def problem(self, frozen: Frozen, seal: str | None) -> str | None:
        """Why a row with this seal is not sent, and what to do; None when the seal is ours and fits."""
        name, _, mac = (seal or "").partition(":")
        secret = self._secrets.get(name)
        if secret is not None:
            if hmac.compare_digest(mac.encode(), _mac(secret, frozen).encode()):
                return None
            return "its seal does not fit: the row was changed by hand"
        if seal is None:
            was, mend = "it has no seal: it was written before the secret was set, or its seal was taken away", ""
        else:
            was = f"it was sealed under another secret ({name[:8]}) than {' and '.join(self._secrets)}"
            mend = "name that one, too, after the new one and a space, until nothing sealed under it is pending; or "
        return (
            f"{was}. If it is one of yours, {mend}give it up with `paycli cancel` and charge it as another attempt; "
            "if it is not, somebody else writes to this table"
        )

    def __repr__(self) -> str:
        return f"Seal(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a seal holds a secret and is never pickled: make it again")


def _id(secret: bytes) -> str:
    return hmac.new(secret, b"charge-once seal", hashlib.sha256).hexdigest()[:8]


def _mac(secret: bytes, frozen: Frozen) -> str:
    """Each field after its length, so that no two rows give the same bytes; None is not the empty text."""
    mac = hmac.new(secret, b"charge-once 1", hashlib.sha256)
    for each in fields(frozen):
        value = getattr(frozen, each.name)
        text = b"" if value is None else str(value).encode()
        mac.update(b"%s:%d:" % (b"none" if value is None else b"text", len(text)) + text)
    return mac.hexdigest()
