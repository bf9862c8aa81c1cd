"""The window of a run: which seconds a day has in a zone, which days there are, and what may be typed for one."""

import sys
import zoneinfo
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from freezegun import freeze_time

from gateway_client.errors import InvalidInput
from reconcile.window import Window, parse_day, window_of

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
LATER = datetime(2040, 1, 1, tzinfo=UTC)
"""When every day of these tests is over."""

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def refused(day: Any, tz: Any = "UTC", now: datetime = LATER) -> tuple[str, str]:
    """The field and the problem that `window_of` names."""
    with pytest.raises(InvalidInput) as caught:
        window_of(day, tz, now)
    return caught.value.field, caught.value.problem


def misread(text: Any, tz: Any = "UTC", now: datetime = NOON) -> tuple[str, str]:
    """The field and the problem that `parse_day` names."""
    with pytest.raises(InvalidInput) as caught:
        parse_day(text, tz, now)
    return caught.value.field, caught.value.problem


# --- a day that is over


@pytest.mark.parametrize(
    ("tz", "day", "start", "end"),
    [
        ("UTC", date(2026, 11, 20), "2026-11-20 00:00", "2026-11-21 00:00"),
        ("Etc/UTC", date(2026, 12, 31), "2026-12-31 00:00", "2027-01-01 00:00"),
        ("Europe/Berlin", date(2026, 11, 20), "2026-11-19 23:00", "2026-11-20 23:00"),
        ("Asia/Kathmandu", date(2024, 2, 29), "2024-02-28 18:15", "2024-02-29 18:15"),
        ("Europe/Berlin", date(2018, 3, 25), "2018-03-24 23:00", "2018-03-25 22:00"),  # 23 hours
        ("Europe/Berlin", date(2018, 10, 28), "2018-10-27 22:00", "2018-10-28 23:00"),  # 25 hours
        ("Australia/Lord_Howe", date(2018, 10, 7), "2018-10-06 13:30", "2018-10-07 13:00"),  # 23 and a half
        ("Australia/Lord_Howe", date(2018, 4, 1), "2018-03-31 13:00", "2018-04-01 13:30"),  # 24 and a half
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04 03:00", "2018-11-05 02:00"),  # midnight left out
        ("America/Sao_Paulo", date(2018, 2, 17), "2018-02-17 02:00", "2018-02-18 03:00"),  # back from midnight to 23:00
        ("America/Havana", date(2018, 11, 4), "2018-11-04 04:00", "2018-11-05 05:00"),  # midnight twice, an hour apart
        ("America/St_Johns", date(2010, 11, 6), "2010-11-06 02:30", "2010-11-07 02:30"),  # back from 00:01 to 23:01
        ("America/St_Johns", date(2010, 11, 7), "2010-11-07 02:30", "2010-11-08 03:30"),
        ("America/Toronto", date(1919, 3, 31), "1919-03-31 04:30", "1919-04-01 04:00"),  # on from 23:30 to 00:30
        ("Pacific/Apia", date(2011, 12, 29), "2011-12-29 10:00", "2011-12-30 10:00"),  # before the day left out
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30 10:00", "2011-12-31 10:00"),  # after it
    ],
)
def test_day_in_its_zone(tz: str, day: date, start: str, end: str) -> None:
    """A day lasts from its first second in the zone to the first second of the next, however long that is."""
    assert window_of(day, tz, LATER) == Window(day, tz, utc(start), utc(end), whole=True)


def test_first_and_last_second() -> None:
    """The first second of the day is inside, and the last, and not the one before or after."""
    window = window_of(date(2026, 11, 20), "Europe/Berlin", LATER)
    berlin = ZoneInfo("Europe/Berlin")
    inside = [
        window.start <= created.astimezone(UTC) < window.end
        for created in (
            datetime(2026, 11, 19, 23, 59, 59, tzinfo=berlin),
            datetime(2026, 11, 20, 0, 0, 0, tzinfo=berlin),
            datetime(2026, 11, 20, 23, 59, 59, tzinfo=berlin),
            datetime(2026, 11, 21, 0, 0, 0, tzinfo=berlin),
        )
    ]
    assert inside == [False, True, True, False]


def days_of_change() -> Iterator[tuple[str, list[date]]]:
    """Every zone, and the days of 2005 to 2030 around each change of its clocks. Of zones that agree, one."""
    samples = [datetime(2005, 1, 1, tzinfo=UTC) + 3 * DAY * number for number in range(26 * 365 // 3)]
    seen = set()
    for tz in sorted(zoneinfo.available_timezones() - {"localtime"}):
        zone = ZoneInfo(tz)
        offsets = tuple(sample.astimezone(zone).utcoffset() for sample in samples)
        if offsets not in seen:
            seen.add(offsets)
            changes = [before for before, a, b in zip(samples, offsets, offsets[1:], strict=False) if a != b]
            yield tz, [change.date() + DAY * number for change in [samples[0], *changes] for number in range(-1, 6)]


def test_days_tile_in_every_zone() -> None:
    """In every zone a day begins when its clocks first show it, where the day before ends; a day without is refused."""
    wrong, left_out = [], []
    zones = list(days_of_change())
    for tz, days in zones:
        zone = ZoneInfo(tz)
        for day in days:
            try:
                window = window_of(day, tz, LATER)
            except InvalidInput:
                left_out.append((tz, str(day)))
                continue
            before, first = (window.start - SECOND).astimezone(zone), window.start.astimezone(zone)
            last, after = (window.end - SECOND).astimezone(zone), window.end.astimezone(zone)
            if not before.date() < day == first.date() == last.date() < after.date():
                wrong.append((tz, window))
            if after.date() == day + DAY and window_of(day + DAY, tz, LATER).start != window.end:
                wrong.append((tz, window))
    assert wrong == []
    assert set(left_out) <= {("Pacific/Apia", "2011-12-30"), ("Pacific/Fakaofo", "2011-12-30")}
    assert sum(len(days) for _, days in zones) > 10_000


def test_window_is_in_utc_and_whole_seconds() -> None:
    """Start and end are in UTC and whole seconds, frozen or not, whatever zone `now` comes in."""
    now = datetime(2026, 11, 20, 12, 0, 0, 999_999, tzinfo=ZoneInfo("Asia/Tokyo"))
    for day in (date(2026, 11, 19), date(2026, 11, 20)):
        window = window_of(day, "Europe/Berlin", now)
        assert [window.start.tzinfo, window.end.tzinfo] == [UTC, UTC]
        assert [window.start.microsecond, window.end.microsecond] == [0, 0]


# --- a day that is not over


@pytest.mark.parametrize(
    ("now", "end", "whole"),
    [
        ("2026-11-19 23:00:00", "2026-11-19 23:00:01", False),  # it begins
        ("2026-11-20 12:34:56.000001", "2026-11-20 12:34:57", False),
        ("2026-11-20 12:34:56.999999", "2026-11-20 12:34:57", False),
        ("2026-11-20 12:34:57", "2026-11-20 12:34:58", False),  # what was created in this second is inside
        ("2026-11-20 22:59:59.999999", "2026-11-20 23:00:00", False),
        ("2026-11-20 23:00:00", "2026-11-20 23:00:00", True),  # it is over
        ("2026-11-20 23:00:01", "2026-11-20 23:00:00", True),
    ],
)
def test_end_is_frozen_at_now(now: str, end: str, whole: bool) -> None:
    """Of a day that is not over, the window ends after the second in which the run began, and says so."""
    day = date(2026, 11, 20)
    expected = Window(day, "Europe/Berlin", utc("2026-11-19 23:00"), utc(end), whole=whole)
    assert window_of(day, "Europe/Berlin", utc(now)) == expected


@pytest.mark.parametrize("now", ["2026-11-19 22:59:59.999999", "2026-11-18 00:00"])
def test_day_that_has_not_begun(now: str) -> None:
    """A day that has not begun in the zone is refused, and the message says that nothing happened."""
    problem = "2026-11-20 has not begun in Europe/Berlin; nothing was asked or changed"
    assert refused(date(2026, 11, 20), "Europe/Berlin", utc(now)) == ("--date", problem)


def test_now_must_be_aware() -> None:
    """A time without a zone is refused: it would be read as this machine's."""
    naive = datetime(2026, 11, 20, 12)  # noqa: DTZ001 - meant
    assert refused(date(2026, 11, 20), now=naive)[0] == "now"
    assert misread("today", now=naive)[0] == "now"


# --- a day that is none


@pytest.mark.parametrize("now", [LATER, utc("2005-01-01")])
def test_day_that_the_zone_left_out(now: datetime) -> None:
    """Samoa went from 29 to 31 December 2011: the day between is refused, not taken for an empty one."""
    problem = "there was no 2011-12-30 in Pacific/Apia: its clocks left that day out"
    assert refused(date(2011, 12, 30), "Pacific/Apia", now) == ("--date", problem)


@pytest.mark.parametrize("day", [datetime(2026, 11, 20, tzinfo=UTC), "2026-11-20", 20261120, 1.5, None, True])
def test_day_must_be_a_date(day: object) -> None:
    """Nothing but a date is a day: not a datetime, not text, not a number."""
    assert refused(day) == ("--date", f"must be a date without a time, not {type(day).__name__}")


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "Etc/GMT+12", "America/Santiago"])
@pytest.mark.parametrize("now", [LATER, datetime.max.replace(tzinfo=UTC) - 2 * DAY, datetime.min.replace(tzinfo=UTC)])
def test_years_at_the_edge(tz: str, now: datetime) -> None:
    """The first and last days that a date can hold have a window or are refused, and nothing overflows."""
    for day in [date.min, date.min + DAY, date.max - 2 * DAY, date.max - DAY]:
        with suppress(InvalidInput):
            assert window_of(day, tz, now).day == day
    assert refused(date.max, tz, now) == ("--date", f"9999-12-31 is beyond the years that can be computed with in {tz}")


def test_frozen_time() -> None:
    """A program that tests itself with the time frozen can ask for its frozen days."""
    real = date(2018, 11, 4)
    with freeze_time("2018-11-04 12:00:00"):
        assert window_of(real, "UTC", datetime.now(UTC)).start == utc("2018-11-04")
        for tz, start in [("America/Havana", "2018-11-04 04:00"), ("America/Sao_Paulo", "2018-11-04 03:00")]:
            day = parse_day("today", tz, datetime.now(UTC))
            assert window_of(day, tz, datetime.now(UTC)).start == utc(start)


# --- the zone


BAD_ZONES = [
    *["Europe/Berln", "", " ", "UTC ", "Europe/Berlin\n", "UTC+1", "+01:00", "CEST", "Zürich", "\ud800"],
    *["../etc/passwd", "/etc/passwd", "/usr/share/zoneinfo/UTC", "Europe/../UTC", "./UTC", "..", "/", "C:\\Windows"],
    *["America", "America/", "Europe//Berlin", "Europe/Berlin/", "America/Argentina"],  # folders, or names like them
    *["\0", "UTC\0", "Europe/Berlin\0", "Europe\0/Berlin"],
    *["A" * 10_000, "A/" * 10_000 + "A"],
    *["tzdata.zi", "zone.tab", "leapseconds", "__init__/x", "__init__", "Europe/__init__"],  # files beside the zones
    *["localtime", "posixrules", "posix/Europe/Berlin", "right/Europe/Berlin"],  # not the same on every machine
    *[None, 1, b"UTC", UTC, ZoneInfo("Europe/Berlin"), ["UTC"]],
]


@pytest.mark.parametrize("tz", BAD_ZONES, ids=[repr(tz)[:24] for tz in BAD_ZONES])
def test_zone_that_is_none(tz: object) -> None:
    """What is no zone's name is refused, with two that are, and is not repeated."""
    expected = "--tz", "must be a time zone that this machine knows, such as UTC or Europe/Berlin"
    assert refused(date(2026, 11, 20), tz) == expected
    assert misread("today", tz) == expected
    assert misread("2026-11-20", tz) == expected


@pytest.fixture
def no_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a time-zone database, and without the package that stands in for one."""
    for name in ["tzdata", "tzdata.zoneinfo", *(name for name in sys.modules if name.startswith("tzdata."))]:
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    ZoneInfo.clear_cache()


@pytest.mark.usefixtures("no_zones")
def test_utc_needs_no_database() -> None:
    """UTC works on a machine that has no time-zone database; another zone is refused there."""
    assert window_of(date(2026, 11, 20), "UTC", LATER).start == utc("2026-11-20")
    assert parse_day("yesterday", "UTC", NOON) == date(2026, 11, 19)
    assert refused(date(2026, 11, 20), "Europe/Berlin")[0] == "--tz"


# --- what is typed for a day


@pytest.mark.parametrize(
    ("text", "tz", "now", "expected"),
    [
        ("2026-11-20", "UTC", NOON, date(2026, 11, 20)),
        ("2024-02-29", "UTC", NOON, date(2024, 2, 29)),
        ("0001-01-01", "UTC", NOON, date(1, 1, 1)),
        ("2030-01-01", "UTC", NOON, date(2030, 1, 1)),  # that it has not begun is said where its window is made
        ("today", "UTC", NOON, date(2026, 11, 20)),
        ("yesterday", "UTC", NOON, date(2026, 11, 19)),
        ("today", "Pacific/Kiritimati", NOON, date(2026, 11, 21)),
        ("yesterday", "Pacific/Kiritimati", NOON, date(2026, 11, 20)),
        ("today", "Europe/Berlin", utc("2026-11-20 22:59:59"), date(2026, 11, 20)),
        ("today", "Europe/Berlin", utc("2026-11-20 23:00:00"), date(2026, 11, 21)),
        ("today", "UTC", datetime(2026, 11, 20, 1, tzinfo=timezone(timedelta(hours=2))), date(2026, 11, 19)),
        ("yesterday", "Europe/Berlin", utc("2018-03-25 22:00:00"), date(2018, 3, 25)),  # after 23 hours
        ("yesterday", "Europe/Berlin", utc("2018-10-28 22:59:59"), date(2018, 10, 27)),  # in a 25th hour
        ("yesterday", "Pacific/Apia", utc("2011-12-30 10:00:00"), date(2011, 12, 29)),  # there was no 30th
    ],
)
def test_days_that_can_be_typed(text: str, tz: str, now: datetime, expected: date) -> None:
    """A day is typed as a date, or as today or yesterday, which are those of the zone."""
    assert parse_day(text, tz, now) == expected


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "-", "--", "tomorrow", "Today", "YESTERDAY", "today ", "now", "-1", "20", "2026", "2026-11"],
        *["5/6/2026", "05-06-2026", "31.13.2026", "20.11.26", "26-11-20", "2026-11-31-1"],
        *["2026-W47-5", "2026W475", "2026-324", "2026-11-20T00:00", "2026-11-20T00:00:00Z", "2026-11-20 00:00"],
        *["+026-11-20", "2026-+1-20", "2026-1 -20", "2026-11-2O", "2_26-11-20", "２０２６-11-20", "٢٠٢٦-١١-٢٠"],
        *["20.11.2026", "20/11/2026", "11/20/2026", "2026/11/20", "20261120", "2026-1-5"],
        *[" 2026-11-20 ", "2026-11-20\n"],
        *["2026–11–20", "12026-11-20", "\0", "2026-11-20\0", "9" * 10_000, "\ud800"],
    ],
)
def test_text_that_is_no_day(text: str) -> None:
    """Whatever else is typed is refused, and not repeated."""
    assert misread(text) == ("--date", 'must be a day such as 2026-11-20, "today" or "yesterday"')


@pytest.mark.parametrize("text", ["2026-11-31", "2026-02-29", "2026-13-01", "2026-00-10", "2026-11-00", "0000-01-01"])
def test_day_that_no_calendar_has(text: str) -> None:
    """A day that is written well and does not exist is refused as such."""
    assert misread(text) == ("--date", f"the calendar has no {text}")


@pytest.mark.parametrize("text", [None, 20261120, date(2026, 11, 20), b"2026-11-20"])
def test_day_must_be_typed(text: object) -> None:
    """What is no text is refused."""
    assert misread(text) == ("--date", f"must be text such as 2026-11-20, not {type(text).__name__}")
