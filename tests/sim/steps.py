"""What the steps of a plot are made of: ranges of seconds, and what may happen then."""

from __future__ import annotations

from gateway_client.gateways.stripe_api import StripeApi

Step = tuple[tuple[tuple[float, float], ...], tuple[str, ...]]
Faults = tuple[tuple[float, str], ...]

HOUR_S = 3600.0
BOUNDS = StripeApi.profile.bounds
KEY_LIFE, QUIET = BOUNDS.key_life.total_seconds(), BOUNDS.quiet.total_seconds()
UNPROVEN = BOUNDS.quiet_unproven.total_seconds()

SOON = ((0.0, 0.3), (0.0, 5.0), (10.0, 100.0))
HOURS = ((60.0, HOUR_S), (HOUR_S, 12 * HOUR_S))


def about(*moments: float) -> tuple[tuple[float, float], ...]:
    """Ranges around moments."""
    return tuple((at - 400.0, at + 400.0) for at in moments)


VISA, DECLINE, NONE = "charge 1 pm_card_visa 1", "charge 1 pm_card_chargeDeclined 1", "charge 1 pm_none 1"
DEBIT = "charge 1 pm_usBankAccount_success 1"
CHARGE = (VISA, VISA, DECLINE, NONE)
DECLINED = (DECLINE, "charge 1 pm_card_authenticationRequired 1", NONE)
AGAIN = ("charge 1 pm_card_visa 2", "charge 1 pm_card_visa 2", "charge 1 pm_card_chargeDeclined 2")
FINISH = ("resume", "resume", "reconcile 0", "reconcile 1")
RETRY = ("resume", VISA, DECLINE)
HANDS = ("hand twice 1", "hand confirm 1", "hand remove 1", "hand amount 1", "hand currency 1")
WORK = ("work 25 60s", "work 25 300s", "work 2 idle", "work 25 idle", "work 25 9th", "work 0.2 60s")
LATER = (*about(QUIET, UNPROVEN, UNPROVEN), (2 * HOUR_S, 60 * HOUR_S))
