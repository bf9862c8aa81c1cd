"""Servers of our own: standbys that take over, commits nobody confirms, crashes, passwords, `fsync=off`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

import reconcile
from gateway_client import (
    AsyncClient,
    Client,
    ConfigurationError,
    PaymentIntent,
    Sandbox,
    State,
    StoreUnavailable,
    Stripe,
)
from gateway_client.db import Database
from tests.kit import ORDER, USD_20
from tests.pg_proxy import Proxy
from tests.pg_shop import Shop, not_recorded, refused, resumed
from tests.postgres import Server, binary, execute, folder_of_nobody, run_as_nobody

SECONDS_MAX = 60.0
ELSEWHERE = "another timeline, 00000001 to 00000002: a failover or a restore"


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    made = Server(folder_of_nobody())
    made.make()
    made.start()
    database = Database(made.url.render_as_string())
    database.create()
    database.close()
    yield made
    made.stop()


@pytest.fixture
def shop(primary: Server) -> Iterator[Shop]:
    with Shop("sync", primary.url) as made:
        yield made


def until(condition: Callable[[], object]) -> None:
    """A server reads its settings when it comes to it."""
    last = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


@contextmanager
def setting(shop: Shop, name: str, value: str) -> Iterator[None]:
    """Within it the server has been told so."""
    execute(shop.url, f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        execute(shop.url, f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")


def test_fsync_off(shop: Shop) -> None:
    """F89: a server that does not sync is refused before a send."""
    with setting(shop, "fsync", "off"):
        until(lambda: shop.sql("SHOW fsync") == [("off",)])
        refused(shop, "fsync=off")
    until(lambda: shop.sql("SHOW fsync") == [("on",)])
    resumed(shop)


def test_a_wrong_password(primary: Server, shop: Shop) -> None:
    """A server that refuses our password says so; the password is in no message."""
    rules = primary.folder / primary.data / "pg_hba.conf"
    trusting = rules.read_text()
    shop.sql("CREATE ROLE guarded LOGIN PASSWORD 'another one'")
    url = shop.url.set(username="guarded")
    rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + trusting)
    shop.sql("SELECT pg_reload_conf()")
    try:
        until(lambda: not lets_in(url.set(password="wrong").render_as_string(hide_password=False)))
        refused(shop, "it refused the user or password of PAYCLI_DATABASE_URL", url)
    finally:
        rules.write_text(trusting)
        shop.sql("SELECT pg_reload_conf()")
    resumed(shop)


def lets_in(url: str) -> bool:
    try:
        create_engine(url, poolclass=NullPool).connect().close()
    except OperationalError:
        return False
    return True


# A commit that the standby did not confirm --------------------------------------------------------------------------


@contextmanager
def nobody_confirms(shop: Shop) -> Iterator[Callable[[], None]]:
    """An operator ends every wait for a standby; what is yielded makes commits wait for one that is not there."""
    over = threading.Event()

    def cancel() -> None:
        query = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        while not over.wait(0.02):
            shop.sql(query)

    def begin() -> None:
        execute(shop.url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
        until(warned)

    def warned() -> bool:
        said: list[object] = []
        engine = create_engine(shop.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.connection.driver_connection.add_notice_handler(said.append)  # type: ignore[union-attr]
            connection.execute(text("UPDATE paycli_store SET namespace = namespace"))
        return bool(said)

    canceller = threading.Thread(target=cancel, daemon=True)
    canceller.start()
    try:
        yield begin
    finally:
        execute(shop.url, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        over.set()
        canceller.join(SECONDS_MAX)


@pytest.mark.parametrize("on", ["GET", "POST"])
def test_a_commit_without_its_standby(on: str, shop: Shop) -> None:
    """F90: a server whose wait for its standby was cancelled only warns: that is no commit, no send and no outcome."""
    begun: list[bool] = []
    with nobody_confirms(shop) as begin:

        def hook(request: httpx.Request) -> None:
            if request.method == on and not begun:
                begun.append(True)
                begin()

        shop.after.append(hook)
        (refused if on == "GET" else not_recorded)(shop, "did not confirm the commit")
    assert shop.states() == ["sending" if on == "GET" else "succeeded"]
    resumed(shop)


# Failover -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def standby(primary: Server) -> Iterator[Server]:
    """Follows the primary, as it is now."""
    made = Server(primary.folder, data="standby")
    address = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
    folder = str(primary.folder / made.data)
    run_as_nobody(binary("pg_basebackup"), *address, "-D", folder, "-R", "-c", "fast", "--no-sync")
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


def test_failover_to_a_standby_that_is_behind(primary: Server, shop: Shop, standby: Server) -> None:
    """F88, F92: a replica decides nothing; one that took over without the last charge sends nothing, to nobody."""
    refused(shop, "a replica", standby.url)
    with Proxy(primary.url) as proxy:
        old = shop.client(proxy.url)
        assert old.charge(PaymentIntent("before", USD_20, "pm_card_visa")).state is State.SUCCEEDED
        until(lambda: state_on(standby, "before") == "succeeded")
        standby.stop()
        assert old.charge(ORDER).state is State.SUCCEEDED  # acknowledged, and on the primary alone
        primary.stop(signal.SIGKILL)
        try:
            standby.start()
            execute(standby.url, "SELECT pg_promote(true, 60)")
            proxy.server = standby.url
            posts = shop.posts
            with pytest.raises(ConfigurationError, match=ELSEWHERE):
                old.charge(ORDER)
            with pytest.raises(ConfigurationError, match=ELSEWHERE):
                shop.client(standby.url).resume()
            with pytest.raises(ConfigurationError, match=ELSEWHERE):
                asyncio.run(charge_async(shop, standby))
            assert (shop.posts, shop.paid()) == (posts, 1)
            shop.clock.advance(minutes=20)
            result = reconcile.run(cast("Client", shop.client(standby.url)), shop.clock.now.date())
            assert {(found.code, found.intent_id) for found in result.findings} == {("outcome_recovered", "order_42")}
            assert old.charge(ORDER).state is State.SUCCEEDED
            assert (shop.posts, shop.paid()) == (posts, 1)
        finally:
            primary.start()


def test_two_writable_primaries(primary: Server, shop: Shop, standby: Server) -> None:
    """F91: whoever comes from the old primary to one that was promoted beside it is stopped by its timeline.

    Promised is the timeline, stored at the first start and compared in every gate. Nothing tells the old primary, which
    lives on, that it is old: who stays there goes on charging, and the fence that stops them is a later issue.
    """
    until(lambda: state_on(standby, "first") == "succeeded")
    execute(standby.url, "SELECT pg_promote(true, 60)")
    with Proxy(primary.url) as proxy:
        client = shop.client(proxy.url)
        assert client.charge(PaymentIntent("here", USD_20, "pm_card_visa")).state is State.SUCCEEDED
        shop.terminate()
        proxy.server, posts = standby.url, shop.posts
        for comes in (client, shop.client(standby.url)):
            for intent_id in ("here", "there"):
                with pytest.raises(ConfigurationError, match=ELSEWHERE):
                    comes.charge(PaymentIntent(intent_id, USD_20, "pm_card_visa"))
        assert (shop.posts, shop.paid("here"), state_on(standby, "here")) == (posts, 1, "prepared")


# A session that dies takes all others with it -------------------------------------------------------------------------


def crash(shop: Shop) -> None:
    """The session that is in a transaction gets SIGKILL: the server ends all others, and recovers from its log."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    [(pid,)] = shop.sql(query)
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(shop))


def gone(shop: Shop) -> bool:
    try:
        shop.sql("SELECT 1")
    except OperationalError:
        return True
    return False


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_server_recovers_from_a_crash(number: int, primary: Server, shop: Shop) -> None:
    """F96: what was acknowledged before a crash is there after it; what was in flight is done again, charged once."""
    shop.client().prepare(PaymentIntent("acknowledged", USD_20, "pm_card_visa"))
    before = shop.rows("pending_charges")
    with Proxy(primary.url) as proxy:
        proxy.at(lambda: crash(shop), number)
        with suppress(StoreUnavailable):  # recovery may take longer than the client tries
            shop.client(proxy.url).charge(ORDER)
        assert proxy.strikes == 1
    primary.wait()
    shop.hand.dispose()
    assert [row for row in shop.rows("pending_charges") if row["intent_id"] != ORDER.intent_id] == before
    assert shop.paid() in ((1,) if number == 3 else (0, 1))  # it may have recovered while the client tried again
    resumed(shop)
    assert (shop.paid("acknowledged"), shop.states("acknowledged")) == (1, ["succeeded"])


def state_on(server: Server, intent_id: str) -> object:
    with create_engine(server.url, poolclass=NullPool).connect() as connection:
        query = text("SELECT state FROM pending_charges WHERE intent_id = :it")
        return connection.execute(query, {"it": intent_id}).scalar()


async def charge_async(shop: Shop, server: Server) -> None:
    url = server.url.render_as_string()
    gateway, door = Stripe(Sandbox.api_key), shop.sandbox.async_transport()
    async with AsyncClient(gateway, database=url, transport=door, clock=shop.clock) as client:
        await client.charge(ORDER)
