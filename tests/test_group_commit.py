"""Works that wait at the same time are one commit, and each ends as if it had been alone (`group_commit.py`)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from gateway_client import StoreUnavailable
from gateway_client import postgres as backend
from gateway_client.async_db import AsyncEngineDatabase
from gateway_client.db import Database
from gateway_client.errors import NeedsPerson
from gateway_client.group_commit import Job, Waiting
from gateway_client.postgres_errors import LOCK_TIMEOUT_S
from gateway_client.transaction import Opened
from tests import postgres

WAIT_S_MAX = 30.0
DATABASES = ["sqlite", "postgresql"]


class Bench:
    """A database with a table of notes, and works that wait for its writer until they are let go, all at once."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.database.create()
        self.hand = create_engine(url)
        self.sql("CREATE TABLE notes (name TEXT PRIMARY KEY)")
        self.said: list[str] = []
        event.listen(self.database._engine, "before_cursor_execute", self._hear)
        event.listen(self.database._engine, "commit", lambda _: self.said.append("COMMIT"))

    def _hear(self, connection: Any, cursor: Any, statement: str, *more: object) -> None:
        self.said.append(statement)

    def sql(self, statement: str) -> list[Any]:
        with self.hand.begin() as connection:
            found = connection.execute(text(statement))
            return [name for (name,) in found] if found.returns_rows else []

    @property
    def notes(self) -> list[str]:
        """What is on disk."""
        return self.sql("SELECT name FROM notes ORDER BY name")

    @property
    def commits(self) -> int:
        return self.said.count("COMMIT")

    def together(self, *works: Callable[[Any], Any], repeatable: bool = True) -> list[Future[Any]]:
        """Let works wait until the last of them does, then go; each in a thread of its own. All are done afterwards."""
        group = self.database.group
        pool = ThreadPoolExecutor(len(works))
        with group.hold():
            futures = []
            for number, work in enumerate(works, 1):
                call = pool.submit(self.database.transact, work, repeatable=repeatable, intent_id=f"order_{number}")
                futures.append(call)
                soon(lambda number=number: len(group.waiting) == number)  # type: ignore[misc]
            self.said.clear()
        for future in futures:
            future.exception(WAIT_S_MAX)
        pool.shutdown()
        return futures

    def close(self) -> None:
        self.database.close()
        self.hand.dispose()


def soon(true: Callable[[], bool]) -> None:
    last = time.monotonic() + WAIT_S_MAX
    while not true():
        assert time.monotonic() < last
        time.sleep(0.002)


@pytest.fixture(params=DATABASES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    url = (
        f"sqlite:///{tmp_path / 'store.db'}" if request.param == "sqlite" else postgres.shown(postgres.fresh_database())
    )
    made = Bench(url)
    yield made
    made.close()


def note(name: str) -> Callable[[Any], str]:
    def work(tx: Any) -> str:
        tx.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
        return name

    return work


def refusing(name: str, error: Exception) -> Callable[[Any], Any]:
    def work(tx: Any) -> None:
        note(name)(tx)
        raise error

    return work


NAMES = [f"n{number}" for number in range(20)]


def test_works_that_wait_are_one_commit(bench: Bench) -> None:
    """Twenty works, one commit, and each of them has what it returned."""
    futures = bench.together(*map(note, NAMES))
    assert [future.result() for future in futures] == NAMES
    assert (bench.notes, bench.commits) == (sorted(NAMES), 1)


def test_one_work_has_no_savepoint(bench: Bench) -> None:
    """At one in flight there is nothing but the work's own transaction."""
    bench.together(note("alone"))
    assert [statement for statement in bench.said if "SAVEPOINT" in statement] == []
    assert (bench.notes, bench.commits) == (["alone"], 1)


def test_a_work_that_fails_fails_alone(bench: Bench) -> None:
    """What it wrote is undone, its caller hears of it, and all others are committed together."""
    futures = bench.together(note("a"), refusing("b", NeedsPerson("look")), note("c"))
    assert isinstance(futures[1].exception(), NeedsPerson)
    assert [futures[0].result(), futures[2].result()] == ["a", "c"]
    assert (bench.notes, bench.commits) == (["a", "c"], 1)


def test_a_work_that_the_database_refuses_fails_alone(bench: Bench) -> None:
    """A row that the tables do not allow: only that work is undone and tried once more, in a transaction of its own."""
    bench.sql("INSERT INTO notes VALUES ('b')")
    futures = bench.together(note("a"), note("b"), note("c"))
    assert isinstance(futures[1].exception(), NeedsPerson | StoreUnavailable)
    assert [futures[0].result(), futures[2].result()] == ["a", "c"]
    assert (bench.notes, bench.commits) == (["a", "b", "c"], 1)


def test_a_work_that_failed_by_what_another_undid_is_done_again(bench: Bench) -> None:
    """The last of three ends their transaction: no word on the others, said in it, is believed."""
    ended: list[bool] = []

    def seeing(tx: Any) -> str:
        if tx.execute(text("SELECT 1 FROM notes WHERE name = 'a'")).first() is not None and not ended:
            raise NeedsPerson("it is there")
        return "free"

    def ending(tx: Any) -> str:
        if not ended:
            ended.append(True)
            tx.connection.invalidate()
            raise lost()
        return "late"

    once: list[str] = []

    def writing(tx: Any) -> str:
        note("a")(tx)
        once.append("a")
        return "a"

    futures = bench.together(writing, seeing, ending)
    assert [future.exception() for future in futures] == [None, None, None]
    assert futures[1].result() == "free" or len(once) == 2
    assert bench.notes == ["a"]


def lost() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_commit_that_nobody_confirmed(bench: Bench, repeatable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was done, and its connection lost: each work finds by its own key what is there, or says that it may be."""
    tries: list[str] = []

    def keyed(name: str) -> Callable[[Any], str]:
        def work(tx: Any) -> str:
            tries.append(name)
            if tx.execute(text("SELECT 1 FROM notes WHERE name = :name"), {"name": name}).first() is None:
                note(name)(tx)
            return name

        return work

    after, lose = bench.database._backend.after_commit, [True]

    def unconfirmed(opened: Opened) -> None:
        after(opened)
        if lose:
            lose.clear()
            raise lost()

    monkeypatch.setattr(bench.database._backend, "after_commit", unconfirmed)
    futures = bench.together(keyed("a"), keyed("b"), repeatable=repeatable)
    assert bench.notes == ["a", "b"]
    if repeatable:
        assert ([future.result() for future in futures], sorted(tries)) == (["a", "b"], ["a", "a", "b", "b"])
    else:
        assert {type(future.exception()) for future in futures} == {StoreUnavailable}
        assert sorted(tries) == ["a", "b"]


def test_a_leader_that_is_interrupted(bench: Bench) -> None:
    """Ctrl-C in the thread that commits for all: it hears of it, and the others' works are done all the same."""
    hits: list[str] = []

    def interrupted(tx: Any) -> str:
        if not hits:
            hits.append(threading.current_thread().name)
            raise KeyboardInterrupt
        return note("b")(tx)

    futures = bench.together(note("a"), interrupted, note("c"))
    ends = [future.exception() for future in futures]
    assert [type(end) for end in ends].count(KeyboardInterrupt) == 1
    done = {name for name, end in zip("abc", ends, strict=True) if end is None}
    assert set(bench.notes) == done


def test_more_works_than_one_commit_takes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group has a largest size; the next ones are the next group."""
    monkeypatch.setattr("gateway_client.group_commit.GROUP_MAX", 8)
    futures = bench.together(*map(note, NAMES))
    assert [future.result() for future in futures] == NAMES
    assert (bench.notes, bench.commits) == (sorted(NAMES), 3)


@contextmanager
def locked(engine: Engine, number: int) -> Iterator[None]:
    """Within it another transaction has the lock of an intent."""
    with engine.connect() as connection:
        backend.lock(connection, f"order_{number}")
        yield


WAITS = "SELECT datname FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


def test_a_work_that_waits_for_a_lock_holds_up_nobody() -> None:
    """An intent that somebody's `prepare` has: its own work waits for it, those beside it are committed at once."""
    made = Bench(postgres.shown(postgres.fresh_database()))
    group = made.database.group
    with ThreadPoolExecutor(3) as pool, locked(made.hand, 2):
        with group.hold():
            futures = []
            for number, name in enumerate("abc", 1):
                futures.append(pool.submit(made.database.transact, note(name), intent_id=f"order_{number}"))
                soon(lambda number=number: len(group.waiting) == number)  # type: ignore[misc]
        held_s_max = LOCK_TIMEOUT_S - 1.0  # else they have waited as long as a work of its own may
        assert [futures[0].result(held_s_max), futures[2].result(held_s_max)] == ["a", "c"]
        soon(lambda: futures[1].done() or bool(made.sql(WAITS)))
        assert (futures[1].done(), made.notes) == (False, ["a", "c"])
    assert futures[1].result(WAIT_S_MAX) == "b"
    assert made.notes == ["a", "b", "c"]
    made.close()


def test_a_group_is_in_the_order_of_its_intents() -> None:
    """In whatever order their callers came: two processes that lock the same intents wait only one for the other."""
    waiting = Waiting()
    for name in ("n2", None, "n1"):
        waiting.add(Job(note(str(name)), intent_id=name))
    assert [job.intent_id for job in waiting.take()] == [None, "n1", "n2"]


def test_two_processes_lock_their_intents_in_one_order() -> None:
    """Two groups of the same intents, each in another order: no deadlock, and each work is done."""
    url = postgres.shown(postgres.fresh_database())
    one, two = Bench(url), Database(url)
    two.create()
    names = [f"n{number}" for number in range(8)]
    with ThreadPoolExecutor(16) as pool, one.database.group.hold(), two.group.hold():
        mine = [pool.submit(one.database.transact, note(name), intent_id=name) for name in names]
        theirs = [pool.submit(two.transact, note(f"other {name}"), intent_id=name) for name in reversed(names)]
        soon(lambda: (len(one.database.group.waiting), len(two.group.waiting)) == (8, 8))
    done = [future.result(WAIT_S_MAX) for future in (*mine, *theirs)]
    assert one.notes == sorted(done)
    one.close()
    two.close()


def test_tasks_on_an_engine_of_the_caller_s(tmp_path: Path) -> None:
    """Twenty tasks that wait at the same time are one commit there, too; one that fails and one that is cancelled
    take nobody with them.
    """
    made = Bench(f"sqlite:///{tmp_path / 'store.db'}")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    commits: list[str] = []
    event.listen(engine.sync_engine, "commit", lambda _: commits.append("COMMIT"))

    async def story() -> list[object]:
        database = AsyncEngineDatabase(engine)
        async with asyncio.timeout(WAIT_S_MAX), database._writer:
            works = [*map(note, NAMES), refusing("b", NeedsPerson("look"))]
            tasks = [asyncio.create_task(database.transact(work)) for work in works]
            cancelled = asyncio.create_task(database.transact(note("cancelled")))
            while len(database._waiting) < len(works) + 1:  # noqa: ASYNC110 - until all wait
                await asyncio.sleep(0)
            cancelled.cancel()
            while len(database._waiting) > len(works):  # noqa: ASYNC110 - until it does no more
                await asyncio.sleep(0)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await engine.dispose()
        return [type(end) if isinstance(end, BaseException) else end for end in ended]

    assert asyncio.run(story()) == [*NAMES, NeedsPerson]
    assert (made.notes, commits) == (sorted(NAMES), ["COMMIT"])
    made.close()
