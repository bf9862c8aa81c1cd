"""Every write, sync, send and receive of a charge and of a reconciliation meets a kill, EIO, ENOSPC and EINTR.

`python -m tests.syscalls` needs strace. `--only "charge:pwrite64:ENOSPC+:17"` repeats one of its processes, and
`--only charge:pwrite64` some. FAULTS F01 to F08, F24, F26, F68 to F71; where SQLite keeps a failed sync or checkpoint
to itself (F71), the process succeeds, and what it leaves is judged like any other.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import NamedTuple

from tests.nightly_stage import folder
from tests.syscalls.scenes import Scene, Toll, scenes
from tests.syscalls.yard import CALLS, Injection, Yard, yard

AT_ONCE, TRIES_MAX = 2, 3
FAULTS = (("SIGKILL", False), ("EIO", False), ("ENOSPC", False), ("ENOSPC", True), ("EINTR", False))
"""A lasting one, ENOSPC+, is met by every later call of that name, too: a disk that stays full."""


class Tried(NamedTuple):
    """One process, how it ended, and what was wrong afterwards."""

    injection: Injection
    ended: str
    met: bool
    toll: Toll
    wrong: list[str]


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.syscalls", description=__doc__)
    asked.add_argument(
        "--only", metavar="SCENE:CALL:FAULT:NUMBER", help="one process of a run before, or a beginning of this"
    )
    only = asked.parse_args().only
    why_not = missing()
    if why_not is not None:
        print(why_not, file=sys.stderr)
        return 2
    begun = time.monotonic()
    with folder() as where, ExitStack() as stack:
        yards = [stack.enter_context(yard()) for _ in range(1 if only else AT_ONCE)]
        found = [tried for scene in scenes(where) for tried in play(scene, yards, only)]
    wrong = [problem for tried in found for problem in tried.wrong]
    print(f"\n{len(found)} processes disturbed in {time.monotonic() - begun:.0f} s; wrong afterwards: {len(wrong)}")
    return 1 if wrong or not found else 0


def missing() -> str | None:
    """What is not on this machine, in a sentence."""
    if shutil.which("strace") is None:
        return "python -m tests.syscalls needs strace (Linux), which is not on this machine."
    traced = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if traced.returncode != 0:
        return f"python -m tests.syscalls needs a machine on which strace may trace: {traced.stderr.strip()}"
    return None


def play(scene: Scene, yards: list[Yard], only: str | None) -> list[Tried]:
    """Undisturbed once, to count its calls; then each of them anew, with each fault."""
    first = yards[0]
    if only is not None and only.partition(":")[0] != scene.name:
        return []
    begun = time.monotonic()
    scene.put_up(first)
    undisturbed = first.run(scene.name, scene.what)
    wrong = list(scene.learn(first, undisturbed.report))
    if wrong:
        print(f'{scene.name}, undisturbed: {wrong}\n    again: python -m tests.syscalls --only "{scene.name}"')
        return [Tried(Injection("nothing", "", 0, False), undisturbed.report["ended"], True, Toll(0, 0), wrong)]
    plan = list(injections(undisturbed.calls))
    plan = [one for one in plan if only is None or f"{scene.name}:{one}:".startswith(f"{only}:")]
    free: SimpleQueue[Yard] = SimpleQueue()
    for one in yards:
        free.put(one)

    def disturb(injection: Injection) -> Tried:
        taken = free.get()
        try:
            return tried(scene, taken, injection)
        finally:
            free.put(taken)

    with ThreadPoolExecutor(len(yards)) as pool:
        found = list(pool.map(disturb, plan))
    print_table(scene, found, time.monotonic() - begun)
    return found


def injections(calls: Counter[str]) -> Iterator[Injection]:
    for call in CALLS:
        for fault, lasting in FAULTS:
            for number in range(1, calls[call] + 1):
                yield Injection(call, fault, number, lasting)


def tried(scene: Scene, yard: Yard, injection: Injection) -> Tried:
    """One process, and what an undisturbed one finds afterwards; again, when a slow machine has ended it before."""
    tries = [judged(scene, yard, injection)]
    while not tries[-1].met and len(tries) < TRIES_MAX:
        tries.append(judged(scene, yard, injection))
    wrong = [problem for one in tries for problem in one.wrong] + ([] if tries[-1].met else ["nothing was injected"])
    for one in wrong:
        print(f'{scene.name}:{injection}: {one}\n    again: python -m tests.syscalls --only "{scene.name}:{injection}"')
    return tries[-1]._replace(wrong=wrong)


def judged(scene: Scene, yard: Yard, injection: Injection) -> Tried:
    try:
        scene.put_up(yard)
        ran = yard.run(scene.name, scene.what, injection)
        wrong = list(scene.judge(yard, ran.report))
        if ran.report["signal"] and injection.fault != "SIGKILL":
            wrong.append(ran.report["ended"])
        return Tried(injection, ran.report["ended"], ran.met, scene.toll(yard), wrong)
    except Exception as problem:  # whatever it is, the others are tried as well
        return Tried(injection, "not judged", True, Toll(0, 0), [f"{type(problem).__name__}: {problem}"])


def print_table(scene: Scene, found: list[Tried], seconds: float) -> None:
    ends: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for one in found:
        ends[one.injection.call, one.injection.kind][one.ended.partition(":")[0]] += 1
    doubled, lost = (sum(one.toll[which] for one in found) for which in (0, 1))
    print(f"\n{scene.name}: {len(found)} processes in {seconds:.0f} s; charged twice {doubled}, lost {lost}")
    print(f"  {'call':<10} {'meets':<8} {'times':>5}  and the process ended")
    for (call, kind), counts in ends.items():
        told = ", ".join(f"{end} {count}" for end, count in sorted(counts.items()))
        print(f"  {call:<10} {kind:<8} {counts.total():>5}  {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
