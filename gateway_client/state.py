"""Rule 1: everything that may change the state of an operation is its law, a table; that of a charge is in this file.

States, events, the laws, and what a finished exchange means for them. Nobody assigns a state elsewhere; writing it
down (row and history in one commit) is `store/`'s job. `diagram()` prints a table, so the README cannot drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from gateway_client.outcome import (
    Canceled,
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


class State(StrEnum):
    """Where one attempt stands. Pending until proven otherwise."""

    PREPARED = "prepared"
    SENDING = "sending"
    UNKNOWN = "unknown"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    CONFLICT = "conflict"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REJECTED = "rejected"
    CANCELED = "canceled"
    ABSENT = "absent"

    @property
    def pending(self) -> bool:
        """True when it is moving or in doubt, in every operation: workers finish it, alerts tell how old it is."""
        return self in PENDING

    @property
    def refused(self) -> bool:
        """True when the attempt is over and no money moved by it: the only ground for a next attempt."""
        return not self.pending and self is not State.SUCCEEDED


class Event(StrEnum):
    """What can happen to an attempt."""

    SEND_BEGUN = "send begun"
    NOT_EXECUTED = "no byte left, of no send"
    UNCLEAR = "nothing proven"
    CONFLICT = "answer is not ours"
    REJECTED = "rejected, no other send in doubt"
    PROVEN_ABSENT = "proven absent"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    CANCELED = "canceled"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires action"


# The provider's word on the attempt is believed in every pending state, whoever brings it: a send, a look-up, a run.
_EVIDENCE: dict[Event, State] = {
    Event.SUCCEEDED: State.SUCCEEDED,
    Event.DECLINED: State.DECLINED,
    Event.CANCELED: State.CANCELED,
    Event.PROCESSING: State.PROCESSING,
    Event.REQUIRES_ACTION: State.REQUIRES_ACTION,
    Event.CONFLICT: State.CONFLICT,
}

Transitions = Mapping[State, Mapping[Event, State]]

TRANSITIONS: Transitions = {
    State.PREPARED: _EVIDENCE
    | {
        Event.SEND_BEGUN: State.SENDING,
        Event.NOT_EXECUTED: State.PREPARED,
        Event.UNCLEAR: State.UNKNOWN,
        # The send is not on disk: the store has gone back, and other sends may be missing, too.
        Event.REJECTED: State.UNKNOWN,
    },
    State.SENDING: _EVIDENCE
    | {
        Event.SEND_BEGUN: State.SENDING,
        Event.NOT_EXECUTED: State.PREPARED,
        Event.UNCLEAR: State.UNKNOWN,
        Event.REJECTED: State.REJECTED,
        Event.PROVEN_ABSENT: State.ABSENT,
    },
    State.UNKNOWN: _EVIDENCE
    | {
        Event.SEND_BEGUN: State.UNKNOWN,
        Event.NOT_EXECUTED: State.PREPARED,
        Event.UNCLEAR: State.UNKNOWN,
        Event.REJECTED: State.REJECTED,
        Event.PROVEN_ABSENT: State.ABSENT,
    },
    # The provider holds an intent of ours: a late send of the attempt proves nothing more, and absence is out of reach.
    State.PROCESSING: _EVIDENCE
    | {
        Event.NOT_EXECUTED: State.PROCESSING,
        Event.UNCLEAR: State.PROCESSING,
        Event.REJECTED: State.PROCESSING,
    },
    State.REQUIRES_ACTION: _EVIDENCE
    | {
        Event.NOT_EXECUTED: State.REQUIRES_ACTION,
        Event.UNCLEAR: State.REQUIRES_ACTION,
        Event.REJECTED: State.REQUIRES_ACTION,
    },
    # Leaves like `unknown`, by evidence; never sent again.
    State.CONFLICT: _EVIDENCE
    | {
        Event.NOT_EXECUTED: State.CONFLICT,
        Event.UNCLEAR: State.CONFLICT,
        Event.REJECTED: State.CONFLICT,
        Event.PROVEN_ABSENT: State.ABSENT,
    },
    State.SUCCEEDED: {},
    State.DECLINED: {},
    State.REJECTED: {},
    State.CANCELED: {},
    State.ABSENT: {},
}

MEANING: dict[State, str] = {
    State.PREPARED: "on disk; no byte of it has left, nothing can have been executed",
    State.SENDING: "one send is on its way, or its process died",
    State.UNKNOWN: "a send may have been executed; nothing is proven yet",
    State.PROCESSING: "the provider accepted it, the result comes later",
    State.REQUIRES_ACTION: "the customer must act at the bank",
    State.CONFLICT: "the provider's answer is not ours: never sent again, a person looks",
    State.SUCCEEDED: "the money moved, once",
    State.DECLINED: "executed and refused",
    State.REJECTED: "refused by the provider's word on it; read once more before another attempt",
    State.CANCELED: "given up before the money moved",
    State.ABSENT: "proven not charged",
}

SENDABLE: frozenset[State] = frozenset({State.PREPARED, State.SENDING, State.UNKNOWN})
# The same words in every operation: indexes and workers know them by these lists.
PENDING: tuple[State, ...] = tuple(state for state in State if TRANSITIONS[state])
REFUSED: tuple[State, ...] = tuple(state for state in State if not TRANSITIONS[state] and state is not State.SUCCEEDED)

CHARGE = "charge"  # the operation that takes the money; all others act upon one


@dataclass(frozen=True, slots=True)
class Law:
    """What may change the state of one operation.

    A state that is not pending is *final*, when nothing leaves it, or *at rest*: nothing is to be done now, and the
    provider's word may still change it.
    """

    operation: str
    transitions: Transitions

    def __post_init__(self) -> None:
        missing = [state for state in State if bool(self.transitions[state]) < state.pending]
        assert not missing, f"{self.operation}: nothing leaves {missing}, which are pending"

    def next(self, state: State, event: Event) -> State:
        """The state after an event; a pair that is not in the table is a bug, never a silent default."""
        return self.transitions[state][event]

    def allows(self, state: State, event: Event) -> bool:
        """Whether an event may happen in a state."""
        return event in self.transitions[state]

    def final(self, state: State) -> bool:
        """True when no event leaves the state."""
        return not self.transitions[state]


LAWS: dict[str, Law] = {CHARGE: Law(CHARGE, TRANSITIONS)}
"""By operation."""


def event_of(  # noqa: PLR0911 - one case a line
    outcome: Outcome, *, in_doubt: bool, left: bool, saves_declines: bool
) -> Event:
    """What an outcome means, given whether **another** send of the attempt is in doubt, or has left (DESIGN §6)."""
    match outcome:
        case Succeeded():
            return Event.SUCCEEDED
        case Processing():
            return Event.PROCESSING
        case RequiresAction():
            return Event.REQUIRES_ACTION
        case Canceled():
            return Event.CANCELED
        case Conflict():
            return Event.CONFLICT
        case Declined():
            # A gateway that saves declines answers every send of the key with this one; another may run it again.
            return Event.DECLINED if saves_declines or not in_doubt else Event.UNCLEAR
        case Rejected():
            # A 400 is not saved: another send of the key may still be executed.
            return Event.UNCLEAR if in_doubt else Event.REJECTED
        case NotExecuted():
            # A send that was refused in so many words has left, too: only our own socket knows that nothing did.
            return Event.UNCLEAR if left or in_doubt else Event.NOT_EXECUTED
        case InFlight() | Unknown() | Refused():
            return Event.UNCLEAR
    assert_never(outcome)


def contradicts(state: State, outcome: Outcome) -> bool:
    """True when evidence disagrees with a final state: it never overwrites, it becomes a finding."""
    if state is State.SUCCEEDED:
        return isinstance(outcome, Declined | Canceled | Conflict)
    if state is State.ABSENT and isinstance(outcome, Declined | RequiresAction):
        return True  # proven to be never executed, and it was. `rejected` is what one delivery of a send was told
    return state.refused and isinstance(outcome, Succeeded | Processing | Conflict)


def _branches(exits: Mapping[Event, State]) -> list[str]:
    last = len(exits) - 1
    return [f"    {'└' if at == last else '├'}─ {event:<36} → {to}" for at, (event, to) in enumerate(exits.items())]


def diagram(law: Law = LAWS[CHARGE]) -> str:
    """A law as text: each state, what it means, and every event that leaves it."""
    transitions = law.transitions
    lines = ["pending"]
    for state in PENDING:
        lines += ["", f"  {state:<16}{MEANING[state]}"]
        own = {event: to for event, to in transitions[state].items() if event not in _EVIDENCE and to is not state}
        lines += _branches(own)
    lines += ["", "from any pending state, on the provider's evidence", ""]
    lines += _branches(_EVIDENCE)
    at_rest = [state for state in State if not state.pending and not law.final(state)]
    if at_rest:
        lines += ["", "at rest: nothing is to be done now", ""]
        for state in at_rest:
            lines += [f"  {state:<16}{MEANING[state]}", *_branches(transitions[state])]
    lines += ["", "final: nothing leaves these", ""]
    lines += [f"  {state:<16}{MEANING[state]}" for state in State if law.final(state)]
    return "\n".join(lines) + "\n"
