"""The connection of one exchange, blocking and on asyncio: opened for it, closed with it, never used for another.

Every exchange has a connection of its own, because what was left over on a kept one (buffered by HTTP or TLS, or still
to come) would be read as the answer to the next request, and a pool cannot see all of it: a handshake is the price.
The socket also knows whether a byte of the request was handed to it: nothing else proves that nothing was sent.
Through a proxy, CONNECT belongs to connecting, as TLS does: its bytes are none of the request.
Not here: what is asked and answered (`wire.py`), HTTP itself (httpcore, always HTTP/1.1), a proxy's words (`proxy.py`).
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, cast

import httpcore
import httpx
from httpcore._backends.sync import SyncStream

from gateway_client.proxy import ANSWER_BYTES_MAX, Proxy, TunnelRefused, is_open

Address = tuple[int, Any]  # a family, and what `connect` takes

STAGGER_S = 0.25  # an address has so long before the next one is tried beside it: RFC 8305 recommends it
EXTENSION = "exchange_socket"  # the name under which a request carries its ExchangeSocket to our transports


class ExchangeSocket:
    """Keep the deadline of one exchange, its open streams, and whether a byte of its request was handed to one.

    httpx bounds each read; a server that sends a byte now and then would hold a blocking client for ever, so every wait
    ends at the deadline. (An asyncio timeout does this for the async client.)
    """

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s
        self.handed_over = False
        self.blocking: list[httpcore.NetworkStream] = []
        self.asynchronous: list[httpcore.AsyncNetworkStream] = []

    @property
    def expired(self) -> bool:
        """Whether the exchange must be over."""
        return time.monotonic() > self._end

    def cap(self, timeout: float | None) -> float:
        """Return the seconds that one wait may take; raises httpcore.ReadTimeout when none are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return left if timeout is None else min(left, timeout)

    def close(self) -> None:
        """Close what the exchange has opened, whatever became of it."""
        for stream in self.blocking:
            with suppress(OSError):
                stream.close()

    async def aclose(self) -> None:
        """Close what the exchange has opened, whatever became of it.

        A task that is cancelled once more while it closes has closed: the first stream is the TCP connection itself,
        which anyio closes before it waits for anything.
        """
        for stream in self.asynchronous:
            with suppress(OSError):
                await stream.aclose()


class SocketStream(httpcore.NetworkStream):
    """Read and write within the deadline, and note what is handed over.

    The bytes of a TLS handshake are no bytes of the request and do not come this way: `start_tls` works below.
    """

    def __init__(self, stream: httpcore.NetworkStream, used: ExchangeSocket) -> None:
        self._stream, self._used = stream, used
        used.blocking.append(stream)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._used.cap(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        capped = self._used.cap(timeout)
        self._used.handed_over = True
        self._stream.write(buffer, capped)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return SocketStream(self._stream.start_tls(ssl_context, server_hostname, self._used.cap(timeout)), self._used)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class AsyncSocketStream(httpcore.AsyncNetworkStream):
    """The same on asyncio, without the deadline."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, used: ExchangeSocket) -> None:
        self._stream, self._used = stream, used
        used.asynchronous.append(stream)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._used.handed_over = True
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return AsyncSocketStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._used)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def __init__(self, used: ExchangeSocket, proxy: Proxy | None) -> None:
        self._used, self._proxy = used, proxy

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        end = time.monotonic() + self._used.cap(timeout)
        if self._proxy is None:
            return SocketStream(_connect(host, port, end), self._used)
        with _no_tunnel_is_no_connection(self._proxy):
            below = _connect(self._proxy.host, self._proxy.port, end)
            stream = SocketStream(below, self._used)  # closed with the exchange, whatever the proxy says
            below.write(self._proxy.connect_request(host, port), _left(end))
            answer = b""
            while not is_open(answer):
                answer += _received(below.read(ANSWER_BYTES_MAX - len(answer), _left(end)))
            return stream


@contextmanager
def _no_tunnel_is_no_connection(proxy: Proxy) -> Iterator[None]:
    """Turn what keeps a tunnel from being opened into ConnectError or ConnectTimeout, which name the proxy."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException):
        raise httpcore.ConnectTimeout(f"the proxy {proxy.place} opened no tunnel in time") from None
    except (TunnelRefused, httpcore.NetworkError) as error:
        raise httpcore.ConnectError(f"the proxy {proxy.place}: {str(error) or type(error).__name__}") from None


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise httpcore.ConnectTimeout("deadline")
    return left


def _received(piece: bytes) -> bytes:
    if not piece:
        raise TunnelRefused("it closed the connection")
    return piece


def tunnel_problem(proxy: Proxy, url: str, timeout_s: float) -> str | None:
    """Open a tunnel to the host of an https URL and close it; return why there is none, or None. Nothing is sent."""
    target = httpx.URL(url)
    with closing(ExchangeSocket(timeout_s)) as used:
        try:
            _Backend(used, proxy).connect_tcp(target.raw_host.decode("ascii"), target.port or 443)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            return str(error)
    return None


def _connect(host: str, port: int, end: float) -> SyncStream:
    won = _first_to_connect(_addresses(host, port), end)
    won.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return SyncStream(won)


def _addresses(host: str, port: int) -> list[Address]:
    """The addresses of a name, in the system's order but for the families, which take turns (RFC 8305, section 4)."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    turns = (pair for pairs in itertools.zip_longest(first, others) for pair in pairs)
    return [address for address in turns if address is not None]


def _first_to_connect(addresses: list[Address], end: float) -> socket.socket:
    """Connect to whichever address answers first: each is tried soon after the one before it, or once that has failed.

    So one that drops packets takes nothing from the others (RFC 8305, section 5). Raises ConnectError, ConnectTimeout.
    """
    failure = "no address"
    pause = min(STAGGER_S, (end - time.monotonic()) / (len(addresses) + 1))
    waiting, next_at = deque(addresses), 0.0
    with selectors.DefaultSelector() as tries:
        try:
            while waiting or tries.get_map():
                now = time.monotonic()
                if now >= end:
                    raise httpcore.ConnectTimeout(f"no address answered, {len(addresses)} tried")
                if waiting and (now >= next_at or not tries.get_map()):
                    failure, next_at = _begin(waiting.popleft(), tries) or failure, now + pause
                    continue
                for key, _ in tries.select((min(next_at, end) if waiting else end) - now):
                    tried = cast("socket.socket", key.fileobj)
                    tries.unregister(tried)
                    code = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code == 0:
                        return tried
                    tried.close()
                    failure, next_at = os.strerror(code), now
            raise httpcore.ConnectError(failure)
        finally:
            for key in list(tries.get_map().values()):
                cast("socket.socket", key.fileobj).close()


def _begin(address: Address, tries: selectors.BaseSelector) -> str | None:
    """Begin to connect to an address; why that failed at once, or None."""
    family, where = address
    try:
        begun = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a machine without that family
        return error.strerror
    begun.setblocking(False)
    code = begun.connect_ex(where)
    if code in (0, errno.EINPROGRESS):
        tries.register(begun, selectors.EVENT_WRITE)
        return None
    begun.close()
    return os.strerror(code)


class _AsyncBackend(httpcore.AnyIOBackend):
    """httpcore's own, which tries the addresses of a name side by side (RFC 8305)."""

    def __init__(self, used: ExchangeSocket, proxy: Proxy | None) -> None:
        self._used, self._proxy = used, proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        proxy = self._proxy
        if proxy is None:
            return AsyncSocketStream(await super().connect_tcp(host, port, timeout), self._used)
        with _no_tunnel_is_no_connection(proxy):
            async with asyncio.timeout(timeout):
                below = await super().connect_tcp(proxy.host, proxy.port)
                stream = AsyncSocketStream(below, self._used)
                await below.write(proxy.connect_request(host, port))
                answer = b""
                while not is_open(answer):
                    answer += _received(await below.read(ANSWER_BYTES_MAX - len(answer)))
                return stream


# httpx has no argument for httpcore's network backend, so its transport gets a pool of ours; a pool serves one request.


class OwnTransport(httpx.BaseTransport):
    """Open a connection for each request; the exchange, whose ExchangeSocket the request carries, closes it."""

    def __init__(self, context: ssl.SSLContext, proxy: Proxy | None = None) -> None:
        self._context, self._proxy = context, proxy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        one = httpx.HTTPTransport(verify=self._context, trust_env=False)
        one._pool = httpcore.ConnectionPool(
            ssl_context=self._context,
            max_connections=1,
            http1=True,
            http2=False,
            retries=0,
            network_backend=_Backend(request.extensions[EXTENSION], self._proxy),
        )
        return one.handle_request(request)


class AsyncOwnTransport(httpx.AsyncBaseTransport):
    """The same on asyncio. Nothing here belongs to one event loop."""

    def __init__(self, context: ssl.SSLContext, proxy: Proxy | None = None) -> None:
        self._context, self._proxy = context, proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        one = httpx.AsyncHTTPTransport(verify=self._context, trust_env=False)
        one._pool = httpcore.AsyncConnectionPool(
            ssl_context=self._context,
            max_connections=1,
            http1=True,
            http2=False,
            retries=0,
            network_backend=_AsyncBackend(request.extensions[EXTENSION], self._proxy),
        )
        return await one.handle_async_request(request)
