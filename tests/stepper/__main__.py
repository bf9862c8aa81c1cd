"""`python -m tests.stepper [N]`: play all pairs and triples in every order, and print what that came to.

`N` plays as many cases, by chance; `--scene` or `--kind` those of one. Then planted mistakes, each until it is found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import tests.stepper
from tests.stepper import ground
from tests.stepper.bench import Bench, Report
from tests.stepper.cases import SCENES
from tests.stepper.plants import PLANTS
from tests.stepper.runner import KINDS, played, search, some, tasks

TOLD_MAX = 60  # lines of one that does not hold
TOLD = {
    "pruned": "orders that came to one played before",
    "diverged": "orders that could not be played again to where they turn",
    "deadlocks": "deadlocks that were done again",
}


def main() -> int:
    """0: everything held, or every mistake was found. 1: it did not, and the steps are printed."""
    parser = argparse.ArgumentParser(prog="python -m tests.stepper", description=__doc__)
    parser.add_argument("cases", nargs="?", type=int, default=0, help="as many cases, by chance (0: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the chance")
    parser.add_argument("--scene", choices=SCENES, help="the cases of one scene")
    parser.add_argument("--kind", choices=KINDS, help="the cases of one kind")
    parser.add_argument("--mutants", action="store_true", help="planted mistakes only")
    asked = parser.parse_args()
    if asked.mutants:
        return mutants()
    scenes = [scene for scene in SCENES if asked.scene in (None, scene)]
    print((tests.stepper.__doc__ or "").partition("\n\n    ground.py")[0] + "\n", flush=True)
    begun, total, wrong = time.monotonic(), Counter[str](), 0
    kinds = [kind for kind in KINDS if asked.kind in (None, kind)]
    chosen = some(asked.cases, asked.seed) if asked.cases else tasks(scenes, kinds)
    for task, reports in played(list(chosen)):
        kind, cases = task
        total.update({f"cases of {kind}": len(cases), f"orders of {kind}": sum(one.orders for one in reports)})
        for name, words in TOLD.items():
            total[words] += sum(getattr(one, name) for one in reports)
        for report in reports:
            if report.wrong:
                wrong += 1
                print(told(report), flush=True)
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(total.items())))
    print(f"All in {time.monotonic() - begun:.0f} s. Cases that did not hold: {wrong}.")
    missed = 0 if asked.scene or asked.kind else mutants()
    return 1 if wrong or missed else 0


def mutants() -> int:
    """Play each planted mistake until it is found."""
    missed = 0
    with Bench(ground.made()) as bench:
        for plant in PLANTS:
            begun = time.monotonic()
            report = search(bench, plant)
            missed += report is None
            print(f"{'FOUND' if report else 'MISSED'} in {time.monotonic() - begun:.0f} s: {plant.name}")
            if report:
                print(f"  {report.case}; {report.wrong[0]}", flush=True)
    print(f"Mistakes: {len(PLANTS)}, missed: {missed}.")
    return 1 if missed else 0


def told(report: Report) -> str:
    """A case that did not hold, as people read it."""
    lines = [f"DOES NOT HOLD: {report.case}", *report.wrong, "by these steps:", *report.told]
    return "\n  ".join(line[:200] for line in lines[:TOLD_MAX])


if __name__ == "__main__":
    sys.exit(main())
