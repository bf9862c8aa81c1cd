"""Plots: openings that lead a schedule to where the protocol has its edges, more often than chance would.

Each step is a range of seconds since the one before, and what may happen then. The trouble on the way is drawn as in
any other schedule, with more of that which the plot needs.
"""

from __future__ import annotations

from tests.sim import unkind_plots
from tests.sim.decisions import Dice
from tests.sim.steps import (
    AGAIN,
    CHARGE,
    DEBIT,
    DECLINE,
    DECLINED,
    FINISH,
    HANDS,
    HOUR_S,
    HOURS,
    KEY_LIFE,
    LATER,
    QUIET,
    RETRY,
    SOON,
    UNPROVEN,
    VISA,
    WORK,
    Faults,
    Step,
    about,
)

NEAR_MIDNIGHT = ("midnight", "across midnight")
AT_THE_END = unkind_plots.AT_THE_END

PLOTS: dict[str, tuple[Step, ...]] = unkind_plots.PLOTS | {
    "the key's life": (
        (SOON, CHARGE),
        ((*about(KEY_LIFE), (KEY_LIFE - 400.0, KEY_LIFE - 5.0)), RETRY),
        (((0.0, 600.0), (0.0, 3000.0)), (*RETRY, "reconcile 0")),
        (((0.0, 600.0), (0.0, 3000.0)), RETRY),
    ),
    "the next attempt": (
        (SOON, DECLINED),
        ((*SOON, (60.0, HOUR_S)), AGAIN),
        (SOON, (*AGAIN, DECLINE)),
        (SOON, (*AGAIN, "charge 1 pm_card_visa 3", "resume", "cancel 1")),
        (HOURS, (*FINISH, "charge 1 pm_card_visa 3")),
    ),
    "given up": (
        (SOON, (VISA, VISA, VISA, DECLINE)),
        (SOON, ("cancel 1", "cancel 1", "resume")),
        (about(QUIET, UNPROVEN, UNPROVEN), FINISH),
        (((0.0, 100.0), *LATER), AGAIN),
        (LATER, (*FINISH, *AGAIN)),
        (SOON, AGAIN),
    ),
    "given up at once": (
        (SOON, (VISA,)),
        (((0.0, 0.2), (0.0, 2.0)), (VISA, "resume")),
        (((0.0, 0.5), (0.0, 3.0)), ("cancel 1",)),
        (SOON, (*AGAIN, "resume")),
        (SOON, AGAIN),
    ),
    "a night": (
        (SOON, CHARGE),
        (SOON, ("charge 2 pm_card_visa 1", "charge 2 pm_usBankAccount_success 1")),
        ((*HOURS, (0.0, 100.0), (12 * HOUR_S, 14 * HOUR_S)), ("reconcile 0", "reconcile 0", "reconcile 1")),
        (((0.0, 0.5), (0.0, 2.0), (650.0, 750.0), (6 * HOUR_S, 14 * HOUR_S)), ("reconcile 0", "reconcile 1", VISA)),
        ((*SOON, (11 * HOUR_S, 14 * HOUR_S)), ("reconcile 0", "reconcile 1", VISA)),
    ),
    "midnight": (
        (((0.0, 1.5), (8.0, 10.0)), (VISA, VISA, DEBIT)),
        (((5.0, 20.0), (0.0, HOUR_S)), RETRY),
        (((20.0, 100.0), (HOUR_S, 20 * HOUR_S)), ("reconcile 0", "reconcile 1", "reconcile 1")),
        (SOON, ("reconcile 0", "reconcile 1", "reconcile 1")),
    ),
    "across midnight": (
        (((0.0, 2.0),), (VISA,)),
        (((10.0, 60.0), (0.0, HOUR_S)), ("resume", VISA)),
        (((2.0, 100.0), (HOUR_S, 20 * HOUR_S)), ("reconcile 1",)),
        (((0.25, 0.4),), ("outage 600",)),
        (((0.0, 20.0), (700.0, 900.0)), ("reconcile 1", "resume")),
    ),
    "a night in two": (
        (SOON, ("charge 1 pm_card_visa 1",)),
        (SOON, ("charge 2 pm_card_visa 1",)),
        (((2.0, 20.0),), ("reconcile 0",)),
        (((0.1, 0.8),), ("kill", "kill", "outage 600")),
        ((*SOON, (650.0, 750.0)), ("reconcile 0",)),
    ),
    "a finding": (
        (SOON, (*CHARGE, *DECLINED)),
        ((*SOON, *HOURS), HANDS),
        ((*SOON, *HOURS), ("reconcile 0", "reconcile 0", "resume", VISA)),
        (SOON, (*AGAIN, *RETRY)),
        ((*SOON, *HOURS), (*AGAIN, "reconcile 0")),
    ),
    "a decline that names no intent": (
        (SOON, DECLINED[:2]),
        (SOON, ("hand confirm 1", "hand authenticate 1", "resume", "resume")),
        ((*SOON, *HOURS), AGAIN),
        ((*SOON, *HOURS), (*AGAIN, "hand confirm 1")),
        ((*SOON, *HOURS), AGAIN),
    ),
    "paid by debit meanwhile": (
        (SOON, DECLINED[:2]),
        (SOON, ("hand debit 1",)),
        (((0.0, 0.3), (0.0, 3.0)), AGAIN),
        (SOON, AGAIN),
        (HOURS, AGAIN),
    ),
    "an unfinished morning": (
        (SOON, ("charge 1 pm_card_visa 1", DECLINE)),
        (((HOUR_S, 3 * HOUR_S),), ("reconcile 0",)),
        (((0.1, 0.8),), ("kill",)),
        (((60.0, HOUR_S),), ("charge 2 pm_card_visa 1",)),
        (((8 * HOUR_S, 22 * HOUR_S),), ("reconcile 1", "reconcile 0")),
        (((60.0, HOUR_S),), ("reconcile 1", "reconcile 1", "resume")),
    ),
    "the lists fall silent": (
        (SOON, (VISA,)),
        (SOON, ("cancel 1",)),
        (((2 * HOUR_S, 4 * HOUR_S), (75 * HOUR_S, 76 * HOUR_S)), ("resume", "resume", "reconcile 0")),
        (((0.1, 0.6),), ("outage 600",)),
        (((0.0, 100.0), (600.0, 900.0)), FINISH),
    ),
    "two that are paused": (
        (SOON[:1], (DEBIT,)),
        (((0.0, 0.1),), (DEBIT,)),
        (((0.0, 0.1), (0.0, 0.5)), ("resume",)),
        (((0.0, 0.1), (0.0, 0.5)), ("resume", DEBIT)),
        (HOURS, FINISH),
    ),
    "stripped": (
        (SOON, (VISA,)),
        (SOON, ("hand strip 1", "hand strip 1", "stranger")),
        (SOON, ("cancel 1",)),
        (about(QUIET, 2 * HOUR_S), ("resume", "reconcile 0")),
        (((2 * HOUR_S, 24 * HOUR_S),), ("resume", "reconcile 0", "reconcile 1")),
    ),
    "other answers": (
        (SOON, (VISA,)),
        (SOON, ("charge 2 pm_card_visa 1", "charge 2 pm_card_chargeDeclined 1")),
        (SOON, ("resume", VISA, "charge 2 pm_card_visa 1")),
        (HOURS, FINISH),
    ),
    "workers at one queue": (
        (SOON, (VISA, "prepare 1 pm_card_visa 1", DECLINE)),
        (SOON, ("prepare 2 pm_card_visa 1", "charge 2 pm_card_chargeDeclined 1")),
        (SOON[:2], ("prepare 3 pm_card_visa 1", "charge 3 pm_card_visa 1")),
        (SOON[:2], WORK),
        (SOON[:1], WORK),
        (((0.0, 0.3), (60.0, 300.0)), (*WORK, "resume", VISA)),
        (((100.0, 900.0),), (*WORK, "reconcile 0")),
    ),
    "a bad day of a worker": (
        *((SOON[:1], (f"prepare {order} pm_card_visa 1",)) for order in (1, 2, 3, 4)),
        (SOON[:2], ("work 25 1800s", "work 2 1800s", "work 25 600s")),
        (((0.0, 5.0), (5.0, 30.0)), ("poison 1", "poison 2", "hand remove 1", "outage 600", *WORK[:2])),
        (((60.0, 900.0),), (*WORK, "resume")),
    ),
    "a slow day of workers": (
        *((SOON[:1], (f"prepare {order} pm_card_visa 1",)) for order in (1, 2, 3, 4)),
        (SOON[:1], ("work 25 1800s",)),
        (SOON[:1], ("work 25 1800s", "work 25 900s", "work 25 3th")),
        (((400.0, 900.0),), ("poison 2", *WORK)),
    ),
    "workers in an outage": (
        (SOON, (VISA, "prepare 1 pm_card_visa 1")),
        (SOON[:1], ("charge 2 pm_card_visa 1", "prepare 2 pm_card_visa 1")),
        (SOON[:2], ("outage 600", "outage 3600")),
        (SOON, ("work 25 7200s", "work 2 1800s")),
        (((0.0, 900.0),), (*WORK, "work 25 1800s")),
    ),
    "never sent": (
        (SOON, ("prepare 1 pm_card_visa 1",)),
        (about(24 * HOUR_S, 25 * HOUR_S), ("resume",)),
        (SOON, ("resume", "reconcile 1")),
    ),
}

# What a plot needs of the provider, instead of what is drawn: at a create or a cancellation; at a list or an object.
FAULTS: dict[str, Faults] = unkind_plots.FAULTS | {
    "the key's life": (
        (0.35, "lost_request"),
        (0.65, "held"),
        (0.73, "doubled"),
        (0.8, "lost_reply"),
        (0.84, "unavailable_503"),
    ),
    "the next attempt": (
        (0.25, "lost_reply"),
        (0.32, "late"),
        (0.4, "html_body"),
        (0.5, "error_500"),
        (0.6, "in_use_409"),
    ),
    "given up": (
        (0.1, "lost_request"),
        (0.4, "lost_500_later"),
        (0.45, "error_500_later"),
        (0.75, "held"),
        (0.8, "held_500"),
        (0.85, "doubled"),
    ),
    "given up at once": ((0.25, "slow"), (0.35, "late"), (0.65, "rate_limited_429"), (0.8, "refused")),
    "a night": ((0.25, "lost_reply"), (0.35, "error_500_charged"), (0.5, "in_use_409")),
    "midnight": ((0.35, "lost_reply"), (0.5, "error_500_charged"), (0.6, "slow"), (0.75, "in_use_409")),
    "across midnight": ((0.8, "lost_request"), (0.85, "lost_reply")),
    "a finding": ((0.2, "lost_reply"), (0.25, "error_500_charged"), (0.4, "in_use_409")),
    "a decline that names no intent": ((0.6, "bare_402"), (0.7, "lost_reply")),
    "paid by debit meanwhile": ((0.2, "bare_402"), (0.3, "lost_reply")),
    "an unfinished morning": ((0.2, "lost_reply"),),
    "the lists fall silent": ((0.8, "lost_request"), (0.9, "lost_reply")),
    "two that are paused": ((0.4, "pause 90000"), (0.45, "refused")),
    "a night in two": ((0.2, "lost_reply"), (0.4, "in_use_409")),
    "stripped": ((0.85, "lost_reply"),),
    "other answers": ((0.2, "exchanged"), (0.35, "wrong_currency"), (0.5, "wrong_mode"), (0.65, "wrong_amount")),
    "workers at one queue": ((0.2, "lost_reply"), (0.3, "slow"), (0.4, "in_use_409"), (0.5, "pause 135")),
    "a bad day of a worker": (
        (0.25, "unavailable_503"),
        (0.45, "lost_reply"),
        (0.6, "in_use_409"),
        (0.68, "asked_to_wait"),
        (0.8, "lost_request"),
    ),
    "a slow day of workers": ((0.7, "slow"), (0.8, "lost_reply"), (0.85, "pause 200")),
    "workers in an outage": ((0.3, "lost_reply"), (0.4, "asked_to_wait")),
    "never sent": (),
}
AT_QUESTIONS: dict[str, Faults] = unkind_plots.AT_QUESTIONS | {
    "given up": ((0.2, "unavailable_503"), (0.3, "cut_body")),
    "midnight": ((0.1, "unavailable_503"), (0.2, "lost_reply")),
    "a decline that names no intent": ((0.45, "unavailable_503"), (0.75, "html_body")),
    "an unfinished morning": (),
    "across midnight": (),
    "the lists fall silent": (),
    "a night in two": (),
    "a bad day of a worker": (),
    "a slow day of workers": (),
    "stripped": (),
    "never sent": (),
}
AT_MEETINGS: dict[str, Faults] = unkind_plots.AT_MEETINGS | {
    "two that are paused": ((0.3, "pause 90000"),),
}
AT_COMMITS: dict[str, Faults] = unkind_plots.AT_COMMITS | {
    "a night": ((0.04, "die after"), (0.06, "die before")),
    "two that are paused": ((0.07, "pause 90000"),),
    "a slow day of workers": ((0.02, "pause 135"), (0.08, "pause 200"), (0.1, "die after")),
    "workers at one queue": (
        *((0.02, "die after"), (0.04, "die before"), (0.06, "commit fails"), (0.08, "commit fails late")),
        *((0.1, "pause 15"), (0.13, "pause 135"), (0.18, "pause 700")),
    ),
    "an unfinished morning": ((0.04, "die after"), (0.06, "die before")),
}


def line(dice: Dice, plot: str, number: int) -> tuple[float, str] | None:
    """The gap before a step of a plot, and what happens then; None after its end."""
    steps = PLOTS[plot]
    if number > len(steps):
        return None
    gaps, lines = steps[number - 1]
    least, most = gaps[dice.below(len(gaps))]
    return dice.between(least, most), lines[dice.below(len(lines))]
