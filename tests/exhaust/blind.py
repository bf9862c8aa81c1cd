"""Blind: a flow is told of a charge only what flows look at, so that the rest makes no other state.

Whoever looks at the rest after all is stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Never

from gateway_client.charge import Charge
from gateway_client.flow.effects import Begun, ClearFirst, Held
from gateway_client.state import REFUSED
from reconcile.match import Pair


class Unseen:
    """What no flow may look at."""

    def _stop(self, *others: object) -> Never:
        raise AssertionError("a flow looks at what the search takes for unseen: see FOR_OTHERS")

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = _stop
    __format__ = __str__ = __eq__ = __ne__ = _stop
    __hash__ = None  # type: ignore[assignment]


UNSEEN: Any = Unseen()
FOR_PEOPLE = {
    "pending_charges": ("reason",),
    "paycli_sends": ("reason", "request_id", "original_request", "replayed", "elapsed_ms"),
    "paycli_runs": ("local_charges",),
}
"""Columns that are written for people and never read by a flow or a decision, by table."""
FOR_OTHERS = dict.fromkeys(("sends", "reason", "closed_at"), UNSEEN)


def blind(value: Any) -> Any:
    """A result of the store, as a flow is told it."""
    match value:
        case Charge():
            # A refused one is looked at once more: by the breaker, and before another attempt is made.
            return replace(value, **FOR_OTHERS) if value.state not in REFUSED else value
        case ClearFirst():
            return value
        case Begun() | Held():
            return replace(value, charge=blind(value.charge))
        case Pair() if value.charge is not None:
            return replace(value, charge=blind(value.charge))
        case tuple():
            return tuple(blind(one) for one in value)
    return value
