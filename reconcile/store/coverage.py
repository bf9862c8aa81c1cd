"""What the runs have looked at so far: the spans of complete ones, and the days that were begun and never completed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select

from gateway_client.columns import runs
from gateway_client.record import Row
from gateway_client.transaction import Transaction

_COMPLETE = (
    select(runs.c.window_start, runs.c.window_end, runs.c.started_at, runs.c.ended_at, runs.c.tz)
    .where(runs.c.complete)
    .order_by(runs.c.ended_at, runs.c.run_id)
)
_BEGUN = (
    select(runs.c.day, runs.c.tz, runs.c.window_start, runs.c.window_end)
    .where(runs.c.ended_at.is_(None))
    .order_by(runs.c.window_end, runs.c.day)
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What complete runs have looked at, in the order in which they ended; and what was begun and never completed."""

    complete: tuple[Row, ...]
    unfinished: tuple[Row, ...]

    @property
    def spans(self) -> tuple[tuple[datetime, datetime], ...]:
        """The seconds that were looked at."""
        return tuple((row["window_start"], row["window_end"]) for row in self.complete)

    @property
    def since(self) -> datetime | None:
        """The beginning of the first complete run's window; None when no run was ever complete."""
        return self.complete[0]["window_start"] if self.complete else None

    @property
    def newest(self) -> Row | None:
        """The run that reaches furthest, of several the first: to do an old day again is no news of a new one."""
        return max(self.complete, key=lambda row: row["window_end"], default=None)

    @property
    def reach(self) -> datetime | None:
        """The end of the latest day that was over when its run began: the nights before it have passed."""
        whole = (row["window_end"] for row in self.complete if row["window_end"] <= row["started_at"])
        return max(whole, default=None)

    def begun(self, tz: str) -> set[date]:
        """Days of a zone that were begun and never completed."""
        return {date.fromisoformat(row["day"]) for row in self.unfinished if row["tz"] == tz}


def read_coverage(tx: Transaction) -> Coverage:
    """What was looked at, by runs of any day and zone: a few numbers for each night that ever was."""
    complete = tuple(tx.execute(_COMPLETE).mappings())
    return Coverage(complete, tuple(tx.execute(_BEGUN).mappings()))
