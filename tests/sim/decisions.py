"""Decisions: whatever goes otherwise than smoothly in a schedule, by the name of its moment.

A seed draws them as the schedule runs; a list of them, written down, runs the same schedule again, or a part of it.
Without any, nothing goes wrong and nothing is even asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Draw = Callable[["Dice"], str | None]


class Dice:
    """Chance, made of `random()` alone: the method whose numbers Python promises to keep from version to version."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def hits(self, rate: float) -> bool:
        return self.random() < rate

    def below(self, count: int) -> int:
        return int(self.random() * count)

    def one_of(self, options: tuple[str, ...]) -> str:
        return options[int(self.random() * len(options))]

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.random()


class Decisions:
    """The decisions of one schedule: drawn from a seed, or given."""

    def __init__(self, seed: int | None = None, given: Mapping[str, str] | None = None) -> None:
        self._dice = None if seed is None else Dice(seed)
        self._given = given or {}
        self.taken: dict[str, str] = {}

    def take(self, moment: str, draw: Draw) -> str | None:
        """What is decided for a moment; None is "as usual", and is not written down."""
        decided = self._given.get(moment) if self._dice is None else draw(self._dice)
        if decided is not None:
            self.taken[moment] = decided
        return decided
