"""The setting of a proxy: which URLs are taken, what clients and `paycli` do through one, and what is told of it.

Not here: one exchange, byte by byte (`test_wire_proxy.py`).
"""

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import certifi
import httpx
import pytest

from cli import checkup
from cli.settings import read_settings
from gateway_client import (
    AsyncClient,
    Charge,
    Client,
    InvalidInput,
    Money,
    PaymentIntent,
    RetryPolicy,
    Sandbox,
    State,
    Stripe,
)
from gateway_client.proxy import Proxy, read_proxy
from tests.cli_world import World
from tests.connect_proxy import relay, says, tunnel
from tests.doctor_kit import PASSWORD, doctor, doctor_shell, found, troubles
from tests.oracle_peer import CERTIFICATE, Connection, Peer, Script, answer
from tests.oracle_world import API_KEY

BASE = "https://api.example.com"
INTENT = PaymentIntent("order_1", Money(1999, "usd"), payment_method="pm_card_visa")
ONE_SEND = RetryPolicy(sends_max=1)
PAGE = b"<html><h1>Blocked</h1></html>"
RIGHT: dict[str, Proxy] = {
    "http://proxy.example.com:3128": Proxy("proxy.example.com", 3128, None),
    "http://my_proxy:1": Proxy("my_proxy", 1, None),
    "http://127.0.0.1:65535": Proxy("127.0.0.1", 65535, None),
    "http://[::1]:3128": Proxy("::1", 3128, None),
    "http://u@h:3128": Proxy("h", 3128, "Basic dTo="),
    "http://u:@h:3128": Proxy("h", 3128, "Basic dTo="),
    "http://u:p%3Aq@h:3128": Proxy("h", 3128, "Basic dTpwOnE="),
}
WRONG = (
    *("", "h:3128", "//h:3128", "http://h", "http://h:", "http://h:0", "http://h:65536", "http://h:x", "http://:3128"),
    *("http://h:3128/", "http://h:3128/p", "http://h:3128?q", "http://h:3128#f", " http://h:3128", "http://h:3128\n"),
    *("socks5://h:1080", "ftp://h:21", "HTTP://h:3128", "http://a..b:1", "http://" + "a" * 64 + ":1", "http://h,i:1"),
    *("http://[::1:3128", "http://::1:3128", "http://[1.2.3.4]:1", "http://[::1%25eth0]:1", "http://hé:1"),
    *("http://@h:1", "http://:p@h:1", "http://u:p@q@h:1", "http://u:p/q@h:1", "http://u:p%@h:1", "http://u:p%zz@h:1"),
    *("http://u%3Av:p@h:1", "http://u:p%0d%0aX-Y:z@h:1", "http://u%00:p@h:1", "http://u:p q@h:1", "http://u:é@h:1"),
)


@pytest.mark.parametrize("url", RIGHT)
def test_a_right_url(url: str) -> None:
    """D10: host and port, and a user with a password or without; the parts are read as they are."""
    assert read_proxy(url, base_url=BASE) == RIGHT[url]


@pytest.mark.parametrize("url", [*WRONG, 7, b"http://h:3128"], ids=repr)
def test_a_wrong_url(url: object) -> None:
    """D10: everything else is refused before anything is opened, and not repeated."""
    with pytest.raises(InvalidInput, match=r"^proxy: must be like http://proxy\.example\.com:3128 or .*%40\)$"):
        read_proxy(cast("Any", url), base_url=BASE)


@pytest.mark.parametrize("url", ["https://h:3128", "HTTPS://u:p@h:3128"])
def test_a_proxy_of_https_is_refused(url: str) -> None:
    """D10: TLS to the proxy itself is not supported, and the error says so."""
    with pytest.raises(InvalidInput, match=r"^proxy: must begin with http://: TLS to the proxy"):
        read_proxy(url, base_url=BASE)


def test_a_tunnel_to_an_address_of_six() -> None:
    """D10: an IPv6 address stands in brackets, that of the proxy and that of the provider."""
    proxy = read_proxy("http://[::1]:3128", base_url=BASE)
    assert proxy is not None
    assert proxy.place == "[::1]:3128"
    target = b"[2001:db8::1]:443"
    assert proxy.connect_request("2001:db8::1", 443) == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target)


def test_no_repr_shows_the_password(tmp_path: Path) -> None:
    """D10: neither the setting, nor what is made of it, nor a client shows who we are to the proxy."""
    url = f"http://TheUser:{PASSWORD}@h:3128"
    client = Client(Stripe(API_KEY), database=f"sqlite:///{tmp_path / 'x.db'}", proxy=url)
    shown = repr(read_proxy(url, base_url=BASE)) + repr(read_settings({"PAYCLI_PROXY": url})) + repr(vars(client))
    client.close()
    assert "host='h', port=3128" in shown
    assert [word for word in (PASSWORD, "TheUser", "Basic") if word in shown] == []


# The library ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate of the peers, of 127.0.0.1, is among the trusted ones."""
    monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))


@contextmanager
def provider_of(port: int) -> Iterator[Peer]:
    """Put TLS before a sandbox, since a proxy is for https."""

    def front(connection: Connection) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sandbox:
            relay(connection.raw, sandbox)

    with Peer(front, tls=True) as peer:
        yield peer


def charge_sync(base: str, database: str, proxy: str) -> Charge:
    with Client(
        Stripe(API_KEY, api_base=base), database=database, proxy=proxy, timeout_s=5.0, retry=ONE_SEND
    ) as client:
        return client.charge(INTENT)


def charge_async(base: str, database: str, proxy: str) -> Charge:
    async def run() -> Charge:
        client = AsyncClient(
            Stripe(API_KEY, api_base=base), database=database, proxy=proxy, timeout_s=5.0, retry=ONE_SEND
        )
        try:
            return await client.charge(INTENT)
        finally:
            await client.close()

    return asyncio.run(run())


REFUSALS: dict[str, Script] = {
    "407": says(answer(PAGE, status=b"407 Who are you")),
    "502": says(answer(PAGE, status=b"502 Bad Gateway")),
    "a page": says(answer(PAGE)),
    "closed": says(b""),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("charge", [charge_sync, charge_async], ids=["sync", "async"])
def test_a_send_that_the_proxy_refuses_stays_sendable(
    charge: Callable[[str, str, str], Charge], refusal: str, tmp_path: Path
) -> None:
    """D10: a proxy lets the question through and not the send: nothing was sent, the row is sent later, and once."""
    sandbox, numbers = Sandbox(), itertools.count()

    def first_alone(connection: Connection) -> None:
        (REFUSALS[refusal] if next(numbers) else tunnel())(connection)

    database = f"sqlite:///{tmp_path / 'x.db'}"
    with sandbox.serve() as server, provider_of(int(server.url.rpartition(":")[2])) as provider:
        with Peer(first_alone) as proxy:
            refused = charge(provider.url, database, proxy.url)
        posts = [request for request in sandbox.requests if request.method == "POST"]
        with Peer(tunnel()) as proxy:
            sent = charge(provider.url, database, proxy.url)
    assert (refused.state, refused.first_sent_at, posts) == (State.PREPARED, None, [])
    assert (sent.state, sandbox.succeeded()) == (State.SUCCEEDED, {"order_1": 1})


@pytest.mark.parametrize(
    "given",
    [
        {"proxy": "http://h:3128/path"},
        {"proxy": ""},
        {"proxy": "https://h:3128"},
        {"proxy": "http://h:3128", "gateway": Stripe(API_KEY, api_base="http://127.0.0.1:1")},
        {"proxy": "http://h:3128", "transport": httpx.MockTransport(lambda _: httpx.Response(200))},
    ],
    ids=["a path", "empty", "https", "plain http to the provider", "a transport"],
)
@pytest.mark.parametrize("made", [Client, AsyncClient])
def test_a_client_refuses_a_wrong_proxy(given: dict[str, Any], made: Any, tmp_path: Path) -> None:
    """D10: a wrong URL, a provider by plain http, or a transport beside it: refused before anything is written."""
    options = {"gateway": Stripe(API_KEY), "database": f"sqlite:///{tmp_path / 'x.db'}", **given}
    with pytest.raises(InvalidInput, match=r"^proxy: "):
        made(**options)
    assert list(tmp_path.iterdir()) == []


# The command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[World]:
    """A shell whose provider speaks TLS."""
    with doctor_shell(tmp_path) as made, provider_of(int(made.server.url.rpartition(":")[2])) as provider:
        made.env["PAYCLI_STRIPE_API_BASE"] = provider.url
        yield made


def with_password(proxy: Peer) -> str:
    return proxy.url.replace("//", f"//team:{PASSWORD}@")


def test_everything_goes_through_it(shell: World) -> None:
    """D10: `init`, `charge`, `resume`, `reconcile` and `doctor` ask through the proxy alone, in a tunnel for each."""
    with Peer(tunnel()) as proxy:
        shell.env["PAYCLI_PROXY"] = with_password(proxy)
        for command in (("init",), ("resume",), ("reconcile", "--date", "today")):
            before = len(shell.sandbox.requests), len(proxy.requests)
            if command[0] == "resume":
                assert shell.charge("order_1").code == 0
            assert shell.paycli(*command).code == 0
            asked, tunnels = len(shell.sandbox.requests) - before[0], len(proxy.requests) - before[1]
            assert (command, asked) == (command, tunnels)
            assert (command, tunnels > 0) == (command, True)
        before = len(proxy.requests), len(shell.sandbox.requests)
        told, place = found(doctor(shell)), f"127.0.0.1:{proxy.port}"
        asked_of = len(proxy.requests) - before[0], len(shell.sandbox.requests) - before[1]
    assert asked_of == (2, 1)  # a tunnel to try it, and one for the question
    assert f"PAYCLI_PROXY {place}" in told["settings"]["found"]
    assert told["proxy"]["result"] == told["account"]["result"] == "ok"
    assert told["proxy"]["found"].startswith(f"{place} opens tunnels to {shell.env['PAYCLI_STRIPE_API_BASE']}")
    assert shell.sandbox.succeeded() == {"order_1": 1}


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden", b"407 Who are you", b"502 Bad Gateway"])
def test_a_refusal_of_the_proxy_is_not_the_providers(status: bytes, shell: World) -> None:
    """D10: a proxy's refusal is "could not ask", exit 3: never a wrong key; the charge waits, and nothing was sent."""
    assert shell.paycli("init", STRIPE_API_KEY="").code == 0
    with Peer(says(answer(PAGE, status=status))) as proxy:
        shell.env["PAYCLI_PROXY"] = with_password(proxy)
        charged, told = shell.charge("order_1"), found(doctor(shell))
    why = f"the proxy 127.0.0.1:{proxy.port}: it refused the tunnel, HTTP {status[:3].decode()}"
    assert why in charged.err
    assert why in told["proxy"]["found"]
    assert (told["proxy"]["result"], told["account"]["result"]) == ("problem", "not checked")
    assert (charged.code, shell.sandbox.requests) == (3, ())


def test_doctor_and_a_proxy_that_is_down_or_silent(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10: `doctor` says that the proxy is not reached, in bounded time, asks nobody past it, and exits with 3."""
    assert shell.paycli("init", STRIPE_API_KEY="").code == 0
    monkeypatch.setattr(checkup, "CONNECT_S_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Peer(says(b"", then_waits=True)) as stalling:
        runs = [doctor(shell, PAYCLI_PROXY=f"http://127.0.0.1:{each}") for each in (port, stalling.port)]
    told = [found(run)["proxy"]["found"].partition(": ")[2] for run in runs]
    assert told[0] == f"the proxy 127.0.0.1:{port}: Connection refused"
    assert told[1] == f"the proxy 127.0.0.1:{stalling.port} opened no tunnel in time"
    assert [(run.code, troubles(run)["account"]) for run in runs] == [(3, "not checked")] * 2
    assert shell.sandbox.requests == ()


@pytest.mark.parametrize("wrong", [f"http://team:{PASSWORD}@proxy:3128/", f"https://team:{PASSWORD}@127.0.0.1:1"])
def test_a_wrong_setting(wrong: str, shell: World) -> None:
    """D10: a wrong URL is exit 2 in every command, unrepeated; nothing is written, and nobody is asked past it."""
    for command in (("init",), ("resume",), ("reconcile",), ("alerts",), ("worker", "--until-idle")):
        assert (command, shell.paycli(*command, PAYCLI_PROXY=wrong).code) == (command, 2)
    assert shell.charge("order_1", PAYCLI_PROXY=wrong).code == 2
    assert not shell.path.exists()
    assert shell.paycli("init").code == 0
    before = shell.sandbox.requests
    run = doctor(shell, PAYCLI_PROXY=wrong)
    assert (run.code, troubles(run)["proxy"], troubles(run)["account"]) == (2, "not checked", "not checked")
    assert run.objects[0]["found"].startswith("PAYCLI_PROXY must be")
    assert shell.sandbox.requests == before


def test_a_proxy_before_a_provider_by_plain_http(shell: World) -> None:
    """D10: plain http to this machine and a proxy do not go together: exit 2, nothing is written, nobody is asked."""
    shell.env["PAYCLI_STRIPE_API_BASE"] = shell.server.url
    with Peer(tunnel()) as proxy:
        shell.env["PAYCLI_PROXY"] = proxy.url
        runs = [shell.paycli("init"), shell.charge("order_1"), doctor(shell)]
    assert [run.code for run in runs] == [2, 2, 2]
    assert all("PAYCLI_PROXY is for https" in run.err for run in runs[:2])
    assert found(runs[2])["proxy"]["result"] == "problem"
    assert not shell.path.exists()
    assert (proxy.connections, shell.sandbox.requests) == ([], ())
