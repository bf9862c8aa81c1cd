"""The answer fuzzer itself: its cases hold and repeat, each rule broken on purpose is one that stands in the code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway_client.gateways.base import NoReply, Reply
from gateway_client.gateways.stripe_api import StripeApi
from gateway_client.outcome import Answer, Declined, Unknown
from gateway_client.proof import Expected
from tests.answers import campaign, plants
from tests.answers.bodies import BODIES
from tests.mutants.mutant import Mutant
from tests.sim.memory import Memory

SEEDS = range(400)


def test_cases_hold() -> None:
    """Four hundred cases of answers hold, and every kind of body was among them."""
    store, tally = Memory(), campaign.Tally()
    for seed in SEEDS:
        case, failure = campaign.try_one(seed, store)
        tally.add(campaign.of(case))
        tally.failures += [] if failure is None else [failure]
    assert tally.failures == []
    assert {f"box: {kind}" for kind in BODIES} <= set(tally.seen)
    assert tally.attempts[2] > 0


@pytest.mark.parametrize("seed", [3, 77, 201])
def test_a_seed_is_a_case(seed: int) -> None:
    """The same seed tells the same story, with a store that has served other cases or none."""
    used = Memory()
    campaign.try_one(seed + 1, used)
    told = [campaign.try_one(seed, store, verbose=True)[0].told for store in (used, Memory())]
    assert told[0]
    assert told[0] == told[1]


def test_a_wrong_word_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that proves nothing, taken for a decline, is seen within some cases."""
    believed = StripeApi.read_charge

    def wrong(self: StripeApi, reply: Reply | NoReply, expected: Expected) -> Answer:
        answer = believed(self, reply, expected)
        return replace(answer, outcome=Declined("no answer")) if isinstance(answer.outcome, Unknown) else answer

    monkeypatch.setattr(StripeApi, "read_charge", wrong)
    store = Memory()
    failure = next(found for seed in range(100) if (found := campaign.try_one(seed, store)[1]) is not None)
    assert failure.check in ("word", "twice", "lost")


@pytest.mark.parametrize("plant", plants.PLANTS, ids=lambda plant: plant.name)
def test_plants_can_be_planted(plant: Mutant) -> None:
    """The statement that a planted mistake changes stands in its file, just once."""
    assert plant.new in plant.sources[plant.file]
