"""Which function performs which database effect: `@performs(Claim)` stands beside the function that does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from gateway_client.flow.effects import DatabaseEffect, T
from gateway_client.transaction import Transaction

E = TypeVar("E", bound=DatabaseEffect[Any])
R = TypeVar("R")
Performer = Callable[[Transaction, E], R]

PERFORMERS: dict[type[DatabaseEffect[Any]], Performer[Any, Any]] = {}


def performs(kind: type[E]) -> Callable[[Performer[E, R]], Performer[E, R]]:
    """Register the function below as the one that performs effects of this class."""

    def register(function: Performer[E, R]) -> Performer[E, R]:
        assert kind not in PERFORMERS, f"{kind.__name__} has its function already"
        PERFORMERS[kind] = function
        return function

    return register


def perform(tx: Transaction, effect: DatabaseEffect[T]) -> T:
    """Do one database effect. Raises TypeError when nobody performs it."""
    performer = PERFORMERS.get(type(effect))
    if performer is None:
        raise TypeError(f"not a database effect: {type(effect).__name__}")
    return cast("T", performer(tx, effect))
