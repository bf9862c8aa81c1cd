"""What the sandbox says of the request and of the account: echoes, a paused account, other accounts' keys, the 403."""

from collections.abc import Iterator

import httpx
import pytest

from gateway_client.sandbox import Sandbox
from tests.sandbox_kit import assert_valid, create, error_of, in_process

THEIRS = "acct_1Theirs"
ECHO = ("Idempotency-Key", "Original-Request")

# what happens to a create -> its status; those that reach the idempotency layer echo the key
REACHED = {
    "rejected_400": 400,
    "account_400": 400,
    "in_use_409": 409,
    "error_500": 500,
    "error_500_unsaved": 500,
}
BEFORE = {
    "unauthorized_401": 401,
    "forbidden_403": 403,
    "rate_limited_429": 429,
    "unavailable_503": 503,
    "redirect_302": 302,
}


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: 1_800_000_000.0)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


def echo(response: httpx.Response) -> list[bool]:
    """Whether the key is echoed and the first request is named."""
    assert response.headers.get("Idempotency-Key", "key_1") == "key_1"
    return [name in response.headers for name in ECHO]


# --- the echo


def test_what_reaches_the_keys_echoes(client: httpx.Client, sandbox: Sandbox) -> None:
    """A 200, 400, 402, 404, 409 and 500 to a POST with a key name the key and the first request."""
    for fault, status in REACHED.items():
        sandbox.fault(fault)
        answer = create(client, key="key_1")
        assert [answer.status_code, *echo(answer)] == [status, True, True], fault
        assert_valid("error", answer.json())
        sandbox.clock.advance(sandbox.key_life_s)  # so that a saved 500 is not replayed
    assert echo(create(client, key="key_1", payment_method="pm_card_chargeDeclined")) == [True, True]
    sandbox.clock.advance(sandbox.key_life_s)
    assert echo(create(client, key="key_1")) == [True, True]
    assert echo(client.post("/v1/nothing", headers={"Idempotency-Key": "key_1"})) == [True, True]


def test_what_is_answered_before_the_keys_does_not_echo(client: httpx.Client, sandbox: Sandbox) -> None:
    """A 302, 401, 403, 429 and 503 name no key; nor does an answer to a request without one."""
    for fault, status in BEFORE.items():
        sandbox.fault(fault)
        answer = create(client, key="key_1")
        assert [answer.status_code, *echo(answer)] == [status, False, False], fault
        if status != 302:
            assert_valid("error", answer.json())
    sandbox.revoke(sandbox.api_key)
    assert echo(create(client, key="key_1")) == [False, False]
    assert echo(client.get("/v1/charges", headers={"Idempotency-Key": "key_1"})) == [False, False]


def test_errors_without_an_echo(client: httpx.Client, sandbox: Sandbox) -> None:
    """With `echoes_errors` off no error names its request, replays included; a success still does."""
    sandbox.echoes_errors = False
    for fault, status in REACHED.items():
        sandbox.fault(fault)
        answers = [create(client, key="key_1")]
        if fault == "error_500":
            answers.append(create(client, key="key_1"))
        assert [answer.status_code for answer in answers] == [status] * len(answers)
        assert [echo(answer) for answer in answers] == [[False, False]] * len(answers), fault
        sandbox.clock.advance(sandbox.key_life_s)
    declined = create(client, key="key_1", payment_method="pm_card_chargeDeclined")
    assert (declined.status_code, echo(declined)) == (402, [False, False])
    sandbox.clock.advance(sandbox.key_life_s)
    assert echo(create(client, key="key_1")) == [True, True]


def test_the_echo_may_be_switched_off_after_an_answer_was_saved(client: httpx.Client, sandbox: Sandbox) -> None:
    """The switch is looked at when an answer is given, not when it was saved."""
    sandbox.fault("error_500")
    seen = []
    for sandbox.echoes_errors in (True, False, True):
        seen.append(echo(create(client, key="key_1")))
    assert seen == [[True, True], [False, False], [True, True]]


# --- the account


def test_a_paused_account(client: httpx.Client, sandbox: Sandbox) -> None:
    """Every create and confirmation is a 400 without a parameter, echoed and not saved; the rest goes on."""
    intent_id = client.post("/v1/payment_intents", data={"amount": 1, "currency": "usd"}).json()["id"]
    charged = create(client, key="key_0").json()
    sandbox.account_paused = True
    refused = create(client, key="key_1")
    assert (error_of(refused), echo(refused)) == ((400, None, None), [True, True])
    assert refused.json()["error"] == {
        "message": "Your account cannot currently make live charges.",
        "type": "invalid_request_error",
    }
    confirm = {"payment_method": "pm_card_visa", "return_url": "https://example.com/back"}
    assert error_of(client.post(f"/v1/payment_intents/{intent_id}/confirm", data=confirm)) == (400, None, None)
    assert create(client, key="key_0").json() == charged  # a saved answer stays
    assert client.get("/v1/charges").status_code == 200
    assert client.post(f"/v1/payment_intents/{intent_id}/cancel").json()["status"] == "canceled"
    sandbox.account_paused = False
    assert create(client, key="key_1").status_code == 200
    assert len(sandbox.charges) == 2


def test_a_pause_does_not_stop_a_roll_forward(client: httpx.Client, sandbox: Sandbox) -> None:
    """What a 500 left undone is done at last, whether or not the account may charge by then."""
    sandbox.fault("error_500_later")
    create(client, key="key_1")
    sandbox.account_paused = True
    sandbox.clock.advance(sandbox.roll_forward_s)
    assert len(sandbox.charges) == 1


def test_the_403_may_name_no_account(client: httpx.Client, sandbox: Sandbox) -> None:
    """A restricted key is told its account by the 403, or not, as is set; a fault's 403 is alike."""
    restricted = {"Authorization": "Bearer rk_test_1"}
    sandbox.fault("forbidden_403", times=2)
    named = []
    for sandbox.names_account in (True, False):
        answers = [client.get("/v1/account", headers=restricted), create(client, key="key_1")]
        assert [error_of(answer) for answer in answers] == [(403, None, None)] * 2
        named += [sandbox.account in answer.text for answer in answers]
        assert "rk_test_1" not in "".join(answer.text for answer in answers)
    assert named == [True, True, False, False]


def test_keys_of_another_account(client: httpx.Client, sandbox: Sandbox) -> None:
    """A key of another account is answered for that account, from a ledger and idempotency keys of its own."""
    sandbox.other_account_keys |= {"sk_test_theirs": THEIRS, "rk_test_theirs": THEIRS}
    theirs = {"Authorization": "Bearer sk_test_theirs"}
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox", headers=theirs) as other:
        assert (other.get("/v1/account").json()["id"], client.get("/v1/account").json()["id"]) == (
            THEIRS,
            sandbox.account,
        )
        ours, elsewhere = create(client, key="key_1"), create(other, key="key_1")
        assert "Idempotent-Replayed" not in elsewhere.headers
        assert create(other, key="key_1").json() == elsewhere.json()
        assert other.get(f"/v1/payment_intents/{ours.json()['id']}").status_code == 404
        assert [one["id"] for one in other.get("/v1/charges").json()["data"]] == [elsewhere.json()["latest_charge"]]
        assert_valid("payment_intent", elsewhere.json())
    assert [one["id"] for one in sandbox.charges] == [ours.json()["latest_charge"]]
    assert [one["id"] for one in sandbox.elsewhere[THEIRS]] == [elsewhere.json()["latest_charge"]]
    assert ours.json()["id"] != elsewhere.json()["id"]
    refused = client.get("/v1/account", headers={"Authorization": "Bearer rk_test_theirs"})
    assert THEIRS in refused.json()["error"]["message"]
    assert sandbox.account not in refused.text


def test_other_accounts_are_part_of_the_world(client: httpx.Client, sandbox: Sandbox) -> None:
    """Their debits settle on the same clock, their keys can be revoked, and no secret is shown."""
    sandbox.other_account_keys["sk_test_theirs"] = THEIRS
    theirs = {"Authorization": "Bearer sk_test_theirs", "Idempotency-Key": "key_1"}
    form = {"amount": "5", "currency": "usd", "confirm": "true", "payment_method": "pm_usBankAccount"}
    form |= {"return_url": "https://example.com/back"}
    assert client.post("/v1/payment_intents", data=form, headers=theirs).json()["status"] == "processing"
    sandbox.clock.advance(sandbox.settles_after_s)
    [charge] = sandbox.elsewhere[THEIRS]
    assert (charge["status"], sandbox.charges) == ("succeeded", ())
    sandbox.revoke("sk_test_theirs")
    assert client.get("/v1/account", headers=theirs).status_code == 401
    assert "sk_test_theirs" not in repr((sandbox, sandbox.requests, sandbox.elsewhere))
