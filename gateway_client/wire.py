"""HTTP for the two drivers: one request out, one bounded reply or a plain statement of why there is none.

The only file that opens a socket. It never retries, never follows a redirect, reads no proxy settings, and bounds
the whole exchange in seconds and bytes. What a reply means is the gateway's to say.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import certifi
import httpcore
import httpx

from gateway_client.errors import ConfigurationError, InvalidInput
from gateway_client.gateways.base import Gateway, NoReply, Reply, Request

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

    def __init__(self, gateway: Gateway, timeout_s: float, transport: httpx.BaseTransport | None) -> None:
        self._gateway, self._timeout_s = gateway, checked_timeout(timeout_s)
        self._deadline = Deadline()
        self._client = httpx.Client(
            transport=DeadlineTransport(self._deadline) if transport is None else transport,
            follow_redirects=False,
            trust_env=False,
            timeout=_timeout(timeout_s),
        )

    def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request, unless its decision is too old at the first byte."""
        watch, trail = _Watch(), _Trail(age_s)
        self._deadline.at = time.monotonic() + self._timeout_s

        def trace(event: str, info: dict[str, Any]) -> None:
            trail.follow(event)

        try:
            trail.check_age()
            built = _build(self._client, self._gateway, request, trace)
            response = self._client.send(built, stream=True)
            try:
                if _compressed(response):
                    return NoReply(True, "the answer is compressed, which was not asked for", watch.ms)
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > REPLY_BYTES_MAX or time.monotonic() > self._deadline.at:
                        return NoReply(True, "the answer was too large or too slow", watch.ms)
            finally:
                response.close()
        except (_Paused, httpx.HTTPError, httpx.StreamError, OSError) as error:
            return _no_reply(error, trail, watch.ms, self._timeout_s)
        return _reply(response, bytes(body), watch.ms)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncWire:
    """HTTP on an asyncio loop, for `AsyncClient`."""

    def __init__(self, gateway: Gateway, timeout_s: float, transport: httpx.AsyncBaseTransport | None) -> None:
        self._gateway, self._timeout_s = gateway, checked_timeout(timeout_s)
        self._client = httpx.AsyncClient(
            transport=transport, verify=_tls(), follow_redirects=False, trust_env=False, timeout=_timeout(timeout_s)
        )

    async def exchange(self, request: Request, age_s: Age) -> Reply | NoReply:
        """Send one request, unless its decision is too old at the first byte."""
        watch, trail = _Watch(), _Trail(age_s)

        async def trace(event: str, info: dict[str, Any]) -> None:
            trail.follow(event)

        try:
            trail.check_age()
            built = _build(self._client, self._gateway, request, trace)
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.send(built, stream=True)
                try:
                    if _compressed(response):
                        return NoReply(True, "the answer is compressed, which was not asked for", watch.ms)
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > REPLY_BYTES_MAX:
                            return NoReply(True, "the answer was too large", watch.ms)
                finally:
                    await response.aclose()
        except (_Paused, httpx.HTTPError, httpx.StreamError, OSError) as error:
            return _no_reply(error, trail, watch.ms, self._timeout_s)
        return _reply(response, bytes(body), watch.ms)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def checked_timeout(timeout_s: float) -> float:
    """Seconds for one exchange, or InvalidInput."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise InvalidInput("timeout_s", f"must be more than 0 and at most {TIMEOUT_S_MAX:.0f} seconds")
    return float(timeout_s)


def _timeout(timeout_s: float) -> httpx.Timeout:
    # Connecting ends a little before the whole does: httpcore closes a socket after its own time-out, but not when the
    # task is cancelled.
    return httpx.Timeout(timeout_s, connect=min(CONNECT_S_MAX, timeout_s * 0.9))


def _tls() -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        raise ConfigurationError(
            f"the certificates at {certifi.where()} cannot be read: {error.strerror}. Nothing was sent."
        ) from None


def _build(
    client: httpx.Client | httpx.AsyncClient, gateway: Gateway, request: Request, trace: object
) -> httpx.Request:
    return client.build_request(
        request.method,
        gateway.base_url + request.path,
        content=None if request.body is None else request.body.encode("ascii"),
        headers=gateway.headers(request),
        extensions={"trace": trace},
    )


def _compressed(response: httpx.Response) -> bool:
    """A compressed answer could be a bomb: a megabyte that decodes to a gigabyte."""
    return str(response.headers.get("content-encoding", "identity")).lower() != "identity"


class _Trail:
    """How far httpcore came with one request, by its trace events. Mocked transports leave no trail."""

    def __init__(self, age_s: Age) -> None:
        self._age_s = age_s
        self._connecting = self._writing = False

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
        return NoReply(
            False, "not sent: this process was paused too long before the first byte", elapsed_ms, paused=True
        )
    if isinstance(error, _NOT_SENT) or trail.stopped_before_writing:
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


# A deadline for the whole exchange. httpx bounds each read; a server that sends a byte now and then would hold a
# blocking client for ever. (An asyncio timeout does this for the async client.)


class Deadline(threading.local):
    """When the exchange of this thread must be over, on the monotonic clock."""

    at: float = float("inf")

    def cap(self, timeout: float | None) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return left if timeout is None else min(left, timeout)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cap(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cap(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, self._deadline.cap(timeout)), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.SyncBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # One address after the other, within one time: `socket.create_connection` would give each of them all of it.
        end = time.monotonic() + self._deadline.cap(timeout)
        failure: Exception = httpcore.ConnectError(f"no address for {host}")
        for address in _addresses(host, port):
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                stream = super().connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return [str(address[4][0]) for address in found]


class DeadlineTransport(httpx.HTTPTransport):
    """A transport whose every wait ends at the deadline."""

    def __init__(self, deadline: Deadline) -> None:
        context = _tls()
        super().__init__(verify=context, trust_env=False, retries=0)
        # httpx has no argument for httpcore's network backend; a test holds this to the exchange's deadline.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            retries=0,
            network_backend=_DeadlineBackend(deadline),
        )
