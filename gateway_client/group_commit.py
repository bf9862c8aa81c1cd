"""Group commits: whoever finds the writer free takes all works that wait, and commits them as one transaction.

No thread of its own, and no added wait: one work alone is one transaction. Which transaction that is, says `db.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock, RLock
from typing import Any, Generic, TypeVar, cast

from gateway_client.transaction import Ahead, machine_time

T = TypeVar("T")

SLEEP_S_MAX = 1.0  # a thread that sleeps looks by itself once in a while: no wake-up is trusted blindly
GROUP_MAX = 64  # works in one commit: a longer transaction would make the first of them wait for the last


@dataclass(eq=False)
class Job(Generic[T]):
    """A work that waits for its commit, and what became of it.

    `repeatable`: done twice it is as if it was done once. `intent_id`: the intent that it decides about, if it is one.
    `ahead`: reads what it would read, for several such works together.
    """

    work: Callable[[Any], T]
    repeatable: bool = True
    intent_id: str | None = None
    time: Callable[[], datetime] = machine_time  # what it takes for the provider's time
    ahead: Ahead | None = None
    ended: bool = False  # by a commit, by an error, or because it has to be done `alone`
    alone: bool = False  # nothing of it was committed: it is to be done once more, in a transaction of its own
    error: BaseException | None = None
    found: Any = None

    woken: Lock | None = None  # what its thread sleeps on, while another one leads

    def wake(self) -> None:
        """Have its thread look again: it has ended, or nobody leads."""
        if self.woken is not None:
            with suppress(RuntimeError):  # it is awake already
                self.woken.release()

    def end(self, *, error: BaseException | None = None, alone: bool = False) -> None:
        """Note how the group's transaction ended for this work."""
        self.error, self.alone, self.ended = error, alone, True

    def result(self) -> T:
        """Return what the work returned. Raises what ended it."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # an exception that holds itself by its frames is freed late
        return cast("T", self.found)


def wake_all(jobs: Sequence[Job[Any]]) -> None:
    """Wake the threads of jobs."""
    for job in jobs:
        job.wake()


class Waiting:
    """The works of one database that wait for the writer."""

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job[Any]) -> None:
        """Let a job wait for whoever leads next."""
        self._jobs.append(job)

    def first(self) -> Job[Any] | None:
        """The job that waits for the longest time."""
        try:
            return self._jobs[0]
        except IndexError:
            return None

    def withdraw(self, job: Job[Any]) -> bool:
        """Take a job back that no transaction has begun yet. Returns False when one has."""
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        return True

    def take(self) -> list[Job[Any]]:
        """Take the next group."""
        jobs: list[Job[Any]] = []
        with suppress(IndexError):  # no more of them: the last one may be withdrawn at this moment
            while len(jobs) < GROUP_MAX:
                jobs.append(self._jobs.popleft())
        jobs.sort(key=lambda job: job.intent_id or "")  # two processes lock the same intents in the same order
        return jobs


class Group:
    """The writer of one database, for threads."""

    def __init__(self, transaction: Callable[[Sequence[Job[Any]]], None]) -> None:
        self._transaction = transaction
        self._writer, self._led = RLock(), False
        self.waiting = Waiting()

    def run(self, job: Job[Any]) -> None:
        """Return once the job has ended, by this thread's transaction or by that of another one.

        Who finds the writer taken sleeps by himself: were all to wait for the writer, each would be woken by the one
        before him, only to find that his job has ended.
        """
        woken = job.woken = Lock()
        woken.acquire()
        self.waiting.add(job)
        waited = True
        try:
            while not job.ended:
                if self._led and waited:
                    waited = woken.acquire(timeout=SLEEP_S_MAX)  # not woken in all that time: it looks for itself
                    continue
                waited = True
                with self.hold():
                    if not job.ended:
                        self.lead()
        finally:
            if not job.ended:  # interrupted while it waited, perhaps just when it was to lead
                self.waiting.withdraw(job)
                self._wake_next()

    def lead(self, tell: Callable[[Sequence[Any]], None] = wake_all) -> None:
        """Do what waits, as one transaction; `tell` the jobs that have ended, however it ends."""
        jobs = self.waiting.take()
        if jobs:
            try:
                with led(jobs):
                    self._transaction(jobs)
            finally:
                tell(jobs)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Within it, nobody else leads: what comes waits, and is one group afterwards."""
        try:
            with self._writer:  # by `with` alone is it sure to be let go of, whenever its thread is interrupted
                self._led = True
                try:
                    yield
                finally:
                    self._led = False
        finally:
            self._wake_next()  # whoever came meanwhile sleeps

    def _wake_next(self) -> None:
        first = self.waiting.first()
        if first is not None:
            first.wake()


@contextmanager
def led(jobs: Sequence[Job[Any]]) -> Iterator[None]:
    """Leave no job of a group behind, whatever becomes of its leader."""
    try:
        yield
    finally:
        for job in jobs:
            if not job.ended:  # the leader was interrupted before the commit
                job.end(alone=True)
