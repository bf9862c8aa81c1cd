"""`python -m tests.answers N [--seed FIRST]`: cases until N answers were drawn; N = 1 tells one case."""

from __future__ import annotations

import argparse
import sys
import time

from tests.answers import campaign
from tests.answers.campaign import Failure, Tally
from tests.sim.memory import Memory

LINE_CHARACTERS_MAX = 240


def main() -> int:
    """0: everything held. 1: it did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.answers", description=__doc__)
    parser.add_argument("answers", type=int, help="how many answers; 1 tells the story of one case")
    parser.add_argument("--seed", type=int, default=0, help="the first case")
    parser.add_argument("--processes", type=int, default=None, help="how many at once; else one a core")
    asked = parser.parse_args()
    if asked.answers == 1:
        return tell(asked.seed)
    begun, tally, said = time.monotonic(), Tally(asked.seed), 0.0
    for tally in campaign.run(asked.seed, asked.answers, processes=asked.processes):
        if sys.stderr.isatty() and time.monotonic() - said > 2:
            said = time.monotonic()
            print(f"\r{tally.answers:,} answers", end="", file=sys.stderr, flush=True)
    print(report(tally, time.monotonic() - begun))
    for failure in tally.failures:
        print(told(failure))
    if tally.failures:
        print("The story of the first:")
        tell(tally.failures[0].seed)
    return 1 if tally.failures else 0


def tell(seed: int) -> int:
    """One case, line by line."""
    case, failure = campaign.try_one(seed, Memory(), verbose=True)
    print("\n".join(line[:LINE_CHARACTERS_MAX] for line in case.told or ()))
    holds = "it holds" if failure is None else "it does not hold"
    print(f"case {seed}: {case.network.answers} answers, {case.network.sends} of them to charge requests; {holds}")
    if failure is not None:
        print(told(failure))
    return 0 if failure is None else 1


def told(failure: Failure) -> str:
    """A failure, and how to see it again."""
    return f"case {failure.seed}: {failure.check}: {failure.why}\n  again: make answers N=1 SEED={failure.seed}"


def report(tally: Tally, elapsed_s: float) -> str:
    """What a campaign came to."""
    boxes = {name[5:]: tally.seen[name] for name in tally.seen if name.startswith("box")}
    others = {name: tally.seen[name] for name in tally.seen if not name.startswith("box")}
    residuals = {name: times for name, times in sorted(tally.residuals.items()) if times}
    lines = [
        f"{tally.answers:,} answers in {tally.cases:,} cases (seeds {tally.first} to {tally.first + tally.cases - 1}), "
        f"{tally.sends:,} of them to charge requests, in {elapsed_s:.0f} s: {tally.answers / max(0.1, elapsed_s):,.0f} "
        f"a second, {tally.cpu_s / max(1, tally.cases) * 1000:.1f} ms of processor for a case.",
        f"Cases that did not hold: {len(tally.failures)}.",
        f"Cases by attempts: {_listed(tally.attempts)}.",
        f"Final words: {_listed(tally.finals)}.",
        f"Residuals of the published model, each found by a night: {_listed(residuals) or 'none'}.",
        f"Read: {_listed(others)}.",
        f"From boxes: {_listed(boxes)}.",
    ]
    return "\n".join(lines)


def _listed(counted: object) -> str:
    assert isinstance(counted, dict)
    return ", ".join(f"{name} {times:,}" for name, times in sorted(counted.items()))


if __name__ == "__main__":
    sys.exit(main())
