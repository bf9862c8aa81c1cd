"""Run one job in a process of its own: `python -m benchmarks.child`, a job as JSON on its input, its result as JSON.

A process of its own has its processor time, its memory and its threads to itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.load import Driven, drive, drive_async, names_of
from benchmarks.modes import BY_NAME, Mode
from benchmarks.usage import Statements, peak_bytes

Job = dict[str, Any]


def charge(job: Job) -> dict[str, Any]:
    """Charge at each number of calls in flight, one after the other, after some calls that are not counted."""
    mode = BY_NAME[job["mode"]]
    counted = Statements()
    if job.get("count"):
        counted.watch()
    bursts = asyncio.run(_charge_async(mode, job)) if mode.is_async else _charge_sync(mode, job)
    return {
        "bursts": [burst.as_json() for burst in bursts],
        "peak_bytes": peak_bytes(),
        "by_sqlalchemy": dict(counted.by_sqlalchemy),
        "by_sqlite": dict(counted.by_sqlite),
    }


def _charge_sync(mode: Mode, job: Job) -> list[Driven]:
    with mode.open(job["provider"], job["database"]) as call:
        first = drive(call, names_of(f"{job['prefix']}w"), 1, calls=job["warm"])
        _wait(job)
        bursts = [drive(call, names_of(f"{job['prefix']}n{n}"), n, **_long(job)) for n in job["levels"]]
    return _with_first(first, bursts)


async def _charge_async(mode: Mode, job: Job) -> list[Driven]:
    async with mode.open_async(job["provider"], job["database"]) as call:
        first = await drive_async(call, names_of(f"{job['prefix']}w"), 1, calls=job["warm"])
        _wait(job)
        bursts = [await drive_async(call, names_of(f"{job['prefix']}n{n}"), n, **_long(job)) for n in job["levels"]]
    return _with_first(first, bursts)


def _long(job: Job) -> dict[str, Any]:
    return {"calls": job["calls"]} if "calls" in job else {"seconds": job["seconds"]}


def _with_first(first: Driven, bursts: list[Driven]) -> list[Driven]:
    bursts[0].failed.update(first.failed)  # a call that fails is shown, also one that only warms up
    return bursts


def _wait(job: Job) -> None:
    """Wait for the word to begin, when several processes begin together."""
    if job.get("together"):
        print("ready", flush=True)
        sys.stdin.readline()


def _night(job: Job) -> dict[str, Any]:
    from benchmarks import nights

    return nights.perform(job)


TASKS: dict[str, Callable[[Job], dict[str, Any]]] = {"charge": charge, "night": _night}


def main() -> None:
    """Read the job, do it, and print its result as the last line."""
    job = json.loads(sys.stdin.readline())
    result = TASKS[job["task"]](job)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
