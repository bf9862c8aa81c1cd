"""Section `charge`: charges a second by every mode, at 1, 8 and 64 in flight, as ratios to the bare SDK of the round.

Section `crowd` is here, too: 256 in flight over four processes on one database, where every call must succeed.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from benchmarks.arithmetic import ratios
from benchmarks.bench import SETTLE_S_MAX, Bench
from benchmarks.modes import BASE, MODES, OURS, Mode
from benchmarks.processes import READY_S_MAX, Child
from benchmarks.provider import Provider, serving
from benchmarks.sections import Section, Table, shown

LEVELS = (1, 8, 64)
PROCESSES, CROWD = 4, 256
CHARGE_S_MAX = 900.0
VALUES = ("per_s", "cpu_ms", "p50_ms", "p99_ms")


def charge(bench: Bench) -> Section:
    """Measure every mode in turn within each round."""
    section, rounds = Section("charge"), list[dict[str, float]]()
    modes = [mode for mode in MODES if not _missing(mode, section)]
    for _ in bench.going(bench.scale.rounds, CHARGE_S_MAX, "charge"):
        values: dict[str, float] = {}
        for mode in modes:
            result = bench.charge(mode, LEVELS)
            values |= _values_of(mode, result, section)
        rounds.append(values)
    for mode in modes:
        for level in LEVELS:
            _keep(section, rounds, mode, level)
    section.tables = [_table(section, modes, level) for level in LEVELS]
    return section


def _missing(mode: Mode, section: Section) -> bool:
    why = mode.missing()
    if why is not None:
        section.missing[mode.label] = why
    return why is not None


def _values_of(mode: Mode, result: dict[str, Any], section: Section) -> dict[str, float]:
    """Return one round's figures of a mode; what failed in it is counted."""
    values: dict[str, float] = {}
    if "error" in result:
        section.failed(f"{mode.label}, the process", {result["error"]: 1})
        return values
    for burst in result["bursts"]:
        where = f"{mode.name}/{burst['in_flight']}"
        section.failed(f"{mode.label}, {burst['in_flight']} in flight", burst["failed"])
        values |= {f"{where}/{name}": burst[name] for name in VALUES if burst[name] is not None}
        if burst["p50_ms"]:
            values[f"{where}/tail"] = burst["p99_ms"] / burst["p50_ms"]
    return values


def _keep(section: Section, rounds: list[dict[str, float]], mode: Mode, level: int) -> None:
    where = f"{mode.name}/{level}"
    for name in (*VALUES, "tail"):
        section.keep(f"charge/{where}/{name}", [one[f"{where}/{name}"] for one in rounds if f"{where}/{name}" in one])
    section.keep(f"charge/{where}/ratio", ratios(rounds, f"{where}/per_s", f"{BASE}/{level}/per_s"))
    failures = section.failures_of(f"{mode.label}, {level} in flight")
    section.keep(f"charge/{where}/failed", [float(failures)])


def _table(section: Section, modes: list[Mode], level: int) -> Table:
    table = Table(
        f"Charges, {level} in flight",
        ("mode", "x bare SDK", "charges/s", "CPU ms", "p50 ms", "p99 ms", "p99/p50", "failed"),
        note="median (lowest to highest round); ratios are to the official SDK, sync, of the same round",
    )
    for mode in modes:
        where = f"charge/{mode.name}/{level}"
        found = section.figures.get
        table.rows.append(
            (
                mode.label,
                shown(found(f"{where}/ratio")),
                shown(found(f"{where}/per_s"), 0),
                *(shown(found(f"{where}/{name}"), 1) for name in (*VALUES[1:], "tail")),
                str(section.failures_of(f"{mode.label}, {level} in flight")),
            )
        )
    table.rows += [(label, f"not measured: {why}", *[""] * 6) for label, why in section.missing.items()]
    return table


def crowd(bench: Bench) -> Section:
    """Put 256 calls in flight from four processes on one database; count those that fail."""
    section = Section("crowd")
    columns = ("mode", "charges/s", "p50 ms", "p99 ms", "failed", "of")
    note = "p50 and p99: median (lowest to highest) of the processes of all rounds"
    table = Table(f"{CROWD} in flight over {PROCESSES} processes, one database", columns, note=note)
    for mode in OURS:
        per_s, p50, p99, done = list[float](), list[float](), list[float](), 0
        for _ in bench.going(bench.scale.crowd_rounds, 60, f"crowd, {mode.label}"):
            bursts = _crowd(bench, mode, section)
            done += sum(burst["done"] for burst in bursts)
            per_s.append(sum(burst["per_s"] for burst in bursts))
            p50 += [burst["p50_ms"] for burst in bursts if burst["p50_ms"]]
            p99 += [burst["p99_ms"] for burst in bursts if burst["p99_ms"]]
        where, failures = f"crowd/{mode.name}", section.failures_of(mode.label)
        section.keep(f"{where}/failed", [float(failures)])
        found = (
            shown(section.keep(f"{where}/per_s", per_s), 0),
            shown(section.keep(f"{where}/p50_ms", p50), 0),
            shown(section.keep(f"{where}/p99_ms", p99), 0),
        )
        table.rows.append((mode.label, *found, str(failures), str(done + failures)))
    section.tables.append(table)
    return section


def _crowd(bench: Bench, mode: Mode, section: Section) -> list[dict[str, Any]]:
    database, children = bench.places.fresh(mode.database), list[Child]()
    try:
        with serving(bench.program, delay_ms=bench.delay_ms) as provider:
            # The first client of an empty database makes its tables: that is not what is measured here.
            first = _job(bench, mode, provider, database) | {"calls": 1, "levels": (1,)}
            section.failed(mode.label, _failures(Child(first).result(SETTLE_S_MAX)))
            job = _job(bench, mode, provider, database) | {"levels": (CROWD // PROCESSES,), "together": True}
            children += [Child(job | {"prefix": secrets.token_hex(4)}) for _ in range(PROCESSES)]
            until = time.monotonic() + READY_S_MAX
            while time.monotonic() < until and not all(child.is_ready() for child in children):
                time.sleep(0.02)
            for child in children:
                child.begin()
            results = [child.result(SETTLE_S_MAX + bench.scale.crowd_s) for child in children]
            for result in results:
                section.failed(mode.label, _failures(result))
            bursts = [burst for result in results for burst in result.get("bursts", ())]
            _compare(section, mode, provider, bursts)
            return bursts
    finally:
        for child in children:
            child.end()
        bench.places.drop(database)


def _job(bench: Bench, mode: Mode, provider: Provider, database: str | None) -> dict[str, Any]:
    return {
        "task": "charge",
        "mode": mode.name,
        "provider": provider.url,
        "database": database,
        "warm": 1,
        "prefix": secrets.token_hex(4),
        "seconds": bench.scale.crowd_s,
    }


def _failures(result: dict[str, Any]) -> dict[str, int]:
    """Return the calls of one process that failed, or the process itself."""
    if "error" in result:
        return {f"the process: {result['error']}": 1}
    failed: dict[str, int] = {}
    for burst in result["bursts"]:
        for what, times in burst["failed"].items():
            failed[what] = failed.get(what, 0) + times
    return failed


def _compare(section: Section, mode: Mode, provider: Provider, bursts: list[dict[str, Any]]) -> None:
    """Compare what callers were told with what the provider has; without failures both are the same number."""
    told = sum(burst["done"] for burst in bursts) + 2 + PROCESSES  # and the calls that warmed up
    made = provider.counters()["payments"]
    if made != told and not section.failures_of(mode.label):
        section.failed(mode.label, {f"callers were told of {told} charges, the provider has {made}": 1})
