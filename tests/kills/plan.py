"""What each batch of the campaign does, drawn from the seed and the number of the batch alone. Pure.

A batch is one store and one provider: three times on the clock, some rounds at each, some processes in each round.
A worker is a process that runs `resume`. Where and when a process dies is drawn here, too; a random moment is a share
of the time that such processes take, so the same seed gives the same plan and never quite the same instants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil
from random import Random

from gateway_client import Stripe

BOUNDS = Stripe.profile.bounds


def in_hours(length: timedelta) -> int:
    """A length in whole hours, rounded up."""
    return ceil(length / timedelta(hours=1))


HOURS = (0, 101, 202)
"""When the phases are: keys alive; the lives of those over, and again."""

QUIET = in_hours(BOUNDS.quiet_unproven)
"""Hours after which a row that was closed may be proven absent."""

CLOSED = HOURS[-1] + 2 * QUIET
HOURS_END = (CLOSED, CLOSED + QUIET, CLOSED + 2 * QUIET)
"""When everything is let run to its end: the last rows are closed, they are proven absent, they are attempted anew."""

# One request gets one fault. Two are not drawn, because they may end with a finding for a person, and whether they do
# depends on who is faster: `error_500_later` (a 500 that nobody saw, rolled forward once absence was concluded) and
# `wrong_amount` (told to one process, after another one has recorded the success).
RATES = {
    "refused": 0.03,
    "lost_request": 0.06,
    "lost_reply": 0.12,
    "error_500": 0.03,
    "error_500_charged": 0.06,
    "unavailable_503": 0.04,
    "in_use_409": 0.05,
    "rate_limited_429": 0.03,
    "slow": 0.12,
    "cut_body": 0.05,
    "html_body": 0.03,
    "duplicate": 0.06,
    "late": 0.03,
    "redirect_302": 0.01,
}
"""The rates of the worst weather."""

ASKING_FAULTS = ("lost_reply", "lost_request", "unavailable_503", "rate_limited_429", "error_500", "cut_body", "slow")
"""What questions meet; rates are for POST only."""

AMOUNT = 1999
"""Of every intent, in cents."""

IN_FLIGHT = 32
"""Intents of a crowd."""

CROWDS = 3
"""Of a batch."""

CLAIMING = ("p1", "p1_send", "p3_claim")
SENDING = ("p2", "p3", "p4", "p5", "p6", "p6_commit", "p7")
TOGETHER = ("p1_send", "p3_claim", "p4", "p5", "p6", "p6_commit", "p7")
COMMITS = ("commit", "committed")
REQUESTS = ("asking", "writing", "asked", "answered")
MOMENT, ARRIVED = "moment", "arrived"

POINTS_OF = {
    "client": (*CLAIMING, *SENDING, *COMMITS, MOMENT),
    "crowd": (*TOGETHER, *COMMITS, MOMENT),
    "worker": (*SENDING, *COMMITS, *REQUESTS, MOMENT),
    "reconciler": (*COMMITS, *REQUESTS, MOMENT),
}
"""Where the processes of each kind are ended. Those of `paycli` are ended when a request arrives, or at any moment."""


@dataclass(frozen=True)
class Death:
    """Where a process ends: at the `nth` such point, or at a `share` of the time that such processes take."""

    at: str
    nth: int = 1
    share: float = 0.0


@dataclass(frozen=True)
class Actor:
    """One process: a client that charges these intents, one after the other or all at once (a crowd), a worker, or a
    reconciler of the day so many days ago.
    """

    kind: str
    intents: tuple[str, ...] = ()
    days_ago: tuple[int, ...] = ()
    prepares: bool = False
    fresh: bool = False  # of `paycli`, its interpreter and imports included; else a fork of a warm parent
    death: Death | None = None


@dataclass(frozen=True)
class Round:
    """Processes that begin at the same moment, and the fault that so many of their first questions meet."""

    actors: tuple[Actor, ...]
    asking_fault: tuple[str, int] | None = None

    @property
    def is_race(self) -> bool:
        """Clients, a worker and a reconciler at once."""
        return {"client", "worker", "reconciler"} == {actor.kind for actor in self.actors}


@dataclass(frozen=True)
class Phase:
    """Some rounds at one time of the clock; `healed` when the faults end and all is finished at that time already."""

    hours: int
    rounds: tuple[Round, ...]
    healed: bool


@dataclass(frozen=True)
class Batch:
    """One store and one provider, from their first process to their last."""

    seed: int
    number: int
    rates: dict[str, float]
    phases: tuple[Phase, ...]


def draw(seed: int, number: int) -> Batch:
    """The batch of that number."""
    chance = Random(f"{seed}/{number}")
    weather = chance.choice((0.0, 0.5, 1.0, 1.0))
    names = _Names()
    counts = ((10, 6, 6, 4, 2), (2, 4, 5, 1, 0), (2, 3, 5, 2, 0))
    phases = [
        Phase(hours, _rounds(chance, names, phase, of_each), healed=chance.random() < 0.4)
        for phase, (hours, of_each) in enumerate(zip(HOURS, counts, strict=True))
    ]
    rates = {fault: rate * weather for fault, rate in RATES.items() if weather}
    return Batch(seed, number, rates, tuple(phases))


class _Names:
    """Intents, numbered as they come; some of their first attempts are declined, so that second ones are made."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def new(self, chance: Random) -> str:
        card = "declined" if chance.random() < 0.15 else "visa"
        self.given.append(f"order_{len(self.given):03}_{card}")
        return self.given[-1]

    def any(self, chance: Random) -> str:
        """A new one, or one that others have been at."""
        return chance.choice(self.given) if self.given and chance.random() < 0.3 else self.new(chance)


def _rounds(chance: Random, names: _Names, phase: int, of_each: tuple[int, ...]) -> tuple[Round, ...]:
    clients, workers, reconcilers, races, fresh = of_each
    makers = [_clients] * clients + [_workers] * workers + [_reconcilers] * reconcilers + [_race] * races
    makers += [_fresh] * fresh
    chance.shuffle(makers)
    made = [_clients(chance, names, phase), *(maker(chance, names, phase) for maker in makers)]
    if phase == 0:
        made[1:1] = [_crowd(chance, names) for _ in range(CROWDS)]
    return tuple(made)


def _clients(chance: Random, names: _Names, phase: int) -> Round:
    """Two or three clients, each with an intent of its own or two."""
    actors = []
    for _ in range(chance.choice((2, 2, 3))):
        intents = [names.new(chance) if phase == 0 else names.any(chance)]
        if chance.random() < 0.15:
            intents.append(names.any(chance))
        prepares = chance.random() < 0.2
        death = _client_death(chance, len(intents))
        actors.append(Actor("client", tuple(intents), prepares=prepares, death=death))
    return Round(tuple(actors), _asking_fault(chance))


def _crowd(chance: Random, names: _Names) -> Round:
    """One client with many intents in flight."""
    intents = tuple(names.new(chance) for _ in range(IN_FLIGHT))
    kind, nth = chance.random(), chance.randint(1, IN_FLIGHT // 2)
    death = Death(chance.choice(TOGETHER), nth) if kind < 0.5 else Death(chance.choice(COMMITS), chance.randint(1, 5))
    return Round((Actor("crowd", intents, death=death if kind < 0.75 else Death(MOMENT, share=chance.random())),))


def _workers(chance: Random, names: _Names, phase: int) -> Round:
    """A worker, at times two; a client beside it, that leaves the next one something to do."""
    actors = [Actor("worker", death=_worker_death(chance))]
    if chance.random() < 0.3:
        actors.append(Actor("worker", death=_worker_death(chance)))
    if chance.random() < 0.7:
        intent = names.new(chance) if phase == 0 else names.any(chance)
        actors.append(Actor("client", (intent,), death=_client_death(chance)))
    return Round(tuple(actors), _asking_fault(chance))


def _reconcilers(chance: Random, names: _Names, phase: int) -> Round:
    """A reconciler alone, or with one of the same day beside it, which lives."""
    first = _reconciler(chance, phase, dies=True)
    rival = (replace(first, death=None),) if chance.random() < 0.25 else ()
    return Round((first, *rival), _asking_fault(chance))


def _race(chance: Random, names: _Names, phase: int) -> Round:
    """Two clients, a worker and a reconciler, at times two, at the same intents; some of them die."""
    intents = tuple(names.any(chance) for _ in range(chance.choice((1, 1, 2))))
    actors = []
    for _ in range(2):
        death = _client_death(chance, len(intents)) if chance.random() < 0.7 else None
        actors.append(Actor("client", intents, death=death))
    actors.append(Actor("worker", death=_worker_death(chance) if chance.random() < 0.7 else None))
    for dies in chance.choice(((True,), (False,), (True, False), (False, False))):
        actors.append(_reconciler(chance, phase, dies=dies))
    return Round(tuple(actors), _asking_fault(chance))


def _fresh(chance: Random, names: _Names, phase: int) -> Round:
    """A process of `paycli`, ended by the provider when a request of it arrives, or at a random moment."""
    kind = chance.choice(("client", "client", "worker", "reconciler"))
    arrived = Death(ARRIVED, nth=chance.choice((1, 2, 2, 3)))
    death = arrived if chance.random() < 0.6 else Death(MOMENT, share=chance.uniform(0.3, 1.0))
    intents = (names.new(chance),) if kind == "client" else ()
    days_ago = (0,) if kind == "reconciler" else ()
    return Round((Actor(kind, intents, days_ago, fresh=True, death=death),))


def _reconciler(chance: Random, phase: int, *, dies: bool) -> Actor:
    """Of today, or of the day of the phase before, which is over and has more to list."""
    days = [round((HOURS[phase] - hours) / 24) for hours in HOURS[: phase + 1]]
    day = chance.choice(days[-2:])
    return Actor("reconciler", days_ago=(day,), death=_reconciler_death(chance, over=day > 0) if dies else None)


def _client_death(chance: Random, intents: int = 1) -> Death:
    kind = chance.random()
    if kind < 0.65:
        again = chance.random() < 0.15  # a second send of one intent, should the first meet a fault
        return Death(chance.choice((*CLAIMING, *SENDING)), nth=chance.randint(1, intents) + again)
    if kind < 0.75:
        return Death(chance.choice(COMMITS), nth=chance.randint(1, 3 * intents))
    return Death(MOMENT, share=chance.random())


def _worker_death(chance: Random) -> Death:
    kind = chance.random()
    if kind < 0.5:
        return Death(chance.choice(SENDING), nth=chance.choice((1, 1, 2)))
    if kind < 0.65:
        return Death(chance.choice(COMMITS), nth=chance.randint(1, 6))
    if kind < 0.8:
        return Death(chance.choice(REQUESTS), nth=chance.randint(1, 6))
    return Death(MOMENT, share=chance.random())


def _reconciler_death(chance: Random, *, over: bool) -> Death:
    """A run has a dozen commits and half as many requests, of a day that is over several times that."""
    kind = chance.random()
    commits, requests = (30, 15) if over else (12, 5)
    if kind < 0.45:
        return Death(chance.choice(COMMITS), nth=1 + int(commits * chance.random() ** 1.5))
    if kind < 0.75:
        return Death(chance.choice(REQUESTS), nth=1 + int(requests * chance.random() ** 1.5))
    return Death(MOMENT, share=chance.random())


def _asking_fault(chance: Random) -> tuple[str, int] | None:
    """A few are asked again within the call; eight in a row end it."""
    return (chance.choice(ASKING_FAULTS), chance.choice((1, 2, 8))) if chance.random() < 0.15 else None
