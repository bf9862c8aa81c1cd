"""Stripe's own objects and errors, and mutations of them, through the gateway's reading: what each proves.

Not here: what the proof does to a charge (`state.py`'s tests), and the requests that led to it.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_client import Charge, State, Stripe
from gateway_client.gateways.base import Account, NoReply, Page, Reply
from gateway_client.gateways.stripe_objects import ChargeObject, IntentObject, answered, decode
from gateway_client.outcome import (
    Answer,
    Canceled,
    Cause,
    Conflict,
    CouldNotAsk,
    Declined,
    InFlight,
    NotExecuted,
    Outcome,
    Processing,
    Refused,
    Rejected,
    ReplyClass,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.proof import Expected, prove
from tests.oracle_stripe import FIXTURES, STRIPE_FOLDER
from tests.oracle_world import API_KEY

GATEWAY = Stripe(API_KEY)
SAMPLES: dict[str, Any] = FIXTURES["samples"]
REALISTIC: dict[str, Any] = json.loads((STRIPE_FOLDER / "charge-realistic.json").read_text(encoding="utf-8"))
KEY = "pc1_fixture"
NOW = datetime(2026, 11, 20, tzinfo=UTC)
CHARGE = Charge("order_42", 1, State.SENDING, KEY, 47854, "usd", None, None, 1, NOW, NOW, None, None)
EXPECTED = Expected.of(CHARGE, live=False)


def ours(found: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A fixture as if our create call had made it."""
    return found | {"metadata": {**found["metadata"], "paycli_key": KEY}} | changes


SUCCEEDED = ours(SAMPLES["payment_intent_succeeded"])
DECLINED = ours(SAMPLES["payment_intent_declined"])
CARD_ERROR = {"error": {**SAMPLES["error_402_card_declined"]["error"], "payment_intent": DECLINED}}


def reply(status: int, body: Any, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, body if isinstance(body, bytes) else json.dumps(body).encode(), 5)


def answer(status: int, body: Any, *, echo: bool = True) -> Answer:
    """What an answer proves; with `echo` it names our key in a header, as the provider's own answers to a send do."""
    return GATEWAY.read_charge(reply(status, body, **({"idempotency_key": KEY} if echo else {})), EXPECTED)


def read(status: int, body: Any) -> Outcome:
    return answer(status, body).outcome


INTENT, PAID, REFUSED = SUCCEEDED["id"], SUCCEEDED["latest_charge"], DECLINED["latest_charge"]

# status, body -> what it proves (STRIPE.md §2)
TABLE: list[tuple[str, int, Any, Outcome]] = [
    ("success", 200, SUCCEEDED, Succeeded(INTENT, PAID)),
    ("success, expanded charge", 200, ours(SUCCEEDED, latest_charge=REALISTIC), Succeeded(INTENT, REALISTIC["id"])),
    ("declined intent", 200, DECLINED, Declined("", DECLINED["id"], REFUSED)),
    ("card error", 402, CARD_ERROR, Declined("card_declined generic_decline", DECLINED["id"], REFUSED)),
    ("402 of another type", 402, {"error": {"type": "api_error"}}, Unknown("HTTP 402: api_error")),
    ("key in use", 409, SAMPLES["error_409_key_in_use"], InFlight("a request with this key is executing now")),
    ("other 409", 409, {"error": {"type": "idempotency_error"}}, Unknown("HTTP 409: idempotency_error")),
    ("500", 500, SAMPLES["error_500"], Unknown("HTTP 500: api_error")),
    ("503", 503, b"<html>busy</html>", Unknown("HTTP 503 without a Stripe error in it")),
    ("404 of a proxy", 404, b"not found", Unknown("HTTP 404 without a Stripe error in it")),
    ("HTML", 200, b"<html>login</html>", Unknown("HTTP 200 without a payment intent in it")),
    ("nothing", 200, b"", Unknown("HTTP 200 without a payment intent in it")),
    ("not UTF-8", 200, b'{"id":"pi_\xff"}', Unknown("HTTP 200 without a payment intent in it")),
    ("another object", 200, {"id": "cus_1", "object": "customer"}, Unknown("HTTP 200 without a payment intent in it")),
    ("a redirect", 302, b"", Unknown("HTTP 302 without a Stripe error in it")),
]
KINDS: list[tuple[str, int, Any, type[Outcome]]] = [
    ("mismatch 400", 400, SAMPLES["error_400_idempotency_mismatch"], Conflict),
    ("validation 400", 400, {"error": {"type": "invalid_request_error", "param": "amount"}}, Rejected),
    ("404 of Stripe", 404, {"error": {"type": "invalid_request_error", "param": "payment_method"}}, Rejected),
    ("400 of the account", 400, {"error": {"type": "invalid_request_error", "code": "account_invalid"}}, Refused),
    ("404 of the account", 404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}, Refused),
    ("401", 401, {"error": {"type": "invalid_request_error"}}, Refused),
    ("403", 403, {"error": {"type": "invalid_request_error"}}, Refused),
    ("403 of a filter", 403, b"", Unknown),
    ("429 lock", 429, SAMPLES["error_429_lock_timeout"], Refused),
    ("429 rate", 429, SAMPLES["error_429_rate_limit"], Refused),
    ("429 of a filter", 429, b"slow down", Unknown),
    ("processing", 200, ours(SUCCEEDED, status="processing"), Processing),
    ("requires_capture", 200, ours(SUCCEEDED, status="requires_capture"), Processing),
    ("requires_action", 200, ours(SUCCEEDED, status="requires_action"), RequiresAction),
    ("canceled", 200, ours(SUCCEEDED, status="canceled"), Canceled),
    ("requires_confirmation", 200, ours(SUCCEEDED, status="requires_confirmation"), Unknown),
    ("unknown status", 200, ours(SUCCEEDED, status="teleported"), Unknown),
    ("unknown error type", 400, {"error": {"type": "moon_phase_error"}}, Unknown),
    ("other amount", 200, ours(SUCCEEDED, amount=47855), Conflict),
    ("received less", 200, ours(SUCCEEDED, amount_received=1), Conflict),
    ("other currency", 200, ours(SUCCEEDED, currency="eur"), Conflict),
    ("other mode", 200, ours(SUCCEEDED, livemode=True), Conflict),
    ("other key", 200, SAMPLES["payment_intent_succeeded"], Unknown),
    ("no metadata", 200, {**SUCCEEDED, "metadata": None}, Unknown),
    ("a decline of another intent", 402, SAMPLES["error_402_card_declined"], Unknown),
]


@pytest.mark.parametrize(("status", "body", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_an_answer_proves(status: int, body: Any, expected: Outcome) -> None:
    """Each row of STRIPE.md §2: an answer proves exactly this; provider text goes nowhere."""
    found = read(status, body)
    assert type(expected) is type(found)
    if not (isinstance(found, Declined) and status == 200):
        assert expected == found


@pytest.mark.parametrize(("status", "body", "expected"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_which_kind_of_proof_an_answer_is(status: int, body: Any, expected: type[Outcome]) -> None:
    """F27, F35, F56, F60: the rest of STRIPE.md §2: another payment is never a success, the unknown never a crash."""
    assert type(read(status, body)) is expected


ERRORS = [(name, status, body) for name, status, body, _ in (*TABLE, *KINDS) if status >= 300]


@pytest.mark.parametrize(("status", "body"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_an_error_without_our_key_proves_nothing(status: int, body: Any) -> None:
    """F35: what Stripe's errors say is told without the echo of our key, and proves nothing; our own intent does."""
    found = answer(status, body, echo=False)
    assert found.proven is (body is CARD_ERROR)
    assert found.proven or isinstance(found.outcome, Unknown)
    assert found.cause == answer(status, body).cause


@pytest.mark.parametrize(
    ("status", "cause"),
    [(401, Cause.CREDENTIAL), (403, Cause.CREDENTIAL), (429, Cause.RATE_LIMITED), (400, Cause.ACCOUNT)],
)
@pytest.mark.parametrize("echo", [True, False])
def test_causes_of_a_pause(status: int, cause: Cause, *, echo: bool) -> None:
    """A 401 is the credential's, a 429 the rate's, a 400 that names nothing the account's: the loop must know which."""
    assert answer(status, {"error": {"type": "invalid_request_error"}}, echo=echo).cause is cause
    assert answer(status, b"<html>no</html>", echo=echo).cause is None


def test_no_reply_is_not_sent_or_unknown() -> None:
    """Only "not one byte left" is not executed; every other silence is unknown."""
    for sent, paused, kind in ((True, False, Unknown), (False, False, NotExecuted), (False, True, NotExecuted)):
        outcome = GATEWAY.read_charge(NoReply(sent, "why", 5, paused), EXPECTED).outcome
        assert type(outcome) is kind


@pytest.mark.parametrize("name", FIXTURES["resources"])
def test_fixtures_decode(name: str) -> None:
    """Stripe's fixtures of intents and charges decode; other objects are not mistaken for either."""
    whole = reply(200, FIXTURES["resources"][name])
    kinds: dict[str, type[IntentObject | ChargeObject]] = {"payment_intent": IntentObject, "charge": ChargeObject}
    if name in kinds:
        found = decode(whole, kinds[name])
        assert found is not None
        assert found.id == FIXTURES["resources"][name]["id"]
    assert not isinstance(read(200, FIXTURES["resources"][name]), Succeeded)


def test_a_realistic_page_decodes() -> None:
    """A full-size charge on a list is found by our key and proves the success; a stranger's is only counted."""
    charge = ours(REALISTIC, amount=47854, currency="usd", livemode=False, status="succeeded")
    page = {"object": "list", "data": [charge, REALISTIC], "has_more": True, "url": "/v1/charges"}
    found = GATEWAY.read_page("/v1/charges", reply(200, page))
    assert isinstance(found, Page)
    ours_item, strangers = found.items
    assert Succeeded(REALISTIC["payment_intent"], REALISTIC["id"]) == prove(EXPECTED, ours_item)
    assert (ours_item.key, strangers.key) == (KEY, None)
    assert (found.last_id, found.has_more) == (REALISTIC["id"], True)


def test_an_uncaptured_charge_is_not_a_success() -> None:
    """A listed charge that is only authorized is `processing`, as its intent would be: no money has moved."""
    charge = ours(SAMPLES["charge_succeeded"], captured=False, amount_captured=0)
    page = {"object": "list", "url": "/v1/charges", "data": [charge], "has_more": False}
    found = GATEWAY.read_page("/v1/charges", reply(200, page))
    assert isinstance(found, Page)
    assert type(prove(EXPECTED, found.items[0])) is Processing


def test_what_support_asks_for_is_kept() -> None:
    """Request-Id, Original-Request, the replay mark, retry hints and the provider's time come out of the headers."""
    headers = {
        "request_id": "req_2",
        "original_request": "req_1",
        "idempotent_replayed": "true",
        "stripe_should_retry": "false",
        "retry_after": "7",
        "date": "Fri, 20 Nov 2026 00:00:00 GMT",
    }
    assert answered(reply(200, {}, **headers)) == Answer(
        Unknown("not read yet"),
        status=200,
        reply=ReplyClass.ANSWERED,
        request_id="req_2",
        original_request="req_1",
        replayed=True,
        provider_time=NOW,
        retry_after_s=7.0,
        should_retry=False,
        elapsed_ms=5,
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("-5", None),
        ("soon", None),
        ("1e3", None),
        ("Fri, 20 Nov 2026 00:01:00 GMT", 60.0),
        ("Fri, 20 Nov 2026 06:00:00 GMT", 21600.0),
        ("Thu, 19 Nov 2026 00:00:00 GMT", 0.0),
        ("", None),
    ],
)
def test_retry_after_is_read_or_ignored(text: str, seconds: float | None) -> None:
    """F42: seconds or an HTTP date; a negative or unreadable one is no hint."""
    found = answered(reply(429, {}, retry_after=text, date="Fri, 20 Nov 2026 00:00:00 GMT"))
    assert found.retry_after_s == seconds


# Mutations -----------------------------------------------------------------------------------------------------------

odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["usd", KEY, 47854]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
LISTS = ("/v1/payment_intents", "/v1/charges")
MUTABLE: list[Any] = [SUCCEEDED, DECLINED, CARD_ERROR, *SAMPLES.values(), REALISTIC, FIXTURES["resources"]["charge"]]
READ = ("id", "status", "amount", "amount_received", "currency", "livemode", "metadata", "latest_charge", "error")


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A fixture with fields replaced, removed and added, at the top or inside; those we read most of all."""
    whole = json.loads(json.dumps(draw(st.sampled_from(MUTABLE))))
    for _ in range(draw(st.integers(1, 4))):
        inner = whole
        while True:
            below = [name for name in inner if isinstance(inner[name], dict) and inner[name]]
            if not below or draw(st.booleans()):
                break
            inner = inner[draw(st.sampled_from(sorted(below)))]
        name = draw(st.sampled_from(READ) | st.sampled_from(sorted(inner)) | st.text(max_size=5))
        if draw(st.booleans()):
            inner.pop(name, None)
        else:
            inner[name] = draw(odd)
        if not whole:
            break
    return whole


def safe_success(body: Any, *, an_intent: bool = True) -> bool:
    """Whether calling this body a success is right: our key, amount, currency and mode are all in it."""
    found = json.loads(body) if isinstance(body, bytes) else body
    return (
        found.get("status") == "succeeded"
        and (found.get("amount"), found.get("currency")) == (CHARGE.amount, CHARGE.currency)
        and isinstance(found.get("metadata"), dict)
        and found["metadata"].get("paycli_key") == KEY
        and found.get("livemode") in (False, None)
        and (not an_intent or found.get("amount_received") in (CHARGE.amount, None))
    )


@settings(max_examples=400, deadline=None)
@given(mutated(), st.sampled_from([200, 201, 302, 400, 402, 404, 409, 429, 500, 503, 599]))
def test_mutated_answers_never_crash_and_never_lie(body: Any, status: int) -> None:
    """F60: whatever an answer's JSON holds, reading it does not raise, and only our own payment is a success."""
    outcome = read(status, body)
    if isinstance(outcome, Succeeded):
        assert safe_success(body if 200 <= status < 300 else body["error"]["payment_intent"])
    for text in (getattr(outcome, name, None) for name in ("reason", "provider_intent_id", "provider_charge_id")):
        assert text is None or (text.isprintable() and len(text) <= 400)
    told = GATEWAY.read_intent(reply(status, body), replace(EXPECTED, provider_intent_id=INTENT))
    if isinstance(told, Answer) and isinstance(told.outcome, Succeeded):
        stripped = not any(name.startswith("paycli_") for name in body.get("metadata") or ())  # ours by its id
        named = {**body, "metadata": {"paycli_key": KEY}} if stripped else body
        assert (status, body["id"], safe_success(named)) == (200, INTENT, True)
    assert isinstance(GATEWAY.read_account(reply(status, body)), Account | CouldNotAsk)


@settings(max_examples=150, deadline=None)
@given(st.lists(mutated(), max_size=3), st.booleans() | odd, st.sampled_from([*LISTS, None]), st.just("list") | odd)
def test_mutated_pages_never_crash_and_never_lie(data: list[Any], has_more: Any, url: str | None, kind: Any) -> None:
    """F60: the same for lists: a page is read or refused as a whole, and only our own payment is a success."""
    for path in LISTS:
        body = {"object": kind, "url": url, "data": data, "has_more": has_more}
        page = GATEWAY.read_page(path, reply(200, body))
        if isinstance(page, Page):
            assert (kind, url) == ("list", path)
            for item in page.items:
                if isinstance(prove(EXPECTED, item), Succeeded):
                    intents = path == "/v1/payment_intents"
                    assert any(safe_success(found, an_intent=intents) for found in data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([200, 400, 402, 409, 500]))
def test_bytes_never_crash(body: bytes, status: int) -> None:
    """F27: any bytes are read as something, and never as a success."""
    assert not isinstance(read(status, body), Succeeded)


def test_deep_json_never_crashes() -> None:
    """F36: JSON nested past any sense is unreadable, not a crash."""
    assert isinstance(read(200, b'{"id":' + b"[" * 200_000), Unknown)


@pytest.mark.parametrize("amount", ["47854", 47854.0, 47854.5, True, 2**63, 2**200, -47854, None])
def test_only_a_whole_number_is_an_amount(amount: Any) -> None:
    """F134: text, fractions, booleans and numbers too large are not our amount."""
    assert isinstance(read(200, ours(SUCCEEDED, amount=amount)), Unknown | Conflict) or amount == 47854.0
