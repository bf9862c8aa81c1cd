"""Hold what every section needs: databases, the provider's program, how long to measure, and how to say so."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.modes import Mode
from benchmarks.places import Places
from benchmarks.processes import run_child
from benchmarks.provider import serving

SETTLE_S_MAX = 200.0  # calls that are under way when the time is over, on top of what a child needs to start


@dataclass(frozen=True, slots=True)
class Scale:
    """Say how much is measured. Each section ends its rounds early when its time is over, but not before the first."""

    rounds: int
    burst_s: float  # of calls at one number in flight
    counted: int  # calls whose statements and commits are counted
    crowd_s: float
    crowd_rounds: int
    nights: tuple[int, ...]
    naive_night: int  # a naive reconciler's time for a charge does not depend on their number
    night_s_max: float
    settled: tuple[int, ...]
    backlog_rows: int
    backlog_s: float
    backlog_rounds: int
    startup_rounds: int


NORMAL = Scale(5, 2.0, 40, 6.0, 2, (20_000, 100_000), 10_000, 420.0, (0, 100_000, 1_000_000), 5000, 15.0, 2, 7)
QUICK = Scale(1, 0.5, 20, 1.5, 1, (2000,), 1000, 60.0, (0, 5000), 300, 3.0, 1, 2)
FULL = Scale(5, 2.0, 40, 6.0, 5, (20_000, 100_000, 1_000_000), 100_000, 7200.0, NORMAL.settled, 5000, 60.0, 5, 7)


@dataclass(slots=True)
class Bench:
    """One run of the benchmark."""

    places: Places
    program: Path
    scale: Scale
    delay_ms: int = 0
    say: Callable[[str], None] = print

    def charge(
        self,
        mode: Mode,
        levels: tuple[int, ...],
        database: str | None = None,
        before: Sequence[str] = (),
        **job: Any,
    ) -> dict[str, Any]:
        """Charge by one mode in a process of its own, beside a provider of its own, on a new database or the given one.

        `before` is put in front of the process's command. The result is the child's, with the provider's counters.
        """
        given = database is not None
        place = database if given else self.places.fresh(mode.database)
        try:
            with serving(self.program, delay_ms=self.delay_ms) as provider:
                told = {
                    "task": "charge",
                    "mode": mode.name,
                    "provider": provider.url,
                    "database": place,
                    "levels": levels,
                    "warm": 5,
                    "prefix": secrets.token_hex(4),
                    "seconds": self.scale.burst_s,
                }
                result = run_child(told | job, SETTLE_S_MAX + len(levels) * self.scale.burst_s, before)
                return result | {"provider": provider.counters()}
        finally:
            if not given:
                self.places.drop(place)

    def going(self, count: int, seconds_max: float, of: str) -> Iterator[int]:
        """Yield round after round until there are enough, or the time is over after at least one."""
        begun = time.monotonic()
        for number in range(count):
            if number and time.monotonic() - begun > seconds_max:
                self.say(f"{of}: {number} of {count} rounds, its time is over")
                return
            self.say(f"{of}: round {number + 1} of {count}")
            yield number
