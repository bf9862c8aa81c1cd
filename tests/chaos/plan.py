"""What is drawn from the seed: how often the provider fails, what each intent is, and one blow after the other. Pure.

The same seed draws the same plan. When a blow meets what is real time, so no two campaigns are quite the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from gateway_client import Money, PaymentIntent

FAULTS_DRAWN = (
    *("refused", "lost_request", "lost_reply", "error_500", "error_500_charged", "error_500_later"),
    *("unavailable_503", "in_use_409", "rate_limited_429", "slow", "cut_body", "html_body", "duplicate", "late"),
    *("wrong_amount", "redirect_302"),
)
"""Those of the sandbox's faults that leave nothing for a person but a wrong amount: none that stops a worker, and no
answer of another request."""

WORKERS, CALLERS = 4, 3
RATES_TOGETHER = (0.25, 0.55)
STOPPED_S = (1.0, 40.0)  # a lease is 24 s long here

LULL = (
    *("kill worker",) * 2,
    "stop worker",
    *("kill caller",) * 2,
    "reconcile",
    "terminate",  # an operator ends every session
)
"""What happens while PostgreSQL stays up, so that workers, who wait for seconds when it is away, are at work."""

BURST = (*("postmaster", "server", "backend") * 2, "immediate")
"""Then PostgreSQL goes down again and again: its first process is killed; all of them; one that serves us, after which
it recovers as after a crash (F96); or it is told to end at once."""

BURST_GAP_S = 0.3
DECK = (*LULL, *BURST)


@dataclass(frozen=True)
class Blow:
    """One thing that happens, after a while, to one of those that there are."""

    kind: str
    after_s: float
    whom: int
    for_s: float


def rates(seed: int) -> dict[str, float]:
    """How often each of these faults of the provider happens; every one does."""
    chance = Random(f"{seed}/rates")
    shares = {fault: chance.uniform(0.5, 1.5) for fault in FAULTS_DRAWN}
    scale = chance.uniform(*RATES_TOGETHER) / sum(shares.values())
    return {fault: round(share * scale, 4) for fault, share in shares.items()}


def blows(seed: int, gap_s: float) -> Iterator[Blow]:
    """One after the other, without end; `gap_s` is how long it takes from one to the next in a lull, about."""
    chance = Random(f"{seed}/blows")
    while True:
        for kinds, gap in ((LULL, gap_s), (BURST, BURST_GAP_S)):
            for kind in chance.sample(kinds, len(kinds)):
                yield Blow(kind, chance.uniform(0, 2 * gap), chance.randrange(1000), chance.uniform(*STOPPED_S))


def intent(intent_id: str, attempt: int = 1) -> PaymentIntent:
    """What an id stands for, so that whoever judges knows it, too: each has an amount of its own."""
    drawn = Random(intent_id)
    amount, declined = drawn.randrange(100, 1_000_000), drawn.random() < 0.15
    card = "pm_card_chargeDeclined" if declined and attempt == 1 else "pm_card_visa"
    return PaymentIntent(intent_id, Money(amount, "usd"), card)
