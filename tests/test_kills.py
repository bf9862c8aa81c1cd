"""A handful of the campaign in `tests/kills/`: its plan, its judge, and a dozen of its processes ended by SIGKILL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kills import judge
from tests.kills.forks import forks
from tests.kills.judge import DAY, Absence, Known, Payment, Row
from tests.kills.plan import BOUNDS, HOURS, POINTS_OF, Actor, Batch, Death, Phase, Round, draw
from tests.kills.play import Play
from tests.kills.store import Store

BATCHES_OF_2000 = 25


def client(name: str, at: str) -> Actor:
    return Actor("client", (name,), death=Death(at))


def worker(at: str, nth: int = 1) -> Actor:
    return Actor("worker", death=Death(at, nth))


def reconciler(at: str, nth: int, days_ago: int = 0) -> Actor:
    return Actor("reconciler", days_ago=(days_ago,), death=Death(at, nth))


NOW = (
    # It binds the store; who does has met the provider before its claim, which begins the send in the same commit.
    Round((client("order_6_visa", "p7"),)),
    Round((client("order_1_visa", "p2"), client("order_2_visa", "p3"), client("order_3_declined", "p5"))),
    Round((client("order_4_visa", "p4"), client("order_5_visa", "p6"))),
    Round((worker("p5"),)),
    Round((reconciler("asked", 3),)),
    Round((reconciler("commit", 4),)),
)
LATER = (Round((worker("asking", 2),)), Round((reconciler("answered", 2, 1),)), Round((reconciler("commit", 9, 1),)))
RACE = Round((client("order_7_visa", "p6"), client("order_7_visa", "p3"), worker("p3"), reconciler("committed", 2)))


def test_a_dozen_processes(tmp_path: Path) -> None:
    """Each process dies where it is to die, alone and racing; nothing is charged twice or lost (F01–F08, S1–S3, S7)."""
    phases = (Phase(HOURS[0], NOW, healed=False), Phase(HOURS[1], (*LATER, RACE), healed=True))
    with forks(tmp_path / "store.db") as parent:
        result = Play(Batch(0, 0, {}, phases), parent, Store(tmp_path / "store.db")).run()
    assert result["wrong"] == []
    died = [(actor.kind, actor.death) for one in (*NOW, *LATER) for actor in one.actors]
    expected = [(kind, death.at, death.nth, False) for kind, death in died if death is not None]
    assert result["ended"][: len(expected)] == expected
    assert {name: result["figures"][name] for name in ("intents", "charged", "doubles", "lost")} == {
        "intents": 7,
        "charged": 7,
        "doubles": 0,
        "lost": 0,
    }


def test_the_plan() -> None:
    """A batch is what its seed and number say; 2,000 processes are to die at every point that their kind has."""
    batches = [draw(7, number) for number in range(BATCHES_OF_2000)]
    assert batches == [draw(7, number) for number in range(BATCHES_OF_2000)]
    rounds = [one for batch in batches for phase in batch.phases for one in phase.rounds]
    forked = [actor for one in rounds for actor in one.actors if not actor.fresh]
    points = {
        kind: {actor.death.at for actor in forked if actor.kind == kind and actor.death is not None}
        for kind in POINTS_OF
    }
    assert points == {kind: set(of) for kind, of in POINTS_OF.items()}
    assert {actor.kind for one in rounds for actor in one.actors if actor.fresh} == set(points) - {"crowd"}
    assert any(one.is_race for one in rounds)


ORDER = ("order_1", 1)
ROW = Row("succeeded", "ch_1", "key")
PAYMENT = Payment("ch_1", "order_1", "key", "succeeded", 1999)
GOOD = Known(rows={ORDER: ROW}, payments=(PAYMENT,), acknowledged={ORDER: {("succeeded", "ch_1")}}, completed=["run_1"])


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        ([], GOOD),
        (["S1", "S7"], replace(GOOD, payments=(PAYMENT, replace(PAYMENT, charge_id="ch_2")))),
        (["S2"], replace(GOOD, rows={}, payments=())),
        (["S2", "S7"], replace(GOOD, payments=(replace(PAYMENT, key="another"),))),
        (["S7"], replace(GOOD, payments=())),
        (["S9"], replace(GOOD, rows={ORDER: replace(ROW, state="sending", charge_id=None)})),
        (["F114"], replace(GOOD, completed=["run_1", "run_1"])),
    ],
)
def test_the_judge(ids: list[str], known: Known) -> None:
    """What does not hold is told, each by its id."""
    assert [what.partition(":")[0] for what in judge.after_a_round(known, before={})] == ids


QUIET, UNPROVEN = BOUNDS.quiet / DAY, BOUNDS.quiet_unproven / DAY


@pytest.mark.parametrize(
    ("absence", "early"),
    [
        (Absence(ORDER, proven=5 + QUIET, closed=5, quiet_from=5, unproven=False), False),
        (Absence(ORDER, proven=5.1 + QUIET, closed=5, quiet_from=5.2, unproven=False), True),
        (Absence(ORDER, proven=5.2 + QUIET, closed=5, quiet_from=4.9, unproven=False), True),
        (Absence(ORDER, proven=5 + UNPROVEN, closed=5, quiet_from=5, unproven=True), False),
        (Absence(ORDER, proven=4.9 + UNPROVEN, closed=5, quiet_from=5, unproven=True), True),
    ],
)
def test_the_judge_of_absences(absence: Absence, *, early: bool) -> None:
    """An absence is early that was proven before its quiet time, or whose quiet time counts from before the closing."""
    assert bool(judge.of_absences([absence])) is early
