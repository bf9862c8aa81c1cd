"""What crosses the wire, as plain values: a request that arrived, and the three ways it can end.

No HTTP library and no sockets here: `transport.py` and `server.py` turn these into bytes or exceptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""One decoded JSON object of the provider's."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived: `target` is path and query, header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """Without headers and body: they hold the API key and the customer's data."""
        return f"Request({self.method} {self.path})"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def idempotency_key(self) -> str | None:
        """The key; None for an empty one and for any method but POST, which ignores it (STRIPE.md §1.1)."""
        return (self.headers.get("idempotency-key") or None) if self.method == "POST" else None


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    again_s: float | None = None
    """After how many seconds of real time a port writes it once more, 0 for in the same segment; None for never."""


@dataclass(frozen=True)
class Cut:
    """An answer that breaks off: the headers promise `reply.body`, only its first `sent_bytes` arrive."""

    reply: Reply
    sent_bytes: int


@dataclass(frozen=True)
class Lost:
    """No answer: the connection was refused before anything was sent, or it broke while waiting."""

    refused: bool = False


Answer: TypeAlias = Reply | Cut | Lost


@dataclass(frozen=True)
class Recorded:
    """One request that arrived, for assertions. It never holds the API key."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...]
    idempotency_key: str | None
    fault: str | None
    status: int | None = None
    """The status that was sent, None when nothing was answered (or not yet)."""
    executed: bool = False
    """Whether this request changed the ledger: not so for a read, a refusal, a replay or a lost request."""
