"""A big queue drained by several workers in virtual time: sends a charge, the highest rate, questions in an outage.

`python -m tests.drain` runs ten thousand charges on both databases and prints its figures; `test_drain.py` runs fewer.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import httpx
from sqlalchemy.orm import Session

from gateway_client import Charge, Client, Sandbox, Stripe, Worker
from gateway_client.flow import working
from tests.kit import ORDER, FakeClock
from tests.worker_kit import DATABASES, TimedWorld

WORKERS, RATE, OUTAGE_S = 3, 25.0, 7200.0
HANG_S = 300.0  # a worker that is not heard of for so long will not be


class SharedClock(FakeClock):
    """One time for several threads: it moves on when all of them wait, to the moment at which the first wakes up."""

    def __init__(self, hands: int) -> None:
        super().__init__()
        self._hands = hands
        self._waiting: list[tuple[float, int, threading.Event]] = []
        self._order, self._lock = itertools.count(), threading.Lock()
        self._chance = random.Random(0)

    def jitter(self) -> float:
        return self._chance.random()

    def sleep(self, seconds: float) -> None:
        woken = threading.Event()
        with self._lock:
            heapq.heappush(self._waiting, (self.true_time() + seconds, next(self._order), woken))
            self._move_on()
        assert woken.wait(HANG_S), "a worker hangs"

    def leave(self) -> None:
        """One of them waits no more."""
        with self._lock:
            self._hands -= 1
            self._move_on()

    def _move_on(self) -> None:
        if self._waiting and len(self._waiting) == self._hands:
            at, _, woken = heapq.heappop(self._waiting)
            self.advance(seconds=max(0.0, at - self.true_time()))
            woken.set()


@dataclass
class Drained:
    """What was seen of one queue."""

    charges: int
    succeeded: dict[str, int] = field(default_factory=dict)
    sends: list[float] = field(default_factory=list)  # when, in seconds since the workers began
    questions: dict[int, list[float]] = field(default_factory=dict)  # of each worker
    outage: tuple[float, float] = (0.0, 0.0)
    unanswered: int = 0  # sends in it
    real_s: float = 0.0

    @property
    def charged_once(self) -> bool:
        return self.succeeded == {f"order_{number}": 1 for number in range(self.charges)}

    @property
    def sends_a_charge(self) -> float:
        return len(self.sends) / self.charges

    @property
    def questions_in_outage(self) -> list[list[float]]:
        """When each worker asked, while nobody answered."""
        begin, end = self.outage
        return [[at for at in asked if begin <= at < end] for asked in self.questions.values()]

    def highest(self, seconds: float) -> int:
        """The most sends in any window of that length."""
        return highest(sorted(self.sends), seconds)


def highest(times: Sequence[float], seconds: float) -> int:
    """The most of these times, in their order, in any half-open window of that length."""
    return max(bisect_left(times, at + seconds - 1e-6) - number for number, at in enumerate(times)) if times else 0


def drain(kind: str, charges: int, *, outage: bool = False) -> Drained:
    """Prepare charges, and let the workers finish them; in an `outage` nobody answers for two hours."""
    drained = Drained(charges)
    with TimedWorld(kind) as world:
        clock = SharedClock(WORKERS)
        world.clock, world.sandbox = clock, Sandbox(time=clock.true_time)
        began = clock.true_time()
        inside = world.sandbox.transport()

        def handle(worker: int, request: httpx.Request) -> httpx.Response:
            at = clock.true_time() - began
            if request.method == "POST":
                drained.sends.append(at)
                if outage and len(drained.sends) == charges // 2:
                    drained.outage = (at, at + OUTAGE_S)
            else:
                drained.questions.setdefault(worker, []).append(at)
            if drained.outage[0] <= at < drained.outage[1]:
                drained.unanswered += request.method == "POST"
                raise httpx.ConnectError("nobody is there")
            return inside.handle_request(request)

        def client(worker: int) -> Client:
            door = httpx.MockTransport(lambda request: handle(worker, request))
            return Client(Stripe(Sandbox.api_key), database=world._engine, transport=door, clock=clock)

        _prepare(world, client(0), charges)
        clock.advance(seconds=5)
        began = clock.true_time()
        drained.questions.clear()
        real = time.monotonic()
        _work(clock, [client(number) for number in range(WORKERS)], charges)
        drained.real_s = time.monotonic() - real
        drained.succeeded = dict(world.sandbox.succeeded())
    return drained


def _prepare(world: TimedWorld, client: Client, charges: int) -> None:
    with client:
        for first in range(0, charges, 1000):
            with Session(world._engine) as session:
                for number in range(first, min(first + 1000, charges)):
                    client.prepare(replace(ORDER, intent_id=f"order_{number}"), session)
                session.commit()


def _work(clock: SharedClock, clients: list[Client], charges: int) -> None:
    """All workers at once, until every charge is final."""
    final: set[str] = set()
    failures: list[BaseException] = []

    def hear(news: Charge | str) -> None:
        if not isinstance(news, str) and news.final:
            final.add(news.intent_id)
        if len(final) == charges:
            stop()

    def stop() -> None:
        for worker in workers:
            worker.stop()

    def run(worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as failure:
            failures.append(failure)
            stop()
        finally:
            clock.leave()

    workers = [Worker(client, rate=RATE, news=hear) for client in clients]
    threads = [threading.Thread(target=run, args=(worker,), daemon=True) for worker in workers]
    with _long_slices():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_S + charges)
    assert (failures, [thread.is_alive() for thread in threads]) == ([], [False] * len(threads))
    for client in clients:
        client.close()


@contextmanager
def _long_slices() -> Iterator[None]:
    """Nobody tells these workers to end while they wait, so they need not listen four times a second for two hours."""
    with mock.patch.object(working, "SLICE_S", 5.0):
        yield


def told(drained: Drained) -> str:
    """The figures of one queue."""
    return (
        f"{drained.charges} charges in {drained.real_s:.0f} s, {drained.sends_a_charge:.3f} sends a charge, at most "
        f"{drained.highest(1.0)} sends in a second (set: {WORKERS * RATE:.0f})"
    )


def told_of_outage(drained: Drained) -> str:
    """What was tried while nobody answered."""
    asked = drained.questions_in_outage
    minute = max(highest(each, 60.0) for each in asked)
    return (
        f"{drained.unanswered} sends and {sum(map(len, asked))} questions in the outage, at most {minute} question "
        "in a minute of one worker"
    )


def main(charges: int = 10_000) -> None:
    print(f"{WORKERS} workers, at most {RATE:.0f} sends a second each; an outage lasts two hours", flush=True)
    for kind in DATABASES:
        database = "PostgreSQL" if kind.endswith("postgresql") else "SQLite"
        healthy, recovered = drain(kind, charges), drain(kind, charges, outage=True)
        assert healthy.charged_once
        assert recovered.charged_once
        print(f"{database}, healthy: {told(healthy)}", flush=True)
        print(f"{database}, outage: {told(recovered)}; {told_of_outage(recovered)}", flush=True)


if __name__ == "__main__":
    main()
