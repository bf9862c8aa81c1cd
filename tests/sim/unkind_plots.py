"""Plots of the unkind world: doubled sends, hidden 500s, machines that stand still, people, lengths at their ends."""

from __future__ import annotations

from tests.sim.steps import (
    AGAIN,
    DECLINE,
    DECLINED,
    FINISH,
    HOUR_S,
    HOURS,
    KEY_LIFE,
    NONE,
    QUIET,
    RETRY,
    SOON,
    UNPROVEN,
    VISA,
    Faults,
    Step,
    about,
)

PLOTS: dict[str, tuple[Step, ...]] = {
    "a doubled send": (
        (SOON, (VISA, VISA, NONE)),
        ((*SOON, (HOUR_S, 3 * HOUR_S)), ("cancel 1", *AGAIN, "resume")),
        ((*SOON, *about(QUIET), *HOURS), (*AGAIN, "resume", VISA)),
        ((*about(30 * HOUR_S, UNPROVEN), *SOON), (*AGAIN, VISA, "reconcile 0")),
        ((*SOON, *HOURS), (*AGAIN, VISA)),
    ),
    "a 500 that nobody saw": (
        (SOON, (VISA,)),
        ((*SOON, *SOON, *about(KEY_LIFE)), ("cancel 1", "cancel 1", "resume")),
        (about(QUIET, UNPROVEN, KEY_LIFE), ("resume", "resume", "reconcile 0")),
        (((0.0, 900.0), *about(UNPROVEN - QUIET, UNPROVEN - KEY_LIFE)), (*AGAIN, "resume")),
        (((0.0, 900.0), *about(UNPROVEN - QUIET)), (*AGAIN, "resume")),
        (((0.0, 900.0),), AGAIN),
    ),
    "a 500 and another one": (
        (SOON, (VISA,)),
        (SOON, ("cancel 1",)),
        (about(UNPROVEN), ("resume", "resume", "reconcile 0")),
        (SOON, ("resume", *AGAIN)),
        (((0.0, 900.0), (HOUR_S, 2 * HOUR_S)), AGAIN),
    ),
    "a machine stands still": (
        (SOON, (VISA, VISA, DECLINE)),
        (SOON, ("still 90000", "still 79000", "still 300000", "still 12000")),
        ((*SOON, (9000.0, 12500.0), (79000.0, 90500.0)), (*RETRY, "cancel 1", "reconcile 0")),
        ((*SOON, *about(QUIET)), (*RETRY, "cancel 1", "reconcile 0")),
        ((*SOON, *about(QUIET, UNPROVEN)), (*RETRY, *AGAIN)),
    ),
    "two machines stand still": (
        (SOON[:1], ("west charge 2 pm_card_visa 1 ours",)),
        (SOON[:1], ("west still 300000",)),
        (SOON[:1], (f"west {VISA} ours",)),
        (((KEY_LIFE + 5.0, KEY_LIFE + 900.0),), ("night reconcile 0 ours",)),
        (((0.362, 0.41), (0.33, 0.62)), ("night still 219000",)),
        (((219000.0, 220500.0),), ("east resume ours", "east resume ours", "east reconcile 0 ours")),
        (SOON, ("resume", *AGAIN)),
    ),
    "a machine stands still at its gate": (
        (SOON[:1], (f"east {VISA} ours",)),
        (SOON[:1], (f"west {VISA} ours",)),
        (((90000.0, 91000.0),), ("west resume ours", f"west {VISA} ours")),
    ),
    "given up by a machine that stood still": (
        (SOON[:1], (f"east {VISA} ours",)),
        (SOON, ("east still 12000",)),
        (((10500.0, 11900.0),), ("west resume ours", f"west {VISA} ours")),
        (((5.0, 100.0),), ("east cancel 1 ours", "east cancel 1 ours", "west cancel 1 ours")),
        (((0.0, 2000.0),), ("west resume ours", "east resume ours", "night reconcile 0 ours")),
        (((5.0, 100.0),), ("west resume ours", "night reconcile 0 ours")),
        (about(UNPROVEN, UNPROVEN - 12000.0), ("west resume ours", "night reconcile 0 ours")),
    ),
    "an old question": (
        (SOON[:1], (f"east {VISA} ours",)),
        (SOON, ("west resume rotated",)),
        (((13900.0, 13960.0),), ("east resume ours", f"east {VISA} ours")),
        (((5.0, 20.0),), ("outage 5",)),
        (((0.1, 1.0),), ("east cancel 1 ours",)),
        (((UNPROVEN - 13500.0, UNPROVEN - 2000.0),), ("east resume ours", "west resume ours")),
    ),
    "a closed finding": (
        (SOON, DECLINED),
        (SOON, AGAIN),
        (SOON, ("hand twice 1",)),
        ((*SOON, *HOURS), ("reconcile 0", "reconcile 0", "resume", DECLINE)),
        (SOON, ("resolve 1",)),
        (SOON, (*AGAIN, "resume", "reconcile 0")),
        ((*SOON, *HOURS), (*AGAIN, "resume")),
    ),
    "a refusal, and its other delivery stripped": (
        (SOON, (VISA,)),
        (SOON, ("hand strip 1",)),
        (SOON, AGAIN),
        ((*SOON, *HOURS), (*AGAIN, "reconcile 0")),
    ),
    "a cancellation that somebody else answers": (
        (SOON, ("charge 1 pm_usBankAccount_success 1",)),
        (((1.0, 5.0),), ("cancel 1",)),
        ((*SOON, *HOURS), ("cancel 1", "resume", *AGAIN)),
        (HOURS, ("resume", *AGAIN)),
    ),
    "two debits": (
        (SOON, ("charge 1 pm_usBankAccount_success 1",)),
        (SOON, ("charge 2 pm_usBankAccount_noAccount 1",)),
        (((20.0, 60.0),), ("resume", "reconcile 0")),
        ((*SOON, *HOURS), ("resume", "charge 2 pm_usBankAccount_noAccount 1", "reconcile 0")),
    ),
    "edited by hand": (
        (SOON, (VISA,)),
        (SOON, ("hand both 1", "hand namespace 1", "hand key 1", "hand key 1")),
        ((*SOON, *about(KEY_LIFE)), ("cancel 1", "cancel 1", "resume")),
        (((UNPROVEN + 100.0, UNPROVEN + 900.0),), ("resume", "reconcile 0")),
        (((0.0, 900.0), *about(UNPROVEN)), (*AGAIN, "resume")),
        ((*SOON, *about(UNPROVEN)), AGAIN),
    ),
    "another account": (
        (SOON, (VISA, "prepare 1 pm_card_visa 1")),
        (SOON, ("resume restricted_other", "resume other", f"{VISA} restricted_other", "resume restricted")),
        ((*SOON, *HOURS), ("resume restricted_other", "resume other", "cancel 1 restricted_other", "resume rotated")),
        (HOURS, FINISH),
    ),
    "another key of ours": (
        (SOON, (f"{VISA} ours",)),
        ((*SOON, *about(QUIET)), ("resume rotated", f"{VISA} rotated")),
        ((*SOON, *about(QUIET)), ("resume ours", "resume rotated", f"{VISA} rotated")),
        ((*SOON, *about(QUIET)), ("resume ours", "resume rotated", f"{VISA} rotated")),
        (about(QUIET), ("resume rotated", "resume ours")),
    ),
}
FAULTS: dict[str, Faults] = {
    "a doubled send": ((0.35, "doubled"), (0.6, "box"), (0.66, "held"), (0.72, "exchanged"), (0.78, "leftover")),
    "a 500 that nobody saw": ((0.35, "held_500"), (0.7, "hidden_500"), (0.85, "doubled"), (0.9, "held")),
    "a 500 and another one": ((0.8, "doubled_500"),),
    "a machine stands still": ((0.6, "lost_reply"), (0.7, "held"), (0.75, "lost_request")),
    "two machines stand still": ((0.8, "held"),),
    "a machine stands still at its gate": ((0.9, "lost_reply"),),
    "given up by a machine that stood still": ((0.85, "held"), (0.9, "lost_reply")),
    "an old question": ((0.62, "lost_request"), (0.93, "held_500")),
    "a closed finding": ((0.3, "lost_request"), (0.5, "held"), (0.6, "unavailable_503")),
    "a refusal, and its other delivery stripped": ((0.8, "doubled"),),
    "a cancellation that somebody else answers": ((0.4, "leftover"), (0.6, "box")),
    "two debits": (),
    "edited by hand": ((0.85, "lost_reply"), (0.9, "held")),
    "another account": ((0.4, "lost_reply"), (0.5, "doubled")),
    "another key of ours": ((0.35, "held"), (0.6, "lost_reply"), (0.7, "unavailable_503")),
}
AT_THE_END = {
    "the key's life": ("late_s",),
    "given up": ("late_s", "slow_s", "lag_s", "created_skew_s"),
    "a doubled send": ("late_s", "slow_s", "created_skew_s"),
    "a 500 that nobody saw": ("late_s", "roll_forward_s", "lag_s"),
    "a 500 and another one": ("late_s", "roll_forward_s", "lag_s"),
    "two machines stand still": ("late_s",),
    "given up by a machine that stood still": ("late_s",),
    "an old question": ("late_s", "roll_forward_s", "lag_s"),
    "another key of ours": ("late_s", "slow_s", "lag_s"),
}
"""Lengths that a plot wants at the ends of the published ones, alone and together."""
AT_QUESTIONS: dict[str, Faults] = {
    "two debits": ((0.4, "exchanged"),),
    "two machines stand still": ((0.01, "delayed"),),
    "an old question": ((0.5, "pause 14000"), (0.4, "stands still for 12000")),
}
AT_MEETINGS: dict[str, Faults] = {
    "two machines stand still": ((0.01, "cached"),),
    "an old question": ((0.01, "cached"),),
    "given up by a machine that stood still": ((0.05, "refused"),),
    "another account": ((0.3, "forbidden"), (0.35, "cached")),
    "a machine stands still": ((0.25, "cached"), (0.3, "exchanged"), (0.35, "leftover")),
}
AT_COMMITS: dict[str, Faults] = {
    "two machines stand still": ((0.004, "pause 2"), (0.008, "die after")),
    "a machine stands still at its gate": ((0.3, "stands still for 90000"),),
    "an old question": ((0.004, "pause 2"), (0.008, "die after")),
}
