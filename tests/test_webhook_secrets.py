"""Who may receive alerts, and what nobody is ever told: the secret of the signature, and the path of the address.

Not here: what arrives, and what is tried again (`test_webhook.py`).
"""

import io
import logging
import traceback
from collections.abc import Iterator

import certifi
import httpx
import pytest

from gateway_client import ConfigurationError
from reconcile.webhook import DeliveryFailed, check_secret, check_url, deliver
from tests.kit import FakeClock
from tests.oracle_peer import CERTIFICATE, Connection, Peer, answer, serve

SECRET = "whsec_CanaryOfTheCoalMine4242"
PATH = "/hooks/T0-CanaryInThePath?token=CanaryInTheQuery"
BODY = b"IgnoreAllAlerts"
LINES = [{"code": "pending_too_old"}]


def failure_at(peer: Peer) -> DeliveryFailed:
    """What a delivery over real sockets ends with; this frame has no local variable that must not be told."""
    with pytest.raises(DeliveryFailed) as failed:
        deliver(peer.url + PATH, SECRET, LINES, clock=FakeClock())
    return failed.value


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError("a request was made")


# Addresses and secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/",
        "https://hooks.example.com:8443/T0/B1/x?a=b&c=%20d",
        "HTTPS://Hooks.Example.com/@team",
        "https://xn--bcher-kva.example/x",
        "https://[2001:db8::1]/x",
        "http://127.0.0.1:8080/x",
        "http://127.9.9.9/x",
        "http://localhost:8080/x?y",
        "http://[::1]:8080/x",
    ],
)
def test_a_usable_address_is_taken_as_it_is(url: str) -> None:
    """https to anybody, plain http to this machine, with or without a path and a query."""
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com/Canary",
        "//hooks.example.com/Canary",
        "ftp://hooks.example.com/Canary",
        "file:///Canary",
        "https://",
        "https:///Canary",
        "https:Canary",
        "https://user:Canary@hooks.example.com/",
        "https://Canary@hooks.example.com/",
        "https://@hooks.example.com/Canary",
        "https://hooks.example.com/#Canary",
        "https://hooks.example.com/Canary#",
        "https://hooks.example.com/a Canary",
        " https://hooks.example.com/Canary",
        "https://hooks.example.com/Canary\n",
        "https://hooks.example.com/\tCanary",
        "https://hooks.example.com/\x00Canary",
        "https://hooks.example.com/\x7fCanary",
        "https://hooks.example.com/Canäry",
        "https://bücher.example/Canary",
        "https://hooks.example.com\\@evil.example/Canary",
        "https://hooks.example.com\\Canary",
        "https://hooks.example.com:0/Canary",
        "https://hooks.example.com:65536/Canary",
        "https://hooks.example.com:Canary/",
        "https://[::1/Canary",
        "https://[Canary]/",
        "https://a..b/Canary",
        f"https://{'a' * 64}.example/Canary",
        "https://%65vil.example/Canary",
        "https://<Canary>/",
        "https://<[v1.ffff][~'/Canary",
        "http://hooks.example.com[::1]/Canary",
        "http://[::1]hooks.example.com/Canary",
        "http://hooks.example.com/Canary",
        "http://10.0.0.1:8080/Canary",
        "http://127.0.0.1.example.com/Canary",
        "http://127.1/Canary",
        "http://0.0.0.0/Canary",
        "http://[2001:db8::1]/Canary",
        "http://localhost.example/Canary",
        "http://127.0.0.1:80@hooks.example.com/Canary",
    ],
)
def test_an_unusable_address_is_refused_unrepeated(url: str) -> None:
    """A setting's error that says what an address looks like, and nothing of this one; nothing is sent."""
    with pytest.raises(ConfigurationError, match="the webhook's address") as refused:
        check_url(url)
    assert "canary" not in str(refused.value).lower()
    with pytest.raises(ConfigurationError, match="the webhook's address"):
        deliver(url, SECRET, LINES, clock=FakeClock(), transport=httpx.MockTransport(never))


def test_plain_http_to_another_machine_is_named() -> None:
    """Whoever forgot an s is told so."""
    with pytest.raises(ConfigurationError, match="plain http to another machine"):
        check_url("http://hooks.example.com/x")


@pytest.mark.parametrize("secret", ["sixteen_letters_", "x" * 500, "four words are ok"])
def test_a_usable_secret_is_taken(secret: str) -> None:
    """Sixteen printable characters will do."""
    assert check_secret(secret) == secret.encode()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "Canary",
        "fifteen_Canary_",
        "CanaryOfTheCoalMine\n",
        "CanaryOf\x00TheCoalMine",
        "CanaryOfTheCoal\udc80Mine",
        " CanaryOfTheCoalMine",
        "CanaryOfTheCoalMine ",
        " " * 20,
    ],
)
def test_a_short_secret_is_refused_unrepeated(secret: str) -> None:
    """A short or unprintable secret is refused by the name of its setting, and nothing is sent."""
    with pytest.raises(ConfigurationError, match="PAYCLI_WEBHOOK_SECRET must be at least 16") as refused:
        check_secret(secret)
    assert "canary" not in str(refused.value).lower()
    with pytest.raises(ConfigurationError, match="PAYCLI_WEBHOOK_SECRET"):
        deliver("https://h.example", secret, LINES, clock=FakeClock(), transport=httpx.MockTransport(never))


# To whom --------------------------------------------------------------------------------------------------------------


def test_a_wrong_certificate_sees_no_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouches for gets not one byte; the same one, trusted, gets the alerts."""
    with Peer(serve(answer()), tls=True) as peer:
        assert "CERTIFICATE_VERIFY_FAILED" in str(failure_at(peer))
        assert peer.received == b""
        monkeypatch.setattr(certifi, "where", lambda: str(CERTIFICATE))
        deliver(peer.url, SECRET, LINES, clock=FakeClock())
        assert len(peer.requests) == 1


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names sees no connection."""
    with Peer(serve(answer())) as proxy, Peer(serve(answer())) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        deliver(peer.url, SECRET, LINES, clock=FakeClock())
        assert (len(peer.requests), proxy.connections) == (1, [])


# What is never told ---------------------------------------------------------------------------------------------------


def no_http(connection: Connection) -> None:
    connection.read_request()
    connection.send(BODY + b"\r\n\r\n")


def everything_told(error: BaseException) -> str:
    """What a crash reporter may send: messages, reprs, and the local variables of every frame."""
    whole = io.StringIO()
    whole.write("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    whole.write(repr(error) + repr(error.args) + repr(vars(error)))
    return whole.getvalue()


def failures() -> Iterator[DeliveryFailed]:
    """A failure of each kind, over real sockets."""
    for status in (b"503 Busy", b"404 " + BODY, b"302 Found"):
        headers = (b"Location: https://" + BODY, b"X-Word: " + BODY)
        with Peer(serve(*[answer(BODY, *headers, status=status)] * 4)) as peer:
            yield failure_at(peer)
    with Peer(no_http) as peer:
        yield failure_at(peer)
    yield failure_at(peer)  # closed by now
    with Peer(serve(answer()), tls=True) as peer:
        yield failure_at(peer)


def test_a_failure_tells_neither_secret_nor_path_nor_answer(caplog: pytest.LogCaptureFixture) -> None:
    """No message, repr, local variable, cause or DEBUG line holds secret, path or query; no error holds an answer."""
    caplog.set_level(logging.DEBUG)
    with Peer(serve(answer())) as peer:
        deliver(peer.url + PATH, SECRET, LINES, clock=FakeClock())
    errors = list(failures())
    told = [everything_told(error) for error in errors]
    logged = [f"{record.getMessage()} {record.__dict__!r}" for record in caplog.records]
    assert len(told) == 6
    assert [text for text in told + logged if "Canary" in text] == []
    assert [text for text in told if BODY.decode() in text] == []
    assert [(error.__cause__, error.__context__) for error in errors] == [(None, None)] * 6
    assert {str(error).partition(": ")[0] for error in errors} == {
        "the alerts count as not delivered to http://127.0.0.1",
        "the alerts count as not delivered to https://127.0.0.1",
    }
