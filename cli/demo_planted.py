"""What the demo's night disturbs, and what must come of it. Pure: a run that misses something is seen to be wrong."""

from __future__ import annotations

from dataclasses import dataclass

from gateway_client import Money, PaymentIntent
from reconcile import RunResult

WANTED = [PaymentIntent(f"noon_{number}", Money(2000 + number, "usd"), "pm_card_visa") for number in range(1, 7)]
LOST_REPLY, CHANGED, REMOVED, CHARGED_AGAIN, NO_ROW, UNTOUCHED = WANTED

PLANTED: dict[tuple[str, str], tuple[str, str]] = {
    ("outcome_recovered", LOST_REPLY.intent_id): ("repaired", "a reply was lost"),
    ("missing_locally", NO_ROW.intent_id): ("repaired", "a charge with our metadata, and no row here"),
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
