"""Hold what one section of the benchmark has found: tables to print, figures to judge, errors to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.arithmetic import Measure, measure


@dataclass(slots=True)
class Table:
    """Hold one printed table; the first column is text, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""


@dataclass(slots=True)
class Section:
    """Hold what one section has found. Errors are counted by where they happened and what they said."""

    name: str
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, Measure] = field(default_factory=dict)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: dict[str, str] = field(default_factory=dict)  # what was not measured, and why

    def keep(self, name: str, values: Sequence[float]) -> Measure | None:
        """Store a figure by its name, and return it; nothing is stored when no round has measured it."""
        found = measure(values)
        if found is not None:
            self.figures[name] = found
        return found

    def failed(self, where: str, failures: Mapping[str, int]) -> None:
        """Count calls that have failed at one place, by what they said."""
        for what, times in failures.items():
            self.errors[where, what] += times

    def failures_of(self, where: str) -> int:
        """Return how many calls have failed at one place."""
        return sum(times for (place, _), times in self.errors.items() if place == where)

    def as_json(self) -> dict[str, Any]:
        """Return everything, as it is stored."""
        return {
            "figures": {name: one.as_json() for name, one in sorted(self.figures.items())},
            "errors": [{"where": where, "what": what, "times": n} for (where, what), n in sorted(self.errors.items())],
            "missing": self.missing,
            "tables": [
                {"title": one.title, "columns": one.columns, "rows": one.rows, "note": one.note} for one in self.tables
            ],
        }


def shown(found: Measure | None, digits: int = 2, factor: float = 1.0) -> str:
    """Format a figure as its median with the lowest and the highest round."""
    if found is None:
        return "-"
    median, low, high = (f"{value * factor:,.{digits}f}" for value in (found.median, found.low, found.high))
    return median if found.rounds == 1 else f"{median} ({low} to {high})"
