"""Keep a number of calls in flight for some seconds, by threads or by tasks, and note how long each took.

A call that raises has failed: it is counted by what it said, and its time is not among the times of charges.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.arithmetic import percentile
from benchmarks.usage import cpu_s

TOLD_MAX = 200
Call = Callable[[str], None]
AsyncCall = Callable[[str], Awaitable[None]]


class NotCharged(Exception):
    """Say that a call came back without a charge that succeeded."""


@dataclass(slots=True)
class Driven:
    """Hold what one burst of calls came to: times in seconds, from the first call to the last answer."""

    in_flight: int
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return the figures of this burst."""
        done = len(self.latencies_s)
        return {
            "in_flight": self.in_flight,
            "done": done,
            "elapsed_s": self.elapsed_s,
            "per_s": done / self.elapsed_s if self.elapsed_s else 0.0,
            "cpu_ms": 1000 * self.cpu_s / done if done else None,
            "p50_ms": _ms(percentile(self.latencies_s, 0.50)),
            "p99_ms": _ms(percentile(self.latencies_s, 0.99)),
            "failed": dict(self.failed),
        }


def drive(
    call: Call, names: Iterator[str], in_flight: int, *, seconds: float | None = None, calls: int | None = None
) -> Driven:
    """Call from so many threads at once, each with names of its own; for some seconds, or so many calls in all."""
    driven, turns = Driven(in_flight), _Turns(names, seconds, calls)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:  # a generator is not to be entered by two threads
                name = next(turns, None)
            if name is None:
                return
            begun = time.perf_counter()
            try:
                call(name)
            except Exception as error:
                driven.failed[told(error)] += 1
            else:
                driven.latencies_s.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(in_flight)]
    begun, used = time.perf_counter(), cpu_s()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    driven.elapsed_s, driven.cpu_s = time.perf_counter() - begun, cpu_s() - used
    return driven


async def drive_async(
    call: AsyncCall, names: Iterator[str], in_flight: int, *, seconds: float | None = None, calls: int | None = None
) -> Driven:
    """Call from so many tasks at once, as `drive` does from threads."""
    driven, turns = Driven(in_flight), _Turns(names, seconds, calls)

    async def work() -> None:
        for name in turns:
            begun = time.perf_counter()
            try:
                await call(name)
            except Exception as error:
                driven.failed[told(error)] += 1
            else:
                driven.latencies_s.append(time.perf_counter() - begun)

    begun, used = time.perf_counter(), cpu_s()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    driven.elapsed_s, driven.cpu_s = time.perf_counter() - begun, cpu_s() - used
    return driven


class _Turns:
    """Yield names until the time is over or all calls are given out; tasks may share it, for it never waits."""

    def __init__(self, names: Iterator[str], seconds: float | None, calls: int | None) -> None:
        self._names, self._left = names, calls
        self._until = None if seconds is None else time.perf_counter() + seconds

    def __iter__(self) -> _Turns:
        return self

    def __next__(self) -> str:
        if self._until is not None and time.perf_counter() >= self._until:
            raise StopIteration
        if self._left is not None:
            if self._left == 0:
                raise StopIteration
            self._left -= 1
        return next(self._names)


def names_of(prefix: str) -> Iterator[str]:
    """Yield new names of intents, without end."""
    return (f"{prefix}_{number}" for number in itertools.count())


def told(error: BaseException) -> str:
    """Return what an error says, short, and without paths and numbers: they differ from call to call."""
    words = str(error).splitlines()[0] if str(error) else ""
    plain = re.sub(r"[0-9]+", "#", re.sub(r"(?:/[\w.-]+){2,}", "<path>", words))
    return f"{type(error).__name__}: {plain}"[:TOLD_MAX]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
