"""Where an end differs from those that are allowed, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.stepper.judge import End

SHOWN_MAX = 100  # characters of a value


def differences(end: End, allowed: Mapping[End, str]) -> list[str]:
    """Where an end differs from each that is allowed."""
    told = []
    for other, order in allowed.items():
        told.append(f"beside {order}:")
        for number, (one, its) in enumerate(zip(end.results, other.results, strict=True), 1):
            if one != its:
                told.append(f"  actor {number} was told {_unlike(one, its)}")
        for name in end.rows:
            if end.rows[name] != other.rows[name]:
                told += [f"  {name}: {line}" for line in _lines(end.rows[name], other.rows[name])]
    return told


def _lines(rows: Sequence[Any], others: Sequence[Any]) -> list[str]:
    if len(rows) != len(others):
        return [f"{len(rows)} rows, not {len(others)}"]
    return [str(_unlike(one, other)) for one, other in zip(rows, others, strict=True) if one != other]


def _unlike(one: Any, other: Any) -> Any:
    """What of two values is not the same."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {name: _unlike(one[name], other[name]) for name in one if one[name] != other[name]}
    return f"{_short(one)}, not {_short(other)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
