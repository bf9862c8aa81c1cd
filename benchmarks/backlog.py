"""Section `worker`: how fast `paycli resume` and workers finish a backlog on PostgreSQL, beside a busy client.

Their speed is seen at the provider, between its first and its last payment: starting a process is not in it. A run that
takes too long is ended, and its speed until then counts.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from typing import IO

from benchmarks.arithmetic import ratios
from benchmarks.bench import Bench
from benchmarks.inside import plant
from benchmarks.modes import BY_NAME
from benchmarks.places import POSTGRESQL
from benchmarks.planting import backlog
from benchmarks.processes import ROOT, environment, paycli
from benchmarks.provider import API_KEY, Provider, serving
from benchmarks.sections import Section, Table, shown

LOOK_S = 0.05
END_S_MAX = 60.0
RATE = "1000"  # sends a second of one worker, the highest that may be set: not what limits it
WORKER = ("worker", "--until-idle", "--rate", RATE)
RUNS: dict[str, list[tuple[str, ...]]] = {"resume": [("resume",)], "1 worker": [WORKER], "3 workers": [WORKER] * 3}
CLIENT = "64 in flight, AsyncClient"


def worker(bench: Bench) -> Section:
    """Finish copies of one backlog in turn; ratios are to the client, and to one worker, of the same round."""
    section, rounds = Section("worker"), list[dict[str, float]]()
    place = bench.places.fresh(POSTGRESQL)
    assert place is not None
    bench.say(f"worker: preparing {bench.scale.backlog_rows:,} charges")
    with serving(bench.program) as provider:
        plant(place, provider.url, backlog(bench.scale.backlog_rows), prepared=True)
    for _ in bench.going(bench.scale.backlog_rounds, 300, "worker"):
        values: dict[str, float] = {}
        for name, commands in RUNS.items():
            per_s = _finish(bench, section, place, name, commands)
            values |= {name: per_s} if per_s else {}
        result = bench.charge(BY_NAME["ours-async-postgresql"], (64,), seconds=bench.scale.backlog_s)
        if "error" in result:
            section.failed(CLIENT, {result["error"]: 1})
        else:
            section.failed(CLIENT, result["bursts"][0]["failed"])
            values[CLIENT] = result["bursts"][0]["per_s"]
        rounds.append(values)
    bench.places.drop(place)
    section.tables.append(_table(section, rounds, bench.scale.backlog_rows))
    return section


def _table(section: Section, rounds: list[dict[str, float]], rows: int) -> Table:
    table = Table(
        f"A backlog of {rows:,} prepared charges, PostgreSQL",
        ("by", "charges/s", "x the client", "x 1 worker", "failed"),
    )
    for name in (*RUNS, CLIENT):
        where = f"worker/{name}"
        per_s = section.keep(f"{where}/per_s", [one[name] for one in rounds if name in one])
        of_client = section.keep(f"{where}/x_client", ratios(rounds, name, CLIENT))
        of_one = section.keep(f"{where}/x_one", ratios(rounds, name, "1 worker"))
        failures = section.failures_of(name)
        table.rows.append((name, shown(per_s, 0), shown(of_client), shown(of_one), str(failures)))
    return table


def _finish(bench: Bench, section: Section, place: str, name: str, commands: list[tuple[str, ...]]) -> float | None:
    """Run some processes on a copy of the backlog, and return how many charges a second the provider saw."""
    copy, running = bench.places.copy(place), list[subprocess.Popen[bytes]]()
    try:
        with serving(bench.program, delay_ms=bench.delay_ms) as provider, tempfile.TemporaryFile("w+") as said:
            running += [_start(command, provider, copy, said) for command in commands]
            seen = _watch(provider, running, bench.scale.backlog_s, bench.scale.backlog_rows)
            for process in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                elif process.returncode not in ((0,) if len(commands) == 1 else (0, 1)):  # 1: others have the last rows
                    section.failed(name, {f"exit {process.returncode}: {_last_line(said)}": 1})
            for process in running:
                try:
                    process.wait(END_S_MAX)
                except subprocess.TimeoutExpired:
                    section.failed(name, {f"still running {END_S_MAX:.0f} s after SIGTERM": 1})
                    process.kill()
                    process.wait()
            counters = provider.counters()
            if counters["payments"] > bench.scale.backlog_rows:
                section.failed(name, {f"{counters['payments']} payments of {bench.scale.backlog_rows} charges": 1})
            return seen
    finally:
        for process in running:
            process.kill()
            process.wait()
        bench.places.drop(copy)


def _start(command: tuple[str, ...], provider: Provider, database: str, said: IO[str]) -> subprocess.Popen[bytes]:
    env = environment(STRIPE_API_KEY=API_KEY, PAYCLI_STRIPE_API_BASE=provider.url, PAYCLI_DATABASE_URL=database)
    return subprocess.Popen(
        [paycli(), *command], stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT, env=env
    )


def _watch(provider: Provider, running: list[subprocess.Popen[bytes]], seconds: float, rows: int) -> float | None:
    """Return payments a second between the first and the last look that saw one more; None when none was seen."""
    begun: tuple[float, int] | None = None
    last: tuple[float, int] | None = None
    until = time.monotonic() + END_S_MAX  # to the first payment: processes start, lists are looked through
    while time.monotonic() < until and any(process.poll() is None for process in running):
        payments, now = provider.counters()["payments"], time.monotonic()
        if payments and begun is None:
            begun, until = (now, payments), now + seconds
        if payments and (last is None or payments > last[1]):
            last = now, payments
        if payments >= rows:
            break
        time.sleep(LOOK_S)
    if begun is None or last is None or last[0] <= begun[0]:
        return None
    return (last[1] - begun[1]) / (last[0] - begun[0])


def _last_line(said: IO[str]) -> str:
    said.seek(0)
    lines = said.read().strip().splitlines()
    return lines[-1][:120] if lines else "it said nothing"
