"""What the works of a group write is written for all of them together, and each ends as if it had been alone.

Charges by as many threads: their claims are one commit, and their outcomes another (`group_transaction.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest

from gateway_client import Charge, Client, IntentConflict, Money, PaymentIntent, State
from gateway_client.columns import charges, sends
from gateway_client.errors import NeedsPerson
from gateway_client.flow.charging import prepare_flow
from gateway_client.postgres_errors import LOCK_TIMEOUT_S
from gateway_client.row_writes import SQLITE_ROWS, Insert, Update, statement_of, write_rows
from gateway_client.store.facts import read_untouched
from gateway_client.store.performing import perform
from gateway_client.transaction import Transaction
from tests.kit import ONE_SEND, ORDER, World
from tests.test_group_commit import WAIT_S_MAX, soon
from tests.test_statements import Counted, counted

KINDS = ["sync", "sync, postgresql"]


@pytest.fixture(params=KINDS)
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    with World(request.param) as world, ThreadPoolExecutor(32) as pool:
        yield Crowd(world, pool)


class Crowd:
    """A client that knows its provider and its store, and threads that call it at once."""

    def __init__(self, world: World, pool: ThreadPoolExecutor) -> None:
        self.world, self.client, self._pool = world, cast("Client", world.open_client(retry=ONE_SEND)), pool
        assert self.client.charge(intent("first")).state is State.SUCCEEDED
        self.group = self.client._database.group
        self.arrived: list[str] = []
        self._answer = threading.Event()
        world.hooks.append(self._hold)

    def _hold(self, request: httpx.Request) -> None:
        if request.method == "POST":
            self.arrived.append(request.url.path)
            assert self._answer.wait(WAIT_S_MAX)

    @contextmanager
    def waiting(self, count: int) -> Iterator[None]:
        """Hold the writer until so many works wait for it, so that they are one group."""
        with self.group.hold():
            yield
            soon(lambda: len(self.group.waiting) == count)

    def begin(self, *intents: PaymentIntent) -> list[Future[Charge]]:
        """Charge intents at once: their claims are one group."""
        with self.waiting(len(intents)):
            return [self._pool.submit(self.client.charge, one) for one in intents]

    def answer(self, sends: int) -> None:
        """Have so many sends answered at once: their outcomes are one group."""
        soon(lambda: len(self.arrived) == sends)
        with self.waiting(sends):
            self._answer.set()

    def do(self, works: Sequence[Callable[[Transaction], Any]], intents: Sequence[str]) -> list[Future[Any]]:
        """Do works about these intents as one group, in the order of the intents."""
        with self.waiting(len(works)):
            return [
                self._pool.submit(
                    self.client._database.transact,
                    work,
                    time=lambda: self.world.clock.now,
                    intent_id=intent_id,
                    ahead=read_untouched,
                )
                for work, intent_id in zip(works, intents, strict=True)
            ]

    def claim(self, name: str) -> Callable[[Transaction], Any]:
        """Insert the row of a new intent."""
        effect = self.client.run(prepare_flow(self.client.setup, intent(name), None))
        return lambda tx: perform(tx, effect)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The intents on disk with their states, but for the first."""
        found = self.world.sql("SELECT intent_id, state FROM pending_charges WHERE intent_id <> 'first' ORDER BY 1")
        return [(name, state) for name, state in found]


def intent(name: str, amount: int = 2000) -> PaymentIntent:
    return replace(ORDER, intent_id=name, amount=Money(amount, "usd"))


def said(counts: Counted) -> list[list[str]]:
    return [[statement.split()[0] for statement in statements] for statements in counts.transactions]


@pytest.mark.parametrize("count", [2, 4, 16])
def test_many_charges_are_a_few_statements(crowd: Crowd, count: int) -> None:
    """Sixteen charges cost the store no more statements than two: four for their claims, three for their outcomes."""
    names = [f"order_{number:02}" for number in range(count)]
    with counted(crowd.world) as counts:
        futures = crowd.begin(*map(intent, names))
        crowd.answer(count)
        assert [future.result(WAIT_S_MAX).state for future in futures] == [State.SUCCEEDED] * count
    assert said(counts) == [["SELECT", "INSERT", "INSERT", "INSERT"], ["UPDATE", "UPDATE", "INSERT"]]
    assert crowd.rows == [(name, "succeeded") for name in names]
    history = [("claimed", None, "prepared"), ("send begun", "prepared", "sending")]
    history.append(("succeeded", "sending", "succeeded"))
    for name in names:
        told = "SELECT event, state_before, state_after FROM paycli_events WHERE intent_id = ? ORDER BY event_no"
        assert crowd.world.sql(told, (name,)) == history
        ended = "SELECT send_no, outcome, proven, ended_at IS NULL FROM paycli_sends WHERE intent_id = ?"
        assert [tuple(map(str, row)) for row in crowd.world.sql(ended, (name,))] == [
            ("1", "succeeded", str(crowd.world.sql("SELECT 1 = 1")[0][0]), str(crowd.world.sql("SELECT 1 = 0")[0][0]))
        ]
        assert crowd.world.paid(name) == 1


def test_each_row_has_its_own_outcome(crowd: Crowd) -> None:
    """A declined card among paid ones: other columns are written of it, and of no other."""
    declined = replace(intent("order_2"), payment_method="pm_card_chargeDeclined")
    futures = crowd.begin(intent("order_1"), declined, intent("order_3"))
    crowd.answer(3)
    states = [future.result(WAIT_S_MAX).state for future in futures]
    assert states == [State.SUCCEEDED, State.DECLINED, State.SUCCEEDED]
    assert crowd.rows == [("order_1", "succeeded"), ("order_2", "declined"), ("order_3", "succeeded")]


def test_a_row_that_changed_meanwhile_is_read_first(crowd: Crowd) -> None:
    """Somebody has written one of the rows since its send was begun: no outcome is lost, that of this row neither."""
    futures = crowd.begin(intent("order_1"), intent("order_2"), intent("order_3"))
    soon(lambda: len(crowd.arrived) == 3)
    crowd.world.sql("UPDATE pending_charges SET revision = revision + 1, reason = 'hand' WHERE intent_id = 'order_2'")
    crowd.answer(3)
    assert [future.result(WAIT_S_MAX).state for future in futures] == [State.SUCCEEDED] * 3
    assert crowd.rows == [("order_1", "succeeded"), ("order_2", "succeeded"), ("order_3", "succeeded")]
    assert crowd.world.sql("SELECT revision FROM pending_charges WHERE intent_id LIKE 'order%' ORDER BY intent_id") == [
        (3,),
        (4,),
        (3,),
    ]


def test_a_row_that_somebody_locks_holds_up_nobody() -> None:
    """A person's transaction has one of the rows: its outcome waits for that, those beside it are recorded at once."""
    with World(KINDS[1]) as world, ThreadPoolExecutor(4) as pool:
        crowd = Crowd(world, pool)
        futures = crowd.begin(intent("order_1"), intent("order_2"), intent("order_3"))
        soon(lambda: len(crowd.arrived) == 3)
        with world._engine.connect() as person:
            person.exec_driver_sql("SELECT 1 FROM pending_charges WHERE intent_id = 'order_2' FOR UPDATE")
            crowd.answer(3)
            held_s_max = LOCK_TIMEOUT_S - 1.0  # else they have waited as long as a work of its own may
            assert [futures[number].result(held_s_max).state for number in (0, 2)] == [State.SUCCEEDED] * 2
            assert crowd.rows == [("order_1", "succeeded"), ("order_2", "sending"), ("order_3", "succeeded")]
        assert futures[1].result(WAIT_S_MAX).state is State.SUCCEEDED


def test_an_intent_that_stands_for_another_payment(crowd: Crowd) -> None:
    """One claim of a group is refused for what is on disk: those beside it are sent."""
    crowd._answer.set()
    crowd.client.charge(intent("order_2", 999))
    crowd.arrived.clear()
    futures = crowd.begin(intent("order_1"), intent("order_2"), intent("order_3"))
    assert isinstance(futures[1].exception(WAIT_S_MAX), IntentConflict)
    assert [futures[number].result(WAIT_S_MAX).state for number in (0, 2)] == [State.SUCCEEDED] * 2
    assert sorted(crowd.world.sandbox.succeeded().items()) == [
        ("first", 1),
        ("order_1", 1),
        ("order_2", 1),
        ("order_3", 1),
    ]


def test_an_intent_that_a_person_must_look_at(crowd: Crowd) -> None:
    """A finding without a row holds a new attempt in a group, too."""
    crowd.world.open_finding("order_2")
    futures = crowd.begin(intent("order_1"), intent("order_2"), intent("order_3"))
    crowd._answer.set()
    assert isinstance(futures[1].exception(WAIT_S_MAX), NeedsPerson)
    assert [futures[number].result(WAIT_S_MAX).state for number in (0, 2)] == [State.SUCCEEDED] * 2
    assert crowd.world.paid("order_2") == 0


def test_one_intent_by_several_at_once(crowd: Crowd) -> None:
    """Four callers charge one intent in one group: it has one row, and is paid once."""
    crowd._answer.set()
    futures = crowd.begin(*[intent("order_1")] * 4, intent("order_2"))
    assert [future.result(WAIT_S_MAX).intent_id for future in futures] == [*["order_1"] * 4, "order_2"]
    assert (crowd.world.paid("order_1"), crowd.world.paid("order_2")) == (1, 1)
    assert crowd.rows == [("order_1", "succeeded"), ("order_2", "succeeded")]


def test_a_work_that_fails_writes_nothing(crowd: Crowd) -> None:
    """What waits of a work goes with it when it fails; what waits of those beside it is written."""
    claim = crowd.claim("b")

    def failing(tx: Transaction) -> None:
        claim(tx)
        raise NeedsPerson("look")

    futures = crowd.do([crowd.claim("a"), failing, crowd.claim("c")], "abc")
    assert [type(future.exception(WAIT_S_MAX)) for future in futures] == [type(None), NeedsPerson, type(None)]
    assert crowd.rows == [("a", "prepared"), ("c", "prepared")]


COUNT = "SELECT count(*) FROM pending_charges WHERE intent_id <> 'first'"


def counting(tx: Transaction) -> int:
    found: int = tx.connection.exec_driver_sql(COUNT).scalar()
    return found


def test_a_work_that_reads_sees_what_was_written_before_it(crowd: Crowd) -> None:
    """What still waits of those before it is written first, and of those behind it nothing is."""
    futures = crowd.do([crowd.claim("a"), counting, crowd.claim("c")], "abc")
    assert [future.exception(WAIT_S_MAX) for future in futures] == [None, None, None]
    assert (futures[1].result(), crowd.rows) == (1, [("a", "prepared"), ("c", "prepared")])


def test_a_work_that_reads_what_it_has_written(crowd: Crowd) -> None:
    """Its own row still waits for those of the others, so it is done alone, and reads it then."""
    claim = crowd.claim("b")

    def both(tx: Transaction) -> int:
        claim(tx)
        return counting(tx)

    futures = crowd.do([crowd.claim("a"), both, crowd.claim("c")], "abc")
    assert [future.exception(WAIT_S_MAX) for future in futures] == [None, None, None]
    assert futures[1].result() == 3
    assert crowd.rows == [("a", "prepared"), ("b", "prepared"), ("c", "prepared")]


def test_what_is_not_as_foreseen_undoes_the_group(crowd: Crowd) -> None:
    """A work was told that its row is written, and it was not: all are undone before anybody reads, and done alone."""
    changes = Update(charges, by=("intent_id", "operation", "attempt", "revision"), raised="revision")

    def writing(tx: Transaction) -> bool:
        return tx.write_found(
            changes, {"reason": "x", "intent_id": "first", "operation": "charge", "attempt": 1, "revision": 99}
        )

    futures = crowd.do([writing, counting, crowd.claim("c")], "abc")
    assert [future.exception(WAIT_S_MAX) for future in futures] == [None, None, None]
    assert futures[0].result() is False
    assert crowd.rows == [("c", "prepared")]


def test_rows_that_the_database_refuses_undo_the_group(crowd: Crowd) -> None:
    """What one of them has written against the rules is refused with all: each is done again, and that one fails."""
    row = dict.fromkeys(sends.c.keys())
    row |= {"intent_id": "b", "operation": "charge", "attempt": 1, "send_no": 1, "credential_id": "x"}
    row |= {"begun_at": crowd.world.clock.now, "actor": "nobody"}  # a send without its charge

    def refused(tx: Transaction) -> None:
        tx.write(Insert(sends), row)

    futures = crowd.do([crowd.claim("a"), refused, crowd.claim("c")], "abc")
    failed = [future.exception(WAIT_S_MAX) is not None for future in futures]
    assert failed == [False, crowd.world.kind != "sync", False]  # a file of ours does not look at foreign keys
    assert crowd.rows == [("a", "prepared"), ("c", "prepared")]


@pytest.mark.parametrize("count", [1, 2, 3, 17, 64])
def test_many_rows_are_written_as_one_is(crowd: Crowd, count: int) -> None:
    """However many rows are written at once, each has its own values, and the number that was found is right."""
    names = [f"order_{number:02}" for number in range(count)]
    with crowd.group.hold():
        futures = [crowd._pool.submit(crowd.client.prepare, intent(name)) for name in names[: min(count, 16)]]
    for future in futures:
        future.result(WAIT_S_MAX)
    for name in names[16:]:
        crowd.client.prepare(intent(name))
    changes = Update(charges, by=("intent_id", "operation", "attempt", "revision"), raised="revision")
    rows = [
        {"reason": f"for {name}", "amount": 10**12 + number, "leased_until": None, "customer": None, "resume_at": time}
        | {"intent_id": name, "operation": "charge", "attempt": 1, "revision": 1}
        for number, name in enumerate(names)
        for time in [crowd.world.clock.now]
    ]

    def work(tx: Transaction) -> int:
        return write_rows(tx.connection, changes, rows)

    assert crowd.world.transact(work) == count
    told = "SELECT intent_id, reason, amount, revision FROM pending_charges WHERE intent_id <> 'first' ORDER BY 1"
    assert crowd.world.sql(told) == [(name, f"for {name}", 10**12 + number, 2) for number, name in enumerate(names)]
    assert crowd.world.transact(work) == 0  # each has another revision now


def test_sqlite_s_statements_are_of_few_sizes() -> None:
    """Every number of rows is a sum of sizes, so that a driver keeps a few statements and not as many as there are."""
    assert SQLITE_ROWS[-1] == 1
    texts = {statement_of(Insert(charges), ("intent_id",), size, "sqlite") for size in SQLITE_ROWS}
    assert len(texts) == len(SQLITE_ROWS)
