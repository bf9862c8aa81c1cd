"""HTTP for the two drivers: one request out, one bounded reply or a plain statement of why there is none.

It never retries, never follows a redirect, reads nothing of the environment (no HTTPS_PROXY: a proxy is handed in), and
bounds the whole exchange in seconds and bytes.
"Not sent" is a fact of our own socket (`sockets.py`, where each exchange has a connection of its own); what a caller's
transport raises proves nothing. What a reply means is the gateway's to say.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from gateway_client.exchange import Age, Channel, Head, Message
from gateway_client.gateways.base import Gateway, NoReply, Reply, Request
from gateway_client.http1 import OwnChannel
from gateway_client.proxy import Proxy
from gateway_client.retry import BEGUN_S_MAX, checked_timeout
from gateway_client.sockets import origin_of, tls_context
from gateway_client.waiting import Blocking, OnLoop, Waiter, finish

if TYPE_CHECKING:
    import httpx

CONNECT_S_MAX = 10.0
REPLY_BYTES_MAX = 16 * 1024 * 1024  # a page of 100 charges has about 0.3 MB; more is not an answer


class Paused(Exception):
    """Raised at the first byte of a send that was begun too long ago."""


def check_age(age_s: Age) -> None:
    """Raise Paused when a request was decided too long ago to be sent now."""
    if age_s() > BEGUN_S_MAX:
        raise Paused


class _Wire:
    """What both kinds share: all but who waits."""

    def __init__(self, gateway: Gateway, timeout_s: float, proxy: Proxy | None) -> None:
        self._gateway, self._timeout_s, self._proxy = gateway, checked_timeout(timeout_s), proxy
        self._origin = origin_of(gateway.base_url)

    def _own(self, waiter: Waiter) -> OwnChannel:
        return OwnChannel(waiter, self._origin, self._timeout_s, connect_s(self._timeout_s), self._proxy)

    def _check_trust(self) -> None:
        if self._origin.tls:
            tls_context()  # what cannot be read is told when a client is made, not at its first charge

    async def _exchange(self, channel: Channel, request: Request, age_s: Age) -> Reply | NoReply:
        watch = _Watch()
        try:
            check_age(age_s)
            head = await channel.ask(self._message(request), partial(check_age, age_s))
            if (why := _unusable(head)) is not None:
                return NoReply(True, why, watch.ms)
            body = bytearray()
            while piece := await channel.read():
                body += piece
                if len(body) > REPLY_BYTES_MAX or watch.ms > self._timeout_s * 1000:
                    return NoReply(True, "the answer was too large or too slow", watch.ms)
        except Paused:
            return _stopped(channel.sent, watch.ms)
        except channel.broken as error:
            return self._no_reply(error, channel, watch.ms)
        finally:
            await channel.close()
        return Reply(head.status, head.headers, bytes(body), watch.ms)

    def _message(self, request: Request) -> Message:
        return Message(
            request.method,
            self._gateway.base_url + request.path,
            # A caller's transport keeps no connection either: what is left over on it would be the next answer.
            {**self._gateway.headers(request), "Connection": "close"},
            None if request.body is None else request.body.encode("ascii"),
        )

    def _no_reply(self, error: Exception, channel: Channel, elapsed_ms: int) -> NoReply:
        if not channel.sent:
            # No other error's words: those of h11 repeat a header, and one holds the API key.
            why = str(error) if isinstance(error, channel.unreached) else type(error).__name__
            return NoReply(False, f"not sent: no connection to the provider ({why})", elapsed_ms)
        kind = type(error).__name__
        if isinstance(error, channel.late):
            return NoReply(True, f"no whole answer within {self._timeout_s:g} s ({kind})", elapsed_ms)
        return NoReply(True, f"the connection broke ({kind})", elapsed_ms)


class Wire(_Wire):
    """Blocking HTTP, for `Client`: an `Exchange`."""

    def __init__(
        self, gateway: Gateway, timeout_s: float, transport: httpx.BaseTransport | None, proxy: Proxy | None = None
    ) -> None:
        super().__init__(gateway, timeout_s, proxy)
        self._transport = transport
        if transport is None:
            self._check_trust()

    def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request, unless its decision is too old at the first byte."""
        return finish(self._exchange(self._channel(), request, age_s))

    def _channel(self) -> Channel:
        if self._transport is None:
            return self._own(Blocking())
        from gateway_client.foreign import ForeignChannel

        return ForeignChannel(self._transport, self._timeout_s, connect_s(self._timeout_s))

    def close(self) -> None:
        """Close a caller's transport; nothing else is open between two exchanges."""
        if self._transport is not None:
            self._transport.close()


class AsyncWire(_Wire):
    """HTTP on asyncio, for `AsyncClient`: an `AsyncExchange`. Nothing of it belongs to one event loop."""

    def __init__(
        self, gateway: Gateway, timeout_s: float, transport: httpx.AsyncBaseTransport | None, proxy: Proxy | None = None
    ) -> None:
        super().__init__(gateway, timeout_s, proxy)
        self._transport = transport
        if transport is None:
            self._check_trust()

    async def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request, unless its decision is too old at the first byte."""
        return await self._exchange(self._channel(), request, age_s)

    def _channel(self) -> Channel:
        if self._transport is None:
            return self._own(OnLoop())
        from gateway_client.foreign import AsyncForeignChannel

        return AsyncForeignChannel(self._transport, self._timeout_s, connect_s(self._timeout_s))

    async def close(self) -> None:
        """Close a caller's transport; nothing else is open between two exchanges."""
        if self._transport is not None:
            await self._transport.aclose()


def connect_s(timeout_s: float) -> float:
    """Return the seconds for connecting: a little less than for the whole, since a failure to connect says more."""
    return min(CONNECT_S_MAX, timeout_s * 0.9)


def _unusable(head: Head) -> str | None:
    """Return why this is no answer, before its body is read, or None."""
    if head.status < 200:
        return f"an interim answer ({head.status}) and none after it"
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        # It could be a bomb: a megabyte that decodes to a gigabyte.
        return "the answer is compressed, which was not asked for"
    return None


def _stopped(sent: bool, elapsed_ms: int) -> NoReply:
    if sent:
        return NoReply(True, "this process was paused too long while a transport of the caller was sending", elapsed_ms)
    return NoReply(False, "not sent: this process was paused too long before the first byte", elapsed_ms, paused=True)


class _Watch:
    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def ms(self) -> int:
        return int((time.monotonic() - self._start) * 1000)
