"""The search: every state that two workers, the reconciler and the provider can come to, each looked at once.

A state is six numbers and what is left of the faults. States are looked at in the order of the faults that led there,
then of the steps: the first that does not hold is told by one of the shortest ways with the fewest faults. Then paths
are counted: states and moves form a graph without a circle.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from tests.exhaust.actors import GONE, Move, Place
from tests.exhaust.checks import Checks
from tests.exhaust.contents import NOTHING
from tests.exhaust.moves import NIGHTS, Moves
from tests.sim.safety import Broken

State = tuple[int, int, int, int, int, int, int]
"""The database's contents (two numbers), the provider's state, faults left, the reconciler's place, the workers'.

The workers are alike: the lower place is named first, whoever is there.
"""
RECONCILER, LOW, HIGH, PROVIDER = range(4)


class Failed(Exception):
    """A check that does not hold, and the steps that lead there."""

    def __init__(self, broken: Broken, steps: list[str]) -> None:
        super().__init__(str(broken))
        self.broken, self.steps = broken, steps


@dataclass
class Found:
    """What a search came to."""

    states: int = 0
    transitions: int = 0
    paths: int = 0
    deepest: int = 0
    ends: dict[tuple[int, int], int] = field(default_factory=dict)
    """Contents and provider as they were left; and the first state that was left so."""


class Search:
    """One search, from where it starts to all its ends. `calm`: nothing has gone wrong where it starts."""

    def __init__(self, places: list[Place], moves: Moves, checks: Checks, faults_max: int, *, calm: bool) -> None:
        self._places, self._moves, self._checks = places, moves, checks
        self._faults_max, self._calm = faults_max, calm
        self._numbers: dict[State, int] = {}
        self._ahead: dict[tuple[int, int], list[tuple[int, State]]] = {}  # by faults and steps
        # By state: the first that led there, and how: a word's number, the slot, whether the workers changed places.
        self._parents, self._steps = array("q"), array("q")
        self._moves_from, self._moves_until = array("q"), array("q")  # its moves, of all these:
        self._to, self._ways = array("q"), array("b")
        self._words: dict[str, int] = {}
        self._roots = 0
        self._distance = (0, 0)
        self.found = Found()

    def add(self, contents: int, provider: int, run: int, workers: tuple[int, int], said: str) -> None:
        """Where it starts, or one of several such states."""
        low, high = sorted(workers)
        self._come(-1, (contents, NOTHING, provider, self._faults_max, run, low, high), said, PROVIDER, GONE)
        self._roots += 1

    def go(self) -> Found:
        """Look at everything. Raises Failed."""
        while self._ahead:
            self._distance = min(self._ahead)
            for index, state in self._ahead.pop(self._distance):
                self._moves_from[index] = len(self._to)
                self._look_at(index, state)
                self._moves_until[index] = len(self._to)
        self.found.states, self.found.transitions = len(self._numbers), sum(self._ways)
        self._count()
        return self.found

    def _look_at(self, index: int, state: State) -> None:
        shared, night, provider, left, run, low, high = state
        places, numbers = self._places, self._numbers
        slots = [slot for slot in ((RECONCILER, run), (LOW, low), (HIGH, high)) if slot[1] != GONE]
        # What is nobody else's business may as well be done first: any order comes to the same.
        alone = [slot for slot in slots if places[slot[1]].private][:1]
        for slot, number in alone or slots:
            place, other = places[number], high if slot == LOW else low
            for move in self._moves_of(index, slot, place, state):
                faults, where, to, ways, _, broken = move
                if faults > left:  # and so do all that follow
                    break
                if broken is not None:
                    raise Failed(broken, self._told(index, (slot, move.said)))
                if place.by_wire:
                    here = (shared, night, where)
                elif slot == RECONCILER:
                    here = (*divmod(where, NIGHTS), provider)
                else:
                    here = (where, night, provider)
                if slot == RECONCILER:
                    child = (*here, left - faults, to, low, high)
                elif to <= other:
                    child = (*here, left - faults, run, to, other)
                else:
                    child = (*here, left - faults, run, other, to)
                known = numbers.get(child)
                self._to.append(self._come(index, child, move.said, slot, to) if known is None else known)
                self._ways.append(ways)
        if not alone:
            self._look_at_provider(index, state, slots)

    def _look_at_provider(self, index: int, state: State, slots: list[tuple[int, int]]) -> None:
        """What the provider does for nobody; and when nobody does anything any more, it is an end."""
        shared, night, provider, left, run, low, high = state
        for move in self._moves.of_provider(provider, [number for _, number in slots]):
            if move.broken is not None:
                raise Failed(move.broken, self._told(index, (PROVIDER, move.said)))
            child = (shared, night, move.where, left, run, low, high)
            known = self._numbers.get(child)
            self._to.append(self._come(index, child, move.said, PROVIDER, GONE) if known is None else known)
            self._ways.append(move.ways)
        if self._moves_from[index] == len(self._to):
            self._end(index, state)

    def _moves_of(self, index: int, slot: int, place: Place, state: State) -> list[Move]:
        shared, night, provider, *_ = state
        disk = shared * NIGHTS + night if slot == RECONCILER else shared
        where = provider if place.by_wire else disk
        if place.sends:
            try:
                self._checks.send(place, shared, provider)
            except Broken as broken:
                raise Failed(broken, self._told(index, (slot, "a send leaves"))) from None
        return place.moves.get(where) or self._moves.of(place, where)

    def _come(self, parent: int, state: State, said: str, slot: int, to: int) -> int:
        """A new state. `to`: where the actor went; the workers have changed places when it is not in its slot."""
        number = self._numbers[state] = len(self._numbers)
        self._ahead.setdefault((self._faults_max - state[3], self._distance[1] + 1), []).append((number, state))
        self._moves_from.append(0)
        self._moves_until.append(0)
        self._parents.append(parent)
        swapped = slot in (LOW, HIGH) and state[4 + slot] != to
        self._steps.append(self._words.setdefault(said, len(self._words)) * 8 + slot * 2 + swapped)
        try:
            self._checks.truth(state[0], state[2])
        except Broken as broken:
            raise Failed(broken, self._told(number)) from None
        return number

    def _end(self, index: int, state: State) -> None:
        contents, _, provider, left, *_ = state
        self.found.ends.setdefault((contents, provider), index)
        if self._calm and left == self._faults_max:
            try:
                self._checks.calm(contents)
            except Broken as broken:
                raise Failed(broken, self._told(index)) from None

    def steps_to(self, contents: int, provider: int) -> list[str]:
        """One of the shortest ways to an end."""
        return self._told(self.found.ends[contents, provider])

    def _told(self, index: int, last: tuple[int, str] | None = None) -> list[str]:
        """The steps to a state, and one more."""
        way = []
        while index >= 0:
            way.append(self._steps[index])
            index = self._parents[index]
        words, names, told = list(self._words), ["reconciler", "worker 1", "worker 2", "provider"], []
        for step in reversed(way):
            told.append(f"{names[step // 2 % 4]}: {words[step // 8]}")
            if step % 2:
                names[LOW], names[HIGH] = names[HIGH], names[LOW]
        if last is not None:
            told.append(f"{names[last[0]]}: {last[1]}")
        return told

    def _count(self) -> None:
        """How many paths the graph stands for, and how long the longest is."""
        states, first, until, to = self.found.states, self._moves_from, self._moves_until, self._to
        before = array("q", bytes(8 * states))
        for number in to:
            before[number] += 1
        paths = [1] * self._roots + [0] * (states - self._roots)
        longest = array("q", bytes(8 * states))
        ready = [number for number in range(self._roots) if not before[number]]
        while ready:
            index = ready.pop()
            states -= 1
            if first[index] == until[index]:
                self.found.paths += paths[index]
                self.found.deepest = max(self.found.deepest, longest[index])
            for at in range(first[index], until[index]):
                number = to[at]
                paths[number] += paths[index] * self._ways[at]
                longest[number] = max(longest[number], longest[index] + 1)
                before[number] -= 1
                if not before[number]:
                    ready.append(number)
        if states:
            raise Failed(Broken("L4", "there is a circle of steps: somebody goes round in it for ever"), [])
