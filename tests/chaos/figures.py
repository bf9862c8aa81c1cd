"""What a campaign came to, as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.chaos.play import Result

WORDS = {
    "restarts": "times PostgreSQL came back from nothing",
    "intents": "on disk",
    "acknowledged": "of them a caller was told of",
    "attempts": "rows of them",
    "sends": "charges that arrived at the provider",
    "reads": "questions",
    "charged": "intents charged",
    "declined": "attempts declined",
    "absent": "attempts proven absent",
    "findings": "open for a person, each explained by a fault",
    "not now": "calls that were told to try again",
    "doubles": "intents charged more than once",
    "lost": "acknowledged or charged, and not on disk",
}


def lines(result: Result, seconds: float) -> Iterator[str]:
    """The figures, to be printed."""
    yield f"in {seconds:.0f} s"
    for name, meaning in WORDS.items():
        yield f"{result.figures[name]:>8}  {name:<14}{meaning}"
    yield f"what happened:    {_counts(result.blows)}"
    yield f"the provider:     {_counts(result.faults)}"
    yield f"ended by itself:  {_counts(result.ended)} (paycli and its exit code)"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
