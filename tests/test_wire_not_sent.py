"""What proves that a request was not sent: our own socket, and nothing else; and how a name's addresses share the time.

Not here: whose connection an exchange has (`test_wire_connections.py`), what is sent and to whom (`test_wire.py`).
"""

import socket
from typing import Any

import certifi
import httpx
import pytest
import respx

from gateway_client import sockets, wire
from gateway_client.gateways.base import NoReply, Reply
from tests.oracle_exchange import BOTH, Ages, Exchange, Plain, not_sent
from tests.oracle_peer import CERTIFICATE, Connection, Peer, answer, full_house, serve


@pytest.fixture(params=BOTH)
def exchange(request: pytest.FixtureRequest) -> Exchange:
    found: Exchange = request.param
    return found


class Raises(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A caller's transport that fails: what it did before is nobody's knowledge."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise self._error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise self._error


def dead_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def reset_after_request(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


def test_a_transport_that_tries_again_by_itself(exchange: Exchange) -> None:
    """A caller's transport delivers, tries again and then finds nobody: it was sent, whatever its last error says."""
    with Peer(reset_after_request) as peer:
        (reply,) = exchange(peer.url, transport=Plain(again=dead_url()), timeout_s=5.0)
    assert len(peer.requests) == 1
    assert not not_sent(reply)


def test_a_pause_in_a_transport_that_tries_again(exchange: Exchange) -> None:
    """A caller's transport delivers and tries again when the decision is too old: stopped, but not "not sent"."""
    with Peer(reset_after_request) as peer:
        (reply,) = exchange(peer.url, transport=Plain(again=peer.url), age_s=Ages(0.0, 0.0, 10.1), timeout_s=5.0)
    assert isinstance(reply, NoReply)
    assert (len(peer.requests), reply.sent, reply.paused) == (1, True, False)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.PoolTimeout("busy"),
        httpx.UnsupportedProtocol("ftp"),
        httpx.ReadTimeout("slow"),
        ConnectionRefusedError("refused"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_error_of_a_foreign_transport_is_proof(error: Exception, exchange: Exchange) -> None:
    """What a caller's transport raises says nothing about what it did: it counts as sent."""
    (reply,) = exchange("http://127.0.0.1:1", transport=Raises(error))
    assert not not_sent(reply)


def test_too_old_before_the_transport_is_asked(exchange: Exchange) -> None:
    """A decision that is too old is given to no transport, and that is proof with a caller's transport, too."""
    (reply,) = exchange("http://127.0.0.1:1", transport=Raises(AssertionError("it was asked")), age_s=Ages(10.1))
    assert isinstance(reply, NoReply)
    assert (reply.sent, reply.paused) == (False, True)


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout])
def test_a_mock_is_a_foreign_transport(error: Any, exchange: Exchange) -> None:
    """A router of respx is handed in as a transport: it answers, and what it raises is no proof, either."""
    router = respx.MockRouter()
    router.route().mock(side_effect=[error("mocked"), httpx.Response(200, json={})])
    transport = httpx.MockTransport(router.handler)
    failed, answered = exchange("https://api.example.invalid", requests=2, transport=transport)
    assert not not_sent(failed)
    assert isinstance(answered, Reply)


def test_a_mock_of_httpx_alone_answers_nothing(exchange: Exchange) -> None:
    """respx patches httpx, and our sockets are none of it: no answer of a mock that was not handed in is believed."""
    with respx.mock(assert_all_called=False) as router:
        route = router.route().mock(return_value=httpx.Response(200, json={}))
        (reply,) = exchange(dead_url(), timeout_s=5.0)
    assert not_sent(reply)
    assert not route.called


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_a_failure_to_connect_after_a_byte_was_handed_over(
    tls: bool, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What our own socket was handed counts as sent, even if the error that follows is one of connecting."""
    monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))

    async def lies(*arguments: Any, **options: Any) -> Any:
        raise sockets.NotConnected("a lie")

    monkeypatch.setattr(sockets.Connection, "receive", lies)
    with Peer(serve(answer()), tls=tls) as peer:
        (reply,) = exchange(peer.url, timeout_s=5.0)
    assert not not_sent(reply)


def test_a_handshake_that_outlasts_the_exchange(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange whose time ends in the handshake was not sent, whichever clock ends it."""
    monkeypatch.setattr(wire, "connect_s", lambda _: 60.0)
    with Peer(Connection.wait) as silent:
        (reply,) = exchange(silent.url.replace("http", "https"))
    assert not_sent(reply)


# Addresses -----------------------------------------------------------------------------------------------------------


def named(monkeypatch: pytest.MonkeyPatch, port: int, *hosts: str) -> str:
    """A URL whose host has these addresses, in this order."""
    real = socket.getaddrinfo
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: found if host in ("localhost", b"localhost") else real(host, *rest, **more),
    )
    return f"http://localhost:{port}"


@pytest.mark.parametrize("timeout_s", [1.5, 30.0], ids=["short", "as usual"])
def test_an_address_that_says_nothing_leaves_time_for_the_next(
    timeout_s: float, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2: of three addresses the first two drop packets: the third one is reached, and it alone is sent the request."""
    with (
        Peer(serve(answer())) as peer,
        full_house("127.0.0.2", peer.port),
        full_house("127.0.0.3", peer.port),
    ):
        url = named(monkeypatch, peer.port, "127.0.0.2", "127.0.0.3", "127.0.0.1")
        (reply,) = exchange(url, timeout_s=timeout_s)
    assert isinstance(reply, Reply)
    assert len(peer.requests) == 1
    assert reply.elapsed_ms < 9000  # a third of what connecting may take is not waited for any of them


def test_addresses_that_refuse_cost_no_waiting(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: an address that refuses makes way at once, also beside one that drops packets; one request is sent."""
    monkeypatch.setattr(sockets, "STAGGER_S", 60.0)
    with Peer(serve(answer())) as peer:
        hosts = [f"127.0.0.{number}" for number in range(4, 64)]
        (reply,) = exchange(named(monkeypatch, peer.port, *hosts, "127.0.0.1"), timeout_s=30.0)
    assert isinstance(reply, Reply)
    assert len(peer.requests) == 1
    assert reply.elapsed_ms < 6000  # of the ten seconds that connecting may take each would have its share


def test_no_address_answers(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: when all of them drop packets, that is "not sent", and told within the time of the exchange."""
    with full_house("127.0.0.2") as (_, port), full_house("127.0.0.3", port):
        (reply,) = exchange(named(monkeypatch, port, "127.0.0.2", "127.0.0.3"), timeout_s=1.0)
    assert isinstance(reply, NoReply)
    assert not_sent(reply)


def test_every_address_refuses(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: when all of them refuse, that is "not sent", and no time is waited for."""
    url = dead_url()
    (reply,) = exchange(named(monkeypatch, int(url.rpartition(":")[2]), "127.0.0.2", "127.0.0.1"), timeout_s=30.0)
    assert not_sent(reply)
    assert reply.elapsed_ms < 20_000


def test_families_take_turns() -> None:
    """D2: addresses are tried in the system's order, each once, but the families take turns."""
    hosts = ("::1", "::2", "::2", "::3", "127.0.0.1", "127.0.0.2")
    found = [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, 443)) for host in hosts]
    tried = [address[0] for _, address in sockets._in_turns([*found])]
    assert tried == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]
