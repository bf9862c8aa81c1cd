"""Answers that are not the provider's answer to this request: a box's, another request's, an older one."""

from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import httpx
import pytest

from gateway_client.sandbox import BoxAnswer, Sandbox
from gateway_client.sandbox.boxes import BOX_ANSWERS
from tests.sandbox_kit import create, in_process

START = 1_800_000_000


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: float(START))


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


def send(client: httpx.Client, intent_id: str) -> httpx.Response:
    return create(client, key="key_9", **{"metadata[paycli_intent]": "order_9"})


def cancel(client: httpx.Client, intent_id: str) -> httpx.Response:
    return client.post(f"/v1/payment_intents/{intent_id}/cancel")


def retrieve(client: httpx.Client, intent_id: str) -> httpx.Response:
    return client.get(f"/v1/payment_intents/{intent_id}")


def list_charges(client: httpx.Client, intent_id: str) -> httpx.Response:
    return client.get("/v1/charges?limit=3")


def ask_account(client: httpx.Client, intent_id: str) -> httpx.Response:
    return client.get("/v1/account")


Ask = Callable[[httpx.Client, str], httpx.Response]
ASKED: dict[str, Ask] = {
    "POST /v1/payment_intents": send,
    "POST /v1/payment_intents/*/cancel": cancel,
    "GET /v1/payment_intents/*": retrieve,
    "GET /v1/charges": list_charges,
    "GET /v1/account": ask_account,
}
EVERY = pytest.mark.parametrize("on", ASKED)


def open_intent(client: httpx.Client) -> str:
    """An intent that can be cancelled."""
    return str(client.post("/v1/payment_intents", data={"amount": 1, "currency": "usd"}).json()["id"])


def done(sandbox: Sandbox, intent_id: str) -> tuple[int, str]:
    """How often order_9 was charged, and the status of the intent that may have been cancelled."""
    [intent] = [one for one in sandbox.payment_intents if one["id"] == intent_id]
    return sandbox.succeeded()["order_9"], intent["status"]


WAITING = "requires_payment_method"
EXECUTED = {
    "POST /v1/payment_intents": (1, WAITING),
    "POST /v1/payment_intents/*/cancel": (0, "canceled"),
}


@EVERY
@pytest.mark.parametrize("before", [True, False])
def test_any_answer_of_a_box(client: httpx.Client, sandbox: Sandbox, on: str, before: bool) -> None:
    """A box's answer arrives as it was set, instead of the provider's; before or after the provider executed."""
    intent_id = open_intent(client)
    sandbox.box = BoxAnswer(451, b"not here", {"Content-Type": "text/plain", "X-Box": "yes"})
    sandbox.fault("box_before" if before else "box_after", on=on)
    answer = ASKED[on](client, intent_id)
    assert [answer.status_code, answer.content, answer.headers["X-Box"]] == [451, b"not here", "yes"]
    assert not {"idempotency-key", "request-id", "date"} & set(answer.headers)
    assert done(sandbox, intent_id) == ((0, WAITING) if before else EXECUTED.get(on, (0, WAITING)))


@EVERY
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("name", BOX_ANSWERS)
def test_ready_made_answers(client: httpx.Client, sandbox: Sandbox, name: str, before: bool, on: str) -> None:
    """Each ready-made answer replaces the provider's; joined to `box_before`, the provider is never reached."""
    intent_id = open_intent(client)
    sandbox.fault(f"box_before+{name}" if before else name, on=on)
    answer = ASKED[on](client, intent_id)
    assert (answer.status_code, answer.content) == (BOX_ANSWERS[name][1].status, BOX_ANSWERS[name][1].body)
    assert str(answer.status_code) in name
    assert done(sandbox, intent_id) == ((0, WAITING) if before else EXECUTED.get(on, (0, WAITING)))


def test_what_a_box_hides_is_saved(client: httpx.Client, sandbox: Sandbox) -> None:
    """After a box's answer the same key is answered with what was saved; before a box, it is still free."""
    sandbox.fault("edge_429_html")
    assert create(client, key="key_1").headers["Retry-After"] == "1"
    assert create(client, key="key_1").headers["Idempotent-Replayed"] == "true"
    sandbox.fault("box_before+edge_429_html")
    create(client, key="key_2")
    assert "Idempotent-Replayed" not in create(client, key="key_2").headers
    assert sandbox.succeeded() == {"order_42": 2}


@EVERY
def test_repeat(client: httpx.Client, sandbox: Sandbox, on: str) -> None:
    """The answer to the previous request of the same method and path arrives, and the request was executed."""
    intent_id = open_intent(client)
    first = create(client, key="key_1") if on == "POST /v1/payment_intents" else ASKED[on](client, intent_id)
    client.get("/v1/payment_intents?limit=1")
    sandbox.clock.advance(60)
    sandbox.fault("repeat", on=on)
    second = ASKED[on](client, intent_id)
    assert (second.content, second.headers) == (first.content, first.headers)
    assert done(sandbox, intent_id) == EXECUTED.get(on, (0, WAITING))


def test_a_repeated_refusal(client: httpx.Client, sandbox: Sandbox) -> None:
    """An earlier 400, which echoes its own key, arrives in place of a success."""
    refused = create(client, key="key_1", amount="0")
    sandbox.fault("repeat")
    repeated = create(client, key="key_2")
    assert (refused.status_code, repeated.status_code, repeated.headers["Idempotency-Key"]) == (400, 400, "key_1")
    assert len(sandbox.charges) == 1


@EVERY
def test_exchange(client: httpx.Client, sandbox: Sandbox, on: str) -> None:
    """The latest answer to another request arrives, whatever its path was, and the request was executed."""
    intent_id = open_intent(client)
    ASKED[on](client, intent_id)  # its own earlier answer is not another request's
    other = client.get("/v1/payment_intents?limit=1")
    ASKED[on](client, intent_id)
    sandbox.fault("exchange", on=on)
    assert ASKED[on](client, intent_id).content == other.content
    assert done(sandbox, intent_id) == EXECUTED.get(on, (0, WAITING))


def test_exchanged_sends(client: httpx.Client, sandbox: Sandbox) -> None:
    """A send is given another send's success; its own answer is saved under its key."""
    first = create(client, key="key_1")
    sandbox.fault("exchange")
    second = create(client, key="key_2")
    assert (second.json()["id"], second.headers["Idempotency-Key"]) == (first.json()["id"], "key_1")
    assert create(client, key="key_2").json()["id"] != first.json()["id"]
    assert len(sandbox.charges) == 2


@pytest.mark.parametrize("on", [on for on in ASKED if on.startswith("GET")])
def test_stale(client: httpx.Client, sandbox: Sandbox, on: str) -> None:
    """The oldest answer to the same question arrives again, with its old Date and what was true then."""
    intent_id = open_intent(client)
    first = ASKED[on](client, intent_id)
    create(client, key="key_1")
    cancel(client, intent_id)
    sandbox.clock.advance(3600)
    second = ASKED[on](client, intent_id)
    sandbox.fault("stale", on=on)
    third = ASKED[on](client, intent_id)
    assert (third.content, third.headers) == (first.content, first.headers)
    ages = [parsedate_to_datetime(one.headers["Date"]).timestamp() - START for one in (second, third)]
    assert ages == [3600, 0]
    assert "Age" not in third.headers


def test_a_stale_answer_is_to_the_same_question(client: httpx.Client, sandbox: Sandbox) -> None:
    """Another query is another question; of a POST, another key is."""
    client.get("/v1/charges?limit=3")
    create(client, key="key_1")
    sandbox.fault("stale", on="GET /v1/charges")
    assert len(client.get("/v1/charges?limit=4").json()["data"]) == 1
    sandbox.fault("stale")
    assert create(client, key="key_2").headers["Idempotency-Key"] == "key_2"


def test_a_stale_409(client: httpx.Client, sandbox: Sandbox) -> None:
    """Sent again, a request may be given its own older answer instead of what was saved since."""
    sandbox.fault("in_use_409")
    create(client, key="key_1")
    sandbox.fault("stale")
    assert [create(client, key="key_1").status_code for _ in range(2)] == [409, 200]
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("fault", ["repeat", "exchange", "stale"])
def test_nothing_passed_before(client: httpx.Client, sandbox: Sandbox, fault: str) -> None:
    """Without an earlier answer of the kind, the request's own arrives; a lost one stays lost."""
    sandbox.fault(fault)
    assert create(client, key="key_1").headers["Idempotency-Key"] == "key_1"
    sandbox.fault(f"lost_request+{fault}", on="GET /v1/account")
    if fault == "exchange":
        assert client.get("/v1/account").json()["object"] == "payment_intent"
    else:
        with pytest.raises(httpx.ReadError):
            client.get("/v1/account")


def test_memory_of_answers_is_bounded(client: httpx.Client, sandbox: Sandbox) -> None:
    """An answer so long ago that 64 others passed since is not given again."""
    client.get("/v1/account")
    sandbox.clock.advance(60)
    for _ in range(64):
        client.get("/v1/charges")
    sandbox.fault("stale", on="GET /v1/account")
    date = client.get("/v1/account").headers["Date"]
    assert parsedate_to_datetime(date).timestamp() == START + 60
