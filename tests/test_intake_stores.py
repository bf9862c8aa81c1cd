"""Two users of one connection, sessions of every kind, and which store it is: what was acknowledged is in it.

The table of single engines and sessions is `test_intake.py`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from sqlalchemy import NullPool, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from gateway_client import ConfigurationError, InvalidInput, OutcomeNotRecorded, State, StoreUnavailable
from gateway_client.transaction import Transaction
from tests import postgres
from tests.intake_kit import DATABASES, KINDS, POSTGRES, SQLITE, Shop, second_store
from tests.kit import ORDER

ORDERED = text("INSERT INTO orders VALUES ('order_42')")
TWO_USERS = "one connection to two users at once"


@pytest.fixture(params=DATABASES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Of a sync client."""
    with Shop(request.param, "sync", tmp_path) as made:
        yield made


@pytest.fixture(params=[(database, kind) for database in DATABASES for kind in KINDS], ids=", ".join)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    database, kind = request.param
    with Shop(database, kind, tmp_path) as made:
        yield made


# One connection, two users --------------------------------------------------------------------------------------------


def test_two_transactions_of_ours_on_one_connection(shop: Shop) -> None:
    """P8: a creator that returns one connection again: neither transaction is believed, and nothing of them is kept."""
    with closing(shop.connect()) as shared:
        engines = [shop.created(lambda: shared) for _ in range(2)]
        with shop.client(engines[1]) as other, shop.client(engines[0]) as client:

            def work(tx: Transaction) -> None:
                tx.execute(ORDERED)
                with pytest.raises(ConfigurationError, match=TWO_USERS):
                    other.charge(ORDER)

            with pytest.raises(ConfigurationError, match=TWO_USERS):
                client.transact(work)
    assert (shop.posts, shop.states(), shop.orders()) == (0, [], 0)


def test_a_statement_after_it(shop: Shop) -> None:
    """P8: whoever goes on with such a connection is told what is wrong, not what its driver makes of it."""
    with closing(shop.connect()) as shared:
        engine = shop.created(lambda: shared)
        with shop.client(engine) as client:

            def work(tx: Transaction) -> None:
                with pytest.raises(ConfigurationError, match=TWO_USERS):
                    client.find("nothing")
                tx.execute(ORDERED)

            with pytest.raises(ConfigurationError, match=TWO_USERS):
                client.transact(work)
    assert shop.orders() == 0


def test_the_caller_has_the_connection(shop: Shop) -> None:
    """P8: a client that is given the connection of the caller's open transaction does not undo it in silence."""
    with closing(shop.connect()) as shared:
        engine = shop.created(lambda: shared)
        with shop.client(engine) as client, Session(engine) as session:
            session.execute(ORDERED)
            with pytest.raises(ConfigurationError, match=TWO_USERS):
                client.charge(ORDER)
            with pytest.raises(DBAPIError):
                session.commit()
    assert (shop.posts, shop.states(), shop.orders()) == (0, [], 0)


def test_two_tasks_on_one_connection(tmp_path: Path) -> None:
    """P8: two tasks that are given one connection: what is told to be charged is on disk as charged, and only once."""

    async def story(shop: Shop) -> list[object]:
        shared = await shop.connect()

        async def again() -> Any:
            return shared

        engine = shop.created(again)
        async with shop.client(engine) as one, shop.client(engine) as two:
            came = await asyncio.gather(*(each.charge(ORDER) for each in (one, two)), return_exceptions=True)
        await shared.close()
        return list(came)

    with Shop(SQLITE, "async", tmp_path) as shop:
        came = shop.run(story(shop))
        assert {type(one).__name__ for one in came} <= {"ConfigurationError", "StoreUnavailable", "Charge"}
        assert shop.charge(postgres.shown(shop.url)) is State.SUCCEEDED
        assert (shop.sandbox.succeeded()["order_42"], shop.states()) == (1, ["succeeded"])


def test_a_transaction_that_was_left_in_the_pool(shop: Shop) -> None:
    """P8: what somebody left unfinished on a pooled connection is not committed with a charge, and goes away."""
    engine = shop.engine(pool_reset_on_return=None)
    left = engine.raw_connection()
    left.cursor().execute("INSERT INTO orders VALUES ('left')")
    left.close()
    with shop.client(engine) as client:
        with pytest.raises(StoreUnavailable, match="amid somebody else's transaction"):
            client.charge(ORDER)
        assert (shop.posts, shop.states()) == (0, [])
        assert client.charge(ORDER).state is State.SUCCEEDED
    assert shop.orders() == 0


# Sessions -------------------------------------------------------------------------------------------------------------


def test_a_scoped_session(either: Shop) -> None:
    """The session that a web framework keeps for each request is joined as any other."""
    engine = either.engine()
    if either.kind == "sync":
        scoped = scoped_session(sessionmaker(engine))
        with either.client(postgres.shown(either.url)) as client:
            client.prepare(ORDER, scoped)
            scoped.commit()
        scoped.remove()
    else:

        async def story() -> None:
            scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
            async with either.client(postgres.shown(either.url)) as client:
                await client.prepare(ORDER, scoped)
                await scoped.commit()
            await scoped.remove()

        either.run(story())
    assert either.states() == ["prepared"]


def test_a_session_within_an_outer_transaction(shop: Shop) -> None:
    """A session on a connection whose transaction is the caller's: the charge is there when he commits, not before."""
    with shop.client(postgres.shown(shop.url)) as client, shop.engine().begin() as outer:
        with Session(outer) as session:
            session.execute(ORDERED)
            client.prepare(ORDER, session)
            session.commit()
        assert (shop.states(), shop.orders()) == ([], 0)
        outer.commit()
    assert (shop.states(), shop.orders()) == (["prepared"], 1)


WRONG: dict[str, Callable[[Shop], Any]] = {
    "an engine": lambda shop: shop.engine(),
    "the other kind of session": lambda shop: AsyncSession() if shop.kind == "sync" else Session(),
    "a maker of sessions": lambda shop: sessionmaker() if shop.kind == "sync" else async_sessionmaker(),
    "a URL": lambda shop: "sqlite:///charges.db",
    "Django's connection": lambda shop: connection,
    "Django's transaction": lambda shop: transaction.atomic(),
    "a name of Django's": lambda shop: "default",
    "a class": lambda shop: Session,
    "nothing of the kind": lambda shop: 7,
    "False": lambda shop: False,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_session(what: str, either: Shop) -> None:
    """F2: anything but a session of the client's kind is a field error, before anybody is asked."""
    asked = len(either.sandbox.requests)
    given = WRONG[what](either)

    async def story() -> None:
        async with either.client(postgres.shown(either.url)) as client:
            await client.prepare(ORDER, given)

    with pytest.raises(
        InvalidInput, match=r"^session: must be an? (Async)?Session of SQLAlchemy.*Nothing was written"
    ) as no:
        either.run(story()) if either.kind == "async" else either.prepare_in(given)
    assert (no.value.field, len(either.sandbox.requests)) == ("session", asked)


# Which store ----------------------------------------------------------------------------------------------------------


def store_id(shop: Shop) -> str:
    ((found,),) = shop.hand("SELECT store_id FROM paycli_store")
    return str(found)


def test_each_store_has_an_id_of_its_own(shop: Shop, tmp_path: Path) -> None:
    """P14: a store that is bound draws an id, which stays, and which no other store has."""
    first = store_id(shop)
    assert re.fullmatch("[0-9a-f]{32}", first)
    shop.charge(postgres.shown(shop.url))
    assert store_id(shop) == first
    (tmp_path / "second").mkdir()
    with Shop(shop.database, "sync", tmp_path / "second") as second:
        assert store_id(second) != first


@pytest.mark.parametrize("act", ["charge", "prepare", "prepare in a session"])
def test_another_store_in_its_place(act: str, shop: Shop) -> None:
    """P14: a store that became another one under a client is not written to: its keys may have lived there before."""
    with shop.client(postgres.shown(shop.url)) as client, Session(shop.engine()) as session:
        client.find("first")
        client.resume()
        shop.hand("UPDATE paycli_store SET store_id = 'another'")
        with pytest.raises(ConfigurationError, match="another store than the one that the client began with"):
            client.prepare(ORDER, session) if act.endswith("session") else getattr(client, act)(ORDER)
        session.commit()
    assert (shop.posts, shop.states()) == (0, [])


def test_an_outcome_that_would_go_to_another_store(tmp_path: Path) -> None:
    """P14: when only the connection of the outcome leads elsewhere, the caller hears of the charge; resume finishes."""
    with Shop(POSTGRES, "sync", tmp_path) as shop:
        second_store(shop)
        numbers = itertools.count()

        def connected(connection: Any, _: object) -> None:
            if shop.posts and not next(numbers):
                connection.cursor().execute("SET search_path TO other")
                connection.commit()

        engine = shop.engine(poolclass=NullPool)
        event.listen(engine, "connect", connected)
        with shop.client(engine) as client:
            with pytest.raises(
                OutcomeNotRecorded, match=r"succeeded \(charge ch_.*other tables by our names.*run resume"
            ):
                client.charge(ORDER)
            assert shop.states() == ["sending"]
            client.resume()
        assert (shop.sandbox.succeeded()["order_42"], shop.states()) == (1, ["succeeded"])


def test_a_file_that_was_replaced(tmp_path: Path) -> None:
    """P14: a backup that is put in the place of the open file is not charged on until its users begin anew."""
    with Shop(SQLITE, "sync", tmp_path) as shop, shop.client(postgres.shown(shop.url)) as client:
        client.find("first")
        with closing(sqlite3.connect(shop.path)) as ours, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
            ours.backup(backup)
        (tmp_path / "backup.db").replace(shop.path)
        with pytest.raises(ConfigurationError, match="made anew or put back, restart what uses it"):
            client.charge(ORDER)
        shop.path.unlink()
        with pytest.raises(StoreUnavailable, match="is gone: it was moved or removed while it was open"):
            client.charge(ORDER)
        assert shop.posts == 0
