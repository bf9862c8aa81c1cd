"""The nightly run against lists that move, stick, break off or lie: everything once, or incomplete and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

import reconcile
from gateway_client import PaymentIntent, State
from gateway_client.flow.lookup import NOT_ASKED_FOR
from tests.kit import START, USD_20, Killed
from tests.nightly import DATABASES, Night, codes, night
from tests.nightly_lists import (
    ALL,
    CHARGES,
    DAY,
    INTENTS,
    LISTS,
    READ,
    RECOVERED,
    Lists,
    Object,
    Trouble,
    a_day,
    circle,
    listed,
    newest_first,
    strangers,
    times,
)


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        made.made_at = START - timedelta(days=400)
        yield made


def sums(result: reconcile.RunResult) -> tuple[int, int, int]:
    return result.provider_charges, result.foreign, result.matched


# Lists that move while they are read --------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_every_size_of_page(world: Night, rows: int) -> None:
    """However few objects are on a page, everything is found, once (F124, S15)."""
    lists = a_day(world)
    lists.rows = rows
    result = world.run(DAY)
    assert (result.complete, codes(result), sums(result)) == (True, ALL, (5, 2, 1))
    assert (world.state("lost"), world.state("doubt")) == (State.ABSENT, State.SUCCEEDED)


@pytest.mark.parametrize("order", [lambda one: (one["id"],), lambda one: (one["created"],), newest_first])
def test_order_does_not_matter(world: Night, order: Callable[[Object], tuple[Any, ...]]) -> None:
    """Objects that are not listed newest first are read as well, each once (F137)."""
    lists = a_day(world)
    lists.order = order
    result = world.run(DAY)
    assert (result.complete, codes(result), sums(result)) == (True, ALL, (5, 2, 1))


@pytest.mark.parametrize(("rows", "repeated", "overlap"), [(1, 2, 0), (100, 3, 0), (2, 1, 1), (3, 2, 2)])
def test_objects_listed_twice(world: Night, rows: int, repeated: int, overlap: int) -> None:
    """An object that is listed twice counts once, on one page or on two (F137)."""
    lists = a_day(world)
    lists.rows, lists.repeated, lists.overlap = rows, repeated, overlap
    result = world.run(DAY)
    assert (result.complete, codes(result), sums(result)) == (True, ALL, (5, 2, 1))


@pytest.mark.parametrize("rows", [2, 100])
def test_objects_outside_the_bounds(world: Night, rows: int) -> None:
    """A page that holds objects of other days answers another question: the run is incomplete until it gets its own."""
    world.clock.advance(hours=-24)
    world.pay_behind_our_back("the day before")
    strangers(world, 3)
    world.clock.advance(hours=24)
    lists = a_day(world)
    world.pay_behind_our_back("the day after")
    strangers(world, 3)
    lists.rows, lists.bounded = rows, False
    result = world.run(DAY)
    assert (result.complete, codes(result)) == (False, set())
    assert result.why_incomplete == f"{INTENTS}: {NOT_ASKED_FOR}"
    lists.bounded = True
    result = world.run(DAY)
    assert (result.complete, codes(result), sums(result)) == (True, ALL, (5, 2, 1))


def test_more_than_a_page_in_one_second(world: Night) -> None:
    """Two hundred objects and more of one second, with ours at both ends and between: each is found once (F124)."""
    for number in range(3):
        world.pay_behind_our_back(f"order_{number}")
        strangers(world, 105 if number < 2 else 0, seconds_apart=0)
    lists = Lists(world, rows=100)
    world.clock.advance(hours=24)
    result = world.run(DAY)
    assert codes(result) == {("missing_locally", f"order_{number}") for number in range(3)}
    assert (result.complete, sums(result)) == (True, (213, 210, 0))
    assert len(lists.cursors(INTENTS)) == len(lists.cursors(CHARGES)) == 3


@pytest.mark.parametrize(("page", "path"), [(1, INTENTS), (2, CHARGES), (3, INTENTS), (3, CHARGES)])
def test_charges_that_appear_between_pages(world: Night, page: int, path: str) -> None:
    """Charges made while a list is read move every page, and nothing is missed, invented or read twice (F119)."""
    lists = a_day(world)
    made: list[int] = []

    def appear(request: httpx.Request) -> None:
        made.append(len(made))
        for _ in range(3):
            world.stranger_pays(900)
        world.pay(f"new_{len(made)}")
        world.clock.advance(seconds=1)

    lists.troubles.append((path, page, times(3, appear)))
    result = world.run(DAY)
    assert (result.complete, codes(result), sums(result)) == (True, ALL, (5, 2, 1))
    assert made, "nothing appeared"
    lists.troubles.clear()
    today = world.run()
    assert (today.complete, codes(today), today.matched) == (True, set(), len(made))


@pytest.mark.parametrize(("page", "path"), [(page, LISTS[page % 2]) for page in range(2, 9)])
def test_the_cursors_object_is_gone(world: Night, page: int, path: str) -> None:
    """A cursor whose object was removed is refused: the list is begun again, and the run is complete (F120)."""
    world.pay_behind_our_back("first")
    strangers(world, 8)
    world.pay_behind_our_back("last")
    lists = Lists(world, rows=1)
    world.clock.advance(hours=24)
    removed: list[str] = []

    def remove(request: httpx.Request) -> None:
        if not removed:
            removed.append(request.url.params["starting_after"])
            world.sandbox.remove(removed[0])

    lists.troubles.append((path, page, remove))
    result = world.run(DAY)
    expected = {("missing_locally", "first"), ("missing_locally", "last")}
    assert (result.complete, result.why_incomplete, codes(result)) == (True, None, expected)
    assert sums(result) == (10, 8, 0)
    assert removed[0] in lists.cursors(path)


def test_the_cursors_object_is_gone_when_a_run_goes_on(world: Night) -> None:
    """A killed run whose cursor names nothing any more begins that list again, and is the same run (F08, F120)."""
    lists = a_day(world)

    def kill(request: httpx.Request) -> None:
        raise Killed

    lists.troubles.append((CHARGES, 2, kill))
    with pytest.raises(Killed):
        world.run(DAY)
    world.end_leases()
    ((run_id, cursor),) = world.sql("SELECT run_id, cursor FROM paycli_run_parts WHERE list_no = 1")
    world.sandbox.remove(cursor)
    lists.troubles.clear()
    lists.asked.clear()
    result = world.run(DAY)
    assert (result.run_id, result.complete, codes(result)) == (run_id, True, ALL)
    assert (lists.cursors(INTENTS), lists.cursors(CHARGES)[:2]) == ([], [cursor, ""])


def test_what_was_removed_before_it_was_listed(world: Night) -> None:
    """A success removed at the provider while its list is read is missing there; one removed later is not (F139)."""
    world.pay("old")
    world.clock.advance(seconds=2)
    strangers(world, 2)
    world.pay("new")
    lists = Lists(world, rows=1)
    world.clock.advance(hours=24)

    def remove(request: httpx.Request) -> None:
        for intent_id in ("old", "new"):
            world.sandbox.remove(world.row(intent_id)["provider_charge_id"])
        lists.troubles.clear()

    lists.troubles.append((CHARGES, 2, remove))
    result = world.run(DAY)
    # The cursor was "new": the list is begun again, but what was seen stays seen.
    assert (result.complete, codes(result)) == (True, {("missing_at_provider", "old")})


def test_sent_in_the_window_and_still_on_its_way(world: Night) -> None:
    """A charge in flight while the run reads is left to its own process, and both agree in the end (F113)."""
    results: list[reconcile.RunResult] = []

    def run_while_it_is_sent(request: httpx.Request) -> httpx.Response | None:
        if request.method == "POST" and not results:
            results.append(world.run())
            assert world.state("order_1") is State.SENDING
            response = world.sandbox.transport().handle_request(request)
            results.append(world.run())
            return response
        return None

    world.hooks.append(run_while_it_is_sent)
    charge = world.open_client().charge(PaymentIntent("order_1", USD_20, "pm_card_visa"))
    assert [codes(result) for result in results] == [set(), {("outcome_recovered", "order_1")}]
    assert (charge.state, charge.sends, world.paid("order_1")) == (State.SUCCEEDED, 1, 1)
    assert codes(world.run()) == set()


# Lists that stick or lie --------------------------------------------------------------------------------------------


def standing_still(lists: Lists, path: str, kind: str) -> Trouble:
    """A page without progress: empty and more to come, the one before again, or the first again."""

    def trouble(request: httpx.Request) -> httpx.Response | None:
        before = lists.cursors(path)[-2]
        if kind == "empty":
            return lists.answer(200, listed(path, [], has_more=True))
        return lists.page(path, request.url.params, before if kind == "the page before" else "")

    return trouble


@pytest.mark.parametrize(
    ("path", "kind", "page"),
    [
        (INTENTS, "empty", 2),
        (CHARGES, "empty", 3),
        (CHARGES, "the page before", 2),
        (INTENTS, "the page before", 3),
    ],
)
def test_one_page_without_progress(world: Night, path: str, kind: str, page: int) -> None:
    """An empty page with more to come, or a page seen twice, is asked for again, and all is well (F121)."""
    lists = a_day(world)
    lists.troubles.append((path, page, times(1, standing_still(lists, path, kind))))
    result = world.run(DAY)
    assert (result.complete, codes(result), sums(result)) == (True, ALL, (5, 2, 1))


def test_empty_first_page_with_more_to_come(world: Night) -> None:
    """An empty first page is not an empty day while the provider says that there is more (F121)."""
    lists = a_day(world)
    empty = lists.answer(200, listed(INTENTS, [], has_more=True))
    for path in LISTS:
        lists.troubles.append((path, 1, times(1, lambda request: empty)))
    assert codes(world.run(DAY)) == ALL


@pytest.mark.parametrize(
    ("path", "kind", "page"),
    [
        (INTENTS, "empty", 2),
        (CHARGES, "empty", 3),
        (CHARGES, "the page before", 2),
        (INTENTS, "the first page", 3),
    ],
)
def test_no_progress_for_ever(world: Night, path: str, kind: str, page: int) -> None:
    """A list that does not advance, or goes round in a circle, is given up, and nothing rests on it (F121, L4)."""
    lists = a_day(world)
    lists.troubles.append((path, page, standing_still(lists, path, kind)))
    result = world.run(DAY)
    assert result.why_incomplete == f"{path}: the provider's list does not advance"
    assert (result.complete, codes(result)) == (False, {RECOVERED} if (path, page) == (INTENTS, 2) else READ)
    lists.troubles.clear()
    again = world.run(DAY)
    assert (again.run_id, again.complete, codes(again), sums(again)) == (result.run_id, True, ALL, (5, 2, 1))


@pytest.mark.parametrize(("rows", "path"), [(1, INTENTS), (2, CHARGES)])
def test_circle(world: Night, rows: int, path: str) -> None:
    """A list whose end leads back to its beginning is given up, however many pages lie between (F121, L4)."""
    lists = a_day(world)
    lists.rows = rows
    lists.troubles.append((path, 1, circle(lists)))
    result = world.run(DAY)
    assert (result.complete, result.why_incomplete) == (False, f"{path}: the provider's list does not advance")
    assert codes(result) == READ, "every object was seen; what rests on having seen all waits"
    assert len(lists.asked) < 40
    lists.troubles.clear()
    again = world.run(DAY)
    assert (again.run_id, again.complete, codes(again), sums(again)) == (result.run_id, True, ALL, (5, 2, 1))
