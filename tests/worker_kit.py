"""What the tests of a worker share: one that runs to its end in either client, and what it told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from gateway_client import AsyncWorker, Charge, Client, PaymentIntent, Worker
from tests.kit import ORDER, AnyClient, Awaited, World

RATE = 25.0
SENDS_MAX = 300  # of a worker that would never end


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
