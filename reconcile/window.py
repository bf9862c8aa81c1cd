"""Which seconds a run looks at: one day of a time zone, as a half-open window in the provider's time.

Pure: the time comes in as an argument. What is asked of the provider about the window is not decided here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from gateway_client.errors import InvalidInput

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_NOT_IANA = ("localtime", "posix", "posixrules", "right")
"""Files and folders of a time-zone database that are no zones: they differ from one machine to the next."""
_NAME_MAX = 64  # twice the longest; looking for a name with thousands of parts overflows the stack


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open, in the provider's time: start <= created < end. Both aware, UTC, whole seconds."""

    day: date
    tz: str
    start: datetime
    end: datetime
    whole: bool
    """False: the day was not over, `end` is frozen where the run began."""


def window_of(day: date, tz: str, now: datetime) -> Window:
    """The day from its first second in that zone to the first second of the next day, or to `now` if it is not over.

    Windows of consecutive days tile, whatever the zone's clocks do at midnight. Raises InvalidInput("--tz") for an
    unknown zone, InvalidInput("--date") for a day that has not begun or that the zone left out.
    """
    zone = _zone(tz)
    now = _utc(now)
    # Not `type(day) is date`: a test that freezes the time has a `date` of its own.
    if not isinstance(day, date) or isinstance(day, datetime):
        raise InvalidInput("--date", f"must be a date without a time, not {type(day).__name__}")
    try:
        start, end = _first_second(day, zone), _first_second(day + _DAY, zone)
    except OverflowError:
        raise InvalidInput("--date", f"{day} is beyond the years that can be computed with in {tz}") from None
    if start == end:
        raise InvalidInput("--date", f"there was no {day} in {tz}: its clocks left that day out")
    if now < start:
        raise InvalidInput("--date", f"{day} has not begun in {tz}; nothing was asked or changed")
    if now < end:
        # The provider's `created` is whole seconds: one second more takes in everything created until now.
        return Window(day, tz, start, now.replace(microsecond=0) + _SECOND, whole=False)
    return Window(day, tz, start, end, whole=True)


def days_left_out(covered: Iterable[tuple[datetime, datetime]], since: datetime, now: datetime, tz: str) -> list[date]:
    """The days of a zone that are over and not wholly within `covered`, from `since` on, oldest first.

    `covered` are half-open spans, of any days of any zones: a day is made up for by whatever covers all of its seconds.
    """
    zone = _zone(tz)
    left_out: list[date] = []
    for start, end in _gaps(covered, _utc(since), _utc(now)):
        at = start
        while at < end:
            window = window_of(at.astimezone(zone).date(), tz, now)
            if not window.whole:
                break
            if window.day not in left_out[-1:]:
                left_out.append(window.day)
            at = window.end
    return left_out


def _gaps(
    covered: Iterable[tuple[datetime, datetime]], since: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """What lies between the spans, in order."""
    for start, end in sorted(covered):
        if start > since:
            yield since, min(start, until)
        since = max(since, end)
    if since < until:
        yield since, until


def parse_day(text: str, tz: str, now: datetime) -> date:
    """The day that somebody typed: "2026-11-20", or "today" or "yesterday" as they are called in that zone now.

    Raises InvalidInput("--date") for anything else, and InvalidInput("--tz") for an unknown zone.
    """
    zone = _zone(tz)
    now = _utc(now)
    if text == "today":
        return now.astimezone(zone).date()
    if text == "yesterday":
        # The day that ended last, which is not always the date less one: in 2011 Samoa had no 30 December.
        return (_first_second(now.astimezone(zone).date(), zone) - _SECOND).astimezone(zone).date()
    if not isinstance(text, str):
        raise InvalidInput("--date", f"must be text such as 2026-11-20, not {type(text).__name__}")
    fields = text.split("-")
    if [len(field) for field in fields] != [4, 2, 2] or not _digits(*fields):
        raise InvalidInput("--date", 'must be a day such as 2026-11-20, "today" or "yesterday"')
    day = _date(fields)
    if day is None:
        raise InvalidInput("--date", f"the calendar has no {text}")
    return day


def _zone(tz: str) -> tzinfo:
    if tz == "UTC":
        return UTC  # without a time-zone database, too
    parts = tz.split("/") if isinstance(tz, str) and len(tz) <= _NAME_MAX else [""]
    # Every part begins with a letter: no "..", no absolute path, no file of the Python package that holds the zones.
    if parts[0] not in _NOT_IANA and all(part[:1].isalpha() for part in parts):
        try:
            return ZoneInfo(tz)
        except (LookupError, OSError, ValueError):
            pass  # no such zone; a folder; not a zone's file, or no name for a file
    raise InvalidInput("--tz", "must be a time zone that this machine knows, such as UTC or Europe/Berlin")


def _utc(now: datetime) -> datetime:
    if now.utcoffset() is None:
        raise InvalidInput("now", "must be aware: without its zone it is no moment")
    return now.astimezone(UTC)


def _first_second(day: date, zone: tzinfo) -> datetime:
    """When the zone's clocks first show this day or, if they skip it, a later one."""
    midnight = datetime.combine(day, time(), zone)
    # Where midnight comes twice, this is the first of the two. Where it never comes, this is in the day and the other
    # reading before it: clocks were put forward in between, not always from midnight.
    inside = midnight.astimezone(UTC)
    if inside.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return inside
    outside = midnight.replace(fold=1).astimezone(UTC)
    while inside - outside > _SECOND:
        middle = outside + (inside - outside) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).date() < day:
            outside = middle
        else:
            inside = middle
    return inside


def _digits(*fields: str) -> bool:
    return all(field.isascii() and field.isdigit() for field in fields)


def _date(fields: list[str]) -> date | None:
    """Of year, month and day in digits; None when there is no such day."""
    try:
        year, month, day = map(int, fields)
        return date(year, month, day)
    except ValueError:
        return None
