"""A campaign: many schedules on all cores, what they saw, and of a failing one its shortest form.

Every N-th schedule runs a second time on a real file, and its trace must be the same.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.sim import world
from tests.sim.decisions import Dice
from tests.sim.memory import Memory
from tests.sim.on_disk import OnDisk, Store
from tests.sim.safety import Broken
from tests.sim.shrink import Taken, shrink
from tests.sim.weather import draw

CHUNK = 250
ON_DISK_EVERY = 1000


@dataclass(frozen=True)
class Failure:
    """A schedule in which something does not hold."""

    seed: int
    check: str
    why: str
    taken: Taken


@dataclass
class Tally:
    """What a number of schedules came to."""

    schedules: int = 0
    on_disk: int = 0
    sends: int = 0
    charges: int = 0
    restored: int = 0
    doubled_after_restore: int = 0
    cpu_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)  # situation → schedules that reached it
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take over another part."""
        for name in ("schedules", "on_disk", "sends", "charges", "restored", "doubled_after_restore", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seen.update(other.seen)
        self.failures += other.failures


def try_one(seed: int, store: Store) -> tuple[world.World | None, Failure | None]:
    """The schedule of a seed as it ended, or why it did not hold."""
    decisions = world.decisions_of(seed)
    try:
        return world.run(decisions, draw(Dice(seed)), store), None
    except Exception as error:
        check, why = described(error)
        return None, Failure(seed, check, why, dict(decisions.taken))


def described(error: Exception) -> tuple[str, str]:
    """The check that does not hold; a bug that raises something else is named by what it raises and where."""
    if isinstance(error, Broken):
        return error.check, error.why
    where = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, f"{error} ({Path(where.filename).name}:{where.lineno})"


def fails_as(check: str, store: Store, taken: Taken) -> bool:
    """Whether written decisions fail in the same way."""
    try:
        world.again(taken, store)
    except Exception as error:
        return described(error)[0] == check
    return False


def shortest(failure: Failure) -> Taken:
    """A failing schedule without everything that it does not need."""
    store = Memory()
    if not fails_as(failure.check, store, failure.taken):
        return failure.taken
    return shrink(failure.taken, lambda taken: fails_as(failure.check, store, taken))


def run(first: int, count: int, *, processes: int | None = None, failures_max: int = 5) -> Iterator[Tally]:
    """Run so many schedules from a seed on; what they came to, growing."""
    chunks = [(start, min(CHUNK, first + count - start)) for start in range(first, first + count, CHUNK)]
    total = Tally()
    with multiprocessing.get_context("fork").Pool(processes or os.cpu_count()) as pool:
        for tally in pool.imap_unordered(_chunk, chunks):
            total.add(tally)
            yield total
            if len(total.failures) >= failures_max:
                pool.terminate()
                return


def _chunk(chunk: tuple[int, int]) -> Tally:
    first, count = chunk
    gc.disable()  # flows and tracebacks are the only cycles: collected once a chunk
    begun = time.process_time()
    tally, store = Tally(), Memory()
    for seed in range(first, first + count):
        ended, failure = try_one(seed, store)
        tally.schedules += 1
        if failure is not None:
            tally.failures.append(failure)
            continue
        assert ended is not None
        ghost = ended.ghost
        tally.sends += len(ghost.sends)
        tally.charges += sum(1 for _ in ended.provider.charges())
        tally.restored += ghost.restored_at is not None
        tally.doubled_after_restore += ghost.doubled_after_restore
        tally.seen.update(name for name, times in ghost.seen.items() if times)
        if seed % ON_DISK_EVERY == 0:
            tally.on_disk += 1
            other = _on_disk(seed)
            if other != ended.digest:
                tally.failures.append(Failure(seed, "S25", f"{ended.digest} in memory, {other} on disk", {}))
    gc.enable()
    gc.collect()
    tally.cpu_s = time.process_time() - begun
    return tally


def _on_disk(seed: int) -> str:
    """The trace of a schedule on a real file."""
    with tempfile.TemporaryDirectory(prefix="charge-once-sim-") as folder:
        store = OnDisk(Path(folder))
        try:
            ended, failure = try_one(seed, store)
        finally:
            store.end()
    return ended.digest if ended is not None else str(failure)


def digests(first: int, count: int) -> list[str]:
    """The traces of so many schedules, for another interpreter to compare."""
    store = Memory()
    found = []
    for seed in range(first, first + count):
        ended, failure = try_one(seed, store)
        found.append(ended.digest if ended is not None else str(failure))
    return found
