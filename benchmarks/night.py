"""Section `night`: one run over a day that agrees, at several sizes, beside a naive one and beside only fetching."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import Bench
from benchmarks.inside import plant
from benchmarks.modes import WORDS
from benchmarks.nights import plant_payments
from benchmarks.places import KINDS
from benchmarks.planting import Plan, plan_night
from benchmarks.processes import run_child
from benchmarks.provider import serving
from benchmarks.sections import Section, Table, shown

RUN_S_MAX = 3600.0
MB = 1_000_000


def night(bench: Bench) -> Section:
    """Measure every size in turn; ratios are to the naive reconciler and to the fetching of the same round."""
    section = Section("night")
    table = Table(
        "The nightly run",
        ("charges", "by", "us a charge", "x naive", "x fetch", "peak MB", "bytes a row", "run's bytes a row", "failed"),
        note=f"naive: looks up {bench.scale.naive_night:,} charges at most; x naive: how many times faster than it; "
        "bytes a row: of the store, with indexes, sends and events, before the run, and what the run has added",
    )
    for size in bench.scale.nights:
        _size(bench, section, table, size)
    _keep_growth(section, 100_000, 1_000_000)
    section.tables.append(table)
    return section


def _size(bench: Bench, section: Section, table: Table, size: int) -> None:
    rounds: list[dict[str, float]] = []
    with _stores(bench, size) as stores, _payments(bench, min(size, bench.scale.naive_night)) as payments:
        plan, places = stores
        naive_plan, naive_places = payments
        for _ in bench.going(
            bench.scale.rounds, bench.scale.night_s_max / len(bench.scale.nights), f"night of {size:,}"
        ):
            values: dict[str, float] = {}
            values |= _run(bench, section, size, "fetch", plan, None)
            for kind in KINDS:
                values |= _run(bench, section, size, f"naive-{kind}", naive_plan, naive_places[kind])
                values |= _run(bench, section, size, f"ours-{kind}", plan, places[kind])
            for kind in KINDS:
                values |= _compared(values, kind)
            rounds.append(values)
        for kind in KINDS:
            rounds[0][f"ours-{kind}/bytes"] = (bench.places.size(places[kind]) - _empty_bytes(bench, kind)) / size
    for name in sorted({name for one in rounds for name in one}):
        section.keep(f"night/{size}/{name}", [one[name] for one in rounds if name in one])
    for who, label in _labels():
        _row(section, table, size, who, label)


def _labels() -> Iterator[tuple[str, str]]:
    yield "fetch", "fetch and decode only"
    for kind in KINDS:
        yield f"naive-{kind}", f"naive on the SDK, {WORDS[kind]}"
        yield f"ours-{kind}", f"ours, {WORDS[kind]}"


def _row(section: Section, table: Table, size: int, who: str, label: str) -> None:
    def found(name: str, digits: int = 1, factor: float = 1.0) -> str:
        return shown(section.figures.get(f"night/{size}/{who}/{name}"), digits, factor)

    table.rows.append(
        (
            f"{size:,}",
            label,
            found("us"),
            found("faster_than_naive"),
            found("x_fetch"),
            found("peak_bytes", 0, 1 / MB),
            found("bytes", 0),
            found("added_bytes", 0),
            str(section.failures_of(f"{size:,} charges, {who}")),
        )
    )


def _run(bench: Bench, section: Section, size: int, who: str, plan: Plan, database: str | None) -> dict[str, float]:
    """Do one run on a copy of the store, and return its figures."""
    copy = None if database is None else bench.places.copy(database)
    try:
        with serving(bench.program, night=plan.night, delay_ms=bench.delay_ms) as provider:
            job: dict[str, Any] = {
                "task": "night",
                "who": who.partition("-")[0],
                "provider": provider.url,
                "database": copy,
                "day": plan.day.isoformat(),
                "count": plan.count,
            }
            before = 0 if copy is None else bench.places.size(copy)
            result = run_child(job, RUN_S_MAX)
            where = f"{size:,} charges, {who}"
            if "error" in result:
                section.failed(where, {result["error"]: 1})
                return {}
            section.failed(where, result["failed"])
            values = {
                f"{who}/us": 1e6 * result["elapsed_s"] / plan.count,
                f"{who}/cpu_us": 1e6 * result["cpu_s"] / plan.count,
                f"{who}/peak_bytes": result["peak_bytes"],
            }
            if copy is not None and job["who"] == "ours":
                values[f"{who}/added_bytes"] = (bench.places.size(copy) - before) / plan.count
            return values
    finally:
        bench.places.drop(copy)


def _compared(values: dict[str, float], kind: str) -> dict[str, float]:
    """Return the ratios of one round: how many times faster than the naive run, and how many times a mere fetch."""
    found: dict[str, float] = {}
    ours = values.get(f"ours-{kind}/us")
    if ours and f"naive-{kind}/us" in values:
        found[f"ours-{kind}/faster_than_naive"] = values[f"naive-{kind}/us"] / ours
    if ours and values.get("fetch/us"):
        found[f"ours-{kind}/x_fetch"] = ours / values["fetch/us"]
    return found


@contextmanager
def _stores(bench: Bench, size: int) -> Iterator[tuple[Plan, dict[str, str]]]:
    """Plant one store of each kind with a night of charges that have succeeded."""
    plan, places = plan_night(bench.places.folder, size), dict[str, str]()
    try:
        for kind in KINDS:
            place = bench.places.fresh(kind)
            assert place is not None
            places[kind] = place
            bench.say(f"night of {size:,}: planting, {WORDS[kind]}")
            with serving(bench.program) as provider:
                plant(place, provider.url, plan.facts)
        yield plan, places
    finally:
        for place in places.values():
            bench.places.drop(place)


def _empty_bytes(bench: Bench, kind: str) -> int:
    """Return what a store takes that has no rows: an empty database of a server has some megabytes of its own."""
    place = bench.places.fresh(kind)
    assert place is not None
    with serving(bench.program) as provider:
        plant(place, provider.url, lambda: iter(()))
    size = bench.places.size(place)
    bench.places.drop(place)
    return size


@contextmanager
def _payments(bench: Bench, size: int) -> Iterator[tuple[Plan, dict[str, str]]]:
    """Plant one table of the naive reconciler in each kind of database."""
    plan, places = plan_night(bench.places.folder, size), dict[str, str]()
    try:
        for kind in KINDS:
            place = bench.places.fresh(kind)
            assert place is not None
            places[kind] = place
            plant_payments(place, plan.facts())
        yield plan, places
    finally:
        for place in places.values():
            bench.places.drop(place)


def _keep_growth(section: Section, small: int, large: int) -> None:
    """Keep what a night ten times as large costs for a charge, and how much more memory it needs."""
    for kind in KINDS:
        for name, figure in (("us", "x_time"), ("peak_bytes", "more_bytes")):
            one = section.figures.get(f"night/{small}/ours-{kind}/{name}")
            other = section.figures.get(f"night/{large}/ours-{kind}/{name}")
            if one is not None and other is not None:
                value = other.median / one.median if name == "us" else other.median - one.median
                section.keep(f"night/growth/{kind}/{figure}", [value])
