"""A provider and a store on PostgreSQL, for tests of its faults: clients by any URL, hands on the server."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx
import pytest
from sqlalchemy import URL, Engine, create_engine, text

from gateway_client import (
    AsyncClient,
    Client,
    OutcomeNotRecorded,
    PaymentIntent,
    RetryPolicy,
    Sandbox,
    State,
    StoreUnavailable,
    Stripe,
)
from gateway_client.tables import Base
from tests import postgres
from tests.kit import ORDER, USD_20, FakeClock
from tests.kit_clients import AnyClient, Awaited

KINDS = ("sync", "async")
PASSWORD = "not-to-be-told"
FIRST = PaymentIntent("first", USD_20, "pm_card_visa")


@functools.cache
def shared_database() -> URL:
    """One database for all shops of a run, one after the other."""
    return postgres.fresh_database()


class Shop:
    """A store that has already charged one intent."""

    def __init__(self, kind: str, url: URL | None = None) -> None:
        self.kind, self.url = kind, url or shared_database()
        self.clock = FakeClock()
        self.sandbox = Sandbox(time=self.clock.true_time)
        self.before: list[Callable[[httpx.Request], object]] = []
        """Called with each request, before the provider has it."""
        self.after: list[Callable[[httpx.Request], object]] = []
        """Called with each request, when the provider has done it."""
        self._runner = asyncio.Runner() if kind == "async" else None
        self._clients: list[AnyClient] = []
        self._posts = 0
        self.hand: Engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        for table in reversed(Base.metadata.sorted_tables):
            self.sql(f"DELETE FROM {table.name}")
        self.client().charge(FIRST)
        self._posts = self.posts

    def client(self, url: URL | None = None, *, retry: RetryPolicy | None = None) -> AnyClient:
        """A new process, in effect; its database is asked for by a URL with a password."""
        address = url or self.url
        return self.client_on(postgres.shown(address.set(password=address.password or PASSWORD)), retry=retry)

    def client_on(self, database: Any, *, retry: RetryPolicy | None = None) -> AnyClient:
        """A new process on a URL or an engine."""
        gateway, door = Stripe(Sandbox.api_key), httpx.MockTransport(self._handle)
        if self._runner is None:
            made: AnyClient = Client(gateway, database=database, transport=door, clock=self.clock, retry=retry)
        else:
            client = AsyncClient(gateway, database=database, transport=door, clock=self.clock, retry=retry)
            made = Awaited(client, self._runner)
        self._clients.append(made)
        return made

    def _handle(self, request: httpx.Request) -> httpx.Response:
        for hook in self.before:
            hook(request)
        response = self.sandbox.transport().handle_request(request)
        for hook in self.after:
            hook(request)
        return response

    @property
    def posts(self) -> int:
        """How many charges the provider was asked for since the first."""
        return sum(request.method == "POST" for request in self.sandbox.requests) - self._posts

    def paid(self, intent_id: str = ORDER.intent_id) -> int:
        """How often the provider charged for an intent."""
        return self.sandbox.succeeded()[intent_id]

    def sql(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """A hand on the database, each statement by itself."""
        with self.hand.connect() as connection:
            found = connection.execute(text(statement), values)
            return [tuple(row) for row in found] if found.returns_rows else []

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, in a stable order."""
        with self.hand.connect() as connection:
            return sorted(
                (dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()), key=repr
            )

    def states(self, intent_id: str = ORDER.intent_id) -> list[str]:
        """Of the attempts of an intent."""
        rows = self.sql("SELECT state FROM pending_charges WHERE intent_id = :it ORDER BY attempt", it=intent_id)
        return [state for (state,) in rows]

    def history(self, intent_id: str = ORDER.intent_id) -> list[tuple[str, str]]:
        """What became of an intent: each event, and the state after it."""
        query = "SELECT event, state_after FROM paycli_events WHERE intent_id = :it ORDER BY attempt, event_no"
        return [(event, state) for event, state in self.sql(query, it=intent_id)]

    @contextmanager
    def role(self, options: str = "") -> Iterator[URL]:
        """The database, for a user that is there only within it."""
        url = self.url.set(username=f"charge_once_{os.getpid()}", password=self.url.password or PASSWORD)
        self.sql(f"CREATE ROLE {url.username} LOGIN PASSWORD '{url.password}' {options}")
        try:
            yield url
        finally:
            self.sql(f"DROP ROLE {url.username}")

    def terminate(self) -> int:
        """An operator ends every other session of this database."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        return len(self.sql(f"{query} AND pid <> pg_backend_pid()"))

    @contextmanager
    def trigger(self, table: str, on: str, body: str, *, at_commit: bool = False) -> Iterator[None]:
        """Within it, `body` (PL/pgSQL) runs for each row of `table` that is written."""
        self.sql(f"CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$")
        constraint, deferred = ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED") if at_commit else ("", "")
        when = "AFTER" if at_commit else "BEFORE"
        call = "FOR EACH ROW EXECUTE FUNCTION planted()"
        self.sql(f"CREATE {constraint} TRIGGER planted {when} {on} ON {table} {deferred} {call}")
        try:
            yield
        finally:
            self.sql("DROP FUNCTION planted CASCADE")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for client in self._clients:
            client.close()
        self.hand.dispose()
        if self._runner is not None:
            self._runner.close()


def refused(shop: Shop, words: str, url: URL | None = None, *, error: type[Exception] = StoreUnavailable) -> None:
    """A charge that the database refuses before anything is sent, in these words."""
    asked = len(shop.sandbox.requests)
    with pytest.raises(error, match=words) as caught:
        shop.client(url).charge(ORDER)
    assert not isinstance(caught.value, OutcomeNotRecorded)
    assert [request.method for request in shop.sandbox.requests[asked:]] in ([], ["GET"])
    assert "Nothing more was sent" in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def not_recorded(shop: Shop, words: str, url: URL | None = None) -> None:
    """A charge whose outcome the database refuses: the error names the provider's charge."""
    with pytest.raises(OutcomeNotRecorded, match=words) as caught:
        shop.client(url).charge(ORDER)
    assert re.search(r"order_42 attempt 1: .* succeeded \(charge ch_\w+, request req_\w+\)", str(caught.value))
    assert (shop.posts, shop.paid()) == (1, 1)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def resumed(shop: Shop) -> None:
    """What was left is finished, and the customer has paid once."""
    shop.client().resume()
    assert shop.client().charge(ORDER).state is State.SUCCEEDED
    assert (shop.paid(), shop.states()) == (1, ["succeeded"])
