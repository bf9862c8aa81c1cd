"""Every order of steps of some actors, depth first; of orders that nobody could tell apart one (sleep sets).

A state cannot be copied, so each order is played from the start. Where one actor's next step cannot touch anything
that the others still do, it goes first: what the functions touch is known from playing them one after the other.
With `switches_max` an order is left out, too, when the one that stands for it has more switches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.stepper.play import Choose
from tests.stepper.session import Step
from tests.stepper.touch import Touch, apart, apart_from_all

REPLAYS_MAX = 10


@dataclass(slots=True)
class Node:
    """A state on the way: who can go on there, who went on, and who need not be tried any more."""

    able: Mapping[int, Step]
    choices: Sequence[int]  # those that the bound allows
    asleep: set[int]
    chosen: int
    last: int | None  # who did the step before
    switches: int  # how often somebody else went on until now, though he could have
    alone: bool = False  # no other choice comes to anything else


@dataclass
class Explorer:
    """The tree of one case. `wholes`: what each actor touches; `switches_max`: of actors that could go on."""

    wholes: Sequence[Touch]
    switches_max: int | None = None
    orders: int = 0
    pruned: int = 0  # played although they came to an order that had been played
    diverged: int = 0  # orders that went another way each time they were played again: what is behind them is not seen
    _path: list[Node] = field(default_factory=list)

    def all(self, play: Callable[[Choose], None], check: Callable[[], bool]) -> bool:
        """Play every order; False as soon as one does not hold."""
        while True:
            walk = self._walked(play)
            for _ in range(REPLAYS_MAX):  # whom PostgreSQL ends of a deadlock is a matter of time
                if not walk.diverged or not check():
                    break
                walk = self._walked(play)
            self.diverged += walk.diverged
            self.orders += not walk.pruned
            self.pruned += walk.pruned
            if not check():
                return False
            if not self._turn():
                return True

    def _walked(self, play: Callable[[Choose], None]) -> _Walk:
        walk = _Walk(self)
        play(walk.choose)
        return walk

    def _turn(self) -> bool:
        """Go back to the last state where another choice is left, and make it."""
        while self._path:
            node = self._path[-1]
            node.asleep.add(node.chosen)
            left = [] if node.alone else [number for number in node.choices if number not in node.asleep]
            if left:
                node.chosen = left[0]
                return True
            self._path.pop()
        return False

    def at(self, depth: int) -> Node | None:
        """The state of the way that is played again; None behind its end."""
        return self._path[depth] if depth < len(self._path) else None

    def enter(self, able: Mapping[int, Step], blocked: Sequence[int], last: Sequence[Touch]) -> Node | None:
        """A new state; None when all who can go on there have been tried."""
        before = self._path[-1] if self._path else None
        asleep = {
            number
            for number in (before.asleep if before is not None else ())
            if number in able and all(apart(able[number].touch, one) for one in last)
        }
        last_one, switches = _came(before)
        bound = self.switches_max is not None and switches >= self.switches_max and last_one in able
        choices = [number for number in able if not bound or number == last_one]
        choices.sort(key=lambda number: number != last_one)
        awake = [number for number in choices if number not in asleep]
        if not awake:
            return None
        node = Node(able, choices, asleep, awake[0], last_one, switches)
        for number in able.keys() - asleep:
            others = [other for other in (*able, *blocked) if other != number]
            if all(apart_from_all(able[number].touch, self.wholes[other]) for other in others):
                node.chosen, node.alone = number, True
                break
        self._path.append(node)
        return node


def _came(before: Node | None) -> tuple[int | None, int]:
    """Who did the last step before a new state, and how many switches came before it. A step that is alone is none."""
    if before is None:
        return None, 0
    if before.alone:
        return before.last, before.switches
    switched = before.last in before.able and before.chosen != before.last
    return before.chosen, before.switches + switched


class _Walk:
    """One order: the way to the last turn as before, then the first choice at each state."""

    def __init__(self, tree: Explorer) -> None:
        self._tree, self._depth, self.pruned, self.diverged = tree, 0, False, False

    def choose(self, able: Mapping[int, Step], blocked: Sequence[int], last: Sequence[Touch]) -> int:
        """Who does the next step."""
        if self.pruned:
            return next(iter(able))
        node = self._tree.at(self._depth)
        if node is not None and node.chosen not in able:
            self.pruned = self.diverged = True
            return next(iter(able))
        if node is None:
            node = self._tree.enter(able, blocked, last)
            if node is None:
                self.pruned = True
                return next(iter(able))
        self._depth += 1
        return node.chosen
