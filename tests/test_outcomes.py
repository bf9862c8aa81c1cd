"""What one answer of the provider's tells: STRIPE.md §2, row by row, read from bytes; each has the echo of our key.

What it tells without the echo: `test_answers.py`; what it does to a charge: `test_states.py`.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_client import Charge, State
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.gateways.stripe_api import StripeApi
from gateway_client.outcome import (
    Answer,
    Canceled,
    Cause,
    Conflict,
    Declined,
    InFlight,
    NotExecuted,
    Outcome,
    Processing,
    Refused,
    Rejected,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.proof import Expected

API = StripeApi()
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = "pc1_" + "a" * 52
CHARGE = Charge("order_42", 1, State.SENDING, KEY, 2000, "usd", None, None, 1, AT, AT, None, None)
EXPECTED = Expected.of(CHARGE, live=False)
OURS = {"paycli_key": KEY}
PAID: dict[str, Any] = {
    "id": "pi_1",
    "status": "succeeded",
    "amount": 2000,
    "amount_received": 2000,
    "currency": "usd",
    "livemode": False,
    "metadata": OURS,
    "latest_charge": "ch_1",
}
DECLINE = {"type": "card_error", "code": "card_declined", "decline_code": "lost_card", "charge": "ch_1"}
UNPAID = {**PAID, "status": "requires_payment_method", "amount_received": 0}
INVALID = {"type": "invalid_request_error", "code": "parameter_missing", "param": "amount"}
MISSING = {"type": "invalid_request_error", "code": "resource_missing", "param": "payment_method"}
IN_USE = {"type": "idempotency_error", "code": "idempotency_key_in_use"}
LIST_PATHS = ("/v1/payment_intents", "/v1/charges")


def read(status: int, body: object, headers: dict[str, str] | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return API.read_charge(Reply(status, {"idempotency-key": KEY} | (headers or {}), raw, 7), EXPECTED)


def error(**fields: object) -> dict[str, object]:
    return {"error": fields}


SEEN: dict[str, tuple[int, object, type[Outcome], str | None]] = {
    # 2xx: executed; by the status of the intent
    "succeeded": (200, PAID, Succeeded, None),
    "created": (201, PAID, Succeeded, None),
    "a new field": (200, {**PAID, "brand_new": {"a": [1]}}, Succeeded, None),
    "expanded charge": (200, {**PAID, "latest_charge": {"id": "ch_1", "x": 1}}, Succeeded, None),
    "processing": (200, {**PAID, "status": "processing"}, Processing, "processing"),
    "requires_capture": (200, {**PAID, "status": "requires_capture"}, Processing, "requires_capture"),
    "requires_action": (200, {**PAID, "status": "requires_action"}, RequiresAction, None),
    "canceled": (200, {**PAID, "status": "canceled"}, Canceled, None),
    "failed later": (200, {**PAID, "status": "requires_payment_method", "last_payment_error": DECLINE}, Declined, None),
    "never tried": (200, {**PAID, "status": "requires_confirmation"}, Unknown, "uncharged"),
    "unknown status": (200, {**PAID, "status": "requires_prayer"}, Unknown, "requires_prayer"),
    # a mismatch is never success
    "other amount": (200, {**PAID, "amount": 2001}, Conflict, "amount"),
    "no amount": (200, {**PAID, "amount": None}, Conflict, "amount"),
    "less received": (200, {**PAID, "amount_received": 1999}, Conflict, "received"),
    "other currency": (200, {**PAID, "currency": "eur"}, Conflict, "currency"),
    "other mode": (200, {**PAID, "livemode": True}, Conflict, "mode"),
    "other key": (200, {**PAID, "metadata": {"paycli_key": "pc1_other"}}, Unknown, "our key"),
    "no metadata": (200, {**PAID, "metadata": {}}, Unknown, "our key"),
    "null metadata": (200, {**PAID, "metadata": None}, Unknown, "our key"),
    "key of another type": (200, {**PAID, "metadata": {"paycli_key": 1}}, Unknown, "our key"),
    # nothing usable
    "empty": (200, b"", Unknown, "without a payment intent"),
    "html": (200, b"<!doctype html><h1>Log in</h1>", Unknown, "without a payment intent"),
    "cut": (200, json.dumps(PAID).encode()[:40], Unknown, None),
    "no id": (200, {**PAID, "id": None}, Unknown, None),
    "empty id": (200, {**PAID, "id": ""}, Unknown, None),
    "id with an escape": (200, {**PAID, "id": "pi_\x1b[2J"}, Unknown, None),
    "a list": (200, [PAID], Unknown, None),
    "null": (200, None, Unknown, None),
    "an error with 200": (200, error(**INVALID), Unknown, None),
    "no content": (204, b"", Unknown, None),
    # redirects
    **{f"redirect {status}": (status, b"", Unknown, None) for status in (301, 302, 303, 307, 308)},
    # refused by the bank
    "declined": (402, error(**DECLINE), Declined, "card_declined lost_card"),
    "declined, with its intent": (402, error(**DECLINE, payment_intent=UNPAID), Declined, "lost_card"),
    "declined, other amount": (402, error(**DECLINE, payment_intent={**PAID, "amount": 5}), Conflict, "amount"),
    "declined, other key": (402, error(**DECLINE, payment_intent={**PAID, "metadata": {}}), Unknown, "our key"),
    "402 of another type": (402, error(type="api_error"), Unknown, None),
    "402 html": (402, b"<html>", Unknown, None),
    # refused
    "invalid": (400, error(**INVALID), Rejected, "parameter_missing amount"),
    "missing object": (404, error(**MISSING), Rejected, "resource_missing payment_method"),
    "nothing of this charge": (400, error(type="invalid_request_error", code="x"), Refused, "the account"),
    "404, nothing of this charge": (404, error(type="invalid_request_error", code="x"), Refused, "the account"),
    "404 of a proxy": (404, b"<html>not found</html>", Unknown, None),
    "404 of another type": (404, error(type="api_error"), Unknown, None),
    "400 of a proxy": (400, b"bad request", Unknown, None),
    "400 of another type": (400, error(type="brand_new_error"), Unknown, None),
    "key reused": (400, error(type="idempotency_error"), Conflict, "other parameters"),
    "unauthorized": (401, error(**INVALID), Refused, "401"),
    "401 html": (401, b"<html>", Unknown, "401"),
    "forbidden": (403, error(**INVALID), Refused, "403"),
    "403 html": (403, b"<html>", Unknown, "403"),
    "in use": (409, error(**IN_USE), InFlight, None),
    "409 of another code": (409, error(type="api_error", code="lock_timeout"), Unknown, "lock_timeout"),
    "409 html": (409, b"<html>", Unknown, None),
    "rate limited": (429, error(type="invalid_request_error", code="rate_limit"), Refused, "429"),
    "lock timeout": (429, error(type="invalid_request_error", code="lock_timeout"), Refused, "429"),
    "429 html": (429, b"<html>", Unknown, "429"),
    # indeterminate
    "500": (500, error(type="api_error"), Unknown, "500"),
    "500 that speaks of a decline": (500, error(**DECLINE), Unknown, "500"),
    "500 with an intent": (500, PAID, Unknown, "500"),
    **{f"{status}": (status, b"<html>", Unknown, str(status)) for status in (502, 503, 504)},
    **{f"status {status}": (status, error(**INVALID), Unknown, None) for status in (405, 418, 422, 451, 501, 599)},
    # our own intent in an error: it was begun, whatever the status says
    **{
        f"{status} with our intent": (status, error(type="api_error", payment_intent=PAID), Succeeded, None)
        for status in (400, 401, 404, 409, 429, 500)
    },
}


@pytest.mark.parametrize("case", SEEN)
def test_what_one_answer_tells(case: str) -> None:
    """Each answer of STRIPE.md §2 is the outcome of its row; anything else is Unknown (F27, F32, F43–F46, F56, F60)."""
    status, body, kind, reason = SEEN[case]
    answer = read(status, body)
    assert kind is type(answer.outcome)
    assert (status, 7) == (answer.status, answer.elapsed_ms)
    if reason is not None:
        assert reason in (answer.outcome.reason or "")


def test_what_no_answer_tells() -> None:
    """Before a byte left nothing was executed (F21, F22); after that nothing is known (F24, F26)."""
    assert NotExecuted(Cause.NOT_SENT, "refused") == API.read_charge(NoReply(False, "refused", 3), EXPECTED).outcome
    paused = API.read_charge(NoReply(False, "paused", 3, paused=True), EXPECTED)
    assert NotExecuted(Cause.PAUSED, "paused") == paused.outcome
    assert Unknown("broke") == API.read_charge(NoReply(True, "broke", 3), EXPECTED).outcome


def test_ids_of_the_provider() -> None:
    """A success and a decline name the provider's intent and charge."""
    assert Succeeded("pi_1", "ch_1") == read(200, PAID).outcome
    declined = read(402, error(**DECLINE, payment_intent=UNPAID)).outcome
    assert Declined("card_declined lost_card", "pi_1", "ch_1") == declined
    bare = read(402, error(type="card_error", code="card_declined")).outcome
    assert Declined("card_declined", None, None) == bare


def test_causes_of_a_refusal() -> None:
    """429, 401/403 and what names nothing of this charge are told apart: one passes, the others need an operator."""
    invalid = error(type="invalid_request_error")
    causes = {status: read(status, invalid).cause for status in (400, 401, 403, 404, 429)}
    assert causes == {
        400: Cause.ACCOUNT,
        401: Cause.CREDENTIAL,
        403: Cause.CREDENTIAL,
        404: Cause.ACCOUNT,
        429: Cause.RATE_LIMITED,
    }


WRONG: list[object] = [None, True, 0, -1, 1.5, 1e308, 10**25, "", "2000", "é\u202e", [], {}, [[]], {"id": 5}]
RAW = {
    "NaN amount": b'{"id":"pi_1","status":"succeeded","amount":NaN}',
    "infinite amount": b'{"id":"pi_1","status":"succeeded","amount":1e999}',
    "huge amount": b'{"id":"pi_1","status":"succeeded","amount":' + b"9" * 5000 + b"}",
    "long amount": b'{"id":"pi_1","status":"succeeded","amount":' + b"9" * 4000 + b"}",
    "negative": b'{"id":"pi_1","status":"succeeded","amount":-2000}',
    "arrays 100,000 deep": b"[" * 100_000,
    "objects 100,000 deep": b'{"id":' * 100_000,
    "a deep new field": b'{"id":"pi_1","status":"succeeded","new":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a deep metadata value": b'{"id":"pi_1","status":"succeeded","metadata":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "lone surrogate": b'{"id":"pi_\\ud800","status":"\\udc00","metadata":{"paycli_key":"\\ud800"}}',
    "not UTF-8": b'{"id":"\xff\xfe","status":"succeeded"}',
    "UTF-16": json.dumps(PAID).encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + json.dumps(PAID).encode(),
    "two documents": json.dumps(PAID).encode() * 2,
    "zero bytes": b"\0" * 64,
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("status", [200, 400, 402, 409, 500])
def test_garbage_is_never_a_result(name: str, status: int) -> None:
    """A hostile or damaged body is Unknown or Conflict: never a crash, a success or a refusal (F27, F36, F60, F134)."""
    answer = read(status, RAW[name])
    assert isinstance(answer.outcome, Unknown | Conflict)


@pytest.mark.parametrize("field", [*PAID, "last_payment_error"])
def test_wrong_types_are_never_a_success(field: str) -> None:
    """A field of another type or value never makes a success of an answer that lacks what we check."""
    optional: dict[str, tuple[object, ...]] = {
        "livemode": (None,),
        "amount_received": (None,),
        "latest_charge": (None, "", "2000", "é\u202e"),
    }
    optional["last_payment_error"] = tuple(WRONG)  # a payment that succeeded may have failed before
    for value in WRONG:
        outcome = read(200, {**PAID, field: value}).outcome
        succeeded = isinstance(outcome, Succeeded)
        allowed = any(
            value is other or (value == other and type(value) is type(other)) for other in optional.get(field, ())
        )
        if field == "id" and value == "2000":
            allowed = True  # any printable word may be an id
        assert allowed or not succeeded, f"{field}={value!r}"


def test_unusable_charge_id_is_not_stored() -> None:
    """A charge id that cannot be shown is dropped; the success stands."""
    assert Succeeded("pi_1", None) == read(200, {**PAID, "latest_charge": "ch_\x1b[2J"}).outcome


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PAID, "error", "type"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(status=st.integers(200, 599), body=json_values, raw=st.none() | st.binary(max_size=40))
def test_anything_can_be_read(status: int, body: object, raw: bytes | None) -> None:
    """Whatever arrives is an outcome, and without our key in it never a success."""
    answer = read(status, raw if raw is not None else body)
    assert not isinstance(answer.outcome, Succeeded)
    reply = Reply(status, {}, raw if raw is not None else json.dumps(body).encode(), 7)
    API.read_intent(reply, EXPECTED)
    API.read_account(reply)
    for path in LIST_PATHS:
        API.read_page(path, reply)


@given(
    st.dictionaries(st.sampled_from(["date", "retry-after", "request-id", "stripe-should-retry"]), st.text(max_size=40))
)
def test_any_header_can_be_read(headers: dict[str, str]) -> None:
    """Whatever a header says, the answer is read; what is not usable is None."""
    answer = read(200, PAID, headers)
    assert Succeeded("pi_1", "ch_1") == answer.outcome
    assert answer.retry_after_s is None or answer.retry_after_s >= 0
    assert answer.provider_time is None or answer.provider_time.tzinfo is not None


UNUSABLE_DATES = [
    "",
    "yesterday",
    "1 1 1",
    "\ud800",
    "Mon, 32 Jan 2026 00:00:00 GMT",
    "Mon, 01 Jan 2026 00:00:00 -9999",
    "Mon, 01 Jan 2026 00:00:00 +" + "9" * 20,
    "Mon, 01 Jan " + "9" * 20,
    "Fri, 31 Dec 9999 ",
    "Sat, 01 Jan 0001 00:00:00 +2359",
]


@pytest.mark.parametrize("date", UNUSABLE_DATES)
def test_unusable_dates(date: str) -> None:
    """A Date that is not one is no time at all: it must not crash the record of a payment that succeeded (F60)."""
    answer = read(200, PAID, {"date": date, "retry-after": date})
    assert Succeeded("pi_1", "ch_1") == answer.outcome


NOW = "Fri, 20 Nov 2026 12:00:00 GMT"
RETRY_AFTER = {
    "0": 0.0,
    "2": 2.0,
    "21600": 21600.0,  # six hours
    "9" * 30: 999999999.0,
    "Fri, 20 Nov 2026 12:00:30 GMT": 30.0,
    "Friday, 20-Nov-26 18:00:00 GMT": 21600.0,
    "Fri, 20 Nov 2026 11:00:00 GMT": 0.0,  # past
    "-5": None,
    "1.5": None,
    "1e3": None,
    "٣": None,
    "soon": None,
    "": None,
}


@pytest.mark.parametrize("text", RETRY_AFTER)
def test_retry_after(text: str) -> None:
    """Retry-After is read as seconds or as a date by the provider's clock; negative or unreadable is none (F42)."""
    assert RETRY_AFTER[text] == read(429, b"", {"retry-after": text, "date": NOW}).retry_after_s


def test_headers_for_support() -> None:
    """Request-Id, Original-Request, the replay mark and Stripe-Should-Retry are kept when they are usable."""
    headers = {"request-id": "req_2", "original-request": "req_1", "idempotent-replayed": "true", "date": NOW}
    answer = read(500, error(type="api_error"), {**headers, "stripe-should-retry": "false"})
    assert (
        answer.request_id,
        answer.original_request,
        answer.replayed,
        answer.should_retry,
    ) == ("req_2", "req_1", True, False)
    assert answer.provider_time == AT
    other = read(500, b"", {"request-id": "req\x1b[2J", "idempotent-replayed": "maybe", "stripe-should-retry": "maybe"})
    assert (
        other.request_id,
        other.original_request,
        other.replayed,
        other.should_retry,
    ) == (None, None, False, None)


def test_reasons_hold_no_free_text() -> None:
    """A provider's message never reaches a row: it is untrusted, and may repeat what the customer typed (S24)."""
    secret = "4242 4242 4242 4242 \x1b[2J"
    for status in (400, 402, 404, 409, 500):
        for kind in ("card_error", "invalid_request_error", "api_error", "idempotency_error"):
            outcome = read(status, error(type=kind, code="c" + secret, param="p\n", message=secret)).outcome
            assert "\x1b" not in (outcome.reason or "")
            assert " 4242" not in (outcome.reason or "")
            assert "\n" not in (outcome.reason or "")
