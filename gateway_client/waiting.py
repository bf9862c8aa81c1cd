"""How a coroutine waits for addresses and sockets: on an event loop, or by blocking the thread.

What waits by a `Waiter` alone is written once for both. With `Blocking` it never suspends, so `finish` runs it to its
end without a loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Coroutine, Iterable, Mapping
from select import POLLIN, poll
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")
Address = tuple[int, Any]  # a family, and what `connect` takes


class Waiter(Protocol):
    """Wait for addresses and for sockets, either by blocking or on a loop."""

    async def addresses(self, host: str, port: int, end: float) -> list[Address]:
        """Return the addresses of a name in the system's order. Raises OSError."""
        ...

    async def ready(self, wanted: Mapping[socket.socket, int], end: float) -> list[socket.socket]:
        """Return which sockets can be read (POLLIN) or written (POLLOUT): none when `end` (monotonic) comes first."""
        ...


class Blocking:
    """Wait by blocking the thread."""

    async def addresses(self, host: str, port: int, end: float) -> list[Address]:
        return _found(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    async def ready(self, wanted: Mapping[socket.socket, int], end: float) -> list[socket.socket]:
        poller = poll()
        for one, event in wanted.items():
            poller.register(one, event)
        numbers = {number for number, _ in poller.poll(max(0.0, end - time.monotonic()) * 1000)}
        return [one for one in wanted if one.fileno() in numbers]


class OnLoop:
    """Wait on the running event loop."""

    async def addresses(self, host: str, port: int, end: float) -> list[Address]:
        if _is_address(host):  # nobody has to be asked, so no thread is needed
            return _found(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        async with asyncio.timeout(end - time.monotonic()):
            return _found(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))

    async def ready(self, wanted: Mapping[socket.socket, int], end: float) -> list[socket.socket]:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        found: dict[socket.socket, None] = {}

        def wake(one: socket.socket | None = None) -> None:
            if one is not None:
                found[one] = None
            if not woken.done():
                woken.set_result(None)

        timer = loop.call_later(max(0.0, end - time.monotonic()), wake)
        try:
            for one, event in wanted.items():  # by number: with a socket, selectors would write its repr at each turn
                (loop.add_reader if event == POLLIN else loop.add_writer)(one.fileno(), wake, one)
            await woken
        finally:  # before anybody closes a socket: the loop would go on with whatever has its number next
            timer.cancel()
            for one, event in wanted.items():
                (loop.remove_reader if event == POLLIN else loop.remove_writer)(one.fileno())
        return list(found)


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose waiter blocks, and which therefore never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    work.close()
    raise AssertionError("a blocking call has waited for an event loop")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _found(answers: Iterable[tuple[Any, ...]]) -> list[Address]:
    return [(family, address) for family, _, _, _, address in answers]
