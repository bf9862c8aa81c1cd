"""The tables on a real SQLite file: how they come to be, which rows they refuse, how times come back.

Not here: opening the file (`test_database.py`).
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Table, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError
from sqlmodel import SQLModel

from gateway_client import NeedsPerson, State, columns
from gateway_client.db import Database
from gateway_client.gateways.base import Binding
from gateway_client.tables import Base
from tests.oracle_disk import sql
from tests.oracle_world import (
    database_url,
)

DIALECTS = (sqlite.dialect(), postgresql.dialect())  # type: ignore[no-untyped-call]

ROW = {
    "intent_id": "order_42",
    "operation": "charge",
    "attempt": 1,
    "revision": 1,
    "state": "prepared",
    "idempotency_key": "pc1_x",
    "amount": 1999,
    "currency": "usd",
    "payment_method": "pm_1",
    "body": "",
    "body_sha256": "",
    "api_version": "",
    "created_at": datetime(2026, 11, 20, tzinfo=UTC),
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(database_url(tmp_path))
    found.create()
    yield found
    found.close()


def test_our_tables_are_not_in_the_global_metadata() -> None:
    """Our tables live in other people's databases: SQLModel's own metadata, which hosts create from, is untouched."""
    assert set(SQLModel.metadata.tables) & set(Base.metadata.tables) == set()
    assert {name for name in Base.metadata.tables if not name.startswith("paycli_")} == {"pending_charges"}


def _by_name(table: Table) -> dict[str, tuple[list[str], object]]:
    """Each column's type in the words of both databases, and what an INSERT writes that leaves it out."""
    return {
        column.name: (
            [column.type.compile(dialect) for dialect in DIALECTS] + [type(column.type).__name__],
            None if column.default is None else getattr(column.default, "arg", column.default),
        )
        for column in table.columns
    }


def test_statements_name_the_columns_that_are_declared() -> None:
    """The tables of our statements have the names, types and defaults of those that SQLModel declares."""
    named = {found.name: found for found in vars(columns).values() if isinstance(found, Table)}
    assert tuple(Base.metadata.tables) == columns.TABLES
    assert set(named) == set(columns.TABLES)
    for name, declared in Base.metadata.tables.items():
        assert _by_name(named[name]) == _by_name(declared)
        assert [column for column in declared.columns if column.onupdate or column.server_default] == []


CREATING = """
import sys, time
from pathlib import Path
from gateway_client.db import Database
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
database.create()
"""


def test_two_processes_create_the_tables_at_once(tmp_path: Path) -> None:
    """Processes that start together on a new database all find it ready."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CREATING, database_url(tmp_path)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ended = [process.communicate("go\n", timeout=30) for process in started]
    assert [(process.returncode, errors) for process, (_, errors) in zip(started, ended, strict=True)] == [(0, "")] * 2
    assert len(sql(tmp_path / "charges.db", "SELECT * FROM pending_charges")) == 0


def test_threads_create_the_tables_at_once(tmp_path: Path) -> None:
    """Eight clients that open one new database at the same moment all can, ten times over."""
    failed: list[BaseException] = []

    def create(url: str, barrier: threading.Barrier) -> None:
        database = Database(url)
        barrier.wait(10)
        try:
            database.create()
        except BaseException as error:  # noqa: BLE001, RUF100 - whatever it is, the main thread must hear of it
            failed.append(error)
        database.close()

    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=create, args=(database_url(folder), barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert failed == []


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 19.99},
        {"amount": 0},
        {"amount": -1},
        {"amount": "many"},
        {"attempt": 0},
        {"state": "charged"},
        {"idempotency_key": None},
        {"body": None},
    ],
)
def test_the_database_refuses_a_senseless_row(change: dict[str, object], database: Database) -> None:
    """F80: whatever else goes wrong, no fractional, zero or negative amount and no unknown state is ever stored."""
    row = {**ROW, "created_at": "2026-11-20 00:00:00", **change}
    statement = f"INSERT INTO pending_charges ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})"
    with pytest.raises(NeedsPerson, match="refused a row by a rule of its tables"):
        database.transact(lambda tx: tx.execute(text(statement), row))


@pytest.mark.parametrize("state", [state for state in State if not state.refused])
def test_two_live_attempts_of_an_intent_cannot_be_stored(state: State, database: Database) -> None:
    """S1: the partial unique index allows one attempt that is live or succeeded, beside any number of refused ones."""
    refused = {**ROW, "state": "declined"}
    live = {**ROW, "attempt": 2, "state": state, "idempotency_key": "pc1_2"}
    again = {**ROW, "attempt": 3, "state": "prepared", "idempotency_key": "pc1_3"}
    database.transact(lambda tx: tx.execute(insert(columns.charges), [refused, live]))
    with pytest.raises(NeedsPerson, match="refused a row by a rule of its tables"):
        database.transact(lambda tx: tx.execute(insert(columns.charges), [again]))
    database.transact(lambda tx: tx.execute(insert(columns.charges), [{**again, "state": "canceled"}]))


def test_one_key_belongs_to_one_attempt(database: Database) -> None:
    """S4: two rows never share an idempotency key."""
    with pytest.raises(NeedsPerson, match="refused a row by a rule of its tables"):
        database.transact(lambda tx: tx.execute(insert(columns.charges), [ROW, {**ROW, "intent_id": "order_43"}]))


def test_a_store_belongs_to_one_account(database: Database) -> None:
    """The table `paycli_store` holds exactly one row."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    bound = Binding("stripe", "test", "acct_1", "a", "the store")
    row = {**asdict(bound), "created_at": now, "bound_by": "billing@web-3"}
    one, two = (insert(columns.store).values(id=number, **row) for number in (1, 2))
    database.transact(lambda tx: tx.execute(one))
    with pytest.raises(NeedsPerson, match="refused a row by a rule of its tables"):
        database.transact(lambda tx: tx.execute(two))


def test_times_come_back_as_they_went(database: Database) -> None:
    """A time of any zone comes back as the same instant in UTC; one without a zone is refused."""
    at = datetime(2026, 11, 20, 1, 2, 3, 456789, timezone(timedelta(hours=5, minutes=45)))
    database.transact(lambda tx: tx.execute(insert(columns.charges).values({**ROW, "created_at": at})))
    found = database.transact(lambda tx: tx.execute(select(columns.charges.c.created_at)).scalar_one())
    assert (found, found.tzinfo) == (at, UTC)
    naive = {**ROW, "intent_id": "order_43", "created_at": at.replace(tzinfo=None)}
    with pytest.raises(StatementError, match="a time without a zone"):
        database.transact(lambda tx: tx.execute(insert(columns.charges).values(naive)))
