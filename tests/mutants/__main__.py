"""`python -m tests.mutants [NAME …]`: how many seeds kill each mutant, by which check; 1: the schedule kept for it.

`--rates`: FAULTS §3 anew.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.mutants import seen
from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import SEEDS_MAX, Mutant
from tests.mutants.runner import Verdict, count, kill, on_all_cores, search, show

RATE_SEEDS = 2000
_SOUGHT = frozenset(one.name for one in MUTANTS if one.sought)


def main() -> int:
    """0: every mutant was killed. 1: one survives. 2: a mutant is itself mistaken, or none is called like that."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only mutants whose name holds one of these words")
    parser.add_argument("--seeds", type=int, help=f"the most seeds for a mutant; else {SEEDS_MAX:,}, or its own number")
    parser.add_argument("--rates", action="store_true", help=f"in how many of {RATE_SEEDS:,} seeds a planted bug shows")
    parser.add_argument("--record", action="store_true", help="write down the seed at which each is seen")
    parser.add_argument("--search", action="store_true", help="from seed 0 on, wherever it was seen last")
    parser.add_argument("--kept", action="store_true", help="only whether each kept schedule shows its mistake")
    parser.add_argument("--list", action="store_true", help="only say what each one is")
    asked = parser.parse_args()
    chosen = [one for one in MUTANTS if not asked.names or any(name in one.name for name in asked.names)]
    if asked.rates:
        chosen = [one for one in chosen if one.planted is not None]
    if asked.kept:
        chosen = [one for one in chosen if one.kept is not None]
    if not chosen:
        print(f"no mutant is called like {', '.join(asked.names)}", file=sys.stderr)
        return 2
    if asked.list:
        print("\n".join(told(one) for one in chosen))
        return 0
    if asked.kept:
        return kills(chosen, show)
    if asked.rates:
        return rates(chosen, asked.seeds or RATE_SEEDS)
    chosen = [replace(one, seeds_max=asked.seeds or one.seeds_max) for one in chosen]
    return kills(chosen, search if asked.search else kill, record=asked.record)


def told(mutant: Mutant) -> str:
    """What a mutant is, for a reader."""
    changed = "\n".join(
        f"  {mark} {line}"
        for _, old, new in mutant.places
        for mark, text in (("-", old), ("+", new))
        for line in text.strip("\n").splitlines()
    )
    incident = "" if mutant.incident is None else f"\n  seen in {mutant.incident}"
    return f"{mutant.name} ({mutant.file}){incident}\n{changed}"


def kills(chosen: list[Mutant], judge: Callable[[Mutant], Verdict] = kill, *, record: bool = False) -> int:
    """The table of kills, as they come, and what they come to."""
    begun, verdicts = time.monotonic(), []
    width = max(len(one.name) for one in chosen)
    print(f"{'mutant':<{width}}   seeds  killed by")
    for verdict in on_all_cores(chosen, judge):
        verdicts.append(verdict)
        if record and verdict.killed and verdict.seed is not None:
            seen.write(seen.read() | {verdict.mutant.name: verdict.seed}, _SOUGHT)
        print(f"{verdict.mutant.name:<{width}}  {verdict.seeds:>6,}  {outcome(verdict)}", flush=True)
    print(summed_up(verdicts, time.monotonic() - begun))
    if any(one.unsound for one in verdicts):
        return 2
    return 0 if all(one.killed for one in verdicts) else 1


def outcome(verdict: Verdict) -> str:
    """What became of one mutant, in a word or with the reason why it counts for nothing."""
    if verdict.unsound:
        return f"UNSOUND: {verdict.by}: {verdict.why}"
    return verdict.by if verdict.killed else "SURVIVES"


def summed_up(verdicts: list[Verdict], elapsed_s: float) -> str:
    """The figures of all mutants."""
    killed = sorted((one for one in verdicts if one.killed), key=lambda one: one.seeds)
    incidents = sum(one.mutant.incident is not None for one in verdicts)
    lines = [
        f"{len(killed)} of {len(verdicts)} mutants killed ({incidents} of them were incidents of other projects), "
        f"in {elapsed_s:.0f} s, {sum(one.cpu_s for one in verdicts):.0f} s of processor.",
    ]
    simulated = [one for one in killed if one.mutant.test is None]
    if simulated:
        by_check = sum(not one.by.endswith("Error") for one in simulated)
        lines.append(
            f"Seeds to kill: median {statistics.median(one.seeds for one in simulated):.0f}, "
            f"most {simulated[-1].seeds:,} ({simulated[-1].mutant.name}). {by_check} by a check of the simulator, "
            f"{len(simulated) - by_check} by an exception that the code itself raised."
        )
    if len(killed) > len(simulated):
        lines.append(f"{len(killed) - len(simulated)} by a test with real threads, where no schedule goes.")
    survivors = [one.mutant.name for one in verdicts if not one.killed]
    return "\n".join(lines + [f"Survive: {'; '.join(survivors)}"] * bool(survivors))


def rates(planted: list[Mutant], seeds: int) -> int:
    """In what share of schedules each planted bug of FAULTS §3 shows."""
    for verdict in on_all_cores(planted, partial(count, seeds=seeds)):
        shown = verdict.shown.total()
        checks = ", ".join(f"{check} {times}" for check, times in verdict.shown.most_common())
        print(f"{verdict.mutant.planted:<42} {100 * shown / verdict.seeds:>6.2f} %  ({checks})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
