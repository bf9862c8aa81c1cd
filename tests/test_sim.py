"""The simulator itself: its schedules hold, repeat, run the same on a file; a planted bug is found and made short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway_client.flow.effects import BeginSend
from gateway_client.gateways.base import NoReply, Reply
from gateway_client.gateways.stripe_api import StripeApi
from gateway_client.outcome import Answer, Declined, Unknown
from gateway_client.proof import Expected
from gateway_client.store.registry import PERFORMERS
from tests.sim import campaign, sometimes, world
from tests.sim.kept import KEPT
from tests.sim.memory import Memory
from tests.sim.on_disk import OnDisk
from tests.sim.safety import Broken

SEEDS = range(150)


def test_schedules_hold() -> None:
    """150 schedules of trouble: every check holds, and the trouble was real."""
    store = Memory()
    seen: set[str] = set()
    failures = []
    for seed in SEEDS:
        ended, failure = campaign.try_one(seed, store)
        failures += [failure] * (failure is not None)
        seen |= set() if ended is None else {name for name, times in ended.ghost.seen.items() if times}
    assert failures == []
    assert len(seen & sometimes.MUST) > len(sometimes.MUST) / 3


@pytest.mark.parametrize("seed", [1, 5, 17, 64, 184, 299])  # the last two: workers, with leases and without
def test_memory_and_file_tell_the_same(tmp_path: Path, seed: int) -> None:
    """A schedule leaves the same trace on a real file, behind the library's own engine."""
    on_disk = OnDisk(tmp_path)
    try:
        told = [world.of_seed(seed, store, verbose=True).told for store in (Memory(), on_disk)]
    finally:
        on_disk.end()
    assert told[0] == told[1]


@pytest.mark.parametrize("seed", [2, 17, 100])
def test_written_decisions_run_the_same_schedule(seed: int) -> None:
    """What a seed has drawn, written down, runs the same schedule without the seed."""
    store = Memory()
    drawn = world.of_seed(seed, store)
    assert world.again(drawn.decisions.taken, store).digest == drawn.digest


@pytest.mark.parametrize("name", KEPT)
def test_kept_schedules_hold(name: str) -> None:
    """A schedule that once failed holds now (`FOUND.md` tells of each)."""
    world.again(KEPT[name], Memory())


def test_a_planted_bug_is_found_and_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out taken for a refusal is seen within some seeds, and at most twelve decisions show it."""
    believed = StripeApi.read_charge

    def wrong(self: StripeApi, reply: Reply | NoReply, expected: Expected) -> Answer:
        answer = believed(self, reply, expected)
        return replace(answer, outcome=Declined("timed out")) if isinstance(answer.outcome, Unknown) else answer

    monkeypatch.setattr(StripeApi, "read_charge", wrong)
    failure = next(found for seed in range(500) if (found := campaign.try_one(seed, Memory())[1]) is not None)
    short = campaign.shortest(failure)
    assert failure.check in ("S1", "S6", "S8")
    assert 1 <= len(short) <= 12
    with pytest.raises(Broken, match=failure.check):
        world.again(short, Memory())


def test_any_exception_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that only raises is told by what it raises, where."""

    def broken(*given: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(PERFORMERS, BeginSend, broken)
    failure = next(found for seed in range(20) if (found := campaign.try_one(seed, Memory())[1]) is not None)
    assert (failure.check, failure.why.split(" (")[0]) == ("ZeroDivisionError", "planted")
