"""The connection of one exchange, blocking and on asyncio: opened for it, closed with it, never used for another.

What was left over on a kept connection would be read as the answer to the next request: `docs/adr/0001-transport.md`.
A byte of a request leaves by `Connection.send` alone, which notes it first: nothing else proves that nothing was sent.
CONNECT to a proxy and the TLS handshake go below it: they are connecting, and their bytes are none of the request.
Not here: how it waits (`waiting.py`), HTTP (`http1.py`), what is asked (`wire.py`), a proxy's words (`proxy.py`).
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from select import POLLIN, POLLOUT
from typing import TypeVar
from urllib.parse import urlsplit

import certifi

from gateway_client.errors import ConfigurationError
from gateway_client.proxy import ANSWER_BYTES_MAX, Proxy, TunnelRefused, is_open
from gateway_client.waiting import Address, Blocking, Waiter, finish

T = TypeVar("T")

STAGGER_S = 0.25  # an address has so long before the next one is tried beside it: RFC 8305 recommends it


class NotConnected(Exception):
    """There is no connection to send a request by. The message says why, in the words of the machine or of OpenSSL."""


# Where to ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Name a server: host, port, and whether TLS is spoken."""

    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> str:
        """Return the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the server of a URL that was checked."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Origin(parts.hostname or "", parts.port or (443 if tls else 80), tls)


_contexts: dict[str, ssl.SSLContext] = {}  # by the file of trusted certificates: reading it takes 20 ms
os.register_at_fork(after_in_child=_contexts.clear)  # a thread of the parent's may hold a lock in one of them


def tls_context() -> ssl.SSLContext:
    """Return this process's TLS context. Raises ConfigurationError when the trusted certificates cannot be read."""
    trusted = certifi.where()
    context = _contexts.get(trusted)
    if context is None:
        try:
            context = ssl.create_default_context(cafile=trusted)
        except OSError as error:
            raise ConfigurationError(
                f"the certificates at {trusted} cannot be read: {error.strerror}. Nothing was sent."
            ) from None
        # Some Pythons (3.11.2) let OpenSSL 3 take an end that TLS did not say for the end: it may be a cut.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        context.set_alpn_protocols(["http/1.1"])
        context = _contexts.setdefault(trusted, context)
    return context


# The connection ------------------------------------------------------------------------------------------------------


class Connection:
    """Connect, send, receive and close, all of it until `end` (monotonic)."""

    def __init__(self, waiter: Waiter, end: float) -> None:
        self._waiter, self._end = waiter, end
        self._socket: socket.socket | None = None
        self.handed_over = False  # whether a byte of a request may have left

    async def open(self, origin: Origin, limit_s: float, proxy: Proxy | None = None) -> None:
        """Connect, through a proxy if there is one, and do the TLS handshake. Raises NotConnected."""
        end = min(self._end, time.monotonic() + limit_s)
        try:
            if proxy is None:
                await self._connect(origin.host, origin.port, end)
            else:
                await self._tunnel(proxy, origin, end)
            if origin.tls:
                await self._encrypt(origin.host, end)
        except (OSError, ValueError) as error:  # a name that no resolver takes is a UnicodeError
            raise NotConnected(str(error) or type(error).__name__) from None

    async def send(self, data: memoryview) -> None:
        """Send bytes of a request, in a form whose repr shows none: crash reporters send local variables.

        Raises OSError, which proves nothing once `handed_over` is set.
        """
        _check(self._end)
        self.handed_over = True  # before the first system call: a process may end in its midst
        await self._write(data, self._end)

    async def receive(self, bytes_max: int) -> bytes:
        """Return what has come, b"" when the peer has ended. Raises OSError."""
        return await self._read(bytes_max, self._end)

    def close(self) -> None:
        """Close it, however far it came."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()

    async def _connect(self, host: str, port: int, end: float) -> None:
        self._socket = await _first_to_connect(self._waiter, await self._waiter.addresses(host, port, end), end)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def _tunnel(self, proxy: Proxy, origin: Origin, end: float) -> None:
        try:
            await self._connect(proxy.host, proxy.port, end)
            await self._write(memoryview(proxy.connect_request(origin.host, origin.port)), end)
            answer = b""
            while not is_open(answer):
                piece = await self._read(ANSWER_BYTES_MAX - len(answer), end)
                if not piece:
                    raise TunnelRefused("it closed the connection")
                answer += piece
        except TimeoutError:
            raise NotConnected(f"the proxy {proxy.place} opened no tunnel in time") from None
        except (TunnelRefused, OSError, ValueError) as error:
            raise NotConnected(f"the proxy {proxy.place}: {str(error) or type(error).__name__}") from None

    async def _encrypt(self, host: str, end: float) -> None:
        assert self._socket is not None
        self._socket = encrypted = tls_context().wrap_socket(
            self._socket,
            server_hostname=host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,  # an end that TLS did not say may be a cut
        )
        await self._until_done(encrypted.do_handshake, POLLIN, end)

    async def _write(self, left: memoryview, end: float) -> None:
        assert self._socket is not None
        while left:
            left = left[await self._until_done(partial(self._socket.send, left), POLLOUT, end) :]

    async def _read(self, bytes_max: int, end: float) -> bytes:
        reader = self._socket
        assert reader is not None
        if not (isinstance(reader, ssl.SSLSocket) and reader.pending()):
            # Even if something is there: a peer that never stops must not keep a loop from its other tasks.
            await self._wait(POLLIN, end)
        return await self._until_done(partial(reader.recv, bytes_max), POLLIN, end)

    async def _until_done(self, act: Callable[[], T], event: int, end: float) -> T:
        """Do what a socket may not be ready for, until it is. Raises TimeoutError, and what it raises."""
        while True:
            _check(end)
            try:
                return act()
            except ssl.SSLWantReadError:
                wanted = POLLIN
            except ssl.SSLWantWriteError:
                wanted = POLLOUT
            except BlockingIOError:
                wanted = event
            await self._wait(wanted, end)

    async def _wait(self, event: int, end: float) -> None:
        assert self._socket is not None
        if not await self._waiter.ready({self._socket: event}, end):
            raise TimeoutError("no answer in time")


def tunnel_problem(proxy: Proxy, url: str, timeout_s: float) -> str | None:
    """Open a tunnel to the host of an https URL and close it; return why there is none, or None. Nothing is sent."""
    origin, end = origin_of(url), time.monotonic() + timeout_s
    connection = Connection(Blocking(), end)
    try:
        finish(connection._tunnel(proxy, origin, end))
    except NotConnected as why:
        return str(why)
    finally:
        connection.close()
    return None


def _check(end: float) -> None:
    if time.monotonic() >= end:
        raise TimeoutError("no answer in time")


# Addresses -----------------------------------------------------------------------------------------------------------


def _in_turns(found: list[Address]) -> list[Address]:
    """Return each address once, in the system's order but for the families, which take turns (RFC 8305, section 4)."""
    addresses = list(dict.fromkeys(found))
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    turns = (pair for pairs in itertools.zip_longest(first, others) for pair in pairs)
    return [address for address in turns if address is not None]


async def _first_to_connect(waiter: Waiter, found: list[Address], end: float) -> socket.socket:
    """Connect to whichever address answers first: each is tried soon after the one before it, or once that has failed.

    So one that drops packets takes nothing from the others (RFC 8305, section 5). Raises OSError.
    """
    waiting, tries = deque(_in_turns(found)), dict[socket.socket, int]()
    count, failure, next_at = len(waiting), "no address", 0.0
    pause = min(STAGGER_S, (end - time.monotonic()) / (count + 1))
    try:
        while waiting or tries:
            now = time.monotonic()
            if now >= end:
                raise TimeoutError(f"no address answered, {count} tried")
            if waiting and (now >= next_at or not tries):
                failure, next_at = _begin(waiting.popleft(), tries) or failure, now + pause
                continue
            for tried in await waiter.ready(tries, min(next_at, end) if waiting else end):
                del tries[tried]
                code = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return tried
                tried.close()
                failure, next_at = os.strerror(code), now
        raise OSError(failure)
    finally:
        for one in tries:
            one.close()


def _begin(address: Address, tries: dict[socket.socket, int]) -> str | None:
    """Begin to connect to an address; return why that failed at once, or None."""
    family, where = address
    try:
        begun = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a machine without that family
        return error.strerror
    begun.setblocking(False)
    code = begun.connect_ex(where)
    if code in (0, errno.EINPROGRESS):
        tries[begun] = POLLOUT
        return None
    begun.close()
    return os.strerror(code)
