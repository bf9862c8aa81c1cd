"""A PostgreSQL that fails or is set up badly: nothing is sent, the error says why, and no secret is told.

Not here: unconfirmed commits (`test_postgres_commits.py`), replicas and failover (`test_postgres_failover.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from gateway_client import State, StoreUnavailable, db, postgres
from gateway_client.tables import Base
from tests.kit import ORDER
from tests.pg_proxy import COMMIT, VERSION, WAIT_S_MAX, How, Proxy
from tests.pg_shop import KINDS, Shop, not_recorded, refused, resumed

DEADLINE_S, CONNECT_S = 1.0, 2  # far from the minute after which the proxy would forward again by itself


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with Shop(request.param) as made:
        yield made


@pytest.fixture
def short_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """This timeout of our transactions is short; the others stay, for a machine may be busy."""
    monkeypatch.setattr(postgres, "STATEMENT_TIMEOUT_S", 1)


@pytest.fixture
def short_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_S", 1)


@contextmanager
def short_deadline() -> Iterator[None]:
    """Within it nobody waits for long for somebody who does not even answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "DEADLINE_S", DEADLINE_S)
        options = {**postgres.OPTIONS["connect_args"], "connect_timeout": CONNECT_S}
        patch.setattr(postgres, "OPTIONS", {"connect_args": options})
        yield


# Codes of the server, at each step ----------------------------------------------------------------------------------

STEPS = {
    "claim": ("pending_charges", "INSERT"),
    "gate": ("paycli_sends", "INSERT"),
    "settle": ("paycli_sends", "UPDATE"),
}
CODES = {
    "53100": "its disk is full",
    "53200": "it is out of resources",
    "53300": "too many connections",
    "25006": "it is read-only",
    "42501": "may not use its tables",
    "58030": "its disk reported an error",
    "XX001": "damaged data",
    "57P03": "shutting down or starting up",
}


def test_what_the_server_refuses() -> None:
    """F97: whatever it refuses before a send, nothing is sent, and it is said in words; resume finishes the charge."""
    with Shop("sync") as shop:
        for code, words in CODES.items():
            with shop.trigger(*STEPS["gate"], f"RAISE 'planted' USING ERRCODE = '{code}';"):
                refused(shop, words)
        resumed(shop)


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk(step: str, shop: Shop) -> None:
    """F97: before a send nothing is sent; after it the charge is named; resume finishes both."""
    with shop.trigger(*STEPS[step], "RAISE 'planted' USING ERRCODE = '53100';"):
        (not_recorded if step == "settle" else refused)(shop, "its disk is full")
    resumed(shop)


@pytest.mark.parametrize("step", STEPS)
def test_a_statement_that_takes_too_long(step: str, shop: Shop, short_statements: None) -> None:
    """F97: the server ends it after the time that each transaction asks for."""
    with shop.trigger(*STEPS[step], "PERFORM pg_sleep(20);"):
        (not_recorded if step == "settle" else refused)(shop, "a statement took longer than")
    resumed(shop)


@contextmanager
def unlocked_later(connection: Connection) -> Iterator[None]:
    """Within it a transaction ends by itself, after a while."""
    timer = threading.Timer(0.5, connection.rollback)
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize("step", ["gate", "settle"])
def test_a_row_that_is_locked_for_a_moment(step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group waits for nobody, and a work that was in it waits alone, for as long as a transaction may."""
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_GROUP_MS", 1)
    with ExitStack() as stack:

        def lock(request: httpx.Request) -> None:
            if (request.method == "POST") == (step == "settle"):
                connection = stack.enter_context(create_engine(shop.url, poolclass=NullPool).connect())
                connection.exec_driver_sql("SELECT 1 FROM pending_charges WHERE intent_id = 'order_42' FOR UPDATE")
                stack.enter_context(unlocked_later(connection))

        shop.before.append(lock)
        assert shop.client().charge(ORDER).state is State.SUCCEEDED
        shop.before.clear()
    assert shop.paid() == 1


@pytest.mark.parametrize("step", ["gate", "settle"])
def test_a_row_that_stays_locked(step: str, shop: Shop, short_locks: None) -> None:
    """F97: a row that somebody else has locked is waited for, and then said to be so."""
    with ExitStack() as stack:

        def lock(request: httpx.Request) -> None:
            if (request.method == "POST") == (step == "settle"):
                connection = stack.enter_context(create_engine(shop.url, poolclass=NullPool).connect())
                connection.exec_driver_sql("SELECT 1 FROM pending_charges WHERE intent_id = 'order_42' FOR UPDATE")

        shop.before.append(lock)
        (not_recorded if step == "settle" else refused)(shop, "a row stayed locked")
        shop.before.clear()
    resumed(shop)


# What may pass by itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "at_commit"), [("40001", False), ("40001", True), ("40P01", False)])
@pytest.mark.parametrize("step", STEPS)
def test_only_the_transaction_is_done_again(step: str, code: str, at_commit: bool, shop: Shop) -> None:
    """F93: a serialization failure or a deadlock repeats the database transaction, and no request."""
    shop.sql("CREATE SEQUENCE planted_tries")  # counts what was rolled back, too
    body = f"IF nextval('planted_tries') <= 2 THEN RAISE 'planted' USING ERRCODE = '{code}'; END IF;"
    try:
        with shop.trigger(*STEPS[step], body, at_commit=at_commit):
            before = len(shop.sandbox.requests)
            assert shop.client().charge(ORDER).state is State.SUCCEEDED
        assert [request.method for request in shop.sandbox.requests[before:]] == ["GET", "POST"]
        assert (shop.paid(), shop.sql("SELECT last_value FROM planted_tries")) == (1, [(3,)])
    finally:
        shop.sql("DROP SEQUENCE planted_tries")


@pytest.mark.parametrize("step", STEPS)
def test_it_is_not_done_again_for_ever(step: str, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """F93: a transaction that never gets through ends, and its charge as with any other refusal."""
    monkeypatch.setattr(db, "PAUSE_S_MAX", 0.001)
    with shop.trigger(*STEPS[step], "RAISE 'planted' USING ERRCODE = '40001';"):
        (not_recorded if step == "settle" else refused)(shop, "too busy with other transactions")
    resumed(shop)


@pytest.mark.parametrize("on", ["GET", "POST"])
def test_sessions_that_were_ended_between_two_steps(on: str, shop: Shop) -> None:
    """F85: an operator, a restart or an idle timeout ends the sessions of a process: it opens others and goes on."""
    ended: list[int] = []
    shop.before.append(lambda request: ended.append(shop.terminate()) if request.method == on else None)
    assert shop.client().charge(ORDER).state is State.SUCCEEDED
    assert ended
    assert min(ended) >= 1
    assert (shop.posts, shop.paid(), len(shop.sql("SELECT 1 FROM paycli_sends WHERE intent_id = 'order_42'"))) == (
        1,
        1,
        1,
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_session_that_is_ended_at_its_commit(number: int, shop: Shop) -> None:
    """F85: ended right before its COMMIT arrives, nothing of it is on disk; only a send is not begun again."""
    with Proxy(shop.url) as proxy:
        proxy.at(shop.terminate, number)
        if number == 2:
            refused(shop, "the connection was lost|shutting down", proxy.url)
        else:
            assert shop.client(proxy.url).charge(ORDER).state is State.SUCCEEDED
        assert proxy.struck.wait(WAIT_S_MAX)
    resumed(shop)
    assert shop.posts == 1


# Connections that are refused, or never answered --------------------------------------------------------------------


def test_no_such_database(shop: Shop) -> None:
    """A database that is not there is said to be so."""
    refused(shop, "there is no such database", shop.url.set(database="nowhere"))


def test_no_such_user(shop: Shop) -> None:
    """A user that is not there is said to be so, unnamed; a server that asks for passwords does not tell."""
    refused(shop, "it has no such user|it refused the user or password", shop.url.set(username="nobody_we_know"))


def test_too_many_connections(shop: Shop) -> None:
    """F97: no connection is left for us."""
    with shop.role("CONNECTION LIMIT 0") as url:
        refused(shop, "it has too many connections", url)


def test_nobody_listens(shop: Shop) -> None:
    """A server that is down."""
    with Proxy(shop.url) as proxy:
        url = proxy.url
    refused(shop, "nothing answers at its address", url)


def test_frozen_from_the_start(shop: Shop) -> None:
    """F13: connections are taken and never served: that takes no longer than connecting may."""
    with Proxy(shop.url) as proxy, short_deadline():
        proxy.freeze()
        refused(shop, "it does not answer", proxy.url)


@pytest.mark.parametrize(
    ("kind", "words", "number", "how"),
    [
        ("sync", VERSION, 1, How.FREEZE_BEFORE),  # a pooler that lets us in, and has no server for us
        ("async", VERSION, 1, How.FREEZE_BEFORE),
        ("sync", b"lock_timeout", 2, How.FREEZE_AFTER),
        ("sync", COMMIT, 1, How.FREEZE_BEFORE),
        ("sync", COMMIT, 2, How.FREEZE_AFTER),
        ("async", COMMIT, 2, How.FREEZE_AFTER),
    ],
)
def test_frozen_before_the_send(kind: str, words: bytes, number: int, how: How) -> None:
    """F13: a connection that stays open and silent is given up in time, wherever it fell silent; nothing is sent."""
    with Shop(kind) as shop:
        with Proxy(shop.url) as proxy, short_deadline():
            proxy.at(how, number, words)
            refused(shop, "it does not answer|it stopped answering", proxy.url)
            assert proxy.struck.wait(WAIT_S_MAX)
        resumed(shop)


def test_frozen_after_the_send(shop: Shop) -> None:
    """F13: silent when the outcome is to be recorded: the charge is named, and resume records it."""
    with Proxy(shop.url) as proxy, short_deadline():
        shop.after.append(lambda request: proxy.freeze() if request.method == "POST" else None)
        not_recorded(shop, "it does not answer|it stopped answering", proxy.url)
        shop.after.clear()
        proxy.heal()
    resumed(shop)


# Commits that would not last ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["role", "database"])
def test_commits_that_are_not_synced(whose: str, shop: Shop) -> None:
    """F89: `synchronous_commit=off`, whoever set it, is seen by each new connection, and refused before a send."""
    with shop.role("SUPERUSER") as url:
        setting = f"{whose} {url.username if whose == 'role' else url.database}"
        shop.sql(f"ALTER {setting} SET synchronous_commit = off")
        try:
            refused(shop, "synchronous_commit=off", url)
        finally:
            shop.sql(f"ALTER {setting} RESET synchronous_commit")
    resumed(shop)


def test_commits_that_are_not_synced_by_the_session(shop: Shop) -> None:
    """F89: the same of one session, in its URL or by the engine of the caller."""
    url = shop.url.update_query_dict({"options": "-csynchronous_commit=off"})
    refused(shop, "synchronous_commit=off", url)
    engine = (create_engine if shop.kind == "sync" else create_async_engine)(url, poolclass=NullPool)
    with pytest.raises(StoreUnavailable, match="synchronous_commit=off"):
        shop.client_on(engine).charge(ORDER)
    assert shop.posts == 0


def test_a_session_that_only_reads(shop: Shop) -> None:
    """F97: a session that may not write is told so before a send."""
    refused(shop, "it is read-only", shop.url.update_query_dict({"options": "-cdefault_transaction_read_only=on"}))


def test_a_user_without_rights(shop: Shop) -> None:
    """A user without rights to our tables is told so."""
    with shop.role() as url:
        refused(shop, "this user may not use its tables", url)


def test_an_engine_that_does_not_tell_its_timeline(shop: Shop) -> None:
    """F88: where the server refuses to say which history it is on, charging goes on without that check."""
    asked = "FUNCTION pg_catalog.pg_current_wal_insert_lsn()"
    with shop.role() as url:
        shop.sql(f"GRANT SELECT, INSERT, UPDATE ON paycli_version, {', '.join(Base.metadata.tables)} TO {url.username}")
        shop.sql(f"REVOKE EXECUTE ON {asked} FROM PUBLIC")
        try:
            assert shop.client(url).charge(ORDER).state is State.SUCCEEDED
        finally:
            shop.sql(f"GRANT EXECUTE ON {asked} TO PUBLIC")
            shop.sql(f"DROP OWNED BY {url.username}")
