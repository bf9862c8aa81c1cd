"""What of the alerts is news to a receiver: one delivery for each cause until it changes or clears, one when it clears.

Pure; what a receiver was told is kept by `store/told.py`, after it has arrived and never before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconcile.alerts import Alert


@dataclass(frozen=True, slots=True)
class Told:
    """A cause as a receiver has heard of it last."""

    cause: str
    severity: str
    count: int
    since: datetime | None  # the oldest of its rows
    latest: datetime | None  # the youngest
    told_at: datetime


@dataclass(frozen=True, slots=True)
class News:
    """What a receiver has not heard yet, and what is to be remembered once it has."""

    alerts: tuple[Alert, ...]
    cleared: tuple[str, ...]  # causes that it was told of, and that are no more
    remembered: tuple[Told, ...]

    @property
    def any(self) -> bool:
        """Whether there is something to deliver."""
        return bool(self.alerts or self.cleared)


def news(found: Sequence[Alert], told: Mapping[str, Told], now: datetime, repeat_after: timedelta | None) -> News:
    """Compare what there is with what was told. `repeat_after`: a cause that lasts is told again after that time."""
    fresh = tuple(alert for alert in found if _is_news(alert, told.get(alert.cause), now, repeat_after))
    # Of what is no news fewer rows may be left: one more than those is a change again.
    remembered = tuple(
        Told(
            alert.cause,
            alert.severity.value,
            alert.count,
            alert.since,
            alert.latest,
            now if alert in fresh else told[alert.cause].told_at,
        )
        for alert in found
    )
    causes = {alert.cause for alert in found}
    return News(fresh, tuple(sorted(cause for cause in told if cause not in causes)), remembered)


def _is_news(alert: Alert, told: Told | None, now: datetime, repeat_after: timedelta | None) -> bool:
    if told is None or alert.severity != told.severity or alert.count > told.count:
        return True
    if alert.latest is not None and (told.latest is None or alert.latest > told.latest):
        return True  # one row went and another came
    if alert.since is not None and told.since is not None and alert.since < told.since:
        return True  # likewise, an older one
    return repeat_after is not None and now - told.told_at >= repeat_after
