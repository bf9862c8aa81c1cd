"""The campaign: `python -m tests.chaos 10 [--seed 7]` kills for so many minutes, and judges.

Every campaign draws a seed of its own unless one is given. Exit code 1 when anything does not hold.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.figures import lines
from tests.chaos.play import Play

RESTARTS_MIN = 20
GAP_S = 1.5
INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="a campaign of chaos")
    parser.add_argument("minutes", type=float, help="how long the faults last")
    parser.add_argument("--seed", type=int, help="what the plan is drawn from; a new one each time, if not given")
    asked = parser.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="charge-once-chaos-"))
    print(f"seed {seed}, {asked.minutes:g} minutes of faults", flush=True)
    begun = time.monotonic()
    try:
        result = Play(seed, folder, gap_s=GAP_S, fresh=True).run(asked.minutes * 60, RESTARTS_MIN)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is concluded", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return INTERRUPTED
    print("\n".join(lines(result, time.monotonic() - begun)))
    print(f"the same plan again: make chaos MINUTES={asked.minutes:g} SEED={seed}")
    if result.wrong:
        print("\nwhat does not hold:\n  " + "\n  ".join(result.wrong))
        print(f"what its processes said is kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
