"""The connection of an exchange, on real sockets: it is its own, and it is closed with it. And what is no answer.

Not here: what proves that nothing was sent (`test_wire_not_sent.py`), what is sent and to whom (`test_wire.py`), what
breaks (`test_wire_unknown.py`), what an answer means.
"""

import asyncio
import itertools
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import certifi
import httpx
import pytest

from gateway_client import Stripe
from gateway_client.exchange import unaged
from gateway_client.gateways.base import NoReply, Reply, Request
from gateway_client.wire import AsyncWire, Wire
from tests.oracle_exchange import BOTH, GET, POST, Exchange, Plain, not_sent
from tests.oracle_peer import CERTIFICATE, Connection, Peer, Script, answer, serve
from tests.oracle_world import API_KEY

WAIT_S_MAX = 5.0
REQUESTS = [pytest.param(POST, id="send"), pytest.param(GET, id="question")]


@pytest.fixture(params=BOTH)
def exchange(request: pytest.FixtureRequest) -> Exchange:
    found: Exchange = request.param
    return found


def bodies(replies: list[Reply | NoReply]) -> list[bytes]:
    return [reply.body for reply in replies if isinstance(reply, Reply)]


def numbered() -> Callable[[], bytes]:
    """The answer to the first request of a peer, the second, …"""
    numbers = itertools.count(1)
    return lambda: answer(b"%d" % next(numbers))


# What is left over ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_an_answer_that_is_repeated_in_one_segment(
    tls: bool, request_: Request, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that says everything twice, in one segment: the next exchange reads its own answer, not the leftover."""
    monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))
    one = numbered()

    def twice(connection: Connection) -> None:
        while connection.read_request():
            connection.send(one() * 2)

    with Peer(twice, tls=tls) as peer:
        replies = exchange(peer.url, requests=2, request=request_, timeout_s=5.0)
    assert bodies(replies) == [b"1", b"2"]


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_answer_that_arrives_while_nothing_is_asked(request_: Request, exchange: Exchange) -> None:
    """A second answer comes when the first exchange is over: the next one reads its own."""
    one = numbered()
    is_over, is_left = threading.Event(), threading.Event()

    def late(connection: Connection) -> None:
        while connection.read_request():
            said = one()
            connection.send(said)
            is_over.wait(WAIT_S_MAX)
            try:
                connection.send(said)
            finally:
                is_left.set()

    def after_each() -> None:
        is_over.set()
        assert is_left.wait(WAIT_S_MAX)

    with Peer(late) as peer:
        replies = exchange(peer.url, requests=2, request=request_, timeout_s=5.0, after_each=after_each)
    assert bodies(replies) == [b"1", b"2"]


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_answer_that_arrives_after_the_next_request(request_: Request, exchange: Exchange) -> None:
    """The first answer comes once more when the next request is written: the next one reads its own all the same."""
    one = numbered()
    said: list[tuple[Connection, bytes]] = []

    def stale(connection: Connection) -> None:
        while connection.read_request():
            for earlier, before in said:
                with suppress(OSError):  # it is closed, as it should be
                    earlier.send(before)
            said.append((connection, one()))
            connection.send(said[-1][1])

    with Peer(stale) as peer:
        replies = exchange(peer.url, requests=2, request=request_, timeout_s=5.0)
    assert bodies(replies) == [b"1", b"2"]


def test_every_exchange_has_a_connection_of_its_own(exchange: Exchange) -> None:
    """Three exchanges, three connections, and the peer is told that each of them ends with its answer."""
    with Peer(serve(answer(), answer(), answer())) as peer:
        exchange(peer.url, requests=3, timeout_s=5.0)
    assert len(peer.connections) == 3
    assert [b"\r\nconnection: close\r\n" in head.lower() for head in peer.requests] == [True] * 3
    assert [head.lower().count(b"\r\nconnection:") for head in peer.requests] == [1] * 3


def test_a_transport_of_the_caller_is_told_to_keep_no_connection(exchange: Exchange) -> None:
    """A caller's HTTP/1.1 transport, too, opens a connection for each exchange: the request says so."""
    one = numbered()

    def twice(connection: Connection) -> None:
        while connection.read_request():
            connection.send(one() * 2)

    with Peer(twice) as peer:
        replies = exchange(peer.url, requests=2, transport=Plain(), timeout_s=5.0)
    assert bodies(replies) == [b"1", b"2"]


def silent(connection: Connection) -> None:
    connection.read_request()


def half_an_answer(connection: Connection) -> None:
    connection.read_request()
    connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":')


def no_http(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n")


def compressed(connection: Connection) -> None:
    connection.read_request()
    connection.send(answer(b"x" * 10_000, b"Content-Encoding: gzip"))


def another_protocol(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")


SCRIPTS = [serve(answer()), silent, half_an_answer, no_http, compressed, another_protocol]


@pytest.mark.parametrize("script", SCRIPTS, ids=["whole", "silent", "half", "no_http", "compressed", "101"])
def test_a_connection_ends_with_its_exchange(script: Script, exchange: Exchange) -> None:
    """However an exchange ends, its connection is closed then, and not first when the client is."""
    is_closed = threading.Event()

    def until_the_end(connection: Connection) -> None:
        script(connection)
        if connection.wait_for_end():
            is_closed.set()

    with Peer(until_the_end) as peer:
        exchange(peer.url, after_each=lambda: is_closed.wait(WAIT_S_MAX))
        assert is_closed.is_set()


# Cancelled tasks -----------------------------------------------------------------------------------------------------


def silent_hello(connection: Connection) -> None:
    """The beginning of a TLS handshake is read, and not answered."""
    connection._read()


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize(
    ("script", "scheme"),
    [(silent_hello, "https"), (silent, "http"), (half_an_answer, "http")],
    ids=["in_the_handshake", "before_the_answer", "in_the_answer"],
)
def test_a_cancelled_task_closes_its_connection(script: Script, scheme: str, times: int) -> None:
    """F12: a task that is cancelled, twice even, leaves no connection open, wherever the exchange was."""
    is_there, is_closed = threading.Event(), threading.Event()

    def until_the_end(connection: Connection) -> None:
        script(connection)
        is_there.set()
        if connection.wait_for_end():
            is_closed.set()

    async def cancelled(url: str) -> None:
        client = AsyncWire(Stripe(API_KEY, api_base=url), 5.0, None)
        task = asyncio.create_task(client.exchange(POST, unaged))
        assert await asyncio.to_thread(is_there.wait, WAIT_S_MAX)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(is_closed.wait, WAIT_S_MAX)
        await client.close()

    with Peer(until_the_end) as peer:
        asyncio.run(cancelled(peer.url.replace("http", scheme)))


def test_an_interrupt_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: Ctrl-C in a handshake leaves no connection open, though the interrupt's traceback still holds it."""
    is_closed = threading.Event()

    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    def until_the_end(connection: Connection) -> None:
        if connection.wait_for_end():
            is_closed.set()

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", interrupted)
    with Peer(until_the_end) as peer:
        client = Wire(Stripe(API_KEY, api_base=peer.url.replace("http", "https")), 5.0, None)
        with pytest.raises(KeyboardInterrupt) as _:
            client.exchange(POST, unaged)
        assert is_closed.wait(WAIT_S_MAX)
        client.close()


def test_one_client_in_two_event_loops() -> None:
    """No connection outlives its exchange, so a client may be used in one event loop after the other."""
    with Peer(serve(answer())) as peer:
        client = AsyncWire(Stripe(API_KEY, api_base=peer.url), 5.0, None)
        replies = [asyncio.run(client.exchange(POST, unaged)) for _ in range(2)]
    assert bodies(replies) == [b"{}", b"{}"]


# What is an answer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [100, 101, 103])
def test_an_interim_answer_is_not_the_answer(status: int, exchange: Exchange) -> None:
    """An interim answer and nothing after it is no answer, from our own transport and from a caller's."""

    def interim(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 %d Interim\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" % status)

    with Peer(interim) as peer:
        (ours,) = exchange(peer.url)
    (theirs,) = exchange("http://127.0.0.1:1", transport=httpx.MockTransport(lambda _: httpx.Response(status)))
    assert not not_sent(ours)
    assert not not_sent(theirs)


def test_an_aged_answer_is_passed_on(exchange: Exchange) -> None:
    """An answer from somebody's cache comes with its Age: what that means is the gateway's to judge."""
    with Peer(serve(answer(b"{}", b"Age: 120"))) as peer:
        (reply,) = exchange(peer.url, timeout_s=5.0)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.headers["age"]) == (200, "120")
