"""Declare what must hold, in one table, and judge the figures of a run by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.arithmetic import Measure

REACHED_GOAL, REACHED, NOT_REACHED, NOT_MEASURED = "goal reached", "reached", "NOT REACHED", "not measured"
MB = 1_000_000


class Side(StrEnum):
    """Say on which side of its bound a figure must be."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Target:
    """State one bound: the worst median of all these figures must keep it."""

    what: str
    side: Side
    must: float
    goal: float | None
    figures: tuple[str, ...]
    unit: float = 1.0  # what a figure is divided by before it is compared and shown


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold a bound beside what was measured."""

    target: Target
    measured: float | None
    word: str


def _both(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(kind) for kind in ("sqlite", "postgresql"))


_MORE, _LESS = Side.AT_LEAST, Side.AT_MOST
_ALONE = ("charge/ours-sync-{0}/1/ratio", "charge/ours-async-{0}/1/ratio")
_OURS = tuple(f"ours-{how}-{kind}" for how in ("sync", "async") for kind in ("sqlite", "postgresql"))

TARGETS = (
    Target("charge, 1 at a time, x bare SDK, SQLite", _MORE, 0.9, 1.1, tuple(one.format("sqlite") for one in _ALONE)),
    Target("the same on PostgreSQL", _MORE, 0.7, 1.0, tuple(one.format("postgresql") for one in _ALONE)),
    Target("charge, 64 in flight, async, x bare SDK", _MORE, 3, 4, _both("charge/ours-async-{}/64/ratio")),
    Target("charge, 64 threads, sync, x bare SDK", _MORE, 1.2, 2, _both("charge/ours-sync-{}/64/ratio")),
    Target(
        "calls that fail, 256 in flight, four processes", _LESS, 0, 0, tuple(f"crowd/{one}/failed" for one in _OURS)
    ),
    Target("p99 / p50 at 64 in flight", _LESS, 8, 4, tuple(f"charge/{one}/64/tail" for one in _OURS)),
    Target("charge with 1 M settled rows, x empty store", _LESS, 1.2, 1.05, _both("settled/{}/1000000/ratio")),
    Target("nightly run, 100 k, x naive reconciler", _MORE, 15, 25, _both("night/100000/ours-{}/faster_than_naive")),
    Target("nightly run, 100 k, x fetch and decode", _LESS, 4, 2.5, _both("night/100000/ours-{}/x_fetch")),
    Target("nightly run, 1 M, time a charge, x 100 k", _LESS, 1.2, None, _both("night/growth/{}/x_time")),
    Target("nightly run, 1 M, more memory than 100 k, MB", _LESS, 10, None, _both("night/growth/{}/more_bytes"), MB),
    Target(
        "CPU of paycli show, pending, alerts, x import sqlmodel",
        _LESS,
        1.2,
        1.1,
        tuple(f"startup/paycli {command}/ratio" for command in ("show", "pending", "alerts")),
    ),
    Target(
        "worker --until-idle, 1 and 3, x a client with 64 in flight",
        _MORE,
        0.5,
        None,
        ("worker/1 worker/x_client", "worker/3 workers/x_client"),
    ),
    Target("3 workers, x 1 worker", _MORE, 2, None, ("worker/3 workers/x_one",)),
)


def judge(figures: Mapping[str, Measure]) -> list[Verdict]:
    """Set every bound beside the worst of its figures; a bound that lacks one of them is not measured."""
    return [_judge(target, figures) for target in TARGETS]


def _judge(target: Target, figures: Mapping[str, Measure]) -> Verdict:
    found = [figures[name].median / target.unit for name in target.figures if name in figures]
    if len(found) < len(target.figures):
        return Verdict(target, None, NOT_MEASURED)
    worst = min(found) if target.side is Side.AT_LEAST else max(found)
    if not _keeps(target.side, worst, target.must):
        return Verdict(target, worst, NOT_REACHED)
    at_goal = target.goal is not None and _keeps(target.side, worst, target.goal)
    return Verdict(target, worst, REACHED_GOAL if at_goal else REACHED)


def _keeps(side: Side, value: float, bound: float) -> bool:
    return value >= bound if side is Side.AT_LEAST else value <= bound
