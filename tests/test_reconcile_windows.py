"""A long list is cut into parts that are read at once, under one rate: the same is found, and a kill loses nothing.

What becomes of one part when its pages stick, break off or lie: `test_reconcile_paging.py`, page after page.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reconcile
from gateway_client.errors import InvalidInput
from gateway_client.flow.effects import Ask, AskAll, Effect, Flow, Now, Wait
from gateway_client.gateways.base import Request
from gateway_client.store.registry import perform as perform_really
from reconcile.effects import Part
from reconcile.reading import PARTS_FOR_EACH, _cut
from reconcile.store import runs
from reconcile.throttle import RATES, WINDOWS, WINDOWS_MAX, Pace, throttled
from tests.kit import START, Killed
from tests.nightly import DATABASES, SECOND, Night, codes, night
from tests.nightly_lists import ALL, CHARGES, DAY, INTENTS, LISTS, READ, Lists, Object, a_day, newest_first, strangers

WHOLE = (datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        made.made_at = START - timedelta(days=400)
        yield made


def parts(world: Night) -> list[tuple[int, int, int, bool]]:
    """Of each part: its list, its number, the pages that were read of it, and whether it is done."""
    rows = world.sql("SELECT list_no, part_no, pages, done FROM paycli_run_parts ORDER BY list_no, part_no")
    return [(list_no, part_no, pages, bool(done)) for list_no, part_no, pages, done in rows]


# Parts --------------------------------------------------------------------------------------------------------------


@given(
    start=st.integers(1_500_000_000, 2_000_000_000).map(lambda second: datetime.fromtimestamp(second, UTC)),
    seconds=st.integers(1, 100_000),
    count=st.integers(2, WINDOWS_MAX * PARTS_FOR_EACH),
)
@settings(deadline=None, derandomize=True, database=None)
def test_parts_tile(start: datetime, seconds: int, count: int) -> None:
    """Whatever is cut into however many: no second is left out, none is in two parts, and all are whole."""
    whole = Part(1, 0, start, start + seconds * SECOND)
    cut = _cut(whole, count)
    assert (cut[0].start, cut[-1].end) == (whole.start, whole.end)
    assert all(before.end == after.start for before, after in pairwise(cut))
    assert all(part.start < part.end and part.start.microsecond == 0 for part in cut)
    assert [(part.list_no, part.part_no) for part in cut] == [(1, number) for number in range(1, len(cut) + 1)]


@pytest.mark.parametrize("windows", [2, 3, 16])
@pytest.mark.parametrize("order", [newest_first, lambda one: (one["id"],), lambda one: (one["created"],)])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_same_is_found(world: Night, windows: int, order: Callable[[Object], tuple[Any, ...]], rows: int) -> None:
    """However many parts are read at once, in whatever order objects are listed: everything is found, once (F124)."""
    lists = a_day(world)
    lists.rows, lists.order, lists.repeated = rows, order, 2
    world.windows = windows
    result = world.run(DAY)
    assert (result.complete, codes(result)) == (True, ALL)
    assert (result.provider_charges, result.foreign, result.matched) == (5, 2, 1)


def test_objects_at_the_edges_of_parts(world: Night) -> None:
    """An object of the first or of the last second of a part is in that part, and counted once (F124)."""
    lists = Lists(world, rows=1, windows=2)
    edges = [part.start for part in _cut(Part(0, 0, *WHOLE), 2 * PARTS_FOR_EACH)]
    world.clock.advance(seconds=(WHOLE[0] - world.clock.now).total_seconds())
    for edge in edges:
        for at in (edge - SECOND, edge):
            if at >= WHOLE[0]:
                world.clock.advance(seconds=(at - world.clock.now).total_seconds())
                world.stranger_pays(500)
    world.clock.advance(hours=24)
    result = world.run(DAY)
    assert (result.complete, result.provider_charges) == (True, 2 * len(edges) - 1)
    assert len(lists.bounds) == 1 + len(edges)


def test_a_short_list_is_not_cut(world: Night) -> None:
    """As many pages as are read at once are read one after the other: a small day costs no more questions."""
    strangers(world, 4)
    lists = Lists(world, rows=1, windows=4)
    world.clock.advance(hours=24)
    assert world.run(DAY).complete
    assert (len(lists.asked), parts(world)) == (8, [(0, 0, 4, True), (1, 0, 4, True)])


def test_a_long_list_is_cut(world: Night) -> None:
    """A list that goes on is cut, and read part by part from the beginning; what was read is kept once."""
    strangers(world, 5)
    lists = Lists(world, rows=1, windows=4)
    world.clock.advance(hours=24)
    result = world.run(DAY)
    assert (result.complete, result.provider_charges, result.foreign) == (True, 5, 5)
    assert [done for *_, done in parts(world)] == [True] * 2 * (1 + 4 * PARTS_FOR_EACH)
    assert len(lists.bounds) == 1 + 4 * PARTS_FOR_EACH


# At once ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [2, 4])
def test_so_many_are_asked_for_at_once(windows: int) -> None:
    """Pages of as many parts as were asked for are on their way at the same time, and never more."""
    with night() as dark:
        dark.made_at = START - timedelta(days=400)
        strangers(dark, 12, seconds_apart=3600)
        Lists(dark, rows=1, windows=windows)
        dark.clock.advance(hours=24)
        together, lock, seen = threading.Barrier(windows), threading.Lock(), [0, 0]

        def hook(request: httpx.Request) -> None:
            if request.url.path != CHARGES or request.url.params.get("starting_after"):
                return
            with lock:
                seen[0] += 1
                seen[1] = max(seen)
            whole = int(request.url.params["created[lte]"]) - int(request.url.params["created[gte]"]) > 50_000
            if not whole:
                with suppress(threading.BrokenBarrierError):  # by a round of fewer parts, which has nobody to wait for
                    together.wait(2)
            with lock:
                seen[0] -= 1

        dark.hooks.insert(0, hook)
        result = dark.run(DAY)
        assert (result.complete, result.provider_charges, seen) == (True, 12, [0, windows])


@pytest.mark.parametrize("path", LISTS)
def test_one_part_fails(world: Night, path: str) -> None:
    """Where one part cannot be read, the others of its round are kept; the next call goes on with what is left."""
    lists = a_day(world)
    world.windows = 2
    broken: list[str] = []

    def fail(request: httpx.Request) -> httpx.Response | None:
        low = request.url.params["created[gte]"]
        if int(low) % 86400 == 0 or (broken and low not in broken):
            return None
        broken.append(low)
        return httpx.Response(400, json={"error": {"type": "invalid_request_error", "code": "odd"}})

    lists.troubles.append((path, 2, fail))
    result = world.run(DAY)
    assert (result.complete, codes(result)) == (False, READ)
    assert path in (result.why_incomplete or "")
    starts = [part.start for part in _cut(Part(0, 0, *WHOLE), 2 * PARTS_FOR_EACH)]
    done = {(LISTS[list_no], int(starts[no - 1].timestamp())) for list_no, no, _, done in parts(world) if done and no}
    lists.troubles.clear()
    asked: set[tuple[str, int]] = set()
    world.hooks.insert(0, lambda request: asked.add((request.url.path, int(request.url.params.get("created[gte]", 0)))))
    again = world.run(DAY)
    assert (again.run_id, again.complete, codes(again)) == (result.run_id, True, ALL)
    assert (len(done) > 0, asked & done) == (True, set())


def test_killed_with_several_under_way(world: Night) -> None:
    """Parts whose pages were kept are gone on with, each after its own last object (F08, F122)."""
    strangers(world, 12, seconds_apart=3600)
    lists = Lists(world, rows=1, windows=2)
    world.clock.advance(hours=24)
    asked = [0]

    def kill(request: httpx.Request) -> None:
        asked[0] += request.url.path == CHARGES
        if asked[0] == 11:
            raise Killed

    world.hooks.insert(0, kill)
    with pytest.raises(Killed):
        world.run(DAY)
    world.hooks.remove(kill)
    world.end_leases()
    kept = world.sql("SELECT cursor FROM paycli_run_parts WHERE list_no = 1 AND NOT done AND cursor IS NOT NULL")
    assert kept
    lists.asked.clear()
    result = world.run(DAY)
    assert (result.complete, result.provider_charges, result.foreign) == (True, 12, 12)
    assert {cursor for (cursor,) in kept} <= {cursor for _, cursor in lists.asked}
    assert not [path for path, _ in lists.asked if path == INTENTS]


def test_a_dry_run_reads_at_once_as_well(world: Night) -> None:
    """It says the same, and keeps nothing."""
    a_day(world)
    world.windows = 2
    world.run(DAY, dry_run=True)
    before = world.dump()
    tried = world.run(DAY, dry_run=True)
    assert (tried.complete, codes(tried), world.dump()) == (True, ALL, before)


# How fast -----------------------------------------------------------------------------------------------------------


def test_the_rate_of_a_night() -> None:
    """In any t seconds a run makes at most rate × (t + 1) requests, and as many more as it makes at once."""
    with night() as dark:
        dark.made_at = START - timedelta(days=400)
        strangers(dark, 40)
        Lists(dark, rows=1, windows=4)
        dark.clock.advance(hours=24)
        dark.rate = 5.0
        times: list[float] = []
        dark.hooks.insert(0, lambda request: times.append(dark.clock.true_time()))
        assert dark.run(DAY).complete
        assert len(times) > 80
        for first, at in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= dark.rate * (times[last] - at + 1) + dark.windows + 0.001


@settings(deadline=None, derandomize=True, database=None)
@given(rate=st.floats(0.1, 100), asked=st.lists(st.tuples(st.integers(1, 8), st.floats(-5, 5)), max_size=40))
def test_the_rate_whatever_the_clock_does(rate: float, asked: list[tuple[int, float]]) -> None:
    """A clock that is set back, or that stands, makes nothing faster: by the time that was really waited."""

    def asking() -> Flow[None]:
        for count, _ in asked:
            requests = (Request("GET", "/"),) * count
            yield from Ask(requests[0]) if count == 1 else AskAll(requests)

    flow, shown, waited = throttled(rate, asking()), START, 0.0
    told: datetime | None = None
    jumps, sent = iter(asked), []
    while True:
        try:
            effect: Effect[Any] = flow.send(told)
        except StopIteration:
            break
        told = None
        match effect:
            case Now():
                told = shown
            case Wait():
                waited, shown = waited + effect.seconds_min, shown + timedelta(seconds=effect.seconds_min)
            case Ask() | AskAll():
                count, jump = next(jumps)
                sent += [waited] * count
                shown += timedelta(seconds=min(0.0, jump))
    most = max((count for count, _ in asked), default=0)
    for first, at in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= rate * (sent[last] - at) + max(1.0, rate) + most + 0.01


@pytest.mark.parametrize("rate", [0, -1, 0.01, RATES[1] + 1, float("nan"), float("inf"), True, "20"])
def test_rates_that_are_none(rate: Any) -> None:
    """A rate that cannot be kept to is refused before anything is asked."""
    with night() as dark:
        dark.rate = rate
        with pytest.raises(InvalidInput, match="rate"):
            dark.run()
        assert dark.asked == []


@pytest.mark.parametrize("windows", [0, -1, WINDOWS_MAX + 1, 1.5, True, "4"])
def test_numbers_of_windows_that_are_none(windows: Any) -> None:
    """Likewise the number of parts that are read at once."""
    with night() as dark:
        dark.windows = windows
        with pytest.raises(InvalidInput, match="windows"):
            dark.run()
        assert dark.asked == []


def test_defaults() -> None:
    """The command's defaults are the library's: 20 requests a second, four parts at once."""
    from cli import reconciling

    assert (Pace().rate, Pace().windows) == (20.0, 4) == (reconciling.REQUESTS_PER_S, reconciling.WINDOWS)
    assert WINDOWS == 4
    assert reconcile.run.__kwdefaults__ is not None


# What is kept, and what waits for it --------------------------------------------------------------------------------


def test_the_list_of_an_ended_run_is_forgotten(world: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run forgets it, a few rows at a time; a run that has not ended keeps what it has."""
    monkeypatch.setattr("reconcile.store.forgetting.ROWS_MAX", 2)
    for number in range(3):
        world.pay(f"order_{number}")
    strangers(world, 3)
    first = world.run()
    listed = "SELECT count(*) FROM {} WHERE run_id = '{}'"
    tables = ("paycli_run_agreed", "paycli_run_items")
    assert [world.sql(listed.format(name, first.run_id)) for name in tables] == [[(6,)], [(6,)]]
    second = world.run()
    assert [world.sql(listed.format(name, first.run_id)) for name in tables] == [[(0,)], [(0,)]]
    assert [world.sql(listed.format(name, second.run_id)) for name in tables] == [[(6,)], [(6,)]]
    assert codes(second) == codes(first) == set()


def test_charges_do_not_wait_for_a_look_at_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads a whole day holds no lock that a charge needs, however long it takes."""
    with night() as dark:
        dark.pay("order_1")
        looked: list[str] = []
        really = perform_really

        def perform(tx: Any, effect: Any) -> Any:
            if isinstance(effect, reconcile.effects.LookAtRun):
                tx.execute(runs._RUN, {"of_run": effect.run.run_id}).all()  # its snapshot is taken
                dark.pay(f"order_beside_{len(looked)}")
                looked.append(type(effect).__name__)
            return really(tx, effect)

        monkeypatch.setattr("gateway_client.driver.perform", perform)
        result = dark.run()
        assert (result.complete, {*looked}) == (True, {"ReadUnseen", "Count"})
