"""What a case draws before it begins: lengths within the published model, switches, and when people act. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from gateway_client.gateways.stripe_bounds import BOUNDS
from tests.sim.decisions import Dice

T = TypeVar("T")

HOUR = 3600.0
HOLD_S = BOUNDS.hold.total_seconds()
EXECUTION_S = BOUNDS.execution.total_seconds()
LAG_S = BOUNDS.list_lag.total_seconds()
ROLL_FORWARD_S = BOUNDS.roll_forward.total_seconds()
PRUNED_S = BOUNDS.key_pruned_after.total_seconds()
SKEW_S = BOUNDS.clock_tolerance.total_seconds() - 2  # `Date` and `created` are in whole seconds
FIRST_BYTE_S = BOUNDS.first_byte.total_seconds()

_KEY_LIFE = BOUNDS.key_life.total_seconds()
_QUIET = BOUNDS.quiet.total_seconds()
_UNPROVEN = BOUNDS.quiet_unproven.total_seconds()

# Between one action and the next: at once, soon, and a few seconds beside each bound, on both sides of it; with clocks
# that are wrong, beside what they make of it.
_WRONG_S = 2 * SKEW_S
NOW_S: tuple[float, ...] = (0.0, 0.0, 1.0, 20.0)
SOON_S: tuple[float, ...] = (0.0, 120.0, 1000.0, HOLD_S + 1, HOLD_S + EXECUTION_S + 5, 2 * HOUR + 90)
QUIET_S: tuple[float, ...] = (_QUIET - _WRONG_S, _QUIET - 30, _QUIET + 3, _QUIET + 3, 4 * HOUR)
LIFE_S: tuple[float, ...] = (_KEY_LIFE - 4, _KEY_LIFE + _WRONG_S - 5, PRUNED_S - 5, PRUNED_S + 5, 30 * HOUR, 49 * HOUR)
LATE_S: tuple[float, ...] = (ROLL_FORWARD_S, _UNPROVEN - _WRONG_S, _UNPROVEN - 30, _UNPROVEN + 3, 80 * HOUR)
GAPS_S = (*NOW_S, *SOON_S, *QUIET_S, *LIFE_S, *LATE_S)
# Since the beginning of the case.
MOMENTS_S = (_KEY_LIFE - 4, _KEY_LIFE - 0.5, _KEY_LIFE + 2, PRUNED_S + 2, PRUNED_S + HOUR, 30 * HOUR, 80 * HOUR)

ACTIONS = {
    "charge": 24,
    "next attempt": 22,
    "resume": 18,
    "cancel": 9,
    "night": 9,
    "rotate": 6,
    "restart": 4,
    "pause": 5,
    "set the clock": 3,
    "resolve": 5,
}

Steps = tuple[tuple[tuple[float, ...], str], ...]

_GIVEN_UP: Steps = ((SOON_S, "cancel"), ((*QUIET_S, *LATE_S), "resume"))
_TOO_OLD: Steps = ((LIFE_S, "resume"), ((*QUIET_S, *LATE_S), "resume"))
_ROTATED: Steps = ((SOON_S, "rotate"), (NOW_S, "charge"), (SOON_S, "charge"), (QUIET_S, "charge"))
PLOTS: tuple[Steps, ...] = (
    (),
    (),
    ((NOW_S, "next attempt"), (SOON_S, "next attempt")),
    ((NOW_S, "next attempt"), (SOON_S, "resume"), (SOON_S, "next attempt")),
    ((SOON_S, "charge"), (NOW_S, "next attempt"), (QUIET_S, "next attempt")),
    ((LIFE_S, "charge"), (SOON_S, "charge")),
    ((LIFE_S, "charge"), (SOON_S, "resume")),
    ((SOON_S, "pause"), (NOW_S, "charge"), (SOON_S, "charge")),
    ((SOON_S, "charge"), (LIFE_S, "charge"), (NOW_S, "resume")),
    (*_GIVEN_UP, (NOW_S, "next attempt")),
    ((NOW_S, "cancel"), (NOW_S, "resume"), (QUIET_S, "resume"), (NOW_S, "next attempt")),
    (*_GIVEN_UP, (LATE_S, "next attempt")),
    (*_GIVEN_UP, (LATE_S, "resume"), (NOW_S, "next attempt")),
    (*_TOO_OLD, (NOW_S, "next attempt")),
    (*_TOO_OLD, (LATE_S, "next attempt")),
    ((LIFE_S, "night"), (QUIET_S, "night"), (LATE_S, "next attempt")),
    _ROTATED,
    ((SOON_S, "cancel"), (NOW_S, "next attempt"), (QUIET_S, "resume"), (NOW_S, "next attempt")),
    ((LIFE_S, "night"), (NOW_S, "resolve"), (NOW_S, "next attempt"), (NOW_S, "charge")),
    ((SOON_S, "next attempt"), (LIFE_S, "night"), (NOW_S, "resolve"), (NOW_S, "charge")),
)
"""What people do after the first charge; other actions follow, and now and then one comes in between."""


@dataclass(slots=True)
class Lengths:
    """One case's lengths in seconds, its switches, and how likely what is."""

    holds: tuple[float, ...]
    executions: tuple[float, ...]
    lag: float
    roll_forward: float
    pruned: float
    page_rows: int
    date_skews: tuple[float, ...]
    created_skew: float
    host_wrong: float
    settles: float
    echoes_errors: bool
    names_declined: bool  # a decline's error has the intent in it
    keys_by_credential: bool
    stranger: bool  # a payment of the same amount without metadata
    two: float  # likely: two deliveries
    own: float  # likely: the provider's own answer is read as it is
    damaged: float  # or damaged, else a box answers
    silent: float  # or nobody
    reaches: float  # likely: a delivery is executed
    asked_box: float  # likely: a question is answered by a box
    pauses: float  # likely: the machine stands still before an effect
    dies: float  # likely: the process dies before an effect
    outcomes: tuple[str, ...]
    plot: Steps
    actions: int  # after the plot


def draw(dice: Dice) -> Lengths:
    """The lengths of one case: usual ones, or at the edge of the model."""
    skewed = dice.hits(0.35)
    edge = dice.hits(0.4)
    made = Lengths(
        holds=_drawn(dice, edge, (0.0,), (0.0, 5.0, 60.0), (0.0, 0.0, 40.0, 1800.0), (0.0, 0.0, HOLD_S)),
        executions=_drawn(dice, edge, (0.3,), (0.3, 8.0, 45.0), (EXECUTION_S,), (0.3, EXECUTION_S)),
        lag=_drawn(dice, edge, 0.0, 0.0, 60.0, LAG_S),
        roll_forward=_drawn(dice, edge, 3000.0, 26 * HOUR, 70 * HOUR, ROLL_FORWARD_S),
        pruned=_drawn(dice, False, PRUNED_S, PRUNED_S, PRUNED_S + 2 * HOUR, 30 * 24 * HOUR),
        page_rows=_drawn(dice, False, 100, 100, 1, 2),
        date_skews=_drawn(dice, False, (0.0, SKEW_S), (-SKEW_S, SKEW_S), (-SKEW_S,), (0.0, -200.0))
        if skewed
        else (0.0,),
        created_skew=_drawn(dice, False, 0.0, SKEW_S, -SKEW_S) if skewed else 0.0,
        host_wrong=_drawn(dice, False, 0.0, 120.0, -120.0, 280.0) if skewed else 0.0,
        settles=_drawn(dice, False, 20.0, HOUR, 30 * HOUR),
        echoes_errors=dice.hits(0.6),
        names_declined=dice.hits(0.7),
        keys_by_credential=dice.hits(0.3),
        stranger=dice.hits(0.04),
        two=_drawn(dice, False, 0.1, 0.4, 0.8),
        own=_drawn(dice, False, 0.2, 0.4, 0.8),
        damaged=_drawn(dice, False, 0.1, 0.3),
        silent=_drawn(dice, False, 0.0, 0.05, 0.3),
        reaches=_drawn(dice, False, 0.2, 0.5, 0.8),
        asked_box=_drawn(dice, False, 0.0, 0.0, 0.05, 0.3, 0.3),
        pauses=_drawn(dice, False, 0.0, 0.0, 0.0, 0.02, 0.08),
        dies=_drawn(dice, False, 0.0, 0.0, 0.0, 0.02),
        outcomes=_drawn(
            dice,
            False,
            ("succeeds",),
            ("succeeds", "succeeds", "declined"),
            ("declined",),
            ("500 later",),
            ("500", "500 later", "500 charged", "succeeds"),
            ("500 charged", "processing", "succeeds", "declined"),
        ),
        plot=pick(dice, *PLOTS),
        actions=dice.below(4),
    )
    if made.keys_by_credential and dice.hits(0.6):
        made.plot = _ROTATED
    return made


def action(dice: Dice) -> str:
    """What is done next."""
    left = dice.random() * _ALL
    for name, weight in ACTIONS.items():
        left -= weight
        if left < 0:
            return name
    return "charge"


_ALL = float(sum(ACTIONS.values()))


def pick(dice: Dice, *options: T) -> T:
    """One of them."""
    return options[dice.below(len(options))]


def _drawn(dice: Dice, edge: bool, *options: T) -> T:
    """One of them; at the edge the last."""
    return options[-1] if edge and dice.hits(0.6) else options[dice.below(len(options))]
