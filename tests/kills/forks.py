"""The other end of the warm parent, and fresh processes of `paycli`: a round is played, its reports come back."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.kills.actor import API_KEY
from tests.kills.door import Door
from tests.kills.parent import CHILD_S_MAX, Job, Report
from tests.kills.plan import AMOUNT, ARRIVED, Actor, Round

ROOT = Path(__file__).resolve().parent.parent.parent
ANSWER_S_MAX = 2 * CHILD_S_MAX
FRESH_LIFE_S = 0.6  # from its start to its last request, on a machine that has nothing else to do
WRONG_USAGE = 2


class Forks:
    """A warm parent, for one file."""

    def __init__(self, process: subprocess.Popen[str], database: str) -> None:
        self._process, self.database = process, database
        assert self._line() == "warm"

    def play(self, of: Round, url: str, offset_s: float) -> list[Report]:
        """The processes of a round, begun and ended; their reports, in their order."""
        assert self._process.stdin is not None
        job = Job(url=url, offset_s=offset_s, actors=[asdict(actor) for actor in of.actors])
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        reports: list[Report] = self._line()
        return reports

    def _line(self) -> Any:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], ANSWER_S_MAX)[0], "the parent of the processes hangs"
        line = self._process.stdout.readline()
        assert line, "the parent of the processes has ended"
        return json.loads(line)


@contextmanager
def forks(path: Path) -> Iterator[Forks]:
    """A warm parent of processes whose store is this file."""
    database = f"sqlite:///{path}"
    command = [sys.executable, "-m", "tests.kills.parent", database]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Forks(process, database)
        finally:
            process.kill()


def environment(**more: str) -> dict[str, str]:
    """This process's, but for settings of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PAYCLI_", "STRIPE_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), **more}


def play_fresh(actor: Actor, door: Door, url: str, path: Path) -> Report:
    """A process of `paycli` that does what the actor does, ended where the actor ends."""
    begun, death = time.monotonic(), actor.death
    assert death is not None
    pids: queue.Queue[int] = queue.Queue()
    left, lock = [death.nth if death.at == ARRIVED else 0], threading.Lock()

    def asked() -> None:
        with lock:
            left[0] -= 1
            if left[0] == 0:
                os.kill(pids.get(timeout=CHILD_S_MAX), signal.SIGKILL)  # it waits for our answer, so it lives

    door.asked = asked
    variables = {"STRIPE_API_KEY": API_KEY, "PAYCLI_STRIPE_API_BASE": url, "PAYCLI_DATABASE_URL": f"sqlite:///{path}"}
    command = [sys.executable, "-m", "cli.main", *_words(actor)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        pids.put(process.pid)
        try:
            out, err = process.communicate(timeout=CHILD_S_MAX if death.at == ARRIVED else death.share * FRESH_LIFE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    door.asked = None
    return Report(
        signal=max(0, -process.returncode),
        said=_said(process.returncode, out, err),
        elapsed_s=time.monotonic() - begun,
    )


def _said(code: int, out: str, err: str) -> list[list[Any]]:
    """What `paycli` said, in the words of a fork."""
    said: list[list[Any]] = []
    if code == WRONG_USAGE or "internal error" in err:
        said.append(["raised", "paycli", err[-1000:]])
    for line in out.split("\n")[:-1]:  # what follows the last line's end was broken off
        told = json.loads(line)
        if "state" in told:
            names = ("intent_id", "attempt", "state", "provider_charge_id")
            said.append(["acknowledged", *(told[name] for name in names)])
    return said


def _words(actor: Actor) -> list[str]:
    if actor.kind == "worker":
        return ["resume", "--json"]
    if actor.kind == "reconciler":
        return ["reconcile", "--date", "today", "--json"]
    (intent_id,) = actor.intents
    card = "pm_card_chargeDeclined" if intent_id.endswith("declined") else "pm_card_visa"
    return ["charge", intent_id, "--amount", str(AMOUNT), "--currency", "usd", "--payment-method", card, "--json"]
