"""The pace of a worker: its token bucket and its rate, with times that are given."""

from datetime import datetime, timedelta

import pytest

from gateway_client import InvalidInput
from gateway_client.outcome import FAILURES, ReplyClass
from gateway_client.pace import Pace
from tests.kit import START

GOOD, NOTHING = ReplyClass.ANSWERED, ReplyClass.DOWN


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize("bad", sorted(FAILURES))
def test_ten_failures_empty_it(bad: ReplyClass) -> None:
    """Full, it has ten retries: each exchange that fails takes one."""
    pace = Pace()
    seen = []
    for _ in range(10):
        pace.saw(bad, of_send=True)
        seen.append(pace.empty)
    assert seen == [False] * 9 + [True]


def test_ten_successes_pay_for_a_retry() -> None:
    """A charge that is answered gives a tenth back, a decline too; an answered question gives nothing."""
    pace = Pace()
    for _ in range(10):
        pace.saw(NOTHING, of_send=True)
    for _ in range(9):
        pace.saw(GOOD, of_send=True)
    for _ in range(100):
        pace.saw(GOOD, of_send=False)
    before = pace.empty
    pace.saw(GOOD, of_send=True)
    assert (before, pace.empty) == (True, False)


def test_it_holds_ten_at_most() -> None:
    """A good day saves nothing up for a bad one: ten failures empty it, whatever came before."""
    pace = Pace()
    for _ in range(1000):
        pace.saw(GOOD, of_send=True)
    for _ in range(10):
        pace.saw(NOTHING, of_send=True)
    assert pace.empty


def test_empty_for_sure_and_full_again() -> None:
    """A provider that is down empties it at once, one that answers the question fills it."""
    pace = Pace()
    pace.drained()
    before = pace.empty
    pace.answered()
    assert (before, pace.empty) == (True, False)


def test_turns() -> None:
    """At four sends a second the next one waits a quarter, less what has passed; after a pause it waits for nothing."""
    pace = Pace(4)
    waits = [pace.wait_s(START)]
    pace.sent(START)
    waits += [pace.wait_s(START), pace.wait_s(later(0.2)), pace.wait_s(later(9))]
    assert waits == [0.0, 0.25, 0.05, 0.0]


def test_a_pause_saves_no_turns_up() -> None:
    """An hour without sends is not followed by an hour's sends at once."""
    pace = Pace(4)
    pace.sent(START)
    pace.sent(later(3600))
    assert pace.wait_s(later(3600)) == 0.25


def test_retry_after() -> None:
    """A provider that asks for a pause gets it, up to a minute."""
    asked, asked_for_too_much = Pace(4), Pace(4)
    asked.held(START, 7)
    asked_for_too_much.held(START, 86400)
    assert (asked.wait_s(START), asked_for_too_much.wait_s(START)) == (7.0, 60.0)


def test_a_clock_set_back() -> None:
    """A clock that was set back by a day delays the next send by a minute at most."""
    pace = Pace(4)
    pace.sent(START)
    assert pace.wait_s(START - timedelta(days=1)) == 60.0


@pytest.mark.parametrize("rate", [0, -1, 1001, float("nan"), float("inf"), True, "4"])
def test_unusable_rate(rate: float) -> None:
    """A rate that would send never, or without end, is refused by name."""
    with pytest.raises(InvalidInput, match=r"^rate: must be"):
        Pace(rate)
