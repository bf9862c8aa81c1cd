"""What the demo plants, in its three orders and in its night, and what must come of each.

Pure: a run in which anything else comes of it is seen to be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway_client import ClockRefused, Money, PaymentIntent, State
from reconcile import RunResult

ORDERS = [
    PaymentIntent(f"order_{name}", Money(3000 + number, "usd"), "pm_card_visa", description="no money moves")
    for number, name in enumerate(("filtered", "doubled", "paused"), start=1)
]
FILTERED, DOUBLED, PAUSED = ORDERS

TROUBLES = {
    FILTERED.intent_id: "a middlebox",
    DOUBLED.intent_id: "a doubled delivery",
    PAUSED.intent_id: "a paused machine",
}


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """What became of one order: what its caller was told, the requests that reached the provider, and its charges."""

    intent_id: str
    told: tuple[str, ...]  # states, and names of exceptions
    requests: int
    charges: int

    @property
    def right(self) -> bool:
        """Whether it is exactly what must be: told `unknown`, then found, and charged once."""
        return self in EXPECTED


EXPECTED = (
    OrderFigures(FILTERED.intent_id, (State.UNKNOWN, State.SUCCEEDED), 2, 1),  # sent again, answered from what is saved
    OrderFigures(DOUBLED.intent_id, (State.UNKNOWN, State.SUCCEEDED), 3, 1),  # so here, and the first arrived twice
    OrderFigures(PAUSED.intent_id, (State.UNKNOWN, ClockRefused.__name__, State.SUCCEEDED), 1, 1),  # not sent again
)
"""What must become of the three."""

WANTED = [PaymentIntent(f"noon_{number}", Money(2000 + number, "usd"), "pm_card_visa") for number in range(1, 7)]
LOST_REPLY, CHANGED, REMOVED, CHARGED_AGAIN, NO_ROW, UNTOUCHED = WANTED

PLANTED: dict[tuple[str, str], tuple[str, str]] = {
    ("outcome_recovered", LOST_REPLY.intent_id): ("repaired", "a reply was lost"),
    ("missing_locally", NO_ROW.intent_id): ("flagged", "a charge with our metadata, and no row here"),
    ("amount_mismatch", CHANGED.intent_id): ("flagged", "a charge's amount was changed"),
    ("missing_at_provider", REMOVED.intent_id): ("flagged", "a charge was removed"),
    ("duplicate_charge", CHARGED_AGAIN.intent_id): ("flagged", "an intent was charged again"),
}
"""What is disturbed, and what must come of it."""


@dataclass(frozen=True, slots=True)
class NightFigures:
    """What the two runs found."""

    first: RunResult
    second: RunResult
    alerts: int

    @property
    def found(self) -> dict[tuple[str, str], str]:
        """By code and intent, what was done."""
        return {(one.code.value, one.intent_id): one.action.value for one in self.first.findings}

    @property
    def right(self) -> bool:
        """Whether exactly what was planted was found, the second run changed nothing, and somebody was told."""
        expected = {key: action for key, (action, _) in PLANTED.items()}
        silent = self.second.complete and self.second.news == 0 and self.second.repaired == 0
        return self.first.complete and self.found == expected and silent and self.alerts > 0
