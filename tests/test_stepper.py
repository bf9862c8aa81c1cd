"""The stepper, in the small: it plays every effect, holds, and sees a mistake. `make stepper` is the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway_client.store.registry import PERFORMERS
from reconcile.effects import OpenedRun, Part, RunLease
from reconcile.window import window_of
from tests.stepper import ground
from tests.stepper.acts import ACTS, UNTOUCHED
from tests.stepper.bench import Bench
from tests.stepper.cases import Case, listed
from tests.stepper.doing import BINDING, DAY_S, Hand, Prepared, Stage, Together
from tests.stepper.plants import PLANTS, Plant
from tests.stepper.runner import search

CASES = [
    Case("nothing", ("claim and send", "A: import")),
    Case("nothing", ("open run", "open run, other")),
    Case("prepared", ("begin", "A: flag")),
    Case("prepared", ("begin, leased", "lease, other")),
    Case("prepared", ("begin, leased", "lease, other"), leases=False),
    Case("closed", ("note quiet", "prove absent", "A: repair: paid")),
    Case("declined", ("claim 2 and send", "A: import 3")),
    Case("two sends", ("group: settle", "group: begin, turned")),
    Case("run over", ("open run", "A: save page"), leases=False),
]
SEEN = [plant for plant in PLANTS if "begins a transaction" in plant.name or "revision" in plant.name]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(ground.made()) as made:
        yield made


def test_every_effect_is_played() -> None:
    """Each effect of both stores is one that the stepper plays in some scene, or is named with why it is not."""
    now = datetime.now(UTC)
    window = window_of(now.date() - timedelta(days=1), "UTC", now)
    night = OpenedRun("run_1", RunLease("call", 1.0), BINDING, window, now, (Part(0, 0, window.start, window.end),))
    stage = Stage(now, {}, (night, night), window, DAY_S)
    played: set[type] = set()
    for name in listed():
        made = ACTS[name](stage)
        played.update(map(type, made.effects if isinstance(made, Together) else (made,)))
    assert played - {Hand, Prepared} == set(PERFORMERS) - set(UNTOUCHED)
    assert set(UNTOUCHED) <= set(PERFORMERS)
    assert set(ACTS) == listed()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_order_holds(bench: Bench, case: Case) -> None:
    """In every order of their statements some functions come to what one after the other comes to, and none is lost."""
    report = bench.run(case)
    assert report.wrong == []
    assert report.orders > 1
    assert report.diverged == 0


@pytest.mark.parametrize("plant", SEEN, ids=lambda plant: plant.name)
def test_a_mistake_is_seen(bench: Bench, plant: Plant) -> None:
    """A statement of the locking that is left out is shown by the steps that need it."""
    report = search(bench, plant)
    assert report is not None
    assert report.told
