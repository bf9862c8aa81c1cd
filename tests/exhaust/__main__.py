"""`python -m tests.exhaust`: search the scenarios to all their ends, and print what that came to.

`--only SCENARIO` searches one; `--faults N` allows so many faults, instead of as many as end soon.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace

import tests.exhaust
from tests.exhaust.scenario import SCENARIOS, Report, explore


def main() -> int:
    """0: everything held. 1: it did not, and the way there is printed."""
    parser = argparse.ArgumentParser(prog="python -m tests.exhaust", description=__doc__)
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario")
    parser.add_argument("--faults", type=int, help="so many at most, instead of as many as end soon")
    asked = parser.parse_args()
    chosen = [one for one in SCENARIOS.values() if asked.only in (None, one.name)]
    if asked.faults is not None:
        chosen = [replace(one, faults_max=asked.faults) for one in chosen]
    begun, reports = time.monotonic(), []
    print((tests.exhaust.__doc__ or "").partition("\n\n    scenario.py")[0] + "\n", flush=True)
    # A process for each, two at once, the longest first: its memory is given back when it ends.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=context, max_tasks_per_child=1) as pool:
        for done in as_completed([pool.submit(explore, one) for one in chosen]):
            reports.append(done.result())
            print(told(reports[-1]), flush=True)
    broken = sum(bool(report.check) for report in reports)
    print(
        f"All: {sum(report.found.states for report in reports):,} states, "
        f"{sum(report.found.transitions for report in reports):,} transitions, "
        f"{sum(report.found.paths for report in reports):,} paths, "
        f"{sum(len(report.found.ends) for report in reports):,} ends, in {time.monotonic() - begun:.0f} s. "
        f"Scenarios that did not hold: {broken}."
    )
    return 1 if broken else 0


def told(report: Report) -> str:
    """A report as people read it."""
    scenario, found = SCENARIOS[report.name], report.found
    more = " more" if scenario.fates else ""
    faults = "1 fault" if report.faults_max == 1 else f"{report.faults_max} faults"
    lines = [f"{scenario.name}: {scenario.told}; at most {faults}{more}"]
    if report.check:
        lines += [f"  DOES NOT HOLD: {report.check}", *(f"  {at:3} {step}" for at, step in enumerate(report.steps, 1))]
        return "\n".join(lines)
    lines += [
        f"  {found.states:,} states, {found.transitions:,} transitions, {found.paths:,} paths, the longest of "
        f"{found.deepest} steps; {report.seconds:.0f} s",
        f"  {len(found.ends):,} ends, left with: {_listed(report.left)}",
        f"  which came to: {_listed(report.healed)}",
    ]
    return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return "; ".join(f"{words} ({times:,})" for words, times in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
