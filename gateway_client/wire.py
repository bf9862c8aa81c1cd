"""HTTP for the two drivers: one request out, one bounded reply or a plain statement of why there is none.

It never retries, never follows a redirect, reads nothing of the environment (no HTTPS_PROXY: a proxy is handed in), and
bounds the whole exchange in seconds and bytes.
"Not sent" is a fact of our own socket (`sockets.py`, where each exchange has a connection of its own); what a caller's
transport raises proves nothing. What a reply means is the gateway's to say.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any

import certifi
import httpx

from gateway_client.errors import ConfigurationError, InvalidInput
from gateway_client.gateways.base import Gateway, NoReply, Reply, Request
from gateway_client.proxy import Proxy
from gateway_client.sockets import EXTENSION, AsyncOwnTransport, ExchangeSocket, OwnTransport

TIMEOUT_S_MAX = 600.0
CONNECT_S_MAX = 10.0
REPLY_BYTES_MAX = 16 * 1024 * 1024  # a page of 100 charges has about 0.3 MB; more is not an answer
BEGUN_S_MAX = 10.0  # between the commit of BeginSend and the first byte; a paused process must not send an old decision
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

Age = Callable[[], float]


def unaged() -> float:
    """The age of a request that may be sent at any time: a question."""
    return 0.0


class _Paused(Exception):
    """Raised at the first byte of a send that was begun too long ago."""


class Wire:
    """Blocking HTTP, for `Client`."""

    def __init__(
        self, gateway: Gateway, timeout_s: float, transport: httpx.BaseTransport | None, proxy: Proxy | None = None
    ) -> None:
        self._gateway, self._timeout_s, self._own = gateway, checked_timeout(timeout_s), transport is None
        self._client = httpx.Client(
            transport=own_transport(proxy) if transport is None else transport,
            follow_redirects=False,
            trust_env=False,
            timeout=_timeout(timeout_s),
        )

    def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request, unless its decision is too old at the first byte."""
        watch, used = _Watch(), ExchangeSocket(self._timeout_s)
        trail = _Trail(age_s, used if self._own else None)

        def trace(event: str, info: dict[str, Any]) -> None:
            trail.follow(event)

        try:
            trail.check_age()
            built = _build(self._client, self._gateway, request, trace, used)
            trail.given = True
            response = self._client.send(built, stream=True)
            try:
                if (why := _unusable(response)) is not None:
                    return NoReply(True, why, watch.ms)
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > REPLY_BYTES_MAX or used.expired:
                        return NoReply(True, "the answer was too large or too slow", watch.ms)
            finally:
                response.close()
        except (_Paused, httpx.HTTPError, httpx.StreamError, OSError) as error:
            return _no_reply(error, trail, watch.ms, self._timeout_s)
        finally:
            used.close()
        return _reply(response, bytes(body), watch.ms)

    def close(self) -> None:
        """Close a caller's transport; nothing else is open between two exchanges."""
        self._client.close()


class AsyncWire:
    """HTTP on asyncio, for `AsyncClient`."""

    def __init__(
        self, gateway: Gateway, timeout_s: float, transport: httpx.AsyncBaseTransport | None, proxy: Proxy | None = None
    ) -> None:
        self._gateway, self._timeout_s, self._own = gateway, checked_timeout(timeout_s), transport is None
        self._client = httpx.AsyncClient(
            transport=AsyncOwnTransport(_tls(), proxy) if transport is None else transport,
            follow_redirects=False,
            trust_env=False,
            timeout=_timeout(timeout_s),
        )

    async def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request, unless its decision is too old at the first byte."""
        watch, used = _Watch(), ExchangeSocket(self._timeout_s)
        trail = _Trail(age_s, used if self._own else None)

        async def trace(event: str, info: dict[str, Any]) -> None:
            trail.follow(event)

        try:
            trail.check_age()
            built = _build(self._client, self._gateway, request, trace, used)
            async with asyncio.timeout(self._timeout_s):
                trail.given = True
                response = await self._client.send(built, stream=True)
                try:
                    if (why := _unusable(response)) is not None:
                        return NoReply(True, why, watch.ms)
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > REPLY_BYTES_MAX:
                            return NoReply(True, "the answer was too large", watch.ms)
                finally:
                    await response.aclose()
        except (_Paused, httpx.HTTPError, httpx.StreamError, OSError) as error:
            return _no_reply(error, trail, watch.ms, self._timeout_s)
        finally:
            await used.aclose()
        return _reply(response, bytes(body), watch.ms)

    async def close(self) -> None:
        """Close a caller's transport; nothing else is open between two exchanges."""
        await self._client.aclose()


def own_transport(proxy: Proxy | None = None) -> OwnTransport:
    """Make the blocking transport of ours. Raises ConfigurationError when the trusted certificates cannot be read."""
    return OwnTransport(_tls(), proxy)


def checked_timeout(timeout_s: float) -> float:
    """Seconds for one exchange, or InvalidInput."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise InvalidInput("timeout_s", f"must be more than 0 and at most {TIMEOUT_S_MAX:.0f} seconds")
    return float(timeout_s)


def _timeout(timeout_s: float) -> httpx.Timeout:
    # Connecting ends a little before the whole does: a failure to connect says more than a task that was cancelled.
    return httpx.Timeout(timeout_s, connect=min(CONNECT_S_MAX, timeout_s * 0.9))


def _tls() -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        raise ConfigurationError(
            f"the certificates at {certifi.where()} cannot be read: {error.strerror}. Nothing was sent."
        ) from None


def _build(
    client: httpx.Client | httpx.AsyncClient, gateway: Gateway, request: Request, trace: object, used: ExchangeSocket
) -> httpx.Request:
    return client.build_request(
        request.method,
        gateway.base_url + request.path,
        content=None if request.body is None else request.body.encode("ascii"),
        # A caller's transport keeps no connection either: what is left over on it would be the next request's answer.
        headers={**gateway.headers(request), "Connection": "close"},
        extensions={"trace": trace, EXTENSION: used},
    )


def _unusable(response: httpx.Response) -> str | None:
    """Why this is no answer, before its body is read."""
    if response.status_code < 200:
        return f"an interim answer ({response.status_code}) and none after it"
    if str(response.headers.get("content-encoding", "identity")).lower() != "identity":
        # It could be a bomb: a megabyte that decodes to a gigabyte.
        return "the answer is compressed, which was not asked for"
    return None


class _Trail:
    """How far one request came: by our own socket (None: the transport is a caller's), and by httpcore's trace events.

    Mocked transports leave no trail.
    """

    def __init__(self, age_s: Age, used: ExchangeSocket | None) -> None:
        self._age_s, self._used = age_s, used
        self.given = False  # to a transport, whoever's it is
        self._connecting = self._writing = False

    @property
    def nothing_left(self) -> bool:
        """Whether it is a fact that not a byte of the request has left."""
        return not self.given if self._used is None else not self._used.handed_over

    @property
    def stopped_before_writing(self) -> bool:
        return self._connecting and not self._writing

    def follow(self, event: str) -> None:
        if event == "connection.connect_tcp.started":
            self._connecting = True
        elif event == "http11.send_request_headers.started":
            self.check_age()  # again, at the first byte: connecting may have taken long
            self._writing = True

    def check_age(self) -> None:
        if self._age_s() > BEGUN_S_MAX:
            raise _Paused


def _no_reply(error: Exception, trail: _Trail, elapsed_ms: int, timeout_s: float) -> NoReply:
    if isinstance(error, _Paused):
        if trail.nothing_left:
            return NoReply(
                False, "not sent: this process was paused too long before the first byte", elapsed_ms, paused=True
            )
        return NoReply(True, "this process was paused too long while a transport of the caller was sending", elapsed_ms)
    if trail.nothing_left and (isinstance(error, _NOT_SENT) or trail.stopped_before_writing):
        return NoReply(
            False, f"not sent: no connection to the provider ({str(error) or type(error).__name__})", elapsed_ms
        )
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return NoReply(True, f"no whole answer within {timeout_s:g} s ({type(error).__name__})", elapsed_ms)
    return NoReply(True, f"the connection broke ({type(error).__name__})", elapsed_ms)


def _reply(response: httpx.Response, body: bytes, elapsed_ms: int) -> Reply:
    return Reply(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, body, elapsed_ms
    )


class _Watch:
    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def ms(self) -> int:
        return int((time.monotonic() - self._start) * 1000)
