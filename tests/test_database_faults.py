"""Databases that fail while they are used, on real SQLite files: nothing is sent, and the error says what is wrong.

Not here: databases that are refused when they are opened (`test_database.py`).
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway_client import (
    Charge,
    ConfigurationError,
    NeedsPerson,
    OutcomeNotRecorded,
    Sandbox,
    State,
    StoreUnavailable,
    sqlite,
)
from gateway_client.db import Database
from tests.oracle_disk import KINDS, charge_by, engine_of, locked, sql
from tests.oracle_world import (
    StillClock,
    async_client_of,
    client_of,
    database_url,
    intent_of,
    posts,
    sandbox_of,
)

LOCK_S = 0.2
SLACK_S = 4.0  # a busy machine's; with the usual time it takes five seconds
LARGE = {f"name_{number}": "x" * 480 for number in range(46)}  # a row of several pages: it never fits into a free one


class Shop:
    """A provider and a store that has already charged one intent."""

    def __init__(self, folder: Path) -> None:
        self.clock = StillClock()
        self.sandbox = sandbox_of(self.clock)
        self.url, self.path = database_url(folder), folder / "charges.db"
        self.charge("sync", self.url, "first")

    def charge(self, kind: str, database: Any, intent_id: str = "order_42", **changes: Any) -> Charge:
        return charge_by(kind, self.sandbox, database, intent_of(intent_id, **changes), self.clock)

    def refused(self, kind: str, database: Any, **changes: Any) -> str:
        """A charge that the database refuses before anything is sent; what the error says."""
        with pytest.raises(StoreUnavailable) as refused:
            self.charge(kind, database, **changes)
        assert posts(self.sandbox) == 1
        assert not isinstance(refused.value, OutcomeNotRecorded)
        assert refused.value.__cause__ is not refused.value
        return str(refused.value)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", LOCK_S)
    monkeypatch.setattr(sqlite, "OPTIONS", {"connect_args": {"timeout": LOCK_S}})


# Before the send -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_locked_database_stops_before_a_send(kind: str, shop: Shop, impatient: None) -> None:
    """F66: while somebody else writes, a charge waits for the lock's time, then says "locked" and sends nothing."""
    with locked(shop.path):
        start = time.monotonic()
        message = shop.refused(kind, shop.url)
        took_s = time.monotonic() - start
    assert "it stayed locked" in message
    assert str(shop.path) in message
    assert "Nothing more was sent" in message
    assert LOCK_S * 0.9 < took_s < LOCK_S + SLACK_S
    assert shop.charge(kind, shop.url).state is State.SUCCEEDED


def test_a_short_lock_is_waited_out(shop: Shop) -> None:
    """F66: a lock that is given back in time is no error."""
    with ExitStack() as stack:
        stack.enter_context(locked(shop.path))
        real = Database.transact

        def release(self: Database, *arguments: Any, **options: Any) -> Any:
            stack.close()
            return real(self, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "transact", release)
            assert shop.charge("sync", shop.url).state is State.SUCCEEDED


def read_only(shop: Shop) -> Callable[[str], Any]:
    return engine_of(f"sqlite:///file:{shop.path}?mode=ro&uri=true")


def query_only(shop: Shop) -> Callable[[str], Any]:
    return engine_of(shop.url, "query_only = 1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [read_only, query_only])
def test_a_read_only_database_stops_before_a_send(make: Callable[[Shop], Any], kind: str, shop: Shop) -> None:
    """F82: a file that can only be read is said to be so, and nothing is sent."""
    assert "it is read-only" in shop.refused(kind, make(shop))


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_stops_before_a_send(kind: str, shop: Shop) -> None:
    """F68: no room for the pending row: "the disk is full", and nothing is sent."""
    (pages,) = sql(shop.path, "PRAGMA page_count")[0]
    message = shop.refused(kind, engine_of(shop.url, f"max_page_count = {pages + 1}"), metadata=LARGE)
    assert "the disk is full" in message
    assert sql(shop.path, "SELECT count(*) FROM pending_charges") == [(1,)]
    assert shop.charge(kind, shop.url, metadata=LARGE).state is State.SUCCEEDED


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_stops_before_a_send(kind: str, shop: Shop) -> None:
    """F78: a file whose header is garbage is "not a SQLite database"; it is left as it is."""
    other = shop.path.with_name("letter.db")
    other.write_bytes(b"Dear Sir or Madam, " * 500)
    message = shop.refused(kind, f"sqlite:///{other}")
    assert "its file is not a SQLite database" in message
    assert other.read_bytes() == b"Dear Sir or Madam, " * 500


def parts_of_a_store(folder: Path) -> list[str]:
    database = Database(database_url(folder))
    database.create()
    database.close()
    names = sql(folder / "charges.db", "SELECT name FROM sqlite_master WHERE rootpage > 0 ORDER BY name")
    return [name for (name,) in names]


def test_a_damaged_page_stops_before_a_send(tmp_path: Path) -> None:
    """F78: whichever table or index lost a page: "damaged" and nothing sent, unless the charge needs nothing of it."""
    (tmp_path / "empty").mkdir()
    unread, said = set(), []
    for number, name in enumerate(parts_of_a_store(tmp_path / "empty")):
        (tmp_path / str(number)).mkdir()
        shop = Shop(tmp_path / str(number))
        ((root,),) = sql(shop.path, "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,))
        ((size,),) = sql(shop.path, "PRAGMA page_size")
        with shop.path.open("r+b") as file:
            file.seek((root - 1) * size)
            file.write(b"\xa5" * size)
        try:
            assert shop.charge("sync", shop.url).state is State.SUCCEEDED
            unread.add(name)
        except StoreUnavailable as error:
            said.append((name, "its file is damaged" in str(error), posts(shop.sandbox)))
    # An intent without a finding is known as such by the index alone; one with a finding would be read, and refused.
    # The schema's version is read from its index, too.
    assert said == [(name, True, 1) for name, _, _ in said]
    of_the_night = {name for name in unread if "paycli_run" in name or "told_alerts" in name}
    by_id, still_open = "sqlite_autoindex_paycli_findings_1", "paycli_findings_open"
    sent_again, upon = "paycli_sends_again", "pending_charges_by_parent"  # a first send, a charge is in no part of it
    assert unread - of_the_night == {"paycli_findings", by_id, still_open, sent_again, upon, "paycli_version"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_stops_before_a_send(kind: str, shop: Shop) -> None:
    """F74, F78: half a file is damaged, not empty."""
    whole = shop.path.read_bytes()
    shop.path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    assert "its file is damaged" in shop.refused(kind, shop.url)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_there_stops_before_a_send(kind: str, shop: Shop) -> None:
    """A missing folder, or a folder in the file's place: the error names the whole path."""
    missing = shop.path.parent / "nowhere" / "charges.db"
    assert f"cannot create {missing}" in shop.refused(kind, f"sqlite:///{missing}")
    (shop.path.parent / "folder.db").mkdir()
    with pytest.raises(ConfigurationError, match=r"folder\.db, which is a folder or a device: name a file"):
        shop.charge(kind, f"sqlite:///{shop.path.parent / 'folder.db'}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_constraint_is_not_called_unavailable(kind: str, shop: Shop) -> None:
    """D7: what the tables refuse, by a hand or a damaged index, is told in words: trying again would not help."""
    sql(
        shop.path,
        "CREATE TRIGGER refuse BEFORE INSERT ON pending_charges BEGIN SELECT RAISE(ABORT, 'by hand'); END",
    )
    with pytest.raises(NeedsPerson, match=r"refused a row by a rule of its tables .*REINDEX"):
        shop.charge(kind, shop.url)
    assert posts(shop.sandbox) == 1


# After the answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_that_cannot_be_recorded_is_named(kind: str, shop: Shop, impatient: None) -> None:
    """F69: the provider charged and our database refuses: the error names its charge, and resume records it: once."""
    with ExitStack() as stack:

        def answer(request: httpx.Request) -> httpx.Response:
            response = shop.sandbox.transport().handle_request(request)
            if request.method == "POST":
                stack.enter_context(locked(shop.path))
            return response

        transport = httpx.MockTransport(answer)
        with pytest.raises(OutcomeNotRecorded) as lost:
            charge_through(kind, shop, transport)
    charge_id = shop.sandbox.charges[0]["id"]
    assert re.search(rf"order_42 attempt 1: .* succeeded \(charge {charge_id}, request req_\w+\)", str(lost.value))
    assert "run resume" in str(lost.value)
    assert "Nothing was sent" not in str(lost.value)
    assert sql(shop.path, "SELECT state FROM pending_charges WHERE intent_id = 'order_42'") == [("sending",)]
    with client_of(shop.sandbox, shop.clock, shop.url) as client:
        (resumed,) = client.resume()
    assert (resumed.state, resumed.provider_charge_id) == (State.SUCCEEDED, charge_id)
    assert shop.sandbox.succeeded()["order_42"] == 1


def charge_through(kind: str, shop: Shop, transport: httpx.MockTransport) -> Charge:
    if kind == "sync":
        with client_of(shop.sandbox, shop.clock, shop.url, transport=transport) as client:
            return client.charge(intent_of())

    async def run() -> Charge:
        async with async_client_of(shop.sandbox, shop.clock, shop.url, transport=transport) as client:
            return await client.charge(intent_of())

    return asyncio.run(run())


def failing_sync(shop: Shop, number: int) -> Callable[[str], Any]:
    """Makes an engine whose so manieth commit meets a disk that cannot keep it."""

    def make(driver: str) -> Any:
        engine = engine_of(shop.url)(driver)
        dialect = getattr(engine, "sync_engine", engine).dialect
        really, commits = dialect.do_commit, [0]

        def commit(connection: Any) -> None:
            commits[0] += 1
            if commits[0] == number:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
                raise error
            really(connection)

        dialect.do_commit = commit
        return engine

    return make


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_cannot_sync(kind: str, number: int, shop: Shop) -> None:
    """F70: EIO at the sync of a commit is no commit: before the send nothing is sent, after it the charge is named.

    The error is planted in the driver; on a real file, at each fdatasync, it is met by `make syscalls`.
    """
    with pytest.raises(StoreUnavailable, match="the disk reported an error") as refused:
        shop.charge(kind, failing_sync(shop, number))
    assert isinstance(refused.value, OutcomeNotRecorded) is (number == 3)
    assert posts(shop.sandbox) == 1 + (number == 3)
    left = sql(shop.path, "SELECT state FROM pending_charges WHERE intent_id = 'order_42'")
    assert left == {1: [], 2: [("prepared",)], 3: [("sending",)]}[number]
    assert shop.charge(kind, shop.url).state is State.SUCCEEDED
    assert shop.sandbox.succeeded()["order_42"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_bug_at_the_last_step_still_names_the_charge(kind: str, shop: Shop) -> None:
    """F69: whatever error the database gives to an outcome, the caller hears of the provider's charge."""
    sql(
        shop.path,
        "CREATE TRIGGER refuse BEFORE UPDATE ON paycli_sends BEGIN SELECT RAISE(ABORT, 'by hand'); END",
    )
    with pytest.raises(OutcomeNotRecorded) as lost:
        shop.charge(kind, shop.url)
    assert shop.sandbox.charges[0]["id"] in str(lost.value)
    sql(shop.path, "DROP TRIGGER refuse")
    with client_of(shop.sandbox, shop.clock, shop.url) as client:
        assert [charge.state for charge in client.resume()] == [State.SUCCEEDED]
    assert shop.sandbox.succeeded()["order_42"] == 1


def test_every_write_takes_its_lock_at_the_start(shop: Shop) -> None:
    """F67: a reader that becomes a writer could deadlock; ours has the write lock before its first statement."""
    database = Database(shop.url)
    others = database.transact(lambda session: lock_is_free(shop.path))
    database.close()
    assert (others, lock_is_free(shop.path)) == (False, True)


def lock_is_free(path: Path) -> bool:
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        other.close()
    return True


def test_the_sandbox_of_these_tests_charges(shop: Shop) -> None:
    """The shop works when nothing is broken: these tests would otherwise prove nothing."""
    assert shop.charge("async", shop.url).state is State.SUCCEEDED
    assert isinstance(shop.sandbox, Sandbox)
    assert posts(shop.sandbox) == 2
