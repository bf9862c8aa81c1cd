"""Exactly once at the very ends of the published lengths: P9, P10, P11.

Clocks are told, nothing sleeps. The lengths are those of `promise_kit.py`, each at its end, alone and together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import httpx
import pytest

from gateway_client import ClockRefused, State
from tests.kit import KINDS, ORDER
from tests.promise_kit import (
    CHARGES,
    DELIVERED,
    EXECUTION,
    FIRST_BYTE,
    HELD,
    INTENTS,
    KEY_LIFE,
    LISTS_BEHIND,
    MARGIN,
    ONE_TRY,
    QUIET,
    ROLL_FORWARD,
    TOLERANCE_S,
    UNPROVEN,
    Middle,
    hours,
    may,
    seconds,
    steps,
)

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """The world of each of the two clients, on each database."""
    with Middle(request.param) as made:
        yield made


def given_up(world: Middle) -> httpx.Request:
    """A send lies on its way, and its attempt is closed and looked at."""
    held = world.holds()
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.cancel()
    assert world.resumed() is State.UNKNOWN
    return held[0]


# P9: the life of a key -----------------------------------------------------------------------------------------------

AGES = [
    KEY_LIFE - MARGIN,
    KEY_LIFE + MARGIN,
    timedelta(hours=22, minutes=55),
    KEY_LIFE + timedelta(seconds=2 * TOLERANCE_S) - MARGIN,
    timedelta(hours=22, minutes=59, seconds=59),
    timedelta(hours=23, minutes=9, seconds=50),
]


@pytest.mark.parametrize("date_s", [0, TOLERANCE_S], ids=["right", "skewed"])
@pytest.mark.parametrize("age", AGES, ids=str)
def test_last_send_of_a_key(world: Middle, age: timedelta, date_s: int) -> None:
    """P9: a last send that is held for an hour, and late by its 10 s, still finds its key at the provider."""
    world.date_s = date_s
    world.skew()
    world.on(lambda request: _lost(world, request))
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.clock.advance(seconds=seconds(age))
    world.date_s = -date_s
    held = world.holds()
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.clock.advance(seconds=seconds(FIRST_BYTE + HELD))
    for request in held:
        world.deliver(request)
    assert world.paid() == 1
    if date_s == 0:
        assert len(held) == (age < KEY_LIFE), "a key is used for as long as it may be, and no longer"


def _lost(world: Middle, request: httpx.Request) -> httpx.Response:
    """It is executed, and the answer is lost."""
    world.deliver(request)
    raise httpx.ReadError("reset", request=request)


# P10: attempt 2 after a send that nobody saw answered ----------------------------------------------------------------


def test_held_then_failed_then_rolled_forward(world: Middle) -> None:
    """P10: held for an hour, then a 500, then charged within its 72 h: attempt 2 is not made meanwhile."""
    held = world.holds()
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.clock.advance(seconds=seconds(DELIVERED))
    world.sandbox.roll_forward_s = seconds(ROLL_FORWARD - MINUTE)
    world.deliver(held[0], "error_500_later")
    world.insist(*steps(*(timedelta(hours=at) for at in (22, 26, 48, 71.0, 71.5, 71.98, 73, 90, 97, 98, 99, 120))))
    assert world.paid() == 1


def test_last_send_held_then_failed_then_rolled_forward(world: Middle) -> None:
    """P10: likewise of the key's last possible send, with lists two hours behind and a Date that swings, together."""
    world.lists_behind(LISTS_BEHIND)
    world.date_s = -TOLERANCE_S
    world.skew()
    world.sandbox.fault("lost_request")
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.clock.advance(seconds=seconds(KEY_LIFE - MARGIN))
    request = given_up(world)
    world.date_s = TOLERANCE_S
    world.clock.advance(seconds=seconds(DELIVERED))
    world.sandbox.roll_forward_s = seconds(ROLL_FORWARD)
    world.deliver(request, "error_500_later")
    charged = ROLL_FORWARD  # from here on; it is listed two hours later
    moments = (QUIET, 48 * HOUR, charged - HOUR, charged - MARGIN, charged + MARGIN, charged + HOUR)
    world.insist(*steps(*moments, charged + LISTS_BEHIND - MARGIN, charged + LISTS_BEHIND + MARGIN, 80 * HOUR))
    assert world.paid() == 1


def test_attempt_2_is_possible_in_the_end(world: Middle) -> None:
    """P10: it is neither absent nor tried anew until 75:11:40 from closing, and then it is both."""
    held = world.holds()
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.cancel()
    assert (world.resumed(), len(held)) == (State.UNKNOWN, 1)
    world.insist(*steps(QUIET - MARGIN, QUIET + MARGIN, timedelta(hours=72, minutes=1), UNPROVEN - MARGIN))
    assert (world.state(), world.paid()) == (State.UNKNOWN, 0)
    world.insist(hours(2 * MARGIN))
    assert (world.state(), world.paid()) == (State.ABSENT, 1)


def test_seen_500_rolled_forward_at_the_end(world: Middle) -> None:
    """P10: after a 500 that was seen, 72 h of roll-forward and two hours of the lists pass before absence."""
    world.lists_behind(LISTS_BEHIND)
    world.sandbox.roll_forward_s = seconds(ROLL_FORWARD - MARGIN)
    world.sandbox.fault("error_500_later")
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.insist(*steps(24 * HOUR, 48 * HOUR, ROLL_FORWARD, ROLL_FORWARD + MINUTE, ROLL_FORWARD + HOUR))
    assert world.paid() == 1
    assert world.state() is State.UNKNOWN
    world.insist(hours(UNPROVEN - ROLL_FORWARD - HOUR))
    assert (world.paid(), world.state()) == (1, State.SUCCEEDED)


# P11: absence --------------------------------------------------------------------------------------------------------


def states_until(world: Middle, *moments: timedelta) -> list[State]:
    """What the row is at moments after it was closed, each time resumed."""
    states = []
    for passed in steps(*moments):
        world.clock.advance(hours=passed)
        states.append(world.resumed())
    return states


def test_executed_at_the_end_of_the_hold(world: Middle) -> None:
    """P11: held for an hour, late by 10 s, executed for 90 s: not called absent before it is charged."""
    request = given_up(world)
    states = states_until(world, HELD - MINUTE, HELD, HELD + FIRST_BYTE, DELIVERED)
    world.deliver(request)
    states.append(world.resumed())
    assert states == [State.UNKNOWN] * 4 + [State.SUCCEEDED]
    assert world.paid() == 1


def test_executed_at_the_end_of_the_hold_and_listed_late(world: Middle) -> None:
    """P11: hold, execution, lists two hours behind, `created` ahead, a Date that swings, all together."""
    world.lists_behind(LISTS_BEHIND)
    world.date_s, world.created_s = -TOLERANCE_S, TOLERANCE_S
    world.skew()
    request = given_up(world)
    world.date_s = TOLERANCE_S
    states = states_until(world, HELD - MINUTE, HELD, HELD + EXECUTION, DELIVERED)
    world.deliver(request)
    shown = DELIVERED + LISTS_BEHIND
    states += states_until(world, MINUTE, HOUR, shown - DELIVERED - MARGIN)
    assert State.ABSENT not in states
    world.clock.advance(seconds=2 * seconds(MARGIN))
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


def test_absent_in_the_end(world: Middle) -> None:
    """P11: what was never executed is absent 75:11:40 after it was closed, and not before."""
    given_up(world)
    moments = (QUIET + MARGIN, UNPROVEN - MARGIN, UNPROVEN + MARGIN)
    assert states_until(world, *moments) == [State.UNKNOWN, State.UNKNOWN, State.ABSENT]


@pytest.mark.parametrize("date_s", [0, -TOLERANCE_S], ids=["right", "behind"])
def test_created_ahead(world: Middle, date_s: int) -> None:
    """P11: what the provider dates ahead by its five minutes is seen at once, also by one whose Date is behind."""
    world.date_s, world.created_s = date_s, TOLERANCE_S
    world.skew()

    def failed(request: httpx.Request) -> httpx.Response | None:
        return world.deliver(request, "error_500_charged") if len(world.sends) == 0 else world.deliver(request)

    world.on(failed, times=2)
    charge = world.open_client().charge(ORDER)
    assert (charge.state, world.paid()) == (State.SUCCEEDED, 1)


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
def test_created_behind(world: Middle, path: str) -> None:
    """P11: what the provider dates five minutes back is seen, also when its Date was ahead at the first send."""
    world.date_s, world.created_s = TOLERANCE_S, -TOLERANCE_S
    world.skew()
    world.on(lambda request: _lost(world, request))
    may(lambda: world.open_client(retry=ONE_TRY).charge(ORDER))
    world.says(200, _empty(path), asked=f"GET {path}", times=99)
    world.clock.advance(hours=27)
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)


def _empty(path: str) -> dict[str, object]:
    return {"object": "list", "data": [], "has_more": False, "url": path}


# Together ------------------------------------------------------------------------------------------------------------


def test_two_hosts_whose_clocks_differ(world: Middle) -> None:
    """A host that is nearly five minutes ahead and one that is as far behind close, prove and wait by one time."""
    world.clock.wrong_s = -TOLERANCE_S
    request = given_up(world)
    world.clock.wrong_s = TOLERANCE_S
    with suppress(ClockRefused):
        assert states_until(world, HELD, DELIVERED - MARGIN) == [State.UNKNOWN] * 2
    world.deliver(request)
    assert (world.resumed(), world.paid()) == (State.SUCCEEDED, 1)
