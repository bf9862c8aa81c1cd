"""Days without a complete run: who is told of them, and how a run without a date makes up for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import cast

import pytest

import reconcile
from gateway_client import Client, InvalidInput
from reconcile.alerts import Alert
from reconcile.window import days_left_out, window_of
from tests.kit import START
from tests.nightly import DATABASES, SECOND, Night, night
from tests.nightly_facts import HOUR, fired
from tests.nightly_shell import NightShell, night_shell

DAY = timedelta(days=1)
FIRST = START.date()


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        yield made


def client(world: Night) -> Client:
    return cast("Client", world.open_client())


def nights(world: Night, *, missed: int) -> None:
    """One complete night, some that nobody ran, and it is two in the morning of the next day."""
    world.pay("order_1")
    world.clock.advance(hours=14, seconds=-1)
    assert world.run(FIRST).complete
    world.clock.advance(hours=24 * missed + 24)


def days(world: Night) -> list[str]:
    """The days of complete runs, in the order in which they ended."""
    return [day for (day,) in world.sql("SELECT day FROM paycli_runs WHERE complete ORDER BY ended_at, run_id")]


# Which days (pure) ----------------------------------------------------------------------------------------------------


def spans(*which: tuple[int, str]) -> list[tuple[datetime, datetime]]:
    """The windows of days of November 2026."""
    whole = [window_of(date(2026, 11, day), tz, datetime(2027, 1, 1, tzinfo=UTC)) for day, tz in which]
    return [(one.start, one.end) for one in whole]


@pytest.mark.parametrize(
    ("covered", "tz", "expected"),
    [
        ([(1, "UTC"), (2, "UTC"), (3, "UTC"), (4, "UTC")], "UTC", []),
        ([(1, "UTC"), (4, "UTC")], "UTC", [2, 3]),
        ([(1, "UTC"), (3, "UTC")], "UTC", [2, 4]),
        ([(1, "UTC"), (2, "UTC"), (3, "Europe/Berlin"), (4, "Europe/Berlin")], "Europe/Berlin", []),
        ([(1, "UTC"), (2, "UTC"), (3, "America/New_York"), (4, "America/New_York")], "America/New_York", [2]),
        ([(1, "UTC"), (2, "UTC"), (3, "UTC"), (4, "UTC")], "America/New_York", []),
        ([(1, "UTC"), (1, "UTC"), (2, "UTC"), (2, "Asia/Tokyo"), (3, "UTC"), (4, "UTC")], "UTC", []),
        ([], "UTC", [1, 2, 3, 4]),
    ],
)
def test_days_left_out(covered: list[tuple[int, str]], tz: str, expected: list[int]) -> None:
    """C2: a day is made up for by whatever covers all of its seconds, runs of other zones too; one amid them is not."""
    since, now = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 5, 2, tzinfo=UTC)
    assert days_left_out(spans(*covered), since, now, tz) == [date(2026, 11, day) for day in expected]


def test_a_day_that_no_clock_has_shown() -> None:
    """C2: a day that a zone left out is not missed, and the days around it are."""
    since, now = datetime(2011, 12, 29, 12, tzinfo=UTC), datetime(2012, 1, 1, 12, tzinfo=UTC)
    assert days_left_out([], since, now, "Pacific/Apia") == [date(2011, 12, 29), date(2011, 12, 31), date(2012, 1, 1)]


# Who is told ----------------------------------------------------------------------------------------------------------


def test_two_nights_missed_and_the_third_complete(world: Night) -> None:
    """C2: days before a complete one, without a run of their own, are named at once, until they have one."""
    nights(world, missed=2)
    assert world.run(FIRST + 3 * DAY).complete
    alert = Alert(
        "days_missed",
        2,
        datetime(2026, 11, 22, tzinfo=UTC),
        None,
        "2 days without a complete reconciliation: 2026-11-21, 2026-11-22 (UTC): run `paycli reconcile --tz UTC`, "
        "which makes up for them",
    )
    assert fired(world) == {"days_missed": alert}
    assert world.run(FIRST + DAY).complete
    assert fired(world)["days_missed"].message.startswith("1 day without a complete reconciliation: 2026-11-22 (UTC)")
    assert world.run(FIRST + 2 * DAY).complete
    assert fired(world) == {}


def test_a_day_is_missed_only_when_its_night_is_late(world: Night) -> None:
    """C2: the newest day is named when it has been over for 26 hours; a run of a part of today changes nothing."""
    world.run(FIRST)  # at noon
    over = datetime(2026, 11, 21, tzinfo=UTC)
    world.later(over + HOUR - world.clock.now)
    world.run(FIRST + DAY)  # of the part of that day that there is
    assert "days_missed" not in fired(world, over + 26 * HOUR - SECOND)
    assert fired(world, over + 26 * HOUR)["days_missed"].count == 1


def test_the_switch_looks_at_the_days_that_matter(world: Night) -> None:
    """F5: to reconcile a day again, or an old one, does not quiet the alert that nobody reconciles the new ones."""
    nights(world, missed=0)
    world.clock.advance(hours=3)
    assert set(fired(world)) == {"not_reconciled"}
    assert world.run(FIRST).complete
    assert set(fired(world)) == {"not_reconciled"}
    assert world.run(FIRST + DAY).complete
    assert fired(world) == {}


# Days before the store ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [date(1969, 1, 1), date(1, 1, 2), FIRST - DAY])
def test_a_day_before_the_store(world: Night, day: date) -> None:
    """F5: a day that was over before the store and its first charge is refused; nothing is asked or changed."""
    world.pay("order_1")
    asked, before = len(world.sandbox.requests), world.dump()
    for dry_run in (False, True):
        with pytest.raises(InvalidInput, match="was over before this store and its first charge were made") as refused:
            reconcile.run(client(world), day, dry_run=dry_run)
        assert refused.value.field == "--date"
    assert (len(world.sandbox.requests), world.dump()) == (asked, before)


def test_a_row_that_is_older_than_the_store(world: Night) -> None:
    """F5: a store that was made anew and has imported older charges knows of their days."""
    world.pay("order_1")
    world.sql("UPDATE pending_charges SET first_sent_at = ?", ("2026-11-10 12:00:00.000000",))
    assert reconcile.run(client(world), date(2026, 11, 10)).complete
    with pytest.raises(InvalidInput):
        reconcile.run(client(world), date(2026, 11, 9))


def test_exit_code_of_a_day_before_the_store(shell: NightShell) -> None:
    """F5: for `paycli` it is exit 2, and does not count as a reconciliation."""
    run = shell.paycli("reconcile", "--date", "1969-01-01")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("error: --date: 1969-01-01 (UTC) was over before this store")
    assert shell.paycli("alerts").out.startswith("not_reconciled: no reconciliation was ever completed")


# Catching up ----------------------------------------------------------------------------------------------------------


def test_missed_days_are_made_up_for(world: Night) -> None:
    """C2: without a date every day that is over and has no complete run is reconciled, oldest first."""
    nights(world, missed=2)
    told: list[date] = []
    results = reconcile.catch_up(client(world), on_result=lambda result: told.append(date.fromisoformat(result.day)))
    assert told == [FIRST + DAY, FIRST + 2 * DAY, FIRST + 3 * DAY]
    assert [result.day for result in results] == [day.isoformat() for day in told]
    assert days(world) == ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]
    assert fired(world) == {}
    assert reconcile.due(client(world)).days == (FIRST + 3 * DAY,)  # again, and nothing of it changes


def test_at_most_31_days(world: Night) -> None:
    """C2: one call makes up for 31 days, and says how many are left for others."""
    nights(world, missed=39)
    found = reconcile.due(client(world))
    assert (found.days[0], found.days[-1], len(found.days), found.left) == (FIRST + DAY, FIRST + 31 * DAY, 31, 9)
    alert = fired(world)["days_missed"]
    assert (alert.count, "2026-12-21 and 7 more (UTC)" in alert.message) == (38, True)


def test_a_young_store(world: Night) -> None:
    """C2: where no run was ever complete it is yesterday, and today so far of a store that is younger than that."""
    assert reconcile.due(client(world)).days == (FIRST,)
    world.pay("order_1")
    assert reconcile.due(client(world)).days == (FIRST,)
    world.clock.advance(hours=24)
    assert reconcile.due(client(world)).days == (FIRST,)
    world.clock.advance(hours=240)
    assert reconcile.due(client(world)).days == (FIRST + 10 * DAY,)


def test_a_day_that_was_begun_first_of_all(world: Night) -> None:
    """C2: a day that was begun and never completed is due, also when it is before the first complete one."""
    world.pay("order_1")
    world.answer(503, on=("GET", "/v1/charges"), times=6)
    assert not world.run(FIRST).complete
    world.clock.advance(hours=48)
    assert world.run(FIRST + DAY).complete
    assert reconcile.due(client(world)).days == (FIRST,)
    assert reconcile.due(client(world), "Europe/Berlin").days == (FIRST + DAY,)


def test_a_day_that_cannot_be_read_keeps_no_other_waiting(world: Night) -> None:
    """C2: an incomplete day is a result; the next are tried, and the next call begins with it."""
    nights(world, missed=1)
    world.answer(503, on=("GET", "/v1/charges"), times=6)
    first, second = reconcile.catch_up(client(world))
    assert (first.day, first.complete, second.day, second.complete) == ("2026-11-21", False, "2026-11-22", True)
    assert reconcile.due(client(world)).days == (FIRST + DAY,)


def test_reconcile_without_a_date(shell: NightShell) -> None:
    """C2: `paycli reconcile` tells of each day; its exit code is the worst of theirs; `--date` stays as it is."""
    nights(shell, missed=1)
    shell.change("order_1", created=int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()), amount=2500)
    shell.sandbox.fault("unavailable_503", times=6, on="GET /v1/charges")
    first = shell.paycli("reconcile", "--json")
    assert [(one["window_start"][:10], one["complete"]) for one in first.objects] == [
        ("2026-11-21", False),
        ("2026-11-22", True),
    ]
    assert (first.code, "--date 2026-11-21 --tz UTC" in first.err) == (3, True)
    second = shell.paycli("reconcile", "--json")
    assert [(one["window_start"][:10], one["complete"]) for one in second.objects] == [("2026-11-21", True)]
    assert (second.code, second.objects[0]["flagged"]) == (1, 1)
    lines = shell.paycli("reconcile").out.splitlines()
    assert [line for line in lines if "complete" in line] == ["2026-11-22 (UTC): complete"]


def test_a_dry_run_without_a_date(shell: NightShell) -> None:
    """C2: a dry run looks at each day that is due, and changes nothing."""
    nights(shell, missed=1)
    before = shell.dump()
    run = shell.paycli("reconcile", "--dry-run", "--json")
    assert (run.code, [one["dry_run"] for one in run.objects], shell.dump()) == (0, [True, True], before)
