"""A big queue and several workers, in virtual time: sends a charge, the rate after an outage (`make drain`: 10,000)."""

from __future__ import annotations

import pytest

from tests.drain import OUTAGE_S, RATE, WORKERS, drain
from tests.worker_kit import DATABASES


@pytest.mark.parametrize("kind", DATABASES)
def test_a_healthy_provider(kind: str) -> None:
    """A queue drains with at most 1.1 sends a charge, under the set rate, shared by all workers (L1, F144)."""
    drained = drain(kind, 300)
    assert drained.charged_once
    assert drained.sends_a_charge <= 1.1
    assert drained.highest(1.0) <= WORKERS * RATE
    assert max(drained.sends) <= 1.1 * 300 / (WORKERS * RATE)  # all of them worked, and all the time
    assert len(drained.questions) == WORKERS


@pytest.mark.parametrize("kind", DATABASES)
def test_an_outage_of_two_hours(kind: str) -> None:
    """In the midst of a queue nobody answers: ten sends of each worker, then one question a minute of each; afterwards
    sends stay under the set rate, and all are charged once (F61, F144, F145, L5)."""
    drained = drain(kind, 150, outage=True)
    assert drained.charged_once
    assert drained.unanswered <= 10 * WORKERS
    asked = drained.questions_in_outage
    assert all(119 <= len(each) <= 122 for each in asked)
    assert max(drained.sends) > drained.outage[1] == drained.outage[0] + OUTAGE_S
    assert drained.highest(1.0) <= WORKERS * RATE
    first = min(at for at in drained.sends if at >= drained.outage[1])
    before = [at for each in drained.questions.values() for at in each if drained.outage[1] <= at <= first]
    assert before, "the first contact after it is a question, not a charge"
