"""The sandbox's objects and refusals, in process: schemas, statuses, test payment methods, parameters, API keys."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import jsonschema
import pytest

from gateway_client.sandbox import Request, Sandbox
from gateway_client.sandbox.methods import TEST_METHODS
from gateway_client.sandbox.parameters import (
    CANCEL_PARAMETERS,
    CONFIRM_PARAMETERS,
    CONFIRM_PARAMETERS_ABSENT,
    CREATE_PARAMETERS,
    CREATE_PARAMETERS_ABSENT,
)

OPENAPI = json.loads((Path(__file__).parent / "stripe" / "openapi-2026-10-28.json").read_text())
CONFIRMED = {
    "amount": "1999",
    "currency": "usd",
    "confirm": "true",
    "payment_method": "pm_card_visa",
    "automatic_payment_methods[enabled]": "true",
    "automatic_payment_methods[allow_redirects]": "never",
    "metadata[paycli_intent]": "order_42",
}


def assert_valid(schema: str, instance: object) -> None:
    resolver = {"components": OPENAPI["components"], "$ref": f"#/components/schemas/{schema}"}
    jsonschema.Draft202012Validator(resolver).validate(instance)


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: 1_800_000_000.0)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox", headers=headers) as client:
        yield client


def create(client: httpx.Client, without: str = "", **changes: str) -> httpx.Response:
    form = {
        name: value for name, value in {**CONFIRMED, **changes}.items() if not (without and name.startswith(without))
    }
    return client.post("/v1/payment_intents", data=form)


def error_of(response: httpx.Response) -> tuple[int, str | None, str | None]:
    error = response.json()["error"]
    assert_valid("error", response.json())
    return response.status_code, error.get("code"), error.get("param")


def test_success_is_complete(client: httpx.Client, sandbox: Sandbox) -> None:
    """A confirmed create answers a full payment intent whose charge is full, too, and carries its metadata."""
    intent = create(client, description="an order", receipt_email="a@example.com").json()
    charge = client.get(f"/v1/charges/{intent['latest_charge']}").json()
    assert_valid("payment_intent", intent)
    assert_valid("charge", charge)
    assert [intent["status"], intent["amount_received"]] == ["succeeded", 1999]
    assert [charge["status"], charge["amount_captured"], charge["paid"]] == ["succeeded", 1999, True]
    assert [intent["metadata"], charge["metadata"]] == [{"paycli_intent": "order_42"}] * 2
    assert [intent["created"], charge["created"]] == [1_800_000_000] * 2
    assert [len(intent["id"]), intent["id"][:4], charge["id"][:4]] == [27, "pi_3", "ch_3"]
    assert [charge["description"], charge["receipt_email"]] == ["an order", "a@example.com"]
    # A test method gets an id of its own when it is used, as at Stripe: an answer never echoes `pm_card_visa`.
    assert intent["payment_method"].startswith("pm_1")
    assert sandbox.charges == (charge,)
    assert sandbox.payment_intents == (intent,)


@pytest.mark.parametrize("method", sorted(TEST_METHODS))
@pytest.mark.parametrize(
    "more", [{}, {"error_on_requires_action": "true"}, {"off_session": "true", "customer": "cus_1"}]
)
def test_every_method_answers_by_the_schema(client: httpx.Client, method: str, more: dict[str, str]) -> None:
    """Every test payment method answers 200 or 402 with objects that validate, however it is confirmed."""
    response = create(client, payment_method=method, **more)
    assert response.status_code in (200, 402)
    assert_valid("payment_intent" if response.status_code == 200 else "error", response.json())
    for path, schema in (("/v1/payment_intents", "payment_intent_list"), ("/v1/charges", "charge_list")):
        assert_valid(schema, client.get(path).json())


@pytest.mark.parametrize(
    ("method", "code", "decline_code", "advice"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline", "try_again_later"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds", "try_again_later"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card", "do_not_try_again"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card", "do_not_try_again"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card", "confirm_card_data"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc", "confirm_card_data"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error", "try_again_later"),
        ("pm_card_chargeDeclinedFraudulent", "card_declined", "fraudulent", None),
    ],
)
def test_declines(client: httpx.Client, method: str, code: str, decline_code: str, advice: str | None) -> None:
    """A decline is a 402 that names the failed charge and the payment intent, which waits for another method."""
    response = create(client, payment_method=method)
    error = response.json()["error"]
    intent = error["payment_intent"]
    charge = client.get(f"/v1/charges/{error['charge']}").json()
    assert_valid("error", response.json())
    assert_valid("charge", charge)
    assert [response.status_code, error["type"]] == [402, "card_error"]
    assert [error["code"], error["decline_code"], error.get("advice_code")] == [code, decline_code, advice]
    assert [intent["status"], intent["latest_charge"]] == ["requires_payment_method", charge["id"]]
    assert [intent["payment_method"], intent["last_payment_error"]["code"]] == [None, code]
    assert [charge["status"], charge["failure_code"], charge["paid"]] == ["failed", code, False]
    assert intent == client.get(f"/v1/payment_intents/{intent['id']}").json()


def test_late_success_after_a_decline(client: httpx.Client, sandbox: Sandbox) -> None:
    """A declined intent can be confirmed again: one intent, a failed and a succeeded charge, never two successes."""
    intent_id = create(client, payment_method="pm_card_chargeDeclined").json()["error"]["payment_intent"]["id"]
    missing = client.post(f"/v1/payment_intents/{intent_id}/confirm")
    assert error_of(missing) == (400, "payment_intent_unexpected_state", None)
    confirm = {"payment_method": "pm_card_visa"}
    assert client.post(f"/v1/payment_intents/{intent_id}/confirm", data=confirm).json()["status"] == "succeeded"
    again = client.post(f"/v1/payment_intents/{intent_id}/confirm", data=confirm)
    assert error_of(again) == (400, "payment_intent_unexpected_state", None)
    assert [charge["status"] for charge in sandbox.charges] == ["succeeded", "failed"]
    assert sandbox.succeeded() == {"order_42": 1}


def test_metadata_is_copied_when_the_charge_is_made(client: httpx.Client) -> None:
    """An intent made without confirming has no charge; confirming makes one with the intent's metadata."""
    intent = create(client, without="confirm").json()
    assert [intent["status"], intent["latest_charge"]] == ["requires_confirmation", None]
    assert client.get("/v1/charges").json()["data"] == []
    confirmed = client.post(f"/v1/payment_intents/{intent['id']}/confirm", params={"expand[]": "latest_charge"}).json()
    assert confirmed["latest_charge"]["metadata"] == {"paycli_intent": "order_42"}
    bare = create(client, without="confirm", payment_method="pm_card_visa").json()["id"]
    assert client.get(f"/v1/payment_intents/{bare}").json()["status"] == "requires_confirmation"


@pytest.mark.parametrize("before", [{}, {"payment_method": "pm_card_chargeDeclined"}, {"payment_method": ""}])
def test_cancel(client: httpx.Client, sandbox: Sandbox, before: dict[str, str]) -> None:
    """Open intents can be cancelled, once; after that nothing charges them."""
    form = {name: value for name, value in {**CONFIRMED, **before}.items() if value}
    if before.get("payment_method") != "pm_card_chargeDeclined":
        del form["confirm"]
    answer = client.post("/v1/payment_intents", data=form).json()
    intent_id = answer["id"] if "id" in answer else answer["error"]["payment_intent"]["id"]
    reason = {"cancellation_reason": "abandoned"}
    canceled = client.post(f"/v1/payment_intents/{intent_id}/cancel", data=reason).json()
    assert_valid("payment_intent", canceled)
    assert [canceled["status"], canceled["canceled_at"]] == ["canceled", 1_800_000_000]
    assert canceled["cancellation_reason"] == "abandoned"
    for action, data in (("cancel", {}), ("confirm", {"payment_method": "pm_card_visa"})):
        refused = client.post(f"/v1/payment_intents/{intent_id}/{action}", data=data)
        assert error_of(refused) == (400, "payment_intent_unexpected_state", None)
        assert refused.json()["error"]["payment_intent"] == canceled
    assert sandbox.succeeded() == {}


def test_a_succeeded_intent_cannot_be_cancelled(client: httpx.Client, sandbox: Sandbox) -> None:
    """Cancelling a success is refused with the intent in the error, which is how a late success is noticed."""
    intent = create(client).json()
    refused = client.post(f"/v1/payment_intents/{intent['id']}/cancel")
    assert error_of(refused) == (400, "payment_intent_unexpected_state", None)
    assert refused.json()["error"]["payment_intent"] == intent
    assert sandbox.succeeded() == {"order_42": 1}


def test_authentication(client: httpx.Client) -> None:
    """A card that needs its holder: requires_action, or a decline where nobody is there or waiting was ruled out."""
    card = {"payment_method": "pm_card_authenticationRequired"}
    waiting = create(client, **card).json()
    assert [waiting["status"], waiting["next_action"]["type"]] == ["requires_action", "use_stripe_sdk"]
    redirect = create(client, **card, return_url="https://example.com/back").json()
    assert redirect["next_action"]["redirect_to_url"]["return_url"] == "https://example.com/back"
    refused = create(client, **card, error_on_requires_action="true").json()["error"]
    assert [refused["code"], refused["decline_code"]] == ["authentication_required", "authentication_not_handled"]
    assert [refused.get("charge"), refused["payment_intent"]["status"]] == [None, "requires_payment_method"]
    absent = create(client, **card, off_session="true", customer="cus_1").json()["error"]
    assert [absent["code"], absent["decline_code"]] == ["authentication_required", "authentication_required"]
    assert absent["charge"].startswith("ch_3")


def test_bank_debits_settle_on_the_clock(client: httpx.Client, sandbox: Sandbox) -> None:
    """A bank debit is processing with a pending charge, and becomes a success or a failure when the clock moves on."""
    paid = create(client, payment_method="pm_usBankAccount_success").json()
    failed = create(client, payment_method="pm_usBankAccount_insufficientFunds").json()
    stays = create(client, payment_method="pm_usBankAccount_processing").json()
    assert [intent["status"] for intent in (paid, failed, stays)] == ["processing"] * 3
    assert [charge["status"] for charge in sandbox.charges] == ["pending"] * 3
    refused = client.post(f"/v1/payment_intents/{paid['id']}/cancel")
    assert error_of(refused) == (400, "payment_intent_unexpected_state", None)
    sandbox.clock.advance(sandbox.settles_after_s)
    statuses = [intent["status"] for intent in sandbox.payment_intents]
    assert statuses == ["processing", "requires_payment_method", "succeeded"]
    assert [charge["status"] for charge in sandbox.charges] == ["pending", "failed", "succeeded"]
    assert client.post(f"/v1/payment_intents/{stays['id']}/cancel").json()["status"] == "canceled"
    for charge in sandbox.charges:
        assert_valid("charge", charge)


def test_balance_transaction_is_filled_in_later(client: httpx.Client, sandbox: Sandbox) -> None:
    """`balance_transaction` is null at first: Stripe captures asynchronously (F58)."""
    create(client)
    before = sandbox.charges[0]["balance_transaction"]
    sandbox.clock.advance(60)
    after = sandbox.charges[0]["balance_transaction"]
    assert [before, after[:5]] == [None, "txn_3"]


def test_parameters_are_those_of_the_api(client: httpx.Client) -> None:
    """The parameters we know, supported or not, are exactly those of the API description."""
    schemas = OPENAPI["components"]["schemas"]
    for schema, names in (
        ("PaymentIntentCreateParams", (*CREATE_PARAMETERS, *CREATE_PARAMETERS_ABSENT)),
        ("PaymentIntentConfirmParams", (*CONFIRM_PARAMETERS, *CONFIRM_PARAMETERS_ABSENT)),
        ("PaymentIntentCancelParams", CANCEL_PARAMETERS),
    ):
        assert sorted(names) == sorted(schemas[schema]["properties"])


REFUSED: list[tuple[dict[str, str], str | None, str | None]] = [
    ({"amuont": "1"}, "parameter_unknown", "amuont"),
    ({"metadata[a][b]": "1"}, None, "metadata[a]"),
    ({"automatic_payment_methods[colour]": "red"}, "parameter_unknown", "automatic_payment_methods[colour]"),
    ({"amount": "19.99"}, "parameter_invalid_integer", "amount"),
    ({"amount": "0"}, "parameter_invalid_integer", "amount"),
    ({"amount": "-5"}, "parameter_invalid_integer", "amount"),
    ({"amount": "100000000"}, "amount_too_large", "amount"),
    ({"amount": ""}, "parameter_invalid_empty", "amount"),
    ({"currency": "USD"}, None, "currency"),
    ({"currency": "xyz"}, None, "currency"),
    ({"confirm": "yes"}, None, "confirm"),
    ({"payment_method": "pm_card_viza"}, "resource_missing", "payment_method"),
    ({"customer": "bob"}, "resource_missing", "customer"),
    ({"off_session": "true"}, "parameter_missing", "customer"),
    ({"off_session": "maybe"}, None, "off_session"),
    ({"confirm": "false", "error_on_requires_action": "true"}, None, "error_on_requires_action"),
    ({"capture_method": "manual"}, None, "capture_method=manual"),
    ({"confirmation_method": "manual"}, None, "confirmation_method=manual"),
    ({"shipping[name]": "Bob"}, None, "shipping"),
    ({"statement_descriptor_suffix": "x" * 23}, None, "statement_descriptor_suffix"),
    ({"receipt_email": "nobody"}, "email_invalid", "receipt_email"),
    ({"metadata[" + "k" * 41 + "]": "v"}, None, "metadata"),
    ({"metadata[k]": "v" * 501}, None, "metadata"),
    ({f"metadata[k{number}]": "v" for number in range(50)}, None, "metadata"),
    ({"automatic_payment_methods[allow_redirects]": "always"}, None, None),
    ({"expand[]": "customer"}, None, "expand"),
    ({"a[b": "1"}, "parameter_unknown", "a[b"),
]


@pytest.mark.parametrize(("changes", "code", "param"), REFUSED, ids=[" ".join(row[0])[:40] for row in REFUSED])
def test_refusals(
    client: httpx.Client, sandbox: Sandbox, changes: dict[str, str], code: str | None, param: str | None
) -> None:
    """What Stripe refuses is refused with the parameter named, and leaves no trace in the ledger."""
    assert error_of(create(client, **changes)) == (400, code, param)
    assert sandbox.payment_intents == ()


@pytest.mark.parametrize(
    ("without", "code", "param"),
    [
        ("amount", "parameter_missing", "amount"),
        ("currency", "parameter_missing", "currency"),
        ("automatic_payment_methods", None, None),
        ("automatic_payment_methods[enabled]", "parameter_missing", "automatic_payment_methods[enabled]"),
        ("payment_method", "payment_intent_unexpected_state", None),
    ],
)
def test_missing_parameters(client: httpx.Client, without: str, code: str | None, param: str | None) -> None:
    """A create call without something it needs is refused; without `allow_redirects=never` or `return_url`, too."""
    assert error_of(create(client, without=without)) == (400, code, param)


def test_return_url_instead_of_no_redirects(client: httpx.Client) -> None:
    """A confirmation is accepted with a `return_url` where redirects are allowed."""
    response = create(client, without="automatic_payment_methods", return_url="https://example.com/back")
    assert response.json()["status"] == "succeeded"


def test_limits_are_inclusive(client: httpx.Client) -> None:
    """50 metadata names of 40 characters with values of 500 and the largest amount are accepted."""
    metadata = {f"metadata[{number:040}]": "v" * 500 for number in range(49)}
    intent = create(client, amount="99999999", **metadata).json()
    assert [intent["amount"], len(intent["metadata"])] == [99_999_999, 50]


def test_unknown_objects_and_urls(client: httpx.Client) -> None:
    """An unknown id is 404 `resource_missing`; a URL that Stripe does not have is 404 without a code."""
    assert error_of(client.get("/v1/payment_intents/pi_x")) == (404, "resource_missing", "intent")
    assert error_of(client.get("/v1/charges/ch_x")) == (404, "resource_missing", "charge")
    assert error_of(client.post("/v1/payment_intents/pi_x/cancel")) == (404, "resource_missing", "intent")
    for method, path in (
        ("GET", "/v1/nothing"),
        ("POST", "/v1/charges"),
        ("DELETE", "/v1/payment_intents"),
        ("GET", "/"),
    ):
        assert error_of(client.request(method, path)) == (404, None, None)


def test_malformed_bodies(client: httpx.Client) -> None:
    """A body that is no form, is too large or has too many fields is a 400."""
    json_type = {"Content-Type": "application/json"}
    assert error_of(client.post("/v1/payment_intents", content=b"{}", headers=json_type)) == (400, None, None)
    for body in (b"amount=%ff", b"\xff\xfe", b"a=1&" * 501, b"a=" + b"x" * 1_000_000):
        response = client.post(
            "/v1/payment_intents", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert error_of(response) == (400, None, None)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer ",
        "Bearer sk_live_abc",
        "Bearer pk_test_abc",
        "Bearer nonsense",
        "Basic !",
        "Basic OnA=",
        "Digest x",
    ],
)
def test_api_keys_that_may_not_ask(sandbox: Sandbox, authorization: str | None) -> None:
    """Without a test secret key the answer is 401, and no part of what was sent is repeated."""
    headers = {} if authorization is None else {"Authorization": authorization}
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox", headers=headers) as client:
        response = client.get("/v1/account")
    assert error_of(response) == (401, None, None)
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Stripe"'
    assert "abc" not in response.text


def test_account_and_keys(client: httpx.Client, sandbox: Sandbox) -> None:
    """Any test key may ask until it is revoked; a restricted one may not read the account."""
    assert client.get("/v1/account").json()["id"] == sandbox.account
    assert client.get("/v1/account", auth=("sk_test_basic", "")).json()["id"] == sandbox.account
    restricted = {"Authorization": "Bearer rk_test_1"}
    assert error_of(client.get("/v1/account", headers=restricted)) == (403, None, None)
    assert client.get("/v1/charges", headers=restricted).status_code == 200
    sandbox.revoke("rk_test_1")
    assert error_of(client.get("/v1/charges", headers=restricted)) == (401, "api_key_expired", None)


def test_nothing_shows_the_api_key(client: httpx.Client, sandbox: Sandbox) -> None:
    """The API key is in no record, object or repr."""
    create(client)
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    exchange = sandbox.begin(Request("GET", "/v1/charges", headers, b""))
    shown = repr((sandbox.requests, sandbox.charges, sandbox.payment_intents, sandbox, exchange))
    assert sandbox.api_key not in shown
