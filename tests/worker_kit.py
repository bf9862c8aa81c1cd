"""What the tests of a worker share: a world whose database has its time, a worker that runs to its end, its news."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from sqlalchemy import Engine, event

from gateway_client import AsyncWorker, Charge, Client, PaymentIntent, Worker
from tests.kit import ORDER, World
from tests.kit_clients import AnyClient, Awaited

RATE = 25.0
SENDS_MAX = 300  # of a worker that would never end
DATABASES = ("sync", "sync, postgresql")
"""Kinds of a world for what does not depend on the client."""


class TimedWorld(World):
    """A world whose PostgreSQL, which judges leases, has the world's time, too. A file has no clock."""

    database_off = timedelta(0)
    """How far the server's clock is ahead of the true time."""

    def __enter__(self) -> Self:
        for engine in self._both:
            event.listen(engine, "before_cursor_execute", self._tell, retval=True)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        for engine in self._both:
            event.remove(engine, "before_cursor_execute", self._tell)
        super().__exit__(*error)

    @property
    def _both(self) -> tuple[Engine, Engine]:
        return self._engine, self._async_engine.sync_engine

    def _tell(self, connection: Any, cursor: Any, statement: str, values: Any, *others: object) -> tuple[str, Any]:
        now = (self.clock.now + self.database_off).isoformat()
        return statement.replace("clock_timestamp()", f"timestamptz '{now}'"), values


class News:
    """What a worker tells; `stop` is called when all of `until` are final."""

    def __init__(self, until: int = 0) -> None:
        self.charges: list[Charge] = []
        self.notes: list[str] = []
        self.until = until
        self.worker: Worker | AsyncWorker | None = None

    def __call__(self, news: Charge | str) -> None:
        if isinstance(news, str):
            self.notes.append(news)
        else:
            self.charges.append(news)
        assert len(self.charges) < SENDS_MAX * 3, "the worker works for ever"
        if self.worker is not None and sum(charge.final for charge in self.charges) == self.until:
            self.worker.stop()

    @property
    def states(self) -> Counter[str]:
        return Counter(str(charge.state) for charge in self.charges)


def work(client: AnyClient, news: News | None = None, *, rate: float = RATE, until_idle: bool = True) -> News:
    """Run a worker of either kind; without `until_idle` it ends when everything expected is final."""
    news = news or News()
    if isinstance(client, Awaited):
        asynchronous = AsyncWorker(client._client, rate=rate, news=news)
        news.worker = None if until_idle else asynchronous
        client._runner.run(asynchronous.run(until_idle=until_idle))
    else:
        assert isinstance(client, Client)
        worker = Worker(client, rate=rate, news=news)
        news.worker = None if until_idle else worker
        worker.run(until_idle=until_idle)
    return news


def queue(client: AnyClient, count: int) -> None:
    for number in range(count):
        client.prepare(order(f"order_{number}"))


def order(name: str) -> PaymentIntent:
    return replace(ORDER, intent_id=name)


def leased(world: World) -> int:
    return int(world.sql("SELECT count(*) FROM pending_charges WHERE leased_by IS NOT NULL")[0][0])
