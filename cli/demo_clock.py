"""The demo's time: a machine's clock that is moved beside the provider's, and the noon at which its night begins."""

from __future__ import annotations

from datetime import datetime, timedelta

from gateway_client.clock import SystemClock


class MovedClock(SystemClock):
    """This machine's clock, `ahead` of the real one; negative is behind."""

    def __init__(self, ahead: timedelta) -> None:
        self.ahead = ahead

    def time(self) -> float:
        return super().time() + self.ahead.total_seconds()


def noon_of_fifth_day(today: datetime) -> datetime:
    """At least 108 hours later; noon, because a demo must not run into the next day."""
    return (today + timedelta(days=5)).replace(hour=12, minute=0, second=0, microsecond=0)
