"""A bench for cases: its database and its actors, the orders of a case one after the other, and what did not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations, product
from typing import Any, Self

import pytest
from sqlalchemy import URL

from gateway_client import db, postgres
from gateway_client.flow.effects import Settle
from reconcile.effects import CloseOver, FlagStale, Repair
from tests.stepper.acts import ACTS
from tests.stepper.cases import Case
from tests.stepper.doing import ORDER, OTHER, Asked, Raised, Together, attempted, performing
from tests.stepper.explore import Explorer
from tests.stepper.ground import Ground
from tests.stepper.judge import End, broken, end_of, outcomes_lost
from tests.stepper.plants import NOTHING, Plant
from tests.stepper.play import Choose, Play, Stuck
from tests.stepper.scenes import Scene, built, without_leases
from tests.stepper.session import Session, Step, Work
from tests.stepper.told import differences
from tests.stepper.touch import Touch

Locked = Sequence[tuple[str, ...]]
"""For each actor, the intents whose rows are locked by somebody else."""
_LOCKED = ((), (ORDER,), (OTHER,), (ORDER, OTHER))
ACTORS_MAX = 3
PATIENT_MS, IMPATIENT_MS = 60_000, 1  # how long a group's transaction waits before its works are done alone
PASSES_MAX = 4
SWITCHES_MAX = 2  # of a triple: an actor that could go on is stopped this often; of a pair as often as may be


@dataclass
class Report:
    """What the orders of one case came to."""

    case: Case
    orders: int = 0
    pruned: int = 0
    diverged: int = 0
    deadlocks: int = 0  # that were done again
    wrong: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # the steps that led there


class Bench:
    """One database and three processes."""

    def __init__(self, url: URL) -> None:
        self.ground = Ground(url)
        self._scenes: dict[tuple[str, bool], Scene] = {}
        self._wholes: dict[tuple[str, str, bool], Touch] = {}
        self._ends: dict[Case, Mapping[End, str]] = {}
        self._skips: dict[Case, dict[End, str]] = {}
        self.sessions: list[Session] = []
        self._play: Play | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for session in self.sessions:
            session.close()
        self.ground.close()

    def scene(self, case: Case) -> Scene:
        """The scene of a case, made once."""
        key = (case.scene, case.leases)
        if key not in self._scenes:
            self._scenes[key] = built(self.ground, case.scene, leases=case.leases)
        return self._scenes[key]

    @property
    def play(self) -> Play:
        """The scheduler and its actors."""
        if self._play is None:
            self.sessions = [Session(self.ground.url) for _ in range(ACTORS_MAX)]
            self._play = Play(self.ground, self.sessions)
        return self._play

    def run(self, case: Case, *, patient: bool = True, plant: Plant = NOTHING) -> Report:
        """Play every order of a case, up to the first that does not hold."""
        report = Report(case)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(db, "PAUSE_S", 0.0)  # another try begins when the scheduler says so
            patched.setattr(postgres, "LOCK_TIMEOUT_S", PATIENT_MS // 1000)
            patched.setattr(postgres, "LOCK_TIMEOUT_GROUP_MS", PATIENT_MS)
            if not case.leases:
                without_leases(patched)
            try:
                allowed = self.serial(case)
                if plant is not NOTHING:  # both without the mistake
                    allowed = {**self._skipped(case), **allowed}
                patched.setattr(postgres, "LOCK_TIMEOUT_GROUP_MS", PATIENT_MS if patient else IMPATIENT_MS)
                with plant.put(self.ground):
                    self._explore(case, allowed, report, plant)
            except Stuck as stuck:
                self.sessions, self._play = [], None  # they are left as they are
                report.wrong.append(str(stuck))
        return report

    def _explore(self, case: Case, allowed: Mapping[End, str], report: Report, plant: Plant) -> None:
        planted = plant is not NOTHING
        for _ in range(PASSES_MAX):
            wholes = self._whole(case, planted=planted)
            tree = Explorer(wholes, SWITCHES_MAX if len(case.acts) > 2 else None)
            tree.all(lambda choose: self._judged(case, choose, allowed, report, plant), lambda: not report.wrong)
            report.orders, report.pruned, report.diverged = tree.orders, tree.pruned, tree.diverged
            if report.wrong or self._whole(case, planted=planted) == wholes:
                break  # else somebody did what he had not done when he was alone: other orders are apart

    def _whole(self, case: Case, *, planted: bool) -> list[Touch]:
        """What each actor touches: as often as it was seen, and with a mistake perhaps more."""
        return [
            self._wholes.get((case.scene, act, False), Touch()) | self._wholes.get((case.scene, act, planted), Touch())
            for act in case.acts
        ]

    def serial(self, case: Case) -> Mapping[End, str]:
        """The ends of the functions one after the other, in each order; those of a group may come apart."""
        if case not in self._ends:
            scene = self.scene(case)
            effects = [ACTS[act](scene.stage) for act in case.acts]
            single: list[tuple[int, Asked]] = []
            for number, effect in enumerate(effects):
                single += [(number, each) for each in (effect.effects if isinstance(effect, Together) else (effect,))]
            ends: dict[End, str] = {}
            for order in permutations(range(len(single))):
                end, wrong = self._in_turn(scene, effects, [single[at] for at in order])
                assert not wrong, (str(case), order, wrong)
                ends.setdefault(end, ", ".join(str(single[at][0] + 1) for at in order))
            self._ends[case] = ends
        return self._ends[case]

    def _in_turn(
        self, scene: Scene, effects: Sequence[Asked], single: Sequence[tuple[int, Asked]]
    ) -> tuple[End, list[str]]:
        """One process does all of it."""

        def work(session: Session) -> list[tuple[Asked, Any]]:
            calls = [(effect, performing(scene.stage, effect, number)) for number, effect in single]
            return [(effect, attempted(partial(call, session.database))) for effect, call in calls]

        self.ground.fill(scene.filling)
        self.play.run([work], _first)
        told = self.sessions[0].result
        results: list[Any] = []
        for effect in effects:
            each = effect.effects if isinstance(effect, Together) else (effect,)
            found = [next(result for done, result in told if done is one) for one in each]
            results.append(found if isinstance(effect, Together) else found[0])
        return self._ended(scene, effects, results, self.sessions[:1])

    def _skipped(self, case: Case) -> Mapping[End, str]:
        """The ends when a worker is not given what somebody has locked just then: it asks again."""
        if case not in self._skips:
            ends = self._skips[case] = {}
            choices = [_LOCKED if act.startswith("lease") else _LOCKED[:1] for act in case.acts]
            for locked in list(product(*choices))[1:]:
                for order in permutations(range(len(case.acts))):
                    end, _ = self._one(case, _in_turn(order), locked)
                    ends.setdefault(end, f"{_order(order)}, not leased: {locked}")
        return self._skips[case]

    def _judged(self, case: Case, choose: Choose, allowed: Mapping[End, str], report: Report, plant: Plant) -> None:
        planted, says = plant is not NOTHING, plant.says
        end, wrong = self._one(case, choose, planted=planted)
        report.deadlocks += sum(session.deadlocks for session in self.sessions)
        if not wrong and end not in allowed:
            report.told = list(self.play.told)
            if planted or end not in self._skipped(case):
                wrong = ["it comes to what no order of one after the other comes to", *differences(end, allowed)]
        elif wrong:
            report.told = list(self.play.told)
        report.wrong = wrong if any(says in line for line in wrong) else []

    def _one(self, case: Case, choose: Choose, locked: Locked = (), *, planted: bool = False) -> tuple[End, list[str]]:
        """Play one order on fresh rows; while an actor works, somebody has locked the rows of some intents."""
        scene, play = self.scene(case), self.play
        effects = [ACTS[act](scene.stage) for act in case.acts]
        self.ground.fill(scene.filling)
        play.run([self._work(scene, effect, number, locked) for number, effect in enumerate(effects)], choose)
        for act, touched in zip(case.acts, play.touched, strict=True):
            key = (case.scene, act, planted)
            self._wholes[key] = self._wholes.get(key, Touch()) | touched
        sessions = self.sessions[: len(effects)]
        return self._ended(scene, effects, [session.result for session in sessions], sessions)

    def _ended(
        self, scene: Scene, effects: Sequence[Asked], told: Sequence[Any], sessions: Sequence[Session]
    ) -> tuple[End, list[str]]:
        results = [_result(effect, result) for effect, result in zip(effects, told, strict=True)]
        single = [pair for effect, result in zip(effects, results, strict=True) for pair in _single(effect, result)]
        after = self.ground.image()
        revised = sum(session.revised for session in sessions)
        wrong = broken(scene.image, after, [result for _, result in single], revised)
        wrong += outcomes_lost(after, [settled for pair in single for settled in _settled(*pair)])
        if all(isinstance(effect, Together) for effect in effects) and any(one.deadlocks for one in sessions):
            wrong.append("two groups came to a deadlock")
        return end_of(after, results), wrong

    def _work(self, scene: Scene, effect: Asked, number: int, locked: Locked) -> Work:
        call = performing(scene.stage, effect, number)
        intents = locked[number] if locked else ()
        if not intents:
            return lambda session: call(session.database)

        def work(session: Session) -> Any:
            session.pause(f"somebody locks {intents}")
            with self.ground.locked(intents):
                return call(session.database)

        return work


def _result(effect: Asked, result: Any) -> Any:
    """What a caller was told; not whether there is more to look at: who is told so for nothing finds nothing."""
    return None if isinstance(effect, CloseOver | FlagStale) and not isinstance(result, Raised) else result


def _single(effect: Asked, result: Any) -> list[tuple[Any, Any]]:
    return list(zip(effect.effects, result, strict=True)) if isinstance(effect, Together) else [(effect, result)]


def _settled(effect: Any, result: Any) -> list[tuple[Settle, Any]]:
    by = effect.by if isinstance(effect, Repair) else effect
    return [(by, result)] if isinstance(by, Settle) else []


def _first(able: Mapping[int, Step], blocked: Sequence[int], last: Sequence[Touch]) -> int:
    return next(iter(able))


def _order(order: Sequence[int]) -> str:
    return ", ".join(str(number + 1) for number in order)


def _in_turn(order: Sequence[int]) -> Choose:
    """One actor after the other."""

    def choose(able: Mapping[int, Step], blocked: Sequence[int], last: Sequence[Touch]) -> int:
        return next(number for number in order if number in able)

    return choose
