"""How the databases look for what is due: by an index, however much was settled and whatever statistics they have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from gateway_client import State
from gateway_client.columns import charges, sends, store
from gateway_client.db import Database
from gateway_client.flow.leasing import Lease
from gateway_client.store.facts import read_facts
from gateway_client.store.leases import lease
from gateway_client.store.reading import read_latest_seen_at
from gateway_client.transaction import Transaction
from tests import postgres
from tests.oracle_world import database_url
from tests.test_tables import ROW

NOW = datetime(2026, 11, 20, tzinfo=UTC)
BOUND = {
    "id": 1,
    "provider": "stripe",
    "mode": "test",
    "account": "acct_1",
    "namespace": "default",
    "store_id": "a",
    "created_at": NOW - timedelta(days=1),
    "bound_by": "billing@web-3",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def full(request: Any, tmp_path: Path) -> Iterator[Database]:
    """A store with two thousand pending charges and as many that are settled."""
    url = database_url(tmp_path)
    if request.param == "postgresql":
        url = postgres.fresh_database().render_as_string(hide_password=False)
    database = Database(url)
    database.create()

    def fill(tx: Transaction) -> None:
        rows = [
            {
                **ROW,
                "intent_id": f"order_{number}",
                "idempotency_key": f"pc1_{number}",
                "created_at": NOW - timedelta(seconds=number),
                "state": State.UNKNOWN if number % 2 else State.SUCCEEDED,
            }
            for number in range(4000)
        ]
        tx.execute(insert(charges), rows)
        begun = [
            {
                "intent_id": row["intent_id"],
                "operation": "charge",
                "attempt": 1,
                "send_no": 1,
                "credential_id": "a",
                "begun_at": row["created_at"],
                "actor": "billing@web-3",
            }
            for row in rows
        ]
        tx.execute(insert(sends), begun)
        tx.execute(insert(store).values(**BOUND))

    database.transact(fill)
    yield database
    database.close()


def test_what_is_due_is_found_by_an_index(full: Database) -> None:
    """A lease of a few among many reads a few rows: in the order of the index, sorting nothing."""
    plans: list[str] = []

    def explain(tx: Transaction) -> tuple[str, ...]:
        connection = tx.connection
        explained = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "

        def look(_: Any, cursor: Any, statement: str, parameters: Any, *more: object) -> None:
            if "pending_charges_due" not in "".join(plans) and statement.startswith("SELECT pending_charges"):
                cursor.execute(explained + statement, parameters)
                plans.append("\n".join(str(row) for row in cursor.fetchall()))

        event.listen(connection, "before_cursor_execute", look)
        leased = lease(tx, Lease("a", 3, 60.0, 10.0))
        return tuple(charge.intent_id for charge in leased)

    assert full.transact(explain) == ("order_3999", "order_3997", "order_3995")
    (plan,) = plans
    assert "pending_charges_due" in plan
    assert [word for word in ("TEMP B-TREE", "Sort", "Seq Scan on pending_charges") if word in plan] == []


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda tx: read_facts(tx, "order_3", 1).latest_seen_at, id="the first statement"),
        pytest.param(read_latest_seen_at, id="the time alone"),
    ],
)
def test_the_latest_time_seen_is_one_look_into_an_index(
    full: Database, read: Callable[[Transaction], datetime]
) -> None:
    """The time of the newest send is read at the end of its index, and no statement reads a whole table for it."""
    plans: list[str] = []

    def explain(tx: Transaction) -> datetime:
        connection = tx.connection
        explained = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "

        def look(_: Any, cursor: Any, statement: str, parameters: Any, *more: object) -> None:
            cursor.execute(explained + statement, parameters)
            plans.append("\n".join(str(row) for row in cursor.fetchall()))

        event.listen(connection, "before_cursor_execute", look)
        return read(tx)

    assert full.transact(explain) == NOW
    (plan,) = plans
    assert "paycli_sends_by_time" in plan
    # Of one row is the store, of none are the findings here.
    assert set(re.findall(r"(?:Seq Scan on|SCAN) (\w+)", plan)) <= {"paycli_store", "paycli_findings"}
