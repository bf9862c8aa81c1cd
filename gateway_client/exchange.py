"""The port between the drivers and HTTP: one request out, one bounded reply, or a plain statement of why there is none.

What every implementation must prove is in `tests/test_exchange_contract.py`: above all, that `NoReply(sent=False)` is
said only when not a byte of the request has left. Here are the words, no I/O; `wire.py` has the implementations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway_client.gateways.base import NoReply, Reply, Request

Age = Callable[[], float]
"""How many seconds ago it was decided to send a request."""


def unaged() -> float:
    """Return the age of a request that may be sent at any time: a question."""
    return 0.0


class Exchange(Protocol):
    """Blocking HTTP."""

    def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request once, unless its decision is too old at the first byte; return what came of it in time."""
        ...

    def close(self) -> None: ...


class AsyncExchange(Protocol):
    """The same on asyncio."""

    async def exchange(self, request: Request, age_s: Age) -> Reply | NoReply: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one HTTP request as it is sent. Its repr shows neither credential nor path nor body."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Head:
    """Hold status and headers of an answer. Names are lower case; what came twice is joined by a comma."""

    status: int
    headers: dict[str, str]


class Channel(Protocol):
    """Carry one message and its answer, whether the caller blocks or not; it is used once and closed."""

    unreached: tuple[type[Exception], ...]  # raised when there was no connection
    late: tuple[type[Exception], ...]  # raised when its time was over
    broken: tuple[type[Exception], ...]  # whatever else is no bug of ours, and both of these

    @property
    def sent(self) -> bool:
        """Whether a byte of the message may have left."""
        ...

    async def ask(self, message: Message, at_first_byte: Callable[[], None]) -> Head:
        """Send the message and return the head of its answer; `at_first_byte` may still stop it, by raising."""
        ...

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end."""
        ...

    async def close(self) -> None: ...
