"""Section `counts`: what one undisturbed new charge costs, counted: commits, statements, syncs, requests, CPU.

Everything is counted from outside, by PostgreSQL's log and statistics, by SQLite's own trace, by strace and by the
provider. The difference between a long and a short run of the same process leaves its start out of it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from benchmarks.bench import Bench
from benchmarks.modes import MODES, Mode
from benchmarks.places import LOG_MARK, POSTGRESQL, SQLITE
from benchmarks.sections import Section, Table
from benchmarks.usage import is_control, verb

SHORT_CALLS = 10
_SYNC = re.compile(r"\b(?:fsync|fdatasync|sync_file_range|msync)\(")
COLUMNS = ("mode", "commits", "statements", "begin/commit", "by SQLAlchemy", "syncs", "requests", "CPU ms")


def counts(bench: Bench) -> Section:
    """Count for each mode what ten calls more have cost more."""
    section = Section("counts")
    table = Table(
        "One charge, 1 in flight, counted",
        COLUMNS,
        note="statements: all but BEGIN, COMMIT, SAVEPOINT and their like, which are in the next column; commits of "
        "transactions that only read are among them, syncs are not; by SQLAlchemy: cursors that it has executed; "
        "syncs: of the file by strace, of the WAL by PostgreSQL's statistics",
    )
    if shutil.which("strace") is None:
        section.missing["syncs, SQLite"] = "strace is not installed"
    for mode in MODES:
        why = mode.missing()
        if why is not None:
            section.missing[mode.label] = why
            table.rows.append((mode.label, f"not measured: {why}", *[""] * 6))
            continue
        bench.say(f"counts, {mode.label}")
        short, long = (_counted(bench, mode, calls, section) for calls in (SHORT_CALLS, bench.scale.counted))
        cost = _difference(short, long, bench.scale.counted - SHORT_CALLS)
        if "cpu_ms" in long:  # it is of the calls alone already: a difference would only be less exact
            cost["cpu_ms"] = long["cpu_ms"]
        for name, value in cost.items():
            section.keep(f"counts/{mode.name}/{name}", [value])
        table.rows.append((mode.label, *(_number(cost.get(name)) for name in NAMES)))
    section.tables.append(table)
    return section


NAMES = ("commits", "statements", "control", "by_sqlalchemy", "syncs", "requests", "cpu_ms")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _difference(short: Mapping[str, float], long: Mapping[str, float], calls: int) -> dict[str, float]:
    return {name: (long[name] - short[name]) / calls for name in long if name in short}


def _counted(bench: Bench, mode: Mode, calls: int, section: Section) -> dict[str, float]:
    """Make so many calls on a new database and return all that was counted, start and end included."""
    place = bench.places.fresh(mode.database)
    try:
        if mode.database == POSTGRESQL and place is not None:
            bench.places.execute(f"ALTER DATABASE {make_url(place).database} SET log_statement = 'all'")
        before = _syncs_of_server(bench) if mode.database == POSTGRESQL else None
        result = bench.charge(mode, (1,), place, calls=calls, count=True)
        if "error" in result:
            section.failed(mode.label, {result["error"]: 1})
            return {}
        section.failed(mode.label, result["bursts"][0]["failed"])
        found: dict[str, float] = {"requests": result["provider"]["requests"]}
        found["cpu_ms"] = result["bursts"][0]["cpu_ms"] or 0.0
        found["by_sqlalchemy"] = _split(Counter(result["by_sqlalchemy"]))[0]
        if mode.database == SQLITE:
            found |= _of_words(Counter(result["by_sqlite"]))
            found |= _syncs_of_file(bench, mode, calls)
        elif mode.database == POSTGRESQL and place is not None:
            if bench.places.log is None:
                section.missing["statements, PostgreSQL"] = "only our own server's log is read"
            else:
                found |= _of_words(_logged(bench.places.log, make_url(place).database or ""))
            found["syncs"] = _syncs_of_server(bench) - (before or 0.0)
        return found
    finally:
        bench.places.drop(place)


def _of_words(words: Counter[str]) -> dict[str, float]:
    statements, control = _split(words)
    return {"commits": words["COMMIT"], "statements": statements, "control": control}


def _split(words: Counter[str]) -> tuple[float, float]:
    control = sum(times for word, times in words.items() if is_control(word))
    return sum(words.values()) - control, control


def _logged(log: Path, database: str) -> Counter[str]:
    """Count the first words of the statements that a server has logged of one database."""
    words: Counter[str] = Counter()
    said = re.compile(rf"^{re.escape(LOG_MARK)}{re.escape(database)} LOG:  (?:statement|execute [^:]*): (.*)$")
    with log.open(encoding="utf-8", errors="replace") as lines:
        words.update(verb(found[1]) for line in lines if (found := said.match(line)))
    return words


def _syncs_of_server(bench: Bench) -> float:
    """Return how often the server has synced its log of changes, of all databases: nothing else runs on it."""
    bench.places.execute("SELECT pg_stat_force_next_flush()")
    version = int(bench.places.value("SELECT current_setting('server_version_num')"))
    if version >= 180_000:
        return float(bench.places.value("SELECT COALESCE(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'"))
    return float(bench.places.value("SELECT wal_sync FROM pg_stat_wal"))


def _syncs_of_file(bench: Bench, mode: Mode, calls: int) -> dict[str, float]:
    """Run the same calls once more under strace and count the syncs of any file; nothing without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return {}
    with tempfile.NamedTemporaryFile("r", dir=bench.places.folder) as trace:
        before = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o", trace.name]
        result: dict[str, Any] = bench.charge(mode, (1,), calls=calls, before=before)
        if "error" in result:
            return {}
        return {"syncs": sum(bool(_SYNC.search(line)) for line in trace)}
