"""The sandbox on a port: the official `stripe` client, concurrency, keep-alive, rude clients, closing, and silence."""

import json
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import stripe

from gateway_client.sandbox import Sandbox
from gateway_client.sandbox.server import SandboxServer
from tests.sandbox_kit import CONFIRMED


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def server(sandbox: Sandbox) -> Iterator[SandboxServer]:
    with sandbox.serve() as server:
        yield server


@pytest.fixture
def client(server: SandboxServer, sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=5, trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
def official(server: SandboxServer, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[stripe.StripeClient]:
    monkeypatch.setattr(stripe, "enable_telemetry", False)  # otherwise it writes a file in the user's home
    requests_client = stripe.RequestsClient(timeout=5)
    yield stripe.StripeClient(sandbox.api_key, base_addresses={"api": server.url}, http_client=requests_client)
    requests_client.close()  # type: ignore[no-untyped-call]


def wait_for_requests(sandbox: Sandbox, count: int) -> None:
    """Until so many have arrived; a request on another thread takes its moment."""
    deadline = time.monotonic() + 5
    while len(sandbox.requests) < count:
        assert time.monotonic() < deadline, "the request did not arrive"
        time.sleep(0.001)


def pay(official: stripe.StripeClient, key: str, method: str = "pm_card_visa") -> stripe.PaymentIntent:
    return official.v1.payment_intents.create(
        {
            "amount": 1999,
            "currency": "usd",
            "confirm": True,
            "payment_method": method,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"paycli_intent": key},
        },
        {"idempotency_key": key},
    )


def test_official_client_charges_once(official: stripe.StripeClient, sandbox: Sandbox) -> None:
    """The official client creates, is answered the same again, retrieves, lists page by page and reads the account."""
    intents = [pay(official, f"order_{number}") for number in range(12)]
    assert [intent.status for intent in intents] == ["succeeded"] * 12
    again = pay(official, "order_3")
    assert again.id == intents[3].id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    found = official.v1.payment_intents.retrieve(intents[0].id, {"expand": ["latest_charge"]})
    assert isinstance(found.latest_charge, stripe.Charge)
    assert found.latest_charge.metadata["paycli_intent"] == "order_0"
    listed = official.v1.charges.list({"limit": 5, "created": {"gte": 0}})
    assert [charge.payment_intent for charge in listed.auto_paging_iter()] == [intent.id for intent in intents[::-1]]
    newest = official.v1.payment_intents.list({"limit": 1}).data[0]
    before = official.v1.payment_intents.list({"ending_before": intents[0].id, "limit": 100})
    assert [before.data[0].id, len(before.data)] == [newest.id, 11]
    assert official.v1.accounts.retrieve_current().id == sandbox.account
    assert sandbox.succeeded().total() == 12


def test_official_client_meets_refusals(official: stripe.StripeClient, sandbox: Sandbox) -> None:
    """Declines, cancelled intents, mismatches, unknown ids and revoked keys arrive as the client's own exceptions."""
    with pytest.raises(stripe.CardError) as declined:
        pay(official, "declined", "pm_card_chargeDeclined")
    assert [declined.value.code, declined.value.http_status] == ["card_declined", 402]
    assert declined.value.error is not None
    assert declined.value.error.payment_intent is not None
    intent_id = declined.value.error.payment_intent.id
    assert official.v1.payment_intents.cancel(intent_id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
        official.v1.payment_intents.confirm(intent_id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.IdempotencyError):
        pay(official, "declined")
    with pytest.raises(stripe.InvalidRequestError, match="No such charge"):
        official.v1.charges.retrieve("ch_x")
    sandbox.fault("rate_limited_429")
    with pytest.raises(stripe.RateLimitError):
        pay(official, "other")
    sandbox.fault("lost_request")
    with pytest.raises(stripe.APIConnectionError):
        pay(official, "other")
    sandbox.revoke(sandbox.api_key)
    with pytest.raises(stripe.AuthenticationError):
        pay(official, "other")


def test_official_client_waits_out_a_key_in_use(
    server: SandboxServer, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client's retries, which obey `Stripe-Should-Retry`, get through a lost reply and a 409."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.002)
    http_client = stripe.RequestsClient(timeout=5)
    official = stripe.StripeClient(
        sandbox.api_key, base_addresses={"api": server.url}, http_client=http_client, max_network_retries=3
    )
    sandbox.fault("in_use_409")
    sandbox.fault("lost_reply")
    assert pay(official, "order_1").status == "succeeded"
    http_client.close()  # type: ignore[no-untyped-call]
    assert [record.fault for record in sandbox.requests] == ["in_use_409", "lost_reply", None]
    assert sandbox.succeeded() == {"order_1": 1}


def test_in_use_over_the_port(client: httpx.Client, sandbox: Sandbox) -> None:
    """While a slow request executes, the same key on another connection is answered 409; then both agree (F25)."""
    sandbox.slow_s = 60
    sandbox.fault("slow")
    headers = {"Idempotency-Key": "key_1"}
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.post, "/v1/payment_intents", data=CONFIRMED, headers=headers, timeout=0.2)
        wait_for_requests(sandbox, 1)
        assert client.post("/v1/payment_intents", data=CONFIRMED, headers=headers).status_code == 409
        with pytest.raises(httpx.ReadTimeout):
            slow.result(5)
    sandbox.clock.advance(60)
    replayed = client.post("/v1/payment_intents", data=CONFIRMED, headers=headers)
    assert [replayed.status_code, replayed.headers["Idempotent-Replayed"]] == [200, "true"]
    assert sandbox.succeeded() == {"order_42": 1}


def test_many_connections_at_once(client: httpx.Client, sandbox: Sandbox) -> None:
    """Sixty-four connections opened at once with one key make one charge, and each gets an answer."""
    barrier = threading.Barrier(64)

    def send() -> int:
        barrier.wait(10)
        return client.post("/v1/payment_intents", data=CONFIRMED, headers={"Idempotency-Key": "key_1"}).status_code

    with ThreadPoolExecutor(64) as pool:
        statuses = [future.result(20) for future in [pool.submit(send) for _ in range(64)]]
    assert set(statuses) <= {200, 409}
    assert sandbox.succeeded() == {"order_42": 1}


def test_keep_alive(server: SandboxServer) -> None:
    """One connection serves many requests, refusals included."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        reader = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(b"GET /v1/charges HTTP/1.1\r\nHost: sandbox\r\n\r\n")
            assert reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
            headers = dict(iter(lambda: reader.readline().decode().strip().partition(": ")[::2], ("", "")))
            assert json.loads(reader.read(int(headers["Content-Length"])))["error"]["type"] == "invalid_request_error"
        reader.close()


def test_half_a_request_is_never_executed(server: SandboxServer, sandbox: Sandbox, client: httpx.Client) -> None:
    """A client that dies in mid-body, sends garbage or vanishes before the answer does no harm (F04)."""
    head = (
        f"POST /v1/payment_intents HTTP/1.1\r\nAuthorization: Bearer {sandbox.api_key}\r\nContent-Length: 500\r\n\r\n"
    )
    for rude in (head.encode() + b"amount=1", b"\x16\x03\x01 garbage\r\n\r\n", b"GET /v1/charges HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(rude)
    assert client.get("/v1/charges").json()["data"] == []
    assert all(record.method == "GET" for record in sandbox.requests)


@pytest.mark.parametrize(
    ("headers", "status"),
    [("Content-Length: 2000000", b"400"), ("Content-Length: x", b"411"), ("Transfer-Encoding: chunked", b"411")],
)
def test_unbounded_bodies(server: SandboxServer, sandbox: Sandbox, headers: str, status: bytes) -> None:
    """A body that is too large, or of unknown length, is refused and not read to its end."""
    head = f"POST /v1/payment_intents HTTP/1.1\r\nAuthorization: Bearer {sandbox.api_key}\r\n{headers}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.encode() + b"a=" + b"x" * 1_000_000)
        assert connection.recv(12) == b"HTTP/1.1 " + status


def test_closing_is_prompt(sandbox: Sandbox) -> None:
    """Closing does not wait for idle clients or slow requests, frees the port, and may be repeated."""
    sandbox.slow_s = 60
    sandbox.fault("slow")
    server = sandbox.serve()
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with (
        httpx.Client(base_url=server.url, headers=headers, timeout=10, trust_env=False, verify=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.get("/v1/charges")
        slow = pool.submit(client.post, "/v1/payment_intents", data=CONFIRMED)
        wait_for_requests(sandbox, 2)
        began = time.monotonic()
        server.close()
        server.close()
        assert time.monotonic() - began < 20  # the slow one takes a minute
        with pytest.raises(httpx.TransportError):
            slow.result(5)
        with pytest.raises(httpx.ConnectError):
            client.get("/v1/charges")
    with sandbox.serve(port=server.port) as again:
        assert again.url == server.url


def test_forked_children_hold_nothing_open(sandbox: Sandbox) -> None:
    """A child that was forked while clients were connected keeps neither their connections nor the port alive."""
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    server = sandbox.serve()
    with httpx.Client(base_url=server.url, headers=headers, timeout=5, trust_env=False, verify=False) as client:
        client.get("/v1/charges")
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tried here
            child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # until the parent closes its end
            os._exit(0)
        try:
            sandbox.fault("lost_reply")
            with pytest.raises(httpx.ReadError):
                client.post("/v1/payment_intents", data=CONFIRMED)
            server.close()
            with sandbox.serve(port=server.port) as again:
                assert again.port == server.port
        finally:
            server.close()
            os.close(writer)
            os.close(reader)
            os.waitpid(child, 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "8.8.8.8", "::"])
def test_loopback_only(sandbox: Sandbox, host: str) -> None:
    """The sandbox does not listen where others could reach it."""
    with pytest.raises(ValueError, match="loopback"):
        sandbox.serve(host)


def test_silence(
    client: httpx.Client, sandbox: Sandbox, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is written to stdout or stderr, and the API key to no log, whatever goes wrong."""
    caplog.set_level(logging.DEBUG, logger="gateway_client")
    for fault in ("lost_reply", "cut_body"):
        sandbox.fault(fault)
        with pytest.raises(httpx.TransportError):
            client.post("/v1/payment_intents", data=CONFIRMED)
    client.get("/nothing")
    assert capfd.readouterr() == ("", "")
    assert sandbox.api_key not in caplog.text
