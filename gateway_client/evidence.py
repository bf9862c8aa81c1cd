"""Which evidence allows what: the one table of states, evidence and steps (DESIGN §6). Pure; the documents print it.

Whoever takes one of these steps asks `why_not` first. How the evidence is got is told in `flow/`; what an object of
the provider proves, in `proof.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway_client.absence import Scan, next_attempt_at, why_not_absent, why_not_empty
from gateway_client.bounds import Bounds
from gateway_client.charge import Charge, iso
from gateway_client.state import CHARGE, State


class Step(StrEnum):
    """What may be done with an attempt, or beside it."""

    SEND = "send it"
    SEND_AGAIN = "send it again, under the same key"
    CANCEL = "call it `canceled` at once"
    CONCLUDE_ABSENCE = "call it `absent`"
    CANCEL_THERE = "cancel its intent at the provider, unasked"
    NEXT_ATTEMPT = "make the next attempt"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an attempt: its row, the latest reading of the provider's lists, and the time."""

    charge: Charge
    bounds: Bounds
    now: datetime
    scan: Scan | None = None


Judgement = Callable[[Known], str | None]


def _nothing_left(known: Known) -> str | None:
    return None if known.charge.last_sent_at is None else "a send of it has left, or may have"


def _in_time(known: Known) -> str | None:
    last = known.charge.not_after
    if last is not None and known.now > last:
        return f"it is not to be sent after {iso(last)}"
    return _nothing_left(known)


def _key_alive(known: Known) -> str | None:
    charge = known.charge
    if charge.closed_at is not None:
        return "it is closed"
    if charge.provider_intent_id is not None:
        return "the provider has an intent of it: that is asked"
    if charge.first_sent_at is None or known.now - charge.first_sent_at >= known.bounds.key_life:
        return "the life of its key is over"
    return None


def _absent(known: Known) -> str | None:
    return _unread(known) or why_not_absent(known.charge, known.bounds, _read(known))


def _left_uncharged(known: Known) -> str | None:
    charge = known.charge
    if charge.closed_at is None:
        return "it is open"
    if charge.quiet_from is None:
        return "the time from which no send of it can begin is not known yet"
    at = charge.quiet_from + known.bounds.quiet_unproven
    return None if known.now >= at else f"a 500 of it may be rolled forward until {iso(at)}"


def _cancelled(known: Known) -> str | None:
    return None


def _shows_nothing(known: Known) -> str | None:
    """A complete reading shows nothing of it, and whatever it may still show late is waited for."""
    if known.charge.provider_intent_id is not None:
        return "the provider has an intent of it, which is cancelled first"
    problem = _unread(known) or why_not_empty(known.charge, known.bounds, _read(known))
    at = next_attempt_at(known.charge, known.bounds)
    if problem is None and at is not None and _read(known).begun_at < at:
        return f"what the provider has of it may be listed late: it is possible from {iso(at)}"
    return problem


def _unread(known: Known) -> str | None:
    return "the provider's lists were not read" if known.scan is None else None


def _read(known: Known) -> Scan:
    assert known.scan is not None, "asked for only when the lists were read"
    return known.scan


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    step: Step
    states: tuple[State, ...]
    evidence: str
    why_not: Judgement


RULES = (
    Rule(
        Step.SEND,
        (State.PREPARED,),
        "our own socket took no byte of any send, and it is not after the `not_after` of the attempt",
        _in_time,
    ),
    Rule(
        Step.SEND_AGAIN,
        (State.SENDING, State.UNKNOWN),
        "none is needed: the same key cannot charge twice while it lives, by the provider's time as it was just asked",
        _key_alive,
    ),
    Rule(Step.CANCEL, (State.PREPARED,), "our own socket took no byte of any send", _nothing_left),
    Rule(
        Step.CONCLUDE_ABSENCE,
        (State.SENDING, State.UNKNOWN, State.CONFLICT),
        "it is closed; a complete reading, begun a quiet time after that (the roll-forward later where a send has no "
        "proven result), shows nothing of it, nor a success of its amount without our metadata",
        _absent,
    ),
    Rule(
        Step.CANCEL_THERE,
        (State.SENDING, State.UNKNOWN, State.PROCESSING, State.REQUIRES_ACTION),
        "it is closed; its intent was asked for a quiet time and the roll-forward later, and waits there uncharged",
        _left_uncharged,
    ),
    Rule(
        Step.NEXT_ATTEMPT,
        (State.CANCELED,),
        "no byte of it had left, or its intent was asked for and is cancelled",
        _cancelled,
    ),
    Rule(
        Step.NEXT_ATTEMPT,
        (State.REJECTED,),
        "the provider's proven word on each send that left, and a complete reading that shows nothing: at once",
        _shows_nothing,
    ),
    Rule(
        Step.NEXT_ATTEMPT,
        (State.DECLINED,),
        "its intent was cancelled, and asked for; where no answer named one, a complete reading, begun a quiet time "
        "after the last answer, shows nothing",
        _shows_nothing,
    ),
    Rule(
        Step.NEXT_ATTEMPT,
        (State.ABSENT,),
        "one more complete reading shows nothing: at once, for what may be shown late was waited for",
        _shows_nothing,
    ),
)


RULES_OF: dict[str, tuple[Rule, ...]] = {CHARGE: RULES}
"""By operation."""


def why_not(step: Step, known: Known) -> str | None:
    """Why a step is not allowed, in words for a person; None when it is."""
    rules = [
        rule for rule in RULES_OF[known.charge.operation] if rule.step is step and known.charge.state in rule.states
    ]
    if not rules:
        return f"it is {known.charge.state}"
    return rules[0].why_not(known)


def table(rules: tuple[Rule, ...] = RULES) -> str:
    """The rules of an operation as the documents show them."""
    lines = ["| may | when it is | and the evidence is |", "|---|---|---|"]
    for rule in rules:
        states = ", ".join(f"`{state}`" for state in rule.states)
        lines.append(f"| {rule.step} | {states} | {rule.evidence} |")
    return "\n".join(lines) + "\n"
