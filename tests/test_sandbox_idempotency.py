"""The sandbox's idempotency layer, in process: replay, mismatch, keys in use, pruning, and what is never saved."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest

from gateway_client.sandbox import Lost, Reply, Request, Sandbox
from tests.sandbox_kit import CONFIRMED, in_process

DAY_S = 86_400


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: 1_800_000_000.0)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


def create(client: httpx.Client, key: str = "key_1", **changes: str) -> httpx.Response:
    return client.post("/v1/payment_intents", data={**CONFIRMED, **changes}, headers={"Idempotency-Key": key})


def create_request(key: str, **changes: str) -> Request:
    headers = {"authorization": "Bearer sk_test_1", "idempotency-key": key}
    return Request("POST", "/v1/payment_intents", headers, urlencode({**CONFIRMED, **changes}).encode())


def test_replay(client: httpx.Client, sandbox: Sandbox) -> None:
    """The same request again gets the first answer with its headers, marked as replayed, and charges nothing."""
    first = create(client)
    sandbox.clock.advance(60)
    second = create(client)
    assert [first.status_code, first.content] == [second.status_code, second.content]
    assert sandbox.succeeded() == {"order_42": 1}
    own = ("request-id", "date", "idempotent-replayed")
    assert {name: value for name, value in first.headers.items() if name not in own} == {
        name: value for name, value in second.headers.items() if name not in own
    }
    assert [first.headers["Original-Request"], second.headers["Original-Request"]] == [first.headers["Request-Id"]] * 2
    assert second.headers["Request-Id"] != first.headers["Request-Id"]
    assert re.fullmatch(r"req_\w{14}", second.headers["Request-Id"])
    assert [first.headers.get("Idempotent-Replayed"), second.headers["Idempotent-Replayed"]] == [None, "true"]
    assert second.headers["Idempotency-Key"] == "key_1"
    assert [record.executed for record in sandbox.requests] == [True, False]


def test_dates_follow_the_sandbox_clock(client: httpx.Client, sandbox: Sandbox) -> None:
    """`Date` is the sandbox's time in the form of RFC 7231, in replays too; `Stripe-Version` is echoed."""
    create(client)
    sandbox.clock.advance(3 * 3600)
    response = create(client)
    assert response.headers["Date"] == "Fri, 15 Jan 2027 11:00:00 GMT"
    version = client.get("/v1/charges", headers={"Stripe-Version": "2024-06-20"}).headers["Stripe-Version"]
    assert version == "2024-06-20"


@pytest.mark.parametrize("fault", [None, "error_500", "error_500_charged", "error_500_later"])
def test_declines_and_errors_are_replayed(client: httpx.Client, sandbox: Sandbox, fault: str | None) -> None:
    """A 402 and a 500 are saved like a success: asking again changes nothing, even when the cause is gone."""
    if fault is not None:
        sandbox.fault(fault)
    first, second = (create(client, payment_method="pm_card_chargeDeclined") for _ in range(2))
    assert first.status_code == (402 if fault is None else 500)
    assert [first.status_code, first.content] == [second.status_code, second.content]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(sandbox.charges) == (1 if fault in (None, "error_500_charged") else 0)


def test_mismatch(client: httpx.Client, sandbox: Sandbox) -> None:
    """A key with other parameters, or on another endpoint, is a 400 `idempotency_error` that changes nothing."""
    intent_id = create(client).json()["id"]
    headers = {"Idempotency-Key": "key_1"}
    other_endpoint = client.post(f"/v1/payment_intents/{intent_id}/cancel", headers=headers)
    for response in (create(client, amount="2000"), create(client, description="x"), other_endpoint):
        error = response.json()["error"]
        assert [response.status_code, sorted(error)] == [400, ["message", "type"]]
        assert error["type"] == "idempotency_error"
        assert "Idempotent-Replayed" not in response.headers
    assert create(client).headers["Idempotent-Replayed"] == "true"
    assert sandbox.succeeded() == {"order_42": 1}


def test_parameters_are_compared_after_parsing(client: httpx.Client, sandbox: Sandbox) -> None:
    """The order of the parameters and the way they are escaped do not count."""
    create(client)
    turned = "&".join(reversed(urlencode(CONFIRMED).split("&"))).replace("%5B", "[").replace("%5D", "]")
    headers = {"Idempotency-Key": "key_1", "Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/v1/payment_intents", content=turned, headers=headers)
    assert response.headers["Idempotent-Replayed"] == "true"
    assert sandbox.succeeded() == {"order_42": 1}


def test_refusals_are_not_saved(client: httpx.Client, sandbox: Sandbox) -> None:
    """A 400, 401, 404 or 429 leaves the key free: corrected under the same key, the request is executed."""
    headers = {"Idempotency-Key": "key_1"}
    assert create(client, amount="0").status_code == 400
    assert client.post("/v1/payment_intents/pi_x/confirm", headers=headers).status_code == 404
    assert client.post("/v1/payment_intents", headers={**headers, "Authorization": ""}).status_code == 401
    for fault, status in (("rate_limited_429", 429), ("unavailable_503", 503), ("in_use_409", 409)):
        sandbox.fault(fault)
        assert create(client).status_code == status
    assert create(client).status_code == 200
    assert sandbox.succeeded() == {"order_42": 1}


def test_in_use_while_it_executes(sandbox: Sandbox) -> None:
    """While a slow request executes, its key is answered 409 with `Stripe-Should-Retry`; afterwards it is replayed."""
    sandbox.fault("slow")
    slow = sandbox.begin(create_request("key_1"))
    assert [slow.wait_s, sandbox.charges] == [1.0, ()]
    meanwhile = sandbox.finish(sandbox.begin(create_request("key_1")))
    assert isinstance(meanwhile, Reply)
    assert [meanwhile.status, b"idempotency_key_in_use" in meanwhile.body] == [409, True]
    assert dict(meanwhile.headers)["Stripe-Should-Retry"] == "true"
    other = sandbox.finish(sandbox.begin(create_request("key_1", amount="5")))
    assert isinstance(other, Reply)
    assert other.status == 400
    first = sandbox.finish(slow)
    assert first == sandbox.finish(slow)
    again = sandbox.finish(sandbox.begin(create_request("key_1")))
    assert isinstance(first, Reply)
    assert isinstance(again, Reply)
    assert [first.status, first.body] == [again.status, again.body]
    assert dict(again.headers)["Idempotent-Replayed"] == "true"
    assert [record.status for record in sandbox.requests] == [200, 409, 400, 200]
    assert sandbox.succeeded() == {"order_42": 1}


def test_slow_executes_without_anybody_waiting(sandbox: Sandbox) -> None:
    """A slow request whose client gave up executes all the same, at its own time; a key in use is never pruned."""
    sandbox.slow_s = 2 * DAY_S
    sandbox.fault("slow")
    sandbox.begin(create_request("key_1"))
    sandbox.clock.advance(1.5 * DAY_S)
    meanwhile = sandbox.finish(sandbox.begin(create_request("key_1")))
    assert isinstance(meanwhile, Reply)
    assert meanwhile.status == 409
    sandbox.clock.advance(DAY_S)
    assert [charge["created"] for charge in sandbox.charges] == [1_800_000_000 + 2 * DAY_S]


def test_what_is_due_happens_as_time_passes() -> None:
    """Nobody needs to advance the clock: what became due by itself has happened whenever somebody looks."""
    now = [1_800_000_000.0]
    sandbox = Sandbox(time=lambda: now[0])
    sandbox.fault("late", times=2)
    for key in ("key_1", "key_2"):
        assert sandbox.finish(sandbox.begin(create_request(key))) == Lost()
    now[0] += sandbox.late_s
    replay = sandbox.finish(sandbox.begin(create_request("key_1")))
    assert isinstance(replay, Reply)
    assert dict(replay.headers)["Idempotent-Replayed"] == "true"
    assert len(sandbox.charges) == 2


def test_pruning(client: httpx.Client, sandbox: Sandbox) -> None:
    """A key is remembered for 24 h from its first request, replays included; then it is a new request and charges."""
    first = create(client)
    sandbox.clock.advance(DAY_S - 1)
    assert create(client).headers["Idempotent-Replayed"] == "true"
    sandbox.clock.advance(1)
    second = create(client, amount="5")
    assert [second.status_code, second.headers.get("Idempotent-Replayed")] == [200, None]
    assert second.json()["id"] != first.json()["id"]
    assert sandbox.succeeded() == {"order_42": 2}


def test_key_life_can_be_shortened(client: httpx.Client, sandbox: Sandbox) -> None:
    """A provider that prunes early can be played (F48)."""
    sandbox.key_life_s = 60
    for _ in range(2):
        create(client)
        sandbox.clock.advance(60)
    assert sandbox.succeeded() == {"order_42": 2}


def test_without_a_key(client: httpx.Client, sandbox: Sandbox) -> None:
    """Without a key, or with an empty one, each request charges; a GET ignores the key."""
    client.post("/v1/payment_intents", data=CONFIRMED)
    create(client, key="")
    assert sandbox.succeeded() == {"order_42": 2}
    for _ in range(2):
        response = client.get("/v1/charges", headers={"Idempotency-Key": "key_1"})
        assert [response.status_code, response.headers.get("Idempotent-Replayed")] == [200, None]
    assert create(client).status_code == 200


def test_key_length(client: httpx.Client) -> None:
    """255 characters are accepted, 256 are not."""
    assert [create(client, key="k" * length).status_code for length in (255, 256)] == [200, 400]


def test_ids_depend_on_the_seed_and_the_request_alone() -> None:
    """With one seed, the same requests in another order get the same ids; another seed gives others."""

    def ids(seed: int, keys: list[str]) -> dict[str, tuple[str, ...]]:
        sandbox = Sandbox(seed=seed, time=lambda: 0.0)
        for key in keys:
            answer = sandbox.finish(sandbox.begin(create_request(key)))
            assert not isinstance(answer, Lost)
        return {
            record.idempotency_key or "": tuple(
                intent[field] for field in ("id", "latest_charge", "payment_method", "client_secret")
            )
            for record, intent in zip(sandbox.requests, reversed(sandbox.payment_intents), strict=True)
        }

    assert ids(1, ["a", "b", "c"]) == ids(1, ["c", "a", "b"])
    assert set(ids(1, ["a"]).values()).isdisjoint(ids(2, ["a"]).values())
