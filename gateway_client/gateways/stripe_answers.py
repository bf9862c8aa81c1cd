"""How the answer to one send of a charge becomes evidence: the only place where it does. Pure.

First whether it answers this request at all, then what it proves. Stripe echoes the `Idempotency-Key` of a POST: public
captures show it on every 200, on 400s and on declines; whether each of its errors has it is not documented. So another
key's echo is somebody else's answer; an error without an echo is passed on and proves nothing; a success needs our key
in the object that it carries, and no status proves that nothing was executed.
"""

from __future__ import annotations

from dataclasses import replace

from gateway_client.gateways.base import Reply
from gateway_client.gateways.stripe_objects import (
    ErrorBody,
    ErrorObject,
    IntentObject,
    answered,
    decode,
    error_words,
    id_of,
    intent_item,
    usable_id,
)
from gateway_client.outcome import (
    Answer,
    Cause,
    Conflict,
    Declined,
    InFlight,
    Outcome,
    Processing,
    Refused,
    Rejected,
    Succeeded,
    Unknown,
)
from gateway_client.proof import Expected, prove

_ANOTHER = "the answer is about another payment: our key is not in it"


def why_not_an_answer(key: str | None, reply: Reply) -> str | None:
    """Why a reply cannot be the answer to a request with this key (None: without one); None when it can be."""
    echo = reply.headers.get("idempotency-key")
    if echo is not None and echo != key:
        return "the answer is to another request: it names another key"
    if reply.headers.get("age", "0").strip() != "0":
        return "the answer comes from a cache"
    return None


def read_answer(reply: Reply, expected: Expected) -> Answer:
    """What a reply to one send of a charge proves, and whether it is provably the provider's word on this send."""
    assert expected.key is not None, "no send is without a key"
    base = answered(reply)
    why_not = why_not_an_answer(expected.key, reply)
    if why_not is not None:
        return replace(base, outcome=Unknown(why_not))
    echoed = reply.headers.get("idempotency-key") == expected.key
    if 200 <= reply.status < 300:
        return _of_object(base, decode(reply, IntentObject), expected)
    body = decode(reply, ErrorBody)
    if body is None or body.error.type is None:
        return replace(base, outcome=Unknown(f"HTTP {reply.status} without a Stripe error in it"))
    return _of_error_body(base, reply.status, body.error, expected, echoed=echoed)


def _of_error_body(base: Answer, status: int, error: ErrorObject, expected: Expected, *, echoed: bool) -> Answer:
    """An error in Stripe's form: the intent in it comes first, for it says whose answer this is, and what was begun."""
    intent = error.payment_intent
    if intent is not None and intent_item(intent).key != expected.key:
        return replace(base, outcome=Unknown(_ANOTHER))
    if status == 402 and error.type == "card_error":
        return _decline(base, error, expected, proven=echoed or intent is not None)
    if intent is not None:
        return replace(base, outcome=prove(expected, intent_item(intent)), proven=True)
    return replace(base, outcome=_of_error(status, error, proven=echoed), proven=echoed)


def _of_object(base: Answer, intent: IntentObject | None, expected: Expected) -> Answer:
    """A 2xx: the intent in it, if it is ours."""
    if intent is None or intent.kind not in (None, "payment_intent"):
        return replace(base, outcome=Unknown(f"HTTP {base.status} without a payment intent in it"))
    item = intent_item(intent)
    if item.key != expected.key:
        return replace(base, outcome=Unknown(_ANOTHER))
    return replace(base, outcome=prove(expected, item), proven=True)


def _decline(base: Answer, error: ErrorObject, expected: Expected, *, proven: bool) -> Answer:
    words, intent = error_words(error), error.payment_intent
    if not proven:
        return replace(base, outcome=Unknown(f"declined ({words}), but nothing ties that to this charge", told=True))
    if intent is None:
        return replace(base, outcome=Declined(words, None, id_of(error.charge)), proven=True)
    judged = prove(expected, intent_item(intent))
    if isinstance(judged, Conflict):
        return replace(base, outcome=replace(judged, provider_charge_id=None), proven=True)
    if isinstance(judged, Succeeded | Processing):
        return replace(base, outcome=judged, proven=True)  # what the object says of our money counts, not the status
    charge_id = id_of(error.charge) or id_of(intent.latest_charge)
    return replace(base, outcome=Declined(words, usable_id(intent.id), charge_id), proven=True)


def _of_error(status: int, error: ErrorObject, *, proven: bool) -> Outcome:
    """An error in Stripe's form that carries no intent of ours: a result, a pause, or nothing."""
    words = error_words(error)
    if status == 409 and error.code == "idempotency_key_in_use" and proven:
        return InFlight("a request with this key is executing now")
    if status == 400 and error.type == "idempotency_error" and proven:
        return Conflict(f"the key was used with other parameters: {words}")
    cause, reason = _refusal(status, error, words)
    if reason is None:
        return Unknown(f"HTTP {status}: {words}")
    if not proven:
        return Unknown(f"{reason}; nothing ties that to this send", told=True, cause=cause)
    return Rejected(reason) if cause is None else Refused(cause, reason)


def _refusal(status: int, error: ErrorObject, words: str) -> tuple[Cause | None, str | None]:
    """What an error refuses: the credential, the rate, the account (a cause), this charge (no cause); or nothing."""
    if status in (401, 403):
        return Cause.CREDENTIAL, f"the provider refused the credential (HTTP {status})"
    if status == 429:
        return Cause.RATE_LIMITED, "the provider is limiting our rate (HTTP 429)"
    if status in (400, 404) and error.type == "invalid_request_error":
        if error.param is not None:
            return None, words
        return Cause.ACCOUNT, f"the provider refuses the account, and names nothing of this charge: {words}"
    return None, None
