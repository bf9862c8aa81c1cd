"""Plots: openings that lead a schedule to where the protocol has its edges, more often than chance would.

Each step is a range of seconds since the one before, and what may happen then. The trouble on the way is drawn as in
any other schedule, with more of that which the plot needs.
"""

from __future__ import annotations

from tests.sim.decisions import Dice

Step = tuple[tuple[tuple[float, float], ...], tuple[str, ...]]
Faults = tuple[tuple[float, str], ...]

HOUR_S = 3600.0
KEY_LIFE, QUIET, QUIET_AFTER_5XX = 23 * HOUR_S, HOUR_S, 72 * HOUR_S

SOON = ((0.0, 0.3), (0.0, 5.0), (10.0, 100.0))
HOURS = ((60.0, HOUR_S), (HOUR_S, 12 * HOUR_S))


def _about(*moments: float) -> tuple[tuple[float, float], ...]:
    return tuple((at - 400.0, at + 400.0) for at in moments)


CHARGE = (
    "charge 1 pm_card_visa 1",
    "charge 1 pm_card_visa 1",
    "charge 1 pm_card_chargeDeclined 1",
    "charge 1 pm_none 1",
)
DECLINED = ("charge 1 pm_card_chargeDeclined 1", "charge 1 pm_card_authenticationRequired 1", "charge 1 pm_none 1")
AGAIN = ("charge 1 pm_card_visa 2", "charge 1 pm_card_visa 2", "charge 1 pm_card_chargeDeclined 2")
FINISH = ("resume", "resume", "reconcile 0", "reconcile 1")
RETRY = ("resume", "charge 1 pm_card_visa 1", "charge 1 pm_card_chargeDeclined 1")
HANDS = ("hand twice 1", "hand confirm 1", "hand remove 1", "hand amount 1", "hand currency 1")

PLOTS: dict[str, tuple[Step, ...]] = {
    "the key's life": (
        (SOON, CHARGE),
        (_about(KEY_LIFE), RETRY),
        (((0.0, 600.0), *_about(HOUR_S)), (*RETRY, "reconcile 0")),
        (SOON, RETRY),
    ),
    "the next attempt": (
        (SOON, DECLINED),
        ((*SOON, (60.0, HOUR_S)), AGAIN),
        (SOON, (*AGAIN, "charge 1 pm_card_chargeDeclined 1")),
        (SOON, (*AGAIN, "charge 1 pm_card_visa 3", "resume", "cancel 1")),
        (HOURS, (*FINISH, "charge 1 pm_card_visa 3")),
    ),
    "given up": (
        (SOON, CHARGE),
        (SOON, ("cancel 1", "cancel 1", "resume")),
        ((*_about(QUIET), *_about(QUIET_AFTER_5XX), (0.0, 100.0)), FINISH),
        (SOON, AGAIN),
        ((*_about(QUIET), *_about(QUIET_AFTER_5XX)), (*FINISH, *AGAIN)),
        (SOON, AGAIN),
    ),
    "a night": (
        (SOON, CHARGE),
        (SOON, ("charge 2 pm_card_visa 1", "charge 2 pm_usBankAccount_success 1")),
        ((*HOURS, (0.0, 100.0), (12 * HOUR_S, 14 * HOUR_S)), ("reconcile 0", "reconcile 1")),
        (((0.0, 0.5), (0.0, 2.0), (650.0, 750.0)), ("reconcile 0", "reconcile 1", "resume")),
        (SOON, ("reconcile 0", "reconcile 1", "charge 1 pm_card_visa 1")),
    ),
    "a finding": (
        (SOON, (*CHARGE, *DECLINED)),
        ((*SOON, *HOURS), HANDS),
        ((*SOON, *HOURS), ("reconcile 0", "reconcile 0", "resume", "charge 1 pm_card_visa 1")),
        (SOON, (*AGAIN, *RETRY)),
        ((*SOON, *HOURS), (*AGAIN, "reconcile 0")),
    ),
}

# What a plot needs of the provider, besides what is drawn.
FAULTS: dict[str, Faults] = {
    "the key's life": ((0.35, "lost_request"), (0.5, "lost_reply"), (0.6, "unavailable_503")),
    "the next attempt": ((0.25, "lost_reply"), (0.32, "late"), (0.38, "html_body")),
    "given up": ((0.3, "lost_request"), (0.4, "error_500_later"), (0.5, "late"), (0.55, "error_500")),
    "a night": ((0.25, "lost_reply"), (0.35, "error_500_charged")),
    "a finding": ((0.2, "lost_reply"), (0.25, "error_500_charged")),
}


def line(dice: Dice, plot: str, number: int) -> tuple[float, str] | None:
    """The gap before a step of a plot, and what happens then; None after its end."""
    steps = PLOTS[plot]
    if number > len(steps):
        return None
    gaps, lines = steps[number - 1]
    least, most = gaps[dice.below(len(gaps))]
    return dice.between(least, most), lines[dice.below(len(lines))]
