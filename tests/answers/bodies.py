"""Bodies and statuses of answers: what the provider refuses with, and what a box makes up or passes on. Pure.

`of_a_box` gives every kind the same chance; what is of ours in it is only what the provider truly has.
"""

from __future__ import annotations

import json
from typing import Any

from tests.answers.lengths import pick
from tests.answers.provider import ACCOUNT, Answered, Json, Payment, Provider, charge, error, intent
from tests.sim.decisions import Dice

USUAL: tuple[int, ...] = (200, 200, 201, 202, 204, 301, 302, 304, 307, 400, 400, 401, 402, 402, 403, 404, 405, 407)
USUAL = (*USUAL, 408, 409, 410, 413, 422, 425, 429, 429, 431, 451, 499, 500, 500, 501, 502, 503, 504, 511, 520, 522)
PAGE = b"<!doctype html><html><body><h1>Please log in to this network</h1></body></html>"

BODIES = (
    "api_error",
    "card_error",
    "card_error with ours",
    "card_error with another's",
    "idempotency_error",
    "invalid, param",
    "invalid",
    "invalid, code",
    "invalid with ours",
    "invalid with another's",
    "authentication",
    "permission",
    "rate_limit",
    "in use",
    "unknown type",
    "api_error with ours",
    "api_error with another's",
    "empty",
    "page",
    "other JSON",
    "cut",
    "ours",
    "another's",
    "a list",
    "a charge",
)
_WITH_OURS = tuple(kind for kind in BODIES if "ours" in kind)


def status_of_a_box(dice: Dice) -> int:
    """Any, more often one that is known to mean something."""
    return 100 + dice.below(500) if dice.hits(0.35) else pick(dice, *USUAL)


def refusal(dice: Dice) -> Answered:
    """How the provider refuses a delivery that it does not execute. Nothing of this is saved."""
    status, fields = pick(dice, *_REFUSALS)
    kind = "api_error" if status == 503 else "invalid_request_error"
    return Answered(status, error(kind, **fields))


_NO_METHOD = {"param": "payment_method", "code": "resource_missing"}
_REFUSALS: tuple[tuple[int, dict[str, str]], ...] = (
    (400, _NO_METHOD),
    (400, _NO_METHOD),
    (400, _NO_METHOD),
    (404, _NO_METHOD),
    (400, {"param": "amount"}),
    (400, {}),
    (400, {"code": "testmode_charges_only"}),
    (401, {}),
    (403, {"code": "more_permissions_required"}),
    (409, {"code": "lock_timeout"}),
    (429, {"code": "rate_limit"}),
    (503, {}),
)


def of_a_box(dice: Dice, provider: Provider, key: str, another: Json) -> tuple[str, bytes]:
    """One kind of body, and an example of it."""
    ours = provider.of_key(key)
    kind = pick(dice, *_WITH_OURS) if ours is not None and dice.hits(0.3) else pick(dice, *BODIES)
    if ours is None and "ours" in kind:
        kind = kind.replace("ours", "another's")
    made: Any
    match kind:
        case "empty":
            return kind, pick(dice, b"", b" ", b"\r\n")
        case "page":
            return kind, PAGE
        case "cut":
            whole = json.dumps(another if ours is None else intent(ours)).encode()
            return kind, whole[: 1 + dice.below(len(whole) - 1)]
        case "other JSON":
            made = _other_json(dice)
        case "ours" | "another's":
            made = _object(ours, another, kind)
        case "a list":
            made = {"object": "list", "url": "/v1/payment_intents", "data": [another], "has_more": False}
        case "a charge":
            made = {"id": "ch_another", "object": "charge", "status": "succeeded"} if ours is None else charge(ours)
        case _:
            made = _error(dice, kind, ours, another)
    return kind, json.dumps(made).encode()


def _object(ours: Payment | None, another: Json, kind: str) -> Json:
    return intent(ours) if ours is not None and kind.endswith("ours") else another


def _error(dice: Dice, kind: str, ours: Payment | None, another: Json) -> Json:  # noqa: PLR0911 - one kind a line
    named, _, inside = kind.partition(" with ")
    more: dict[str, Any] = {}
    if inside:
        more["payment_intent"] = _object(ours, another, inside)
    match named:
        case "card_error":
            return error("card_error", code="card_declined", decline_code="do_not_honor", **more)
        case "invalid, param":
            return error("invalid_request_error", param=pick(dice, "payment_method", "amount", ""), **more)
        case "invalid, code":
            code = pick(dice, "resource_missing", "payment_intent_unexpected_state", "rate_limit", "parameter_unknown")
            return error("invalid_request_error", code=code, **more)
        case "invalid" | "permission" | "authentication":
            return error("invalid_request_error", **more)
        case "rate_limit":
            return error("invalid_request_error", code="rate_limit")
        case "in use":
            return error("idempotency_error", code="idempotency_key_in_use")
        case "unknown type":
            return error(pick(dice, "something_else", "", "idempotency"), param="amount")
    return error(named, **more)


def _other_json(dice: Dice) -> Any:
    return pick(
        dice,
        {},
        [],
        None,
        True,
        "denied",
        {"error": "denied"},
        {"error": {"message": "denied"}},
        {"error": {"code": 403, "status": "PERMISSION_DENIED"}},
        {"error": None},
        {"id": "pi_1", "status": "succeeded"},
        {"id": 7, "object": "payment_intent", "status": "succeeded"},
        {"object": "account", "id": "not one"},
        {"message": f"{ACCOUNT} is blocked"},
        {"data": [], "has_more": False},
    )
