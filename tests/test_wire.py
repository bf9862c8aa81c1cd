"""One exchange on real sockets, blocking and on a loop: what is sent, to whom, and what certainly is not.

Not here: answers that break or never end (`test_wire_unknown.py`), whose connection it is (`test_wire_connections.py`),
what an answer means, what is retried.
"""

import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import certifi
import pytest

from gateway_client import ConfigurationError, InvalidInput, Stripe, sockets
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.retry import checked_timeout
from gateway_client.wire import AsyncWire, Wire
from tests.oracle_exchange import BODY, BOTH, SLACK_S, TIMEOUT_S, Ages, Exchange, not_sent
from tests.oracle_peer import CERTIFICATE, Connection, Peer, answer, full_house, serve
from tests.oracle_world import API_KEY


@pytest.fixture(params=BOTH)
def exchange(request: pytest.FixtureRequest) -> Exchange:
    found: Exchange = request.param
    return found


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's certificate is among the trusted ones."""
    monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))


def test_a_request_is_sent_once_and_its_answer_comes_back(exchange: Exchange) -> None:
    """The plain case: method, path, body and headers arrive, and the answer comes back with lower-case headers."""
    with Peer(serve(answer(b'{"id":"pi_1"}', b"Request-Id: req_1"))) as peer:
        (reply,) = exchange(peer.url)
    head, _, body = peer.received.partition(b"\r\n\r\n")
    lines = {line.lower() for line in head.decode().split("\r\n")}
    assert BODY.encode() == body
    assert lines >= {
        "post /v1/payment_intents http/1.1",
        f"authorization: bearer {API_KEY.lower()}",
        "idempotency-key: pc1_key",
        "stripe-version: 2026-10-28.endive",
        "content-type: application/x-www-form-urlencoded",
    }
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, reply.headers["request-id"]) == (200, b'{"id":"pi_1"}', "req_1")


# TLS and addresses ---------------------------------------------------------------------------------------------------


def test_plain_http_leaves_the_machine_never() -> None:
    """The key never travels in the clear: plain http is for loopback only."""
    for url in ("http://example.com", "http://10.0.0.1:8080", "http://127.0.0.1.example.com", "http://[2001:db8::1]"):
        with pytest.raises(ConfigurationError, match="PAYCLI_STRIPE_API_BASE uses plain http"):
            Stripe(API_KEY, api_base=url)
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://example.com"):
        assert Stripe(API_KEY, api_base=url).base_url == url


def test_a_wrong_certificate_is_refused_before_anything_is_sent(exchange: Exchange) -> None:
    """F23: a certificate that nobody vouches for is "not sent", never unknown, and not one byte is delivered."""
    with Peer(serve(answer()), tls=True) as peer:
        (reply,) = exchange(peer.url, timeout_s=5.0)
    assert not_sent(reply)
    assert peer.received == b""


def test_a_certificate_of_another_host_is_refused(exchange: Exchange, trusting: None) -> None:
    """F23: a trusted certificate must be of the host that was asked for; the same one for its own host is accepted."""
    with Peer(serve(answer()), tls=True) as peer:
        (right,) = exchange(peer.url, timeout_s=5.0)
        (wrong,) = exchange(peer.url.replace("127.0.0.1", "localhost"), timeout_s=5.0)
    assert isinstance(right, Reply)
    assert not_sent(wrong)
    assert len(peer.requests) == 1


def test_a_peer_that_prefers_http_2_is_spoken_to_in_http_1(exchange: Exchange, trusting: None) -> None:
    """HTTP/2 is never offered: on a shared connection our own socket could not say what has left of a request."""
    agreed: list[str | None] = []

    def noted(connection: Connection) -> None:
        assert isinstance(connection.raw, ssl.SSLSocket)
        agreed.append(connection.raw.selected_alpn_protocol())
        connection.read_request()
        connection.send(answer())

    with Peer(noted, tls=True, alpn=("h2", "http/1.1")) as peer:
        (reply,) = exchange(peer.url, timeout_s=5.0)
    assert isinstance(reply, Reply)
    assert agreed == ["http/1.1"]


def test_certificates_are_read_once_a_process(trusting: None) -> None:
    """All clients of a process share one TLS context; a forked child reads anew, for a lock may be held in a copy."""
    assert sockets.tls_context() is sockets.tls_context()
    pid = os.fork()
    if pid == 0:
        os._exit(len(sockets._contexts))
    assert os.waitpid(pid, 0)[1] == 0
    assert len(sockets._contexts) > 0


def test_no_certificate_is_read_for_plain_http(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over plain http, which is this machine's, nothing of TLS is loaded."""
    monkeypatch.setattr(sockets, "_contexts", {})
    with Peer(serve(answer())) as peer:
        exchange(peer.url, timeout_s=5.0)
    assert sockets._contexts == {}


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
def test_redirects_are_not_followed(status: bytes, exchange: Exchange) -> None:
    """F32: a redirect is an answer like any other; the other address sees no connection, and so no key."""
    with Peer(serve(answer())) as other:
        with Peer(
            serve(answer(b"", b"Location: " + other.url.encode() + b"/v1/payment_intents", status=status))
        ) as peer:
            (reply,) = exchange(peer.url)
        assert isinstance(reply, Reply)
        assert int(status[:3]) == reply.status
        assert (len(peer.requests), len(other.connections)) == (1, 0)


def test_nothing_of_the_environment_is_used(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies and .netrc of the environment see neither a request nor change the credential."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login thief password stolen\n")
    with Peer(serve(answer())) as proxy, Peer(serve(answer())) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        (reply,) = exchange(peer.url)
    assert isinstance(reply, Reply)
    assert f"Authorization: Bearer {API_KEY}".encode() in peer.received
    assert proxy.connections == []


# Not sent ------------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_not_sent(exchange: Exchange) -> None:
    """F22: nobody listens: not sent."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (reply,) = exchange(f"http://127.0.0.1:{port}")
    assert not_sent(reply)


def test_an_unknown_host_is_not_sent(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """F21, F30: a name that does not resolve: not sent, and the transport does not ask again by itself."""
    asked: list[object] = []

    def unknown(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (reply,) = exchange("https://api.example.invalid", timeout_s=5.0)
    assert not_sent(reply)
    assert len(asked) == 1


def test_a_connect_timeout_is_not_sent(exchange: Exchange) -> None:
    """F22: a host that accepts and then says nothing, not even TLS: not sent, within the deadline."""
    with Peer(Connection.wait) as silent:
        start = time.monotonic()
        (reply,) = exchange(silent.url.replace("http", "https"))
        assert time.monotonic() - start < TIMEOUT_S + SLACK_S
    assert not_sent(reply)


def test_a_host_with_many_dead_addresses_ends_in_time(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """F22: timeout_s counts over all addresses of a name, not for each of them; and it is not sent."""
    with full_house() as address:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 12
        real = socket.getaddrinfo
        name = "api.example.invalid"
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: found if host in (name, name.encode()) else real(host, *rest, **more),
        )
        start = time.monotonic()
        (reply,) = exchange("https://api.example.invalid")
        assert time.monotonic() - start < TIMEOUT_S + SLACK_S
    assert not_sent(reply)


def test_an_old_decision_is_not_sent(exchange: Exchange) -> None:
    """F11: a send that was begun more than 10 s ago is not sent, and no connection is made; at 10 s it still is."""
    with Peer(serve(answer())) as peer:
        (late,) = exchange(peer.url, age_s=Ages(10.1))
        assert isinstance(late, NoReply)
        assert (late.sent, late.paused, peer.connections) == (False, True, [])
        (just,) = exchange(peer.url, age_s=Ages(10.0))
    assert isinstance(just, Reply)


def test_an_old_decision_is_not_sent_when_connecting_took_long(exchange: Exchange) -> None:
    """F11: the age counts at the first byte: if connecting used it up, not one byte is sent."""
    with Peer(serve(answer())) as peer:
        (late,) = exchange(peer.url, age_s=Ages(0.0, 10.1))
    assert isinstance(late, NoReply)
    assert (late.sent, late.paused) == (False, True)
    assert (len(peer.connections), peer.received) == (1, b"")


@pytest.mark.parametrize("timeout_s", [0, -1, 600.1, float("nan"), float("inf"), True, "30", None])
def test_a_senseless_timeout_is_refused(timeout_s: Any) -> None:
    """F151: a timeout of none, nothing or for ever is refused, and the setting is named."""
    for kind in (Wire, AsyncWire):
        with pytest.raises(InvalidInput) as refused:
            kind(Stripe(API_KEY), timeout_s, None)
        assert refused.value.field == "timeout_s"


def test_sensible_timeouts_are_taken() -> None:
    """The limits themselves are allowed."""
    assert (checked_timeout(600), checked_timeout(0.1)) == (600.0, 0.1)


@pytest.mark.parametrize("kind", [Wire, AsyncWire])
def test_certificates_that_cannot_be_read(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F20: without the trusted certificates nothing can be sent, and the message says which file is meant."""
    monkeypatch.setattr(certifi, "where", lambda: str(tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match=r"certificates at .*none\.pem cannot be read: No such file"):
        kind(Stripe(API_KEY), TIMEOUT_S, None)
