"""Answers that break, never end or are too large, on real sockets: unknown, in time, and never sent again.

Not here: what is certainly not sent (`test_wire.py`), what is retried (the flow's tests).
"""

import gzip
import time
import tracemalloc
from functools import cache

import pytest

from gateway_client import wire
from gateway_client.gateways.base import Reply
from tests.oracle_exchange import BOTH, SLACK_S, TIMEOUT_S, Exchange, not_sent
from tests.oracle_peer import Connection, Peer, Script, answer, serve


@pytest.fixture(params=BOTH)
def exchange(request: pytest.FixtureRequest) -> Exchange:
    found: Exchange = request.param
    return found


def reset_after_request(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


def close_after_request(connection: Connection) -> None:
    connection.read_request()


def truncated(connection: Connection) -> None:
    connection.read_request()
    connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":')


def truncated_chunks(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


def no_http(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n")


def wrong_length(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}")


@pytest.mark.parametrize(
    "script", [reset_after_request, close_after_request, truncated, truncated_chunks, no_http, wrong_length]
)
def test_a_broken_answer_is_unknown_and_nothing_is_repeated(script: Script, exchange: Exchange) -> None:
    """F26, F30: after the request has left, whatever breaks is unknown, and the transport sends nothing again."""
    with Peer(script) as peer:
        (reply,) = exchange(peer.url)
    assert not not_sent(reply)
    assert (len(peer.requests), len(peer.connections)) == (1, 1)


def silent(connection: Connection) -> None:
    connection.read_request()
    connection.wait()


def slow_headers(connection: Connection) -> None:
    connection.read_request()
    connection.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 500)


def slow_body(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    connection.drip(b"z" * 500)


def endless_interim(connection: Connection) -> None:
    connection.read_request()
    connection.drip(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, 0.002)


@pytest.mark.parametrize("script", [silent, slow_headers, slow_body, endless_interim])
def test_every_exchange_ends_in_time(script: Script, exchange: Exchange) -> None:
    """F25, F33: silence and a byte now and then end at timeout_s, counted over the whole exchange: unknown."""
    with Peer(script) as peer:
        start = time.monotonic()
        (reply,) = exchange(peer.url)
        took_s = time.monotonic() - start
    assert not not_sent(reply)
    assert TIMEOUT_S * 0.9 < took_s < TIMEOUT_S + SLACK_S
    assert len(peer.requests) == 1


def test_silence_after_a_late_byte_ends_in_time(exchange: Exchange) -> None:
    """F33: a byte just before the end does not start the time again."""

    def late_byte(connection: Connection) -> None:
        connection.read_request()
        connection.peer.closing.wait(1.8)
        connection.send(b"H")
        connection.wait()

    with Peer(late_byte) as peer:
        start = time.monotonic()
        (reply,) = exchange(peer.url, timeout_s=2.0)
        assert time.monotonic() - start < 2.0 + 1.5  # started again, it would end after 3.8
    assert not not_sent(reply)


def test_a_deadline_counts_again_for_the_next_request(exchange: Exchange) -> None:
    """The next exchange has the whole time again: the deadline is the exchange's, not the client's."""

    def slow(connection: Connection) -> None:
        connection.read_request()
        connection.peer.closing.wait(TIMEOUT_S * 0.6)
        connection.send(answer())

    with Peer(slow) as peer:
        replies = exchange(peer.url, requests=2)
    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [200, 200]


def test_a_connection_closed_meanwhile_is_not_retried_by_the_transport(exchange: Exchange) -> None:
    """F30: an exchange that breaks after a good one is unknown; the peer sees two requests, not three."""

    def every_other(connection: Connection) -> None:
        connection.read_request()
        if len(connection.peer.requests) % 2:
            connection.send(answer())
        else:
            connection.reset()

    with Peer(every_other) as peer:
        first, second = exchange(peer.url, requests=2)
    assert isinstance(first, Reply)
    assert not not_sent(second)
    assert len(peer.requests) == 2


def test_a_huge_answer_is_cut_off(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """F36: more bytes than an answer can have are unknown, and are not read to their end."""
    monkeypatch.setattr(wire, "REPLY_BYTES_MAX", 100_000)
    written: list[int] = []

    def endless(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            connection.send(b"z" * 100_000)
            written.append(100_000)

    with Peer(endless) as peer:
        (reply,) = exchange(peer.url, timeout_s=5.0)
    assert not not_sent(reply)
    assert sum(written) < 50_000_000


@cache
def bomb() -> bytes:
    return gzip.compress(gzip.compress(b"z" * 80_000_000))


def test_a_compressed_bomb_stays_small(exchange: Exchange) -> None:
    """F36: nothing asks for compression, so a bomb of 80 MB in a kilobyte is not unpacked into memory."""
    with Peer(serve(answer(bomb(), b"Content-Encoding: gzip, gzip"))) as peer:
        tracemalloc.start()
        exchange(peer.url, timeout_s=5.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(bomb()) < 2_000
    assert most < 2 * wire.REPLY_BYTES_MAX


def test_interim_answers_are_passed_over(exchange: Exchange) -> None:
    """F34: 100 and 103 come before the answer; they are not the answer, and the body is not sent again."""
    with Peer(serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + answer(b"[]"))) as peer:
        (reply,) = exchange(peer.url, timeout_s=5.0)
    assert isinstance(reply, Reply)
    assert (reply.body, len(peer.requests)) == (b"[]", 1)
