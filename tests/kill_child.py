"""The processes that `test_kill_processes.py` and `test_concurrency.py` start: a warm parent that forks and kills.

Run as `python -m tests.kill_child`; it reads one JSON object a line (a `Job`) and answers each with one. It has no
threads, so that its children may do as they like. How often and what is asked is the tests' choice.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

from sqlalchemy import event

from gateway_client import Client, Money, NotNow, PaymentIntent, RetryPolicy, Sandbox, Stripe, db, sockets
from gateway_client.flow.effects import BeginSend, Claim, DatabaseEffect, Effect, MeetProvider, Send, Settle
from gateway_client.tables import Base

T = TypeVar("T")

CHILD_S_MAX = 20.0
POLICY = RetryPolicy(delay_s_first=0.005, delay_s_max=0.05, in_flight_s_max=10.0)

# FAULTS A, F01–F07: where the child ends itself. "commit" is inside the transaction, before it is committed.
POINTS: dict[str, tuple[type[Effect[Any]], str]] = {
    "p1": (Claim, "commit"),
    "p1_send": (Claim, "commit"),
    "p2": (BeginSend, "commit"),
    "p3": (BeginSend, "after"),
    "p3_claim": (Claim, "after"),
    "p4": (Send, "write"),
    "p5": (Send, "read"),
    "p6": (Send, "after"),
    "p6_commit": (Settle, "commit"),
    "p7": (Settle, "after"),
}
MET = ("p1_send", "p3_claim")
"""Points of a process that has met the provider: there one commit writes the row and begins its first send."""


class Job(TypedDict, total=False):
    """One thing to do: charge these intents, at once when there are several, or resume when there is none."""

    intents: list[str]
    point: str | None  # of POINTS: the child ends itself there
    delay_s: float | None  # the parent ends the child after this time


class Report(TypedDict):
    """What became of the children of a job."""

    signals: list[int]  # 0 for a child that came to its end
    states: list[str | None]  # what the caller was told, None when nothing
    elapsed_s: float


def order(intent_id: str) -> PaymentIntent:
    return PaymentIntent(intent_id, Money(1999, "usd"), "pm_card_visa")


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # it never comes to this


def patch(owner: object, name: str, function: Callable[..., object]) -> None:
    """For the rest of this process and its children, which are short."""
    setattr(owner, name, function)


class Ending(Client):
    """Ends its process at a point of the flow."""

    point: tuple[type[Effect[Any]], str] | None = None

    def perform(self, effect: Effect[T]) -> T:
        if self.point is None or not isinstance(effect, self.point[0]):
            return super().perform(effect)
        where = self.point[1]
        if where == "commit" and isinstance(effect, DatabaseEffect):
            event.listen(self._database._engine, "commit", lambda connection: end())
        if where == "write":
            self._end_in_mid_body()
        if where == "read":
            patch(sockets.Connection, "receive", lambda connection, bytes_max: end())
        result = super().perform(effect)
        if where == "after":
            end()
        return result

    def _end_in_mid_body(self) -> None:
        send = sockets.Connection.send

        async def half(connection: sockets.Connection, data: memoryview) -> None:
            head, _, body = bytes(data).partition(b"\r\n\r\n")
            await send(connection, data[: len(data) - len(body) // 2])
            if b"idempotency-key" in head.lower():
                end()

        patch(sockets.Connection, "send", half)


def work(job: Job, intent_id: str | None, url: str, database: str) -> str:
    """What a child does: the state that the caller is told."""
    with Ending(Stripe("sk_test_sandbox", api_base=url), database=database, timeout_s=5.0, retry=POLICY) as client:
        if job.get("point") in MET:
            client.perform(MeetProvider())
        client.point = POINTS.get(job.get("point") or "")
        if intent_id is not None:
            return client.charge(order(intent_id)).state.value
        try:
            client.resume()
        except NotNow as problem:
            return type(problem).__name__
        return "resumed"


def fork(child: Callable[[int], None]) -> tuple[int, int]:
    """The child's process id, and the end of a pipe on which it says one thing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            child(writing)
        except BaseException as problem:
            os.write(writing, f"{type(problem).__name__}: {problem}".encode()[:2000])
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


def run(job: Job, url: str, database: str) -> Report:
    """Fork a child for each intent, let them begin at the same moment, end them in time, and gather what they said."""
    gate_reading, gate_writing = os.pipe()
    begun = time.monotonic()

    def child(intent_id: str | None, writing: int) -> None:
        os.close(gate_writing)
        os.read(gate_reading, 1)  # the parent closes its end: all children go at once
        os.write(writing, work(job, intent_id, url, database).encode())

    intents: list[str | None] = [*job.get("intents", [])] or [None]
    children = [fork(lambda writing, intent_id=intent_id: child(intent_id, writing)) for intent_id in intents]  # type: ignore[misc]
    os.close(gate_reading)
    os.close(gate_writing)
    delay_s = job.get("delay_s")
    deadline = begun + (CHILD_S_MAX if delay_s is None else delay_s)
    said: list[str | None] = []
    signals: list[int] = []
    for pid, reading in children:
        select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if delay_s is not None or time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)  # ours, and not yet waited for: its id belongs to nobody else
        _, status = os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as pipe:
            said.append(pipe.read().decode() or None)
        signals.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
    return Report(signals=signals, states=said, elapsed_s=time.monotonic() - begun)


def warm(database: str) -> None:
    """Load, compile and remember what every child would do anew; leave no row and no connection."""
    engine = db.Database(database)._engine
    patch(db, "create_engine", lambda url, **options: engine)
    with Client(Stripe("sk_test_sandbox"), database=database, transport=Sandbox().transport()) as client:
        client.charge(order("warm"))
        client.resume()
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    engine.dispose()


def main() -> None:
    url, database = sys.argv[1:]
    warm(database)
    print(json.dumps("warm"), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), url, database)), flush=True)


if __name__ == "__main__":
    main()
