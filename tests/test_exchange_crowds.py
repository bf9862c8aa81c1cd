"""The contract of the port `Exchange`: whose answer it is, many at once, and what ends before its time.

Not here: whether a byte has left (`test_exchange_contract.py`).
"""

import asyncio
import errno
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from select import POLLIN
from typing import Any

import httpx
import pytest

from gateway_client import Stripe, sockets, waiting
from gateway_client.exchange import unaged
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.wire import AsyncWire, Wire
from tests.exchange_kit import KINDS, Kind, no_file_stays_open
from tests.oracle_exchange import BOTH, GET, POST, SLACK_S, TIMEOUT_S, Exchange
from tests.oracle_peer import Connection, Peer, Script, answer
from tests.oracle_world import API_KEY

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
IN_FLIGHT = 64
PIECES = 200
WAIT_S_MAX = 5.0

nothing_stays_open = pytest.fixture(autouse=True)(no_file_stays_open)


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.mark.parametrize("request_", [POST, GET], ids=["send", "question"])
def test_a_leftover_is_no_answer(request_: Any, kind: Kind) -> None:
    """Each answer is said twice: the next exchange reads its own."""
    numbers = iter(range(1, 9))

    def twice(connection: Connection) -> None:
        while connection.read_request():
            connection.send(answer(b"%d" % next(numbers)) * 2)

    with Peer(twice) as peer:
        replies = kind.exchange(peer.url, requests=3, request=request_, timeout_s=5.0)
    assert [reply.body for reply in replies if isinstance(reply, Reply)] == [b"1", b"2", b"3"]


def test_every_one_of_many_gets_its_own_answer(kind: Kind) -> None:
    """64 in flight at once on one implementation: each reads the answer to its own request."""

    def echo(connection: Connection) -> None:
        head = connection.read_request()
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"idempotency-key"))
        connection.send(answer(b"{}", key))

    with Peer(echo) as peer:
        gateway = Stripe(API_KEY, api_base=peer.url)
        requests = [replace(POST, idempotency_key=f"pc1_{number}") for number in range(IN_FLIGHT)]
        replies = asyncio.run(crowd(gateway, requests, kind)) if kind.is_async else threads(gateway, requests, kind)
    told = [reply.headers["idempotency-key"] if isinstance(reply, Reply) else reply.reason for reply in replies]
    assert told == [request.idempotency_key for request in requests]


async def crowd(gateway: Stripe, requests: list[Any], kind: Kind) -> list[Reply | NoReply]:
    own = AsyncWire(gateway, 20.0, None if kind.is_ours else httpx.AsyncHTTPTransport())
    try:
        return list(await asyncio.gather(*(own.exchange(request, unaged) for request in requests)))
    finally:
        await own.close()


def threads(gateway: Stripe, requests: list[Any], kind: Kind) -> list[Reply | NoReply]:
    found: dict[int, Reply | NoReply] = {}
    with closing(Wire(gateway, 20.0, None if kind.is_ours else httpx.HTTPTransport())) as own:

        def one(number: int) -> None:
            found[number] = own.exchange(requests[number], unaged)

        each = [threading.Thread(target=one, args=(number,)) for number in range(len(requests))]
        for thread in each:
            thread.start()
        for thread in each:
            thread.join(20.0)
    return [found[number] for number in sorted(found)]


def in_the_handshake(connection: Connection) -> None:
    connection._read()
    connection.wait_for_end()


def before_the_answer(connection: Connection) -> None:
    connection.read_request()
    connection.wait_for_end()


def in_the_answer(connection: Connection) -> None:
    connection.read_request()
    connection.send(HEAD)
    connection.wait_for_end()


@pytest.mark.parametrize(
    ("script", "scheme"), [(in_the_handshake, "https"), (before_the_answer, "http"), (in_the_answer, "http")]
)
def test_what_is_interrupted_closes_its_connection(script: Script, scheme: str) -> None:
    """A task that is cancelled and a thread that is interrupted leave at once, and the connection is closed."""
    is_closed = threading.Event()

    def until_the_end(connection: Connection) -> None:
        script(connection)
        is_closed.set()

    for ends in (cancelled, interrupted):
        is_closed.clear()
        with Peer(until_the_end) as peer:
            ends(Stripe(API_KEY, api_base=peer.url.replace("http", scheme)))
            assert is_closed.wait(WAIT_S_MAX)


def cancelled(gateway: Stripe) -> None:
    async def run() -> None:
        task = asyncio.create_task(AsyncWire(gateway, 30.0, None).exchange(POST, unaged))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def interrupted(gateway: Stripe) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            Wire(gateway, 30.0, None).exchange(POST, unaged)
    finally:
        signal.signal(signal.SIGALRM, before)


class Held(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of a caller's transport that cannot be closed: that fails, or never comes back."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield b"[1]"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"[1]"

    def close(self) -> None:
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.close()
        await asyncio.sleep(60.0)


class Holds(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A caller's transport that answers by such a body, which is given up before it is read."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Held(self._error))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Held(self._error))


@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize("error", [httpx.CloseError("odd"), OSError("odd"), None], ids=["httpx", "system", "hangs"])
def test_an_answer_that_cannot_be_closed(error: Exception | None, exchange: Exchange) -> None:
    """A caller's transport that fails, or hangs, when its answer is closed changes nothing of what is told, in time."""
    start = time.monotonic()
    (reply,) = exchange("http://127.0.0.1:1", transport=Holds(error), timeout_s=TIMEOUT_S)
    assert isinstance(reply, NoReply)
    assert (reply.sent, "compressed" in reply.reason) == (True, True)
    assert time.monotonic() - start < TIMEOUT_S + SLACK_S


def test_a_loop_that_takes_no_more_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a loop refuses to watch a socket, it goes on watching none that was given with it."""

    async def run(first: socket.socket, second: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        watch = loop.add_reader

        def full(number: int, *given: Any) -> None:
            if number == second.fileno():
                raise OSError(errno.ENOSPC, "no watches left")
            watch(number, *given)

        monkeypatch.setattr(loop, "add_reader", full)
        with pytest.raises(OSError, match="no watches left"):
            await waiting.OnLoop().ready({first: POLLIN, second: POLLIN}, time.monotonic() + WAIT_S_MAX)
        return loop.remove_reader(first.fileno())

    near, far = socket.socketpair()
    with near, far:
        assert not asyncio.run(run(near, far))


def test_a_peer_that_never_stops_leaves_the_loop_to_others() -> None:
    """However much there is to read at once, another task of the loop has its turn before each piece."""

    async def run(near: socket.socket) -> int:
        connection = sockets.Connection(waiting.OnLoop(), time.monotonic() + WAIT_S_MAX)
        connection._socket = near
        turns = 0

        async def read() -> None:
            for _ in range(PIECES):
                assert await connection.receive(100) != b""

        task = asyncio.create_task(read())
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        await task
        return turns

    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(b"x" * 100 * PIECES)
        assert asyncio.run(run(near)) > PIECES
