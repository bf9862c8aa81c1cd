"""The sandbox's own clock and what is due on it: late executions, roll-forwards, bank debits that settle.

Nobody waits here: due work runs when the clock is looked at.
"""

import heapq
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager


class Agenda:
    """Work for later, run in order of time. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()

    def at(self, due: float, work: Callable[[float], None]) -> None:
        """`work` is called with `due`, its own time, however late the clock is looked at."""
        heapq.heappush(self._entries, (due, next(self._order), work))

    def run(self, now: float) -> None:
        while self._entries and self._entries[0][0] <= now:
            due, _, work = heapq.heappop(self._entries)
            work(due)


class SandboxClock:
    """The provider's time: the given time plus an offset that only `advance` moves."""

    def __init__(self, time: Callable[[], float], agenda: Agenda, lock: AbstractContextManager[object]) -> None:
        self._time = time
        self._agenda = agenda
        self._lock = lock
        self._offset_s = 0.0

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return self._time() + self._offset_s

    def advance(self, seconds: float) -> None:
        """Moves the clock and runs what became due, each at its own time. Negative seconds set it back."""
        with self._lock:
            self._offset_s += seconds
            self._agenda.run(self.now())
