"""Several workers on one store and one port, beside callers: with leases, and with all of them switched off (S12)."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_client import Charge, Client, RetryPolicy, Sandbox, Stripe, Worker
from gateway_client.flow.leasing import Lease
from gateway_client.sandbox.server import SandboxServer
from gateway_client.store.reading import read_page
from gateway_client.store.registry import PERFORMERS
from gateway_client.transaction import Transaction
from tests import postgres
from tests.kit import ONE_SEND, ORDER

WORKERS, CALLERS, CHARGES, RATE, END_S_MAX = 4, 2, 60, 1000.0, 90.0
FAULTS = {"lost_reply": 0.05, "slow": 0.1, "duplicate": 0.05, "unavailable_503": 0.03, "in_use_409": 0.03}


def no_lease(tx: Transaction, effect: Lease) -> tuple[Charge, ...]:
    """Whatever is pending, whoever is at it."""
    return read_page(tx, None, effect.rows_max)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that nobody else has."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'races.db'}"
    return postgres.fresh_database().render_as_string(hide_password=False)


def client(server: SandboxServer, url: str, retry: RetryPolicy | None = None) -> Client:
    return Client(Stripe(Sandbox.api_key, api_base=server.url), database=url, timeout_s=5.0, retry=retry)


def race(server: SandboxServer, url: str, *works: Callable[[Client], None]) -> None:
    """Each work in a thread of its own, all at once, each with a client of its own."""
    failures: list[BaseException] = []

    def one(work: Callable[[Client], None]) -> None:
        try:
            with client(server, url, ONE_SEND) as mine:
                work(mine)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(END_S_MAX)
    assert (failures, [thread.is_alive() for thread in threads]) == ([], [False] * len(works))


def prepare(server: SandboxServer, url: str) -> None:
    with client(server, url) as mine:
        for number in range(CHARGES):
            mine.prepare(replace(ORDER, intent_id=f"order_{number}"))


def test_leases_share_the_work(url: str) -> None:
    """Four workers drain one queue of a healthy provider with one send a charge, and every one of them takes part."""
    sandbox = Sandbox()
    sent_by: dict[int, int] = {}

    def work(mine: Client) -> None:
        news: list[Charge | str] = []
        Worker(mine, rate=10, news=news.append).run(until_idle=True)
        sent_by[threading.get_ident()] = sum(isinstance(one, Charge) for one in news)

    with sandbox.serve() as server:
        prepare(server, url)
        race(server, url, *[work] * WORKERS)
    assert (len(sandbox.charges), sum(sent_by.values())) == (CHARGES, CHARGES)
    assert len([request for request in sandbox.requests if request.method == "POST"]) <= 1.1 * CHARGES
    assert all(sent_by.values())


@pytest.mark.parametrize("leases", [True, False])
def test_nothing_is_charged_twice(leases: bool, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers race over one queue with two callers of the same charges, beside lost and doubled requests; without
    leases, too, nothing is charged twice and nothing is lost (S1, S12, F111, F113)."""
    if not leases:
        monkeypatch.setitem(PERFORMERS, Lease, no_lease)
        monkeypatch.setattr("gateway_client.store.gate.holds", lambda *_: True)
    sandbox = Sandbox(seed=5, faults=FAULTS)
    sandbox.slow_s = 0.02
    done: set[str] = set()
    workers: list[Worker] = []

    def hear(news: Charge | str) -> None:
        if not isinstance(news, str) and news.final:
            done.add(news.intent_id)
        if len(done) == CHARGES:
            for each in workers:
                each.stop()

    def work(mine: Client) -> None:
        worker = Worker(mine, rate=RATE, news=hear)
        workers.append(worker)
        worker.run()

    def call(mine: Client) -> None:
        for number in random.sample(range(CHARGES), CHARGES):
            hear(mine.charge(replace(ORDER, intent_id=f"order_{number}")))

    with sandbox.serve() as server:
        prepare(server, url)
        race(server, url, *[work] * WORKERS, *[call] * CALLERS)
        assert dict(sandbox.succeeded()) == {f"order_{number}": 1 for number in range(CHARGES)}
    posts = len([request for request in sandbox.requests if request.method == "POST"])
    assert leases or posts > 1.2 * CHARGES  # they did race
