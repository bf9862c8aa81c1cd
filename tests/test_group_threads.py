"""Threads that wait for each other's commits: each is woken when its work is done, and somebody always leads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway_client import StoreUnavailable
from gateway_client.async_db import ThreadedDatabase
from gateway_client.group_commit import Job, Waiting
from tests.test_group_commit import NAMES, WAIT_S_MAX, Bench, bench, note, soon

__all__ = ["bench"]  # the fixture


def test_a_new_store_s_tables_are_made_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task makes the tables while another one's work waits: that is not taken along, for nobody would tell it."""

    async def story() -> str:
        database, lead = ThreadedDatabase(f"sqlite:///{tmp_path / 'store.db'}"), ThreadedDatabase._lead
        with monkeypatch.context() as patched:
            patched.setattr(ThreadedDatabase, "_lead", lambda _: None)  # its thread is slow to come
            task = asyncio.create_task(database.transact(lambda tx: "done"))
            await asyncio.sleep(0)
            job: Any = database._database.group.waiting.first()
            await database.create()
        left_alone = not job.ended
        if not left_alone:
            job.committed.set_result(None)  # nobody else will
        assert left_alone
        lead(database)
        told = await asyncio.wait_for(task, WAIT_S_MAX)
        await database.close()
        return told

    assert asyncio.run(story()) == "done"


def test_a_group_whose_thread_is_ended(tmp_path: Path) -> None:
    """A work of an AsyncClient raises what ends a thread: its task hears of it, and the works after it are done."""

    def ending(tx: Any) -> None:
        raise SystemExit

    async def story() -> tuple[object, str]:
        database = ThreadedDatabase(f"sqlite:///{tmp_path / 'store.db'}")
        await database.create()
        async with asyncio.timeout(WAIT_S_MAX):
            (first,) = await asyncio.gather(database.transact(ending), return_exceptions=True)
            then = await database.transact(lambda tx: "done")
        await database.close()
        return type(first), then

    assert asyncio.run(story()) == (StoreUnavailable, "done")


class Emptied(deque[Any]):
    """A queue whose last job is withdrawn right after somebody has seen it there."""

    def __bool__(self) -> bool:
        return True


def test_a_job_that_is_withdrawn_as_the_group_is_taken() -> None:
    """A task is cancelled just then: the leader takes what is left, and goes on leading."""
    waiting, job = Waiting(), Job(note("a"))
    waiting._jobs = Emptied([job])
    assert waiting.take() == [job]
    assert waiting.take() == []


def test_who_is_done_waits_for_no_other_group(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next group takes its time: whoever was in the one before it has returned by then."""
    monkeypatch.setattr("gateway_client.group_commit.GROUP_MAX", len(NAMES))
    group, go_on = bench.database.group, threading.Event()

    def slow(tx: Any) -> str:
        assert go_on.wait(WAIT_S_MAX)
        return note("slow")(tx)

    with ThreadPoolExecutor(len(NAMES) + 1) as pool:
        with group.hold():
            futures = []
            for number, work in enumerate([*map(note, NAMES), slow], 1):
                futures.append(pool.submit(bench.database.transact, work))
                soon(lambda number=number: len(group.waiting) == number)  # type: ignore[misc]
        *first, last = futures
        assert [future.result(WAIT_S_MAX) for future in first] == NAMES
        assert not last.done()
        go_on.set()
        assert last.result(WAIT_S_MAX) == "slow"


class Interrupted:
    """A lock on which somebody sleeps who is interrupted just as he is woken."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def acquire(self, timeout: float = -1.0) -> bool:
        if timeout > 0:
            assert self._woken.wait(WAIT_S_MAX)
            raise KeyboardInterrupt
        return True

    def release(self) -> None:
        self._woken.set()


def test_a_thread_that_is_interrupted_as_it_is_to_lead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a thread that is woken to lead: its work is not done, and the next one leads in its place."""
    monkeypatch.setattr("gateway_client.group_commit.SLEEP_S_MAX", 2 * WAIT_S_MAX)
    group = bench.database.group
    with ThreadPoolExecutor(2) as pool:
        with group.hold():
            with monkeypatch.context() as patched:
                patched.setattr("gateway_client.group_commit.Lock", Interrupted)
                interrupted = pool.submit(bench.database.transact, note("a"))
                soon(lambda: len(group.waiting) == 1)
            other = pool.submit(bench.database.transact, note("b"))
            soon(lambda: len(group.waiting) == 2)
        assert isinstance(interrupted.exception(WAIT_S_MAX), KeyboardInterrupt)
        assert other.result(WAIT_S_MAX) == "b"
    assert bench.notes == ["b"]


def test_many_threads_are_never_left_asleep(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However threads come, each work is done soon, although no sleeper ever looks by himself."""
    monkeypatch.setattr("gateway_client.group_commit.SLEEP_S_MAX", WAIT_S_MAX)
    monkeypatch.setattr("gateway_client.group_commit.GROUP_MAX", 3)
    begun = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        names = [f"w{number:03}" for number in range(200)]
        assert list(pool.map(lambda name: bench.database.transact(note(name)), names)) == names
    assert (bench.notes, time.monotonic() - begun < WAIT_S_MAX) == (names, True)
