"""How fast a run asks the provider: a rate limit that leaves billing its share of the account's. No I/O.

A token bucket of one second: in any t seconds a run makes at most rate × (t + 1) requests, its tries among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway_client.errors import InvalidInput
from gateway_client.flow.effects import Ask, AskAll, Effect, Flow, MeetProvider, Now, T, Wait
from reconcile.wrapping import wrapped

RATE = 20.0  # requests a second: a fifth of what Stripe takes of an account in live mode
RATES = (0.1, 10_000.0)
WINDOWS = 4  # parts of a list that are read at once
WINDOWS_MAX = 32


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run asks: requests a second, and how many parts of a list it reads at once. Raises InvalidInput."""

    rate: float = RATE
    windows: int = WINDOWS

    def __post_init__(self) -> None:
        number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if not number or not math.isfinite(self.rate) or not RATES[0] <= self.rate <= RATES[1]:
            raise InvalidInput("rate", f"must be a number of requests a second from {RATES[0]:g} to {RATES[1]:g}")
        if type(self.windows) is not int or not 1 <= self.windows <= WINDOWS_MAX:
            raise InvalidInput("windows", f"must be a whole number from 1 to {WINDOWS_MAX}")


PACE = Pace()


def throttled(rate: float, flow: Flow[T]) -> Flow[T]:
    """Do what a flow does, with a wait before each request that would come too early."""
    return wrapped(flow, Bucket(rate).perform)


class Bucket:
    """What is left to ask at once. The clock is looked at when nothing seems to be left, not for each request."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._filled_at: datetime | None = None

    def perform(self, effect: Effect[Any]) -> Flow[Any]:
        """Do an effect once it has the tokens of its requests."""
        match effect:
            case AskAll():
                yield from self._take(len(effect.requests))
            case Ask() | MeetProvider():
                yield from self._take(1)
        return (yield from effect)

    def _take(self, count: int) -> Flow[None]:
        if self._filled_at is None or self._tokens < count:
            yield from self._fill()
        self._tokens -= count
        if self._tokens < 0:
            seconds = -self._tokens / self._rate
            yield from Wait(seconds, seconds)
            yield from self._fill()

    def _fill(self) -> Flow[None]:
        """A clock that was set back fills nothing."""
        now = yield from Now()
        passed_s = 0.0 if self._filled_at is None else max(0.0, (now - self._filled_at).total_seconds())
        self._filled_at = now
        self._tokens = min(max(1.0, self._rate), self._tokens + passed_s * self._rate)
