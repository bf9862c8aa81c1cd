"""Alerts on their way to a receiver: what arrives, what an answer means, what is tried again, and that it all ends.

Not here: which addresses and secrets are refused, and what is never told (`test_webhook_secrets.py`).
"""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import stripe

from gateway_client import NotNow
from reconcile import webhook
from reconcile.webhook import DeliveryFailed, check_secret, deliver, signature
from tests.kit import START, FakeClock
from tests.oracle_peer import PEER_S_MAX, Connection, Peer, Script, answer, serve

SECRET = "whsec_CanaryOfTheCoalMine4242"
PATH = "/hooks/T0-CanaryInThePath?token=CanaryInTheQuery"
URL = "https://hooks.example.com" + PATH
LINES: list[dict[str, object]] = [
    {"code": "pending_too_old", "intent_id": "order_42", "age_h": 25.5},
    {"code": "naïve", "run": None},
]
TRIES = 4
TRY_S = 0.3
SLACK_S = 6.0  # a busy machine's, over four tries


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A try ends soon: these tests wait for it on real sockets."""
    monkeypatch.setattr(webhook, "TRY_S_MAX", TRY_S)


class Receiver:
    """Answers with these statuses in turn, the last one for ever, and keeps what arrived."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self._statuses, self._headers = list(statuses), headers or {}
        self.requests: list[httpx.Request] = []
        self.clock = FakeClock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return httpx.Response(status, headers=self._headers, text="IgnoreAllAlerts")

    def deliver(self, url: str = URL) -> None:
        deliver(url, SECRET, LINES, clock=self.clock, transport=httpx.MockTransport(self))

    def failure(self, url: str = URL) -> str:
        with pytest.raises(DeliveryFailed) as failed:
            self.deliver(url)
        return str(failed.value)


def failure_at(url: str, clock: FakeClock | None = None) -> DeliveryFailed:
    """What a delivery over real sockets ends with."""
    with pytest.raises(DeliveryFailed) as failed:
        deliver(url, SECRET, LINES, clock=clock or FakeClock())
    return failed.value


@contextmanager
def http_server(*statuses: int) -> Iterator[tuple[str, list[tuple[str, Message, bytes]]]]:
    """Python's own server on a port: its address, and the path, headers and body of each POST."""
    arrived: list[tuple[str, Message, bytes]] = []
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        timeout = PEER_S_MAX

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append((self.path, self.headers, body))
            self.send_response(left.pop(0))
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", arrived
        finally:
            server.shutdown()
            thread.join(PEER_S_MAX)


# What arrives ---------------------------------------------------------------------------------------------------------


def test_alerts_arrive_signed() -> None:
    """A receiver gets one POST of compact ASCII JSON, and Stripe's SDK accepts its signature over the raw body."""
    with http_server(200) as (base, arrived):
        deliver(base + PATH, SECRET, LINES, clock=FakeClock())
    ((path, headers, body),) = arrived
    sent = {"alerts": LINES, "cleared": [], "sent_at": "2026-11-20T12:00:00.000Z"}
    assert (path, headers["Content-Type"]) == (PATH, "application/json")
    assert body == json.dumps(sent, separators=(",", ":")).encode("ascii")
    assert stripe.WebhookSignature.verify_header(body, headers["Paycli-Signature"], SECRET)
    for other_body, other_secret in ((body + b" ", SECRET), (body, SECRET + "2")):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(other_body, headers["Paycli-Signature"], other_secret)


@pytest.mark.parametrize("secret", [SECRET, "sixteen_letters_", "schlüssel für 💳 und mehr"])
def test_the_signature_is_stripes(secret: str) -> None:
    """The header is what Stripe's SDK computes for the same body, secret and second."""
    body = b'{"alerts":[]}'
    expected = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, 1_800_000_000)
    assert signature(check_secret(secret), body, 1_800_000_000) == expected


def test_each_try_is_signed_anew() -> None:
    """Three tries: the same body and delivery id, and a signature of the second in which each was sent."""
    with http_server(503, 503, 200) as (base, arrived):
        clock = FakeClock()
        deliver(base, SECRET, LINES, clock=clock)
    start = int(START.timestamp())
    assert clock.slept_s == [0.5, 1.0]
    assert [headers["Paycli-Signature"].partition(",")[0] for _, headers, _ in arrived] == [
        f"t={start}",
        f"t={start}",
        f"t={start + 1}",
    ]
    for _, headers, body in arrived:
        assert stripe.WebhookSignature.verify_header(body, headers["Paycli-Signature"], SECRET)
    ((body, delivery),) = {(body, headers["Paycli-Delivery"]) for _, headers, body in arrived}
    assert (len(delivery), delivery) == (32, hashlib.sha256(body).hexdigest()[:32])


def test_a_long_list_arrives_whole() -> None:
    """A body of many pieces is one body, of the length that was announced."""
    lines: list[dict[str, object]] = [{"detail": "x" * 100, "number": number} for number in range(2_000)]
    with http_server(200) as (base, arrived):
        deliver(base, SECRET, lines, clock=FakeClock())
    assert json.loads(arrived[0][2])["alerts"] == lines


def test_what_is_no_json_is_an_error() -> None:
    """A number that JSON has not is never sent: no receiver could read it."""
    receiver = Receiver(200)
    with pytest.raises(ValueError, match="not JSON compliant"):
        deliver(URL, SECRET, [{"age_h": float("nan")}], clock=FakeClock(), transport=httpx.MockTransport(receiver))
    assert receiver.requests == []


# What an answer means -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    """One request, and it is delivered."""
    receiver = Receiver(status)
    receiver.deliver()
    assert (len(receiver.requests), receiver.clock.slept_s) == (1, [])


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """A busy or broken receiver is asked again half a second later."""
    receiver = Receiver(status, 204)
    receiver.deliver()
    assert (len(receiver.requests), receiver.clock.slept_s) == (2, [0.5])


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_at_most_four_tries(status: int) -> None:
    """The fourth try is the last: doubling waits between them, none after it, and an exception that says so."""
    receiver = Receiver(status)
    message = receiver.failure()
    assert (len(receiver.requests), receiver.clock.slept_s) == (TRIES, [0.5, 1.0, 2.0])
    assert message == (
        "the alerts count as not delivered to https://hooks.example.com: "
        f"HTTP {status} on the last of 4 tries. Look at the receiver, then run this again."
    )
    assert issubclass(DeliveryFailed, NotNow)  # exit code 3


@pytest.mark.parametrize("status", [101, 199, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 410, 422, 600])
def test_what_will_not_pass_fails_at_once(status: int) -> None:
    """Other answers would be the same again: one request, no wait."""
    receiver = Receiver(status)
    assert f"HTTP {status}" in receiver.failure()
    assert (len(receiver.requests), receiver.clock.slept_s) == (1, [])


def test_a_message_names_scheme_and_host_only() -> None:
    """Neither port nor path nor query; an IPv6 address as it is written in a URL."""
    assert "not delivered to https://[2001:db8::1]: HTTP 404, " in Receiver(404).failure(
        "https://[2001:db8::1]:8443/x?y"
    )


@pytest.mark.parametrize(
    ("asked", "slept_s"),
    [("7", 7.7), ("30", 33.0), ("0", 0.5), ("soon", 0.5), ("-9", 0.5), ("", 0.5), ("9e9", 0.5)],
)
def test_retry_after_is_the_least_wait(asked: str, slept_s: float) -> None:
    """Seconds up to 30 are waited, and a tenth more at most; what is no number of seconds changes nothing."""
    receiver = Receiver(429, 200, headers={"Retry-After": asked})
    receiver.deliver()
    assert receiver.clock.slept_s == [pytest.approx(slept_s)]


@pytest.mark.parametrize("asked", ["31", "86400", "9" * 400])
def test_a_longer_retry_after_is_not_waited(asked: str) -> None:
    """More than 30 seconds is another run's: no wait, no second request, and an exception."""
    receiver = Receiver(503, headers={"Retry-After": asked})
    assert "HTTP 503 on try 1, with a Retry-After of more than 30 s" in receiver.failure()
    assert (len(receiver.requests), receiver.clock.slept_s) == (1, [])


def test_a_redirect_is_not_followed() -> None:
    """The other address sees no connection, and the alerts are not delivered."""
    with Peer(serve(answer())) as other:
        location = b"Location: " + other.url.encode()
        with Peer(serve(answer(b"", location, status=b"307 Temporary Redirect"))) as peer:
            assert "HTTP 307, a redirect" in str(failure_at(peer.url))
        assert (len(peer.requests), len(other.connections)) == (1, 0)


# What breaks, and what never ends -------------------------------------------------------------------------------------


def reset(connection: Connection) -> None:
    connection.read_request()
    connection.reset()


def no_http(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"SSH-2.0-IgnoreAllAlerts\r\n")


def silent(connection: Connection) -> None:
    connection.read_request()
    connection.wait()


def slow_headers(connection: Connection) -> None:
    connection.read_request()
    connection.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 500, 0.02)


def slow_body(connection: Connection) -> None:
    connection.read_request()
    connection.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 500\r\n\r\n")
    connection.drip(b"z" * 500, 0.02)


@pytest.mark.parametrize("script", [reset, no_http, silent, slow_headers, slow_body])
def test_a_receiver_that_breaks_is_tried_again_in_bounded_time(script: Script, hasty: None) -> None:
    """Silence, a byte now and then, rubbish: each try ends in its time, and after the fourth there is an exception."""
    clock = FakeClock()
    with Peer(script) as peer:
        start = time.monotonic()
        message = str(failure_at(peer.url, clock))
        took_s = time.monotonic() - start
        assert len(peer.requests) == TRIES
    assert took_s < TRIES * TRY_S + SLACK_S
    assert "on the last of 4 tries" in message
    assert "IgnoreAllAlerts" not in message
    assert clock.slept_s == [0.5, 1.0, 2.0]


def test_a_slow_reader_is_bounded(hasty: None) -> None:
    """A receiver that takes the body in small sips uses up its time as any other."""

    def sip(connection: Connection) -> None:
        while connection.raw.recv(65536):
            connection.peer.closing.wait(0.005)

    with Peer(sip) as peer:
        start = time.monotonic()
        with pytest.raises(DeliveryFailed, match="no answer within"):
            deliver(peer.url, SECRET, [{"detail": "x" * 30_000_000}], clock=FakeClock())
        assert time.monotonic() - start < TRIES * TRY_S + SLACK_S


def test_a_2xx_counts_however_its_body_ends(hasty: None) -> None:
    """The status is the answer: a body that drips or breaks costs at most one try's time, and no second delivery."""

    def drips(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        connection.drip(b"z" * 500, 0.02)

    with Peer(drips) as peer:
        start = time.monotonic()
        deliver(peer.url, SECRET, LINES, clock=FakeClock())
        assert time.monotonic() - start < TRY_S + SLACK_S
        assert len(peer.requests) == 1


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    """Some 64 KB of an answer are read, then the connection is closed."""
    written: list[int] = []

    def endless(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            connection.send(b"z" * 100_000)
            written.append(100_000)

    with Peer(endless) as peer:
        deliver(peer.url, SECRET, LINES, clock=FakeClock())
    assert sum(written) < 50_000_000  # what the kernel buffers is not read


def test_a_closed_port_is_named() -> None:
    """Nobody listens: four tries, and the message says that there was no connection."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    clock = FakeClock()
    message = str(failure_at(f"http://127.0.0.1:{port}{PATH}", clock))
    assert message.startswith("the alerts count as not delivered to http://127.0.0.1: no connection (")
    assert "on the last of 4 tries. Check the address" in message
    assert clock.slept_s == [0.5, 1.0, 2.0]
