"""The nightly run at the edges of its window: first and last seconds, days that are not over, rows of two days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from gateway_client import State
from reconcile import RunResult
from tests.kit import START, Killed
from tests.nightly import DATABASES, Codes, Night, codes, night, only

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"
DAY = date(2026, 11, 20)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        made.made_at = START - timedelta(days=400)
        yield made


def go_to(world: Night, moment: datetime) -> None:
    """It is this time now, here and at the provider; back, too."""
    world.clock.advance(seconds=(moment - world.clock.now).total_seconds())


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def remove(world: Night, intent_id: str) -> None:
    """The provider has never heard of it."""
    row = world.row(intent_id)
    world.sandbox.remove(row["provider_charge_id"])
    world.sandbox.remove(row["provider_intent_id"])


def sums(result: RunResult) -> tuple[int, int, int]:
    return result.provider_charges, result.local_charges, result.matched


def came_to(result: RunResult) -> tuple[bool, Codes]:
    return result.complete, codes(result)


CLEAN: tuple[bool, Codes] = (True, set())


# The first and the last second ---------------------------------------------------------------------------------------

DAYS = [
    (DAY, "UTC", "2026-11-20 00:00:00", "2026-11-21 00:00:00"),
    (date(2026, 3, 29), "Europe/Berlin", "2026-03-28 23:00:00", "2026-03-29 22:00:00"),  # 23 hours
    (date(2026, 10, 25), "Europe/Berlin", "2026-10-24 22:00:00", "2026-10-25 23:00:00"),  # 25 hours
    (date(2026, 11, 20), "Asia/Kathmandu", "2026-11-19 18:15:00", "2026-11-20 18:15:00"),
    (date(2026, 12, 31), "Pacific/Kiritimati", "2026-12-30 10:00:00", "2026-12-31 10:00:00"),
]
days = pytest.mark.parametrize(("day", "tz", "start", "end"), DAYS)


@days
def test_first_and_last_second(world: Night, day: date, tz: str, start: str, end: str) -> None:
    """A day holds its first second and its last, of each ledger, and not the second before or after (F124, F125)."""
    first, after = utc(start), utc(end)
    moments = {"before": first - SECOND, "first": first, "last": after - SECOND, "after": after}
    for name, moment in moments.items():
        go_to(world, moment)
        world.pay(f"both_{name}")
        world.pay(f"here_{name}")
        remove(world, f"here_{name}")
        world.pay_behind_our_back(f"there_{name}")
        world.stranger_pays(500)
    go_to(world, utc(end) + timedelta(hours=3))
    result = world.run(day, tz)
    inside = ("first", "last")
    assert (result.window_start, result.window_end) == (utc(start), utc(end))
    assert came_to(result) == (
        True,
        {
            *(("missing_at_provider", f"here_{name}") for name in inside),
            *(("missing_locally", f"there_{name}") for name in inside),
        },
    )
    assert (sums(result), result.foreign, result.repaired, result.flagged) == ((6, 4, 2), 2, 0, 4)


def test_neighbours_tile(world: Night) -> None:
    """What is made around the ends of three days in a row, one of 25 hours, is of exactly one of their runs (F125)."""
    start = utc("2026-10-23 22:00:00")
    after = [timedelta(0), SECOND, timedelta(hours=12), -SECOND]
    for number, (hours, more) in enumerate((hours, more) for hours in (0, 24, 49, 73) for more in after):
        go_to(world, start + timedelta(hours=hours) + more)
        world.pay_behind_our_back(f"order_{number}")
    go_to(world, start + timedelta(days=5))
    found = [world.run(date(2026, 10, 24 + number), "Europe/Berlin") for number in range(3)]
    assert [(result.provider_charges, result.flagged) for result in found] == [(4, 4)] * 3
    assert len(set().union(*map(codes, found))) == 12


# Rows of two days ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "created", "method", "whole"),
    [
        ("23:59:59", "00:00:00", "pm_card_visa", True),
        ("23:59:59", "00:00:00", "pm_card_visa", False),
        ("00:00:00", "23:59:59", "pm_card_visa", True),
        ("23:59:59", "00:00:00", "pm_card_chargeDeclined", False),
        ("00:00:00", "23:59:59", "pm_card_chargeDeclined", True),
    ],
)
def test_sent_on_one_day_and_created_on_the_next(
    world: Night, method: str, sent: str, created: str, *, whole: bool
) -> None:
    """A charge sent a second before midnight and created after it, or seen so by another clock, is no mismatch (F64).

    Nor is one whose intent was created before midnight and its charge after.
    """
    ours, theirs = [utc("2026-11-21 00:00:00") - SECOND * (time == "23:59:59") for time in (sent, created)]
    go_to(world, ours)
    world.pay("order_1", method)
    row = world.row("order_1")
    world.sandbox.change(row["provider_charge_id"], created=int(theirs.timestamp()))
    if whole:
        world.sandbox.change(row["provider_intent_id"], created=int(theirs.timestamp()))
    before = world.dump()["pending_charges"]
    go_to(world, utc("2026-11-22 02:00:00"))
    results = [world.run(date(2026, 11, day)) for day in (20, 21)]
    assert [came_to(result) for result in results] == [CLEAN, CLEAN]
    assert [result.provider_charges for result in results] == ([1, 0] if created == "23:59:59" else [0, 1])
    assert world.dump()["pending_charges"] == before


@pytest.mark.parametrize("first", [20, 21])
def test_created_after_midnight_and_not_known_here(world: Night, first: int) -> None:
    """A doubt of one second before midnight whose charge is of the next day is settled by whichever run is first."""
    go_to(world, utc("2026-11-20 23:59:59"))
    world.doubt("order_1")
    for made in (*world.sandbox.charges, *world.sandbox.payment_intents):
        world.sandbox.change(made["id"], created=int(utc("2026-11-21 00:00:00").timestamp()))
    go_to(world, utc("2026-11-22 02:00:00"))
    results = [world.run(date(2026, 11, day)) for day in (first, 41 - first)]
    assert [came_to(result) for result in results] == [(True, {("outcome_recovered", "order_1")}), CLEAN]
    assert (world.state("order_1"), world.paid("order_1")) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("missing", [False, True])
def test_settled_days_after_it_was_sent(world: Night, *, missing: bool) -> None:
    """A debit of Friday that arrives on Monday is looked at by the runs of both days, and is no mismatch of either."""
    world.sandbox.settles_after_s = 3 * 24 * 3600
    world.pay("debit", "pm_usBankAccount_success")
    world.clock.advance(hours=13)
    friday = world.run(DAY)
    assert (came_to(friday), world.state("debit")) == (CLEAN, State.PROCESSING)
    go_to(world, START + timedelta(days=3, minutes=1))
    world.open_client().resume()
    assert world.state("debit") is State.SUCCEEDED
    if missing:
        remove(world, "debit")
    world.clock.advance(hours=24)
    monday = world.run(date(2026, 11, 23))
    expected: tuple[bool, Codes] = (True, {("missing_at_provider", "debit")}) if missing else CLEAN
    assert (came_to(monday), sums(monday)) == (expected, (0, 1, 0))
    again = world.run(DAY)
    assert (came_to(again), sums(again)) == (expected, (0, 1, 0) if missing else (1, 1, 1))
    assert [sums(world.run(date(2026, 11, other)))[1] for other in (19, 21, 22, 24)] == [0, 1, 1, 0]


# Empty days ----------------------------------------------------------------------------------------------------------


def test_an_empty_store(world: Night) -> None:
    """The first run of a store without a single charge is complete, and finds what others have made for us."""
    assert came_to(world.run()) == CLEAN
    world.pay_behind_our_back("order_1")
    assert came_to(world.run()) == (True, {("missing_locally", "order_1")})


# A day that is not over ----------------------------------------------------------------------------------------------


def between_pages(world: Night, path: str, work: object) -> None:
    """This is done once, when the first page of this list has been read."""
    left = [work]

    def hook(request: httpx.Request) -> httpx.Response | None:
        if (request.method, request.url.path) != ("GET", path) or not left:
            return None
        page = world.sandbox.transport().handle_request(request)
        work = left.pop()
        assert callable(work)
        work()
        return page

    world.hooks.append(hook)


@pytest.mark.parametrize(("seconds", "path"), [(0, INTENTS), (0, CHARGES), (1, INTENTS), (60, CHARGES)])
def test_today_while_charges_come_in(world: Night, seconds: int, path: str) -> None:
    """Charges made while today is read are neither invented nor lost: the next run has them all (F119, F140).

    They are made in the frozen second itself, or after it.
    """
    world.pay("before")

    def come_in() -> None:
        world.clock.advance(seconds=seconds)
        world.pay("new")
        world.pay("declined", "pm_card_chargeDeclined")
        world.pay("debit", "pm_usBankAccount_processing")
        world.doubt("doubt")
        world.pay_behind_our_back("behind")

    between_pages(world, path, come_in)
    first = world.run()
    theirs_were_listed = seconds == 0 and path == INTENTS  # on the list that is read next
    late: Codes = {("outcome_recovered", "doubt"), ("missing_locally", "behind")}
    assert came_to(first) == (True, late if theirs_were_listed else set())
    world.clock.advance(minutes=20)
    second = world.run()
    assert came_to(second) == (True, set() if theirs_were_listed else late)
    assert sums(second)[0] == 6
    go_to(world, utc("2026-11-21 01:00:00"))
    assert came_to(world.run(DAY)) == CLEAN
    assert [world.paid(one) for one in ("before", "new", "declined", "doubt", "behind")] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
@pytest.mark.parametrize("end", ["declined", "succeeded", "canceled"])
def test_a_debit_that_ends_while_it_is_listed(world: Night, path: str, end: str) -> None:
    """What was listed as processing, and has ended here before it is compared, is no disagreement (F139, F140)."""
    method = {"declined": "noAccount", "succeeded": "success", "canceled": "processing"}[end]
    world.pay("debit", f"pm_usBankAccount_{method}")

    def ends() -> None:
        world.clock.advance(seconds=30)
        if end == "canceled":
            world.open_client().cancel("debit", because="the customer left")
        world.open_client().resume()

    between_pages(world, path, ends)
    result = world.run()
    assert (came_to(result), world.state("debit")) == (CLEAN, State(end))
    assert came_to(world.run()) == CLEAN


def kill_at(world: Night, path: str, day: date | None = None) -> None:
    """The run is killed when it asks for this list."""
    world.kill_at("GET", path)
    with pytest.raises(Killed):
        world.run(day)
    world.end_leases()


def test_bounds_of_a_killed_run_of_today(world: Night) -> None:
    """A killed run of today goes on hours later with the end that it had: what came since is the next run's (F119)."""
    world.pay_behind_our_back("morning")
    kill_at(world, CHARGES)
    ((run_id, end),) = world.sql("SELECT run_id, window_end FROM paycli_runs")
    world.clock.advance(hours=5)
    world.pay_behind_our_back("evening")
    result = world.run()
    assert (result.run_id, result.window_end) == (run_id, START + SECOND)
    assert utc(end) == START + SECOND
    assert came_to(result) == (True, {("missing_locally", "morning")})
    evening = world.run()
    assert (evening.window_end, evening.run_id != run_id) == (START + timedelta(hours=5, seconds=1), True)
    assert came_to(evening) == (True, {("missing_locally", "evening")})


def test_a_finished_run_of_the_morning(world: Night) -> None:
    """A finished run of the morning says nothing of the evening: a later run reads the whole day anew."""
    for number in range(3):
        world.pay(f"morning_{number}")
    morning = world.run()
    world.clock.advance(hours=6)
    world.pay("evening")
    world.pay("gone")
    remove(world, "gone")
    world.change("morning_1", amount=1999)
    evening = world.run()
    assert evening.run_id != morning.run_id
    assert (evening.window_start, sums(morning), sums(evening)) == (morning.window_start, (3, 3, 3), (4, 5, 3))
    assert came_to(evening) == (True, {("missing_at_provider", "gone"), ("amount_mismatch", "morning_1")})


def test_an_unfinished_run_of_a_day_that_is_over_by_now(world: Night) -> None:
    """An unfinished run of a part of a day does not become the day's: once it is over, the whole is read (F119)."""
    world.pay_behind_our_back("morning")
    kill_at(world, CHARGES)
    world.clock.advance(hours=6)
    world.pay_behind_our_back("evening")
    go_to(world, utc("2026-11-21 00:00:00"))
    result = world.run(DAY)
    assert (result.window_end, came_to(result)) == (
        utc("2026-11-21 00:00:00"),
        (True, {("missing_locally", "morning"), ("missing_locally", "evening")}),
    )
    runs = world.sql("SELECT complete, why_incomplete FROM paycli_runs ORDER BY started_at")
    assert runs == [(0, "given up for a run of the whole day"), (1, None)]


def test_an_unfinished_run_of_a_whole_day(world: Night) -> None:
    """An unfinished run of a day that was over then is gone on with days later, with its bounds."""
    world.pay_behind_our_back("order_1")
    go_to(world, utc("2026-11-21 03:00:00"))
    kill_at(world, CHARGES, DAY)
    world.clock.advance(hours=50)
    result = world.run(DAY)
    assert (result.window_end, result.started_at) == (utc("2026-11-21 00:00:00"), utc("2026-11-21 03:00:00"))
    assert (only(result).code, world.sql("SELECT count(*) FROM paycli_runs")) == ("missing_locally", [(1,)])


def test_an_unfinished_run_of_another_day_or_zone(world: Night) -> None:
    """Runs of other days and of other zones are runs of their own, whatever lies unfinished."""
    world.pay_behind_our_back("order_1")
    kill_at(world, CHARGES)
    go_to(world, utc("2026-11-21 03:00:00"))
    assert came_to(world.run(date(2026, 11, 19))) == CLEAN
    assert codes(world.run(DAY, "Europe/Berlin")) == {("missing_locally", "order_1")}
    assert came_to(world.run(DAY)) == CLEAN
    assert world.sql("SELECT count(*) FROM paycli_runs WHERE complete") == [(3,)]


def test_the_last_second_of_today(world: Night) -> None:
    """A run in a day's last second covers it to its end; a charge of that second made after its page is found later."""
    go_to(world, utc("2026-11-20 23:59:59"))
    between_pages(world, CHARGES, lambda: world.pay_behind_our_back("late"))
    result = world.run(DAY)
    assert (result.window_end, came_to(result)) == (utc("2026-11-21 00:00:00"), CLEAN)
    world.clock.advance(seconds=1)
    again = world.run(DAY)
    assert (again.window_end, came_to(again)) == (utc("2026-11-21 00:00:00"), (True, {("missing_locally", "late")}))
