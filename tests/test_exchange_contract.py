"""The contract of the port `Exchange`, for every implementation: has a byte of the request left?

Each fault happens on a real socket of loopback. A peer keeps what arrived, so that what was told can be compared with
it. Our own sockets must say "not sent" whenever it is true; over a caller's transport it is not said once the request
was given away. Whatever happens, the exchange ends in time, is not repeated, and leaves no connection open.
Not here: whose answer it is, many at once, and what is interrupted (`test_exchange_crowds.py`).
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import pytest

from gateway_client import Stripe, sockets, wire
from gateway_client.exchange import AsyncExchange, Exchange
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.wire import AsyncWire, Wire
from tests.exchange_kit import KINDS, OURS, Kind, no_file_stays_open
from tests.oracle_exchange import GET, POST, SLACK_S, Ages
from tests.oracle_peer import CERTIFICATE, Connection, Peer, Script, answer, full_house, serve
from tests.oracle_world import API_KEY

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 1.0  # connecting on a busy machine must not use it up
BIG = replace(POST, body="a" * 8_000_000)  # more than the kernel takes at once

nothing_stays_open = pytest.fixture(autouse=True)(no_file_stays_open)


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def implementations(gateway: Stripe) -> tuple[Exchange, AsyncExchange]:
    """What a type checker is to see: both kinds are of the port."""
    return Wire(gateway, 1.0, None), AsyncWire(gateway, 1.0, None)


# Nothing has left ----------------------------------------------------------------------------------------------------


def test_refused(kind: Kind) -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (reply,) = kind.exchange(f"http://127.0.0.1:{port}", timeout_s=5.0)
    kind.told(reply, left=False)


def test_no_name(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the host does not resolve."""

    def unknown(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (reply,) = kind.exchange("https://api.example.invalid", timeout_s=5.0)
    kind.told(reply, left=False)


def test_no_answer_to_connecting(kind: Kind) -> None:
    """Packets are dropped."""
    with full_house() as (host, port):
        (reply,) = kind.exchange(f"http://{host}:{port}")
    kind.told(reply, left=False)


def test_no_trust(kind: Kind) -> None:
    """The peer's certificate is trusted by nobody."""
    with Peer(serve(answer()), tls=True) as peer:
        (reply,) = kind.exchange(peer.url, timeout_s=5.0)
    kind.told(reply, left=False)
    assert peer.received == b""


def hello_then_reset(connection: Connection) -> None:
    connection._read()
    connection.reset()


def hello_then_garbage(connection: Connection) -> None:
    connection._read()
    connection.send(answer())


def hello_then_silence(connection: Connection) -> None:
    connection._read()
    connection.wait()


@pytest.mark.parametrize("script", [hello_then_reset, hello_then_garbage, hello_then_silence])
def test_no_handshake(script: Script, kind: Kind) -> None:
    """What should speak TLS resets, says something else, or nothing: the only bytes that came are the handshake's."""
    with Peer(script) as peer:
        (reply,) = kind.exchange(peer.url.replace("http", "https"), timeout_s=TIMEOUT_S)
    kind.told(reply, left=False)
    assert API_KEY.encode() not in peer.received
    assert len(peer.connections) == 1


def test_paused_before_connecting(kind: Kind) -> None:
    """The process stood still before anything: that nothing was given away is known over any transport."""
    with Peer(serve(answer())) as peer:
        (reply,) = kind.exchange(peer.url, age_s=Ages(10.1))
    assert isinstance(reply, NoReply)
    assert (reply.sent, reply.paused, peer.connections) == (False, True, [])


def test_paused_while_connecting(kind: Kind) -> None:
    """The process stood still while it connected: not a byte leaves, which a caller's transport cannot prove."""
    with Peer(serve(answer())) as peer:
        (reply,) = kind.exchange(peer.url, age_s=Ages(0.0, 10.1), timeout_s=5.0)
    assert isinstance(reply, NoReply)
    assert (reply.sent, reply.paused) == (not kind.is_ours, kind.is_ours)
    assert peer.received == b""


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_time_that_is_over_at_the_first_byte(ours: Kind) -> None:
    """The time of an exchange ends between connecting and its first byte: not a byte leaves, and that is told."""

    def age_s() -> float:
        if looked:
            time.sleep(0.6)
        looked.append(True)
        return 0.0

    looked: list[bool] = []
    with Peer(serve(answer())) as peer:
        (reply,) = ours.exchange(peer.url, age_s=age_s, timeout_s=0.5)
    ours.told(reply, left=False)
    assert (len(looked), peer.received) == (2, b"")


STOPPED = """
import os, signal, sys, time
from gateway_client import wire
from tests.exchange_kit import KINDS
begun = time.monotonic()

def age_s():
    if not looked:
        looked.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)
        return 0.0
    return wire.BEGUN_S_MAX - 0.2 + time.monotonic() - begun

looked = []
kind = next(kind for kind in KINDS if str(kind) == sys.argv[1])
(reply,) = kind.exchange(sys.argv[2], age_s=age_s, timeout_s=20.0)
print(reply.sent, reply.paused)
"""


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_a_stopped_process(ours: Kind) -> None:
    """A process that a signal stops between its decision and the first byte sends nothing when it goes on."""
    with Peer(serve(answer())) as peer:
        command = [sys.executable, "-c", STOPPED, str(ours), peer.url]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            time.sleep(0.3)
            process.send_signal(signal.SIGCONT)
            told, _ = process.communicate(timeout=30)
    assert told.split() == ["False", "True"]
    assert peer.received == b""


# A byte may have left ------------------------------------------------------------------------------------------------


def cut_in_the_request(connection: Connection) -> None:
    connection.raw.recv(1000)
    connection.reset()


def sips(connection: Connection) -> None:
    while connection.raw.recv(1000):
        connection.peer.closing.wait(0.02)


def silent(connection: Connection) -> None:
    connection.read_request()
    connection.wait()


def hints_without_end(connection: Connection) -> None:
    connection.read_request()
    while not connection.peer.closing.is_set():
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def after_the_request(*pieces: bytes, drips: bool = False, resets: bool = False) -> Script:
    def script(connection: Connection) -> None:
        connection.read_request()
        for piece in pieces:
            connection.send(piece)
        if drips:
            connection.drip(b"z" * 500)
        if resets:
            connection.reset()

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
BROKEN: dict[str, Script] = {
    "cut in the request": cut_in_the_request,
    "the request is taken in sips": sips,
    "silence": silent,
    "closed": after_the_request(),
    "reset": after_the_request(resets=True),
    "cut in the status": after_the_request(b"HTTP/1.1 2"),
    "cut in the headers": after_the_request(b"HTTP/1.1 200 OK\r\nContent-"),
    "cut in the body": after_the_request(HEAD + b"{"),
    "reset in the body": after_the_request(HEAD + b"{", resets=True),
    "cut in the chunks": after_the_request(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    "drips in the headers": after_the_request(b"HTTP/1.1 200 OK\r\nX-Slow: ", drips=True),
    "drips in the body": after_the_request(HEAD, drips=True),
    "interim, and nothing after it": after_the_request(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "interim, without end": hints_without_end,
    "another protocol": after_the_request(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    "not HTTP": after_the_request(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTTP/2": after_the_request(b"HTTP/2 200\r\n\r\n"),
    "two lengths": after_the_request(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "two lengths in one": after_the_request(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}"),
    "a coded transfer": after_the_request(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "endless headers": after_the_request(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100_000),
    "compressed": after_the_request(answer(b"x" * 100, b"Content-Encoding: gzip")),
    "too large": after_the_request(answer(b"x" * 200_000)),
}


LARGE = ("cut in the request", "the request is taken in sips")
# httpx bounds each read alone, and nothing bounds a blocking transport of the caller's before it comes back.
UNBOUNDED = [("httpx-sync", "drips in the headers"), ("httpx-sync", "interim, without end")]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        pytest.param(kind, fault, id=f"{kind}-{fault}")
        for kind in KINDS
        for fault in BROKEN
        if (str(kind), fault) not in UNBOUNDED
    ],
)
def test_broken_once_it_may_have_left(fault: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks after the first byte was handed over is "sent", ends in time, and is not tried again."""
    monkeypatch.setattr(wire, "REPLY_BYTES_MAX", 100_000)
    with Peer(BROKEN[fault]) as peer:
        start = time.monotonic()
        (reply,) = kind.exchange(peer.url, request=BIG if fault in LARGE else POST, timeout_s=TIMEOUT_S)
        assert time.monotonic() - start < TIMEOUT_S + SLACK_S
    kind.told(reply, left=True)
    assert len(peer.connections) == 1


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_a_cut_in_tls_is_no_end(ours: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without a length that ends without TLS's own end may be cut: our sockets do not take it for whole."""
    monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))
    with Peer(after_the_request(b"HTTP/1.1 200 OK\r\n\r\n{"), tls=True) as peer:
        (reply,) = ours.exchange(peer.url, timeout_s=5.0)
    ours.told(reply, left=True)


@pytest.mark.parametrize("ours", OURS, ids=str)
@pytest.mark.parametrize("name", ["_write", "receive"])
def test_an_error_of_connecting_after_the_first_byte(name: str, ours: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed to the system counts as sent, whatever the error says that follows."""

    async def lies(*given: object) -> None:
        raise sockets.NotConnected("refused")

    monkeypatch.setattr(sockets.Connection, name, lies)
    with Peer(serve(answer())) as peer:
        (reply,) = ours.exchange(peer.url, timeout_s=5.0)
    ours.told(reply, left=True)


# An answer -----------------------------------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[bytes, int, bytes]] = {
    "plain": (answer(b"[1]"), 200, b"[1]"),
    "empty": (answer(b""), 200, b""),
    "interim first": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + answer(b"[2]"), 200, b"[2]"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[3\r\n1\r\n]\r\n0\r\n\r\n", 200, b"[3]"),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\n[4]", 200, b"[4]"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n[5]", 200, b"[5]"),
    "redirect": (answer(b"", b"Location: http://127.0.0.1:1/", status=b"302 Found"), 302, b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "error": (answer(b"no", status=b"500 Oops"), 500, b"no"),
    "said twice": (answer(b"[6]") * 2, 200, b"[6]"),
}


@pytest.mark.parametrize("said", ANSWERS)
def test_an_answer_is_passed_on_as_it_came(said: str, kind: Kind) -> None:
    """Status and body are the answer's, interim ones are passed over, a redirect is not followed: one connection."""
    words, status, body = ANSWERS[said]
    with Peer(serve(words)) as peer:
        (reply,) = kind.exchange(peer.url, timeout_s=5.0)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, len(peer.requests), len(peer.connections)) == (status, body, 1, 1)


def test_headers_are_joined(kind: Kind) -> None:
    """A header that comes twice is both: an echo that somebody has put beside the provider's is no proof."""
    with Peer(serve(answer(b"{}", b"Idempotency-Key: pc1_key", b"IDEMPOTENCY-KEY: pc1_other"))) as peer:
        (reply,) = kind.exchange(peer.url, timeout_s=5.0)
    assert isinstance(reply, Reply)
    assert reply.headers["idempotency-key"] == "pc1_key, pc1_other"


@pytest.mark.parametrize("request_", [POST, GET, replace(POST, body=None)], ids=["send", "question", "no body"])
def test_the_request_is_the_same_over_every_implementation(request_: Any, kind: Kind) -> None:
    """What a provider reads does not depend on whose transport carries it."""
    with Peer(serve(answer())) as peer:
        kind.exchange(peer.url, request=request_, timeout_s=5.0)
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == f"{request_.method} {request_.path} HTTP/1.1".encode()
    headers = {name.lower(): value for name, _, value in (line.decode().partition(": ") for line in lines[1:])}
    expected = {"host": f"127.0.0.1:{peer.port}", "connection": "close"}
    if request_.method == "POST":
        expected["content-length"] = str(len(request_.body or ""))
    gateway = Stripe(API_KEY)
    assert headers == expected | {name.lower(): value for name, value in gateway.headers(request_).items()}
    assert body.decode() == (request_.body or "")
