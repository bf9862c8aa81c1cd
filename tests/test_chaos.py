"""A short campaign of `tests/chaos/`, with at least 20 restarts of PostgreSQL; its plan, and what its judge sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos import judge, plan
from tests.chaos.judge import Found, Known, Payment, Row, Told
from tests.chaos.play import Play

RESTARTS = 20
SEED = 1
GAP_S = 0.5


def test_chaos(tmp_path: Path) -> None:
    """Four workers and three callers, a provider with many faults; workers, callers and PostgreSQL are killed all the
    time: each intent is charged once or proven not to be, none is lost, all are final once the faults have stopped (S1,
    S2, S7–S9, L1, F06, F85, F86, F96, F111–F113)."""
    result = Play(SEED, tmp_path, gap_s=GAP_S, fresh=False).run(0, RESTARTS)
    assert result.wrong == []
    assert result.figures["restarts"] >= RESTARTS
    reached = {name for name, count in (result.figures + result.blows).items() if count}
    assert {*plan.DECK, "acknowledged", "charged"} - reached == set()


def test_the_plan() -> None:
    """The same seed draws the same plan; every fault happens, and in each round every blow."""
    assert list(islice(plan.blows(7, 1.0), 50)) == list(islice(plan.blows(7, 1.0), 50))
    assert plan.rates(7) == plan.rates(7)
    for seed in range(20):
        drawn = plan.rates(seed)
        assert (set(drawn), min(drawn.values()) > 0, sum(drawn.values()) <= 1) == (set(plan.FAULTS_DRAWN), True, True)
        assert Counter(blow.kind for blow in islice(plan.blows(seed, 1.0), len(plan.DECK))) == Counter(plan.DECK)


MONEY = plan.intent("order_1").amount
ROW = Row("order_1", 1, "succeeded", "ch_1", "key_1", MONEY.amount, MONEY.currency)
PAID = Payment("ch_1", "order_1", "key_1", "succeeded", MONEY.amount, MONEY.currency)
TOLD = Told("order_1", 1, "succeeded", "ch_1")
PENDING = replace(ROW, state="unknown", charge_id=None)
DECLINED = replace(ROW, state="declined", charge_id=None)
AGAIN = replace(PAID, charge_id="ch_2", key="key_2")
SECOND = replace(ROW, attempt=2, charge_id="ch_2", key="key_2")
OTHER = replace(PAID, amount=MONEY.amount + 1)
MISMATCH = Found("status_mismatch", "order_1", 1, "attempt 1 is succeeded here, the provider says conflict")
GOOD = Known([ROW], [PAID], {TOLD, replace(TOLD, state="prepared", charge_id=None)}, {"order_1"}, begun={"key_1": 1})


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        ([], GOOD),
        ([], replace(GOOD, findings=[MISMATCH], arrived={"key_1": ["wrong_amount"]})),
        (["S1"], replace(GOOD, payments=[PAID, replace(PAID, charge_id="ch_2")])),  # under one key
        (["S1"], replace(GOOD, rows=[ROW, SECOND], payments=[PAID, AGAIN])),  # by two attempts
        (["S1", "S7, S8", "S9"], replace(GOOD, rows=[DECLINED, SECOND], payments=[PAID, AGAIN])),
        (["S2"], Known(told={TOLD})),
        (["S2"], Known(orders={"order_1"})),
        (["S2"], Known(payments=[PAID])),  # charged, and no row knows of it
        (["S2", "S7, S8"], replace(GOOD, payments=[replace(PAID, key="another")])),
        ([], replace(GOOD, arrived={"key_1": ["duplicate", "duplicate"]})),
        (["S2"], replace(GOOD, arrived={"key_1": [None, None]})),
        (["S7"], replace(GOOD, payments=[OTHER])),
        (["S7"], replace(GOOD, rows=[replace(ROW, amount=MONEY.amount + 1)])),
        (["S7, S8"], replace(GOOD, payments=[])),
        (["S7, S8"], replace(GOOD, rows=[replace(ROW, charge_id="ch_2")], told=set())),
        (["S7, S8"], replace(GOOD, rows=[DECLINED], told=set())),
        (["S7, S8"], replace(GOOD, rows=[replace(DECLINED, state="absent")], told=set())),
        (["L1"], replace(GOOD, rows=[PENDING], told=set())),
        (["L1", "S9"], replace(GOOD, rows=[PENDING])),
        (["L2"], replace(GOOD, findings=[MISMATCH])),
        (
            ["L2"],
            replace(GOOD, findings=[replace(MISMATCH, code="duplicate_charge")], arrived={"key_1": ["wrong_amount"]}),
        ),
    ],
)
def test_the_judge(ids: list[str], known: Known) -> None:
    """What does not hold is told, each by its id and with the intent's name: charged twice, lost, of another amount,
    contradicting, not final, told otherwise, an alarm that no fault explains."""
    wrong = judge.of_all(known)
    assert [what.partition(":")[0] for what in wrong] == ids
    assert judge.intents_of(wrong, known) == (["order_1"] if ids else [])
