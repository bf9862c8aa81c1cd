"""Days without a complete run: which ones are due, and `catch_up`, which reconciles them, oldest first.

What one run does is `job.py`'s; who is woken about such days is `alerts.py`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from gateway_client.client import Client
from gateway_client.flow.effects import Now
from gateway_client.store.registry import perform
from reconcile.ages import AGES, Ages
from reconcile.effects import ReadBeginning
from reconcile.job import Listener, checked, ignore, run
from reconcile.report import RunResult
from reconcile.store.coverage import read_coverage
from reconcile.throttle import RATE, WINDOWS
from reconcile.window import days_left_out, parse_day, window_of

DAYS_MAX = 31  # in one call: a job that was off for a year must not work for days before it tells anything


@dataclass(frozen=True, slots=True)
class Due:
    """Which days to reconcile now, oldest first, and how many more are left for other calls."""

    days: tuple[date, ...]
    left: int = 0


def due(client: Client, tz: str = "UTC") -> Due:
    """The days of `tz` that are over and wait for a complete run, at most 31 of them, oldest first.

    They are those since the first complete run, and those that were begun and never completed. When there are none, or
    no run was ever complete: yesterday; today so far, when the store is younger than that. Raises InvalidInput for an
    unusable zone, StoreUnavailable.
    """
    now = checked(client).perform(Now())
    yesterday = parse_day("yesterday", tz, now)
    known = client.transact(read_coverage, write=False)
    days = {day for day in known.begun(tz) if window_of(day, tz, now).whole}
    if known.since is not None:
        days |= set(days_left_out(known.spans, known.since, now, tz))
    if known.since is None or not days:
        beginning = client.transact(lambda tx: perform(tx, ReadBeginning()), write=False) or now
        young = window_of(yesterday, tz, now).end <= beginning
        days.add(parse_day("today", tz, now) if young else yesterday)
    ordered = sorted(days)
    return Due(tuple(ordered[:DAYS_MAX]), len(ordered[DAYS_MAX:]))


def catch_up(
    client: Client,
    tz: str = "UTC",
    dry_run: bool = False,
    *,
    ages: Ages = AGES,
    rate: float = RATE,
    windows: int = WINDOWS,
    on_progress: Listener = ignore,
    on_result: Callable[[RunResult], None] = lambda result: None,
) -> tuple[RunResult, ...]:
    """Reconcile every day that is due, one run each; `on_result` is told of each as it ends.

    A day that could not be read to its end is a result like every other, and does not keep the next from being tried.
    Raises what `run` raises: the days before that are done.
    """
    results: list[RunResult] = []
    for day in due(client, tz).days:
        results.append(run(client, day, tz, dry_run, ages=ages, rate=rate, windows=windows, on_progress=on_progress))
        on_result(results[-1])
    return tuple(results)
