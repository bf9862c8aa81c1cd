"""Compute medians, percentiles and ratios of what rounds have measured. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """Hold the median of some rounds, with the lowest, the highest and their number."""

    median: float
    low: float
    high: float
    rounds: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields, as they are stored."""
        return asdict(self)


def measure(values: Sequence[float]) -> Measure | None:
    """Summarize one value of each round; None when no round has measured it."""
    if not values:
        return None
    return Measure(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of all values do not exceed; None of no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratios(rounds: Sequence[Mapping[str, float]], of: str, base: str) -> list[float]:
    """Divide `of` by `base` within each round; a round that lacks one of them, or whose base is 0, has no ratio.

    Rounds are never mixed: a machine that is slow for a minute is slow for both sides of a ratio.
    """
    return [one[of] / one[base] for one in rounds if of in one and one.get(base)]
