"""Weaker settings, offered to the library: each must be refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from gateway_client import Client, Sandbox, StoreUnavailable, Stripe
from tests.powercut.child import ORDERS

ORDER = ORDERS["order_1"]
Offer = tuple[str, Callable[[str], Engine], Callable[[Client, Engine], object]]


def charge(client: Client, engine: Engine) -> object:
    return client.charge(ORDER)


def prepare(client: Client, engine: Engine) -> object:
    """In the caller's own transaction, whose settings can be read but not changed."""
    with Session(engine) as session:
        return client.prepare(ORDER, session)


def rewriting(old: str, new: str) -> Callable[[str], Engine]:
    """An engine that says something weaker than it is told, to a file that is not there yet."""

    def make(url: str) -> Engine:
        engine = create_engine(url)

        def rewrite(conn: Any, cursor: Any, statement: str, parameters: Any, *more: object) -> tuple[str, Any]:
            return statement.replace(old, new), parameters

        event.listen(engine, "before_cursor_execute", rewrite, retval=True)
        return engine

    return make


def beginning(pragma: str) -> Callable[[str], Engine]:
    """An engine that begins its connections with a PRAGMA and its transactions by itself, on a store that is there."""

    def make(url: str) -> Engine:
        with Client(Stripe(Sandbox.api_key), database=url) as client:
            assert client.find("nobody") is None
        engine = create_engine(url)

        def connected(connection: Any, *more: object) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA {pragma}")

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    return make


def offers() -> Iterator[Offer]:
    for level in ("NORMAL", "OFF"):
        weaker = f"synchronous = {level}"
        yield f"{weaker}, whatever it is told", rewriting("synchronous = FULL", weaker), charge
        yield f"{weaker}, in a transaction of the host's", beginning(weaker), charge
        yield f"{weaker}, in a transaction of the host's, prepare", beginning(weaker), prepare
    for journal in ("DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"):
        weaker = f"journal_mode = {journal}"
        yield f"{weaker}, whatever it is told", rewriting("journal_mode = WAL", weaker), charge


def accepted(where: Path) -> Iterator[tuple[str, str | None]]:
    """Each offer, and what came of it; None when it was refused and nothing was sent."""
    for number, (name, make, offer) in enumerate(offers()):
        sandbox = Sandbox()
        engine = make(f"sqlite:///{where / str(number)}.db")
        with Client(Stripe(Sandbox.api_key), database=engine, transport=sandbox.transport()) as client:
            try:
                came_of_it: str | None = f"accepted: {offer(client, engine)}"
            except StoreUnavailable as refused:
                came_of_it = None if "not durable" in str(refused) else f"refused for another reason: {refused}"
        engine.dispose()
        sent = [request for request in sandbox.requests if request.method == "POST"]
        yield name, f"{len(sent)} requests were sent" if sent else came_of_it
