"""Cases by the thousand: on all cores, in chunks of seeds, until enough answers were drawn."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.answers.case import Case
from tests.answers.judge import Broken
from tests.sim.memory import Memory

CHUNK = 200


@dataclass(frozen=True)
class Failure:
    """A case in which something does not hold."""

    seed: int
    check: str
    why: str


@dataclass
class Tally:
    """What a number of cases came to."""

    first: int = 0
    cases: int = 0
    answers: int = 0
    sends: int = 0
    at_rest: int = 0  # answers after all was well again: not counted among the answers
    cpu_s: float = 0.0
    attempts: Counter[int] = field(default_factory=Counter)
    finals: Counter[str] = field(default_factory=Counter)
    residuals: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take over another part."""
        for name in ("cases", "answers", "sends", "at_rest", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("attempts", "finals", "residuals", "seen"):
            getattr(self, name).update(getattr(other, name))
        self.failures += other.failures


def try_one(seed: int, store: Memory, *, verbose: bool = False) -> tuple[Case, Failure | None]:
    """The case of a seed as it ended, and why it did not hold, if so."""
    case = Case(seed, store, verbose=verbose)
    try:
        case.run()
    except Exception as error:
        return case, Failure(seed, *_described(error))
    return case, None


def _described(error: Exception) -> tuple[str, str]:
    if isinstance(error, Broken):
        return error.check, error.why
    where = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, f"{error} ({Path(where.filename).name}:{where.lineno})"


def run(first: int, answers: int, *, processes: int | None = None, failures_max: int = 5) -> Iterator[Tally]:
    """Run cases from a seed on until so many answers were drawn; what they came to, growing.

    Chunks count in the order of their seeds, so that the same figures come from any number of processes.
    """
    total = Tally(first)
    processes = processes or os.cpu_count() or 1
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        under_way = [pool.apply_async(_chunk, (first + CHUNK * number,)) for number in range(processes + 1)]
        for number in count(processes + 1):
            total.add(under_way.pop(0).get())
            yield total
            if total.answers >= answers or len(total.failures) >= failures_max:
                pool.terminate()
                return
            under_way.append(pool.apply_async(_chunk, (first + CHUNK * number,)))


def _chunk(first: int) -> Tally:
    gc.disable()  # flows and tracebacks are the only cycles: collected once a chunk
    begun = time.process_time()
    tally, store = Tally(), Memory()
    for seed in range(first, first + CHUNK):
        case, failure = try_one(seed, store)
        tally.add(of(case))
        if failure is not None:
            tally.failures.append(failure)
    gc.enable()
    gc.collect()
    tally.cpu_s = time.process_time() - begun
    return tally


def of(case: Case) -> Tally:
    """One case in figures."""
    network, judge = case.network, case.judge
    finals = Counter(str(state) for state, _ in judge.finals.values())
    return Tally(
        cases=1,
        answers=network.answers,
        sends=network.sends,
        at_rest=network.at_rest,
        attempts=Counter([max(case.made, default=0)]),
        finals=finals,
        residuals=judge.residuals,
        seen=network.seen,
    )
