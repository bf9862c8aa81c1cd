"""The sandbox's objects, in process: schemas, statuses, the life of an intent, test payment methods."""

from collections.abc import Iterator

import httpx
import pytest

from gateway_client.sandbox import Sandbox
from gateway_client.sandbox.methods import TEST_METHODS
from tests.sandbox_kit import CONFIRMED, assert_valid, create, error_of, in_process

# The cards of the countries differ in one word: one of them stands for all.
METHODS = [method for method in TEST_METHODS if len(method) != len("pm_card_xx") or method == "pm_card_de"]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(time=lambda: 1_800_000_000.0)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with in_process(sandbox) as client:
        yield client


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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "more", [{}, {"error_on_requires_action": "true"}, {"off_session": "true", "customer": "cus_1"}]
)
def test_every_method_answers_by_the_schema(client: httpx.Client, method: str, more: dict[str, str]) -> None:
    """Every kind of test payment method answers 200 or 402 with objects that validate, however it is confirmed."""
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
