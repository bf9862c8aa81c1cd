"""`python -m tests.sim COUNT [--seed FIRST]`: run a campaign and say what it saw; of one schedule, tell its story."""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.sim import campaign, sometimes, world
from tests.sim.campaign import Failure, Tally
from tests.sim.decisions import Dice
from tests.sim.memory import Memory
from tests.sim.weather import draw

RAREST = 8


def main() -> int:
    """0: everything held. 1: it did not, or a situation was never reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("count", type=int, help="how many schedules; 1 tells its story")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    if asked.count == 1:
        return tell(asked.seed)
    begun, tally, said = time.monotonic(), Tally(), 0.0
    for tally in campaign.run(asked.seed, asked.count):
        if sys.stderr.isatty() and time.monotonic() - said > 2:
            said = time.monotonic()
            print(f"\r{tally.schedules:,} schedules", end="", file=sys.stderr, flush=True)
    print(report(tally, asked.seed, time.monotonic() - begun))
    for failure in tally.failures:
        print(told(failure))
    missed = sorted(sometimes.MUST - set(tally.seen)) if tally.schedules >= sometimes.SCHEDULES_MIN else []
    if missed:
        print(f"never reached: {', '.join(missed)}")
    return 1 if tally.failures or missed else 0


def tell(seed: int) -> int:
    """One schedule, line by line."""
    decisions = world.decisions_of(seed)
    store = Memory()
    made = world.prepared(decisions, draw(Dice(seed)), store, verbose=True)
    problem = None
    try:
        made.run()
    except Exception as error:
        problem = Failure(seed, *campaign.described(error), dict(decisions.taken))
    print("\n".join(line[:200] for line in made.told or ()))
    print(f"trace {made.digest}")
    if problem is not None:
        print(told(problem))
    return 0 if problem is None else 1


def told(failure: Failure) -> str:
    """A failure, how to see it again, and its shortest form."""
    short = campaign.shortest(failure)
    lines = [
        f"seed {failure.seed}: {failure.check}: {failure.why}",
        f"  again: make sim N=1 SEED={failure.seed}",
        f"  {len(short)} of {len(failure.taken)} decisions are enough:",
        *(f"    {json.dumps(name)}: {json.dumps(decided)}," for name, decided in short.items()),
    ]
    return "\n".join(lines)


def report(tally: Tally, first: int, elapsed_s: float) -> str:
    """What a campaign came to."""
    must = {name: tally.seen[name] for name in sometimes.MUST}
    rarest = sorted((times, name) for name, times in must.items() if times)[:RAREST]
    lines = [
        f"{tally.schedules:,} schedules (seeds {first} to {first + tally.schedules - 1}) in {elapsed_s:.0f} s, "
        f"{tally.cpu_s / max(1, tally.schedules) * 1000:.1f} ms of processor each: {tally.sends:,} sends, "
        f"{tally.charges:,} charges at the provider.",
        f"Checks that did not hold: {len(tally.failures)}.",
        f"Run again on a real file, with the same trace: {tally.on_disk}.",
        f"Restored databases, counted apart (there is no fence yet): {tally.restored:,} schedules, "
        f"{tally.doubled_after_restore:,} of them charged an intent twice.",
        f"Situations reached: {sum(1 for times in must.values() if times)} of {len(must)}. The rarest: "
        + "; ".join(f"{name} ({times:,})" for times, name in rarest)
        + ".",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
