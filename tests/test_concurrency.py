"""Many callers of one intent at once: threads, tasks, processes; two senders of one attempt; two answers to one charge.

Nobody dies here: `test_kill_effects.py` and `test_kill_processes.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from gateway_client import (
    AsyncClient,
    AttemptRefused,
    Charge,
    Client,
    NeedsPerson,
    ProviderUnavailable,
    Sandbox,
    State,
    Stripe,
)
from gateway_client.flow.effects import Claim, Effect, Send, Settle
from gateway_client.outcome import Answer, Canceled, Conflict, Declined, Outcome, Succeeded
from tests.kill_child import POLICY
from tests.kill_world import ORDER, Mortal, World
from tests.kill_yard import DATABASES, database_of, yard

T = TypeVar("T")

THREADS, TASKS, PROCESSES = 8, 8, 4
SECONDS_MAX = 30


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def slow_sandbox() -> Sandbox:
    """The first request executes for a while: the others find its key in use, and wait it out."""
    sandbox = Sandbox()
    sandbox.slow_s = 1.5
    sandbox.fault("slow")
    return sandbox


def charged_once(sandbox: Sandbox, told: list[Charge], callers: int) -> None:
    assert [charge.state for charge in told] == [State.SUCCEEDED] * callers
    assert len({(charge.provider_charge_id, charge.attempt) for charge in told}) == 1
    assert sandbox.succeeded() == {ORDER.intent_id: 1}
    posts = [request for request in sandbox.requests if request.method == "POST"]
    assert len({(request.idempotency_key, request.params) for request in posts}) == 1


@pytest.mark.parametrize("kind", DATABASES)
def test_eight_threads(kind: str, tmp_path: Path) -> None:
    """Eight threads that charge one intent at once get one answer, of one row and one charge (F16)."""
    sandbox, barrier, database = slow_sandbox(), threading.Barrier(THREADS), database_of(kind, tmp_path)
    with (
        Client(Stripe(sandbox.api_key), database=database, transport=sandbox.transport(), retry=POLICY) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def charge() -> Charge:
            barrier.wait(SECONDS_MAX)
            return client.charge(ORDER)

        told = [future.result(SECONDS_MAX) for future in [pool.submit(charge) for _ in range(THREADS)]]
    charged_once(sandbox, told, THREADS)
    if kind == "sqlite":  # on PostgreSQL they may wait for one another's rows, and come to the provider one by one
        assert 409 in {request.status for request in sandbox.requests}


@pytest.mark.parametrize("kind", DATABASES)
def test_eight_tasks(kind: str, tmp_path: Path) -> None:
    """Eight tasks that charge one intent at once get one answer, of one row and one charge (F16)."""
    sandbox = slow_sandbox()

    async def story() -> list[Charge]:
        gateway, database = Stripe(sandbox.api_key), database_of(kind, tmp_path)
        async with AsyncClient(gateway, database=database, transport=sandbox.async_transport(), retry=POLICY) as client:
            return await asyncio.gather(*(client.charge(ORDER) for _ in range(TASKS)))

    charged_once(sandbox, asyncio.run(asyncio.wait_for(story(), SECONDS_MAX)), TASKS)
    if kind == "sqlite":  # on PostgreSQL they may wait for one another's rows, and come to the provider one by one
        assert 409 in {request.status for request in sandbox.requests}


@pytest.mark.parametrize("kind", DATABASES)
def test_four_processes(kind: str, tmp_path: Path) -> None:
    """Four processes that charge one intent at once, on an empty store, are all told that it succeeded (F111)."""
    sandbox = slow_sandbox()
    with yard(database_of(kind, tmp_path), sandbox) as made:
        report = made.run({"intents": [ORDER.intent_id] * PROCESSES})
        assert report["states"] == ["succeeded"] * PROCESSES
        assert made.states() == {ORDER.intent_id: "succeeded"}
        with made.client() as client:
            charged_once(sandbox, [client.charge(ORDER)], 1)
        assert made.sound() == "ok"


# Two senders of one attempt -----------------------------------------------------------------------------------------


class Interrupted(Mortal):
    """Does something else right before its first send leaves, as a slower process would."""

    meanwhile: Callable[[], object] | None = None

    def perform(self, effect: Effect[T]) -> T:
        if isinstance(effect, Send) and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().perform(effect)


def refusing(world: World, status: int) -> httpx.MockTransport:
    """A provider that refuses each charge in its own words: what is wrong with it (400), or that it is busy (429)."""

    def handle(request: httpx.Request) -> httpx.Response:
        headers = {"Date": formatdate(world.clock.time(), usegmt=True)}
        if request.method == "GET":
            return httpx.Response(200, json={"id": Sandbox().account, "object": "account"}, headers=headers)
        headers["Idempotency-Key"] = request.headers["Idempotency-Key"]
        error = {"type": "invalid_request_error", "code": "refused", "param": "payment_method"}
        return httpx.Response(status, json={"error": error}, headers=headers)

    return httpx.MockTransport(handle)


def refused(world: World, status: int) -> Charge:
    """Another process charges the same intent, and its send is refused."""
    gateway, clock = Stripe(world.sandbox.api_key), world.clock
    with Client(gateway, database=world.engine, transport=refusing(world, status), clock=clock) as other:
        return other.charge(ORDER)


@pytest.mark.parametrize("status", [400, 429])
def test_refusal_beside_a_send_that_arrives_later(world: World, status: int) -> None:
    """A refusal beside an open send closes nothing: that send may be executed later, and no attempt 2 is made (S6)."""
    world.restart("late")
    assert world.kills(lambda client: client.charge(ORDER), dies_after=Send)
    assert refused(world, status).state is State.UNKNOWN
    with world.client() as client:
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
        world.clock.sleep(3600)
        assert len(world.paid()) == 1  # executed ten minutes late
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
        assert client.charge(ORDER).state is State.SUCCEEDED
    assert world.states() == ["succeeded"]


@pytest.mark.parametrize("status", [400, 429])
def test_refusal_while_the_other_is_on_its_way(world: World, status: int) -> None:
    """One sender is refused between the other's decision and its first byte: the other's answer counts (S6)."""
    told: list[Charge] = []
    with Interrupted(
        Stripe(world.sandbox.api_key), database=world.engine, transport=world.sandbox.transport(), clock=world.clock
    ) as client:
        client.meanwhile = lambda: told.append(refused(world, status))
        assert client.charge(ORDER).state is State.SUCCEEDED
    assert [charge.state for charge in told] == [State.UNKNOWN]
    assert world.states() == ["succeeded"]


def test_refusal_alone(world: World) -> None:
    """Beside no other send a 400 is final, and when the provider shows nothing, attempt 2 may be made (F44)."""
    assert refused(world, 400).state is State.REJECTED
    with world.client() as client:
        assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.states() == ["rejected", "succeeded"]


def test_both_refused(world: World) -> None:
    """When the last open send is refused as well, nothing is in doubt any more."""
    with Interrupted(
        Stripe(world.sandbox.api_key), database=world.engine, transport=refusing(world, 400), clock=world.clock
    ) as client:
        client.meanwhile = lambda: refused(world, 400)
        assert client.charge(ORDER).state is State.REJECTED
    assert world.states() == ["rejected"]


# Two answers to one charge ------------------------------------------------------------------------------------------

PAID = Succeeded("pi_1", "ch_1")
OUTCOMES: dict[str, tuple[Outcome, State]] = {
    "succeeded": (PAID, State.SUCCEEDED),
    "declined": (Declined("card_declined", "pi_1"), State.DECLINED),
    "canceled": (Canceled("cancelled", "pi_1"), State.CANCELED),
}


def settle(outcome: Outcome) -> Settle:
    return Settle(ORDER.intent_id, 1, Answer(outcome, status=200, request_id="req_1"), saves_declines=True)


def history(world: World) -> list[Any]:
    tables = ("pending_charges", "paycli_sends", "paycli_events", "paycli_findings")
    return [world.watcher.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in tables]


def findings(world: World) -> int:
    return len(history(world)[3])


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_same_answer_twice(world: World, name: str) -> None:
    """The same outcome again changes nothing, in no table (S9)."""
    outcome, state = OUTCOMES[name]
    assert world.kills(lambda client: client.charge(ORDER), dies_after=Claim)
    with world.client() as client:
        assert client.perform(settle(outcome)).state is state
        before = history(world)
        assert client.perform(settle(outcome)).state is state
    assert history(world) == before


@pytest.mark.parametrize(("first", "second"), [*permutations(OUTCOMES, 2)])
def test_another_answer_afterwards(world: World, first: str, second: str) -> None:
    """A final state is never overwritten; where money is at stake the disagreement is one finding (S9, F113)."""
    assert world.kills(lambda client: client.charge(ORDER), dies_after=Claim)
    with world.client() as client:
        assert client.perform(settle(OUTCOMES[first][0])).state is OUTCOMES[first][1]
        row = history(world)[0]
        for _ in range(2):
            assert client.perform(settle(OUTCOMES[second][0])).state is OUTCOMES[first][1]
        at_stake = "succeeded" in (first, second)
        assert (history(world)[0], findings(world)) == (row, int(at_stake))
        if at_stake:
            with pytest.raises((NeedsPerson, AttemptRefused)):
                client.charge(ORDER, attempt=2)
    assert [row[1] for row in world.rows()] == [1]


@pytest.mark.parametrize(
    "outcome", [Succeeded("pi_2", "ch_2"), Conflict("received 1, asked 1999", "pi_1", "ch_1")], ids=["second", "other"]
)
def test_a_second_success_is_a_finding(world: World, outcome: Outcome) -> None:
    """A success with another charge of the provider, or of another amount, is not the same outcome again (S9, F65)."""
    assert world.kills(lambda client: client.charge(ORDER), dies_after=Claim)
    with world.client() as client:
        client.perform(settle(PAID))
        charge = client.perform(settle(outcome))
    assert (charge.state, charge.provider_charge_id, findings(world)) == (State.SUCCEEDED, "ch_1", 1)


def test_two_answers_at_once(world: World) -> None:
    """Two processes that record opposite outcomes at one moment leave one final state and one finding (S9, F113)."""
    assert world.kills(lambda client: client.charge(ORDER), dies_after=Claim)
    barrier = threading.Barrier(2)

    def record(outcome: Outcome) -> State:
        with world.client() as client:
            barrier.wait(SECONDS_MAX)
            return client.perform(settle(outcome)).state

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(record, OUTCOMES[name][0]) for name in ("succeeded", "declined")]
        told = {future.result(SECONDS_MAX) for future in futures}
    assert len(told) == 1
    assert told <= {State.SUCCEEDED, State.DECLINED}
    assert findings(world) == 1


class CountedLock:
    """A lock that tells when so many have come to it."""

    def __init__(self, awaited: int) -> None:
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._awaited, self.all_came = awaited, threading.Event()

    def __enter__(self) -> None:
        with self._counting:
            self._awaited -= 1
            if self._awaited == 0:
                self.all_came.set()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_a_dead_provider_is_asked_once_for_all_who_wait(tmp_path: Path) -> None:
    """Six threads that wait for one unanswered question share its failure; they do not ask one after the other."""
    lock, asked = CountedLock(6), []

    def dead(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        assert lock.all_came.wait(20)
        raise httpx.ConnectError("refused", request=request)

    url = f"sqlite:///{tmp_path / 'store.db'}"
    with (
        Client(Stripe("sk_test_1"), database=url, transport=httpx.MockTransport(dead)) as client,
        ThreadPoolExecutor(6) as pool,
    ):
        setattr(client, "_lock", lock)  # noqa: B010 - to know when everybody waits
        waiting = [pool.submit(client.charge, ORDER) for _ in range(6)]
        problems = [one.exception(30) for one in waiting]
    assert [type(problem) for problem in problems] == [ProviderUnavailable] * 6
    assert asked == ["/v1/account"]
