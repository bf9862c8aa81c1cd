"""The power is cut at every moment of a recorded charge and of a reconciliation: FULL loses no acknowledged row (F72).

`python -m tests.powercut` needs Linux and a C compiler. What a cut may leave is told in `disk.py`. To see that the
layer forgets, the same is done to weaker settings outside the library, which must lose rows; inside it they are made
FULL or refused. `--only "charges:137:torn2"` judges one cut again, of a new recording.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from tests.nightly_stage import folder
from tests.powercut.child import HOSTS
from tests.powercut.cuts import Cut, judged
from tests.powercut.recording import Recording, compiled, missing, recorded
from tests.powercut.refusals import accepted

AT_ONCE = 2
OURS = (*HOSTS, "reconciliation")
SURE = ("WAL+FULL", "DELETE+EXTRA")
WEAKER = ("WAL+NORMAL", "WAL+OFF", "DELETE+FULL", "DELETE+NORMAL", "DELETE+OFF")
SHOWN_MAX = 5
HEAD = "recorded               changes  cuts acknowledged  lost  cuts that lost    s"


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    asked.add_argument(
        "--only", metavar="RECORDED:MOMENT:SURVIVED", help="one cut of a run before, or a beginning of this"
    )
    only = asked.parse_args().only
    why_not = missing()
    if why_not is not None:
        print(why_not, file=sys.stderr)
        return 2
    begun = time.monotonic()
    with folder() as where:
        try:
            layer = compiled(where)
        except subprocess.CalledProcessError as problem:
            print(f"python -m tests.powercut needs a C compiler for glibc: {problem}", file=sys.stderr)
            return 2
        with ProcessPoolExecutor(AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as pool:
            print(HEAD)
            if only is not None:
                work, _, cut = only.partition(":")
                return 1 if cut_up(work, layer, where, pool, cut) else 0
            wrong = sum(cut_up(work, layer, where, pool) for work in (*OURS, *SURE, *WEAKER)) + not_refused(where)
    print(f"\n{time.monotonic() - begun:.0f} s; wrong: {wrong}")
    return 1 if wrong else 0


def cut_up(work: str, layer: Path, where: Path, pool: ProcessPoolExecutor, only: str = "") -> int:
    """Record it once, cut it everywhere, say what came of it; how many cuts went wrong."""
    begun = time.monotonic()
    try:
        recording = recorded(work, layer, where)
    except (subprocess.SubprocessError, AssertionError) as problem:
        print(f'{work:<22} not recorded: {problem}\n    again: python -m tests.powercut --only "{work}"')
        return 1
    if recording.refused is not None:
        print(f"{work:<22} refused, {'and yet' if recording.sent else 'nothing was'} sent: {recording.refused}")
        return int(recording.sent)
    beginning = f"{only}:" if only else ""
    shares = pool.map(judged, repeat(recording), range(AT_ONCE), repeat(AT_ONCE), repeat(beginning))
    found = [cut for share in shares for cut in share]
    print_line(recording, found, time.monotonic() - begun)
    if not found:
        print(f"  no such cut: {only}")
        return 1
    if work not in WEAKER:
        return complaints(work, found)
    if any(cut.verdict.lost for cut in found):
        return 0
    print(f"  {work} has lost nothing: the layer does not forget")
    return 1


def print_line(recording: Recording, found: list[Cut], seconds: float) -> None:
    changes = sum(entry.kind in "CTWU" for entry in recording.entries)
    acknowledged = sum(cut.verdict.acknowledged for cut in found)
    lost = sum(len(cut.verdict.lost) for cut in found)
    losing = f"{sum(bool(cut.verdict.lost) for cut in found)} of {len(found)}"
    print(
        f"{recording.work:<22} {changes:>7} {len(found):>5} {acknowledged:>12} {lost:>5}  {losing:>14} {seconds:>4.0f}",
        flush=True,
    )


def complaints(work: str, found: list[Cut]) -> int:
    """Say what is wrong, and how to see it again; how many cuts are concerned."""
    bad = [cut for cut in found if cut.verdict.lost or cut.verdict.wrong]
    for cut in bad[:SHOWN_MAX]:
        for problem in (*cut.verdict.lost, *cut.verdict.wrong):
            print(f"  {problem}")
        print(f'    again: python -m tests.powercut --only "{work}:{cut.moment}:{cut.survived}"')
    return len(bad)


def not_refused(where: Path) -> int:
    """Offer the library weaker settings; how many it did not refuse."""
    offered = list(accepted(where))
    taken = [(name, problem) for name, problem in offered if problem is not None]
    refused = len(offered) - len(taken)
    print(f"weaker settings offered to the library: {len(offered)}; refused, and nothing sent: {refused}")
    for name, problem in taken:
        print(f"  {name}: {problem}")
    return len(taken)


if __name__ == "__main__":
    sys.exit(main())
