"""Time, sleep and chance: the only file of the library that asks the machine for them.

`ProviderTime` corrects our clock by the `Date` of the provider's answers, because key lives are counted over there.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from gateway_client.errors import ClockRefused

OFFSET_MAX = timedelta(minutes=5)  # more than this is a wrong clock, not a slow network
DRIFT_S_MAX = 60.0  # a clock that was set since the last answer makes its correction worthless
OLD_ANSWER = timedelta(minutes=1)  # servers of one provider, each in whole seconds, differ by less
SILENCE_S_MAX = 3600.0  # a correction older than an hour is no correction


class Clock(Protocol):
    """What the drivers need; tests and the simulator bring their own."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def jitter(self) -> float:
        """A number from 0 to 1 that spreads waits."""
        ...

    def sleep(self, seconds: float) -> None: ...
    async def sleep_async(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def jitter(self) -> float:
        return random.random()  # noqa: S311 - spreads waits, protects nothing

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Stopwatch:
    """Seconds since it was made, by whichever clock says more: a paused machine stops one of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._monotonic = clock.time(), clock.monotonic()

    def drift_s(self) -> float:
        """How far the two clocks have run apart: one of them was set, or the machine slept."""
        return abs((self._clock.time() - self._wall) - (self._clock.monotonic() - self._monotonic))

    def elapsed_s(self) -> float:
        """A clock set back counts as long ago too: nobody knows how long."""
        return max(abs(self._clock.time() - self._wall), self._clock.monotonic() - self._monotonic)


class ProviderTime:
    """The provider's time, as far as this process knows it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = timedelta(0)
        self._learned: Stopwatch | None = None

    def learn(self, date: datetime, transit: timedelta) -> None:
        """Correct our clock by the Date of an answer that came within `transit` of its request.

        Date is in whole seconds and as old as the answer's way here. Within that doubt the offset stays as it was, so
        that two good clocks agree and our times do not jump back by a second with each answer. A Date before the time
        that we know already is of an old answer, and teaches nothing; unless our clock was set, which explains it.
        """
        least = date - self._local()
        most = least + timedelta(seconds=1) + transit
        if self.fresh and most < self._offset - OLD_ANSWER:
            self._learned = None  # whose time is right is not known any more: the next answer tells
            return
        self._offset = min(max(self._offset, least), most)
        self._learned = Stopwatch(self._clock)

    def now(self) -> datetime:
        """The provider's time; our own while no answer has told us better."""
        return self._local() + self._offset

    @property
    def fresh(self) -> bool:
        """True when an answer was dated within the last hour, and no clock was set since."""
        learned = self._learned
        return learned is not None and learned.elapsed_s() < SILENCE_S_MAX and learned.drift_s() < DRIFT_S_MAX

    @property
    def trusted(self) -> bool:
        """True when a send may rely on `now`."""
        return self.fresh and abs(self._offset) <= OFFSET_MAX

    def check(self) -> None:
        """Raise ClockRefused when sending would be guessing: no recent Date, or one far from our clock."""
        if not self.fresh:
            raise ClockRefused(
                "the provider's time is not known: its answers carry no Date, or this machine slept or its clock was "
                "set since the last one. Nothing more was sent; trying again is safe"
            )
        if not self.trusted:
            way = "behind" if self._offset > timedelta(0) else "ahead of"
            raise ClockRefused(
                f"this machine's clock is {abs(self._offset).total_seconds():.0f} s {way} the provider's: "
                "nothing is sent until it is set right"
            )

    def _local(self) -> datetime:
        return datetime.fromtimestamp(self._clock.time(), UTC)
