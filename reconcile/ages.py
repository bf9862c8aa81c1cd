"""How long a charge may be pending in each state before a person looks: the one table of it. Pure.

Alerts, `stale_pending` and the commands go by it; an option or a variable of `paycli` changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from gateway_client.state import PENDING, State

Ages = Mapping[State, timedelta]

_DAY = timedelta(days=1)

AGES: Ages = {
    State.PREPARED: _DAY,  # older ones that were never sent are left to a person
    State.SENDING: _DAY,
    State.UNKNOWN: _DAY,  # about the life of a key: until then the same request can be sent again
    State.PROCESSING: 7 * _DAY,  # a bank debit takes days, and nobody can hurry it
    State.REQUIRES_ACTION: _DAY,
    State.CONFLICT: _DAY,
}


def every(age: timedelta) -> Ages:
    """One age for every state."""
    return dict.fromkeys(PENDING, age)
