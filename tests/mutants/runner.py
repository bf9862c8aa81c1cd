"""Runs the simulator's schedules on mutants: one child process for each, as many at once as there are cores.

A mutant is killed by the first seed whose schedule does not hold, or by the very test that is named for it.
This process never imports the code under test.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType

from tests.mutants import seen
from tests.mutants.mutant import ROOT, Mutant, mutate

LIBRARIES = ("httpx", "msgspec", "sqlmodel", "sqlalchemy.dialects.sqlite")  # what every child would import anew
SCHEDULE_CPU_S_MAX = 20.0  # a schedule takes some milliseconds: this one goes round for ever
COLLECT_EVERY = 250
TEST_S_MAX = 180.0  # most of it is a PostgreSQL that is made and started
UNSOUND = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError", "SyntaxError")
"""What a mistake in the mutant itself raises: that kills nothing."""


@dataclass
class Verdict:
    """What became of a mutant: how many seeds were tried, and which of them showed it, by check."""

    mutant: Mutant
    seeds: int = 0
    seed: int | None = None  # the first that showed it
    shown: Counter[str] = field(default_factory=Counter)
    why: str = ""
    cpu_s: float = 0.0

    @property
    def killed(self) -> bool:
        """Some check has seen the mistake."""
        return bool(self.shown) and not self.unsound

    @property
    def unsound(self) -> bool:
        """The mutant itself is mistaken."""
        return any(check in UNSOUND for check in self.shown)

    @property
    def by(self) -> str:
        """The check that saw it first."""
        return next(iter(self.shown), "")


def kill(mutant: Mutant) -> Verdict:
    """What is named for this mistake, or seeds until one shows it: first the one at which it was seen last."""
    if not mutant.sought:
        return show(mutant)
    last = seen.read().get(mutant.name)
    return _tried(mutant, [*([] if last is None else [last]), *range(mutant.seeds_max)], until_shown=True)


def search(mutant: Mutant) -> Verdict:
    """The same from the first seed on, wherever it was seen."""
    if not mutant.sought:
        return show(mutant)
    return _tried(mutant, range(mutant.seeds_max), until_shown=True)


def count(mutant: Mutant, seeds: int) -> Verdict:
    """How many of so many seeds show the mistake."""
    return _tried(mutant, range(seeds), until_shown=False)


def show(mutant: Mutant) -> Verdict:
    """The schedule or the test that is there because of this very mistake."""
    if mutant.test is not None:
        return _tested(mutant, mutant.test)
    mutate(mutant)
    world = importlib.import_module("tests.sim.world")
    kept = importlib.import_module("tests.sim.kept").KEPT
    campaign = importlib.import_module("tests.sim.campaign")
    (decisions,) = (decisions for name, decisions in kept.items() if name.startswith(str(mutant.kept)))
    verdict = Verdict(mutant, seeds=1)
    try:
        world.again(decisions, importlib.import_module("tests.sim.memory").Memory())
    except Exception as error:
        check, verdict.why = campaign.described(error)
        verdict.shown[check] += 1
    return verdict


def _tested(mutant: Mutant, test: str) -> Verdict:
    """The test in a process of its own: it starts a database, and ends it when it ends."""
    command = [sys.executable, "-m", "tests.mutants.under_test", mutant.name]
    verdict, begun = Verdict(mutant), time.monotonic()
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TEST_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        verdict.shown["TimeoutError"] += 1
        return verdict
    finally:
        verdict.cpu_s = time.monotonic() - begun
    failed = re.search(rf"^FAILED {re.escape(test)}(?: - (.*))?$", ended.stdout, re.MULTILINE)
    if failed is not None:
        verdict.why = failed[1] or test
        verdict.shown[test.rpartition("/")[2].replace(".py", "")] += 1
    elif ended.returncode != 0:
        raise RuntimeError(f"{test} could not be run:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return verdict


def _tried(mutant: Mutant, seeds: Sequence[int], *, until_shown: bool) -> Verdict:
    mutate(mutant)
    campaign = importlib.import_module("tests.sim.campaign")
    store = importlib.import_module("tests.sim.memory").Memory()
    signal.signal(signal.SIGPROF, _too_long)
    gc.disable()  # as in a campaign: flows and tracebacks are the only cycles
    verdict, begun = Verdict(mutant), time.process_time()
    for seed in seeds:
        signal.setitimer(signal.ITIMER_PROF, SCHEDULE_CPU_S_MAX)
        _, failure = campaign.try_one(seed, store)
        signal.setitimer(signal.ITIMER_PROF, 0)
        verdict.seeds += 1
        if failure is not None:
            verdict.shown[failure.check] += 1
            verdict.why = verdict.why or f"seed {seed}: {failure.why}"
            verdict.seed = seed if verdict.seed is None else verdict.seed
            if until_shown:
                break
        if verdict.seeds % COLLECT_EVERY == 0:
            gc.collect()
    verdict.cpu_s = time.process_time() - begun
    return verdict


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"a schedule takes more than {SCHEDULE_CPU_S_MAX:.0f} s of processor")


def on_all_cores(mutants: Iterable[Mutant], judge: Callable[[Mutant], Verdict] = kill) -> Iterator[Verdict]:
    """The verdict on each mutant as it comes; those are begun first that may take longest."""
    for library in LIBRARIES:
        importlib.import_module(library)
    context = multiprocessing.get_context("fork")
    hints = seen.read()
    waiting = sorted(
        mutants,
        key=lambda one: (one.sought and one.name not in hints, one.test is not None, one.seeds_max),
        reverse=True,
    )
    running: dict[Connection, tuple[ForkProcess, Mutant]] = {}
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            mutant = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(target=_in_child, args=(mutant, judge, theirs), name=mutant.name)
            child.start()
            theirs.close()
            running[ours] = (child, mutant)
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            child, mutant = running.pop(pipe)
            try:
                verdict = pipe.recv()
            except EOFError:
                raise RuntimeError(f"{mutant.name}: its process has died") from None
            finally:
                child.join()
            if isinstance(verdict, Exception):
                raise verdict
            yield verdict


def _in_child(mutant: Mutant, judge: Callable[[Mutant], Verdict], pipe: Connection) -> None:
    try:
        pipe.send(judge(mutant))
    except Exception as error:
        pipe.send(RuntimeError(f"{mutant.name}: {type(error).__name__}: {error}"))
