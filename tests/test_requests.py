"""Our requests, compared with the official client's parameter by parameter and validated against the API description.

Not here: what the answers mean (`test_fixtures.py`), and how the bytes travel (`test_wire.py`).
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import httpx
import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_client import InvalidInput, Money, PaymentIntent, RetryPolicy, Sandbox, State, Stripe
from gateway_client.exchange import unaged
from gateway_client.gateways.base import Request
from gateway_client.gateways.stripe_api import API_VERSION, form_of
from gateway_client.wire import Wire
from tests.oracle_stripe import SPEC, Sent, caught, check_request, official
from tests.oracle_world import API_KEY, BINDING, StillClock, client_of, database_url, full_intent, intent_of, sandbox_of

GATEWAY = Stripe(API_KEY)
WIRE = Wire(GATEWAY, 5.0, httpx.HTTPTransport(verify=False))  # which respx sees; the bytes of our own: test_wire.py
FROM, TO = datetime.fromtimestamp(1_800_000_000, UTC), datetime.fromtimestamp(1_800_003_600, UTC)
PAGE: Any = {"created": {"gte": 1_800_000_000, "lte": 1_800_003_600}, "limit": 100}


def ours(request: Request) -> Sent:
    """What our client sends for a request."""
    with caught() as found:
        WIRE.exchange(request, unaged)
    (sent,) = found
    return Sent.of(sent)


def create_request(intent: PaymentIntent, attempt: int = 1) -> Request:
    key = BINDING.key("charge", intent.intent_id, attempt)
    return GATEWAY.charge_request(GATEWAY.charge_body(intent, BINDING, attempt, key), key, API_VERSION)


def create_call(
    intent: PaymentIntent, attempt: int = 1, parameters: Mapping[str, object] | None = None
) -> Callable[[stripe.StripeClient], object]:
    """The same charge in the SDK's words, in the order of STRIPE.md §8; `parameters` are the intent's, nested."""
    key = BINDING.key("charge", intent.intent_id, attempt)
    optional = ("customer", "off_session", "description", "receipt_email", "statement_descriptor_suffix")
    params = {
        "amount": intent.amount.amount,
        "currency": intent.amount.currency,
        "confirm": True,
        "payment_method": intent.payment_method,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "error_on_requires_action": True,
        **{name: getattr(intent, name) for name in optional if getattr(intent, name)},
        **(parameters or {}),
        "metadata": {
            "paycli_namespace": BINDING.namespace,
            "paycli_intent": intent.intent_id,
            "paycli_attempt": str(attempt),
            "paycli_key": key,
            **dict(sorted(intent.metadata.items())),
        },
    }
    return lambda client: client.v1.payment_intents.create(params, {"idempotency_key": key})  # type: ignore[arg-type]


CALLS: dict[str, tuple[Request, Callable[[stripe.StripeClient], object]]] = {
    "create": (create_request(intent_of()), create_call(intent_of())),
    "create, every field": (create_request(full_intent()), create_call(full_intent())),
    "create, attempt 2": (create_request(full_intent(), 2), create_call(full_intent(), 2)),
    "retrieve": (GATEWAY.retrieve_request("pi_42"), lambda client: client.v1.payment_intents.retrieve("pi_42")),
    "cancel": (
        GATEWAY.cancel_request("pi_42"),
        lambda client: client.v1.payment_intents.cancel("pi_42"),
    ),
    "list intents": (
        GATEWAY.list_request("/v1/payment_intents", FROM, TO, None),
        lambda client: client.v1.payment_intents.list(PAGE),
    ),
    "list intents, next page": (
        GATEWAY.list_request("/v1/payment_intents", FROM, TO, "pi_7"),
        lambda client: client.v1.payment_intents.list(PAGE | {"starting_after": "pi_7"}),
    ),
    "list charges": (
        GATEWAY.list_request("/v1/charges", FROM, TO, None),
        lambda client: client.v1.charges.list(PAGE),
    ),
    "list charges, next page": (
        GATEWAY.list_request("/v1/charges", FROM, TO, "ch_7"),
        lambda client: client.v1.charges.list(PAGE | {"starting_after": "ch_7"}),
    ),
    "account": (GATEWAY.account_request(), lambda client: client.v1.accounts.retrieve_current()),
}

Answer = Callable[[httpx.Request], httpx.Response]


def answer_of(sandbox: Sandbox) -> Answer:
    """The sandbox behind respx: a transport of httpx sends, and the sandbox answers."""
    return cast("Answer", sandbox.transport().handler)


def strangers(sandbox: Sandbox, count: int) -> None:
    """Payment intents that somebody else made."""
    with httpx.Client(transport=sandbox.transport(), auth=(sandbox.api_key, "")) as client:
        for _ in range(count):
            client.post("https://api.stripe.com/v1/payment_intents", data={"amount": "1", "currency": "usd"})


text = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@st.composite
def intents(draw: st.DrawFn) -> PaymentIntent:
    """Valid intents, odd ones among them."""
    customer = draw(st.none() | printable)
    metadata = draw(st.dictionaries(text, text | st.just("line\nand\ttab"), max_size=6))
    try:
        return PaymentIntent(
            draw(printable),
            Money(draw(st.integers(1, 999_999_999_900)), draw(st.sampled_from(["usd", "eur", "jpy", "huf"]))),
            draw(printable),
            customer=customer,
            off_session=customer is not None and draw(st.booleans()),
            description=draw(st.none() | text),
            receipt_email=draw(st.none() | st.just("jörg+1@exämple.com")),
            statement_descriptor_suffix=draw(st.none() | st.just("A & B #1")),
            metadata=metadata,
        )
    except InvalidInput:  # an '@' in the id, brackets in a name, only spaces: refused before a request is made
        return full_intent()


def test_the_api_version_is_the_pinned_clients() -> None:
    """Requests name the API version that the official client and the API description are of."""
    assert stripe.api_version == API_VERSION
    assert SPEC["info"]["version"] == API_VERSION


@pytest.mark.parametrize("name", CALLS)
def test_requests_are_what_the_official_client_sends(name: str) -> None:
    """Method, address, each parameter in order, key, version, credential and content type are the official ones."""
    request, call = CALLS[name]
    expected = official(API_KEY, call)
    if name == "cancel":  # the official client makes a key up, another for each call: that is none
        assert dict(expected.headers)["idempotency-key"]
        headers = tuple((header, None if header == "idempotency-key" else value) for header, value in expected.headers)
        expected = replace(expected, headers=headers)
    assert expected == ours(request)


@pytest.mark.parametrize("name", CALLS)
def test_requests_validate_against_the_api_description(name: str) -> None:
    """Every kind of request has a path, parameters and values that Stripe's API description knows."""
    check_request(ours(CALLS[name][0]))


def test_the_description_refuses_what_stripe_refuses() -> None:
    """The validation is real: an unknown parameter, a wrong type and an unknown path are refused."""
    sent = ours(create_request(intent_of()))
    for wrong in (("capture", "true"), ("created[since]", "1"), ("automatic_payment_methods[on]", "true")):
        with pytest.raises(AssertionError):
            check_request(Sent(sent.method, sent.url, (), (*sent.form, wrong), sent.headers))
    without_currency = tuple(pair for pair in sent.form if pair[0] != "currency")
    with pytest.raises(AssertionError):
        check_request(Sent(sent.method, sent.url, (), without_currency, sent.headers))
    with pytest.raises(StopIteration):
        check_request(Sent("GET", sent.url + "/x/y/z", (), (), sent.headers))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(intents(), st.integers(1, 99))
def test_any_intent_is_encoded_as_the_official_client_does(intent: PaymentIntent, attempt: int) -> None:
    """Unicode, reserved characters and odd metadata arrive at Stripe as the official client would send them."""
    sent = ours(create_request(intent, attempt))
    assert official(API_KEY, create_call(intent, attempt)) == sent
    check_request(sent)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=30)), max_size=5))
def test_a_form_is_what_urlencode_makes_of_it(pairs: list[tuple[str, str]]) -> None:
    """Names and values of any characters: which need no quoting is judged as `urllib` does."""
    assert form_of(pairs) == urlencode(pairs)


def test_a_create_call_never_carries_what_is_not_ours_to_send() -> None:
    """The order and the names of STRIPE.md §8, exactly; never card data, a return address or a capture method."""
    names = [name for name, _ in ours(create_request(full_intent())).form]
    assert names[:7] == [
        "amount",
        "currency",
        "confirm",
        "payment_method",
        "automatic_payment_methods[enabled]",
        "automatic_payment_methods[allow_redirects]",
        "error_on_requires_action",
    ]
    assert [name for name in names[7:] if not name.startswith("metadata[")] == [
        "customer",
        "off_session",
        "description",
        "receipt_email",
        "statement_descriptor_suffix",
    ]


def test_the_body_is_a_pure_function_of_the_intent() -> None:
    """S3: the same bytes twice, whatever the order of the metadata, and in processes with other hash seeds."""
    body = create_request(full_intent()).body
    assert body == create_request(full_intent()).body
    turned = intent_of(metadata=dict(reversed([("b", "1"), ("a", "2"), ("ä", "3"), ("C", "4")])))
    straight = intent_of(metadata={"b": "1", "a": "2", "ä": "3", "C": "4"})
    assert create_request(straight).body == create_request(turned).body
    program = (
        "from tests.oracle_world import *; key = BINDING.key('charge', 'order_42', 1); "
        "print(Stripe(API_KEY).charge_body(full_intent(), BINDING, 1, key))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "4242", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == body


@pytest.mark.parametrize(
    "fault", ["lost_request", "lost_reply", "in_use_409", "rate_limited_429", "error_500", "cut_body"]
)
def test_every_retry_sends_identical_bytes(fault: str, tmp_path: Path) -> None:
    """S3: every send of an attempt, by this process and by the next, has one key, one body, one API version."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    sandbox.fault(fault, times=3)
    with caught(answer_of(sandbox)) as found:
        for process in (1, 2):
            client = client_of(
                sandbox,
                clock,
                database_url(tmp_path),
                transport=httpx.HTTPTransport(verify=False),
                retry=RetryPolicy(sends_max=2),
            )
            with client:
                client.charge(full_intent()) if process == 1 else client.resume()
    sends = [request for request in found if request.url.path == "/v1/payment_intents" and request.method == "POST"]
    assert len(sends) >= 2
    alike = {(sent.content, tuple(sent.headers.items())) for sent in sends}
    assert len(alike) == 1


def test_every_request_of_a_long_journey_validates(tmp_path: Path) -> None:
    """Charges, a decline with a second attempt, saved 500s, a look-up over several pages: nothing unknown is sent."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    with (
        caught(answer_of(sandbox)) as found,
        client_of(sandbox, clock, database_url(tmp_path), transport=httpx.HTTPTransport(verify=False)) as client,
    ):
        client.charge(intent_of("order_1", payment_method="pm_card_chargeDeclined"))
        client.charge(intent_of("order_1"), attempt=2)
        sandbox.fault("error_500_charged", times=2)
        lost = client.charge(full_intent("order_2"))
        strangers(sandbox, 101)  # more than a page
        sandbox.fault("error_500", times=2)
        client.charge(intent_of("order_3"))
        client.resume()
        found_again = client.find("order_2")
    kinds = {check_request(Sent.of(request)) for request in found}
    cursors = {name for request in found for name, _ in Sent.of(request).query}
    assert kinds == {
        "GetAccount",
        "GetCharges",
        "GetPaymentIntents",
        "GetPaymentIntentsIntent",  # what has become of an intent that was cancelled
        "PostPaymentIntents",
        "PostPaymentIntentsIntentCancel",
    }
    assert "starting_after" in cursors
    assert State.SUCCEEDED in {charge.state for charge in (lost, found_again) if charge is not None}
