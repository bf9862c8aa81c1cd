"""The campaign: `python -m tests.kills 2000 [--seed 7] [--batch 31]` ends so many processes by SIGKILL, and judges.

What each batch does is drawn from the seed and its number, so that one can be played again alone: `--batch` plays only
that one, over and over. Random moments are real time and processes race, so a second campaign of the same seed has the
same plan and nearly the same figures, never quite the same. It stops at the first batch in which anything does not
hold, with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count, repeat
from pathlib import Path

from tests.kills.figures import Tally
from tests.kills.forks import ROOT, environment
from tests.kills.lane import Order
from tests.kills.play import Result

LANES_MAX = 8
BATCH_S_MAX, ENDING_S_MAX = 300.0, 60.0
PROGRESS_S = 3.0
KILLS_THAT_REACH_ALL = 2000
INTERRUPTED = 130


class Lane:
    """The campaign's end of a lane, which plays one batch at a time."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.kills.lane", str(folder)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.order = Order(seed=0, number=0)
        self.ends_at = 0.0

    def begin(self, order: Order) -> None:
        assert self.process.stdin is not None
        self.order, self.ends_at = order, time.monotonic() + BATCH_S_MAX
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def result(self) -> Result:
        """Read when there is something to read."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            result: Result = json.loads(line)
            return result
        return self.failed("its lane has ended: see what it said above")

    def failed(self, why: str) -> Result:
        return Result(number=self.order["number"], ended=[], figures={}, wrong=[why])

    def __enter__(self) -> Lane:
        return self

    def end(self) -> None:
        """Nothing more is asked of it; it ends its parent of processes, and itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(ENDING_S_MAX)

    def __exit__(self, *error: object) -> None:
        """What it is still at is of no use any more; its own children end with their pipes."""
        self.process.kill()
        self.process.wait()


def campaign(kills: int, seed: int, numbers: Iterator[int], folder: Path) -> tuple[Tally, list[Result]]:
    """Play batches until so many processes were ended, or until something does not hold."""
    tally, wrong = Tally(), list[Result]()
    with ExitStack() as opened:
        lanes = [opened.enter_context(Lane(folder)) for _ in range(min(os.cpu_count() or 1, LANES_MAX))]
        for lane in lanes:
            lane.begin(Order(seed=seed, number=next(numbers)))
        said_at = time.monotonic()
        while lanes:
            for lane in select.select(lanes, [], [], 1.0)[0]:
                result = lane.result()
                tally.add(result)
                if result["wrong"]:
                    wrong.append(result)
                elif tally.kills >= kills:
                    lane.end()
                    lanes.remove(lane)
                else:
                    lane.begin(Order(seed=seed, number=next(numbers)))
            late = [lane for lane in lanes if time.monotonic() > lane.ends_at]
            wrong += [lane.failed(f"it did not end within {BATCH_S_MAX:.0f} s") for lane in late]
            if wrong:
                break
            if time.monotonic() - said_at > PROGRESS_S and sys.stderr.isatty():
                said_at = time.monotonic()
                print(f"\r{tally.kills} of {kills} processes ended", end="", file=sys.stderr, flush=True)
    return tally, wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description="a campaign of kills")
    parser.add_argument("kills", type=int, help="how many processes are to die by SIGKILL")
    parser.add_argument("--seed", type=int, default=1, help="what everything is drawn from")
    parser.add_argument("--batch", type=int, help="play this batch only, over and over")
    asked = parser.parse_args()
    numbers = count() if asked.batch is None else repeat(asked.batch)
    folder = Path(tempfile.mkdtemp(prefix="charge-once-kills-"))
    print(f"seed {asked.seed}, {asked.kills} processes to be ended by SIGKILL", flush=True)
    begun = time.monotonic()
    try:
        tally, wrong = campaign(asked.kills, asked.seed, numbers, folder)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is concluded", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)  # what still writes there ends by itself
        return INTERRUPTED
    if sys.stderr.isatty():
        print(file=sys.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n".join(tally.lines(time.monotonic() - begun, used.ru_utime + used.ru_stime)))
    for result in wrong:
        print(f"\nbatch {result['number']} does not hold, seen after {tally.kills} processes were ended:")
        print("\n".join(f"  {what}" for what in result["wrong"]))
        print(f"play it again: python -m tests.kills 500 --seed {asked.seed} --batch {result['number']}")
    if wrong:
        return 1
    shutil.rmtree(folder)
    missed = tally.missed() if asked.batch is None and asked.kills >= KILLS_THAT_REACH_ALL else []
    if missed:
        print(f"\nnever reached, so the campaign must be mended: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
