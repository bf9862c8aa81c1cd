"""One exchange through a CONNECT proxy, on real sockets: what reaches whom, and what "not sent" rests on then.

Not here: the URL of a proxy, the clients and the commands (`test_proxy.py`), exchanges without one (`test_wire.py`).
"""

import asyncio
import base64
import logging
import socket
import threading
import time
from typing import Any

import certifi
import pytest

from gateway_client import Stripe, sockets, wire
from gateway_client.exchange import unaged
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.proxy import ANSWER_BYTES_MAX, read_proxy
from gateway_client.wire import AsyncWire
from tests.connect_proxy import OPEN, says, tunnel
from tests.oracle_exchange import BOTH, POST, SLACK_S, TIMEOUT_S, Ages, Exchange, not_sent
from tests.oracle_peer import CERTIFICATE, Connection, Peer, Script, answer, full_house, serve
from tests.oracle_world import API_KEY

ANSWERED = b'{"id":"pi_1","object":"payment_intent","status":"succeeded"}'
PAGE = b"<html><h1>Blocked</h1></html>"
NOWHERE = "https://127.0.0.1:1"
WAIT_S_MAX = 5.0


@pytest.fixture(params=BOTH)
def exchange(request: pytest.FixtureRequest) -> Exchange:
    found: Exchange = request.param
    return found


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate of the peers, of 127.0.0.1, is among the trusted ones."""
    monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))


# It works ------------------------------------------------------------------------------------------------------------


def test_through_a_proxy(exchange: Exchange) -> None:
    """D10: each exchange has its own tunnel; the provider gets the request, the proxy only the name of the host."""
    with Peer(serve(answer(ANSWERED)), tls=True) as provider, Peer(tunnel()) as proxy:
        replies = exchange(provider.url, requests=2, timeout_s=5.0, proxy=proxy.url)
    place = f"127.0.0.1:{provider.port}".encode()
    assert [reply.body for reply in replies if isinstance(reply, Reply)] == [ANSWERED] * 2
    assert proxy.requests == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (place, place)] * 2
    assert len(provider.requests) == 2
    assert all(f"Authorization: Bearer {API_KEY}".encode() in request for request in provider.requests)
    assert not any(b"proxy" in request.lower() for request in provider.requests)


@pytest.mark.parametrize("opened", [OPEN, b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", b"HTTP/1.1 204\r\n\r\n"])
def test_words_that_open_a_tunnel(opened: bytes, exchange: Exchange) -> None:
    """D10: any 2xx opens the tunnel, with headers or without."""
    with Peer(serve(answer()), tls=True) as provider, Peer(tunnel(opened)) as proxy:
        (reply,) = exchange(provider.url, timeout_s=5.0, proxy=proxy.url)
    assert isinstance(reply, Reply)


def test_user_and_password_go_to_the_proxy_alone(exchange: Exchange) -> None:
    """D10: what stands before the @ is sent unescaped as Proxy-Authorization, and not to the provider."""
    with Peer(serve(answer()), tls=True) as provider, Peer(tunnel()) as proxy:
        url = proxy.url.replace("//", "//team:p%40ss%3A%C3%A9@")
        (reply,) = exchange(provider.url, timeout_s=5.0, proxy=url)
    expected = b"Proxy-Authorization: Basic " + base64.b64encode("team:p@ss:é".encode()) + b"\r\n"
    assert isinstance(reply, Reply)
    assert [request.count(expected) for request in proxy.requests] == [1]
    assert b"proxy-authorization" not in provider.requests[0].lower()


@pytest.mark.parametrize("named", [False, True], ids=["without", "with"])
def test_the_environment_names_no_proxy(named: bool, exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: HTTPS_PROXY and its like lead nothing anywhere, and NO_PROXY leads nothing past a proxy that is set."""
    with Peer(serve(answer()), tls=True) as provider, Peer(tunnel()) as proxy, Peer(tunnel()) as stranger:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, stranger.url)
            monkeypatch.setenv(name.lower(), stranger.url)
        if named:
            monkeypatch.setenv("NO_PROXY", "*")
            monkeypatch.setenv("no_proxy", "*")
        (reply,) = exchange(provider.url, timeout_s=5.0, proxy=proxy.url if named else None)
    assert isinstance(reply, Reply)
    assert (len(proxy.connections), len(stranger.connections)) == (int(named), 0)


def test_the_next_address_of_a_proxy(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2, D10: of a proxy's addresses one drops packets and one refuses: the third one is reached, in time."""
    real = socket.getaddrinfo
    with (
        Peer(serve(answer()), tls=True) as provider,
        Peer(tunnel()) as proxy,
        full_house("127.0.0.2", proxy.port),
    ):
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, proxy.port))
            for host in ("127.0.0.2", "127.0.0.3", "127.0.0.1")
        ]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: found if host in ("proxy", b"proxy") else real(host, *rest, **more),
        )
        (reply,) = exchange(provider.url, timeout_s=30.0, proxy=f"http://proxy:{proxy.port}")
    assert isinstance(reply, Reply)
    assert (len(provider.requests), reply.elapsed_ms < 9000) == (1, True)


# It opens no tunnel --------------------------------------------------------------------------------------------------

NO_TUNNEL: dict[str, tuple[bytes, str]] = {
    "403": (answer(PAGE, status=b"403 Forbidden"), "it refused the tunnel, HTTP 403"),
    "407": (
        answer(PAGE, b"Proxy-Authenticate: Basic", status=b"407 Who are you"),
        "it refused the tunnel, HTTP 407, it wants another user or password",
    ),
    "502": (answer(PAGE, status=b"502 Bad Gateway"), "it refused the tunnel, HTTP 502"),
    "503": (answer(PAGE, status=b"503 Service Unavailable"), "it refused the tunnel, HTTP 503"),
    "401 in the provider's form": (
        answer(b'{"error":{"type":"invalid_request_error"}}', status=b"401 Unauthorized"),
        "it refused the tunnel, HTTP 401",
    ),
    "302": (answer(b"", b"Location: http://127.0.0.1:1/", status=b"302 Found"), "it refused the tunnel, HTTP 302"),
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n", "it refused the tunnel, HTTP 100"),
    "200 with the provider's success": (answer(ANSWERED), "it said more than that the tunnel is open"),
    "200 with a page": (answer(PAGE), "it said more than that the tunnel is open"),
    "200 twice": (OPEN * 2, "it said more than that the tunnel is open"),
    "an endless head": (OPEN[:-2] + b"X: y\r\n" * ANSWER_BYTES_MAX, "it said more than that the tunnel is open"),
    "half a head": (OPEN[:-2], "it closed the connection"),
    "half a status": (b"HTTP/1.1 2", "it closed the connection"),
    "nothing": (b"", "it closed the connection"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "its answer is not HTTP"),
    "HTTP/2": (b"HTTP/2 200\r\n\r\n", "its answer is not HTTP"),
    "no status": (b"HTTP/1.1 2000 OK\r\n\r\n", "its answer is not HTTP"),
    "endless noise": (b"x" * 2 * ANSWER_BYTES_MAX, "its answer is not HTTP"),
}


@pytest.mark.parametrize("said", NO_TUNNEL)
def test_a_tunnel_that_is_not_opened_is_not_sent(said: str, exchange: Exchange) -> None:
    """D10: whatever a proxy says instead of opening the tunnel, nothing was sent, and it is nobody's answer."""
    words, why = NO_TUNNEL[said]
    with Peer(serve(answer()), tls=True) as provider, Peer(says(words)) as proxy:
        (reply,) = exchange(provider.url, timeout_s=5.0, proxy=proxy.url)
    assert not_sent(reply)
    assert isinstance(reply, NoReply)
    assert reply.reason == f"not sent: no connection to the provider (the proxy 127.0.0.1:{proxy.port}: {why})"
    assert (len(proxy.requests), provider.connections) == (1, [])


def test_a_proxy_that_resets_is_not_sent(exchange: Exchange) -> None:
    """D10: a proxy that resets the connection instead of answering: not sent, and nobody is asked again."""

    def resets(connection: Connection) -> None:
        connection.read_request()
        connection.reset()

    with Peer(resets) as proxy:
        (reply,) = exchange(NOWHERE, timeout_s=5.0, proxy=proxy.url)
    assert not_sent(reply)
    assert len(proxy.connections) == 1


def test_nothing_goes_past_a_proxy_that_is_down(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: a proxy that refuses connections or has no address: not sent, and the provider is not asked directly."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Peer(serve(answer()), tls=True) as provider:
        (refused,) = exchange(provider.url, timeout_s=5.0, proxy=f"http://127.0.0.1:{port}")

        def unknown(*arguments: Any, **options: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        (nameless,) = exchange(provider.url, timeout_s=5.0, proxy="http://proxy.example.invalid:3128")
    assert (not_sent(refused), not_sent(nameless), provider.connections) == (True, True, [])
    assert isinstance(nameless, NoReply)
    assert "(the proxy proxy.example.invalid:3128: " in nameless.reason


def silent(connection: Connection) -> None:
    connection.wait()


def dripping_head(connection: Connection) -> None:
    connection.read_request()
    connection.drip(b"HTTP/1.1 200 Connection established\r\n" + b"X: y\r\n" * 500)


def dripping_record(connection: Connection) -> None:
    """The beginning of a TLS record in the provider's place, a byte now and then."""
    connection.read_request()
    connection.send(OPEN)
    connection.drip(b"\x16\x03\x03\x3f\xff" + b"\x02" * 500)


SLOW: list[Script] = [silent, says(b"", then_waits=True), says(OPEN, then_waits=True), dripping_head, dripping_record]
SLOW_IDS = ["silent", "no answer", "no handshake", "dripping head", "dripping record"]


@pytest.mark.parametrize("script", SLOW, ids=SLOW_IDS)
def test_a_slow_proxy_ends_in_time(script: Script, exchange: Exchange) -> None:
    """D10: a proxy that says nothing, or a byte now and then, ends at timeout_s: not sent."""
    with Peer(script) as proxy:
        start = time.monotonic()
        (reply,) = exchange(NOWHERE, proxy=proxy.url)
        assert time.monotonic() - start < TIMEOUT_S + SLACK_S
    assert not_sent(reply)


@pytest.mark.parametrize("script", SLOW, ids=SLOW_IDS)
def test_a_deadline_of_the_exchange_alone(script: Script, exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: an exchange whose time ends before the tunnel is open was not sent, whichever clock ends it."""
    monkeypatch.setattr(wire, "connect_s", lambda _: 60.0)
    with Peer(script) as proxy:
        start = time.monotonic()
        (reply,) = exchange(NOWHERE, proxy=proxy.url)
        assert time.monotonic() - start < TIMEOUT_S + SLACK_S
    assert not_sent(reply)


# Within the tunnel ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage", [answer(ANSWERED), answer(PAGE, status=b"403 Forbidden"), b"\x15\x03\x03\x00\x02\x02\x28"]
)
def test_garbage_in_the_place_of_tls_is_not_sent(garbage: bytes, exchange: Exchange) -> None:
    """D10: a tunnel at whose end nobody speaks TLS is no connection to the provider: not sent, and no answer."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(OPEN)
        assert connection._read()  # the handshake begins
        connection.send(garbage)

    with Peer(script) as proxy:
        (reply,) = exchange(NOWHERE, timeout_s=5.0, proxy=proxy.url)
    assert not_sent(reply)
    assert API_KEY.encode() not in proxy.received


def test_the_certificate_must_be_of_the_provider(exchange: Exchange) -> None:
    """D10: a proxy that leads to another host, with a trusted certificate of that one, gets no byte of the request."""
    with Peer(serve(answer()), tls=True) as other, Peer(tunnel(to=("127.0.0.1", other.port))) as proxy:
        (reply,) = exchange("https://api.example.invalid", timeout_s=5.0, proxy=proxy.url)
    assert not_sent(reply)
    assert (len(proxy.requests), other.received) == (1, b"")


def test_the_certificate_must_be_trusted(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: a proxy that opens TLS with a certificate of its own gets no byte of the request."""
    monkeypatch.undo()  # the authorities of everybody, which have not signed the peer's
    with Peer(serve(answer()), tls=True) as impostor, Peer(tunnel(to=("127.0.0.1", impostor.port))) as proxy:
        (reply,) = exchange(impostor.url, timeout_s=5.0, proxy=proxy.url)
    assert not_sent(reply)
    assert (len(proxy.requests), impostor.received) == (1, b"")


def test_a_tunnel_cut_in_the_handshake_is_not_sent(exchange: Exchange) -> None:
    """D10: cut while the provider's certificate comes, not a byte of the request has left."""
    with Peer(serve(answer()), tls=True) as provider, Peer(tunnel(bytes_max=100)) as proxy:
        (reply,) = exchange(provider.url, timeout_s=5.0, proxy=proxy.url)
    assert not_sent(reply)
    assert provider.received == b""


def test_a_tunnel_cut_in_the_answer_is_unknown(exchange: Exchange) -> None:
    """D10: cut after the request has left, each exchange of a client is unknown, and none is sent again."""
    with Peer(serve(answer(b"z" * 500_000)), tls=True) as provider, Peer(tunnel(bytes_max=50_000)) as proxy:
        replies = exchange(provider.url, requests=2, timeout_s=5.0, proxy=proxy.url)
    assert [not_sent(reply) for reply in replies] == [False, False]
    assert (len(provider.requests), len(proxy.requests)) == (2, 2)


def test_a_failure_to_connect_after_a_byte_was_handed_over(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: what was handed to the socket in a tunnel counts as sent, even if the next error is one of connecting."""

    async def lies(*arguments: Any, **options: Any) -> Any:
        raise sockets.NotConnected("a lie")

    monkeypatch.setattr(sockets.Connection, "receive", lies)
    with Peer(serve(answer()), tls=True) as provider, Peer(tunnel()) as proxy:
        (reply,) = exchange(provider.url, timeout_s=5.0, proxy=proxy.url)
    assert not not_sent(reply)


def test_an_old_decision_does_not_enter_the_tunnel(exchange: Exchange) -> None:
    """D10: if opening the tunnel used up the age of a decision, the provider gets a handshake and not one byte more."""
    with Peer(serve(answer()), tls=True) as provider, Peer(tunnel()) as proxy:
        (late,) = exchange(provider.url, age_s=Ages(0.0, 10.1), timeout_s=5.0, proxy=proxy.url)
    assert isinstance(late, NoReply)
    assert (late.sent, late.paused, provider.received) == (False, True, b"")


# Its end, and what is told -------------------------------------------------------------------------------------------


def test_a_cancelled_task_closes_its_connection() -> None:
    """D10: a task that is cancelled while the proxy says nothing leaves no connection open."""
    is_there, is_closed = threading.Event(), threading.Event()

    def until_the_end(connection: Connection) -> None:
        connection.read_request()
        is_there.set()
        if connection.wait_for_end():
            is_closed.set()

    async def cancelled(url: str) -> None:
        client = AsyncWire(Stripe(API_KEY), 5.0, None, read_proxy(url, base_url=NOWHERE))
        task = asyncio.create_task(client.exchange(POST, unaged))
        assert await asyncio.to_thread(is_there.wait, WAIT_S_MAX)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(is_closed.wait, WAIT_S_MAX)
        await client.close()

    with Peer(until_the_end) as proxy:
        asyncio.run(cancelled(proxy.url))


def test_no_credential_and_no_word_of_the_proxy_is_told(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    """D10: neither a log at DEBUG nor the reason holds user, password, or what the proxy has said."""
    caplog.set_level(logging.DEBUG)
    user, password = "TeamOfTheProxy", "CanaryOfTheProxy"
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    reasons: list[str] = []
    for script in (tunnel(), says(answer(PAGE, status=b"403 Word-Of-The-Proxy"))):
        with Peer(serve(answer()), tls=True) as provider, Peer(script) as proxy:
            (reply,) = exchange(provider.url, timeout_s=5.0, proxy=proxy.url.replace("//", f"//{user}:{password}@"))
            assert encoded.encode() in proxy.received
            reasons.append(repr(reply))
    told = caplog.text + "".join(reasons)
    assert [word for word in (user, password, encoded[:20], "Blocked", "Word-Of-The-Proxy") if word in told] == []
