"""Several workers on one file and one port: with their leases, and with all of them switched off (S12)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from gateway_client import Charge, Client, Sandbox, Stripe, Worker
from gateway_client.flow.effects import Lease, ReadPending
from gateway_client.sandbox.server import SandboxServer
from gateway_client.store import read_pending
from tests.kit import ORDER

WORKERS, CHARGES, RATE, END_S_MAX = 4, 60, 1000.0, 90.0
FAULTS = {"lost_reply": 0.05, "slow": 0.1, "duplicate": 0.05, "unavailable_503": 0.03, "in_use_409": 0.03}


def no_lease(session: Session, effect: Lease, now: datetime) -> tuple[Charge, ...]:
    """Whatever is pending, whoever is at it."""
    return read_pending(session, ReadPending(None, effect.rows_max))


def client(server: SandboxServer, path: Path) -> Client:
    return Client(Stripe(Sandbox.api_key, api_base=server.url), database=f"sqlite:///{path}", timeout_s=5.0)


def race(server: SandboxServer, path: Path, work: Callable[[Client], None]) -> None:
    """The same work in several threads at once, each with a client of its own."""
    failures: list[BaseException] = []

    def one() -> None:
        try:
            with client(server, path) as mine:
                work(mine)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(END_S_MAX)
    assert (failures, [thread.is_alive() for thread in threads]) == ([], [False] * WORKERS)


def prepare(server: SandboxServer, path: Path) -> None:
    with client(server, path) as mine:
        for number in range(CHARGES):
            mine.prepare(replace(ORDER, intent_id=f"order_{number}"))


def test_leases_share_the_work(tmp_path: Path) -> None:
    """Four workers drain one queue of a healthy provider with one send a charge, and every one of them takes part."""
    sandbox = Sandbox()
    sent_by: dict[int, int] = {}

    def work(mine: Client) -> None:
        news: list[Charge | str] = []
        Worker(mine, rate=10, news=news.append).run(until_idle=True)
        sent_by[threading.get_ident()] = len(news)

    with sandbox.serve() as server:
        prepare(server, tmp_path / "races.db")
        race(server, tmp_path / "races.db", work)
    assert (len(sandbox.charges), sum(sent_by.values())) == (CHARGES, CHARGES)
    assert len([request for request in sandbox.requests if request.method == "POST"]) <= 1.1 * CHARGES
    assert all(sent_by.values())


@pytest.mark.parametrize("leases", [True, False])
def test_nothing_is_charged_twice(leases: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers race over one queue, beside lost and doubled requests; without leases, too, nothing is charged twice
    and nothing is lost (S1, S12, F111, F113)."""
    if not leases:
        monkeypatch.setattr("gateway_client.store.lease", no_lease)
        monkeypatch.setattr("gateway_client.store.gate.holds", lambda *_: True)
    sandbox = Sandbox(seed=5, faults=FAULTS)
    sandbox.slow_s = 0.02
    done: set[str] = set()
    workers: list[Worker] = []

    def work(mine: Client) -> None:
        def hear(news: Charge | str) -> None:
            if not isinstance(news, str) and news.final:
                done.add(news.intent_id)
            if len(done) == CHARGES:
                for each in workers:
                    each.stop()

        worker = Worker(mine, rate=RATE, news=hear)
        workers.append(worker)
        worker.run()

    with sandbox.serve() as server:
        prepare(server, tmp_path / "races.db")
        race(server, tmp_path / "races.db", work)
        assert dict(sandbox.succeeded()) == {f"order_{number}": 1 for number in range(CHARGES)}
    if not leases:  # they did race
        assert len([request for request in sandbox.requests if request.method == "POST"]) > 1.2 * CHARGES
