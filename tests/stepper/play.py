"""One order of steps: the scheduler lets one actor at a time do one step, and sees whom another one's lock blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tests.stepper.ground import Ground
from tests.stepper.session import Session, Step, Work
from tests.stepper.touch import Touch

SOON_S = 0.004  # a step that takes longer may be blocked: PostgreSQL is asked
STUCK_S = 20.0
STEPS_MAX = 400

Choose = Callable[[Mapping[int, Step], Sequence[int], Sequence[Touch]], int]
"""Which of the actors that can go on is let go on, given those that are blocked and what the last step has touched."""


class Stuck(Exception):
    """Nobody can go on, or somebody goes on for ever."""


class Play:
    """The actors of one case, on one database."""

    def __init__(self, ground: Ground, sessions: Sequence[Session]) -> None:
        self._ground, self._sessions = ground, sessions
        self._blocked: list[int] = []  # in the order in which they were
        self._last: list[Touch] = []  # what was touched since somebody chose
        self.told: list[str] = []  # for people
        self.touched: list[Touch] = []  # by each actor

    def run(self, works: Sequence[Work], choose: Choose) -> None:
        """Let the works run to their ends in the order that `choose` says."""
        self._blocked, self.told, self._last = [], [], []
        self.touched = [Touch() for _ in works]
        for number, work in enumerate(works):
            self._sessions[number].begin(work)
            self._wait([number])
        for _ in range(STEPS_MAX):
            able = self._able(len(works))
            if not able:
                return
            self._last = self._step(choose(able, tuple(self._blocked), self._last))
        raise Stuck(f"more than {STEPS_MAX} steps")

    def _able(self, count: int) -> dict[int, Step]:
        """Who can do a step; waits while all are blocked, for PostgreSQL to end a deadlock."""
        over_at = time.monotonic() + STUCK_S
        while True:
            self._last += self._see_released(asked=False)
            steps = {number: self._sessions[number].step for number in range(count) if number not in self._blocked}
            able = {number: step for number, step in steps.items() if step is not None}
            if able or not self._blocked:
                return able
            if time.monotonic() > over_at:
                raise Stuck("all are blocked")
            time.sleep(0.001)

    def _step(self, number: int) -> list[Touch]:
        """Let one actor do its step, and whom it releases go on; what they have touched."""
        session = self._sessions[number]
        step = session.step
        assert step is not None
        self.told.append(f"{number + 1}: {step.text}")
        self.touched[number] |= step.touch
        session.let_go()
        blocked = self._wait([number])
        undone = session.undone()
        if blocked or undone:
            self.told.append(f"{number + 1}  is {'blocked' if blocked else 'rolled back'}")
        touched = [step.touch, *undone]
        if self._blocked and (session.step is None or any(one.commits for one in touched)):
            touched += self._see_released(asked=True)
        return touched

    def _see_released(self, *, asked: bool) -> list[Touch]:
        """Wait for those that are not blocked any more; what their steps have touched."""
        touched: list[Touch] = []
        while self._blocked:  # whoever is released may release another one
            gone = [number for number in self._blocked if self._sessions[number].arrived(0)]
            if asked:
                pids = self._ground.blocked(self._sessions[number].pid for number in self._blocked)
                gone = [number for number in self._blocked if self._sessions[number].pid not in pids]
            if not gone:
                break
            steps = [self._sessions[number].step for number in gone]
            self._blocked = [number for number in self._blocked if number not in gone]
            self._wait(gone)
            for number, step in zip(gone, steps, strict=True):
                undone = self._sessions[number].undone()
                touched += [*([] if step is None else [step.touch]), *undone]
                if number not in self._blocked:
                    self.told.append(f"{number + 1}  goes on{', rolled back' if undone else ''}")
        return touched

    def _wait(self, numbers: Sequence[int]) -> bool:
        """Wait until each of these has done its step, or is blocked; True when one is."""
        over_at, found = time.monotonic() + STUCK_S, False
        for number in numbers:
            session = self._sessions[number]
            while not session.arrived(SOON_S):
                if session.pid and self._ground.blocked([session.pid]):
                    if session.arrived(0):
                        break
                    self._blocked.append(number)
                    found = True
                    break
                if time.monotonic() > over_at:
                    raise Stuck(f"actor {number + 1} does not come back: {self.told[-1:]}")
        return found
