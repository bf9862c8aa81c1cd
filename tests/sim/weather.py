"""Weather: what a seed makes likely. Each class of trouble is on or off; some seeds have none, some are long and quiet.

Only rates and lengths: what happens when is decided moment by moment (`decisions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.sim import unkind_plots
from tests.sim.decisions import Dice
from tests.sim.plots import AT_COMMITS, AT_MEETINGS, AT_QUESTIONS, FAULTS, PLOTS

DAY_S = 24 * 3600.0

# What may become of one effect, by the kind of effect, and how likely its class is at all. A pause is longer than each
# limit in turn: a short overlap, the ten seconds of a send begun, the ten minutes of a run's hold, the life of a key.
PAUSES = ("pause 0.3", "pause 2", "pause 15", "pause 700", "pause 90000")
PROVIDER_FAULTS = (
    "refused",
    "lost_request",
    "lost_reply",
    "error_500",
    "error_500_charged",
    "error_500_uncharged",
    "error_500_later",
    "lost_500_later",
    "bare_402",
    "unavailable_503",
    "in_use_409",
    "rate_limited_429",
    "slow",
    "cut_body",
    "html_body",
    "duplicate",
    "unauthorized_401",
    "wrong_amount",
    "wrong_currency",
    "wrong_mode",
    "redirect_302",
)
ON_THE_WAY = (
    *("late", "held", "doubled", "doubled", "box", "box", "exchanged", "leftover", "cached", "delayed"),
    "account_400",
)
"""What happens between us and the provider (`network.py`)."""
LIES = ("wrong_amount", "wrong_currency", "wrong_mode")
"""Answers that are not what was asked for: believing one is a false success."""

# A virtual machine stands still, and both its clocks with it.
STILL = ("stands still for 30", "stands still for 3000", "stands still for 12000", "stands still for 300000")
STILL_AFTER = ("stands still after 3000", "stands still after 90000")
AT_A_COMMIT = ("die before", "die after", "cancel", "commit fails", "commit fails late", *PAUSES, *STILL)
AT_A_REQUEST = ("die before", "die in flight", "cancel in flight", *PAUSES, *STILL, *STILL_AFTER)
AT_A_GET = ("cached",)
# Nothing that a GET could do.
UNMOVED = (
    *("error_500_later", "lost_500_later", "bare_402", "late", "held", "duplicate", "account_400"),
    *("error_500_charged", "error_500_uncharged", *LIES),
)

Table = tuple[tuple[float, str], ...]  # (cumulated rate, what)


@dataclass
class Weather:
    """The rates of one seed, and the lengths that its provider has."""

    tempo_s: float = 1.0  # the mean time from one call to the next
    calls_max: int = 8
    orders: int = 1
    trouble: frozenset[str] = frozenset()  # classes of happenings that are possible at all (`happenings.py`)
    commit: Table = ()
    post: Table = ()
    get: Table = ()
    meet: Table = ()  # at the question whose account it is
    plot: str | None = None


TEMPOS_S = (0.05, 1.0, 20.0, 600.0, 5 * 3600.0, 20 * 3600.0)
CLASSES = (
    "clock",
    "restore",
    "hands",
    "credential",
    "no_leases",
    "lag",
    "poison",
    "stranger",
    "outage",
    "kill",
    "workers",
    "still",
    "people",
)
DRAWN = (*PLOTS, *unkind_plots.PLOTS)  # those of the unkind world twice
PLOTTED = 0.55  # seeds that begin with a plot (`plots.py`)
MOST = 0.8  # of all requests meet a fault, when a seed has many kinds
BESIDE_A_PLOT, AT_A_QUESTION = 0.25, 0.33  # of the rates of faults
DASHBOARD = 0.03  # seeds in which a person works on open intents at the provider while we are in doubt of them
OFTEN = {"clock": 0.25, "restore": 0.05, "hands": 0.12, "credential": 0.15, "no_leases": 0.2, "lag": 0.3}
OFTEN |= {"poison": 0.05, "stranger": 0.15, "outage": 0.1, "kill": 0.1, "workers": 0.3, "still": 0.12, "people": 0.12}


def draw(dice: Dice) -> Weather:
    """The weather of a seed."""
    kind = dice.random()
    calm, quiet = kind < 0.04, 0.04 <= kind < 0.12
    weather = Weather(
        tempo_s=TEMPOS_S[-1] if quiet else TEMPOS_S[dice.below(len(TEMPOS_S))],
        calls_max=2 + dice.below(3 if quiet else 6),
        orders=1 + dice.below(2) + dice.below(2) * dice.below(2),
    )
    weather.trouble = frozenset(name for name in CLASSES if dice.hits(OFTEN[name]) and not calm)
    if calm:
        return weather
    if dice.hits(DASHBOARD):
        weather.orders, weather.trouble = 1, weather.trouble | {"hands", "dashboard"}
        weather.post = ((0.6, "lost_reply"),)
        return weather
    scale = 0.15 if quiet else 1.0
    weather.plot = DRAWN[dice.below(len(DRAWN))] if dice.hits(PLOTTED) else None
    drawn = _table(dice, AT_A_COMMIT, 0.3, 0.01 * scale, 0.06 * scale)
    weather.commit = AT_COMMITS.get(weather.plot or "", drawn)
    faults = _table(dice, PROVIDER_FAULTS, 0.3, 0.03 * scale, 0.4 * scale)
    faults = _joined(_table(dice, ON_THE_WAY, 0.25, 0.02 * scale, 0.3 * scale), faults)
    if faults and faults[-1][0] > MOST:
        faults = _scaled(faults, MOST / faults[-1][0])
    accidents = _table(dice, AT_A_REQUEST, 0.3, 0.01 * scale, 0.1 * scale)
    posted = tuple(one for one in faults if one[1] not in AT_A_GET)
    weather.post = _joined(accidents, posted)
    if weather.plot is not None:
        weather.post = _joined(accidents, _joined(FAULTS[weather.plot], _scaled(posted, BESIDE_A_PLOT)))
    usual = _scaled(tuple(one for one in faults if one[1] not in UNMOVED), AT_A_QUESTION)
    weather.meet = _joined(accidents, AT_MEETINGS.get(weather.plot or "", usual))
    weather.get = _joined(accidents, AT_QUESTIONS.get(weather.plot or "", usual))
    return weather


def _table(dice: Dice, options: tuple[str, ...], on: float, least: float, most: float) -> Table:
    total, made = 0.0, []
    for what in options:
        if dice.hits(on):
            total += dice.between(least, most)
            made.append((total, what))
    return tuple(made) if total < MOST else _scaled(tuple(made), MOST / total)


def _scaled(table: Table, by: float) -> Table:
    return tuple((rate * by, what) for rate, what in table)


def _joined(first: Table, then: Table) -> Table:
    shift = first[-1][0] if first else 0.0
    return first + tuple((rate + shift, what) for rate, what in then)


def pick(dice: Dice, table: Table) -> str | None:
    """One of a table's entries, or none of them."""
    if not table:
        return None
    at = dice.random()
    return next((what for rate, what in table if at < rate), None)
