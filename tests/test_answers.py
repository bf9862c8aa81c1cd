"""How an answer becomes evidence: status × body × echo, by hand; what it proves, and what it only tells.

The rows of STRIPE.md §2, with the echo that makes them the provider's: `test_outcomes.py`.
"""

import json
from typing import Any

import pytest

from gateway_client.gateways.base import Reply
from gateway_client.outcome import (
    RESULTS,
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
from tests.test_outcomes import API, DECLINE, EXPECTED, IN_USE, INVALID, KEY, PAID, UNPAID, error

THEIRS = {"metadata": {"paycli_key": "pc1_" + "b" * 52}}

BODIES: dict[str, Any] = {
    "ours": PAID,
    "theirs": {**PAID, **THEIRS},
    "page": b"<html>Forbidden</html>",
    "empty": b"",
    "cut": json.dumps(PAID).encode()[:60],
    "foreign": {"message": "Forbidden"},
    "list": {"object": "list", "url": "/v1/payment_intents", "data": [PAID], "has_more": False},
    "charge": {**PAID, "object": "charge"},
    "no_type": error(message="no"),
    "param": error(**INVALID),
    "no_param": error(type="invalid_request_error", code="account_invalid"),
    "card": error(**DECLINE),
    "card_ours": error(**DECLINE, payment_intent=UNPAID),
    "card_theirs": error(**DECLINE, payment_intent={**UNPAID, **THEIRS}),
    "api": error(type="api_error"),
    "in_use": error(**IN_USE),
    "reused": error(type="idempotency_error"),
    "with_ours": error(**INVALID, payment_intent=PAID),
    "with_theirs": error(**INVALID, payment_intent={**PAID, **THEIRS}),
}

# What a letter of the tables means: the outcome, whether it is proven, the cause, whether it ends the call.
MEANS: dict[str, tuple[type[Outcome], bool, Cause | None, bool]] = {
    ".": (Unknown, False, None, False),
    "p": (Unknown, True, None, False),  # the provider's own word, which is no result
    "S": (Succeeded, True, None, False),
    "D": (Declined, True, None, False),
    "R": (Rejected, True, None, False),
    "A": (Refused, True, Cause.ACCOUNT, False),
    "C": (Refused, True, Cause.CREDENTIAL, False),
    "L": (Refused, True, Cause.RATE_LIMITED, False),
    "F": (InFlight, True, None, False),
    "X": (Conflict, True, None, False),
    "t": (Unknown, False, None, True),
    "a": (Unknown, False, Cause.ACCOUNT, True),
    "c": (Unknown, False, Cause.CREDENTIAL, True),
    "l": (Unknown, False, Cause.RATE_LIMITED, True),
}

STATUSES = (200, 201, 302, 400, 401, 402, 403, 404, 409, 429, 500, 503)
WITH_OUR_ECHO = """
    ours         S S . . . . . . . . . .
    theirs       . . . . . . . . . . . .
    page         . . . . . . . . . . . .
    empty        . . . . . . . . . . . .
    cut          . . . . . . . . . . . .
    foreign      . . . . . . . . . . . .
    list         . . . . . . . . . . . .
    charge       . . . . . . . . . . . .
    no_type      . . . . . . . . . . . .
    param        . . p R C p C R p L p p
    no_param     . . p A C p C A p L p p
    card         . . p p C D C p p L p p
    card_ours    . . D D D D D D D D D D
    card_theirs  . . . . . . . . . . . .
    api          . . p p C p C p p L p p
    in_use       . . p X C p C p F L p p
    reused       . . p X C p C p p L p p
    with_ours    . . S S S S S S S S S S
    with_theirs  . . . . . . . . . . . .
"""
WITHOUT_ECHO = """
    ours         S S . . . . . . . . . .
    theirs       . . . . . . . . . . . .
    page         . . . . . . . . . . . .
    empty        . . . . . . . . . . . .
    cut          . . . . . . . . . . . .
    foreign      . . . . . . . . . . . .
    list         . . . . . . . . . . . .
    charge       . . . . . . . . . . . .
    no_type      . . . . . . . . . . . .
    param        . . . t c . c t . l . .
    no_param     . . . a c . c a . l . .
    card         . . . . c t c . . l . .
    card_ours    . . D D D D D D D D D D
    card_theirs  . . . . . . . . . . . .
    api          . . . . c . c . . l . .
    in_use       . . . . c . c . . l . .
    reused       . . . . c . c . . l . .
    with_ours    . . S S S S S S S S S S
    with_theirs  . . . . . . . . . . . .
"""
ECHOES: dict[str, tuple[dict[str, str], str | None]] = {
    "ours": ({"idempotency-key": KEY, "age": "0"}, WITH_OUR_ECHO),
    "none": ({}, WITHOUT_ECHO),
    "somebody else's": ({"idempotency-key": "pc1_" + "b" * 52}, None),
    "empty": ({"idempotency-key": ""}, None),
    "ours, from a cache": ({"idempotency-key": KEY, "age": "1"}, None),
    "from a cache": ({"age": "86400"}, None),
}


def read(status: int, body: object, headers: dict[str, str]) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return API.read_charge(Reply(status, headers, raw, 7), EXPECTED)


def letter(answer: Answer) -> str:
    """The letter of what an answer came to."""
    told = isinstance(answer.outcome, Unknown) and answer.outcome.told
    shown = (type(answer.outcome), answer.proven, answer.cause, told)
    return next(name for name, meaning in MEANS.items() if meaning == shown)


@pytest.mark.parametrize("echo", ECHOES)
def test_what_an_answer_proves(echo: str) -> None:
    """Each status with each body is what the table says, with our key's echo and without; another's proves nothing."""
    headers, table = ECHOES[echo]
    nothing = "\n".join(f"{name} {'. ' * len(STATUSES)}" for name in BODIES)
    expected = {line.split()[0]: line.split()[1:] for line in (table or nothing).strip().splitlines()}
    assert set(expected) == set(BODIES)
    seen = {name: [letter(read(status, body, headers)) for status in STATUSES] for name, body in BODIES.items()}
    assert seen == expected


def test_tables_keep_the_rules() -> None:
    """No status proves anything without the echo or our key: only `ours` and an intent of ours in an error do."""
    for line in WITHOUT_ECHO.split():
        assert line in BODIES or not MEANS[line][1] or line in "SD"
    of_errors = [line.split()[1:] for line in WITHOUT_ECHO.strip().splitlines() if "ours" not in line]
    assert not any(MEANS[cell][1] for cells in of_errors for cell in cells)


@pytest.mark.parametrize("echo", ["ours", "none"])
@pytest.mark.parametrize("status", [400, 402, 500])
def test_error_around_a_success_of_ours(echo: str, status: int) -> None:
    """An error that carries our own intent is judged by that: money may have moved, whatever the status says."""
    answer = read(status, error(type="api_error", payment_intent=PAID), ECHOES[echo][0])
    assert (answer.outcome, answer.proven) == (Succeeded("pi_1", "ch_1"), True)


@pytest.mark.parametrize(
    ("status", "kind"), [("succeeded", Succeeded), ("processing", Processing), ("requires_capture", Processing)]
)
@pytest.mark.parametrize("echo", ["ours", "none"])
def test_decline_around_an_intent_that_has_charged(echo: str, status: str, kind: type[Outcome]) -> None:
    """A decline whose own intent has moved money, or may be about to, is no decline: that is what it says."""
    answer = read(402, error(**DECLINE, payment_intent={**PAID, "status": status}), ECHOES[echo][0])
    assert (type(answer.outcome), answer.proven) == (kind, True)
    assert getattr(answer.outcome, "provider_intent_id", None) == "pi_1"


def test_results_are_proven() -> None:
    """Whatever comes, what counts as a result (`Charge.unanswered`) is proven, and no answer says "not executed"."""
    for headers, _ in ECHOES.values():
        for status in (*range(200, 600, 7), *STATUSES):
            for body in BODIES.values():
                answer = read(status, body, headers)
                assert answer.proven or answer.name not in RESULTS
                assert answer.name != "not_executed"
