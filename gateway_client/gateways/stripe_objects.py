"""Stripe's objects and headers as far as we read them: decoded leniently, made harmless, judged nowhere.

New fields and unknown enum values pass; a body of another shape is None. What an object proves is `proof.py`'s to say.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from gateway_client.gateways.base import AMOUNT_MAX, NoReply, Plain, Reply, Stated
from gateway_client.intent import INTENT_ID_MAX
from gateway_client.outcome import Answer, Cause, CouldNotAsk, NotExecuted, Outcome, ReplyClass, Unknown
from gateway_client.proof import Item, Kind, Shown
from gateway_client.state import State

T = TypeVar("T")

ACCOUNT_ID = re.compile("acct_[A-Za-z0-9]{1,250}")
_ATTEMPT = re.compile("[1-9][0-9]{0,8}", re.ASCII)
_ID = re.compile("[A-Za-z0-9_.:/+=~-]{1,255}")
_CLASSES = {403: ReplyClass.FORBIDDEN, 404: ReplyClass.NOT_FOUND, 500: ReplyClass.SERVER_ERROR}
_CLASSES |= dict.fromkeys((409, 429), ReplyClass.BUSY) | dict.fromkeys((502, 503, 504), ReplyClass.DOWN)


class ExpandedObject(msgspec.Struct):
    id: str


class ErrorObject(msgspec.Struct):
    type: str | None = None
    message: str | None = None  # looked at for an account's id only, and never shown
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    payment_intent: IntentObject | None = None
    charge: str | ExpandedObject | None = None


class IntentObject(msgspec.Struct):
    id: str
    status: str
    kind: str | None = msgspec.field(default=None, name="object")
    created: int | None = None
    amount: int | None = None
    amount_received: int | None = None
    currency: str | None = None
    livemode: bool | None = None
    metadata: dict[str, object] | None = None
    customer: str | ExpandedObject | None = None
    payment_method: str | ExpandedObject | None = None
    latest_charge: str | ExpandedObject | None = None
    last_payment_error: ErrorObject | None = None


class ChargeObject(msgspec.Struct):
    id: str
    status: str
    kind: str | None = msgspec.field(default=None, name="object")
    created: int | None = None
    amount: int | None = None
    currency: str | None = None
    livemode: bool | None = None
    metadata: dict[str, object] | None = None
    customer: str | ExpandedObject | None = None
    payment_method: str | ExpandedObject | None = None
    payment_intent: str | ExpandedObject | None = None
    captured: bool | None = None
    failure_code: str | None = None


class AccountBody(msgspec.Struct):
    id: str
    kind: str | None = msgspec.field(default=None, name="object")


class ErrorBody(msgspec.Struct):
    error: ErrorObject


class IntentList(msgspec.Struct):
    data: list[IntentObject]
    has_more: bool
    kind: str | None = msgspec.field(default=None, name="object")
    url: str | None = None


class ChargeList(msgspec.Struct):
    data: list[ChargeObject]
    has_more: bool
    kind: str | None = msgspec.field(default=None, name="object")
    url: str | None = None


class AnyBody(msgspec.Struct):
    """The form of every body of Stripe's: an object that says its kind, or an error that says its type."""

    kind: str | None = msgspec.field(default=None, name="object")
    error: ErrorObject | None = None


def decode(reply: Reply, kind: type[T]) -> T | None:
    return decode_text(reply.body, kind)


def decode_text(text: bytes | msgspec.Raw, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def in_form(reply: Reply) -> bool:
    """Whether a body is an object that says its kind, or an error that says its type, as all of Stripe's do."""
    body = decode(reply, AnyBody)
    return body is not None and (body.kind is not None or (body.error is not None and body.error.type is not None))


def answered(reply: Reply) -> Answer:
    headers = reply.headers
    should_retry = headers.get("stripe-should-retry")
    date = http_date(headers.get("date"))
    return Answer(
        Unknown("not read yet"),
        status=reply.status,
        reply=class_of(reply),
        request_id=usable_id(headers.get("request-id")),
        original_request=usable_id(headers.get("original-request")),
        replayed=headers.get("idempotent-replayed") == "true",
        provider_time=date,
        retry_after_s=retry_after_s(headers.get("retry-after"), date),
        should_retry=None if should_retry not in ("true", "false") else should_retry == "true",
        elapsed_ms=reply.elapsed_ms,
    )


def class_of(reply: Reply | NoReply) -> ReplyClass:
    if isinstance(reply, NoReply):
        return ReplyClass.DOWN
    return _CLASSES.get(reply.status, ReplyClass.ANSWERED if reply.status < 500 else ReplyClass.BROKEN)


def not_answered(reply: NoReply) -> Outcome:
    if reply.sent:
        return Unknown(reply.reason)
    return NotExecuted(Cause.PAUSED if reply.paused else Cause.NOT_SENT, reply.reason)


def could_not_ask(reply: Reply | NoReply) -> CouldNotAsk:
    """A question's reply that is no answer to it."""
    if isinstance(reply, NoReply):
        return CouldNotAsk(reply.reason)
    status, kind = reply.status, class_of(reply)
    body = decode(reply, ErrorBody)
    if status == 401 and body is not None and body.error.type is not None:
        return CouldNotAsk("the provider refused the key (HTTP 401): check STRIPE_API_KEY", kind, credential=True)
    refused = status in (400, 403, 404) and body is not None and body.error.type is not None
    reason = f"HTTP {status}"
    if status == 200:
        reason = "HTTP 200 with a body that is not Stripe's"
    elif status == 403 and refused:
        reason = "the key has no permission to ask this (HTTP 403): give it that permission"
    elif body is not None:
        reason = f"HTTP {status}: {error_words(body.error)}"
    return CouldNotAsk(reason, kind, retry_after_s=answered(reply).retry_after_s, refused=refused)


def http_date(text: str | None) -> datetime | None:
    """An HTTP date (RFC 9110), aware, UTC; None when it is missing or unreadable."""
    try:
        date = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError, TypeError):
        return None
    return date if date is None or date.tzinfo else date.replace(tzinfo=UTC)


def retry_after_s(text: str | None, now: datetime | None) -> float | None:
    """Retry-After in seconds from now: a number or a date (RFC 9110); nothing negative, nothing unreadable."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    date = http_date(text)
    if date is None or now is None:
        return None
    return max(0.0, (date - now).total_seconds())


def usable_id(text: str | None) -> str | None:
    """A provider's id as it may be stored and shown: bounded, and no markup in any terminal or page; else None."""
    return text if text is not None and _ID.fullmatch(text) else None


def id_of(found: str | ExpandedObject | None) -> str | None:
    return usable_id(found.id if isinstance(found, ExpandedObject) else found)


def safe_word(text: str | None) -> str:
    """A provider's word, made harmless: provider text is untrusted and ends in terminals."""
    harmless = (letter for letter in text or "?" if letter.isascii() and (letter.isalnum() or letter in "_.-[]"))
    return "".join(harmless)[:80]


def error_words(error: ErrorObject) -> str:
    """Code, decline code and parameter of an error; never its free text."""
    parts = [safe_word(part) for part in (error.code, error.decline_code, error.param) if part]
    return " ".join(dict.fromkeys(parts)) or safe_word(error.type)


def intent_item(found: IntentObject) -> Item:
    """A payment intent in our words."""
    error, charge_id = found.last_payment_error, id_of(found.latest_charge)
    reason = None if error is None else error_words(error)
    shows = _SHOWN_BY_INTENT.get(found.status, Shown.UNKNOWN)
    if shows is Shown.DECLINED and reason is None and charge_id is None:
        shows = Shown.UNCHARGED  # it never had a charge that failed
    return _item(found, Kind.INTENT, shows, id_of(found.id), charge_id, found.amount_received, reason)


def charge_item(found: ChargeObject) -> Item:
    """A charge in our words."""
    reason = safe_word(found.failure_code) if found.failure_code else None
    shows = _SHOWN_BY_CHARGE.get(found.status, Shown.UNKNOWN)
    if shows is Shown.SUCCEEDED and found.captured is False:
        shows = Shown.AUTHORIZED
    return _item(found, Kind.CHARGE, shows, id_of(found.payment_intent), id_of(found.id), None, reason)


_SHOWN_BY_INTENT = {
    "succeeded": Shown.SUCCEEDED,
    "processing": Shown.PROCESSING,
    "requires_capture": Shown.AUTHORIZED,
    "requires_action": Shown.REQUIRES_ACTION,
    "canceled": Shown.CANCELED,
    "requires_payment_method": Shown.DECLINED,
    "requires_confirmation": Shown.UNCHARGED,
}
_SHOWN_BY_CHARGE = {"succeeded": Shown.SUCCEEDED, "pending": Shown.PROCESSING, "failed": Shown.FAILED_TRY}


def _item(
    found: IntentObject | ChargeObject,
    kind: Kind,
    shows: Shown,
    provider_intent_id: str | None,
    provider_charge_id: str | None,
    received: int | None,
    reason: str | None,
) -> Item:
    named, namespace, intent_id, attempt, key = claims_of(found.metadata or {})
    return Item(
        object_id=usable_id(found.id) or "",
        kind=kind,
        created_at=moment(found.created),
        shows=shows,
        status=safe_word(found.status),
        amount=_amount(found.amount),
        amount_received=_amount(received),
        currency=found.currency if found.currency and re.fullmatch("[a-z]{3}", found.currency) else None,
        live=found.livemode,
        reason=reason,
        provider_intent_id=provider_intent_id,
        provider_charge_id=provider_charge_id,
        customer=id_of(found.customer),
        payment_method=id_of(found.payment_method),
        named=named,
        namespace=namespace,
        intent_id=intent_id,
        attempt=attempt,
        key=key,
    )


def plain_intent(found: IntentObject) -> Plain | None:
    """State what an intent says, when it is a plain success or decline by a charge of its own; else None."""
    state = _STATE_OF_INTENT.get(found.status)
    if state is None or (state is State.SUCCEEDED and found.amount_received != found.amount):
        return None
    charge = found.latest_charge
    stated = _stated(found, state, found.id, charge if isinstance(charge, str) else None)
    return None if stated is None else Plain(found.id, Kind.INTENT, stated)


def plain_charge(found: ChargeObject) -> Plain | None:
    """State what a charge says, when it is a plain success or decline of an intent; else None."""
    state = _STATE_OF_CHARGE.get(found.status)
    if state is None or (state is State.SUCCEEDED and found.captured is not True):
        return None
    intent = found.payment_intent
    stated = _stated(found, state, intent if isinstance(intent, str) else None, found.id)
    return None if stated is None else Plain(found.id, Kind.CHARGE, stated)


_STATE_OF_INTENT = {"succeeded": State.SUCCEEDED, "requires_payment_method": State.DECLINED}
_STATE_OF_CHARGE = {"succeeded": State.SUCCEEDED, "failed": State.DECLINED}
_NUMBERS = {str(number): number for number in range(1, 100)}  # of attempts; another one is read with care


def _stated(found: IntentObject | ChargeObject, state: State, intent: str | None, charge: str | None) -> Stated | None:
    """All that is compared; None when anything of it is missing, or of another type than a row has."""
    metadata = found.metadata or {}
    namespace, key = metadata.get("paycli_namespace"), metadata.get("paycli_key")
    intent_id, attempt = metadata.get("paycli_intent"), metadata.get("paycli_attempt")
    if not (isinstance(intent_id, str) and isinstance(attempt, str) and isinstance(key, str)):
        return None
    # What is no intent id of ours is not looked up: a database may not even hold it.
    if not (intent_id.isascii() and intent_id.isprintable() and 0 < len(intent_id) <= INTENT_ID_MAX):
        return None
    number, amount, currency, live = _NUMBERS.get(attempt), found.amount, found.currency, found.livemode
    if number is None or amount is None or currency is None or live is None or intent is None or charge is None:
        return None
    if not isinstance(namespace, str):
        return None
    return Stated(namespace, live, intent_id, number, key, state, amount, currency, intent, charge)


def claims_of(metadata: dict[str, object]) -> tuple[bool, str | None, str | None, int | None, str | None]:
    """Whether metadata have names of ours, and what they claim: namespace, intent, attempt, key."""
    attempt = _text(metadata.get("paycli_attempt"))
    return (
        any(name.startswith("paycli_") for name in metadata),
        _text(metadata.get("paycli_namespace")),
        _text(metadata.get("paycli_intent")),
        int(attempt) if attempt is not None and _ATTEMPT.fullmatch(attempt) else None,
        _text(metadata.get("paycli_key")),
    )


def moment(seconds: int | None) -> datetime | None:
    """A provider's time in whole seconds; None when it is missing or no time at all."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _amount(amount: int | None) -> int | None:
    return None if amount is None else max(-AMOUNT_MAX, min(amount, AMOUNT_MAX))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
