"""A caller's own httpx transport as a channel, blocking and on asyncio: what it raises proves nothing.

Imported only where a transport was handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx

from gateway_client.exchange import Head, Message

FIRST_BYTE = "http11.send_request_headers.started"  # as httpcore calls it, where the transport is built on it
CLOSE_S_MAX = 1.0  # how long closing an answer may take


class _Foreign:
    unreached: tuple[type[Exception], ...] = (httpx.ConnectError, httpx.ConnectTimeout)
    late: tuple[type[Exception], ...] = (TimeoutError, httpx.TimeoutException)
    broken: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.StreamError, OSError)

    def __init__(self, timeout_s: float, connect_s: float) -> None:
        self._timeout_s, self._connect_s = timeout_s, connect_s
        self._response: httpx.Response | None = None
        self.sent = False  # once it is given to the transport, whatever becomes of it there

    def _given(self, message: Message, trace: Callable[..., Any]) -> httpx.Request:
        request = httpx.Request(
            message.method,
            message.url,
            headers=message.headers,
            content=message.body,
            extensions={"timeout": httpx.Timeout(self._timeout_s, connect=self._connect_s).as_dict(), "trace": trace},
        )
        self.sent = True
        return request


class ForeignChannel(_Foreign):
    """Ask by a caller's blocking transport."""

    def __init__(self, transport: httpx.BaseTransport, timeout_s: float, connect_s: float) -> None:
        super().__init__(timeout_s, connect_s)
        self._transport = transport
        self._pieces: Iterator[bytes] = iter(())

    async def ask(self, message: Message, at_first_byte: Callable[[], None]) -> Head:
        """Give the message to the transport."""

        def trace(event: str, info: dict[str, Any]) -> None:
            if event == FIRST_BYTE:
                at_first_byte()

        self._response = response = self._transport.handle_request(self._given(message, trace))
        self._pieces = (piece for piece in response.iter_bytes() if piece)
        return _head(response)

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end."""
        return next(self._pieces, b"")

    async def close(self) -> None:
        """Close the response; the transport is the caller's. What that raises changes nothing."""
        if self._response is not None:
            with suppress(*self.broken):
                self._response.close()


class AsyncForeignChannel(_Foreign):
    """The same on asyncio, where the whole exchange is bounded, too: httpx bounds each of its steps only."""

    def __init__(self, transport: httpx.AsyncBaseTransport, timeout_s: float, connect_s: float) -> None:
        super().__init__(timeout_s, connect_s)
        self._transport = transport
        self._pieces: AsyncIterator[bytes] | None = None
        self._end = asyncio.get_running_loop().time() + timeout_s

    async def ask(self, message: Message, at_first_byte: Callable[[], None]) -> Head:
        """Give the message to the transport."""

        async def trace(event: str, info: dict[str, Any]) -> None:
            if event == FIRST_BYTE:
                at_first_byte()

        async with asyncio.timeout_at(self._end):
            self._response = await self._transport.handle_async_request(self._given(message, trace))
        self._pieces = self._response.aiter_bytes()
        return _head(self._response)

    async def read(self) -> bytes:
        """Return the next piece of the body, b"" at its end."""
        assert self._pieces is not None
        async with asyncio.timeout_at(self._end):
            async for piece in self._pieces:
                if piece:
                    return piece
        return b""

    async def close(self) -> None:
        """As ForeignChannel.close, within a second."""
        if self._response is not None:
            with suppress(*self.broken):
                async with asyncio.timeout(CLOSE_S_MAX):
                    await self._response.aclose()


def _head(response: httpx.Response) -> Head:
    return Head(response.status_code, {name.lower(): value for name, value in response.headers.items()})
