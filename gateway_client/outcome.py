"""What one send, or one look at the provider, told us: a closed union of values.

An outcome says what is proven about one HTTP exchange. What it does to a charge is decided in `state.py`, how it
was read from a reply in `gateways/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The money moved: the provider names the intent and its successful charge."""

    provider_intent_id: str | None
    provider_charge_id: str | None
    reason: None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """Executed and refused by the bank or the risk check."""

    reason: str
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused by the provider's proven word, which names what is wrong with this charge (a validation error).

    It says nothing about another delivery of the same send: before the next attempt the provider is read (DESIGN §6).
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Processing:
    """Accepted; the result comes later."""

    reason: str
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None


@dataclass(frozen=True, slots=True)
class RequiresAction:
    """The customer must do something at the bank before the money moves."""

    reason: str
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None


@dataclass(frozen=True, slots=True)
class Canceled:
    """The provider's intent is cancelled: it will never charge."""

    reason: str
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None


class Cause(StrEnum):
    """Why a send was not made, or why no other one should follow it now."""

    NOT_SENT = "not_sent"  # DNS, connect or TLS error: our own socket took no byte of the request
    PAUSED = "paused"  # this process slept too long between "begun" and the first byte
    RATE_LIMITED = "rate_limited"  # 429
    CREDENTIAL = "credential"  # 401, 403: an operator must act
    ACCOUNT = "account"  # a 400 that names nothing of this charge: the account, or the way it is asked, is refused


@dataclass(frozen=True, slots=True)
class NotExecuted:
    """Nothing left: a fact of our own socket (NOT_SENT, PAUSED). No answer proves it, whoever wrote it."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused by the provider's proven word, which names nothing of this charge (429, 401, 403, an account's 400).

    It pauses the sends, and proves nothing: the same send may have been delivered twice and executed once.
    """

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """409: another request with this key is executing right now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is proven. With a provider intent id: it exists, but its status proves neither result.

    `told`: an error in the provider's form, which no key ties to this send. It is passed on, and the call sends no
    more; `cause` is what it says of the account, the credential or the rate. `uncharged`: the provider's intent waits,
    and nobody tries to charge it.
    """

    reason: str
    provider_intent_id: str | None = None
    told: bool = False
    cause: Cause | None = None
    uncharged: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """The answer belongs to something else: other amount, currency, mode or key. A person looks."""

    reason: str
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None
    differs: Literal["amount", "currency"] | None = None  # when it is ours, but for this


Outcome = (
    Succeeded
    | Declined
    | Rejected
    | Processing
    | RequiresAction
    | Canceled
    | NotExecuted
    | Refused
    | InFlight
    | Unknown
    | Conflict
)

NAMES: dict[type, str] = {
    Succeeded: "succeeded",
    Declined: "declined",
    Rejected: "rejected",
    Processing: "processing",
    RequiresAction: "requires_action",
    Canceled: "canceled",
    NotExecuted: "not_executed",
    Refused: "refused",
    InFlight: "in_flight",
    Unknown: "unknown",
    Conflict: "conflict",
}
"""The words stored in `paycli_sends.outcome` and shown by `paycli show`."""

IN_DOUBT: frozenset[str] = frozenset({NAMES[Unknown], NAMES[InFlight], NAMES[Conflict]})
"""A send that ended so may still have been, or yet be, executed (DESIGN §2, "in doubt")."""

RESULTS: frozenset[str] = frozenset(NAMES.values()) - IN_DOUBT - {NAMES[NotExecuted]}
"""What the provider's proven word on a send may be: such a send is answered (DESIGN §6, "answered")."""


class ReplyClass(StrEnum):
    """What kind of reply came, by the gateway's word and whatever it proves. No other code reads an HTTP status."""

    ANSWERED = "answered"
    FORBIDDEN = "forbidden"  # the credential is known, and may not do this
    NOT_FOUND = "not_found"
    BUSY = "busy"  # the same is executing now, or the rate is limited: to be asked again
    SERVER_ERROR = "server_error"  # the provider failed; it may have saved that for the key, and repeat it for ever
    DOWN = "down"  # nobody answers, or only what stands before the provider
    BROKEN = "broken"  # failed in a way that is not documented


FAILURES: frozenset[ReplyClass] = frozenset(
    {ReplyClass.BUSY, ReplyClass.SERVER_ERROR, ReplyClass.DOWN, ReplyClass.BROKEN}
)
"""Replies after which the same would have to be asked again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome with what support will ask for, and what the retry loop needs."""

    outcome: Outcome
    proven: bool = False  # it is the provider's answer to this very request: by its echo, or our key in its object
    status: int | None = None  # HTTP status, for people; None when no answer came
    reply: ReplyClass = ReplyClass.DOWN
    request_id: str | None = None  # Request-Id of this answer
    original_request: str | None = None  # Original-Request: the send whose answer was replayed
    replayed: bool = False  # Idempotent-Replayed
    provider_time: datetime | None = None  # the Date header
    retry_after_s: float | None = None
    should_retry: bool | None = None  # Stripe-Should-Retry
    elapsed_ms: int = 0

    @property
    def name(self) -> str:
        """The outcome's word."""
        return NAMES[type(self.outcome)]

    @property
    def cause(self) -> Cause | None:
        """Why the sends pause, if they do."""
        return getattr(self.outcome, "cause", None)

    @property
    def reason(self) -> str | None:
        """The outcome's reason, if it gives one."""
        return getattr(self.outcome, "reason", None)


@dataclass(frozen=True, slots=True)
class CouldNotAsk:
    """A question (GET) was not answered. It proves nothing: "could not ask" is never "does not exist"."""

    reason: str
    reply: ReplyClass = ReplyClass.DOWN
    credential: bool = False  # 401/403: asking again is useless until an operator acts
    retry_after_s: float | None = None
    refused: bool = False  # the provider answered, in its own words, that it will not tell: a person looks
