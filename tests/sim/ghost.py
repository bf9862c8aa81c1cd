"""The ghost ledger: what truly happened, written down beside the schedule. The code under test never sees it.

It believes only the wire, the provider's ledger and the rows on disk; what must hold of it is in `safety.py` and
`liveness.py`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from gateway_client.gateways.base import Request

if TYPE_CHECKING:
    from tests.sim.shift import Shift

TIMEOUT = 0
"""What stands for the status of an answer that did not come in time."""

KEY_RETENTION_S = 24 * 3600.0

Key = tuple[str, int]
"""An intent id and an attempt."""

ROWS = (
    "SELECT intent_id, attempt, state, idempotency_key, amount, currency, body_sha256, api_version, "
    "provider_intent_id, provider_charge_id, first_sent_at, closed_at, not_after "
    "FROM pending_charges ORDER BY intent_id, attempt"
)


class Row(NamedTuple):
    """A row of `pending_charges` as it is on disk."""

    intent_id: str
    attempt: int
    state: str
    key: str
    amount: int
    currency: str
    body_sha256: str
    api_version: str
    provider_intent_id: str | None
    provider_charge_id: str | None
    first_sent_at: str | None
    closed_at: str | None
    not_after: str | None = None


@dataclass(slots=True)
class Sent:
    """One send of an attempt, as it went over the wire."""

    at: float
    attempt: Key
    key: str
    body_sha256: str
    api_version: str
    credential: str
    call: str
    checked_at: float = 0.0  # the last check of the time before it: what the provider wrote, or the gate's of a first
    may_execute: bool = True  # False: the connection was refused
    answered_at: float | None = None  # when its answer was written
    status: int | None = None
    own_word: bool = False  # the answer is the provider's, to a delivery of this send
    refused: bool = False  # and it says that this delivery was not executed
    rejected: bool = False  # and names what is wrong with the charge
    lied: bool = False  # the answer is not what was asked for
    by_worker: bool = False
    open: bool = True  # nobody has heard of its end
    failed_at: float | None = None  # when a 5xx answer was written down: one that was not, nobody can wait for


@dataclass(slots=True)
class Reading:
    """How far one call has read the provider's lists, without a gap, since it began to."""

    begun_at: float
    created_from: int
    done: set[str] = field(default_factory=set)
    pages: int = 0
    made: int = 0  # charges that the provider had when the last page came
    created_to: float = inf  # what was made later was not asked for
    lied: bool = False  # one of its pages was another reading's


@dataclass
class Ghost:
    """One schedule's ledger."""

    sends: list[Sent] = field(default_factory=list)
    rows: dict[Key, Row] = field(default_factory=dict)
    charges: dict[str, Key | None] = field(default_factory=dict)  # provider charge → whose it was when it was made
    intents: dict[str, Key | None] = field(default_factory=dict)  # the same of its intents
    readings: dict[str, Reading] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)  # situations, see `sometimes.py`
    acknowledged: set[str] = field(default_factory=set)  # intents that a caller was told of
    asked: set[Key] = field(default_factory=set)  # attempts that a caller has asked for
    born: dict[Key, float] = field(default_factory=dict)  # when a row was first seen on disk
    clocks_right: bool = True  # else nobody knows how old a row is that no answer of the provider has dated
    stood_still: bool = False  # a machine did, with both its clocks
    cleared: dict[Key, Reading | None] = field(default_factory=dict)  # what its claim had read of the attempt before
    begun: dict[Key, float] = field(default_factory=dict)  # when a send of it was first written down
    lied_runs: set[str] = field(default_factory=set)  # one of its pages was another reading's
    excused: set[str] = field(default_factory=set)  # what the provider or a person did outside the promise
    restored_at: float | None = None
    doubled_after_restore: bool = False
    strangers: int = 0  # charges in our account that nobody here has made
    handled: set[str] = field(default_factory=set)  # intents on which somebody laid a hand
    shifts: list[Shift] = field(default_factory=list)  # every worker there was, the dead ones, too

    def sent(self, at: float, request: Request, credential: str, call: str) -> Sent:
        """A send leaves."""
        body = request.body or ""
        fields = dict(parse_qsl(body))
        attempt = (fields["metadata[paycli_intent]"], int(fields["metadata[paycli_attempt]"]))
        one = Sent(
            at=at,
            attempt=attempt,
            key=request.idempotency_key or "",
            body_sha256=hashlib.sha256(body.encode()).hexdigest(),
            api_version=request.api_version or "",
            credential=credential,
            call=call,
        )
        self.sends.append(one)
        return one

    def moves(self, before: Row | None, row: Row, now: float) -> None:
        """A row is new, or in another state."""
        self.seen[f"{before.state if before else 'new'} → {row.state}"] += 1
        attempt = (row.intent_id, row.attempt)
        self.born.setdefault(attempt, now)
        if row.state == "sending":
            self.begun.setdefault(attempt, now)
        self.seen["too late to be sent"] += row.state == "canceled" and row.not_after is not None
        first = self.first(attempt)
        if first is not None and now - first > KEY_RETENTION_S:
            self.seen["ended after its key was pruned"] += 1
        if row.state == "succeeded":
            refused = any(sent.refused for sent in self.sends if sent.attempt == attempt)
            self.seen["a send was charged, and refused in so many words"] += refused
            answers = {sent.status for sent in self.sends if sent.attempt == attempt}
            self.seen["timeout, and the charge succeeded"] += TIMEOUT in answers
            self.seen["500, and the charge succeeded"] += 500 in answers
            self.seen["attempt 2 succeeded"] += row.attempt == 2

    def ended(self, error: Exception) -> None:
        """A call ended with an exception of the library's."""
        name = type(error).__name__
        if name == "RunHeld":
            self.seen["a run was taken over" if "taken this run over" in str(error) else "a run is held"] += 1
        elif name == "ClockRefused":
            self.seen["clock refused"] += 1
        elif name == "OutcomeNotRecorded":
            self.seen[name] += 1
        else:
            self.seen[f"refused: {name}"] += 1

    def asked_since(self, call: str) -> None:
        """What a call writes down from now on is what it was answered to a question, not to its last send."""
        for sent in self.sends:
            sent.lied = sent.lied and sent.call != call

    def settled(self, call: str, attempt: Key, at: float) -> None:
        """A call has written down what its last send was answered."""
        sent = next((sent for sent in reversed(self.sends) if sent.call == call), None)
        if sent is not None and sent.attempt == attempt and (sent.status or 0) >= 500 and sent.failed_at is None:
            sent.failed_at = at

    def forget(self, intent_id: str) -> None:
        """Its rows are gone: no lease and no open send keeps a worker from those that come after them."""
        for sent in self.sends:
            sent.open &= sent.attempt[0] != intent_id
        for shift in self.shifts:
            shift.until = {key: until for key, until in shift.until.items() if key[0] != intent_id}

    def of_attempt(self, attempt: Key) -> list[Sent]:
        """The sends of an attempt that may have been executed."""
        return [sent for sent in self.sends if sent.attempt == attempt and sent.may_execute]

    def first(self, attempt: Key) -> float | None:
        """When an attempt may first have been executed."""
        return min((sent.at for sent in self.of_attempt(attempt)), default=None)

    def look_at(self, charge: dict[str, Any]) -> None:
        """A charge of the provider, whose metadata somebody may change later."""
        if charge["id"] not in self.charges:
            self.charges[charge["id"]] = _whose(charge)

    def look_at_intent(self, intent: dict[str, Any]) -> None:
        """The same of an intent."""
        if intent["id"] not in self.intents:
            self.intents[intent["id"]] = _whose(intent)


def _whose(one: dict[str, Any]) -> Key | None:
    """The attempt that an object of the provider names, if it is one of ours."""
    of = one["metadata"]
    ours = "paycli_intent" in of and of.get("paycli_namespace") == "default"
    return (of["paycli_intent"], int(of["paycli_attempt"])) if ours else None


def seconds_of(time: str) -> float:
    """A time as a row has it, in true seconds."""
    return datetime.fromisoformat(f"{time}+00:00").timestamp()


def moved(charge: dict[str, Any]) -> bool:
    """The money moved, and did not come back."""
    return bool(charge["status"] == "succeeded" and not charge["refunded"])
