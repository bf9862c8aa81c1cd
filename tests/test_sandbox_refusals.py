"""What the sandbox refuses, in process: parameters, bodies, URLs and API keys, each as Stripe does."""

from collections.abc import Iterator

import httpx
import pytest

from gateway_client.sandbox import Request, Sandbox
from gateway_client.sandbox.parameters import (
    CANCEL_PARAMETERS,
    CONFIRM_PARAMETERS,
    CONFIRM_PARAMETERS_ABSENT,
    CREATE_PARAMETERS,
    CREATE_PARAMETERS_ABSENT,
)
from tests.sandbox_kit import OPENAPI, create, error_of, in_process


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: 1_800_000_000.0)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


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
    ({"amount": "1000000000000"}, "amount_too_large", "amount"),
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
    ({"shipping[name]": "Bob"}, "parameter_missing", "shipping[address]"),
    ({"shipping[colour]": "red"}, "parameter_unknown", "shipping[colour]"),
    ({"setup_future_usage": "sometimes"}, None, "setup_future_usage"),
    ({"confirm": "false", "mandate": "mandate_1"}, None, "mandate"),
    ({"payment_method_options[card][capture_method]": "manual"}, None, "payment_method_options[card][capture_method]"),
    ({"on_behalf_of": "acct_2"}, None, "on_behalf_of"),
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


def test_confirming_needs_to_know_where_to_redirect(client: httpx.Client, sandbox: Sandbox) -> None:
    """An intent that may redirect is not confirmed without a `return_url`, either."""
    intent_id = client.post("/v1/payment_intents", data={"amount": 1, "currency": "usd"}).json()["id"]
    path, form = f"/v1/payment_intents/{intent_id}/confirm", {"payment_method": "pm_card_visa"}
    assert error_of(client.post(path, data=form)) == (400, None, None)
    assert len(sandbox.charges) == 0
    response = client.post(path, data={**form, "return_url": "https://example.com/back"})
    assert response.json()["status"] == "succeeded"


def test_limits_are_inclusive(client: httpx.Client) -> None:
    """50 metadata names of 40 characters with values of 500 and the largest amount are accepted."""
    metadata = {f"metadata[{number:040}]": "v" * 500 for number in range(49)}
    intent = create(client, amount="999999999999", **metadata).json()
    assert [intent["amount"], len(intent["metadata"])] == [999_999_999_999, 50]


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
