"""Saved 500s and outages: what is found, what is never charged a second time, what never left."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway_client import AttemptRefused, State
from tests.kit import ONE_SEND, ORDER, START, World


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of each of the two clients."""
    with World(request.param) as world:
        yield world


# A saved 500


def test_saved_500_that_charged(either: World) -> None:
    """A saved 500 that charged is replayed once, then found on the list: succeeded, in the same call (F38)."""
    either.sandbox.fault("error_500_charged")
    charge = either.open_client().charge(ORDER)
    assert (charge.state, len(either.sends), either.paid()) == (State.SUCCEEDED, 2, 1)
    assert charge.provider_charge_id == either.sandbox.charges[0]["id"]


def test_saved_500_that_did_not_charge(either: World) -> None:
    """A saved 500 that charged nothing is never a second charge: no third send, no attempt 2 until proven (F37, S6)."""
    either.sandbox.fault("error_500")
    client = either.open_client()
    for hours in (0, 5, 20, 40):
        either.clock.advance(hours=hours)
        assert client.charge(ORDER).state is State.UNKNOWN
        with pytest.raises(AttemptRefused):
            client.charge(ORDER, attempt=2)
    assert (len(either.sends), either.paid()) == (2, 0)
    either.clock.advance(hours=8)  # 73 h
    assert client.charge(ORDER).state is State.ABSENT
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert either.paid() == 1


def test_500_rolled_forward_two_days_later(either: World) -> None:
    """A 500 whose charge appears two days later is found, and never charged again meanwhile (F38, S1)."""
    either.sandbox.fault("error_500_later")
    client = either.open_client()
    for hours in (0, 22, 25):
        either.clock.advance(hours=hours)
        assert client.charge(ORDER).state is State.UNKNOWN
    either.clock.advance(hours=1.1)
    (charge,) = client.resume()
    assert (charge.state, len(either.sends), either.paid()) == (State.SUCCEEDED, 2, 1)


# What never left


def test_outage_longer_than_the_keys_life(either: World) -> None:
    """Charges that never left stay prepared through an outage of 30 h: never absent, never lost (F22, F61)."""
    client = either.open_client(retry=ONE_SEND)
    either.sandbox.fault("refused", times=10)
    for _ in range(10):
        charge = client.charge(ORDER)
        assert (charge.state, charge.first_sent_at, charge.closed_at) == (State.PREPARED, None, None)
        either.clock.advance(hours=3)
    charge = client.charge(ORDER)
    assert (charge.state, charge.sends, either.paid()) == (State.SUCCEEDED, 11, 1)
    assert charge.first_sent_at is not None
    assert charge.first_sent_at >= START + timedelta(hours=30)


def test_first_sent_at_stays_when_something_may_have_left(world: World) -> None:
    """A later send that never left does not clear the time of an earlier one that may have (S5)."""
    world.lose()
    world.sandbox.fault("refused")
    charge = world.open_client(retry=ONE_SEND).charge(ORDER)
    assert (charge.state, charge.first_sent_at) == (State.UNKNOWN, START)
