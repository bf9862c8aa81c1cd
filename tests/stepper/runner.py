"""Runs of many cases: in two processes, each with a database of its own; and planted mistakes, until they are found."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from sqlalchemy import make_url

from tests import postgres
from tests.stepper import ground
from tests.stepper.bench import Bench, Report
from tests.stepper.cases import SCENES, Case, other_triples, pairs, pairs_without_leases, triples
from tests.stepper.plants import Plant

CASES_AT_ONCE = 30  # in one task of a process

KINDS = {
    "pairs": (pairs, True),
    "pairs, impatient": (pairs, False),
    "pairs, leases off": (pairs_without_leases, True),
    "triples": (triples, True),
}
"""What is played, and whether a transaction waits for a lock, or is done again, alone, where one is in its way."""
IMPATIENT = ("sending", "declined", "conflict", "key over", "two intents", "two sends")

Task = tuple[str, tuple[Case, ...]]
_benches: dict[int, Bench] = {}


def tasks(scenes: Sequence[str], kinds: Iterable[str]) -> Iterator[Task]:
    """All cases of some kinds, by the dozen."""
    for kind in kinds:
        make, patient = KINDS[kind]
        for scene in scenes:
            if patient or scene in IMPATIENT:
                yield from _by_the_dozen(kind, tuple(make(scene)))


def some(count: int, seed: int) -> Iterator[Task]:
    """As many cases by chance, as many of each kind, and of all other triples as well."""
    chance = random.Random(seed)
    each = max(1, count // (len(KINDS) + 1))
    for kind in KINDS:
        cases = [case for _, cases in tasks(SCENES, [kind]) for case in cases]
        yield from _by_the_dozen(kind, tuple(chance.sample(cases, min(each, len(cases)))))
    yield from _by_the_dozen("triples", tuple(other_triples(SCENES, each, seed)))


def _by_the_dozen(kind: str, cases: tuple[Case, ...]) -> Iterator[Task]:
    for at in range(0, len(cases), CASES_AT_ONCE):
        yield kind, cases[at : at + CASES_AT_ONCE]


def played(asked: Sequence[Task]) -> Iterator[tuple[Task, list[Report]]]:
    """Two processes, each with a database of its own on one server."""
    count = min(2, os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    urls = context.SimpleQueue()
    for _ in range(count):
        urls.put(postgres.shown(ground.made()))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_open, initargs=(urls,)) as pool:
        waiting = {pool.submit(_play, *task): task for task in asked}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _open(urls: Any) -> None:
    _benches[0] = Bench(make_url(urls.get()))


def _play(kind: str, cases: Sequence[Case]) -> list[Report]:
    return [_benches[0].run(case, patient=KINDS[kind][1]) for case in cases]


def search(bench: Bench, plant: Plant) -> Report | None:
    """The first case that shows a mistake."""
    for case in pairs(plant.scene):
        if plant.act in case.acts:
            report = bench.run(case, plant=plant)
            if report.wrong:
                return report
    return None
