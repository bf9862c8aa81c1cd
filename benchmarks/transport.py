"""Section `transport`: the CPU of one exchange by each transport that was considered, over http and over TLS.

The calling process alone is measured. `docs/adr/0001-transport.md` is the decision that these figures are for.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import Any

from benchmarks.arithmetic import ratios
from benchmarks.bench import SETTLE_S_MAX, Bench
from benchmarks.modes import EXCHANGES, Mode
from benchmarks.processes import run_child
from benchmarks.provider import serving
from benchmarks.sections import Section, Table, shown
from benchmarks.tls import encrypted

LEVELS = (1, 8, 64)
SCHEMES = ("http", "https")
BASES = {False: "exchange-httpx", True: "exchange-httpx-async"}  # httpx as it is
TRANSPORT_S_MAX = 600.0
VALUES = ("cpu_ms", "per_s", "p99_ms")
COLUMNS = ("transport", "CPU ms", "x httpx", "exchanges/s", "p99 ms", "failed")


def transport(bench: Bench) -> Section:
    """Measure every transport in turn within each round."""
    section, rounds = Section("transport"), list[dict[str, float]]()
    for mode in EXCHANGES:
        if (why := mode.missing()) is not None:
            section.missing[mode.label] = why
    modes = [mode for mode in EXCHANGES if mode.label not in section.missing]
    for _ in bench.going(bench.scale.rounds, TRANSPORT_S_MAX, "transport"):
        values: dict[str, float] = {}
        for scheme in SCHEMES:
            for mode in modes:
                values |= _measured(bench, mode, scheme, section)
        rounds.append(values)
    for scheme in SCHEMES:
        for level in LEVELS:
            section.tables.append(_table(section, rounds, modes, scheme, level))
    return section


def _measured(bench: Bench, mode: Mode, scheme: str, section: Section) -> dict[str, float]:
    """Return one round's figures of a transport; what failed in it is counted."""
    with ExitStack() as stack:
        provider = stack.enter_context(serving(bench.program, delay_ms=bench.delay_ms))
        reached = stack.enter_context(encrypted(provider)) if scheme == "https" else provider
        job = {
            "task": "charge",
            "mode": mode.name,
            "provider": reached.url,
            "database": None,
            "levels": LEVELS,
            "warm": 5,
            "prefix": secrets.token_hex(4),
            "seconds": bench.scale.burst_s / 2,
        }
        result: dict[str, Any] = run_child(job, SETTLE_S_MAX)
    if "error" in result:
        section.failed(f"{mode.label}, {scheme}", {result["error"]: 1})
        return {}
    values: dict[str, float] = {}
    for burst in result["bursts"]:
        where = f"{mode.name}/{scheme}/{burst['in_flight']}"
        section.failed(f"{mode.label}, {scheme}, {burst['in_flight']}", burst["failed"])
        values |= {f"{where}/{name}": burst[name] for name in VALUES if burst[name] is not None}
    return values


def _table(section: Section, rounds: list[dict[str, float]], modes: list[Mode], scheme: str, level: int) -> Table:
    note = "median (lowest to highest round); ratios are to httpx as it is, of the same kind and the same round"
    table = Table(f"One exchange over {scheme}, {level} in flight", COLUMNS, note=note)
    for mode in modes:
        where, base = f"{mode.name}/{scheme}/{level}", f"{BASES[mode.is_async]}/{scheme}/{level}/cpu_ms"
        kept = {
            name: section.keep(
                f"transport/{where}/{name}", [one[f"{where}/{name}"] for one in rounds if f"{where}/{name}" in one]
            )
            for name in ("cpu_ms", "per_s", "p99_ms")
        }
        times = section.keep(f"transport/{where}/ratio", ratios(rounds, f"{where}/cpu_ms", base))
        table.rows.append(
            (
                mode.label,
                shown(kept["cpu_ms"], 3),
                shown(times),
                shown(kept["per_s"], 0),
                shown(kept["p99_ms"], 1),
                str(section.failures_of(f"{mode.label}, {scheme}, {level}")),
            )
        )
    return table
