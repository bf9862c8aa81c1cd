"""Happenings: the calls of a schedule, and what people and machines do to it from outside; `doing.py` does them.

A happening is one line of words, `AT HOST WHAT …`, so that a failing schedule can be read, shortened and kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway_client import Money, PaymentIntent
from tests.sim import plots
from tests.sim.decisions import Decisions, Dice
from tests.sim.hosts import KEYS
from tests.sim.weather import Weather

HOSTS = ("east", "west", "night")
CALLS = ("charge", "prepare", "cancel", "resume", "work", "reconcile")
METHODS = (
    *("pm_card_visa",) * 6,
    *("pm_card_chargeDeclined",) * 3,
    "pm_card_authenticationRequired",
    "pm_usBankAccount_success",
    "pm_usBankAccount_noAccount",
    "pm_card_visa_chargeDeclinedInsufficientFunds",
    "pm_usBankAccount_processing",
    "pm_none",
    *("pm_card_visa@2", "pm_card_visa@3600", "pm_card_chargeDeclined@3600"),
)
"""After an `@`, for how many seconds a charge may first be sent."""
OPEN = ("pm_card_chargeDeclined", "pm_card_authenticationRequired", "pm_usBankAccount_processing")
"""Methods that leave an intent behind, with which somebody may go on."""

SPECIAL = ("clock", "restore", "hands", "poison", "stranger", "outage", "kill", "still", "people")
HANDS = (
    *("strip", "strip", "remove", "amount", "twice", "currency", "authenticate", "authenticate", "confirm", "cancel"),
    *("key", "namespace", "both", "claim"),
)
STILL_S = ("20", "3000", "12000", "90000", "300000")
CLOCKS_S = ("-3600", "-400", "-200", "-30", "0", "30", "200", "400", "3600", "90000")
OUTAGES_S = ("60", "3600", "21600", "108000")
AMOUNTS = {1: 2000, 2: 2000, 3: 1999, 4: 2000}
"""Equal amounts on purpose: what is not ours may look like ours."""
RATES = ("25", "25", "2", "0.2")
UNTIL = ("idle", "idle", "idle", "1s", "10s", "60s")


@dataclass(frozen=True, slots=True)
class Happening:
    """What happens at a moment; `words` are what follows the verb."""

    name: str
    at_s: float
    host: str
    verb: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.at_s:.3f} {self.host} {' '.join((self.verb, *self.words))}"


def read(name: str, line: str) -> Happening:
    """A happening from its line."""
    at, host, verb, *words = line.split()
    return Happening(name, float(at), host, verb, tuple(words))


def draw_all(decisions: Decisions, weather: Weather) -> list[Happening]:
    """The happenings of a schedule, in the order of time."""
    found: list[Happening] = []
    at_s = 0.0
    first: dict[int, str] = {}
    for number in range(1, 13):

        def draw(dice: Dice, number: int = number, at_s: float = at_s) -> str | None:
            if weather.plot is not None:
                return _of_plot(dice, weather, number, at_s)
            if number > weather.calls_max:
                return None
            gap_s = -math.log(1.0 - dice.random()) * weather.tempo_s * (0.05 if dice.hits(0.3) else 1.0)
            return f"{at_s + gap_s:.3f} {_what(dice, weather, number, first)}"

        name = f"h{number}"
        line = decisions.take(name, draw)
        if line is not None:
            found.append(read(name, line))
            at_s = max(at_s, found[-1].at_s)
    return sorted(found, key=lambda one: one.at_s)


def _of_plot(dice: Dice, weather: Weather, number: int, at_s: float) -> str | None:
    step = plots.line(dice, weather.plot or "", number)
    if step is None:
        return None
    gap_s, words = step
    host = "night" if words == "kill" or (words.startswith("reconcile") and dice.hits(0.7)) else HOSTS[dice.below(2)]
    if words.partition(" ")[0] in HOSTS:
        host, _, words = words.partition(" ")
    if words == "resume":
        words = _finishes(dice, weather)
    told = not words.startswith(CALLS) or words.rpartition(" ")[2] in KEYS
    credential = "" if told else f" {_credential(dice, weather)}"
    return f"{at_s + gap_s:.3f} {host} {words}{credential}"


def _credential(dice: Dice, weather: Weather) -> str:
    key = dice.one_of(("rotated", "rotated", "restricted", "other", "restricted_other", "live", "revoked"))
    return key if "credential" in weather.trouble and dice.hits(0.25) else "ours"


def _what(dice: Dice, weather: Weather, number: int, first: dict[int, str]) -> str:
    host = HOSTS[dice.below(2)]
    credential = _credential(dice, weather)
    order = 1 + dice.below(weather.orders)
    special = tuple(name for name in SPECIAL if name in weather.trouble)
    if number > 1 and "dashboard" in weather.trouble and dice.hits(0.5):
        return f"{host} hand {dice.one_of(('authenticate', 'authenticate', 'confirm', 'cancel', 'amount'))} {order}"
    if number > 1 and special and dice.hits(0.35):
        return f"{host} {_special(dice, dice.one_of(special), order)}"
    kind = dice.random()
    if order not in first:
        methods = OPEN if "dashboard" in weather.trouble else METHODS
        first[order] = methods[dice.below(len(methods))]
        verb = "prepare" if kind < 0.08 else "charge"
        return f"{host} {verb} {order} {first[order]} 1 {credential}"
    finishes = _finishes(dice, weather)
    attempt, on = 2 + dice.below(2) * dice.below(2), "night" if dice.hits(0.8) else host
    return next(
        line
        for most, line in (
            (0.3, f"{host} charge {order} {first[order]} 1 {credential}"),
            (0.45, f"{host} charge {order} pm_card_visa {attempt} {credential}"),
            (0.52, f"{host} cancel {order} {credential}"),
            (0.8, f"{host} {finishes} {credential}"),
            (1.0, f"{on} reconcile {dice.below(2)} {credential}"),
        )
        if kind < most
    )


def _finishes(dice: Dice, weather: Weather) -> str:
    """Resume, or a worker: until it is idle, told to end after a time, or at one of its effects."""
    if "workers" not in weather.trouble or dice.hits(0.4):
        return "resume"
    until = f"{1 + dice.below(20)}th" if dice.hits(0.25) else dice.one_of(UNTIL)
    return f"work {dice.one_of(RATES)} {until}"


def _special(dice: Dice, kind: str, order: int) -> str:  # noqa: PLR0911 - one kind a line
    match kind:
        case "clock" | "outage":
            return f"{kind} {dice.one_of(CLOCKS_S if kind == 'clock' else OUTAGES_S)}"
        case "restore":
            return f"restore {1 + dice.below(3)}"
        case "hands":
            return f"hand {dice.one_of(HANDS)} {order}"
        case "poison":
            return f"poison {order}"
        case "people":
            return f"resolve {order}"
        case "still":
            return f"still {dice.one_of(STILL_S)}"
    return kind


def intent_of(order: int, method: str, now: float) -> PaymentIntent:
    """The payment intent of an order, as somebody asks for it now."""
    method, _, seconds = method.partition("@")
    last = datetime.fromtimestamp(now + float(seconds), UTC) if seconds else None
    money = Money(AMOUNTS[order], "usd")
    return PaymentIntent(f"order_{order}", money, method, customer=f"cus_{order}", not_after=last)
