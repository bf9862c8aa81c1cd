"""The warm parent: it forks the processes of a round, lets them begin at the same moment, ends them, tells what became.

Run as `python -m tests.kills.parent DATABASE`; it reads one JSON object a line (a `Job`) and answers each with one.
It has no threads and no open connections, so that its children may do as they like. All they inherit that a fresh
process has not are compiled statements and loaded certificates; a few fresh ones of `paycli` are in `fresh.py`.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict

from sqlalchemy import Engine, create_engine

from gateway_client import Client, Sandbox, Stripe, db, sqlite
from gateway_client.gateways import stripe_api
from reconcile.store import items
from tests.kill_child import POLICY, fork
from tests.kills import actor as acting
from tests.kills.plan import MOMENT, Actor, Death

CHILD_S_MAX = 40.0  # of a machine that is busy with other things, too
PAGE_ROWS = 7  # a batch has dozens of charges, and is to have several pages
LIFE_S = {"client": 0.06, "crowd": 0.4, "worker": 0.08, "reconciler": 0.15}  # until it is known better


class Job(TypedDict):
    """The processes of one round."""

    url: str
    offset_s: float
    actors: list[dict[str, Any]]


class Report(TypedDict):
    """What became of one process: the signal that ended it (0: none did), and every line that it said."""

    signal: int
    said: list[list[Any]]
    elapsed_s: float


@dataclass
class Child:
    """A process that lives, and when it ends at the latest."""

    actor: Actor
    pid: int
    ends_at: float
    said: bytes = b""
    hangs: bool = False


def from_json(fields: dict[str, Any]) -> Actor:
    fields["death"] = fields["death"] and Death(**fields["death"])
    fields["intents"], fields["days_ago"] = tuple(fields["intents"]), tuple(fields["days_ago"])
    return Actor(**fields)


class Parent:
    """What children are forked from."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._life_s = dict(LIFE_S)

    def play(self, job: Job) -> list[Report]:
        """All processes of a round, begun at the same moment; their reports, in their order."""
        gate_reading, gate_writing = os.pipe()

        def child(actor: Actor, writing: int) -> None:
            os.close(gate_writing)
            os.read(gate_reading, 1)  # the parent closes its end: all children go at once

            def say(*words: Any) -> None:
                os.write(writing, (json.dumps(words) + "\n").encode())

            try:
                acting.act(actor, job["url"], self.database, job["offset_s"], say)
            except BaseException as problem:
                say("raised", type(problem).__name__, str(problem)[:1000])

        children: dict[int, Child] = {}
        for actor in map(from_json, job["actors"]):
            pid, reading = fork(functools.partial(child, actor))
            children[reading] = Child(actor, pid, 0.0)
        os.close(gate_reading)
        os.close(gate_writing)
        return self._gather(children)

    def _gather(self, children: dict[int, Child]) -> list[Report]:
        begun = time.monotonic()
        for child in children.values():
            death = child.actor.death
            share_s = death.share * self._life_s[child.actor.kind] if death and death.at == MOMENT else CHILD_S_MAX
            child.ends_at = begun + share_s
        reports: dict[int, Report] = {}
        order = list(children)
        while children:
            next_end = min(child.ends_at for child in children.values())
            for reading in select.select(list(children), [], [], max(0.0, min(next_end - time.monotonic(), 5.0)))[0]:
                part = os.read(reading, 65536)
                children[reading].said += part
                if not part:
                    reports[reading] = self._ended(reading, children.pop(reading), time.monotonic() - begun)
            for child in children.values():
                if time.monotonic() >= child.ends_at:
                    os.kill(child.pid, signal.SIGKILL)  # ours, and not yet waited for: its id belongs to nobody else
                    child.hangs = child.ends_at >= begun + CHILD_S_MAX
                    child.ends_at = float("inf")
        return [reports[reading] for reading in order]

    def _ended(self, reading: int, child: Child, elapsed_s: float) -> Report:
        os.close(reading)
        _, status = os.waitpid(child.pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        kind = child.actor.kind
        if number == 0 and len(child.actor.intents) <= 1 and len(child.actor.days_ago) <= 1:
            self._life_s[kind] += 0.2 * (elapsed_s - self._life_s[kind])
        *lines, _ = child.said.decode().split("\n")  # what follows the last line's end was broken off
        said = [json.loads(line) for line in lines]
        if child.hangs:
            said.append(["raised", "Hangs", f"it did not end within {CHILD_S_MAX:.0f} s"])
        return Report(signal=number, said=said, elapsed_s=elapsed_s)


def warm(database: str) -> None:
    """Load, compile and remember what every child would do anew; leave no connection open."""
    engine = create_engine(database, connect_args={"timeout": sqlite.LOCK_TIMEOUT_S}, hide_parameters=True)

    def remembered(url: str, **options: object) -> Engine:
        return engine

    # For all of this process and its children, whatever they open.
    changes: list[tuple[object, str, object]] = [
        (db, "create_engine", remembered),
        (stripe_api, "PAGE_ROWS_MAX", PAGE_ROWS),
        (items, "PAGE_ROWS_MAX", PAGE_ROWS),
    ]
    for owner, name, value in changes:
        setattr(owner, name, value)
    "localhost".encode("idna")  # loads what each child's first request would
    sandbox = Sandbox()
    with Client(Stripe(acting.API_KEY), database=database, transport=sandbox.transport(), retry=POLICY) as client:
        sandbox.fault("error_500_charged", times=2)
        for number in range(PAGE_ROWS + 1):
            acting.pay(client, f"warm_{number}_{'declined' if number else 'visa'}", True, lambda *_: None)
        sandbox.fault("lost_request", times=POLICY.sends_max)
        client.charge(acting.intent("warm_visa", 1))
        acting.audit(client, 0, lambda *_: None)
        client.resume()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the campaign's, which ends us
    database = sys.argv[1]
    warm(database)
    parent = Parent(database)
    print(json.dumps("warm"), flush=True)
    for line in sys.stdin:
        print(json.dumps(parent.play(json.loads(line))), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # nobody waits for an answer any more
        main()
