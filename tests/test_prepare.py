"""`prepare` in the caller's own transaction: an order and its pending charge commit together, or neither does.

Not here: the rules of the claim (the flow's tests), other databases that fail (`test_database_faults.py`).
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from gateway_client import Client, ConfigurationError, IntentConflict, State, StoreUnavailable, sqlite
from gateway_client.sandbox import Sandbox
from tests.oracle_disk import sql
from tests.oracle_world import (
    StillClock,
    async_client_of,
    client_of,
    database_url,
    full_intent,
    intent_of,
    posts,
    sandbox_of,
)

LOCK_S = 0.2
SESSIONS = {"sqlalchemy": Session, "sqlmodel": sqlmodel.Session}


class Shop:
    """An order table in the same file as the store, and a provider."""

    def __init__(self, folder: Path) -> None:
        self.clock = StillClock()
        self.sandbox: Sandbox = sandbox_of(self.clock)
        self.url, self.path = database_url(folder), folder / "charges.db"
        with self.client() as client:
            client.prepare(intent_of("first"))  # binds the store
        sql(self.path, "CREATE TABLE orders (name TEXT)")
        self.engine: Engine = create_engine(self.url)

    def client(self, **changes: Any) -> Client:
        return client_of(self.sandbox, self.clock, self.url, **changes)

    def stored(self) -> tuple[int, int]:
        """How many orders, and how many charges of them, others can see."""
        ((orders,),) = sql(self.path, "SELECT count(*) FROM orders")
        ((charges,),) = sql(self.path, "SELECT count(*) FROM pending_charges WHERE intent_id <> 'first'")
        return orders, charges


ORDER = text("INSERT INTO orders VALUES ('order_42')")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path)
    yield found
    found.engine.dispose()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits five seconds for a lock."""
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", LOCK_S)
    monkeypatch.setattr(sqlite, "OPTIONS", {"connect_args": {"timeout": LOCK_S}})


@pytest.mark.parametrize("kind", SESSIONS)
@pytest.mark.parametrize("order_first", [True, False])
def test_an_order_and_its_charge_commit_together(order_first: bool, kind: str, shop: Shop) -> None:
    """S2: after the caller's commit both are there, whichever came first, on a client's first call; then one send."""
    with shop.client() as client, SESSIONS[kind](shop.engine) as session:
        if order_first:
            session.execute(ORDER)  # type: ignore[deprecated, unused-ignore]
        prepared = client.prepare(full_intent(), session)
        if not order_first:
            session.execute(ORDER)  # type: ignore[deprecated, unused-ignore]
        assert shop.stored() == (0, 0)
        session.commit()
        assert shop.stored() == (1, 1)
        assert (prepared.state, posts(shop.sandbox)) == (State.PREPARED, 0)
        charge = client.charge(full_intent())
    assert charge.idempotency_key == prepared.idempotency_key
    assert (charge.state, charge.sends, shop.sandbox.succeeded()["order_42"]) == (State.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_rollback_takes_both_back(kind: str, shop: Shop) -> None:
    """After the caller's rollback neither the order nor the charge exists, and nothing was sent."""
    with shop.client() as client:
        with SESSIONS[kind](shop.engine) as session:
            session.execute(ORDER)  # type: ignore[deprecated, unused-ignore]
            client.prepare(intent_of(), session)
            session.rollback()
        assert shop.stored() == (0, 0)
        assert client.find("order_42") is None
    assert posts(shop.sandbox) == 0


@pytest.mark.parametrize("commit", [True, False])
def test_an_async_session_is_joined_too(commit: bool, shop: Shop) -> None:
    """The same with AsyncClient and AsyncSession: both or neither."""

    async def run() -> State | None:
        engine = create_async_engine(shop.url.replace("sqlite:", "sqlite+aiosqlite:"))
        async with async_client_of(shop.sandbox, shop.clock, shop.url) as client:
            async with AsyncSession(engine) as session:
                await session.execute(ORDER)
                await client.prepare(intent_of(), session)
                await (session.commit() if commit else session.rollback())
            await engine.dispose()
            assert shop.stored() == ((1, 1) if commit else (0, 0))
            return (await client.charge(intent_of())).state if commit else None

    assert asyncio.run(run()) is (State.SUCCEEDED if commit else None)
    assert shop.sandbox.succeeded()["order_42"] == commit


def test_a_charge_not_committed_yet_is_waited_for_and_then_named(shop: Shop) -> None:
    """F66: charge beside an open `prepare` ends after the lock's time, says why, sends nothing, and never hangs."""
    with shop.client() as client, Session(shop.engine) as session:
        client.prepare(intent_of(), session)
        start = time.monotonic()
        with shop.client() as other, pytest.raises(StoreUnavailable) as refused:
            other.charge(intent_of())
        assert time.monotonic() - start < LOCK_S * 5 + 4
        assert "perhaps one with a `prepare` that is not committed yet" in str(refused.value)
        assert posts(shop.sandbox) == 0
        session.commit()
        assert client.charge(intent_of()).state is State.SUCCEEDED


def test_prepare_needs_no_network(shop: Shop) -> None:
    """Once the store is bound, prepare asks nobody: with the provider down, and with another process's binding."""
    before = len(shop.sandbox.requests)
    shop.sandbox.fault("refused", times=9, on="*")
    with shop.client() as client, Session(shop.engine) as session:
        client.prepare(intent_of(), session)
        session.commit()
        client.prepare(intent_of("order_43"))
    assert shop.stored() == (0, 2)
    assert len(shop.sandbox.requests) == before


def test_prepare_of_an_intent_that_is_there_returns_it(shop: Shop) -> None:
    """Asking again is an answer: the snapshot as it is, whatever became of it, and no second row."""
    with shop.client() as client:
        first = client.prepare(full_intent())
        with Session(shop.engine) as session:
            assert client.prepare(full_intent(), session) == first
            session.commit()
        paid = client.charge(full_intent())
        assert client.prepare(full_intent()) == paid
    assert shop.stored() == (0, 1)


def test_a_conflict_is_raised_in_prepare(shop: Shop) -> None:
    """F115: another amount for the same intent is refused while the caller can still roll its order back."""
    with shop.client() as client, Session(shop.engine) as session:
        client.prepare(intent_of())
        session.execute(ORDER)
        with pytest.raises(IntentConflict, match="amount was"):
            client.prepare(intent_of(amount=2000), session)
        session.rollback()
    assert shop.stored() == (0, 1)


def test_a_session_of_another_database_is_refused(shop: Shop, tmp_path: Path) -> None:
    """A charge prepared in another file than the client reads would never be found: refused, both named."""
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with shop.client() as client, Session(other) as session:
        with pytest.raises(ConfigurationError, match=r"another database \(.*other\.db\) than the client's \(.*charges"):
            client.prepare(intent_of(), session)
        session.rollback()
    other.dispose()


def test_a_session_of_a_weaker_database_is_refused(shop: Shop) -> None:
    """F72: a caller's connection whose commits could be lost does not carry a prepared charge."""
    with shop.client() as client, Session(shop.engine) as session:
        session.connection().exec_driver_sql("PRAGMA synchronous = OFF")
        session.execute(ORDER)
        with pytest.raises(StoreUnavailable, match="not durable"):
            client.prepare(intent_of(), session)
        session.rollback()
    assert shop.stored() == (0, 0)


def test_the_same_file_by_another_name_is_joined(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative and an absolute path of one file are one database."""
    monkeypatch.chdir(shop.path.parent)
    engine = create_engine("sqlite:///charges.db")
    with shop.client() as client, Session(engine) as session:
        client.prepare(intent_of(), session)
        session.commit()
    engine.dispose()
    assert shop.stored() == (0, 1)


def test_prepared_charges_are_told_after_the_commit(shop: Shop) -> None:
    """What was rolled back was never a change: neither logger nor hook hears of it."""
    heard: list[object] = []
    with shop.client(on_record=heard.append) as client, Session(shop.engine) as session:
        client.prepare(intent_of(), session)
        session.rollback()
    assert heard == []


def test_the_first_prepare_binds_the_store(tmp_path: Path) -> None:
    """On an empty store the account is asked for first: the key is computed from it; a session's data stays whole."""
    clock = StillClock()
    sandbox = sandbox_of(clock)
    with client_of(sandbox, clock, database_url(tmp_path)) as client:
        engine = create_engine(database_url(tmp_path))
        with closing(Session(engine)) as session:
            client.prepare(intent_of(), session)
            session.commit()
        engine.dispose()
        assert client.charge(intent_of()).state is State.SUCCEEDED
    assert [request.path for request in sandbox.requests] == ["/v1/account", "/v1/payment_intents"]


def test_a_stale_snapshot_of_the_caller_is_named(tmp_path: Path) -> None:
    """A caller's transaction that read before somebody else wrote cannot write any more: StoreUnavailable says so."""
    url = database_url(tmp_path)
    clock = StillClock()
    with client_of(sandbox_of(clock), clock, url) as client:
        client.charge(intent_of("order_1"))
        engine = create_engine(url)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        with Session(engine) as session:
            session.execute(text("SELECT count(*) FROM pending_charges")).all()
            client.charge(intent_of("order_2"))
            with pytest.raises(StoreUnavailable, match="locked"):
                client.prepare(intent_of("order_3"), session)
        engine.dispose()
        assert client.find("order_3") is None
