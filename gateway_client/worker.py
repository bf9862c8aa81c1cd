"""Worker and AsyncWorker: pending charges are finished for as long as a thread, a task or `paycli worker` runs.

The story is in `flow/working.py`; both only drive it with their client.
"""

from __future__ import annotations

import os
import secrets
import socket

from gateway_client.async_client import AsyncClient
from gateway_client.client import Client
from gateway_client.driver import Driver, ignore
from gateway_client.flow.effects import Flow
from gateway_client.flow.working import News, Plan, work_flow
from gateway_client.pace import SENDS_PER_S, checked_rate


def name_of_process() -> str:
    """A name for a lease that no other call has, ever: host and number are for people, chance makes it unique."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


class _Stoppable:
    """What both kinds of worker have in common: how they work, and when they end."""

    def __init__(self, *, rate: float = SENDS_PER_S, news: News = ignore) -> None:
        self._rate, self._news = checked_rate(rate), news
        self._stopping = False

    def stop(self) -> None:
        """End `run` soon, from any thread or signal handler: nothing new is begun, and what was begun is resumable.

        It waits for one exchange at most, which is over after the client's `timeout_s`.
        """
        self._stopping = True

    def _flow(self, client: Driver, timeout_s: float, *, until_idle: bool) -> Flow[None]:
        plan = Plan(
            worker=name_of_process(),
            sends_per_s=self._rate,
            timeout_s=timeout_s,
            until_idle=until_idle,
            chance=client.clock.jitter,
            stopping=lambda: self._stopping,
            news=self._news,
        )
        return work_flow(client.setup, plan)


class Worker(_Stoppable):
    """Finishes pending charges, beside any number of others: `Thread(target=worker.run).start()`, `worker.stop()`.

    `rate` is how many sends a second it makes at most; `news` hears of each charge that it worked on, and of what it
    waits for (a sentence).
    """

    def __init__(self, client: Client, *, rate: float = SENDS_PER_S, news: News = ignore) -> None:
        super().__init__(rate=rate, news=news)
        self._client = client

    def run(self, *, until_idle: bool = False) -> None:
        """Work until `stop`; with `until_idle` until no charge is due.

        A provider or database that is away is waited for, with `until_idle` it is a NotNow. Raises ConfigurationError.
        """
        self._client.run(self._flow(self._client, self._client.timeout_s, until_idle=until_idle))


class AsyncWorker(_Stoppable):
    """The same words with `await`: `task = asyncio.create_task(worker.run())`, `worker.stop()`, `await task`.

    A cancelled task leaves its rows to others once its lease is over; a stopped one gives them back.
    """

    def __init__(self, client: AsyncClient, *, rate: float = SENDS_PER_S, news: News = ignore) -> None:
        super().__init__(rate=rate, news=news)
        self._client = client

    async def run(self, *, until_idle: bool = False) -> None:
        """As Worker.run."""
        await self._client.run(self._flow(self._client, self._client.timeout_s, until_idle=until_idle))
