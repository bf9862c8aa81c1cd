"""A night of twenty thousand charges: exactly what disagrees is found, in flat memory, with work that grows with pages.

Objects, statements and the database's own steps are counted, never seconds or bytes: a slow machine changes nothing.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, event

import reconcile
from gateway_client import Charge, Client, Sandbox, Stripe
from gateway_client.gateways.base import Listing, Page, Reply
from gateway_client.gateways.stripe_api import PAGE_ROWS_MAX
from gateway_client.gateways.stripe_objects import ChargeObject, IntentObject
from gateway_client.proof import Item
from reconcile.match import Pair
from reconcile.reading import PARTS_FOR_EACH
from reconcile.throttle import WINDOWS
from tests.kit import FakeClock
from tests.nightly import codes
from tests.nightly_mass import Mass
from tests.nightly_stage import folder

FEW, MANY = 2_000, 20_000
TIMES = 3  # of each disagreement
OLD = 20_000  # rows of the years before
START = datetime(2026, 11, 20, tzinfo=UTC)
STEPS = 1000  # of the database's virtual machine: it tells after so many
EVERY = 25  # requests between two looks at what the collector knows


class Alive:
    """How many objects of some classes are alive at once, counted as they are made and forgotten."""

    def __init__(self, patch: pytest.MonkeyPatch, *kinds: type[Any]) -> None:
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        for kind in kinds:
            patch.setattr(kind, "__init__", self._made(kind.__name__, kind.__init__))
            patch.setattr(kind, "__del__", self._gone(kind.__name__), raising=False)

    def _made(self, name: str, really: Callable[..., None]) -> Callable[..., None]:
        def made(this: object, *arguments: Any, **named: Any) -> None:
            self.now[name] += 1
            self.peak[name] = max(self.peak[name], self.now[name])
            really(this, *arguments, **named)

        return made

    def _gone(self, name: str) -> Callable[[object], None]:
        def gone(this: object) -> None:
            self.now[name] -= 1

        return gone


@dataclass
class Measured:
    """What one run found, and what it cost."""

    count: int
    windows: int
    planted: tuple[set[tuple[str, str]], set[tuple[str, str]]]
    result: reconcile.RunResult
    asked: list[str]
    peak: Counter[str]
    statements: int = 0
    steps: int = 0
    decoded: set[int] = field(default_factory=set)

    @property
    def pages(self) -> int:
        """Of the two lists, for the window and for the look-up that reads back to the absent charges."""
        listed = self.count + 9 * TIMES
        return 2 * ceil(listed / PAGE_ROWS_MAX) + 2 * ceil((listed + TIMES) / PAGE_ROWS_MAX)


def measure(where: Path, count: int, old: int = 0, *, turned: bool = False, windows: int = WINDOWS) -> Measured:
    """Reconcile a day of so many charges, in a store with rows of the years before, and count."""
    clock = FakeClock(START + timedelta(hours=26))
    sandbox = Sandbox(time=clock.true_time)
    mass = Mass(sandbox, where / f"{count}-{old}.db", START, turned=turned)
    mass.agree(count)
    mass.we_have([(f"old_{number:06}", START - timedelta(days=30, seconds=number)) for number in range(old)])
    planted = mass.disagree(TIMES)
    engine = create_engine(f"sqlite:///{mass.path}")
    statements, steps, decoded = [0], [0], set[int]()

    def step() -> int:
        steps[0] += 1
        return 0

    def executing(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements[0] += not statement.startswith(("PRAGMA", "BEGIN"))

    event.listen(engine, "connect", lambda connection, record: connection.set_progress_handler(step, STEPS))
    event.listen(engine, "before_cursor_execute", executing)
    inside = sandbox.transport()

    def answer(request: httpx.Request) -> httpx.Response:
        if len(sandbox.requests) % EVERY == 0:
            decoded.add(sum(isinstance(one, IntentObject | ChargeObject) for one in gc.get_objects()))
        return inside.handle_request(request)

    gc.collect()
    gc.freeze()  # the ledgers: looking at them each time would take minutes
    try:
        with pytest.MonkeyPatch.context() as patch:
            alive = Alive(patch, Item, Charge, Page, Listing, Pair, Reply)
            door = httpx.MockTransport(answer)
            with Client(Stripe(sandbox.api_key), database=engine, transport=door, clock=clock) as client:
                result = reconcile.run(client, START.date(), windows=windows)
    finally:
        gc.unfreeze()
    engine.dispose()
    asked = [f"{sent.method} {sent.path}" for sent in sandbox.requests]
    return Measured(count, windows, planted, result, asked, alive.peak, statements[0], steps[0], decoded)


@pytest.fixture
def where() -> Iterator[Path]:
    with folder() as made:
        yield made


@pytest.mark.parametrize("windows", [1, WINDOWS])
def test_twenty_thousand(where: Path, windows: int) -> None:
    """Of twenty thousand charges the few that disagree are found, at ten times the cost of two thousand (S14, L2)."""
    few, many = measure(where, FEW, windows=windows), measure(where, MANY, windows=windows)
    exactly_what_was_planted(many)
    each_page_is_asked_for_once(many)
    memory_is_flat(few, many)
    statements_grow_with_pages(few, many)
    # No page reads all the others again: that would be a hundred times the work.
    assert many.steps <= 13 * few.steps


def exactly_what_was_planted(many: Measured) -> None:
    repaired, flagged = many.planted
    assert (many.result.complete, codes(many.result)) == (True, repaired | flagged)
    assert len(many.result.findings) == len(repaired) + len(flagged)
    assert (many.result.repaired, many.result.flagged) == (len(repaired), len(flagged))
    figures = (many.result.provider_charges, many.result.matched, many.result.foreign)
    assert figures == (MANY + 9 * TIMES, MANY + TIMES, TIMES)  # of what is there twice, one is as it should be


def each_page_is_asked_for_once(many: Measured) -> None:
    """Besides the few that no page has shown, and the first ones of a list that is cut; nothing is ever sent."""
    by_id = Counter(one.rpartition("/")[0] for one in many.asked if one.count("/") > 2)
    assert by_id == {"GET /v1/payment_intents": TIMES, "GET /v1/charges": 2 * TIMES}
    times = 3  # the provider's: at the beginning, before anything is closed, and before the look-up
    assert many.asked.count("GET /v1/account") == times
    parts = WINDOWS * PARTS_FOR_EACH
    most = 0 if many.windows == 1 else 2 * (many.windows + parts)  # read once more, and the ends of parts
    assert 0 <= len(many.asked) - (times + many.pages + 3 * TIMES) <= most
    assert {one.split()[0] for one in many.asked} == {"GET"}


def memory_is_flat(few: Measured, many: Measured) -> None:
    """As many objects are alive at the busiest moment of a short night as of one ten times as long."""
    assert many.peak == few.peak
    pages = 2 * many.windows  # of a round, beside those of the round before
    most = {"Page": 2, "Listing": pages, "Reply": pages, "Pair": 10 * TIMES, "Charge": 20 * TIMES, "Item": 200}
    assert {kind: many.peak[kind] for kind in most if many.peak[kind] > most[kind]} == {}
    assert max(many.decoded) <= PAGE_ROWS_MAX * pages


def statements_grow_with_pages(few: Measured, many: Measured) -> None:
    """A page of the provider costs a few statements, however many charges it holds; several at once as many as one."""
    assert 0 < many.statements - few.statements <= 8 * (many.pages - few.pages) / many.windows


@pytest.mark.parametrize("turned", [False, True])
def test_years_before(where: Path, turned: bool) -> None:
    """Rows of other days cost nothing: the night of a store takes as long as its day is long, not as it is old."""
    young, old = measure(where, 500, turned=turned), measure(where, 500, OLD, turned=turned)
    assert codes(old.result) == codes(young.result)
    assert old.steps <= 1.1 * young.steps
